use super::*;
use alloy_primitives::{Address, Bytes};
use cryptlet_types::{CryptletId, Measurement, ReportDomain};
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

fn handed_on(promises: &Promises, most: usize) -> Promises {
    Promises::from_state(&promises.to_state().unwrap(), most).unwrap()
}

fn of(subject: u8, report: Report) -> Report {
    Report {
        subject: Subject(B256::repeat_byte(subject)),
        ..report
    }
}

#[test]
fn a_successor_keeps_what_was_promised_and_leaves_out_what_nobody_takes_any_more() {
    let mut promises = Promises::new(100);
    let reports = [
        of(1, report(1, 10, 5, 0)),
        of(2, report(1, 10, 90, 0)),
        of(2, report(2, 20, 90, 0)),
        of(3, report(9, 30, 90, 0)),
    ];
    for report in &reports {
        assert_eq!(keep(&mut promises, report), Ok(()));
    }
    let mut successor = handed_on(&promises, 100);
    assert_eq!((successor.kept.len(), successor.forgotten), (3, 15));
    for kept in &reports[1..] {
        assert_eq!(keep(&mut successor, kept), Ok(()), "it is the same");
        let other = Report {
            payload: Bytes::from_static(b"other"),
            ..kept.clone()
        };
        let refused = keep(&mut successor, &other);
        assert!(matches!(refused, Err(SigningError::Promised { .. })));
    }
    let past = keep(&mut successor, &of(1, report(1, 15, 5, 1)));
    assert_eq!(past, Err(SigningError::Past(15)));
    assert_eq!(keep(&mut successor, &of(1, report(1, 16, 5, 1))), Ok(()));
}

#[test]
fn all_that_a_region_remembers_fits_into_an_image() {
    let mut promises = Promises::new(MAX_PROMISES);
    let last = u64::MAX;
    for n in 0..u64::try_from(MAX_PROMISES).unwrap() {
        let subject = Subject(B256::from(alloy_primitives::U256::from(n)));
        let promise = Promise {
            digest: B256::repeat_byte(0xff),
            issued_at: last,
            valid_until: last,
        };
        promises.kept.insert((subject, last - n), promise);
    }
    let state = promises.to_state().unwrap();
    assert!(state.len() + 1_000 < cryptlet_types::bounded::MAX_SEALED_BYTES);
    assert_eq!(handed_on(&promises, MAX_PROMISES).kept.len(), MAX_PROMISES);
}

#[test]
fn a_state_that_no_region_writes_is_refused() {
    let said = |sequence, issued_at, valid_until| (sequence, issued_at, valid_until, B256::ZERO);
    let subject = |n| Subject(B256::repeat_byte(n));
    let refused = |state: State| {
        let read = Promises::from_state(&encode(&state).unwrap(), 2);
        assert!(matches!(read, Err(SealedError::Malformed(_))), "{read:?}");
    };
    refused((0, vec![(subject(1), vec![said(2, 1, 1), said(1, 1, 1)])]));
    refused((0, vec![(subject(1), vec![said(1, 1, 1), said(1, 2, 2)])]));
    let one = || vec![said(1, 1, 1)];
    refused((0, vec![(subject(2), one()), (subject(1), one())]));
    refused((0, vec![(subject(1), vec![said(1, 2, 1)])]));
    refused((0, (1..4).map(|n| (subject(n), one())).collect()));
    let read = Promises::from_state(b"\xff", 2);
    assert!(matches!(read, Err(SealedError::Malformed(_))));
}

proptest! {
    #[test]
    fn arbitrary_states_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Promises::from_state(&bytes, 10);
    }

    #[test]
    fn two_words_on_one_number_never_hold_at_the_same_time(
        asked in proptest::collection::vec((1_u64..5, 0_u64..60, 1_u64..12, 0_u8..2, any::<bool>()), 1..60),
        most in 1_usize..6,
    ) {
        let mut promises = Promises::new(most);
        let mut said: Vec<Report> = Vec::new();
        for (sequence, issued_at, validity, payload, by_a_successor) in asked {
            if by_a_successor {
                promises = handed_on(&promises, most);
            }
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
