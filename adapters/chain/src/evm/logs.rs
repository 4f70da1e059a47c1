//! Logs as nodes give them: how many blocks they let one ask about at once, and which of them are believed.

use super::endpoint::is_overload;
use crate::ChainError;
use alloy::{
    rpc::types::{Filter, Log},
    transports::{RpcError, TransportError, TransportErrorKind},
};
use alloy_primitives::B256;
use std::ops::RangeInclusive;

/// Most data of a log of a contract of this project, in bytes: those of a subscription and of a register's texts are
/// far smaller.
pub(super) const MAX_CONTRACT_LOG: usize = 64 << 10;
/// So many answers in a row make the next question larger.
const WINS: u32 = 4;

/// How many blocks one question is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    most: u64,
    current: u64,
    wins: u32,
}

impl Span {
    pub(super) fn new(most: u64) -> Self {
        let most = most.max(1);
        Self {
            most,
            current: most,
            wins: 0,
        }
    }

    /// The last block to ask about from `from` on.
    pub(super) fn end(&self, blocks: &RangeInclusive<u64>, from: u64) -> u64 {
        let end = from.saturating_add(self.current.saturating_sub(1));
        end.min(*blocks.end())
    }

    /// A question about so many blocks was too much.
    pub(super) fn shrink(&mut self, asked: u64) {
        self.current = (asked.min(self.current) / 2).max(1);
        self.wins = 0;
    }

    /// A question was answered.
    pub(super) fn grow(&mut self) {
        self.wins += 1;
        if self.wins >= WINS {
            self.current = self.current.saturating_mul(2).min(self.most);
            self.wins = 0;
        }
    }
}

/// Whether a node refuses a question about logs because of how much it asks for, in the words of one of the usual ones.
pub(super) fn is_too_much(error: &TransportError) -> bool {
    match error {
        RpcError::ErrorResp(payload) => says_too_much(payload.code, &payload.message),
        RpcError::Transport(TransportErrorKind::HttpError(error)) => {
            error.status == 413 || (error.status == 400 && says_too_much(0, &error.body))
        }
        _ => false,
    }
}

fn says_too_much(code: i64, message: &str) -> bool {
    const WORDS: [&str; 21] = [
        "query returned more than",
        "more than 10000 results",
        "results",
        "block range",
        "blocks range",
        "range too large",
        "range is too large",
        "range too wide",
        "range limit",
        "range exceeds",
        "exceeds the range",
        "exceed maximum block",
        "maximum block",
        "limit of",
        "limited to",
        "too many blocks",
        "too many logs",
        "response size",
        "too large",
        "query timeout",
        "logs matched",
    ];
    if is_overload(code, message) {
        return false;
    }
    let words = message.to_ascii_lowercase();
    code == ChainError::LIMIT_EXCEEDED || WORDS.iter().any(|word| words.contains(word))
}

/// Which blocks were asked about.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Range(RangeInclusive<u64>),
    Block { number: u64, hash: B256 },
}

/// Makes sure that a node's logs are what was asked for, and puts them in order.
///
/// # Errors
/// [`ChainError::Malformed`] says which one is not.
pub(super) fn check(
    mut logs: Vec<Log>,
    filter: &Filter,
    asked: &Asked,
    most: usize,
) -> Result<Vec<Log>, ChainError> {
    for log in &logs {
        check_one(log, filter, asked, most).map_err(malformed)?;
    }
    logs.sort_by_key(place);
    let twice = logs.windows(2).any(|pair| match pair {
        [one, other] => place(one) == place(other),
        _ => false,
    });
    if twice {
        return Err(malformed("two in the same place"));
    }
    Ok(logs)
}

fn place(log: &Log) -> (Option<u64>, Option<u64>) {
    (log.block_number, log.log_index)
}

fn malformed(message: &str) -> ChainError {
    ChainError::Malformed {
        method: "eth_getLogs",
        message: format!("a log that was not asked for: {message}"),
    }
}

fn check_one(log: &Log, filter: &Filter, asked: &Asked, most: usize) -> Result<(), &'static str> {
    let (Some(number), Some(hash)) = (log.block_number, log.block_hash) else {
        return Err("of no block");
    };
    let in_range = match asked {
        Asked::Range(blocks) => blocks.contains(&number),
        Asked::Block {
            number: expected,
            hash: of,
        } => number == *expected && hash == *of,
    };
    if log.removed {
        Err("one that was removed")
    } else if !in_range {
        Err("of another block")
    } else if !filter.matches_address(log.address()) {
        Err("of another contract")
    } else if log.topics().len() > 4 || !filter.matches_topics(log.topics()) {
        Err("of other topics")
    } else if log.log_index.is_none() || log.transaction_hash.is_none() {
        Err("without its place")
    } else if log.data().data.len() > most {
        Err("larger than its contract makes them")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::rpc::json_rpc::ErrorPayload;
    use alloy_primitives::{Address, Bytes, LogData};
    use proptest::prelude::*;

    fn says(code: i64, message: &str) -> bool {
        is_too_much(&RpcError::ErrorResp(ErrorPayload {
            code,
            message: message.to_owned().into(),
            data: None,
        }))
    }

    #[test]
    fn the_words_of_the_usual_providers_are_understood() {
        for (code, message) in [
            (-32005, "query returned more than 10000 results"),
            (-32005, "limit exceeded"),
            (
                -32600,
                "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
            ),
            (-32602, "block range is too wide"),
            (-32000, "exceed maximum block range: 5000"),
            (-32614, "eth_getLogs is limited to a 10,000 range"),
            (
                -32000,
                "requested too many blocks from 0 to 9999, maximum is set to 2048",
            ),
            (
                -32701,
                "Please specify an address in your request or, to remove restrictions, order a dedicated full node: block range",
            ),
            (
                35,
                "ranges over 10000 blocks are not supported on freetier: block range",
            ),
            (-32000, "query timeout exceeded"),
            (-32012, "range too large, max is 1k blocks"),
        ] {
            assert!(says(code, message), "{message}");
        }
        for (code, message) in [
            (-32005, "daily request count exceeded, request rate limited"),
            (
                429,
                "Your app has exceeded its compute units per second capacity",
            ),
            (-32005, "Too Many Requests"),
            (-32000, "header not found"),
            (-32601, "the method eth_getLogs does not exist"),
        ] {
            assert!(!says(code, message), "{message}");
        }
        let http =
            |status, body: &str| is_too_much(&TransportErrorKind::http_error(status, body.into()));
        assert!(http(413, ""));
        assert!(http(400, "block range too large"));
        assert!(!http(502, "block range too large"));
        assert!(!http(429, "Too Many Requests"));
    }

    proptest! {
        #[test]
        fn questions_shrink_to_one_block_and_grow_again(most in 0_u64..5_000, steps in proptest::collection::vec(any::<bool>(), 0..200), from in 0_u64..u64::MAX) {
            let mut span = Span::new(most);
            let blocks = from..=u64::MAX;
            for grows in steps {
                let asked = span.end(&blocks, from) - from + 1;
                prop_assert!((1..=most.max(1)).contains(&asked));
                if grows { span.grow() } else { span.shrink(asked) }
                let next = span.end(&blocks, from) - from + 1;
                prop_assert!(next == asked || (next > asked) == grows);
            }
            for _ in 0..13 { span.shrink(u64::MAX); }
            prop_assert_eq!(span.end(&blocks, from), from);
            for _ in 0..13 * WINS { span.grow(); }
            prop_assert_eq!(span.end(&(0..=u64::MAX), 0), most.max(1) - 1);
        }
    }

    fn filter() -> Filter {
        Filter::new()
            .address(Address::repeat_byte(7))
            .event_signature(B256::repeat_byte(1))
    }

    fn log() -> Log {
        let data = LogData::new_unchecked(vec![B256::repeat_byte(1)], Bytes::from_static(&[9]));
        Log {
            inner: alloy_primitives::Log {
                address: Address::repeat_byte(7),
                data,
            },
            block_hash: Some(B256::repeat_byte(2)),
            block_number: Some(5),
            block_timestamp: None,
            transaction_hash: Some(B256::repeat_byte(3)),
            transaction_index: Some(0),
            log_index: Some(4),
            removed: false,
        }
    }

    #[test]
    fn a_log_that_was_not_asked_for_is_refused() {
        type Forgery = fn(&mut Log);
        let forgeries: [(&str, Forgery); 12] = [
            ("removed", |log| log.removed = true),
            ("other contract", |log| log.inner.address = Address::ZERO),
            ("other topic", |log| {
                log.inner.data = LogData::new_unchecked(vec![B256::ZERO], Bytes::new());
            }),
            ("no topic", |log| {
                log.inner.data = LogData::new_unchecked(Vec::new(), Bytes::new());
            }),
            ("five topics", |log| {
                log.inner.data =
                    LogData::new_unchecked(vec![B256::repeat_byte(1); 5], Bytes::new());
            }),
            ("too large", |log| {
                let data = vec![0; MAX_CONTRACT_LOG + 1].into();
                log.inner.data = LogData::new_unchecked(vec![B256::repeat_byte(1)], data);
            }),
            ("above", |log| log.block_number = Some(6)),
            ("below", |log| log.block_number = Some(3)),
            ("pending", |log| log.block_number = None),
            ("no block", |log| log.block_hash = None),
            ("no place", |log| log.log_index = None),
            ("no transaction", |log| log.transaction_hash = None),
        ];
        let range = Asked::Range(4..=5);
        let check = |logs, asked: &Asked| check(logs, &filter(), asked, MAX_CONTRACT_LOG);
        assert_eq!(check(vec![log()], &range).unwrap(), [log()]);
        for (what, forge) in forgeries {
            let mut forged = log();
            forge(&mut forged);
            let error = check(vec![forged], &range).unwrap_err();
            assert!(matches!(error, ChainError::Malformed { .. }), "{what}");
        }
        assert!(check(vec![log(), log()], &range).is_err(), "twice");
        let of = |number, byte| Asked::Block {
            number,
            hash: B256::repeat_byte(byte),
        };
        assert!(check(vec![log()], &of(5, 2)).is_ok());
        assert!(check(vec![log()], &of(5, 1)).is_err(), "another fork");
        assert!(check(vec![log()], &of(4, 2)).is_err());
    }

    #[test]
    fn logs_are_put_in_their_order() {
        let at = |block, index| Log {
            block_number: Some(block),
            log_index: Some(index),
            ..log()
        };
        let logs = vec![at(5, 1), at(4, 9), at(5, 0)];
        let sorted = check(logs, &filter(), &Asked::Range(4..=5), MAX_CONTRACT_LOG).unwrap();
        assert_eq!(sorted, [at(4, 9), at(5, 0), at(5, 1)]);
    }
}
