//! The host's own clock, which may be wrong by a little.

use crate::world::World;
use async_trait::async_trait;
use cryptlet_types::UnixSeconds;
use cryptlet_watch::Clock;
use std::sync::Arc;

/// The world's time, as the host's clock shows it.
pub struct SimulatedClock(pub Arc<World>);

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> UnixSeconds {
        let seconds = self.0.millis() / 1_000;
        seconds.saturating_add_signed(-self.0.settings.lag)
    }

    async fn sleep_until(&self, at: UnixSeconds) {
        let world = &self.0;
        world.stay_alive().await;
        let at = at.saturating_add_signed(world.settings.lag);
        world.until(at.saturating_mul(1_000)).await;
        world.stay_alive().await;
        if world.dies("clock", "dies") {
            world.kill("clock", "at");
            std::future::pending::<()>().await;
        }
    }
}
