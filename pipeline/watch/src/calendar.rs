//! Markets' calendars, by data: on which days a market is open, from when until when.
//!
//! A calendar is a JSON document of at most [`MAX_CALENDAR_BYTES`], no field unknown and none missing:
//!
//! ```json
//! {
//!   "schema": "bletchley/calendar/v1",
//!   "name": "XNYS",
//!   "title": "New York Stock Exchange",
//!   "timeZone": "America/New_York",
//!   "from": "2024-01-01",
//!   "to": "2027-12-31",
//!   "sessions": [{"day": "monday", "open": "09:30", "close": "16:00"}],
//!   "holidays": ["2024-01-01"],
//!   "earlyCloses": [{"date": "2024-07-03", "close": "13:00"}]
//! }
//! ```
//!
//! - `name`: 1 to 32 letters, digits, `-`, `_`, `.` (ASCII); what subscriptions call it. `title`: for people, 1 to 128 bytes.
//! - `from`, `to`: the first and the last date for which the document is complete, at most [`MAX_YEARS`] years apart. About other
//!   dates it says nothing, and then neither does a schedule that needs it: it ends with an error that names the calendar.
//! - `sessions`: one for each day of the week on which the market is open, from Monday on; wall time of `timeZone`, `HH:MM`, `open`
//!   before `close`. A session lies within one day.
//! - `holidays`: dates without a session on days that would have one, ascending.
//! - `earlyCloses`: dates whose session closes before its time, ascending.
//!
//! What contradicts itself is refused, with the name of the field: a holiday on a Sunday, an early close on a holiday.

use crate::zone;
use cryptlet_types::{UnixSeconds, bounded::clip};
use jiff::{
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest calendar, in bytes.
pub const MAX_CALENDAR_BYTES: usize = 256 << 10;
/// Most years that one calendar covers.
pub const MAX_YEARS: i16 = 50;
/// Most calendars in an operator's folder.
const MAX_CALENDARS: usize = 1_000;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 32;
/// Longest title, in bytes.
const MAX_TITLE_BYTES: usize = 128;
const SCHEMA: &str = "bletchley/calendar/v1";

const BUNDLED: [&str; 2] = [
    include_str!("../../../data/calendars/TARGET.json"),
    include_str!("../../../data/calendars/XNYS.json"),
];

/// Why a calendar cannot be used. No retry helps: its text has to be another.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    /// It is no such document.
    #[error("calendar: {0}")]
    Malformed(String),
    /// A field has a value that means nothing.
    #[error("calendar.{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is one of that name already.
    #[error("calendar.name: {0} is taken")]
    Taken(String),
    /// A file of the folder cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file, or the folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl CalendarError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// From when until when a market is open on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The day in the calendar's zone.
    pub date: Date,
    /// When it opens.
    pub open: UnixSeconds,
    /// When it closes.
    pub close: UnixSeconds,
}

/// A market's open days.
#[derive(Debug)]
pub struct Calendar {
    name: String,
    title: String,
    zone: TimeZone,
    to: Date,
    known: Range<UnixSeconds>,
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    schema: String,
    name: String,
    title: String,
    time_zone: String,
    from: String,
    to: String,
    sessions: Vec<WeeklySession>,
    holidays: Vec<String>,
    early_closes: Vec<EarlyClose>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeeklySession {
    day: Day,
    open: String,
    close: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlyClose {
    date: String,
    close: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Calendar {
    /// Reads a calendar.
    ///
    /// # Errors
    /// Names the field that is missing, unknown, malformed, or contradicts another.
    pub fn parse(text: &[u8]) -> Result<Self, CalendarError> {
        if text.len() > MAX_CALENDAR_BYTES {
            let reason = format!("{} bytes, at most {MAX_CALENDAR_BYTES}", text.len());
            return Err(CalendarError::Malformed(reason));
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| CalendarError::Malformed(clip(&error.to_string())))?;
        check_names(&document)?;
        let zone = zone::named(&document.time_zone)
            .ok_or_else(|| field("timeZone", "not an IANA time zone"))?;
        let (from, to) = range(&document)?;
        let hours = Hours::read(&document, &(from..=to))?;
        let mut sessions = Vec::new();
        let mut date = from;
        while date <= to {
            if let Some((open, close)) = hours.of(date) {
                let open = instant(&zone, date, open)?;
                let close = instant(&zone, date, close)?;
                // The change of the clocks can swallow a short session.
                if open < close {
                    sessions.push(Session { date, open, close });
                }
            }
            date = tomorrow(date)?;
        }
        let known = instant(&zone, from, Time::MIN)?..instant(&zone, date, Time::MIN)?;
        Ok(Self {
            name: document.name,
            title: document.title,
            zone,
            to,
            known,
            sessions,
        })
    }

    /// What subscriptions call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What people call it.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The last date about which it says anything.
    #[must_use]
    pub fn last_date(&self) -> Date {
        self.to
    }

    /// From when until before when it says anything.
    #[must_use]
    pub fn known(&self) -> Range<UnixSeconds> {
        self.known.clone()
    }

    /// All sessions, in order.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// The session of the day in which `at` lies, if that day has one and the calendar knows.
    #[must_use]
    pub fn session_on(&self, at: UnixSeconds) -> Option<Session> {
        let date = self.zone.to_datetime(zone::timestamp(at)?).date();
        let place = self
            .sessions
            .binary_search_by_key(&date, |session| session.date)
            .ok()?;
        self.sessions.get(place).copied()
    }

    /// The sessions that close at `at` or later, in order.
    pub(crate) fn sessions_from(&self, at: UnixSeconds) -> &[Session] {
        let place = self.sessions.partition_point(|session| session.close < at);
        self.sessions.get(place..).unwrap_or_default()
    }

    /// When the first day begins, later than the one in which `at` lies, that has a session.
    pub(crate) fn next_open_day(&self, at: UnixSeconds) -> Option<UnixSeconds> {
        let date = self.zone.to_datetime(zone::timestamp(at)?).date();
        let place = self
            .sessions
            .partition_point(|session| session.date <= date);
        let day = self.sessions.get(place)?.date;
        instant(&self.zone, day, Time::MIN).ok()
    }

    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// Opening hours by date.
struct Hours {
    weekly: [Option<(Time, Time)>; 7],
    holidays: BTreeSet<Date>,
    early: BTreeMap<Date, Time>,
}

impl Hours {
    fn read(
        document: &Document,
        range: &std::ops::RangeInclusive<Date>,
    ) -> Result<Self, CalendarError> {
        let weekly = weekly(&document.sessions)?;
        let mut hours = Self {
            weekly,
            holidays: BTreeSet::new(),
            early: BTreeMap::new(),
        };
        for text in &document.holidays {
            let date = within("holidays", text, range)?;
            if hours.of(date).is_none() {
                return Err(field(
                    "holidays",
                    format!("{date} has no session to be left out"),
                ));
            }
            if hours.holidays.last().is_some_and(|last| *last >= date) {
                return Err(field("holidays", "not ascending"));
            }
            hours.holidays.insert(date);
        }
        for EarlyClose { date, close } in &document.early_closes {
            let date = within("earlyCloses", date, range)?;
            let early = time("earlyCloses", close)?;
            if hours
                .early
                .keys()
                .next_back()
                .is_some_and(|last| *last >= date)
            {
                return Err(field("earlyCloses", "not ascending"));
            }
            match hours.of(date) {
                Some((open, close)) if open < early && early < close => {
                    hours.early.insert(date, early);
                }
                _ => {
                    let reason = format!("{date} has no session in which {close} lies");
                    return Err(field("earlyCloses", reason));
                }
            }
        }
        Ok(hours)
    }

    fn of(&self, date: Date) -> Option<(Time, Time)> {
        if self.holidays.contains(&date) {
            return None;
        }
        let (open, close) = (*self.weekly.get(place(date.weekday()))?)?;
        Some((open, self.early.get(&date).copied().unwrap_or(close)))
    }
}

fn place(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

fn weekly(sessions: &[WeeklySession]) -> Result<[Option<(Time, Time)>; 7], CalendarError> {
    let mut weekly = [None; 7];
    let mut next = 0;
    for session in sessions {
        let day = session.day as usize;
        if day < next {
            return Err(field("sessions", "one for a day, from Monday on"));
        }
        next = day + 1;
        let open = time("sessions.open", &session.open)?;
        let close = time("sessions.close", &session.close)?;
        if open >= close {
            return Err(field("sessions.close", "not later than it opens"));
        }
        if let Some(hours) = weekly.get_mut(day) {
            *hours = Some((open, close));
        }
    }
    if next == 0 {
        return Err(field("sessions", "none"));
    }
    Ok(weekly)
}

fn check_names(document: &Document) -> Result<(), CalendarError> {
    if document.schema != SCHEMA {
        return Err(field("schema", format!("not {SCHEMA}")));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = &document.name;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(known) {
        return Err(field("name", "1 to 32 letters, digits, -, _ or ."));
    }
    let title = &document.title;
    if title.is_empty() || title.len() > MAX_TITLE_BYTES || title.chars().any(char::is_control) {
        return Err(field("title", "1 to 128 bytes of text"));
    }
    Ok(())
}

fn range(document: &Document) -> Result<(Date, Date), CalendarError> {
    let (from, to) = (date("from", &document.from)?, date("to", &document.to)?);
    if from > to {
        return Err(field("to", "before from"));
    }
    if from.year() < 1970 {
        return Err(field("from", "before 1970"));
    }
    if to.year() - from.year() >= MAX_YEARS {
        return Err(field("to", "more than 50 years after from"));
    }
    Ok((from, to))
}

fn within(
    name: &'static str,
    text: &str,
    range: &std::ops::RangeInclusive<Date>,
) -> Result<Date, CalendarError> {
    let date = date(name, text)?;
    if range.contains(&date) {
        Ok(date)
    } else {
        Err(field(name, format!("{date} is not within from and to")))
    }
}

/// `YYYY-MM-DD`, and nothing else that could be read as a date.
fn date(name: &'static str, text: &str) -> Result<Date, CalendarError> {
    let read = text.parse::<Date>().ok();
    read.filter(|date| date.to_string() == text)
        .ok_or_else(|| field(name, format!("{} is no date (YYYY-MM-DD)", clip(text))))
}

/// `HH:MM`.
fn time(name: &'static str, text: &str) -> Result<Time, CalendarError> {
    let read = Time::strptime("%H:%M", text).ok();
    read.filter(|time| time.strftime("%H:%M").to_string() == text)
        .ok_or_else(|| field(name, format!("{} is no time (HH:MM)", clip(text))))
}

fn tomorrow(date: Date) -> Result<Date, CalendarError> {
    date.tomorrow().map_err(|_| field("to", "the last date"))
}

fn instant(zone: &TimeZone, date: Date, time: Time) -> Result<UnixSeconds, CalendarError> {
    zone::resolve(zone, date.to_datetime(time))
        .and_then(zone::seconds)
        .ok_or_else(|| field("from", format!("{date} cannot be told in seconds")))
}

fn field(field: &'static str, reason: impl Into<String>) -> CalendarError {
    let reason = reason.into();
    CalendarError::Field { field, reason }
}

/// The calendars that a host knows.
#[derive(Clone, Debug, Default)]
pub struct Calendars {
    by_name: BTreeMap<String, Arc<Calendar>>,
}

impl Calendars {
    /// Those that come with this program: `TARGET` and `XNYS`.
    ///
    /// # Errors
    /// Never for the files that this program was built with; a test reads them.
    pub fn bundled() -> Result<Self, CalendarError> {
        let mut calendars = Self::default();
        for text in BUNDLED {
            calendars.add(Calendar::parse(text.as_bytes())?)?;
        }
        Ok(calendars)
    }

    /// Adds one.
    ///
    /// # Errors
    /// Its name is taken.
    pub fn add(&mut self, calendar: Calendar) -> Result<(), CalendarError> {
        if self.by_name.contains_key(calendar.name()) {
            return Err(CalendarError::Taken(calendar.name));
        }
        let name = calendar.name.clone();
        self.by_name.insert(name, Arc::new(calendar));
        Ok(())
    }

    /// Adds those of an operator: every file of `folder` whose name ends in `.json`. All or none.
    ///
    /// # Errors
    /// Names the file that cannot be read, is no calendar, or has a name that is taken.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), CalendarError> {
        let mut all = self.clone();
        for path in json_files(folder)? {
            let added = read(&path)
                .and_then(|text| Calendar::parse(&text))
                .and_then(|calendar| all.add(calendar));
            added.map_err(|error| file(&path, &error.to_string()))?;
        }
        *self = all;
        Ok(())
    }

    /// The calendar of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Calendar>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Calendar> {
        self.by_name.values().map(AsRef::as_ref)
    }
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, CalendarError> {
    let unread = |error: std::io::Error| file(folder, &error.to_string());
    let mut paths = Vec::new();
    for entry in folder.read_dir().map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            paths.push(path);
        }
        if paths.len() > MAX_CALENDARS {
            return Err(file(folder, "more than 1000 calendars"));
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, CalendarError> {
    let mut text = Vec::new();
    // One byte more than is taken tells a text that is too long.
    let most = u64::try_from(MAX_CALENDAR_BYTES).unwrap_or(u64::MAX) + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut text))
        .map_err(|error| CalendarError::Malformed(error.to_string()))?;
    Ok(text)
}

fn file(path: &Path, reason: &str) -> CalendarError {
    CalendarError::File {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
