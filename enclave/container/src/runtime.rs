//! Runs a component: compiled once, a fresh instance for each run, bounded in fuel, memory and time.
//!
//! Execution is deterministic: NaNs are canonical, there are no threads, no relaxed SIMD, and no import but
//! this package's own. What a cryptlet learns comes from its input and from [`crate::http`].

use crate::{
    channel::{ChannelError, SharedHost},
    deadline::{Deadline, Watchdog},
    execution::{Execution, Executor},
    http::{Abort, Egress},
    imports::{RunState, bindings::UtilityPre},
    recording::Answers,
    sandbox::Needs,
};
use cryptlet_types::{
    Limits, Provider, UnixSeconds,
    bounded::clip,
    recording::Recorded,
    region::{RegionFault, SourceProof},
};
use std::{io, os::fd::RawFd, rc::Rc, sync::Arc};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Trap,
    component::{Component, HasSelf, Linker},
};

pub use crate::imports::bindings::{
    Answer, Context, Failure, Trigger,
    bletchley::cryptlet::types::{BlockEntry, LogEntry, Message, Observation, Progress, Step},
};
use crate::{
    component::{MAX_PARTS, MAX_TABLE_ELEMENTS, MemoryExceeded, interfaces},
    imports::bindings::Utility,
};

/// Most linear memory that a region gives, whatever policy says: 1 GiB.
pub const MAX_MEMORY_BYTES: u64 = 1 << 30;

/// Executes components in this process.
pub struct InProcess;

impl Executor for InProcess {
    fn provider(&self) -> Provider {
        Provider::Process
    }

    fn needs(&self) -> Option<Needs> {
        None
    }

    fn open(&self) -> io::Result<Option<RawFd>> {
        Ok(None)
    }

    fn load(&self, code: &[u8], limits: Limits) -> Result<Box<dyn Execution>, String> {
        Ok(Box::new(Runtime::load(code, limits)?))
    }
}

/// A component, ready to run.
pub struct Runtime {
    engine: Engine,
    component: UtilityPre<RunState>,
    imports: Vec<String>,
    limits: Limits,
}

/// What a run is given.
pub struct Wake {
    /// Who wakes, and for whom.
    pub context: Context,
    /// What occurred.
    pub trigger: Trigger,
    /// The subscription's parameters.
    pub params: Vec<u8>,
}

/// What came of a run that ended by itself.
pub struct Ran {
    /// The cryptlet's word.
    pub answer: Answer,
    /// What sources said.
    pub sources: Vec<SourceProof>,
    /// Fuel used up.
    pub fuel_used: u64,
    /// What was recorded of it, if anything was to be.
    pub recorded: Option<Recorded>,
}

/// Why a run has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The run failed; the region can go on.
    #[error(transparent)]
    Fault(#[from] RegionFault),
    /// The conversation with the host cannot go on; the region ends.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl From<Abort> for RunError {
    fn from(abort: Abort) -> Self {
        match abort {
            Abort::Deadline(passed) => RegionFault::Deadline(passed.0).into(),
            Abort::Channel(error) => error.into(),
            Abort::Diverged(divergence) => RegionFault::Diverged(divergence).into(),
        }
    }
}

impl From<Failure> for RegionFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => Self::Unavailable(clip(&reason)),
            Failure::Refused(reason) => Self::Refused(clip(&reason)),
        }
    }
}

impl RunError {
    /// Whether the same run, tried again in this region, may end better.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Fault(fault) => fault.is_retryable(),
            Self::Channel(error) => error.is_retryable(),
        }
    }
}

impl Runtime {
    /// Compiles `code`, and checks that it implements the world `utility` and imports nothing else.
    ///
    /// # Errors
    /// Says why it is no cryptlet.
    pub fn load(code: &[u8], limits: Limits) -> Result<Self, String> {
        let told = |error: wasmtime::Error| clip(&format!("{error:#}"));
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(places()));
        let engine = Engine::new(&config).map_err(told)?;
        let component = Component::from_binary(&engine, code).map_err(told)?;
        let imports = interfaces(&engine, &component).map_err(|reason| clip(&reason))?;
        let mut linker = Linker::new(&engine);
        Utility::add_to_linker::<_, HasSelf<RunState>>(&mut linker, |state| state).map_err(told)?;
        let component = linker.instantiate_pre(&component).map_err(told)?;
        let component = UtilityPre::new(component).map_err(told)?;
        Ok(Self {
            engine,
            component,
            imports,
            limits,
        })
    }

    fn call(
        &self,
        store: &mut Store<RunState>,
        wake: Wake,
    ) -> wasmtime::Result<Result<Answer, Failure>> {
        store.set_fuel(self.limits.fuel)?;
        let instance = self.component.instantiate(&mut *store)?;
        instance.call_on_trigger(store, &wake.context, &wake.trigger, &wake.params)
    }

    fn explain(&self, error: &wasmtime::Error) -> RunError {
        if let Some(abort) = error.downcast_ref::<Abort>() {
            return abort.clone().into();
        }
        if error.downcast_ref::<MemoryExceeded>().is_some() {
            return RegionFault::OutOfMemory(self.limits.memory_bytes).into();
        }
        let fault = match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => RegionFault::OutOfFuel(self.limits.fuel),
            Some(Trap::Interrupt) => RegionFault::Deadline(self.limits.wall_millis),
            Some(trap) => RegionFault::Trap(trap.to_string()),
            None => RegionFault::Trap(clip(&error.root_cause().to_string())),
        };
        fault.into()
    }
}

impl Execution for Runtime {
    fn imports(&self) -> &[String] {
        &self.imports
    }

    fn begin(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn run(
        &self,
        wake: Wake,
        host: &SharedHost,
        egress: &Arc<Egress>,
        now: UnixSeconds,
        answers: Answers,
        watchdog: &Watchdog,
    ) -> Result<Ran, RunError> {
        let limits = self.limits;
        let deadline =
            Deadline::after(limits.wall_millis).ok_or(RegionFault::Deadline(limits.wall_millis))?;
        let (host, egress) = (Rc::clone(host), Arc::clone(egress));
        let state = RunState::new(host, egress, limits, deadline, now, answers);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        let engine = self.engine.clone();
        let _armed = watchdog.arm(Box::new(move || engine.increment_epoch()), deadline);
        let result = self.call(&mut store, wake);
        let fuel_left = store.get_fuel().unwrap_or_default();
        let answer = result
            .map_err(|error| self.explain(&error))?
            .map_err(RegionFault::from)?;
        let (sources, recorded) = store.into_data().end()?;
        Ok(Ran {
            answer,
            sources,
            fuel_used: limits.fuel.saturating_sub(fuel_left),
            recorded,
        })
    }
}

/// Places for one instance of a component, made once: each run has the same ones, which are emptied in between. That takes a
/// fraction of what mapping memory anew does.
fn places() -> PoolingAllocationConfig {
    let parts = u32::try_from(MAX_PARTS).unwrap_or(u32::MAX);
    let mut places = PoolingAllocationConfig::new();
    places
        .total_component_instances(1)
        .total_core_instances(parts)
        .total_memories(parts)
        .total_tables(parts)
        .max_core_instances_per_component(parts)
        .max_memories_per_component(parts)
        .max_tables_per_component(parts)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(MAX_MEMORY_BYTES).unwrap_or(usize::MAX))
        .max_unused_warm_slots(parts)
        .linear_memory_keep_resident(0)
        .table_keep_resident(0);
    places
}

/// What a component is compiled with, wherever it runs. Memory images and backtraces are off: they need files, and a
/// backtrace tells the host more than a trap.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .memory_init_cow(false)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(None);
    config
}
