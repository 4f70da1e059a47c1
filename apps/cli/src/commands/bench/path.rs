//! The whole path, on a clock that is moved by hand.

use super::{FIRST, stats::Figures};
use crate::{
    commands::demo::{replay::due_of, stage::DemoStage},
    error::{CliError, Doing},
};
use cryptlet_host::{Host, HostClock, HostConfig, Parts, Progress};
use cryptlet_watch::ManualClock;
use futures::StreamExt;
use jiff::{Span, civil::Date};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// What was measured.
pub(crate) struct Measured {
    /// From the clock's stroke to the notice of the block with the callback, one at a time.
    pub(crate) latency: Figures,
    /// Deliveries a second with several subscriptions due at once.
    pub(crate) a_second: f64,
}

pub(crate) async fn measure(
    demo: &DemoStage,
    deliveries: u32,
    consumers: u32,
) -> Result<Measured, CliError> {
    let clock = Arc::new(ManualClock::new(due_of(FIRST)?.saturating_sub(1)));
    // As an operator would who minds latency: blocks are announced, not asked for.
    let config = HostConfig {
        rpc: demo.stage.ws_url(),
        ..demo.stage.config.clone()
    };
    let parts = Parts::open(&config, Some(HostClock::Free(clock.clone())))
        .await
        .doing("the host did not start")?;
    let mut host = Host::start(parts, None)
        .await
        .doing("the host did not start")?;
    let mut days = OpenDays { demo, day: FIRST };
    let mut run = Run {
        demo,
        clock,
        progress: host.watch(),
    };
    let latency = run.one_by_one(&mut days, deliveries).await?;
    let pairs = ["USD".to_owned(), "GBP".to_owned()];
    for _ in 1..consumers {
        demo.stage
            .deploy_price_consumer(&pairs)
            .await
            .doing("one more consumer")?;
    }
    let a_second = run.together(&mut days, deliveries, consumers).await?;
    host.stop().await;
    Ok(Measured { latency, a_second })
}

/// Days on which the market was open, one after the other.
struct OpenDays<'a> {
    demo: &'a DemoStage,
    day: Date,
}

impl OpenDays<'_> {
    /// The next open day, and the closed days before it.
    fn next(&mut self) -> Result<(Date, Vec<Date>), CliError> {
        let mut closed = Vec::new();
        loop {
            let day = self.day;
            self.day = day
                .checked_add(Span::new().days(1))
                .doing("the calendar ends")?;
            if self.demo.rates.is_open(&day.to_string()) {
                return Ok((day, closed));
            }
            closed.push(day);
            let last = self
                .demo
                .rates
                .range()
                .map(|(_, last)| last.to_owned())
                .unwrap_or_default();
            if day.to_string() > last {
                return Err(CliError::new("the rates' file has no more open days")
                    .next("ask for fewer --deliveries"));
            }
        }
    }
}

struct Run<'a> {
    demo: &'a DemoStage,
    clock: Arc<ManualClock>,
    progress: broadcast::Receiver<Progress>,
}

impl Run<'_> {
    async fn one_by_one(
        &mut self,
        days: &mut OpenDays<'_>,
        count: u32,
    ) -> Result<Figures, CliError> {
        let mut heads = self.demo.stage.heads().await.doing("the chain's heads")?;
        let mut series: Vec<Duration> = Vec::new();
        for _ in 0..count {
            let (day, closed) = days.next()?;
            self.pass(&closed, 1).await?;
            let due = due_of(day)?;
            self.demo
                .stage
                .set_time(due)
                .await
                .doing("the chain's time")?;
            let ended = || CliError::new("the chain's heads have ended");
            heads.next().await.ok_or_else(ended)?;
            let start = Instant::now();
            self.clock.advance_to(due);
            heads.next().await.ok_or_else(ended)?;
            series.push(start.elapsed());
            self.delivered(1).await?;
        }
        Ok(Figures::of(series))
    }

    async fn together(
        &mut self,
        days: &mut OpenDays<'_>,
        count: u32,
        consumers: u32,
    ) -> Result<f64, CliError> {
        let rounds = count.div_ceil(consumers).max(4);
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            let (day, closed) = days.next()?;
            self.pass(&closed, consumers).await?;
            let due = due_of(day)?;
            self.demo
                .stage
                .set_time(due)
                .await
                .doing("the chain's time")?;
            let start = Instant::now();
            self.clock.advance_to(due);
            self.delivered(consumers).await?;
            total += start.elapsed();
        }
        Ok(f64::from(rounds.saturating_mul(consumers)) / total.as_secs_f64())
    }

    /// Lets closed days go by: their questions to the feed are no part of the next open day's time.
    async fn pass(&mut self, closed: &[Date], consumers: u32) -> Result<(), CliError> {
        for day in closed {
            self.clock.advance_to(due_of(*day)?);
            for _ in 0..consumers {
                match self.progress.recv().await.doing("the host has ended")? {
                    Progress::Skipped { .. } => {}
                    other => {
                        return Err(CliError::new(format_args!("not a closed day: {other:?}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for so many deliveries; the end of a job in any other way ends the measurement.
    async fn delivered(&mut self, mut count: u32) -> Result<(), CliError> {
        while count > 0 {
            match self.progress.recv().await.doing("the host has ended")? {
                Progress::Delivered { success: true, .. } => count -= 1,
                other => return Err(CliError::new(format_args!("not a delivery: {other:?}"))),
            }
        }
        Ok(())
    }
}
