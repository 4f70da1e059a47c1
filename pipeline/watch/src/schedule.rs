//! When a subscription by the clock is due: strictly increasing sequences of instants.
//!
//! **Cron.** Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday), with `*`, lists, ranges,
//! steps and English three-letter names; and croner's `L` (last), `W` (weekday nearest), `#` (nth). Where both
//! days are restricted, either may match, as in Vixie cron.
//!
//! The expression matches wall-clock time in an IANA zone. A wall time that does not exist (clocks go forward, or
//! a zone skips a day) fires at the first instant after the gap; one that exists twice (clocks go back) fires
//! once, at the first. Several wall times that fall on one instant are one occurrence. The zone rules are those
//! bundled with this program, never the machine's, so that two hosts of one version agree.
//!
//! **With a calendar** only instants count whose date, in the calendar's zone, is an open day. Instead of a cron expression there
//! may stand `open`, `close`, `open+MINUTES` or `close-MINUTES` (1 to 1440): moments of each session, wherever an early close
//! leaves them within it.
//!
//! **Intervals.** Without a calendar the first moment is one interval after the subscription's block; with one they are counted
//! from each session's opening, that moment and the closing included.
//!
//! A calendar knows some years only. What lies beyond is neither open nor closed: the schedule ends there, with
//! [`End::Unknown`].

use crate::{Calendar, Calendars, calendar::Session, zone};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use cryptlet_types::{
    TriggerSpec, UnixSeconds,
    bounded::clip,
    subscription::{IntervalSpec, ScheduleSpec},
};
use jiff::{
    civil::{self, Date},
    tz::TimeZone,
};
use std::sync::Arc;

/// Longest cron expression, in bytes.
const MAX_CRON_BYTES: usize = 128;
/// Most minutes after the opening or before the closing.
const MAX_MINUTES: u64 = 1_440;

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
    /// No calendar of that name is known.
    #[error("calendar: {0} is not known to this host")]
    UnknownCalendar(String),
    /// All moments lie before the subscription.
    #[error("instants: all of them before the subscription")]
    Past,
    /// Nothing of it is due in the years that the calendar knows.
    #[error("calendar: {0}")]
    Ended(End),
    /// It is no trigger by the clock.
    #[error("trigger: not by the clock")]
    NotByTheClock,
}

impl ScheduleError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Why a schedule has no further moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// There is none.
    #[error("nothing more is due")]
    Over,
    /// Nobody knows: a calendar's data begin later, or end.
    #[error("{calendar} is known only until {last}, and nothing more is due within its dates")]
    Unknown {
        /// The calendar.
        calendar: String,
        /// The last date that it knows.
        last: Date,
    },
}

/// When a subscription is due.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// By a wall clock.
    Wall(WallClock),
    /// By a wall clock, on a market's open days.
    OpenDays(WallClock, Arc<Calendar>),
    /// At a moment of each session.
    Sessions(Moment, Arc<Calendar>),
    /// Every so many seconds of each session, from its opening.
    InSessions(u64, Arc<Calendar>),
    /// Every so many seconds, from the first moment on.
    Every {
        /// The first moment.
        first: UnixSeconds,
        /// Seconds between two, at least 1.
        seconds: u64,
    },
    /// At these, ascending.
    Instants(Box<[UnixSeconds]>),
}

/// A moment of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So many seconds after it opens.
    AfterOpen(u64),
    /// So many seconds before it closes.
    BeforeClose(u64),
}

impl Schedule {
    /// Reads the schedule that a contract asked for in a block of time `since`.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn parse(
        trigger: &TriggerSpec,
        since: UnixSeconds,
        calendars: &Calendars,
    ) -> Result<Self, ScheduleError> {
        match trigger {
            TriggerSpec::Clock(spec) => {
                Ok(Self::Wall(WallClock::parse(&spec.cron, &spec.time_zone)?))
            }
            TriggerSpec::Instants(spec) => match spec.instants.last() {
                Some(last) if *last >= since => Ok(Self::Instants(spec.instants.as_slice().into())),
                _ => Err(ScheduleError::Past),
            },
            TriggerSpec::Schedule(spec) => Self::by_calendar(spec, calendars),
            TriggerSpec::Interval(spec) => Self::interval(spec, since, calendars),
            _ => Err(ScheduleError::NotByTheClock),
        }
    }

    fn by_calendar(spec: &ScheduleSpec, calendars: &Calendars) -> Result<Self, ScheduleError> {
        if spec.calendar.is_empty() {
            let wall = WallClock::parse(&spec.cron, &spec.time_zone)?;
            return Ok(Self::Wall(wall));
        }
        let calendar = known(&spec.calendar, calendars)?;
        let zone = match spec.time_zone.as_str() {
            "" => calendar.zone().clone(),
            name => parse_zone(name)?,
        };
        if let Some(moment) = Moment::parse(&spec.cron)? {
            return Ok(Self::Sessions(moment, calendar));
        }
        let cron = parse_cron(&spec.cron)?;
        Ok(Self::OpenDays(WallClock { cron, zone }, calendar))
    }

    fn interval(
        spec: &IntervalSpec,
        since: UnixSeconds,
        calendars: &Calendars,
    ) -> Result<Self, ScheduleError> {
        let seconds = spec.seconds.max(1);
        if spec.calendar.is_empty() {
            let first = since.saturating_add(seconds);
            return Ok(Self::Every { first, seconds });
        }
        let calendar = known(&spec.calendar, calendars)?;
        Ok(Self::InSessions(seconds, calendar))
    }

    /// The first occurrence later than `after`. Nothing is known after the year 4999, where time ends.
    ///
    /// # Errors
    /// There is none, or a calendar does not know.
    pub fn next_after(&self, after: UnixSeconds) -> Result<UnixSeconds, End> {
        match self {
            Self::Wall(wall) => wall.next_after(after).ok_or(End::Over),
            Self::OpenDays(wall, calendar) => next_open(wall, calendar, after),
            Self::Sessions(moment, calendar) => {
                next_of(calendar, after, |session| moment.of(session))
            }
            Self::InSessions(seconds, calendar) => next_of(calendar, after, |session| {
                next_in_phase(session.open, *seconds, after).filter(|at| *at <= session.close)
            }),
            Self::Every { first, seconds } => {
                next_in_phase(*first, *seconds, after).ok_or(End::Over)
            }
            Self::Instants(instants) => {
                let place = instants.partition_point(|at| *at <= after);
                instants.get(place).copied().ok_or(End::Over)
            }
        }
    }
}

/// The first of `first`, `first + seconds`, … that is later than `after`.
pub(crate) fn next_in_phase(
    first: UnixSeconds,
    seconds: u64,
    after: UnixSeconds,
) -> Option<UnixSeconds> {
    let Some(passed) = after.checked_sub(first) else {
        return Some(first).filter(|first| *first != UnixSeconds::MAX);
    };
    let steps = passed.checked_div(seconds)?.checked_add(1)?;
    let next = first.checked_add(steps.checked_mul(seconds)?)?;
    Some(next).filter(|next| *next != UnixSeconds::MAX)
}

/// The first match on an open day. Closed days are leapt over, so that there are no more steps than days.
fn next_open(
    wall: &WallClock,
    calendar: &Calendar,
    mut after: UnixSeconds,
) -> Result<UnixSeconds, End> {
    loop {
        let next = wall.next_after(after).ok_or(End::Over)?;
        if !calendar.known().contains(&next) {
            return Err(unknown(calendar));
        }
        if calendar.session_on(next).is_some() {
            return Ok(next);
        }
        let day = calendar.next_open_day(next);
        after = day.ok_or_else(|| unknown(calendar))?.saturating_sub(1);
    }
}

/// The first moment later than `after` that `moment` finds in a session.
fn next_of(
    calendar: &Calendar,
    after: UnixSeconds,
    moment: impl Fn(&Session) -> Option<UnixSeconds>,
) -> Result<UnixSeconds, End> {
    if after.saturating_add(1) < calendar.known().start {
        return Err(unknown(calendar));
    }
    let mut moments = calendar.sessions_from(after).iter().filter_map(moment);
    moments
        .find(|at| *at > after)
        .ok_or_else(|| unknown(calendar))
}

fn unknown(calendar: &Calendar) -> End {
    End::Unknown {
        calendar: calendar.name().to_owned(),
        last: calendar.last_date(),
    }
}

fn known(name: &str, calendars: &Calendars) -> Result<Arc<Calendar>, ScheduleError> {
    let known = calendars.get(name).cloned();
    known.ok_or_else(|| ScheduleError::UnknownCalendar(clip(name)))
}

impl Moment {
    /// None, if it is to be read as a cron expression.
    fn parse(text: &str) -> Result<Option<Self>, ScheduleError> {
        let seconds = |minutes: &str| {
            let read = minutes.parse::<u64>().ok();
            let read = read.filter(|read| read.to_string() == minutes);
            let read = read.filter(|read| (1..=MAX_MINUTES).contains(read));
            let refused = || ScheduleError::Cron("1 to 1440 minutes".into());
            read.map(|read| read * 60).ok_or_else(refused)
        };
        Ok(match text {
            "open" => Some(Self::AfterOpen(0)),
            "close" => Some(Self::BeforeClose(0)),
            _ => match (text.strip_prefix("open+"), text.strip_prefix("close-")) {
                (Some(minutes), _) => Some(Self::AfterOpen(seconds(minutes)?)),
                (_, Some(minutes)) => Some(Self::BeforeClose(seconds(minutes)?)),
                _ => None,
            },
        })
    }

    fn of(self, session: &Session) -> Option<UnixSeconds> {
        let at = match self {
            Self::AfterOpen(seconds) => session.open.checked_add(seconds)?,
            Self::BeforeClose(seconds) => session.close.checked_sub(seconds)?,
        };
        (session.open..=session.close).contains(&at).then_some(at)
    }
}

/// A cron expression on a zone's wall clock. Its text is kept and parsed when it is asked, in microseconds: parsed, it would take
/// six thousand bytes, and anyone may subscribe with expressions of their own.
#[derive(Clone, Debug)]
pub struct WallClock {
    cron: Box<str>,
    zone: TimeZone,
}

impl WallClock {
    /// Reads an expression and a zone's name.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let cron = parse_cron(cron)?;
        let zone = parse_zone(time_zone)?;
        Ok(Self { cron, zone })
    }

    /// The first occurrence later than `after`; `None` if there is none before the year 5000.
    #[must_use]
    pub fn next_after(&self, after: UnixSeconds) -> Option<UnixSeconds> {
        let after = zone::timestamp(after)?;
        let cron = read_cron(&self.cron, Seconds::Disallowed, Year::Disallowed).ok()?;
        let mut wall = to_chrono(self.zone.to_datetime(after))?;
        // More than one step only where a wall time repeats: those before `after` fired in the first pass.
        loop {
            wall = cron
                .find_next_occurrence(&wall, false)
                .ok()
                .filter(|next| *next > wall)?;
            let instant = zone::resolve(&self.zone, to_civil(wall.naive_utc())?)?;
            if instant > after {
                return zone::seconds(instant);
            }
        }
    }
}

fn parse_cron(text: &str) -> Result<Box<str>, ScheduleError> {
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
    read_cron(text, Seconds::Disallowed, Year::Disallowed)?;
    // Thirty years hold every date that exists; without them croner would search for an impossible one, day by
    // day, until the year 5000.
    let bounded = format!("0 {text} 1970-1999");
    let soon = read_cron(&bounded, Seconds::Required, Year::Required)?;
    match soon.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(ScheduleError::Never),
    }
}

fn read_cron(text: &str, seconds: Seconds, year: Year) -> Result<Cron, ScheduleError> {
    CronParser::builder()
        .seconds(seconds)
        .year(year)
        .build()
        .parse(text)
        .map_err(|error| ScheduleError::Cron(clip(&error.to_string())))
}

fn parse_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    zone::named(name).ok_or_else(|| ScheduleError::UnknownZone(clip(name)))
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
mod tests;
