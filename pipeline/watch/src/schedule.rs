//! A cron expression on a market's wall clock as a strictly increasing sequence of instants.
//!
//! Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday), with `*`, lists, ranges,
//! steps and English three-letter names; and croner's `L` (last), `W` (weekday nearest), `#` (nth). Where both
//! days are restricted, either may match, as in Vixie cron.
//!
//! The expression matches wall-clock time in an IANA zone. A wall time that does not exist (clocks go forward, or
//! a zone skips a day) fires at the first instant after the gap; one that exists twice (clocks go back) fires
//! once, at the first. Several wall times that fall on one instant are one occurrence. The zone rules are those
//! bundled with this program, never the machine's, so that two hosts of one version agree.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use cryptlet_types::{ClockSpec, UnixSeconds, bounded::clip};
use jiff::{
    Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

/// Longest cron expression, in bytes.
const MAX_CRON_BYTES: usize = 128;
/// Longest zone name, in bytes. IANA's longest has 32.
const MAX_ZONE_BYTES: usize = 64;

/// Why a schedule cannot be served. The subscription is final: no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression is not one of five known fields.
    #[error("cron: {0}")]
    Cron(String),
    /// No day of any year matches, for example 30 February.
    #[error("cron: no date ever matches")]
    Never,
    /// The zone is not in the IANA database.
    #[error("timeZone: {0} is not an IANA time zone")]
    UnknownZone(String),
}

impl ScheduleError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// When a subscription is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads the schedule that a contract asked for.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn parse(spec: &ClockSpec) -> Result<Self, ScheduleError> {
        let cron = parse_cron(&spec.cron)?;
        let zone = parse_zone(&spec.time_zone)?;
        Ok(Self { cron, zone })
    }

    /// The first occurrence later than `after`; `None` if there is none before the year 5000.
    #[must_use]
    pub fn next_after(&self, after: UnixSeconds) -> Option<UnixSeconds> {
        let after = Timestamp::from_second(i64::try_from(after).ok()?).ok()?;
        let mut wall = to_chrono(self.zone.to_datetime(after))?;
        // More than one step only where a wall time repeats: those before `after` fired in the first pass.
        loop {
            wall = self
                .cron
                .find_next_occurrence(&wall, false)
                .ok()
                .filter(|next| *next > wall)?;
            let instant = self.resolve(to_civil(wall.naive_utc())?)?;
            if instant > after {
                return UnixSeconds::try_from(instant.as_second()).ok();
            }
        }
    }

    /// The instant of a wall time. It never decreases as the wall time grows.
    fn resolve(&self, wall: civil::DateTime) -> Option<Timestamp> {
        let at = |offset: jiff::tz::Offset| offset.to_timestamp(wall).ok();
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } => at(before),
            // The offset after the gap puts the missing wall time shortly before the transition.
            AmbiguousOffset::Gap { after, .. } => self
                .zone
                .following(at(after)?)
                .next()
                .map(|transition| transition.timestamp()),
        }
    }
}

fn parse_cron(text: &str) -> Result<Cron, ScheduleError> {
    let refuse = |reason: &str| ScheduleError::Cron(reason.to_owned());
    if text.len() > MAX_CRON_BYTES {
        return Err(refuse("longer than 128 bytes"));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || " *,-/#".contains(c);
    if !text.chars().all(known) {
        return Err(refuse("unknown character"));
    }
    if text.split(' ').filter(|field| !field.is_empty()).count() != 5 {
        return Err(refuse("not five fields"));
    }
    let parse = |text: &str, seconds, year| {
        CronParser::builder()
            .seconds(seconds)
            .year(year)
            .build()
            .parse(text)
            .map_err(|error| ScheduleError::Cron(clip(&error.to_string())))
    };
    let cron = parse(text, Seconds::Disallowed, Year::Disallowed)?;
    // Thirty years hold every date that exists; without them croner would search for an impossible one, day by
    // day, until the year 5000.
    let bounded = format!("0 {text} 1970-1999");
    let soon = parse(&bounded, Seconds::Required, Year::Required)?;
    match soon.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true) {
        Ok(_) => Ok(cron),
        Err(_) => Err(ScheduleError::Never),
    }
}

fn parse_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let unknown = || ScheduleError::UnknownZone(clip(name));
    if name.len() > MAX_ZONE_BYTES || name.eq_ignore_ascii_case("Etc/Unknown") {
        return Err(unknown());
    }
    let zone = TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| unknown())?;
    // Names are compared exactly: `europe/berlin` is not the zone's name.
    (zone.iana_name() == Some(name))
        .then_some(zone)
        .ok_or_else(unknown)
}

/// The wall time as croner takes it: as if it were UTC, so that croner sees no zone.
fn to_chrono(wall: civil::DateTime) -> Option<DateTime<Utc>> {
    let date = chrono::NaiveDate::from_ymd_opt(
        wall.year().into(),
        u32::try_from(wall.month()).ok()?,
        u32::try_from(wall.day()).ok()?,
    )?;
    let time = date.and_hms_opt(
        u32::try_from(wall.hour()).ok()?,
        u32::try_from(wall.minute()).ok()?,
        u32::try_from(wall.second()).ok()?,
    )?;
    Some(time.and_utc())
}

fn to_civil(wall: NaiveDateTime) -> Option<civil::DateTime> {
    civil::DateTime::new(
        i16::try_from(wall.year()).ok()?,
        i8::try_from(wall.month()).ok()?,
        i8::try_from(wall.day()).ok()?,
        i8::try_from(wall.hour()).ok()?,
        i8::try_from(wall.minute()).ok()?,
        i8::try_from(wall.second()).ok()?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule::parse(&spec(cron, zone)).unwrap()
    }

    fn spec(cron: &str, zone: &str) -> ClockSpec {
        ClockSpec {
            cron: cron.into(),
            time_zone: zone.into(),
        }
    }

    fn instant(text: &str) -> UnixSeconds {
        let timestamp: Timestamp = text.parse().unwrap();
        u64::try_from(timestamp.as_second()).unwrap()
    }

    fn following(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        std::iter::successors(Some(instant(after)), |at| schedule.next_after(*at))
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
        let error = |cron: &str, zone: &str| Schedule::parse(&spec(cron, zone)).unwrap_err();
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
                    std::iter::successors(Some(before), |at| schedule.next_after(*at))
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

    proptest! {
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
            let walked = std::iter::successors(schedule.next_after(earlier), |at| schedule.next_after(*at))
                .find(|at| *at > start);
            prop_assert_eq!(walked, Some(next));
        }

        #[test]
        fn arbitrary_text_never_panics(cron in "\\PC{0,140}", zone in "\\PC{0,70}", at: u64) {
            let _ = Schedule::parse(&spec(&cron, "UTC"));
            let _ = Schedule::parse(&spec("* * * * *", &zone));
            let _ = schedule("0 0 29 2 *", "UTC").next_after(at);
        }

        #[test]
        fn cron_like_text_never_panics(cron in "[0-9*,/#A-Z-]{1,4}( [0-9*,/#LWA-Z-]{1,6}){4}", at in 0_u64..5_000_000_000) {
            let schedule = Schedule::parse(&spec(&cron, "Europe/Berlin"));
            if let Some(next) = schedule.ok().and_then(|schedule| schedule.next_after(at)) {
                prop_assert!(next > at);
            }
        }
    }
}
