//! A batch: reports of one cryptlet that one signature makes deliverable in one transaction.
//!
//! What is signed is `ReportBatch(address cryptlet,uint256 count,bytes32 root)` in the delegate's domain. The root is
//! that of a Merkle tree whose leaves are the reports' own digests in order; a pair is hashed `left ++ right` as it
//! stands, and an odd last node is carried up unchanged. Count and cryptlet are signed with it, so that no inner node
//! passes for a leaf. Golden files: `vectors/batch`.

use crate::{Report, ReportDomain};
use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolStruct;

/// Most reports of one batch.
pub const MAX_BATCH_REPORTS: usize = 64;

mod abi {
    alloy_sol_types::sol! {
        struct ReportBatch {
            address cryptlet;
            uint256 count;
            bytes32 root;
        }
    }
}

/// Why reports cannot go into one batch. None of these is helped by a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// None, or more than a delegate takes.
    #[error("items: {0} reports, at least 1 and at most {MAX_BATCH_REPORTS}")]
    Size(usize),
    /// A report is another cryptlet's than the first one's.
    #[error("items[{0}].cryptlet: another than the first's")]
    Cryptlet(usize),
    /// A report comes of another region than the first one.
    #[error("items[{0}].region: another than the first's")]
    Region(usize),
    /// A report is said in somebody's name.
    #[error("items[{0}].delegation: a batch speaks in nobody's name")]
    Delegation(usize),
}

impl BatchError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Reports that may be signed and delivered together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    first: &'a Report,
    reports: Vec<&'a Report>,
}

impl<'a> Batch<'a> {
    /// The reports in the order in which the delegate consumes them.
    ///
    /// # Errors
    /// [`BatchError`] names the report that does not belong to the others.
    pub fn of(reports: impl IntoIterator<Item = &'a Report>) -> Result<Self, BatchError> {
        let reports: Vec<_> = reports.into_iter().take(MAX_BATCH_REPORTS + 1).collect();
        let size = reports.len();
        let first = match reports.first() {
            Some(first) if size <= MAX_BATCH_REPORTS => *first,
            _ => return Err(BatchError::Size(size)),
        };
        for (place, report) in reports.iter().enumerate() {
            if report.cryptlet != first.cryptlet {
                return Err(BatchError::Cryptlet(place));
            }
            if report.region != first.region {
                return Err(BatchError::Region(place));
            }
            if report.delegation != B256::ZERO {
                return Err(BatchError::Delegation(place));
            }
        }
        Ok(Self { first, reports })
    }

    /// The root over the reports' digests.
    #[must_use]
    pub fn root(&self, domain: &ReportDomain) -> B256 {
        let leaves = self.reports.iter().map(|report| report.digest(domain));
        merkle_root(leaves.collect())
    }

    /// The EIP-712 digest that is signed.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain) -> B256 {
        let signed = abi::ReportBatch {
            cryptlet: self.first.cryptlet.0,
            count: U256::from(self.reports.len()),
            root: self.root(domain),
        };
        signed.eip712_signing_hash(&domain.eip712())
    }
}

/// Zero for no leaves.
fn merkle_root(mut level: Vec<B256>) -> B256 {
    while level.len() > 1 {
        let up = level.chunks(2).map(|pair| match pair {
            [left, right] => keccak256([left.0, right.0].concat()),
            odd => odd.first().copied().unwrap_or_default(),
        });
        level = up.collect();
    }
    level.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CryptletId, Measurement, Subject};
    use alloy_primitives::{Address, Bytes, address};
    use alloy_sol_types::SolValue;
    use proptest::prelude::*;

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 31_337,
        delegate: address!("de1e6a7e00000000000000000000000000000001"),
    };

    fn report(sequence: u64) -> Report {
        Report {
            cryptlet: CryptletId(Address::repeat_byte(1)),
            subject: Subject(B256::repeat_byte(2)),
            sequence,
            issued_at: 1_000,
            valid_until: 2_000,
            region: Measurement(B256::repeat_byte(3)),
            delegation: B256::ZERO,
            payload: Bytes::from_static(&[4; 32]),
        }
    }

    fn reports(count: u64) -> Vec<Report> {
        (1..=count).map(report).collect()
    }

    fn pair(left: B256, right: B256) -> B256 {
        keccak256((left, right).abi_encode())
    }

    #[test]
    fn the_tree_is_as_the_contract_builds_it() {
        let given = reports(5);
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at: usize| given[at].digest(&DOMAIN));
        let root = |count: usize| Batch::of(&given[..count]).unwrap().root(&DOMAIN);
        assert_eq!(root(1), a);
        assert_eq!(root(2), pair(a, b));
        assert_eq!(root(3), pair(pair(a, b), c));
        assert_eq!(root(5), pair(pair(pair(a, b), pair(c, d)), e));
    }

    #[test]
    fn what_is_signed_is_the_typed_data_of_the_delegate() {
        let given = reports(3);
        let batch = Batch::of(&given).unwrap();
        let kind = keccak256("ReportBatch(address cryptlet,uint256 count,bytes32 root)");
        let fields = (
            kind,
            given[0].cryptlet.0,
            U256::from(3),
            batch.root(&DOMAIN),
        );
        let fields = keccak256(fields.abi_encode());
        let separator = DOMAIN.eip712().separator();
        let expected = [&[0x19, 0x01], &separator[..], &fields[..]].concat();
        assert_eq!(batch.digest(&DOMAIN), keccak256(expected));
    }

    #[test]
    fn reports_that_do_not_belong_together_are_refused_by_place() {
        type Change = fn(&mut Report);
        type Refusal = fn(usize) -> BatchError;
        let cases: [(Change, Refusal); 3] = [
            (
                |r| r.cryptlet = CryptletId(Address::ZERO),
                BatchError::Cryptlet,
            ),
            (|r| r.region = Measurement(B256::ZERO), BatchError::Region),
            (
                |r| r.delegation = B256::repeat_byte(1),
                BatchError::Delegation,
            ),
        ];
        for (change, error) in cases {
            let mut given = reports(4);
            change(&mut given[2]);
            assert_eq!(Batch::of(&given), Err(error(2)));
        }
        let mut behalf = reports(1);
        behalf[0].delegation = B256::repeat_byte(1);
        assert_eq!(Batch::of(&behalf), Err(BatchError::Delegation(0)));
    }

    #[test]
    fn a_batch_has_one_to_sixty_four_reports() {
        assert_eq!(Batch::of(&[]), Err(BatchError::Size(0)));
        assert!(Batch::of(&reports(64)).is_ok());
        assert_eq!(Batch::of(&reports(65)), Err(BatchError::Size(65)));
    }

    /// The root by its definition, from the front.
    fn root_by_definition(leaves: &[B256]) -> B256 {
        let mut width = 1;
        while width * 2 < leaves.len() {
            width *= 2;
        }
        match leaves {
            [leaf] => *leaf,
            _ => pair(
                root_by_definition(&leaves[..width]),
                root_by_definition(&leaves[width..]),
            ),
        }
    }

    proptest! {
        // A digest of many reports is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_root_is_that_of_the_definition(seed in any::<u64>(), count in 1_usize..=64) {
            let leaves: Vec<_> = (0..count).map(|at| keccak256((seed, at as u64).abi_encode())).collect();
            prop_assert_eq!(merkle_root(leaves.clone()), root_by_definition(&leaves));
        }

        #[test]
        fn no_other_batch_has_the_digest(count in 2_u64..=64, at in any::<proptest::sample::Index>(), other in any::<proptest::sample::Index>()) {
            let given = reports(count);
            let digest = |reports: &[Report]| Batch::of(reports).unwrap().digest(&DOMAIN);
            let signed = digest(&given);
            let (at, other) = (at.index(given.len()), other.index(given.len()));
            let mut altered = given.clone();
            altered[at].sequence += 1_000;
            prop_assert_ne!(digest(&altered), signed);
            let mut swapped = given.clone();
            swapped.swap(at, other);
            prop_assert_eq!(digest(&swapped) == signed, at == other);
            prop_assert_ne!(digest(&given[1..]), signed);
            let elsewhere = ReportDomain { chain_id: 1, ..DOMAIN };
            prop_assert_ne!(Batch::of(&given).unwrap().digest(&elsewhere), signed);
        }
    }
}
