//! The disk below the journal.

use crate::world::World;
use cryptlet_journal::{Disk, Fate, Moment};
use std::sync::Arc;

/// A disk that may be full, and below which the host may die.
pub struct SimulatedDisk(pub Arc<World>);

impl Disk for SimulatedDisk {
    fn fate(&self, moment: Moment) -> Fate {
        let world = &self.0;
        if world.is_dead() {
            return Fate::Dies;
        }
        let place = match moment {
            Moment::Read => "journal read",
            Moment::Begin => "journal begin",
            Moment::Commit => "journal commit",
            Moment::Committed => "journal committed",
        };
        if world.dies(place, "dies") {
            world.kill(place, "at");
            return Fate::Dies;
        }
        let writes = matches!(moment, Moment::Begin | Moment::Commit);
        if writes && world.is_full() {
            world.say("journal: disk full");
            return Fate::Full;
        }
        Fate::Passes
    }
}
