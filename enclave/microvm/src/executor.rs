//! Cryptlets in machines of their own, as a session wants them run.

use crate::{
    calls::NEEDS,
    compile::compile,
    machine::{self, Machine, Sizes},
    wire::{Answered, CallOut, Ran as Told, Run, Stopped, decode, encode},
};
use cryptlet_container::{
    channel::SharedHost,
    deadline::{Deadline, Watchdog},
    execution::{Execution, Executor},
    http::{Abort, Egress},
    imports::{Claim, HttpError, HttpRequest, HttpResponse, Level, RunState, Signatures},
    recording::Answers,
    runtime::{Answer, Failure, MAX_MEMORY_BYTES, Ran, RunError, Wake},
    sandbox::Needs,
};
use cryptlet_types::{Limits, Provider, UnixSeconds, bounded::clip, region::RegionFault};
use std::{fs, io, os::fd::RawFd, rc::Rc, sync::Arc};

/// Longest response of a source here: 16 MiB.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;
const DEVICE: &str = "/dev/kvm";

/// Executes components in virtual machines.
pub(crate) struct InMachine;

impl Executor for InMachine {
    fn provider(&self) -> Provider {
        Provider::Microvm
    }

    fn needs(&self) -> Option<Needs> {
        Some(NEEDS)
    }

    /// Tries a machine out. Hyperlight opens the device once for all machines, and keeps it to itself.
    fn open(&self) -> io::Result<Option<RawFd>> {
        machine::try_out().map_err(io::Error::other)?;
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            if fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == DEVICE) {
                let number = entry.file_name().to_string_lossy().parse();
                return number.map(Some).map_err(io::Error::other);
            }
        }
        Err(io::Error::other("no open /dev/kvm is found"))
    }

    fn load(&self, code: &[u8], limits: Limits) -> Result<Box<dyn Execution>, String> {
        let code = compile(code).map_err(|error| clip(&format!("{error:#}")))?;
        let sizes = Sizes {
            code: code.len(),
            memory: at_most("memoryBytes", limits.memory_bytes, MAX_MEMORY_BYTES)?,
            response: at_most("responseBytes", limits.response_bytes, MAX_RESPONSE_BYTES)?,
        };
        // A machine is not copied with its process. This one says whether it is a cryptlet, and is gone.
        let imports = machine::imports(&code, sizes).map_err(|reason| clip(&reason))?;
        Ok(Box::new(Compiled {
            code,
            sizes,
            imports,
            limits,
            machine: None,
        }))
    }
}

fn at_most(field: &str, value: u64, most: u64) -> Result<usize, String> {
    let fits = usize::try_from(value).ok().filter(|_| value <= most);
    fits.ok_or_else(|| format!("settings.limits.{field}: at most {most} in a virtual machine"))
}

/// A component as machine code and, in a region, in its machine.
struct Compiled {
    code: Vec<u8>,
    sizes: Sizes,
    imports: Vec<String>,
    limits: Limits,
    machine: Option<Machine>,
}

impl Execution for Compiled {
    fn imports(&self) -> &[String] {
        &self.imports
    }

    fn begin(&mut self) -> Result<(), String> {
        let code = std::mem::take(&mut self.code);
        self.machine = Some(Machine::start(code, self.sizes)?);
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
        let late = RegionFault::Deadline(limits.wall_millis);
        let deadline = Deadline::after(limits.wall_millis).ok_or_else(|| late.clone())?;
        let machine = self
            .machine
            .as_ref()
            .ok_or_else(|| trap("no machine runs"))?;
        let mut world = World {
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
        let result = {
            let _armed = watchdog.arm(machine.stop(), deadline);
            machine.run(input, |call| world.answer(&call).unwrap_or_default())
        };
        if let Some(abort) = world.abort {
            return Err(abort.into());
        }
        let told = match result {
            Ok(told) => decode::<Told<Result<Answer, Failure>>>(&told),
            Err(_) if deadline.check().is_err() => return Err(late.into()),
            Err(reason) => return Err(trap(&reason).into()),
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

impl Compiled {
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

/// What a run has of the world; the machine's calls out are answered from it.
struct World {
    state: RunState,
    /// Why the run is over, once it is.
    abort: Option<Abort>,
}

impl World {
    /// Nothing if the run is over, or the guest does not speak sense.
    fn answer(&mut self, call: &[u8]) -> Option<Vec<u8>> {
        if self.abort.is_some() {
            return None;
        }
        let answered = match decode::<CallOut<Level, HttpRequest, Claim>>(call)? {
            CallOut::Log(level, line) => {
                let taken = self.state.write_line(level, &line);
                taken.map(|()| Answered::Taken)
            }
            CallOut::Send(request) => self.state.send_request(request).map(Answered::Response),
            CallOut::Sign(message) => self.state.sign_message(message).map(Answered::Signed),
            CallOut::Check(claim) => Ok(Answered::Checked(self.state.check_claim(&claim))),
        };
        match answered {
            Ok(answer) => encode::<Answered<HttpResponse, HttpError, Signatures>>(&answer),
            Err(abort) => {
                self.abort = Some(abort);
                None
            }
        }
    }
}
