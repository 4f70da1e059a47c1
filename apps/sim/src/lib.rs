//! The whole path in a world that can be repeated: clock, chain, network and disk come from one seed.
//!
//! The host is the real one. What it is given is not: a chain in memory that is reorganised and whose node fails
//! ([`node`], [`ports`]), regions and keys without a process or a file, a journal whose disk is full at times. At every call of
//! what it is given it may be killed, before or after the call had its effect; the next host takes up its journal ([`life`]).
//! When the faults stop and everything has been done that can be, the journal and the chain have to agree, and every event has to
//! have come to its end ([`audit`]). How it is made the same each time: `docs/decisions/0020-one-seed-one-world.md`.

pub mod audit;
pub mod crowd;
pub mod delegate;
pub mod dice;
pub mod fixture;
pub mod life;
pub mod node;
pub mod ports;
pub mod settings;
pub mod trace;
pub mod world;

pub use crowd::each;
pub use fixture::{Fixture, FixtureError};
pub use life::{Outcome, run};
pub use settings::Switches;
