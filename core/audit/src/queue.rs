//! The hash chain of a message queue (`contracts/src/MessageQueue.sol`), made again from what the delegate logged.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use cryptlet_types::{Subject, UnixSeconds};

/// A message, as far as the chain is over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLink {
    /// The report's sequence, from 1.
    pub sequence: u64,
    /// Of the block that brought it.
    pub time: UnixSeconds,
    /// EIP-712 hash of the report.
    pub digest: B256,
    /// Who signed the report, or the batch that it came in.
    pub signer: Address,
}

impl QueueLink {
    /// The chain's next link after `previous`.
    #[must_use]
    pub fn after(&self, previous: B256) -> B256 {
        let (sequence, time) = (self.sequence, self.time);
        keccak256((previous, sequence, time, self.digest, self.signer).abi_encode())
    }
}

/// The last link of the chain over these messages, in the order of their delivery; the subject where there is none.
#[must_use]
pub fn queue_chain(subject: Subject, messages: &[QueueLink]) -> B256 {
    let links = messages.iter();
    links.fold(subject.0, |previous, message| message.after(previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_the_order_count() {
        let subject = Subject(B256::repeat_byte(1));
        let link = QueueLink {
            sequence: 1,
            time: 2,
            digest: B256::repeat_byte(3),
            signer: Address::repeat_byte(4),
        };
        let next = QueueLink {
            sequence: 2,
            ..link
        };
        let chain = queue_chain(subject, &[link, next]);
        assert_eq!(queue_chain(subject, &[]), subject.0);
        assert_eq!(chain, next.after(link.after(subject.0)));
        let altered = [
            QueueLink {
                sequence: 3,
                ..next
            },
            QueueLink { time: 3, ..next },
            QueueLink {
                digest: B256::ZERO,
                ..next
            },
            QueueLink {
                signer: Address::ZERO,
                ..next
            },
        ];
        for altered in altered {
            assert_ne!(queue_chain(subject, &[link, altered]), chain, "{altered:?}");
        }
        assert_ne!(queue_chain(subject, &[next, link]), chain);
        assert_ne!(queue_chain(Subject(B256::ZERO), &[link, next]), chain);
    }
}
