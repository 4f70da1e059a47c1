use super::*;
use alloy_primitives::{Bytes, FixedBytes};
use cryptlet_types::{CryptletId, TriggerSpec, UnixSeconds};
use proptest::prelude::*;

fn subject(number: u8) -> Subject {
    Subject(B256::repeat_byte(number))
}

fn subscription(number: u8, since: UnixSeconds) -> Subscription {
    Subscription {
        subject: subject(number),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger: TriggerSpec::Request,
        params: Bytes::new(),
        since,
    }
}

fn topic(number: u8) -> B256 {
    B256::with_last_byte(number)
}

fn spec(chain_id: u64, emitter: u8, topics: &[u8], finality: Finality) -> LogSpec {
    LogSpec {
        chain_id,
        emitter: Address::with_last_byte(emitter),
        topics: topics.iter().copied().map(topic).collect(),
        finality,
    }
}

fn log(chain_id: u64, emitter: u8, topics: &[u8], at: UnixSeconds) -> LogEntry {
    LogEntry {
        chain_id,
        block: 1,
        block_hash: B256::ZERO,
        at,
        transaction: B256::ZERO,
        index: 0,
        ordinal: 0,
        emitter: Address::with_last_byte(emitter),
        topics: topics.iter().copied().map(topic).collect(),
        data: Bytes::new(),
    }
}

fn numbers(subjects: Vec<Subject>) -> Vec<u8> {
    subjects.into_iter().map(|subject| subject.0[0]).collect()
}

#[test]
fn topics_match_by_place_and_a_zero_is_any_but_has_to_be_there() {
    let mut matcher = LogMatcher::new();
    for (number, topics) in [
        (1, &[][..]),
        (2, &[7]),
        (3, &[7, 0]),
        (4, &[0, 8]),
        (5, &[7, 0, 9]),
        (6, &[0, 0, 0, 0]),
    ] {
        assert!(matcher.add(
            &subscription(number, 0),
            &spec(1, 1, topics, Finality::Latest)
        ));
    }
    let found = |topics: &[u8]| numbers(matcher.subjects(&log(1, 1, topics, 5), Finality::Latest));
    assert_eq!(found(&[]), [1]);
    assert_eq!(found(&[7]), [1, 2]);
    assert_eq!(found(&[7, 8]), [1, 2, 3, 4]);
    assert_eq!(found(&[6, 8]), [1, 4]);
    assert_eq!(found(&[7, 1, 9]), [1, 2, 3, 5]);
    assert_eq!(found(&[1, 2, 3, 4]), [1, 6]);
    let elsewhere = log(2, 1, &[7], 5);
    assert_eq!(matcher.subjects(&elsewhere, Finality::Latest), []);
    assert_eq!(matcher.subjects(&log(1, 1, &[7], 5), Finality::Safe), []);
}

#[test]
fn a_node_is_asked_for_what_somebody_waits_for_and_no_more() {
    let mut matcher = LogMatcher::new();
    let latest = Finality::Latest;
    matcher.add(&subscription(1, 0), &spec(1, 9, &[7], latest));
    matcher.add(&subscription(2, 0), &spec(1, 3, &[5, 0], latest));
    matcher.add(&subscription(3, 0), &spec(1, 3, &[0, 5], Finality::Safe));
    let filter = matcher.filter(1, latest);
    assert_eq!(
        filter.addresses,
        [Address::with_last_byte(3), Address::with_last_byte(9)]
    );
    assert_eq!(filter.topics, [topic(5), topic(7)]);
    let any = matcher.filter(1, Finality::Safe);
    assert_eq!((any.addresses.len(), any.topics.len()), (1, 0));
    assert_eq!(matcher.filter(2, latest), LogFilter::default());
    assert_eq!(
        matcher.chains(),
        BTreeSet::from([(1, latest), (1, Finality::Safe)])
    );
    matcher.pause(subject(2));
    assert_eq!(matcher.filter(1, latest).topics, [topic(7)]);
    assert!(matcher.resume(subject(2)));
    assert_eq!(matcher.filter(1, latest), filter);
    for number in 1..=3 {
        assert!(matcher.remove(subject(number)));
    }
    assert!(matcher.chains().is_empty() && matcher.is_empty() && matcher.first.is_empty());
    for number in 1..=65 {
        matcher.add(&subscription(number, 0), &spec(1, 1, &[number], latest));
    }
    assert!(
        matcher.filter(1, latest).topics.is_empty(),
        "too many to name"
    );
}

#[test]
fn equal_logs_of_a_transaction_are_counted() {
    let mut logs: Vec<_> = [(&[7][..], 1), (&[7], 2), (&[7], 1), (&[7, 0], 1), (&[7], 1)]
        .into_iter()
        .map(|(topics, transaction)| LogEntry {
            transaction: topic(transaction),
            ordinal: 9,
            ..log(1, 1, topics, 0)
        })
        .collect();
    logs.push(LogEntry {
        data: Bytes::from_static(b"x"),
        ..logs[0].clone()
    });
    logs.push(LogEntry {
        emitter: Address::ZERO,
        ..logs[0].clone()
    });
    number_equal_logs(&mut logs);
    let ordinals: Vec<_> = logs.iter().map(|log| log.ordinal).collect();
    assert_eq!(ordinals, [0, 0, 1, 0, 2, 0, 0]);
}

fn finality() -> impl Strategy<Value = Finality> {
    prop::sample::select(vec![Finality::Latest, Finality::Safe, Finality::Finalized])
}

/// What happens to a matcher, or what it is asked.
#[derive(Clone, Debug)]
enum Step<Spec, Asked> {
    Add(u8, UnixSeconds, Spec),
    Remove(u8),
    Pause(u8),
    Resume(u8),
    Ask(Asked, Finality),
}

fn steps<S: std::fmt::Debug + Clone, A: std::fmt::Debug + Clone>(
    spec: impl Strategy<Value = S>,
    asked: impl Strategy<Value = A>,
) -> impl Strategy<Value = Vec<Step<S, A>>> {
    let step = prop_oneof![
        5 => (0_u8..20, 0_u64..10, spec).prop_map(|(number, since, spec)| Step::Add(number, since, spec)),
        1 => (0_u8..20).prop_map(Step::Remove),
        1 => (0_u8..20).prop_map(Step::Pause),
        1 => (0_u8..20).prop_map(Step::Resume),
        5 => (asked, finality()).prop_map(|(asked, finality)| Step::Ask(asked, finality)),
    ];
    prop::collection::vec(step, 1..80)
}

fn log_matches(spec: &LogSpec, log: &LogEntry) -> bool {
    let mut places = spec.topics.iter().zip(&log.topics);
    (spec.chain_id, spec.emitter) == (log.chain_id, log.emitter)
        && log.topics.len() >= spec.topics.len()
        && places.all(|(asked, topic)| asked.is_zero() || asked == topic)
}

proptest! {
    #[test]
    fn logs_concern_whom_the_definition_says(steps in steps(
        (0_u64..2, 1_u8..3, prop::collection::vec(0_u8..3, 0..=4), finality())
            .prop_map(|(chain, emitter, topics, finality)| spec(chain, emitter, &topics, finality)),
        (0_u64..2, 1_u8..3, prop::collection::vec(0_u8..3, 0..=4), 0_u64..12)
            .prop_map(|(chain, emitter, topics, at)| log(chain, emitter, &topics, at)),
    )) {
        let mut matcher = LogMatcher::new();
        let mut all: BTreeMap<u8, (UnixSeconds, LogSpec, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Add(number, since, spec) => {
                    matcher.add(&subscription(number, since), &spec);
                    all.insert(number, (since, spec, true));
                }
                Step::Remove(number) => prop_assert_eq!(matcher.remove(subject(number)), all.remove(&number).is_some()),
                Step::Pause(number) => {
                    prop_assert_eq!(matcher.pause(subject(number)), all.contains_key(&number));
                    all.entry(number).and_modify(|known| known.2 = false);
                }
                Step::Resume(number) => {
                    prop_assert_eq!(matcher.resume(subject(number)), all.contains_key(&number));
                    all.entry(number).and_modify(|known| known.2 = true);
                }
                Step::Ask(log, finality) => {
                    let expected: Vec<u8> = all.iter()
                        .filter(|(_, (since, spec, active))| *active && *since <= log.at && spec.finality == finality && log_matches(spec, &log))
                        .map(|(number, _)| *number)
                        .collect();
                    let filter = matcher.filter(log.chain_id, finality);
                    if !expected.is_empty() {
                        prop_assert!(filter.addresses.contains(&log.emitter));
                        prop_assert!(filter.topics.is_empty() || filter.topics.contains(&log.topics[0]));
                    }
                    let active = all.values().any(|(_, spec, active)| *active && spec.chain_id == log.chain_id && spec.finality == finality);
                    prop_assert_eq!(!filter.addresses.is_empty(), active);
                    prop_assert_eq!(numbers(matcher.subjects(&log, finality)), expected);
                }
            }
            prop_assert_eq!(matcher.len(), all.len());
        }
    }

    #[test]
    fn blocks_concern_whom_the_definition_says(steps in steps(
        (0_u64..2, prop_oneof![1_u64..40, any::<u64>().prop_map(|every| every.max(1))], finality())
            .prop_map(|(chain_id, every, finality)| BlocksSpec { chain_id, every, finality }),
        (0_u64..2, prop_oneof![0_u64..100, 2_000_000_u64..2_001_000], 0_u64..12)
            .prop_map(|(chain_id, number, at)| BlockEntry { chain_id, number, hash: B256::ZERO, at }),
    )) {
        let mut matcher = BlockMatcher::new();
        let mut all: BTreeMap<u8, (UnixSeconds, BlocksSpec, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Add(number, since, spec) => {
                    matcher.add(&subscription(number, since), &spec);
                    all.insert(number, (since, spec, true));
                }
                Step::Remove(number) => prop_assert_eq!(matcher.remove(subject(number)), all.remove(&number).is_some()),
                Step::Pause(number) => {
                    prop_assert_eq!(matcher.pause(subject(number)), all.contains_key(&number));
                    all.entry(number).and_modify(|known| known.2 = false);
                }
                Step::Resume(number) => {
                    prop_assert_eq!(matcher.resume(subject(number)), all.contains_key(&number));
                    all.entry(number).and_modify(|known| known.2 = true);
                }
                Step::Ask(block, finality) => {
                    let asked = |spec: &BlocksSpec| spec.finality == finality && spec.chain_id == block.chain_id;
                    let expected: Vec<u8> = all.iter()
                        .filter(|(_, (since, spec, active))| *active && *since <= block.at && asked(spec) && block.number % spec.every == 0)
                        .map(|(number, _)| *number)
                        .collect();
                    prop_assert_eq!(numbers(matcher.subjects(&block, finality)), expected);
                    let next = all.values()
                        .filter(|(_, spec, active)| *active && asked(spec))
                        .filter_map(|(_, spec, _)| (block.number / spec.every + 1).checked_mul(spec.every))
                        .min();
                    prop_assert_eq!(matcher.next_after(block.chain_id, finality, block.number), next);
                }
            }
            let chains: BTreeSet<_> = all.values().filter(|known| known.2).map(|(_, spec, _)| (spec.chain_id, spec.finality)).collect();
            prop_assert_eq!(matcher.chains(), chains);
        }
    }
}
