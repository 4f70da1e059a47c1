//! Lives of hosts, one after the other, in one world.
//!
//! Every life has a runtime of its own, with one thread and a clock that stands still while anything can be done. A host that is
//! killed is dropped with its runtime, so that nothing of it runs on; journal, index and chain stay.

use crate::{
    audit::{self, Found},
    fixture::{Fixture, FixtureError, Set},
    settings::Switches,
    world::World,
};
use cryptlet_host::{Host, HostError, Parts};
use std::{
    cell::RefCell,
    panic,
    pin::pin,
    sync::{Arc, Once},
};
use tokio::runtime::Builder;

/// Milliseconds after the world has calmed down, by which everything has to be done.
const PATIENCE: u64 = 20 * 60 * 1_000;
/// Milliseconds between two looks at what is left to be done.
const LOOK: u64 = 5_000;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Rules that were broken; none, if all is well.
    pub broken: Vec<String>,
    /// Lines of the trace that were kept.
    pub trace: Vec<String>,
    /// One number for the whole trace.
    pub hash: u64,
    /// What there was to be found.
    pub found: Found,
}

/// How a life ended.
enum End {
    /// Everything is done.
    Over,
    /// The host was killed.
    Killed,
    /// The host said that it cannot go on.
    Ended(HostError),
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

/// Writes down the panics of this thread, which a runtime swallows.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

/// Lives through a seed.
///
/// # Errors
/// The world could not be made. What the host does wrong is in [`Outcome::broken`].
pub fn run(fixture: &Fixture, seed: u64, switches: Switches) -> Result<Outcome, FixtureError> {
    watch_panics();
    let set = fixture.set(seed, switches)?;
    let world = set.world.clone();
    loop {
        let end = live(&set)?;
        for panic in PANICS.take() {
            world.broke(format!("panic: {panic}"));
        }
        match end {
            End::Over => break,
            End::Killed => {}
            End::Ended(error) => {
                world.say(&format!("host ended: {error}"));
                if !error.is_retryable() {
                    world.broke(format!("the host ended for good: {error}"));
                    break;
                }
            }
        }
        be_down(&world);
    }
    let found = audit::check(&set)?;
    let state = world.state();
    Ok(Outcome {
        seed,
        broken: state.broken.clone(),
        trace: state.trace.kept(),
        hash: state.trace.hash(),
        found,
    })
}

/// Nobody is there for a while.
fn be_down(world: &World) {
    let dice = &world.dice;
    let most = dice.choice("down", "most", [50, 2_000, 20_000, 150_000]);
    let until = world.millis() + dice.between("down", "for", 1..=most);
    world.go_on(until);
    world.stand_still(until);
}

/// The life of one host.
fn live(set: &Set) -> Result<End, FixtureError> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let parts = set.parts()?;
    let world = &set.world;
    let end = runtime.block_on(async {
        let mut killed = pin!(world.killed.notified());
        killed.as_mut().enable();
        world.come_alive();
        let end = tokio::select! {
            biased;
            () = killed => Ok(End::Killed),
            over = go_on(set) => over.map(|()| End::Over),
            end = host(parts) => Ok(End::Ended(end)),
        };
        world.stand_still(world.millis());
        end
    });
    drop(runtime);
    end
}

/// A host that goes on until it cannot.
async fn host(parts: Parts) -> HostError {
    let nothing = HostError::Ended("host");
    match Host::start(parts, None).await {
        Ok(mut host) => host.ended().await.err().unwrap_or(nothing),
        Err(error) => error,
    }
}

/// The world goes on until everything is done, or should be.
async fn go_on(set: &Set) -> Result<(), FixtureError> {
    let world: &Arc<World> = &set.world;
    let mut look = 0;
    loop {
        world.until(world.next()).await;
        let now = world.millis();
        world.go_on(now);
        let Some(last_due) = world.last_due() else {
            continue;
        };
        if now < (last_due + 5) * 1_000 || now < look {
            continue;
        }
        look = now + LOOK;
        let left = audit::left(set, last_due).await?;
        if left.is_empty() {
            return Ok(());
        }
        if now > last_due * 1_000 + PATIENCE {
            for left in left {
                world.broke(left);
            }
            return Ok(());
        }
    }
}
