//! The microvm provider: containers whose cryptlets run in virtual machines of their own, where this machine can run any.

mod probe;

pub use probe::{Probe, probe};

use crate::{CallOutHandler, IsolationError, IsolationProvider, ProcessProvider, Region};
use alloy_primitives::B256;
use async_trait::async_trait;
use cryptlet_types::{
    Measurement, Provider,
    region::{Package, RegionSettings},
};
use std::{path::Path, sync::Arc};

/// Starts containers of the program `cryptlet-container-microvm`. They are processes, isolated as those of
/// [`ProcessProvider`] are; in each, the component runs in a virtual machine.
#[derive(Debug)]
pub struct MicrovmProvider(ProcessProvider);

impl MicrovmProvider {
    /// A provider of regions in which `container` runs. The file is read once, here. Whether the machine can run them is
    /// for [`probe`] to say.
    ///
    /// # Errors
    /// [`IsolationError::Start`] if it cannot be read.
    pub fn new(container: &Path) -> Result<Self, IsolationError> {
        Ok(Self(ProcessProvider::of(container, Provider::Microvm)?))
    }
}

#[async_trait]
impl IsolationProvider for MicrovmProvider {
    fn provider(&self) -> Provider {
        self.0.provider()
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        self.0.measurement(package, settings)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        self.0.create(package, settings, nonce, call_out).await
    }
}
