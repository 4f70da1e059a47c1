//! Figures of a series of measurements.

use serde::Serialize;
use std::time::Duration;

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) mean: f64,
}

impl Figures {
    /// The figures of at least one measurement; zeros of none.
    pub(crate) fn of(mut series: Vec<Duration>) -> Self {
        series.sort_unstable();
        let millis = |duration: &Duration| duration.as_secs_f64() * 1_000.0;
        let at = |percent: usize| {
            series
                .get(series.len() * percent / 100)
                .or(series.last())
                .map_or(0.0, millis)
        };
        let count = u32::try_from(series.len()).unwrap_or(u32::MAX).max(1);
        let mean = series.iter().map(millis).sum::<f64>() / f64::from(count);
        Self {
            p50: at(50),
            p95: at(95),
            mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_series() {
        let figures = Figures::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((figures.p50, figures.p95, figures.mean), (51.0, 96.0, 50.5));
        assert_eq!(Figures::of(vec![]).p95, 0.0);
    }
}
