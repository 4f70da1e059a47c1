//! Civil dates in UTC.

use std::fmt;

const SECONDS_OF_A_DAY: u64 = 86_400;
/// Days of 400 Gregorian years: the calendar's period.
const DAYS_OF_AN_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;

/// A day of the Gregorian calendar; displayed as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// Days since 1970-01-01.
    days: u64,
}

impl Date {
    /// The UTC date of a moment in Unix seconds.
    pub(crate) fn of(seconds: u64) -> Self {
        Self {
            days: seconds / SECONDS_OF_A_DAY,
        }
    }

    /// Unix seconds of the date's midnight.
    pub(crate) fn midnight(self) -> u64 {
        self.days * SECONDS_OF_A_DAY
    }

    /// Year, month and day. Years are counted from March, so that the leap day comes last
    /// (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
    fn civil(self) -> (u64, u64, u64) {
        let days = self.days + DAYS_BEFORE_EPOCH;
        let (era, day_of_era) = (days / DAYS_OF_AN_ERA, days % DAYS_OF_AN_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let (month, next_year) = match month_from_march {
            10.. => (month_from_march - 9, 1),
            _ => (month_from_march + 3, 0),
        };
        (era * 400 + year_of_era + next_year, month, day)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (4_107_542_400, "2100-03-01"),
            (1_792_159_200, "2026-10-16"),
            (1_798_761_599, "2026-12-31"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Date::of(seconds).to_string(), text);
        }
        assert_eq!(Date::of(1_792_159_200).midnight(), 1_792_108_800);
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut previous = Date { days: 0 }.civil();
        for days in 1..60_000 {
            let (year, month, day) = Date { days }.civil();
            let (y, m, d) = previous;
            let follows = (year, month, day) == (y, m, d + 1)
                || (day == 1
                    && ((year, month) == (y, m + 1) || (year, month, m) == (y + 1, 1, 12)));
            assert!(follows, "{previous:?} then {:?}", (year, month, day));
            previous = (year, month, day);
        }
    }
}
