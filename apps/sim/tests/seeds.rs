//! A short run of the simulation. `make sim` runs as many seeds as one likes.

use cryptlet_sim::{Fixture, Switches, each, run};
use std::sync::Mutex;

const SEEDS: u64 = 200;

#[test]
fn no_seed_breaks_a_rule() {
    let (broken, delivered, killed) = (Mutex::new(vec![]), Mutex::new(0), Mutex::new(0));
    each(1..SEEDS + 1, None, Switches::default(), |outcome| {
        *delivered.lock().unwrap() += outcome.found.delivered;
        *killed.lock().unwrap() += outcome.found.deaths;
        if !outcome.broken.is_empty() {
            broken.lock().unwrap().push((outcome.seed, outcome.broken));
        }
    })
    .unwrap();
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "again: cargo run --release -p cryptlet-sim -- --seed SEED --trace\n{broken:#?}"
    );
    assert!(
        *delivered.lock().unwrap() > SEEDS,
        "something was delivered"
    );
    assert!(*killed.lock().unwrap() > SEEDS, "hosts were killed");
}

/// On threads and in folders of their own, and after other seeds: nothing of that may show.
#[test]
fn a_seed_gives_the_same_trace_each_time() {
    let switches = Switches {
        losses: true,
        stale: true,
        ..Switches::default()
    };
    let first = Mutex::new(vec![]);
    each(1..13, None, switches, |outcome| {
        first
            .lock()
            .unwrap()
            .push((outcome.seed, outcome.hash, outcome.found.lines));
    })
    .unwrap();
    let first = first.into_inner().unwrap();
    assert_eq!(first.len(), 12);
    let fixture = Fixture::new().unwrap();
    for (seed, hash, lines) in first {
        let again = run(&fixture, seed, switches).unwrap();
        assert_eq!(
            (again.hash, again.found.lines),
            (hash, lines),
            "seed {seed}"
        );
        assert!(lines > 100, "seed {seed}: something happened");
    }
}
