use super::*;
use jiff::{Span, civil::date};
use proptest::prelude::*;

const XNYS: &str = include_str!("../../../../data/calendars/XNYS.json");
const RATES: &str = include_str!("../../../../data/ecb-reference-rates.csv");

fn bundled(name: &str) -> Arc<Calendar> {
    Calendars::bundled().unwrap().get(name).unwrap().clone()
}

fn days(from: Date, to: Date) -> impl Iterator<Item = Date> {
    from.series(Span::new().days(1))
        .take_while(move |day| *day <= to)
}

fn closed_weekdays(calendar: &Calendar, from: Date, to: Date) -> Vec<Date> {
    let open: BTreeSet<_> = calendar
        .sessions()
        .iter()
        .map(|session| session.date)
        .collect();
    days(from, to)
        .filter(|day| place(day.weekday()) < 5 && !open.contains(day))
        .collect()
}

/// Easter Sunday (Gauss, as corrected by Meeus).
fn easter(year: i16) -> Date {
    let year = i32::from(year);
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e, g) = (b / 4, b % 4, (8 * b + 13) / 25);
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let day = (h + l - 7 * m + 33 * month + 19) % 32;
    Date::new(
        year.try_into().unwrap(),
        month.try_into().unwrap(),
        day.try_into().unwrap(),
    )
    .unwrap()
}

fn nth(year: i16, month: i8, nth: i8, day: Weekday) -> Date {
    date(year, month, 1).nth_weekday_of_month(nth, day).unwrap()
}

/// A Saturday's holiday is kept on Friday, a Sunday's on Monday.
fn observed(day: Date) -> Date {
    match day.weekday() {
        Weekday::Saturday => day.yesterday().unwrap(),
        Weekday::Sunday => day.tomorrow().unwrap(),
        _ => day,
    }
}

#[test]
fn new_york_is_closed_when_the_exchanges_rules_say_so() {
    let mut expected = BTreeSet::from([date(2025, 1, 9)]);
    for year in 2024..=2027 {
        expected.extend([
            nth(year, 1, 3, Weekday::Monday),
            nth(year, 2, 3, Weekday::Monday),
            easter(year).checked_sub(Span::new().days(2)).unwrap(),
            nth(year, 5, -1, Weekday::Monday),
            observed(date(year, 6, 19)),
            observed(date(year, 7, 4)),
            nth(year, 9, 1, Weekday::Monday),
            nth(year, 11, 4, Weekday::Thursday),
            observed(date(year, 12, 25)),
        ]);
        // The year's end is never a holiday: a Saturday's New Year is not made up for.
        if date(year, 1, 1).weekday() != Weekday::Saturday {
            expected.insert(observed(date(year, 1, 1)));
        }
    }
    let calendar = bundled("XNYS");
    let closed = closed_weekdays(&calendar, date(2024, 1, 1), date(2027, 12, 31));
    assert_eq!(closed, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn new_york_closes_early_around_holidays() {
    let calendar = bundled("XNYS");
    let mut expected = BTreeSet::new();
    for year in 2024..=2027 {
        expected.insert(nth(year, 11, 4, Weekday::Thursday).tomorrow().unwrap());
        let fourth = date(year, 7, 4).weekday();
        // Only where the fourth itself is a holiday in the middle of a week is the third a short day.
        if place(fourth) < 5 && fourth != Weekday::Monday {
            expected.insert(date(year, 7, 3));
        }
        let christmas = date(year, 12, 25).weekday();
        if place(christmas) < 5 && christmas != Weekday::Monday {
            expected.insert(date(year, 12, 24));
        }
    }
    let short: Vec<_> = calendar
        .sessions()
        .iter()
        .filter(|session| session.close - session.open < 6 * 3600)
        .collect();
    assert!(
        short
            .iter()
            .all(|session| session.close - session.open == 210 * 60)
    );
    let short: Vec<_> = short.iter().map(|session| session.date).collect();
    assert_eq!(short, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn target_is_open_on_the_days_for_which_the_ecb_published_rates() {
    let published: BTreeSet<Date> = RATES
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().parse().unwrap())
        .collect();
    let (first, last) = (*published.first().unwrap(), *published.last().unwrap());
    let calendar = bundled("TARGET");
    let open: BTreeSet<_> = calendar
        .sessions()
        .iter()
        .map(|session| session.date)
        .filter(|day| (first..=last).contains(day))
        .collect();
    assert_eq!(open, published);
    let mut expected = BTreeSet::new();
    for year in 2024..=2027 {
        let easter = easter(year);
        expected.extend([
            date(year, 1, 1),
            easter.checked_sub(Span::new().days(2)).unwrap(),
            easter.tomorrow().unwrap(),
            date(year, 5, 1),
            date(year, 12, 25),
            date(year, 12, 26),
        ]);
    }
    expected.retain(|day| place(day.weekday()) < 5);
    let closed = closed_weekdays(&calendar, date(2024, 1, 1), date(2027, 12, 31));
    assert_eq!(closed, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn hours_follow_the_markets_wall_clock() {
    let calendar = bundled("XNYS");
    let on = |text: &str| {
        let noon: jiff::Timestamp = format!("{text}T17:00:00Z").parse().unwrap();
        calendar.session_on(zone::seconds(noon).unwrap())
    };
    let told = |text: &str| {
        let session = on(text).unwrap();
        [session.open, session.close].map(|at| zone::timestamp(at).unwrap().to_string())
    };
    assert_eq!(
        told("2026-03-06"),
        ["2026-03-06T14:30:00Z", "2026-03-06T21:00:00Z"]
    );
    assert_eq!(
        told("2026-03-09"),
        ["2026-03-09T13:30:00Z", "2026-03-09T20:00:00Z"]
    );
    assert_eq!(
        told("2026-11-27"),
        ["2026-11-27T14:30:00Z", "2026-11-27T18:00:00Z"]
    );
    assert_eq!(on("2026-03-08"), None, "a Sunday");
    assert_eq!(on("2026-04-03"), None, "Good Friday");
    assert_eq!(on("2028-01-03"), None, "nobody knows");
    assert_eq!(calendar.title(), "New York Stock Exchange");
    assert_eq!(calendar.last_date(), date(2027, 12, 31));
}

#[test]
fn what_contradicts_itself_is_refused_by_its_field() {
    let refused = |from: &str, to: &str| {
        assert!(XNYS.contains(from), "{from}");
        let text = XNYS.replacen(from, to, 1);
        let error = Calendar::parse(text.as_bytes()).unwrap_err();
        assert!(!error.is_retryable());
        error.to_string()
    };
    for (from, to, expected) in [
        ("calendar/v1", "calendar/v2", "calendar.schema: "),
        ("\"XNYS\"", "\"X NYS\"", "calendar.name: "),
        ("\"XNYS\"", "\"\"", "calendar.name: "),
        ("New York Stock Exchange", "", "calendar.title: "),
        (
            "America/New_York",
            "america/new_york",
            "calendar.timeZone: ",
        ),
        (
            "\"to\": \"2027-12-31\"",
            "\"to\": \"2023-12-31\"",
            "calendar.to: ",
        ),
        (
            "\"to\": \"2027-12-31\"",
            "\"to\": \"2074-12-31\"",
            "calendar.to: ",
        ),
        (
            "\"from\": \"2024-01-01\"",
            "\"from\": \"20240101\"",
            "calendar.from: ",
        ),
        (
            "\"from\": \"2024-01-01\"",
            "\"from\": \"1969-12-31\"",
            "calendar.from: ",
        ),
        (
            "\"from\": \"2024-01-01\"",
            "\"from\": \"2024-01-02\"",
            "calendar.holidays: ",
        ),
        (
            "\"2024-01-15\"",
            "\"2024-01-14\"",
            "calendar.holidays: 2024-01-14",
        ),
        (
            "\"2024-01-15\"",
            "\"2023-12-29\"",
            "calendar.holidays: 2023-12-29",
        ),
        (
            "\"2024-01-15\"",
            "\"2024-02-20\"",
            "calendar.holidays: not ascending",
        ),
        ("\"2024-01-15\"", "\"2024-01-01\"", "calendar.holidays: "),
        (
            "\"close\": \"13:00\"",
            "\"close\": \"16:00\"",
            "calendar.earlyCloses: ",
        ),
        (
            "\"close\": \"13:00\"",
            "\"close\": \"1:00\"",
            "calendar.earlyCloses: ",
        ),
        (
            "\"date\": \"2024-07-03\"",
            "\"date\": \"2024-07-04\"",
            "calendar.earlyCloses: ",
        ),
        (
            "\"date\": \"2024-07-03\"",
            "\"date\": \"2024-12-03\"",
            "calendar.earlyCloses: not ascending",
        ),
        (
            "\"open\": \"09:30\"",
            "\"open\": \"16:00\"",
            "calendar.sessions.close: ",
        ),
        (
            "\"open\": \"09:30\"",
            "\"open\": \"24:30\"",
            "calendar.sessions.open: ",
        ),
        ("\"tuesday\"", "\"monday\"", "calendar.sessions: "),
        ("\"tuesday\"", "\"Tuesday\"", "calendar: unknown variant"),
        (
            "\"title\"",
            "\"note\": 1, \"title\"",
            "calendar: unknown field `note`",
        ),
        (
            "\"title\"",
            "\"name\": \"XNYS\", \"title\"",
            "calendar: duplicate field `name`",
        ),
        (
            "\"title\": \"New York Stock Exchange\",",
            "",
            "calendar: missing field `title`",
        ),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with(expected), "{to}: {error}");
    }
    let long = format!("{XNYS}{}", " ".repeat(MAX_CALENDAR_BYTES));
    let error = Calendar::parse(long.as_bytes()).unwrap_err();
    assert!(error.to_string().ends_with("at most 262144"), "{error}");
}

#[test]
fn an_operators_calendars_are_added_all_or_none() {
    let folder = std::env::temp_dir().join(format!("calendars-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut calendars = Calendars::bundled().unwrap();
    std::fs::write(folder.join("a.json"), XNYS.replacen("XNYS", "ours", 1)).unwrap();
    std::fs::write(folder.join("README"), "not a calendar").unwrap();
    std::fs::write(folder.join("b.json"), XNYS).unwrap();
    let taken = calendars.add_folder(&folder).unwrap_err().to_string();
    assert!(
        taken.ends_with("b.json: calendar.name: XNYS is taken"),
        "{taken}"
    );
    assert!(calendars.get("ours").is_none());
    std::fs::remove_file(folder.join("b.json")).unwrap();
    calendars.add_folder(&folder).unwrap();
    let names: Vec<_> = calendars.iter().map(Calendar::name).collect();
    assert_eq!(names, ["TARGET", "XNYS", "ours"]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(calendars.add_folder(&folder).is_err(), "no folder");
}

proptest! {
    #[test]
    fn a_changed_calendar_never_panics(place: prop::sample::Index, byte: u8) {
        let mut text = XNYS.as_bytes().to_vec();
        let place = place.index(text.len());
        text[place] = byte;
        let _ = Calendar::parse(&text);
    }
}
