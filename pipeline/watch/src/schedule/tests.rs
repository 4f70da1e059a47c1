use super::*;
use cryptlet_types::{
    ClockSpec,
    subscription::{InstantsSpec, Missed},
};
use jiff::{Timestamp, tz::TimeZoneDatabase};
use proptest::prelude::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    parse(cron, zone).unwrap()
}

fn parse(cron: &str, zone: &str) -> Result<Schedule, ScheduleError> {
    let spec = ClockSpec {
        cron: cron.into(),
        time_zone: zone.into(),
    };
    Schedule::parse(&TriggerSpec::Clock(spec), 0, &Calendars::default())
}

fn bundled() -> Calendars {
    Calendars::bundled().unwrap()
}

fn at_market(cron: &str, zone: &str, calendar: &str) -> Result<Schedule, ScheduleError> {
    let spec = ScheduleSpec {
        cron: cron.into(),
        time_zone: zone.into(),
        calendar: calendar.into(),
        missed: Missed::CatchUp,
    };
    Schedule::parse(&TriggerSpec::Schedule(spec), 0, &bundled())
}

fn every(seconds: u64, calendar: &str, since: UnixSeconds) -> Schedule {
    let spec = IntervalSpec {
        seconds,
        calendar: calendar.into(),
        missed: Missed::CatchUp,
    };
    Schedule::parse(&TriggerSpec::Interval(spec), since, &bundled()).unwrap()
}

fn instants(instants: &[UnixSeconds], since: UnixSeconds) -> Result<Schedule, ScheduleError> {
    let spec = InstantsSpec {
        instants: instants.to_vec(),
        missed: Missed::CatchUp,
    };
    Schedule::parse(&TriggerSpec::Instants(spec), since, &bundled())
}

fn instant(text: &str) -> UnixSeconds {
    let timestamp: Timestamp = text.parse().unwrap();
    u64::try_from(timestamp.as_second()).unwrap()
}

fn following(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    std::iter::successors(Some(instant(after)), |at| schedule.next_after(*at).ok())
        .skip(1)
        .take(count)
        .map(|at| {
            Timestamp::from_second(i64::try_from(at).unwrap())
                .unwrap()
                .to_string()
        })
        .collect()
}

#[test]
fn four_in_the_afternoon_in_berlin_follows_daylight_saving() {
    let daily = schedule("0 16 * * *", "Europe/Berlin");
    assert_eq!(
        following(&daily, "2026-10-23T14:00:00Z", 3),
        [
            "2026-10-24T14:00:00Z",
            "2026-10-25T15:00:00Z",
            "2026-10-26T15:00:00Z"
        ]
    );
}

#[test]
fn a_missing_wall_time_fires_right_after_the_gap() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        following(&daily, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    let half_hours = schedule("*/30 * * * *", "Europe/Berlin");
    assert_eq!(
        following(&half_hours, "2026-03-29T00:29:00Z", 3),
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z"
        ]
    );
}

#[test]
fn a_repeated_wall_time_fires_once_the_first_time() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        following(&daily, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    let half_hours = schedule("*/30 * * * *", "Europe/Berlin");
    assert_eq!(
        following(&half_hours, "2026-10-25T00:10:00Z", 3),
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z"
        ]
    );
}

#[test]
fn a_skipped_day_fires_when_the_next_day_begins() {
    let noon = schedule("0 12 30 12 *", "Pacific/Apia");
    assert_eq!(
        following(&noon, "2011-12-01T00:00:00Z", 1),
        ["2011-12-30T10:00:00Z"]
    );
}

#[test]
fn half_an_hour_of_daylight_saving_is_half_an_hour() {
    let daily = schedule("15 2 * * *", "Australia/Lord_Howe");
    assert_eq!(
        following(&daily, "2026-10-03T00:00:00Z", 2),
        ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]
    );
}

#[test]
fn the_leap_day_is_found_across_a_century_without_one() {
    let leap = schedule("0 0 29 2 *", "UTC");
    assert_eq!(
        following(&leap, "2096-03-01T00:00:00Z", 1),
        ["2104-02-29T00:00:00Z"]
    );
}

#[test]
fn what_cannot_be_served_is_named() {
    let error = |cron: &str, zone: &str| parse(cron, zone).unwrap_err();
    for cron in [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "61 * * * *",
        "x * * * *",
        "* * * * * 2026",
        "* *\t* * *",
        &"*,".repeat(100),
    ] {
        assert!(
            matches!(error(cron, "UTC"), ScheduleError::Cron(_)),
            "{cron}"
        );
    }
    for cron in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
        assert_eq!(error(cron, "UTC"), ScheduleError::Never);
    }
    for zone in [
        "",
        "Berlin",
        "europe/berlin",
        "+02:00",
        "EST5EDT,M3.2.0,M11.1.0",
        "../etc/passwd",
        "Etc/Unknown",
    ] {
        assert!(
            matches!(error("* * * * *", zone), ScheduleError::UnknownZone(_)),
            "{zone}"
        );
    }
}

/// Every minute of the year, asked of jiff alone: which wall times match, and when do they come to pass?
fn brute_force(minute: i8, hour: i8, zone: &str, year: i16) -> Vec<UnixSeconds> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let date = civil::date(year, 1, 1);
    let mut expected: Vec<_> = date
        .series(jiff::Span::new().days(1))
        .take_while(|date| date.year() == year)
        .map(|date| first_instant_at_or_after(&zone, date.at(hour, minute, 0, 0)))
        .collect();
    expected.dedup();
    expected
}

/// Walks the real minutes around a wall time and returns the first whose wall clock has reached it.
fn first_instant_at_or_after(zone: &TimeZone, wall: civil::DateTime) -> UnixSeconds {
    let guess = TimeZone::UTC.to_timestamp(wall).unwrap().as_second();
    let start = guess - 40 * 3600;
    let mut second = start;
    loop {
        let shown = zone.to_datetime(Timestamp::from_second(second).unwrap());
        if shown >= wall {
            return u64::try_from(second).unwrap();
        }
        second += 60;
    }
}

#[test]
fn a_year_matches_brute_force_in_every_kind_of_zone() {
    for (zone, year) in [
        ("Europe/Berlin", 2026),
        ("America/New_York", 2026),
        ("Asia/Kolkata", 2026),
        ("Pacific/Apia", 2011),
        ("Australia/Lord_Howe", 2026),
    ] {
        for (hour, minute) in [(0, 0), (1, 30), (2, 0), (2, 15), (2, 59), (3, 0), (16, 0)] {
            let schedule = schedule(&format!("{minute} {hour} * * *"), zone);
            let expected = brute_force(minute, hour, zone, year);
            let before = expected.first().unwrap() - 1;
            let found: Vec<_> =
                std::iter::successors(Some(before), |at| schedule.next_after(*at).ok())
                    .skip(1)
                    .take(expected.len())
                    .collect();
            assert_eq!(found, expected, "{hour}:{minute} in {zone}");
        }
    }
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Pacific/Apia",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "UTC",
    ])
}

fn crons() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "* * * * *",
        "*/7 1-3 * * *",
        "0 16 * * MON-FRI",
        "30 2 * * 7",
        "0 0 L * *",
        "15 2 1 * 1#1",
        "59 23 31 12 *",
    ])
}

#[test]
fn a_market_counts_open_days_only() {
    let noon = at_market("0 12 * * *", "", "XNYS").unwrap();
    assert_eq!(
        following(&noon, "2026-04-01T16:00:00Z", 3),
        [
            "2026-04-02T16:00:00Z",
            "2026-04-06T16:00:00Z",
            "2026-04-07T16:00:00Z"
        ],
        "Good Friday and a weekend are left out"
    );
    // 01:00 in Tokyo on Saturday is Friday in New York.
    let tokyo = at_market("0 1 * * *", "Asia/Tokyo", "XNYS").unwrap();
    assert_eq!(
        following(&tokyo, "2026-03-12T17:00:00Z", 2),
        ["2026-03-13T16:00:00Z", "2026-03-16T16:00:00Z"]
    );
}

#[test]
fn opening_and_closing_follow_early_closes() {
    let close = at_market("close", "", "XNYS").unwrap();
    let before = at_market("close-30", "", "XNYS").unwrap();
    let late = at_market("open+300", "", "XNYS").unwrap();
    let open = at_market("open", "", "XNYS").unwrap();
    let from = "2026-11-25T21:00:00Z";
    assert_eq!(
        following(&close, from, 2),
        ["2026-11-27T18:00:00Z", "2026-11-30T21:00:00Z"]
    );
    assert_eq!(
        following(&before, from, 2),
        ["2026-11-27T17:30:00Z", "2026-11-30T20:30:00Z"]
    );
    assert_eq!(
        following(&late, from, 1),
        ["2026-11-30T19:30:00Z"],
        "the short day is over by then"
    );
    assert_eq!(
        following(&open, from, 2),
        ["2026-11-27T14:30:00Z", "2026-11-30T14:30:00Z"]
    );
}

#[test]
fn every_two_hours_while_the_market_is_open() {
    let two_hours = every(7_200, "XNYS", 0);
    assert_eq!(
        following(&two_hours, "2026-11-25T18:30:00Z", 4),
        [
            "2026-11-25T20:30:00Z",
            "2026-11-27T14:30:00Z",
            "2026-11-27T16:30:00Z",
            "2026-11-30T14:30:00Z"
        ]
    );
    let to_the_end = every(390 * 60, "XNYS", 0);
    assert_eq!(
        following(&to_the_end, "2026-11-25T14:30:00Z", 1),
        ["2026-11-25T21:00:00Z"],
        "the closing counts"
    );
}

#[test]
fn beyond_what_a_calendar_knows_nothing_is_open_and_the_end_says_why() {
    let last = instant("2027-12-31T21:00:00Z");
    let unknown = |schedule: &Schedule, after| match schedule.next_after(after).unwrap_err() {
        End::Unknown { calendar, last } => format!("{calendar} {last}"),
        End::Over => panic!("over"),
    };
    for schedule in [
        at_market("0 12 * * *", "", "XNYS").unwrap(),
        at_market("0 6 1 1 *", "UTC", "XNYS").unwrap(),
        at_market("0 12 * * SUN", "", "XNYS").unwrap(),
        at_market("close", "", "XNYS").unwrap(),
        every(60, "XNYS", 0),
    ] {
        assert_eq!(unknown(&schedule, last), "XNYS 2027-12-31");
        assert_eq!(unknown(&schedule, 1_000_000_000), "XNYS 2027-12-31");
    }
    let sundays = at_market("* * * * SUN", "", "XNYS").unwrap();
    assert_eq!(
        unknown(&sundays, instant("2024-01-02T00:00:00Z")),
        "XNYS 2027-12-31"
    );
    let never = at_market("open+1440", "", "XNYS").unwrap();
    assert_eq!(
        unknown(&never, instant("2024-01-02T00:00:00Z")),
        "XNYS 2027-12-31"
    );
}

#[test]
fn what_a_market_cannot_serve_is_named() {
    let error = |cron: &str, zone: &str, calendar: &str| {
        at_market(cron, zone, calendar).unwrap_err().to_string()
    };
    assert_eq!(
        error("open", "", "XLON"),
        "calendar: XLON is not known to this host"
    );
    assert_eq!(error("open", "UTC", ""), "cron: not five fields");
    assert_eq!(
        error("open", "Nowhere", "XNYS"),
        "timeZone: Nowhere is not an IANA time zone"
    );
    for cron in [
        "open+0",
        "open+01",
        "open+1441",
        "close-",
        "open+-1",
        "close-99999999999999999999",
    ] {
        assert_eq!(error(cron, "", "XNYS"), "cron: 1 to 1440 minutes", "{cron}");
    }
    for cron in ["open-1", "close+1", "Open", " open", "open +1"] {
        assert!(error(cron, "", "XNYS").starts_with("cron: "), "{cron}");
    }
    assert_eq!(
        error("0 0 30 2 *", "", "XNYS"),
        "cron: no date ever matches"
    );
}

#[test]
fn instants_come_once_each_and_only_those_after_the_subscription_count() {
    let three = instants(&[10, 20, 30], 30).unwrap();
    assert_eq!(three.next_after(0), Ok(10));
    assert_eq!(three.next_after(10), Ok(20));
    assert_eq!(three.next_after(30), Err(End::Over));
    assert_eq!(
        instants(&[10, 20, 30], 31).unwrap_err(),
        ScheduleError::Past
    );
    let other = Schedule::parse(&TriggerSpec::Request, 0, &bundled());
    assert_eq!(other.unwrap_err(), ScheduleError::NotByTheClock);
}

#[test]
fn intervals_are_counted_from_the_subscription() {
    let minute = every(60, "", 1_000);
    assert_eq!(minute.next_after(0), Ok(1_060));
    assert_eq!(minute.next_after(1_059), Ok(1_060));
    assert_eq!(minute.next_after(1_060), Ok(1_120));
    let never = every(u64::MAX, "", 1_000);
    assert_eq!(never.next_after(0), Err(End::Over));
    assert_eq!(
        every(u64::MAX / 2, "", 5).next_after(u64::MAX - 1),
        Err(End::Over)
    );
}

/// Minute by minute, from the calendar's own sessions: which minutes count?
fn minutes(
    calendar: &Calendar,
    from: UnixSeconds,
    counts: impl Fn(&Session, UnixSeconds) -> bool,
) -> Vec<UnixSeconds> {
    (from / 60 + 1..(from + 20 * 86_400) / 60)
        .map(|minute| minute * 60)
        .filter(|at| {
            calendar
                .session_on(*at)
                .is_some_and(|session| counts(&session, *at))
        })
        .collect()
}

proptest! {
    #[test]
    fn sessions_match_brute_force(
        name in prop::sample::select(vec!["XNYS", "TARGET"]),
        start in 1_704_200_000_u64..1_828_000_000,
        minute in 1_u64..1_000,
    ) {
        let calendars = bundled();
        let calendar = calendars.get(name).unwrap();
        let seconds = minute * 60;
        let found = |schedule: Schedule, count: usize| -> Vec<_> {
            std::iter::successors(Some(start), |at| schedule.next_after(*at).ok()).skip(1).take(count).collect()
        };
        let within = |at, session: &Session| (session.open..=session.close).contains(&at);
        let expected = minutes(calendar, start, |session, at| within(at, session) && (at - session.open).is_multiple_of(seconds));
        prop_assert_eq!(found(every(seconds, name, 0), expected.len()), expected);
        let expected = minutes(calendar, start, |session, at| within(at, session) && at == session.open + seconds);
        prop_assert_eq!(found(at_market(&format!("open+{minute}"), "", name).unwrap(), expected.len()), expected);
        let expected = minutes(calendar, start, |session, at| within(at, session) && at + seconds == session.close);
        prop_assert_eq!(found(at_market(&format!("close-{minute}"), "", name).unwrap(), expected.len()), expected);
        let expected = minutes(calendar, start, |_, at| at.is_multiple_of(3_600));
        prop_assert_eq!(found(at_market("0 * * * *", "UTC", name).unwrap(), expected.len()), expected);
    }

    #[test]
    fn any_text_at_a_market_is_served_later_or_refused(cron in "(open|close|[0-9*, ]{0,9})[+-]?[0-9]{0,5}", at: u64, seconds in 1_u64..) {
        for schedule in [at_market(&cron, "", "XNYS"), Ok(every(seconds, "XNYS", 0)), Ok(every(seconds, "", at))].into_iter().flatten() {
            for at in [at, at % 2_000_000_000] {
                if let Ok(next) = schedule.next_after(at) {
                    prop_assert!(next > at);
                }
            }
        }
    }

    #[test]
    fn occurrences_increase_and_none_is_skipped(
        cron in crons(),
        zone in zones(),
        start in 1_300_000_000_u64..2_500_000_000,
        back in 0_u64..100_000,
    ) {
        let schedule = schedule(cron, zone);
        let next = schedule.next_after(start).unwrap();
        prop_assert!(next > start);
        prop_assert_eq!(next % 60, 0);
        // From any earlier moment, walking on arrives at the same occurrence.
        let earlier = start - back.min(start);
        let walked = std::iter::successors(schedule.next_after(earlier).ok(), |at| schedule.next_after(*at).ok())
            .find(|at| *at > start);
        prop_assert_eq!(walked, Some(next));
    }

    #[test]
    fn arbitrary_text_never_panics(cron in "\\PC{0,140}", zone in "\\PC{0,70}", at: u64) {
        let _ = parse(&cron, "UTC");
        let _ = parse("* * * * *", &zone);
        let _ = schedule("0 0 29 2 *", "UTC").next_after(at);
    }

    #[test]
    fn cron_like_text_never_panics(cron in "[0-9*,/#A-Z-]{1,4}( [0-9*,/#LWA-Z-]{1,6}){4}", at in 0_u64..5_000_000_000) {
        let schedule = parse(&cron, "Europe/Berlin");
        if let Some(next) = schedule.ok().and_then(|schedule| schedule.next_after(at).ok()) {
            prop_assert!(next > at);
        }
    }
}
