use super::*;
use alloy_primitives::{Address, B256, Bytes, FixedBytes, I256, U256};
use cryptlet_types::{
    CryptletId,
    report::CompactSignature,
    subscription::{
        ApplicationSpec, BlocksSpec, Direction, IntervalSpec, LogSpec, Missed, ThresholdSpec,
    },
};

const DOMAIN: ReportDomain = ReportDomain {
    chain_id: 31_337,
    delegate: Address::repeat_byte(7),
};

fn subject(number: u8) -> Subject {
    Subject(B256::repeat_byte(number))
}

fn subscription(number: u8, trigger: TriggerSpec) -> Subscription {
    Subscription {
        subject: subject(number),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger,
        params: Bytes::new(),
        since: 100,
    }
}

fn threshold() -> ThresholdSpec {
    ThresholdSpec {
        feed_params: Bytes::new(),
        every: 60,
        bound: I256::ZERO,
        direction: Direction::Rising,
        hysteresis: U256::ZERO,
        repeat: true,
    }
}

fn all() -> Vec<Subscription> {
    let finality = Finality::Latest;
    let triggers = [
        TriggerSpec::Interval(IntervalSpec {
            seconds: 60,
            calendar: String::new(),
            missed: Missed::Skip,
        }),
        TriggerSpec::Threshold(threshold()),
        TriggerSpec::Log(LogSpec {
            chain_id: 1,
            emitter: Address::ZERO,
            topics: vec![],
            finality,
        }),
        TriggerSpec::Blocks(BlocksSpec {
            chain_id: 1,
            every: 10,
            finality,
        }),
        TriggerSpec::Application(ApplicationSpec {
            application: "crm".into(),
            kind: "order".into(),
        }),
        TriggerSpec::Application(ApplicationSpec {
            application: "crm".into(),
            kind: String::new(),
        }),
    ];
    let numbered = (1..).zip(triggers);
    numbered
        .map(|(number, trigger)| subscription(number, trigger))
        .collect()
}

fn world(restored: &Restored) -> Subscriptions {
    let mut world = Subscriptions::new(DOMAIN, Arc::default());
    for subscription in all() {
        assert_eq!(world.add(&subscription, restored, 100), Ok(None));
    }
    world
}

/// Everything occurs once, `at`; who is due?
fn occur(world: &mut Subscriptions, at: UnixSeconds) -> Vec<u8> {
    let observation = |value, at| Observation {
        feed: threshold().feed(CryptletId(Address::ZERO)),
        value,
        at,
        signature: CompactSignature::default(),
    };
    let mut events = world.agenda.take_due(at, 10);
    events.extend(world.observe(&observation(I256::MINUS_ONE, at - 1)));
    events.extend(world.observe(&observation(I256::ONE, at)));
    let log = LogEntry {
        chain_id: 1,
        block: 1,
        block_hash: B256::ZERO,
        at,
        transaction: B256::ZERO,
        index: 0,
        ordinal: 0,
        emitter: Address::ZERO,
        topics: vec![],
        data: Bytes::new(),
    };
    events.extend(world.log(&log, Finality::Latest));
    let (number, hash) = (20, B256::ZERO);
    let block = BlockEntry {
        chain_id: 1,
        number,
        hash,
        at,
    };
    events.extend(world.block(&block, Finality::Latest));
    events.extend(world.message(&message("order", at)));
    assert!(events.iter().all(|event| event.trigger.due() == at));
    let ids = events.iter().map(|event| event.subject.0[0]);
    ids.collect()
}

fn message(kind: &str, at: UnixSeconds) -> Message {
    Message {
        application: "crm".into(),
        id: "1".into(),
        kind: kind.into(),
        at,
        data: Bytes::new(),
    }
}

#[test]
fn every_kind_is_due_unless_it_is_paused_or_ended() {
    let mut world = world(&Restored::default());
    assert_eq!(
        (world.len(), world.next_due()),
        (6, Some(0)),
        "the feed, at once"
    );
    assert_eq!(occur(&mut world, 160), [1, 2, 3, 4, 5, 6]);
    for number in 1..=6 {
        assert!(world.pause(subject(number)));
    }
    assert_eq!(occur(&mut world, 220), [] as [u8; 0]);
    for number in 1..=6 {
        assert!(world.resume(subject(number), 221));
    }
    assert_eq!(occur(&mut world, 280), [1, 2, 3, 4, 5, 6]);
    for number in 1..=6 {
        assert!(world.remove(subject(number)));
        assert!(
            !world.remove(subject(number))
                && !world.pause(subject(number))
                && !world.resume(subject(number), 0)
        );
    }
    assert!(world.is_empty() && world.next_due().is_none());
    assert_eq!(occur(&mut world, 340), [] as [u8; 0]);
}

#[test]
fn one_that_was_paused_is_so_after_a_restart() {
    let paused = Restored {
        paused: true,
        ..Restored::default()
    };
    let mut world = world(&paused);
    assert_eq!((world.len(), world.next_due()), (6, None));
    assert_eq!(occur(&mut world, 160), [] as [u8; 0]);
    for number in 1..=6 {
        assert!(world.resume(subject(number), 161));
    }
    assert_eq!(occur(&mut world, 220), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn messages_concern_their_kind_and_those_of_any_kind_once() {
    let world = world(&Restored::default());
    let subjects = |message| world.applications.subjects(&message);
    assert_eq!(subjects(message("order", 100)), [subject(5), subject(6)]);
    assert_eq!(subjects(message("invoice", 100)), [subject(6)]);
    assert_eq!(subjects(message("", 100)), [subject(6)]);
    assert_eq!(
        subjects(message("order", 99)),
        [],
        "before the subscription"
    );
    let other = Message {
        application: "erp".into(),
        ..message("order", 100)
    };
    assert_eq!(subjects(other), []);
}

#[test]
fn a_request_is_due_once_at_its_own_block() {
    let mut world = world(&Restored::default());
    let request = subscription(9, TriggerSpec::Request);
    let mut add = |restored| world.add(&request, &restored, 500).unwrap();
    let event = add(Restored::default()).unwrap();
    assert_eq!(
        (event.subject, event.trigger),
        (subject(9), Trigger::Request { at: 100 })
    );
    let fired_until = Some(100);
    assert_eq!(
        add(Restored {
            fired_until,
            ..Restored::default()
        }),
        None
    );
    assert_eq!(
        add(Restored {
            paused: true,
            ..Restored::default()
        }),
        None
    );
    assert!(world.request(&request).is_some());
    assert_eq!(world.request(&all()[0]), None);
    assert_eq!(world.len(), 6, "nothing of it is kept");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let mut world = world(&Restored::default());
    let nowhere = TriggerSpec::Interval(IntervalSpec {
        seconds: 1,
        calendar: "XMOON".into(),
        missed: Missed::Skip,
    });
    let refused = world.add(&subscription(9, nowhere), &Restored::default(), 0);
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "calendar: XMOON is not known to this host"
    );
    assert!(!refused.is_retryable());
    assert_eq!(world.len(), 6);
}
