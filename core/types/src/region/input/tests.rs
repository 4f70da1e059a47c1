use super::*;
use crate::{ClockSpec, CryptletId, Delegation, Subject, TriggerSpec};
use alloy_primitives::{Address, FixedBytes};

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
