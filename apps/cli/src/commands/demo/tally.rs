//! What the consumer was woken with, compared with what the feed's own file says: the demo's verdict.

use alloy::primitives::{U256, utils::parse_ether};
use cryptlet_feed::Rates;
use jiff::civil::Date;
use std::collections::BTreeMap;

/// A wake-up as the consumer itself logged it.
pub(crate) struct Woken {
    pub(crate) day: Date,
    pub(crate) rates: Vec<U256>,
}

/// Counts of days and wake-ups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Wake-ups.
    pub(crate) delivered: usize,
    /// Open days without a wake-up that brought exactly that day's rates.
    pub(crate) missed: usize,
    /// Wake-ups beyond one for each open day: second ones, and those of days that were not due.
    pub(crate) duplicates: usize,
}

impl Tally {
    /// Counts `woken` against the `due` days and their rates.
    pub(crate) fn of(due: &[Date], woken: &[Woken], pairs: &[String], rates: &Rates) -> Self {
        let mut by_day: BTreeMap<Date, Vec<&Woken>> = BTreeMap::new();
        for wake in woken {
            by_day.entry(wake.day).or_default().push(wake);
        }
        let right = |day: &&Date| {
            let expected = expected(rates, **day, pairs);
            let wakes = by_day.get(*day).map(Vec::as_slice).unwrap_or_default();
            expected.is_some_and(|expected| wakes.iter().any(|wake| wake.rates == expected))
        };
        let days_woken = due.iter().filter(|day| by_day.contains_key(day)).count();
        Self {
            delivered: woken.len(),
            missed: due.len() - due.iter().filter(right).count(),
            duplicates: woken.len() - days_woken,
        }
    }
}

/// The day's rates as the feed's file has them, 18 decimals, in the order of `pairs`.
fn expected(rates: &Rates, day: Date, pairs: &[String]) -> Option<Vec<U256>> {
    let table = rates.of(&day.to_string());
    let (header, row) = table.trim_end().split_once('\n')?;
    let cells: BTreeMap<_, _> = header.split(',').zip(row.split(',')).collect();
    let rate = |pair: &String| parse_ether(cells.get(pair.as_str())?).ok();
    pairs.iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "Date,USD,GBP\n2026-10-02,1.2,0.9\n2026-10-01,1.1,0.8\n";

    fn day(day: i8) -> Date {
        Date::constant(2026, 10, day)
    }

    fn wake(on: i8, rates: [&str; 2]) -> Woken {
        Woken {
            day: day(on),
            rates: rates.map(|rate| parse_ether(rate).unwrap()).to_vec(),
        }
    }

    fn tally(woken: &[Woken]) -> (usize, usize, usize) {
        let pairs = ["USD".to_owned(), "GBP".to_owned()];
        let tally = Tally::of(
            &[day(1), day(2)],
            woken,
            &pairs,
            &Rates::parse(FILE).unwrap(),
        );
        (tally.delivered, tally.missed, tally.duplicates)
    }

    #[test]
    fn only_the_right_rates_on_each_open_day_once_are_good() {
        let (first, second) = (|| wake(1, ["1.1", "0.8"]), || wake(2, ["1.2", "0.9"]));
        assert_eq!(tally(&[first(), second()]), (2, 0, 0));
        assert_eq!(tally(&[first()]), (1, 1, 0), "missed");
        assert_eq!(
            tally(&[]),
            (0, 2, 0),
            "a month of reverting callbacks logs nothing"
        );
        assert_eq!(tally(&[first(), second(), second()]), (3, 0, 1), "doubled");
        assert_eq!(
            tally(&[first(), second(), wake(3, ["1.3", "0.7"])]),
            (3, 0, 1),
            "a day that was not due"
        );
        assert_eq!(
            tally(&[first(), wake(2, ["1.1", "0.8"])]),
            (2, 1, 0),
            "rates of another day"
        );
        assert_eq!(
            tally(&[first(), wake(2, ["0.9", "1.2"])]),
            (2, 1, 0),
            "currencies mixed up"
        );
    }
}
