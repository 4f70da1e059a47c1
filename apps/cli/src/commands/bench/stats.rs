//! Figures of a series of measurements.

use std::time::Duration;

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
}

impl Figures {
    /// The figures of at least one measurement; zeros of none.
    pub(crate) fn of(mut series: Vec<Duration>) -> Self {
        series.sort_unstable();
        Self {
            p50: percentile(&series, 50),
            p95: percentile(&series, 95),
        }
    }
}

/// The member of a sorted series, in milliseconds, that so many percent of it come before; zero if it is empty.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = sorted.len().saturating_mul(percent) / 100;
    let member = sorted.get(place).or(sorted.last());
    member.map_or(0.0, |member| member.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_series() {
        let series: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let figures = Figures::of(series);
        assert_eq!((figures.p50, figures.p95), (51.0, 96.0));
        assert_eq!(Figures::of(vec![]).p95, 0.0);
        assert_eq!(percentile(&[Duration::from_millis(3)], 99), 3.0);
    }
}
