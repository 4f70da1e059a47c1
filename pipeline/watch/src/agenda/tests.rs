use super::*;
use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use cryptlet_types::{
    ClockSpec, CryptletId,
    subscription::{InstantsSpec, IntervalSpec, ScheduleSpec},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn subscription(subject: u8, cron: &str, since: UnixSeconds) -> Subscription {
    let (cron, time_zone) = (cron.into(), "UTC".into());
    let spec = ClockSpec { cron, time_zone };
    triggered(subject, TriggerSpec::Clock(spec), since)
}

fn triggered(subject: u8, trigger: TriggerSpec, since: UnixSeconds) -> Subscription {
    Subscription {
        subject: Subject(B256::repeat_byte(subject)),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger,
        params: Bytes::new(),
        since,
    }
}

fn agenda() -> Agenda {
    let domain = ReportDomain {
        chain_id: 31337,
        delegate: Address::repeat_byte(7),
    };
    Agenda::new(domain, Arc::new(Calendars::bundled().unwrap()))
}

fn dues(events: &[Event]) -> Vec<(UnixSeconds, u8)> {
    events
        .iter()
        .map(|event| (event.trigger.due(), event.subject.0[0]))
        .collect()
}

#[test]
fn events_come_in_order_of_time_then_subject_and_once_each() {
    let mut agenda = agenda();
    agenda
        .add(&subscription(2, "* * * * *", 60), None, 0)
        .unwrap();
    agenda
        .add(&subscription(1, "*/2 * * * *", 60), None, 0)
        .unwrap();
    assert_eq!(
        dues(&agenda.take_due(240, 3)),
        [(60, 2), (120, 1), (120, 2)]
    );
    assert_eq!(
        dues(&agenda.take_due(240, 10)),
        [(180, 2), (240, 1), (240, 2)]
    );
    assert_eq!(agenda.take_due(299, 10), []);
    assert_eq!(agenda.next_due(), Some(300));
}

#[test]
fn nothing_before_the_subscription_and_nothing_twice_after_a_restart() {
    let mut agenda = agenda();
    agenda
        .add(&subscription(1, "* * * * *", 121), None, 0)
        .unwrap();
    assert_eq!(agenda.next_due(), Some(180));
    agenda
        .add(&subscription(1, "* * * * *", 121), Some(240), 0)
        .unwrap();
    assert_eq!(dues(&agenda.take_due(300, 10)), [(300, 1)]);
}

#[test]
fn what_was_removed_is_not_due() {
    let mut agenda = agenda();
    agenda
        .add(&subscription(1, "* * * * *", 0), None, 0)
        .unwrap();
    assert!(agenda.remove(Subject(B256::repeat_byte(1))));
    assert!(!agenda.remove(Subject(B256::repeat_byte(1))));
    assert_eq!(agenda.take_due(u64::MAX, 10), []);
    assert!(agenda.is_empty());
}

#[test]
fn a_schedule_that_cannot_be_served_changes_nothing() {
    let mut agenda = agenda();
    agenda
        .add(&subscription(1, "* * * * *", 0), None, 0)
        .unwrap();
    assert!(agenda.add(&subscription(1, "* * *", 0), None, 0).is_err());
    assert_eq!(agenda.len(), 1);
    assert_eq!(agenda.next_due(), Some(60));
}

fn interval(seconds: u64, calendar: &str, missed: Missed) -> TriggerSpec {
    TriggerSpec::Interval(IntervalSpec {
        seconds,
        calendar: calendar.into(),
        missed,
    })
}

fn instants(instants: &[UnixSeconds], missed: Missed) -> TriggerSpec {
    TriggerSpec::Instants(InstantsSpec {
        instants: instants.to_vec(),
        missed,
    })
}

fn at_market(cron: &str, calendar: &str, missed: Missed) -> TriggerSpec {
    TriggerSpec::Schedule(ScheduleSpec {
        cron: cron.into(),
        time_zone: String::new(),
        calendar: calendar.into(),
        missed,
    })
}

fn subject(number: u8) -> Subject {
    Subject(B256::repeat_byte(number))
}

#[test]
fn who_skips_is_due_from_now_on_only() {
    let mut agenda = agenda();
    let mut add = |number, trigger, fired, now| {
        let added = agenda.add(&triggered(number, trigger, 100), fired, now);
        added.unwrap();
    };
    add(1, interval(60, "", Missed::Skip), Some(160), 1_000);
    add(2, interval(60, "", Missed::CatchUp), Some(880), 1_000);
    add(3, instants(&[500, 1_000, 1_001], Missed::Skip), None, 1_000);
    add(4, interval(60, "", Missed::Skip), None, 0);
    let due = dues(&agenda.take_due(1_010, 4));
    assert_eq!(
        due,
        [(160, 4), (220, 4), (280, 4), (340, 4)],
        "on the agenda, nothing is left out"
    );
    agenda.remove(subject(4));
    let due = dues(&agenda.take_due(1_010, 10));
    assert_eq!(
        due,
        [(940, 2), (1_000, 1), (1_000, 2), (1_000, 3), (1_001, 3)]
    );
    assert_eq!(agenda.take_ended(), [(subject(3), End::Over)]);
    assert_eq!(agenda.take_ended(), []);
    assert_eq!(agenda.next_due(), Some(1_060));
}

#[test]
fn what_falls_into_a_pause_is_not_made_up() {
    let mut agenda = agenda();
    for (number, trigger) in [
        (1, interval(60, "", Missed::CatchUp)),
        (
            2,
            TriggerSpec::Clock(ClockSpec {
                cron: "* * * * *".into(),
                time_zone: "UTC".into(),
            }),
        ),
        (3, instants(&[60, 120, 600], Missed::CatchUp)),
    ] {
        agenda.add(&triggered(number, trigger, 0), None, 0).unwrap();
    }
    assert_eq!(dues(&agenda.take_due(60, 10)), [(60, 1), (60, 2), (60, 3)]);
    for number in 1..=3 {
        assert!(agenda.pause(subject(number)));
    }
    assert_eq!(agenda.next_due(), None);
    assert_eq!(agenda.take_due(400, 10), []);
    for number in 1..=3 {
        assert!(agenda.resume(subject(number), 420));
        assert!(agenda.resume(subject(number), 500), "resumed already");
    }
    assert_eq!(
        dues(&agenda.take_due(480, 10)),
        [(420, 1), (420, 2), (480, 1), (480, 2)]
    );
    assert!(!agenda.pause(subject(9)));
    assert!(!agenda.resume(subject(9), 0));
    agenda.pause(subject(1));
    assert!(agenda.remove(subject(1)));
    assert!(!agenda.resume(subject(1), 500));
    assert_eq!(
        dues(&agenda.take_due(600, 10)),
        [(540, 2), (600, 2), (600, 3)]
    );
}

#[test]
fn what_cannot_be_served_is_refused_by_the_name_of_its_field() {
    let mut agenda = agenda();
    let mut refused = |trigger| {
        let error = agenda.add(&triggered(1, trigger, 1_767_225_600), None, 0);
        assert!(agenda.is_empty() && agenda.schedules() == 0);
        error.unwrap_err().to_string()
    };
    let past = instants(&[1, 2], Missed::CatchUp);
    assert_eq!(
        refused(past),
        "instants: all of them before the subscription"
    );
    let nowhere = interval(60, "XMOON", Missed::Skip);
    assert_eq!(
        refused(nowhere),
        "calendar: XMOON is not known to this host"
    );
    let absurd = at_market("0 0 31 2 *", "XNYS", Missed::Skip);
    assert_eq!(refused(absurd), "cron: no date ever matches");
    let closed = at_market("0 0 * * SUN", "XNYS", Missed::Skip);
    assert_eq!(
        refused(closed),
        "calendar: XNYS is known only until 2027-12-31, and nothing more is due within its dates"
    );
    assert_eq!(refused(TriggerSpec::Request), "trigger: not by the clock");
}

#[test]
fn a_calendar_that_ends_ends_its_subscriptions_with_its_name() {
    let mut agenda = agenda();
    let last_close = 1_830_286_800;
    let subscription = triggered(
        1,
        at_market("close", "XNYS", Missed::CatchUp),
        last_close - 10,
    );
    agenda.add(&subscription, None, 0).unwrap();
    assert_eq!(dues(&agenda.take_due(u64::MAX, 10)), [(last_close, 1)]);
    let ended = agenda.take_ended();
    assert!(matches!(&ended[..], [(_, End::Unknown { calendar, .. })] if calendar == "XNYS"));
    // As after a restart: it had its events and is not refused for good.
    agenda.add(&subscription, Some(last_close), 0).unwrap();
    assert_eq!((agenda.len(), agenda.next_due()), (1, None));
    assert_eq!(agenda.take_ended(), ended);
    assert!(agenda.resume(subject(1), 0));
    assert_eq!(agenda.next_due(), None);
}

#[test]
fn equal_schedules_are_kept_once_and_go_with_the_last_who_has_them() {
    let mut agenda = agenda();
    for number in 1..=20 {
        agenda
            .add(&subscription(number, "* * * * *", 60), None, 0)
            .unwrap();
        agenda
            .add(
                &triggered(100 + number, at_market("open", "XNYS", Missed::Skip), 60),
                None,
                1_767_225_600,
            )
            .unwrap();
        agenda
            .add(
                &triggered(200 + number, interval(60, "", Missed::Skip), number.into()),
                None,
                0,
            )
            .unwrap();
    }
    assert_eq!((agenda.len(), agenda.schedules()), (60, 2));
    for number in 1..=20 {
        agenda.remove(subject(100 + number));
    }
    assert_eq!(agenda.schedules(), 1);
    agenda
        .add(&subscription(1, "*/2 * * * *", 60), None, 0)
        .unwrap();
    assert_eq!((agenda.len(), agenda.schedules()), (40, 2));
}

fn schedules() -> impl Strategy<Value = TriggerSpec> {
    let missed = prop_oneof![Just(Missed::CatchUp), Just(Missed::Skip)];
    let cron = prop::sample::select(vec!["*/7 * * * *", "0 12 * * *", "open", "close-15"]);
    let calendar = prop::sample::select(vec!["XNYS", "TARGET"]);
    let times = prop::collection::btree_set(1_767_225_600_u64..1_767_600_000, 1..6);
    prop_oneof![
        (cron, calendar.clone(), missed.clone())
            .prop_map(|(cron, calendar, missed)| at_market(cron, calendar, missed)),
        (
            600_u64..20_000,
            prop_oneof![Just(""), calendar],
            missed.clone()
        )
            .prop_map(|(seconds, calendar, missed)| interval(seconds, calendar, missed)),
        (times, missed)
            .prop_map(|(times, missed)| instants(&times.into_iter().collect::<Vec<_>>(), missed)),
    ]
}

/// What is to happen to an agenda.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Pause(u8),
    Resume(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..30_000).prop_map(Step::Wait),
        1 => (0_u8..4).prop_map(Step::Pause),
        1 => (0_u8..4).prop_map(Step::Resume),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #[test]
    fn all_kinds_are_due_as_their_schedules_say_through_pauses_and_restarts(
        triggers in prop::collection::vec(schedules(), 4),
        steps in steps(),
    ) {
        const START: u64 = 1_767_225_600;
        let calendars = Calendars::bundled().unwrap();
        let all: Vec<_> = (0..4).zip(triggers).map(|(number, trigger)| triggered(number, trigger, START)).collect();
        let mut agenda = agenda();
        let (mut now, mut seen, mut expected) = (START, Vec::new(), Vec::new());
        // The reference: for each the moment until which it has been dealt with, and whether it is paused.
        let mut model = [(START - 1, false); 4];
        for subscription in &all {
            agenda.add(subscription, None, now).unwrap();
        }
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    now += seconds;
                    seen.extend(dues(&agenda.take_due(now, usize::MAX)));
                    let mut due = Vec::new();
                    for (subscription, (until, paused)) in all.iter().zip(&mut model) {
                        let schedule = Schedule::parse(&subscription.trigger, START, &calendars).unwrap();
                        while let (false, Ok(next)) = (*paused, schedule.next_after(*until)) {
                            if next > now {
                                break;
                            }
                            due.push((next, subscription.subject.0[0]));
                            *until = next;
                        }
                    }
                    due.sort_unstable();
                    expected.extend(due);
                }
                Step::Pause(number) => {
                    agenda.pause(subject(number));
                    model[usize::from(number)].1 = true;
                }
                Step::Resume(number) => {
                    agenda.resume(subject(number), now);
                    let (until, paused) = &mut model[usize::from(number)];
                    if std::mem::take(paused) {
                        *until = (*until).max(now - 1);
                    }
                }
                Step::Restart => {
                    agenda = self::agenda();
                    now += 5_000;
                    for (subscription, (until, paused)) in all.iter().zip(&mut model) {
                        if skips(&subscription.trigger) {
                            *until = (*until).max(now - 1);
                        }
                        agenda.add(subscription, Some(*until), now).unwrap();
                        if *paused {
                            agenda.pause(subscription.subject);
                        }
                    }
                }
            }
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn interruptions_and_restarts_neither_lose_nor_double(
        steps in prop::collection::vec((0_u64..600, 1_usize..5, any::<bool>()), 1..40),
    ) {
        let all = [subscription(1, "*/3 * * * *", 0), subscription(2, "* * * * *", 200)];
        let mut agenda = agenda();
        let mut fired = BTreeMap::new();
        for subscription in &all {
            agenda.add(subscription, None, 0).unwrap();
        }
        let (mut now, mut seen) = (0, Vec::new());
        for (pause, limit, restart) in steps {
            now += pause;
            for event in agenda.take_due(now, limit) {
                fired.insert(event.subject, event.trigger.due());
                seen.push(event);
            }
            if restart {
                agenda = self::agenda();
                for subscription in &all {
                    agenda.add(subscription, fired.get(&subscription.subject).copied(), 0).unwrap();
                }
            }
        }
        seen.extend(agenda.take_due(now, usize::MAX));
        let mut expected: Vec<_> = (1..=now / 60).map(|n| n * 60).filter(|due| due % 180 == 0).map(|due| (due, 1)).collect();
        expected.extend((1..=now / 60).map(|n| n * 60).filter(|due| *due >= 200).map(|due| (due, 2)));
        expected.sort_unstable();
        prop_assert_eq!(dues(&seen), expected);
    }
}
