//! An answer to a contract that asks off the chain and waits (ERC-3668), as EIP-712 typed data.
//!
//! The type string is `Answer(address cryptlet,bytes32 request,uint64 windowStart,uint64 windowEnd,bytes32 region,bytes
//! value)`; the domain is that of a [report](crate::report). Unlike a report it is consumed by nothing: it may be shown as often
//! as its window lasts. Golden files: `vectors/answer`.

use crate::{CryptletId, Measurement, ReportDomain, UnixSeconds, report::CompactSignature};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use serde::{Deserialize, Serialize};

/// Longest window, in seconds, as in `CryptletCaller`: 7 days.
pub const MAX_WINDOW_SECONDS: u64 = 7 * 86_400;

mod abi {
    alloy_sol_types::sol! {
        struct Answer {
            address cryptlet;
            bytes32 request;
            uint64 windowStart;
            uint64 windowEnd;
            bytes32 region;
            bytes value;
        }
    }
}

/// What a cryptlet says to a contract that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// Who says it.
    pub cryptlet: CryptletId,
    /// Who asked what: [`request_id`].
    pub request: B256,
    /// The first second of the window.
    pub window_start: UnixSeconds,
    /// The first second after the window.
    pub window_end: UnixSeconds,
    /// What ran.
    pub region: Measurement,
    /// The cryptlet's word, at most 16 KiB.
    pub value: Bytes,
}

/// An answer with what makes it believable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedAnswer {
    /// What is said.
    pub answer: Answer,
    /// The key that signed: enrolled under the cryptlet's id in the register.
    pub signer: Address,
    /// The signer's signature over [`Answer::digest`].
    pub signature: CompactSignature,
}

/// What a contract asks: `keccak256(abi.encode(consumer, cryptlet, params, windowLength))`.
#[must_use]
pub fn request_id(
    consumer: Address,
    cryptlet: CryptletId,
    params: &Bytes,
    window_length: u64,
) -> B256 {
    keccak256((consumer, cryptlet.0, params.clone(), window_length).abi_encode_params())
}

/// The window of this length that holds `at`: windows begin at multiples of their length. None for a length of zero, or
/// beyond [`MAX_WINDOW_SECONDS`].
#[must_use]
pub fn window(at: UnixSeconds, length: u64) -> Option<(UnixSeconds, UnixSeconds)> {
    if length > MAX_WINDOW_SECONDS {
        return None;
    }
    let start = at.checked_sub(at.checked_rem(length)?)?;
    Some((start, start.checked_add(length)?))
}

impl SignedAnswer {
    /// What `CryptletCaller` takes: `abi.encode(Answer answer, bytes32 r, bytes32 vs)`.
    #[must_use]
    pub fn response(&self) -> Bytes {
        let CompactSignature { r, vs } = self.signature;
        (self.answer.to_abi(), r, vs).abi_encode_params().into()
    }
}

impl Answer {
    fn to_abi(&self) -> abi::Answer {
        abi::Answer {
            cryptlet: self.cryptlet.0,
            request: self.request,
            windowStart: self.window_start,
            windowEnd: self.window_end,
            region: self.region.0,
            value: self.value.clone(),
        }
    }

    /// The EIP-712 digest that is signed.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain) -> B256 {
        self.to_abi().eip712_signing_hash(&domain.eip712())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0xde),
    };

    fn answer() -> Answer {
        Answer {
            cryptlet: CryptletId(Address::repeat_byte(1)),
            request: B256::repeat_byte(2),
            window_start: 60,
            window_end: 120,
            region: Measurement(B256::repeat_byte(3)),
            value: Bytes::from_static(b"value"),
        }
    }

    #[test]
    fn the_digest_is_that_of_typed_data() {
        let said = answer();
        let kind = keccak256(
            "Answer(address cryptlet,bytes32 request,uint64 windowStart,uint64 windowEnd,bytes32 region,bytes value)",
        );
        let fields = (
            kind,
            said.cryptlet.0,
            said.request,
            U256::from(60),
            U256::from(120),
            said.region.0,
            keccak256("value"),
        );
        let inner = keccak256(fields.abi_encode());
        let separator = DOMAIN.eip712().separator();
        let outer = [&[0x19, 0x01], separator.as_slice(), inner.as_slice()].concat();
        assert_eq!(said.digest(&DOMAIN), keccak256(outer));
    }

    #[test]
    fn every_field_and_the_domain_are_signed() {
        let changes: [fn(&mut Answer); 6] = [
            |a| a.cryptlet = CryptletId(Address::ZERO),
            |a| a.request = B256::ZERO,
            |a| a.window_start += 1,
            |a| a.window_end += 1,
            |a| a.region = Measurement(B256::ZERO),
            |a| a.value = Bytes::new(),
        ];
        let other_chain = ReportDomain {
            chain_id: 1,
            ..DOMAIN
        };
        let other_delegate = ReportDomain {
            delegate: Address::ZERO,
            ..DOMAIN
        };
        let mut digests = BTreeSet::from([answer().digest(&DOMAIN)]);
        assert!(digests.insert(answer().digest(&other_chain)));
        assert!(digests.insert(answer().digest(&other_delegate)));
        for change in changes {
            let mut changed = answer();
            change(&mut changed);
            assert!(digests.insert(changed.digest(&DOMAIN)));
        }
    }

    #[test]
    fn whoever_asks_or_asks_otherwise_makes_another_request() {
        let (consumer, cryptlet) = (Address::repeat_byte(1), CryptletId(Address::repeat_byte(2)));
        let params = Bytes::from_static(b"params");
        let ids = BTreeSet::from([
            request_id(consumer, cryptlet, &params, 60),
            request_id(Address::ZERO, cryptlet, &params, 60),
            request_id(consumer, CryptletId(Address::ZERO), &params, 60),
            request_id(consumer, cryptlet, &Bytes::new(), 60),
            request_id(consumer, cryptlet, &params, 61),
        ]);
        assert_eq!(ids.len(), 5);
    }

    proptest! {
        #[test]
        fn a_window_holds_its_moment_and_begins_where_all_do(at: u64, length in 0..=MAX_WINDOW_SECONDS + 1) {
            match window(at, length) {
                Some((start, end)) => {
                    prop_assert!(start <= at && at < end);
                    prop_assert_eq!((start % length, end - start), (0, length));
                }
                None => prop_assert!(
                    length == 0 || length > MAX_WINDOW_SECONDS || at > u64::MAX - length
                ),
            }
        }
    }
}
