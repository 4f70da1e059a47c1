use super::*;
use crate::{
    ClockSpec, CryptletId, Delegation, EventId, Subject, TriggerSpec,
    event::{BlockEntry, LogEntry, Message, Observation},
    subscription::{
        ApplicationSpec, BlocksSpec, Direction, Finality, InstantsSpec, LogSpec, Missed,
        ThresholdSpec,
    },
};
use alloy_primitives::{Address, FixedBytes, I256, U256};

const IDENTITY: Address = Address::repeat_byte(6);

fn rename(input: &mut RunInput) {
    input.subscription = input.subscription.clone().with_subject_in(&input.domain);
    input.job = Job::id_of(&input.event());
}

fn input() -> RunInput {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::repeat_byte(1),
    };
    let subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: Address::repeat_byte(2),
        nonce: 0,
        cryptlet: CryptletId(Address::repeat_byte(3)),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([4; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger: TriggerSpec::Clock(ClockSpec {
            cron: "* * * * *".into(),
            time_zone: "UTC".into(),
        }),
        params: Bytes::from_static(b"x"),
        since: 5,
    };
    let mut input = RunInput {
        job: JobId(B256::ZERO),
        domain,
        subscription,
        trigger: Trigger::Clock { due: 10 },
        sequence: 1,
        issued_at: 12,
        valid_until: 72,
        delegation: None,
        settings: BTreeMap::new(),
    };
    rename(&mut input);
    input
}

fn delegated() -> RunInput {
    let mut input = input();
    input.subscription.on_behalf_of = IDENTITY;
    rename(&mut input);
    let delegation = Delegation {
        identity: IDENTITY,
        cryptlet: input.subscription.cryptlet,
        consumer: Address::ZERO,
        callback: FixedBytes::ZERO,
        expiry: 72,
        salt: B256::ZERO,
    };
    let signature = Bytes::from_static(&[1; 65]);
    input.delegation = Some(SignedDelegation {
        delegation,
        signature,
    });
    input
}

fn refusal(base: fn() -> RunInput, change: impl FnOnce(&mut RunInput)) -> String {
    let mut input = base();
    assert_eq!(input.check(), Ok(()));
    change(&mut input);
    input.check().unwrap_err().to_string()
}

#[test]
fn what_a_host_cannot_change_without_being_noticed() {
    type Forgery = (&'static str, fn(&mut RunInput));
    let forgeries: [Forgery; 11] = [
        ("subscription.subject", |i| {
            i.subscription.params = Bytes::new()
        }),
        ("subscription.subject", |i| {
            i.subscription.consumer = Address::ZERO
        }),
        ("subscription.subject", |i| i.subscription.nonce = 1),
        ("subscription.subject", |i| i.domain.chain_id = 2),
        ("job", |i| i.trigger = Trigger::Clock { due: 11 }),
        ("job", |i| i.job = JobId(B256::ZERO)),
        ("sequence", |i| i.sequence = 0),
        ("issuedAt", |i| i.issued_at = 9),
        ("validUntil", |i| i.valid_until = 12),
        ("validUntil", |i| i.valid_until = 73),
        ("trigger", |i| i.subscription.since = 11),
    ];
    for (field, forge) in forgeries {
        let reason = refusal(input, forge);
        assert!(reason.starts_with(field), "{field}: {reason}");
    }
}

#[test]
fn a_validity_beyond_the_longest_is_refused_whatever_the_subscription_says() {
    let reason = refusal(input, |input| {
        input.subscription.validity = u32::MAX;
        rename(input);
    });
    assert!(reason.starts_with("subscription.validity"), "{reason}");
}

#[test]
fn nobody_is_spoken_for_without_a_delegation_that_covers_it() {
    let given = |change: fn(&mut Delegation)| {
        refusal(delegated, |input| {
            change(&mut input.delegation.as_mut().unwrap().delegation);
        })
    };
    let refusals = [
        refusal(delegated, |input| input.delegation = None),
        refusal(input, |input| input.delegation = delegated().delegation),
        given(|d| d.identity = Address::repeat_byte(7)),
        given(|d| d.cryptlet = CryptletId(Address::ZERO)),
        given(|d| d.consumer = Address::repeat_byte(9)),
        given(|d| d.callback = FixedBytes([9; 4])),
        given(|d| d.expiry = 71),
    ];
    for reason in refusals {
        assert!(reason.starts_with("delegation"), "{reason}");
    }
}

#[test]
fn a_report_names_the_delegation_under_which_it_is_made() {
    let (plain, delegated) = (input(), delegated());
    let report = |input: &RunInput| input.report(Measurement(B256::ZERO), Bytes::new());
    assert_eq!(report(&plain).delegation, B256::ZERO);
    let digest = delegated
        .delegation
        .as_ref()
        .unwrap()
        .delegation
        .digest(&delegated.domain);
    assert_eq!(report(&delegated).delegation, digest);
}

fn observation(value: i32) -> Trigger {
    let observation = Observation {
        feed: feed(CryptletId(Address::repeat_byte(3)), &Bytes::new(), 60),
        value: I256::try_from(value).unwrap(),
        at: 10,
        signature: CompactSignature::default(),
    };
    Trigger::Threshold { observation }
}

fn threshold(direction: Direction) -> TriggerSpec {
    TriggerSpec::Threshold(ThresholdSpec {
        feed_params: Bytes::new(),
        every: 60,
        bound: I256::try_from(-5).unwrap(),
        direction,
        hysteresis: U256::ZERO,
        repeat: true,
    })
}

fn log(change: fn(&mut LogEntry)) -> Trigger {
    let mut log = LogEntry {
        chain_id: 7,
        block: 10,
        block_hash: B256::ZERO,
        at: 1,
        transaction: B256::ZERO,
        index: 0,
        ordinal: 0,
        emitter: Address::repeat_byte(4),
        topics: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
        data: Bytes::new(),
    };
    change(&mut log);
    Trigger::Log(log)
}

fn logs(topics: &[u8]) -> TriggerSpec {
    let topics = topics.iter().map(|byte| B256::repeat_byte(*byte));
    TriggerSpec::Log(LogSpec {
        chain_id: 7,
        emitter: Address::repeat_byte(4),
        topics: topics.collect(),
        finality: Finality::Latest,
    })
}

fn block(chain_id: u64, number: u64) -> Trigger {
    Trigger::Block(BlockEntry {
        chain_id,
        number,
        hash: B256::ZERO,
        at: 1,
    })
}

fn blocks() -> TriggerSpec {
    TriggerSpec::Blocks(BlocksSpec {
        chain_id: 7,
        every: 5,
        finality: Finality::Safe,
    })
}

fn message(application: &str, kind: &str) -> Trigger {
    Trigger::Application(Message {
        application: application.into(),
        id: "1".into(),
        kind: kind.into(),
        at: 1,
        data: Bytes::new(),
    })
}

fn messages(kind: &str) -> TriggerSpec {
    TriggerSpec::Application(ApplicationSpec {
        application: "crm".into(),
        kind: kind.into(),
    })
}

fn instants() -> TriggerSpec {
    TriggerSpec::Instants(InstantsSpec {
        instants: vec![8, 10],
        missed: Missed::CatchUp,
    })
}

#[test]
fn a_subscription_is_woken_by_what_it_asked_for_alone() {
    let clock = input().subscription.trigger;
    let step = |at| {
        Trigger::Step(Step {
            of: EventId(B256::ZERO),
            number: 1,
            state: Bytes::new(),
            at,
            signature: CompactSignature::default(),
        })
    };
    let cases = [
        (clock.clone(), Trigger::Clock { due: 10 }, true),
        (clock.clone(), Trigger::Request { at: 5 }, false),
        (clock.clone(), step(10), true),
        (clock, step(13), false),
        (instants(), Trigger::Clock { due: 10 }, true),
        (instants(), Trigger::Clock { due: 9 }, false),
        (TriggerSpec::Request, Trigger::Request { at: 5 }, true),
        (TriggerSpec::Request, Trigger::Request { at: 6 }, false),
        (TriggerSpec::Request, Trigger::Clock { due: 5 }, false),
        (threshold(Direction::Rising), observation(-5), true),
        (threshold(Direction::Rising), observation(-6), false),
        (threshold(Direction::Falling), observation(-5), true),
        (threshold(Direction::Falling), observation(-4), false),
        (threshold(Direction::Either), observation(9), true),
        (logs(&[]), log(|_| ()), true),
        (logs(&[0, 2]), log(|_| ()), true),
        (logs(&[2]), log(|_| ()), false),
        (logs(&[1, 2, 3]), log(|_| ()), false),
        (logs(&[]), log(|log| log.chain_id = 8), false),
        (logs(&[]), log(|log| log.emitter = Address::ZERO), false),
        (
            logs(&[]),
            log(|log| log.topics = vec![B256::ZERO; 5]),
            false,
        ),
        (blocks(), block(7, 10), true),
        (blocks(), block(7, 11), false),
        (blocks(), block(8, 10), false),
        (messages(""), message("crm", "order"), true),
        (messages("order"), message("crm", "order"), true),
        (messages("order"), message("crm", "refund"), false),
        (messages(""), message("erp", "order"), false),
    ];
    for (spec, trigger, fits) in cases {
        let mut input = input();
        (input.subscription.trigger, input.trigger) = (spec, trigger);
        rename(&mut input);
        let checked = input.check();
        assert_eq!(checked.is_ok(), fits, "{input:?}: {checked:?}");
    }
}

#[test]
fn steps_are_counted_from_the_event_that_began_them() {
    let first = input();
    let step = first.next_step(Bytes::from_static(b"a")).unwrap();
    assert_eq!((step.of, step.number, step.at), (first.event().id, 1, 12));
    let mut second = first.clone();
    second.trigger = Trigger::Step(step);
    let step = second.next_step(Bytes::new()).unwrap();
    assert_eq!((step.of, step.number), (first.event().id, 2));
    let last = Step {
        number: u32::MAX,
        ..step
    };
    second.trigger = Trigger::Step(last);
    assert_eq!(second.next_step(Bytes::new()), None);
}
