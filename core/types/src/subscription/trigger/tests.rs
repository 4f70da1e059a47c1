use super::*;
use proptest::{prelude::*, sample::Index};

fn missed() -> impl Strategy<Value = Missed> {
    prop_oneof![Just(Missed::CatchUp), Just(Missed::Skip)]
}

fn finality() -> impl Strategy<Value = Finality> {
    prop_oneof![
        Just(Finality::Latest),
        Just(Finality::Safe),
        Just(Finality::Finalized)
    ]
}

fn threshold() -> impl Strategy<Value = TriggerSpec> {
    let direction = prop_oneof![
        Just(Direction::Rising),
        Just(Direction::Falling),
        Just(Direction::Either)
    ];
    let params = prop::collection::vec(any::<u8>(), 0..100);
    (
        params,
        1_u32..,
        any::<[u8; 32]>(),
        direction,
        any::<[u8; 32]>(),
        any::<bool>(),
    )
        .prop_map(|(params, every, bound, direction, hysteresis, repeat)| {
            TriggerSpec::Threshold(ThresholdSpec {
                feed_params: params.into(),
                every,
                bound: I256::from_be_bytes(bound),
                direction,
                hysteresis: U256::from_be_bytes(hysteresis),
                repeat,
            })
        })
}

fn timed() -> impl Strategy<Value = TriggerSpec> {
    let text = || "\\PC{0,60}";
    let instants = prop::collection::btree_set(any::<u64>(), 1..=MAX_INSTANTS);
    prop_oneof![
        (text(), text())
            .prop_map(|(cron, time_zone)| { TriggerSpec::Clock(ClockSpec { cron, time_zone }) }),
        (instants, missed()).prop_map(|(instants, missed)| {
            let instants = instants.into_iter().collect();
            TriggerSpec::Instants(InstantsSpec { instants, missed })
        }),
        (text(), "[a-z]{1,9}", text(), missed()).prop_map(|(cron, time_zone, calendar, missed)| {
            TriggerSpec::Schedule(ScheduleSpec {
                cron,
                time_zone,
                calendar,
                missed,
            })
        }),
        (1_u64.., text(), missed()).prop_map(|(seconds, calendar, missed)| {
            TriggerSpec::Interval(IntervalSpec {
                seconds,
                calendar,
                missed,
            })
        }),
    ]
}

fn told() -> impl Strategy<Value = TriggerSpec> {
    let topics = prop::collection::vec(any::<[u8; 32]>().prop_map(B256::from), 0..=MAX_TOPICS);
    prop_oneof![
        (any::<u64>(), 1_u8.., topics, finality()).prop_map(
            |(chain_id, emitter, topics, finality)| {
                TriggerSpec::Log(LogSpec {
                    chain_id,
                    emitter: Address::repeat_byte(emitter),
                    topics,
                    finality,
                })
            }
        ),
        (any::<u64>(), 1_u64.., finality()).prop_map(|(chain_id, every, finality)| {
            TriggerSpec::Blocks(BlocksSpec {
                chain_id,
                every,
                finality,
            })
        }),
        ("[a-z]{1,20}", "[a-z.]{0,20}").prop_map(|(application, kind)| {
            TriggerSpec::Application(ApplicationSpec { application, kind })
        }),
        Just(TriggerSpec::Request),
    ]
}

fn any_spec() -> impl Strategy<Value = TriggerSpec> {
    prop_oneof![timed(), told(), threshold()]
}

proptest! {
    #[test]
    fn conditions_survive_a_round_trip(spec in any_spec()) {
        prop_assert_eq!(TriggerSpec::decode(spec.number(), &spec.encode_condition()), Ok(spec.clone()));
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<TriggerSpec>(&json).unwrap(), &spec);
        let bytes = crate::region::encode(&spec).unwrap();
        prop_assert_eq!(crate::region::decode::<TriggerSpec>(&bytes).unwrap(), spec);
    }

    #[test]
    fn a_condition_with_a_bit_changed_is_another_or_none(spec in any_spec(), place: Index, bit in 0..8_u8) {
        let mut condition = spec.encode_condition().to_vec();
        prop_assume!(!condition.is_empty());
        let place = place.index(condition.len());
        condition[place] ^= 1 << bit;
        prop_assert_ne!(TriggerSpec::decode(spec.number(), &condition), Ok(spec));
    }

    #[test]
    fn arbitrary_bytes_never_panic(kind: u8, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = TriggerSpec::decode(kind, &bytes);
    }
}

#[test]
fn only_the_one_encoding_of_a_condition_is_read() {
    let spec = TriggerSpec::Clock(ClockSpec {
        cron: "0 16 * * *".into(),
        time_zone: "Europe/Berlin".into(),
    });
    let mut longer = spec.encode_condition().to_vec();
    longer.extend([0; 32]);
    assert_eq!(
        TriggerSpec::decode(1, &longer),
        Err(SubscriptionError::MalformedCondition(CLOCK_FORM))
    );
    assert_eq!(
        TriggerSpec::decode(TriggerSpec::REQUEST, &[0]),
        Err(SubscriptionError::MalformedCondition("empty"))
    );
}

#[test]
fn what_no_kind_means_is_refused_by_the_name_of_its_field() {
    let refused = |kind, condition: Vec<u8>| {
        let error = TriggerSpec::decode(kind, &condition).unwrap_err();
        assert!(!error.is_retryable());
        error.to_string()
    };
    let descending = write::<InstantsForm>((vec![2, 1], 0)).to_vec();
    assert_eq!(
        refused(2, descending),
        "condition.instants: strictly ascending"
    );
    let none = write::<InstantsForm>((vec![], 0)).to_vec();
    assert_eq!(refused(2, none), "condition.instants: 1 to 64 of them");
    let nowhere =
        write::<ScheduleForm>(("* * * * *".into(), String::new(), String::new(), 0)).to_vec();
    assert_eq!(
        refused(3, nowhere),
        "condition.timeZone: needed where no calendar is named"
    );
    let never = write::<IntervalForm>((0, String::new(), 0)).to_vec();
    assert_eq!(refused(4, never), "condition.seconds: at least 1");
    let nobody = write::<LogForm>((1, Address::ZERO, vec![], 0)).to_vec();
    assert_eq!(
        refused(6, nobody),
        "condition.emitter: not the zero address"
    );
    let unsure = write::<BlocksForm>((1, 1, 3)).to_vec();
    assert_eq!(
        refused(7, unsure),
        "condition.finality: 0 (latest), 1 (safe) or 2 (finalized)"
    );
    assert_eq!(
        refused(10, vec![]),
        "trigger: kind 10 is not known to this host"
    );
    assert!(refused(1, vec![0; 4_097]).starts_with("condition: 4097 bytes"));
}

#[test]
fn a_feed_is_shared_by_those_who_ask_the_same() {
    let TriggerSpec::Threshold(spec) = TriggerSpec::decode(
        5,
        &write::<ThresholdForm>((Bytes::new(), 60, I256::ZERO, 1, U256::ZERO, 0)),
    )
    .unwrap() else {
        panic!("another kind")
    };
    let cryptlet = CryptletId(Address::repeat_byte(1));
    let other_bound = ThresholdSpec {
        bound: I256::ONE,
        ..spec.clone()
    };
    assert_eq!(spec.feed(cryptlet), other_bound.feed(cryptlet));
    let seldom = ThresholdSpec {
        every: 61,
        ..spec.clone()
    };
    assert_ne!(spec.feed(cryptlet), seldom.feed(cryptlet));
}
