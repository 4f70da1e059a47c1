use super::*;
use proptest::prelude::*;

fn report(sequence: u64, issued_at: u64, validity: u64, payload: u8) -> Report {
    Report {
        cryptlet: CryptletId(Address::ZERO),
        subject: Subject(B256::ZERO),
        sequence,
        issued_at,
        valid_until: issued_at + validity,
        region: Measurement(B256::ZERO),
        delegation: B256::ZERO,
        payload: Bytes::from(vec![payload]),
    }
}

fn keep(promises: &mut Promises, report: &Report) -> Result<(), SigningError> {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    promises.keep(report, report.digest(&domain))
}

#[test]
fn numbers_may_be_signed_ahead_and_in_any_order() {
    let mut promises = Promises::new(100);
    for sequence in [3, 4, 5, 1, 2, 9] {
        assert_eq!(keep(&mut promises, &report(sequence, 10, 60, 0)), Ok(()));
    }
}

#[test]
fn something_else_is_said_under_a_number_only_once_nobody_takes_the_first() {
    let mut promises = Promises::new(100);
    let first = report(1, 10, 60, 0);
    assert_eq!(keep(&mut promises, &first), Ok(()));
    assert_eq!(keep(&mut promises, &report(2, 11, 60, 0)), Ok(()));
    assert_eq!(keep(&mut promises, &first), Ok(()), "it is the same");
    let promised = Err(SigningError::Promised {
        sequence: 1,
        until: 70,
    });
    for other in [
        report(1, 10, 60, 1),
        report(1, 10, 59, 0),
        report(1, 11, 60, 0),
        report(1, 9, 0, 0),
        report(1, 70, 60, 0),
    ] {
        assert_eq!(keep(&mut promises, &other), promised, "{other:?}");
    }
    assert_eq!(keep(&mut promises, &report(1, 71, 60, 1)), Ok(()));
    assert!(
        keep(&mut promises, &first).is_err(),
        "nor the other way round"
    );
}

#[test]
fn what_is_remembered_is_bounded_and_what_was_forgotten_is_not_said_again() {
    let mut promises = Promises::new(2);
    assert_eq!(keep(&mut promises, &report(1, 10, 10, 0)), Ok(()));
    assert_eq!(keep(&mut promises, &report(2, 10, 90, 0)), Ok(()));
    let full = keep(&mut promises, &report(3, 20, 90, 0));
    assert_eq!(full, Err(SigningError::Full), "both can be delivered");
    assert_eq!(keep(&mut promises, &report(3, 21, 90, 0)), Ok(()));
    let past = keep(&mut promises, &report(1, 20, 90, 1));
    assert_eq!(past, Err(SigningError::Past(20)));
}

proptest! {
    #[test]
    fn two_words_on_one_number_never_hold_at_the_same_time(
        asked in proptest::collection::vec((1_u64..5, 0_u64..60, 1_u64..12, 0_u8..2), 1..60),
        most in 1_usize..6,
    ) {
        let mut promises = Promises::new(most);
        let mut said: Vec<Report> = Vec::new();
        for (sequence, issued_at, validity, payload) in asked {
            let report = report(sequence, issued_at, validity, payload);
            if keep(&mut promises, &report).is_err() {
                continue;
            }
            for other in said.iter().filter(|other| other.sequence == sequence) {
                let apart = other.valid_until < report.issued_at || report.valid_until < other.issued_at;
                prop_assert!(apart || *other == report, "{:?} and {:?}", other, report);
            }
            said.push(report);
        }
    }
}
