//! The figures: the European Central Bank's file, one row a business day.

use std::collections::BTreeMap;

/// Reference rates by date, as they stand in the file.
#[derive(Clone, Debug)]
pub struct Rates {
    header: String,
    rows: BTreeMap<String, String>,
    repeats: bool,
}

/// Why a file of rates was refused. The file has to change: no retry helps.
#[derive(Debug, thiserror::Error)]
pub enum RatesError {
    /// Not CSV, or rows of different length.
    #[error("rates: {0}")]
    Malformed(#[from] csv::Error),
    /// No `Date` in the first column.
    #[error("rates: the first column is {0:?}, not \"Date\"")]
    NoDate(String),
}

impl RatesError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Rates {
    /// Reads a file with a header line `Date,USD,…` and rows `YYYY-MM-DD,1.1,…`.
    ///
    /// # Errors
    /// Says which record is malformed.
    pub fn parse(text: &str) -> Result<Self, RatesError> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers()?.clone();
        if header.get(0) != Some("Date") {
            return Err(RatesError::NoDate(
                header.get(0).unwrap_or_default().to_owned(),
            ));
        }
        let mut rows = BTreeMap::new();
        for record in reader.records() {
            let record = record?;
            rows.insert(record.get(0).unwrap_or_default().to_owned(), line(&record));
        }
        Ok(Self {
            header: line(&header),
            rows,
            repeats: false,
        })
    }

    /// The same rates, and on every day after the last one its figures again: for trying things out on a day that the file
    /// does not reach.
    #[must_use]
    pub fn repeating(self) -> Self {
        Self {
            repeats: true,
            ..self
        }
    }

    /// The answer for `date`: header, and the row if the market was open.
    #[must_use]
    pub fn of(&self, date: &str) -> String {
        let row = self.rows.get(date).cloned().or_else(|| self.repeated(date));
        format!("{}{}", self.header, row.unwrap_or_default())
    }

    /// The last row under a later `date`, if it is one and the last row repeats.
    fn repeated(&self, date: &str) -> Option<String> {
        let (last, row) = self.rows.last_key_value().filter(|_| self.repeats)?;
        let is_date =
            date.len() == last.len() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let (_, figures) = row.split_once(',')?;
        (is_date && date > last.as_str()).then(|| format!("{date},{figures}"))
    }

    /// Whether there are figures for `date`.
    #[must_use]
    pub fn is_open(&self, date: &str) -> bool {
        self.rows.contains_key(date)
    }

    /// First and last date with figures.
    #[must_use]
    pub fn range(&self) -> Option<(&str, &str)> {
        let first = self.rows.first_key_value()?.0;
        Some((first, self.rows.last_key_value()?.0))
    }
}

fn line(record: &csv::StringRecord) -> String {
    let mut line = record.iter().collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_a_row_is_closed() {
        let rates = Rates::parse("Date,USD\n2026-10-05,1.1\n2026-10-02,1.2\n").unwrap();
        assert_eq!(rates.of("2026-10-05"), "Date,USD\n2026-10-05,1.1\n");
        assert_eq!(rates.of("2026-10-04"), "Date,USD\n");
        assert_eq!(rates.range(), Some(("2026-10-02", "2026-10-05")));
        assert!(rates.is_open("2026-10-02") && !rates.is_open("2026-10-03"));
    }

    #[test]
    fn the_last_day_repeats_only_where_that_was_asked_for() {
        let rates = Rates::parse("Date,USD\n2026-10-05,1.1\n").unwrap();
        assert_eq!(rates.of("2026-10-06"), "Date,USD\n");
        let rates = rates.repeating();
        assert_eq!(rates.of("2026-11-20"), "Date,USD\n2026-11-20,1.1\n");
        assert_eq!(rates.of("2026-10-04"), "Date,USD\n", "not backwards");
        assert_eq!(rates.of("9,USD\n99999"), "Date,USD\n", "no date");
    }

    #[test]
    fn files_of_another_shape_are_refused() {
        assert!(matches!(Rates::parse("Day,USD\n"), Err(RatesError::NoDate(day)) if day == "Day"));
        assert!(matches!(
            Rates::parse("Date,USD\n2026-10-05\n"),
            Err(RatesError::Malformed(_))
        ));
    }
}
