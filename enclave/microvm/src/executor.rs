//! Cryptlets in machines of their own, as a session wants them run.

use crate::{
    compile::compile,
    machine::{Machine, Sizes, World, decode, encode},
    wire::{Ran as Told, Run, Stopped},
};
use cryptlet_container::{
    channel::SharedHost,
    deadline::{Deadline, Watchdog},
    execution::{Execution, Executor},
    http::Egress,
    imports::RunState,
    recording::Answers,
    runtime::{Answer, Failure, MAX_MEMORY_BYTES, Ran, RunError, Wake},
};
use cryptlet_types::{Limits, Provider, UnixSeconds, bounded::clip, region::RegionFault};
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// Longest response of a source here: 16 MiB.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;

/// Executes components in virtual machines.
pub(crate) struct InMachine(pub(crate) Watchdog);

impl Executor for InMachine {
    fn provider(&self) -> Provider {
        Provider::Microvm
    }

    fn load(&self, code: &[u8], limits: Limits) -> Result<Box<dyn Execution>, String> {
        let code = compile(code).map_err(|error| clip(&format!("{error:#}")))?;
        let sizes = Sizes {
            code: code.len(),
            memory: at_most("memoryBytes", limits.memory_bytes, MAX_MEMORY_BYTES)?,
            response: at_most("responseBytes", limits.response_bytes, MAX_RESPONSE_BYTES)?,
        };
        let (machine, imports) = Machine::load(code, sizes).map_err(|reason| clip(&reason))?;
        Ok(Box::new(Loaded {
            machine: RefCell::new(machine),
            imports,
            limits,
            watchdog: self.0.clone(),
        }))
    }
}

fn at_most(field: &str, value: u64, most: u64) -> Result<usize, String> {
    let fits = usize::try_from(value).ok().filter(|_| value <= most);
    fits.ok_or_else(|| format!("settings.limits.{field}: at most {most} in a virtual machine"))
}

/// A component in its machine.
struct Loaded {
    machine: RefCell<Machine>,
    imports: Vec<String>,
    limits: Limits,
    watchdog: Watchdog,
}

impl Execution for Loaded {
    fn imports(&self) -> &[String] {
        &self.imports
    }

    fn run(
        &self,
        wake: Wake,
        host: &SharedHost,
        egress: &Arc<Egress>,
        now: UnixSeconds,
        answers: Answers,
    ) -> Result<Ran, RunError> {
        let limits = self.limits;
        let late = RegionFault::Deadline(limits.wall_millis);
        let deadline = Deadline::after(limits.wall_millis).ok_or_else(|| late.clone())?;
        let world = World {
            state: RunState::new(
                Rc::clone(host),
                Arc::clone(egress),
                limits,
                deadline,
                now,
                answers,
            ),
            abort: None,
        };
        let input = encode(&Run {
            context: wake.context,
            trigger: wake.trigger,
            params: wake.params,
            fuel: limits.fuel,
            memory_bytes: limits.memory_bytes,
        });
        let input = input.ok_or_else(|| trap("the run has no encoding"))?;
        let mut machine = self.machine.borrow_mut();
        let (result, world) = machine.run(input, world, &self.watchdog, deadline);
        let world = world.ok_or_else(|| trap("the run lost its world"))?;
        if let Some(abort) = world.abort {
            return Err(abort.into());
        }
        let told = match result {
            Ok(told) => decode::<Told<Result<Answer, Failure>>>(&told),
            Err(_) if deadline.check().is_err() => return Err(late.into()),
            Err(error) => return Err(trap(&error.to_string()).into()),
        };
        let told = told.ok_or_else(|| trap("the guest answered without sense"))?;
        let answer = told.ended.map_err(|stopped| self.explain(stopped))?;
        let answer = answer.map_err(RegionFault::from)?;
        let (sources, recorded) = world.state.end()?;
        Ok(Ran {
            answer,
            sources,
            fuel_used: limits.fuel.saturating_sub(told.fuel_left),
            recorded,
        })
    }
}

impl Loaded {
    fn explain(&self, stopped: Stopped) -> RegionFault {
        match stopped {
            Stopped::OutOfFuel => RegionFault::OutOfFuel(self.limits.fuel),
            Stopped::OutOfMemory => RegionFault::OutOfMemory(self.limits.memory_bytes),
            Stopped::TooLarge(size) => RegionFault::PayloadTooLarge(size),
            Stopped::Trap(reason) => trap(&reason),
            Stopped::Aborted => trap("the run was given up, and nobody had ended it"),
        }
    }
}

fn trap(reason: &str) -> RegionFault {
    RegionFault::Trap(clip(reason))
}
