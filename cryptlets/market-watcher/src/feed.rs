//! The feed's answer: CSV in the European Central Bank's layout. A header `Date,USD,JPY,...`, then the row of
//! the day that was asked for, or none if the market was closed. Rates are decimals, or `N/A`.

use crate::{date::Date, rate};
use cryptlet::{Failure, primitives::U256};

/// What the feed says about a day.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Day<'a> {
    Open(Row<'a>),
    Closed,
}

/// The rates of a day.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    date: Date,
    cells: Vec<(&'a str, &'a str)>,
}

impl Row<'_> {
    /// The rates of `currencies`, 18 decimals, in that order.
    pub(crate) fn rates(&self, currencies: &[String]) -> Result<Vec<U256>, Failure> {
        currencies.iter().map(|name| self.rate(name)).collect()
    }

    fn rate(&self, currency: &str) -> Result<U256, Failure> {
        let cell = self.cells.iter().find(|(name, _)| *name == currency);
        match cell {
            Some((_, text)) if *text != "N/A" && !text.is_empty() => {
                rate::parse(text).ok_or_else(|| {
                    Failure::Unavailable(format!("feed's rate for {currency} is no rate"))
                })
            }
            _ => Err(Failure::Refused(format!(
                "feed has no rate for {currency} on {}",
                self.date
            ))),
        }
    }
}

/// Reads the feed's answer for `date`; an error says what is malformed.
pub(crate) fn read(table: &str, date: Date) -> Result<Day<'_>, String> {
    let mut lines = table.lines();
    let mut header = lines.next().unwrap_or_default().split(',');
    if header.next() != Some("Date") {
        return Err("feed's answer does not start with a header".into());
    }
    let Some(line) = lines.next() else {
        return Ok(Day::Closed);
    };
    if lines.next().is_some() {
        return Err("feed's answer has more than one day".into());
    }
    let names: Vec<_> = header.collect();
    let mut values = line.split(',');
    if values.next() != Some(date.to_string().as_str()) {
        return Err(format!("feed's answer is not of {date}"));
    }
    let values: Vec<_> = values.collect();
    if names.len() != values.len() {
        return Err("feed's header and row differ in length".into());
    }
    let cells = names.into_iter().zip(values).collect();
    Ok(Day::Open(Row { date, cells }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Date,USD,JPY,BGN,\n";

    fn date() -> Date {
        Date::of(1_792_159_200)
    }

    fn table(row: &str) -> String {
        format!("{HEADER}{row}\n")
    }

    #[test]
    fn rates_come_in_the_order_asked_for() {
        let table = table("2026-10-16,1.1172,175.68,N/A,");
        let Day::Open(row) = read(&table, date()).unwrap() else {
            panic!("closed")
        };
        let rates = row.rates(&["JPY".into(), "USD".into()]).unwrap();
        let expected = [175_680_000_000_000_000_000_u128, 1_117_200_000_000_000_000];
        assert_eq!(rates, expected.map(U256::from));
    }

    #[test]
    fn a_missing_rate_is_refused_by_name() {
        let table = table("2026-10-16,1.1172,175.68,N/A,");
        let Day::Open(row) = read(&table, date()).unwrap() else {
            panic!("closed")
        };
        for name in ["BGN", "XYZ", ""] {
            let Err(Failure::Refused(reason)) = row.rates(&["USD".into(), name.into()]) else {
                panic!("{name} was found")
            };
            assert_eq!(reason, format!("feed has no rate for {name} on 2026-10-16"));
        }
    }

    #[test]
    fn a_header_alone_means_closed() {
        assert_eq!(read(HEADER, date()), Ok(Day::Closed));
    }

    #[test]
    fn what_is_malformed_is_no_closed_day() {
        let cases = [
            String::new(),
            "<html>".into(),
            table("2026-10-15,1,2,3,"),
            table("2026-10-16,1,2,3"),
            table("2026-10-16,1,2,3,\n2026-10-16,1,2,3,"),
            table(""),
        ];
        for case in cases {
            assert!(read(&case, date()).is_err(), "{case:?}");
        }
    }

    #[test]
    fn a_rate_that_is_no_number_may_be_mended_later() {
        let table = table("2026-10-16,1.1.172,175.68,N/A,");
        let Ok(Day::Open(row)) = read(&table, date()) else {
            panic!("closed")
        };
        assert!(matches!(
            row.rates(&["USD".into()]),
            Err(Failure::Unavailable(_))
        ));
    }
}
