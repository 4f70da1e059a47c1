//! `cryptlet-sim`: lives through seeds and prints those that broke a rule.

use clap::{Parser, ValueEnum};
use cryptlet_sim::{Fixture, FixtureError, Outcome, Switches, each, run};
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Lines of the trace that are printed of a seed that broke a rule.
const LAST_LINES: usize = 60;
/// Seeds that broke a rule and are printed with their trace.
const SHOWN: usize = 3;

/// Simulates the whole path: the real host on a clock, chain, network and disk that come from one seed.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// This seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Print every line of the trace.
    #[arg(long)]
    trace: bool,
    /// Threads, each with a seed of its own; as many as there are processors, unless it is said.
    #[arg(long)]
    threads: Option<usize>,
    /// What is let happen, or looked at, besides.
    #[arg(long, value_delimiter = ',')]
    with: Vec<Switch>,
    /// What is not let happen.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Switch>,
}

/// See [`Switches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// The host is killed.
    Crashes,
    /// Blocks are replaced.
    Reorgs,
    /// Transactions are lost for good.
    Losses,
    /// Nodes answer from a few blocks ago.
    Stale,
    /// Nodes leave out the newest logs.
    LateLogs,
    /// Journal and chain have to agree after reorganisations, too.
    Settled,
}

impl Arguments {
    fn switches(&self) -> Switches {
        let mut switches = Switches {
            trace: self.trace,
            ..Switches::default()
        };
        let said = self.with.iter().map(|switch| (switch, true));
        for (switch, on) in said.chain(self.without.iter().map(|switch| (switch, false))) {
            let place = match switch {
                Switch::Crashes => &mut switches.crashes,
                Switch::Reorgs => &mut switches.reorgs,
                Switch::Losses => &mut switches.losses,
                Switch::Stale => &mut switches.stale,
                Switch::LateLogs => &mut switches.late_logs,
                Switch::Settled => &mut switches.settled,
            };
            *place = on;
        }
        switches
    }

    /// How a seed is repeated.
    fn again(&self, seed: u64) -> String {
        let list = |name: &str, switches: &[Switch]| {
            let values = switches.iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
            if names.is_empty() {
                return String::new();
            }
            format!(" --{name} {}", names.join(","))
        };
        let (with, without) = (list("with", &self.with), list("without", &self.without));
        format!("cargo run --release -p cryptlet-sim -- --seed {seed} --trace{with}{without}")
    }
}

/// What all seeds together came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    expected: u64,
    delivered: u64,
    deaths: u64,
    replaced: u64,
    calls: u64,
    broken: Vec<Outcome>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        let found = &outcome.found;
        self.seeds += 1;
        self.expected += found.expected;
        self.delivered += found.delivered;
        self.deaths += found.deaths;
        self.replaced += found.replaced;
        self.calls += found.calls;
        if !outcome.broken.is_empty() {
            self.broken.push(outcome);
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match simulate(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // There is nobody else to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Lives through the seeds; whether all kept the rules.
fn simulate(arguments: &Arguments) -> Result<bool, FixtureError> {
    let start = Instant::now();
    let mut sum = match arguments.seed {
        Some(seed) => one(arguments, seed)?,
        None => many(arguments)?,
    };
    sum.broken.sort_by_key(|outcome| outcome.seed);
    let mut out = io::stdout().lock();
    for (place, outcome) in sum.broken.iter().enumerate() {
        let lines = if place < SHOWN && !arguments.trace {
            LAST_LINES
        } else {
            0
        };
        show(&mut out, outcome, lines)?;
        writeln!(out, "  again: {}", arguments.again(outcome.seed))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    writeln!(
        out,
        "{} seeds in {seconds:.1} s ({:.1} a second): {} events, {} deliveries, {} hosts killed, {} blocks replaced, {} \
         calls; {} seeds broke a rule",
        sum.seeds,
        rate(sum.seeds, seconds),
        sum.expected,
        sum.delivered,
        sum.deaths,
        sum.replaced,
        sum.calls,
        sum.broken.len()
    )?;
    Ok(sum.broken.is_empty())
}

/// Prints what a seed broke, and the last lines of its trace.
fn show(out: &mut impl Write, outcome: &Outcome, lines: usize) -> io::Result<()> {
    let count = outcome.broken.len();
    writeln!(out, "seed {}: {count} rules broken", outcome.seed)?;
    for broken in &outcome.broken {
        writeln!(out, "  {broken}")?;
    }
    let skipped = outcome.trace.len().saturating_sub(lines);
    for line in outcome.trace.iter().skip(skipped) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

fn one(arguments: &Arguments, seed: u64) -> Result<Sum, FixtureError> {
    let outcome = run(&Fixture::new()?, seed, arguments.switches())?;
    if arguments.trace {
        let mut out = io::stdout().lock();
        for line in &outcome.trace {
            writeln!(out, "{line}")?;
        }
    }
    let mut sum = Sum::default();
    sum.add(outcome);
    Ok(sum)
}

fn rate(seeds: u64, seconds: f64) -> f64 {
    let seeds: f64 = u32::try_from(seeds).unwrap_or(u32::MAX).into();
    seeds / seconds.max(0.001)
}

fn many(arguments: &Arguments) -> Result<Sum, FixtureError> {
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let sum = Mutex::new(Sum::default());
    each(seeds, arguments.threads, arguments.switches(), |outcome| {
        sum.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(outcome);
    })?;
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}
