//! What a host is given instead of the world.

mod chain;
mod clock;
mod disk;
mod isolation;
mod register;
mod vault;

pub use chain::{SimulatedChain, SimulatedLogs};
pub use clock::SimulatedClock;
pub use disk::SimulatedDisk;
pub use isolation::{NoCallOut, SimulatedIsolation};
pub use register::SimulatedRegister;
pub use vault::SimulatedVault;
