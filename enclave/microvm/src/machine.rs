//! One virtual machine: hyperlight's, on KVM, with one processor, no devices, and two ways out: an answer, and a call
//! to the host function `call`.

use crate::wire::{CallOut, Loaded, MAX_CALL_BYTES};
use cryptlet_container::{
    deadline::{Deadline, Watchdog},
    http::Abort,
    imports::{HttpRequest, Level, RunState},
};
use hyperlight_host::{
    GuestBinary, HyperlightError, MultiUseSandbox, UninitializedSandbox,
    sandbox::{SandboxConfiguration, snapshot::Snapshot},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{cell::RefCell, sync::Arc};

/// The guest: what runs in every machine.
static GUEST: &[u8] = include_bytes!(env!("CRYPTLET_MICROVM_GUEST"));

/// The guest's heap beside messages, and what is written beside heap, messages and linear memory: stack and tables.
const BASE_BYTES: usize = 8 << 20;
/// What a message has beside its largest part.
const FRAME_BYTES: usize = 1 << 20;
/// Longest message of the guest.
const OUTPUT_BYTES: usize = MAX_CALL_BYTES + FRAME_BYTES;

/// Sizes of a machine, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The machine code of the component.
    pub(crate) code: usize,
    /// Linear memory of the cryptlet.
    pub(crate) memory: usize,
    /// The largest response of a source.
    pub(crate) response: usize,
}

impl Sizes {
    /// Longest message to the guest.
    fn input(self) -> usize {
        self.code.max(self.response).saturating_add(FRAME_BYTES)
    }

    /// The guest's allocator hands out powers of two. A message is there as it came, as what it carries, and as what that
    /// is made into.
    fn heap(self) -> usize {
        let message = self.input().next_power_of_two();
        BASE_BYTES.saturating_add(message.saturating_mul(3))
    }

    /// All that is written to in a run: a page of the heap is copied before it is.
    fn written(self) -> usize {
        // A table of 4 KiB maps 2 MiB.
        let memory = self.memory.saturating_add(self.memory >> 8);
        [self.heap(), self.input(), OUTPUT_BYTES, memory]
            .into_iter()
            .fold(BASE_BYTES, usize::saturating_add)
    }

    fn configuration(self) -> SandboxConfiguration {
        let mut configuration = SandboxConfiguration::default();
        configuration.set_heap_size(u64::try_from(self.heap()).unwrap_or(u64::MAX));
        configuration.set_scratch_size(self.written().next_multiple_of(BASE_BYTES));
        configuration.set_input_data_size(self.input());
        configuration.set_output_data_size(OUTPUT_BYTES);
        configuration
    }
}

/// What a run has of the world; the machine's calls out are answered from it.
pub(crate) struct World {
    pub(crate) state: RunState,
    /// Why the run is over, once it is.
    pub(crate) abort: Option<Abort>,
}

thread_local! {
    /// The run in progress. A machine calls out on the thread that runs it.
    static RUNNING: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A machine with a component in it, as it is before each run.
pub(crate) struct Machine {
    sandbox: MultiUseSandbox,
    fresh: Arc<Snapshot>,
}

impl Machine {
    /// Starts a machine and has it answer, which opens `/dev/kvm` for later ones, and shows that guests run.
    pub(crate) fn try_out() -> Result<(), HyperlightError> {
        let sizes = Sizes {
            code: 0,
            memory: 0,
            response: 0,
        };
        let answer: Vec<u8> = start(sizes)?.call("load", Vec::<u8>::new())?;
        match decode::<Loaded>(&answer) {
            Some(Err(_)) => Ok(()),
            _ => Err(HyperlightError::Error(
                "the guest took nothing for a component".into(),
            )),
        }
    }

    /// A machine that has loaded `code`, and the imports of the component.
    pub(crate) fn load(code: Vec<u8>, sizes: Sizes) -> Result<(Self, Vec<String>), String> {
        let told = |error: HyperlightError| error.to_string();
        let mut sandbox = start(sizes).map_err(told)?;
        let answer: Vec<u8> = sandbox.call("load", code).map_err(told)?;
        let imports = decode::<Loaded>(&answer).ok_or("the guest answered without sense")??;
        let fresh = sandbox.snapshot().map_err(told)?;
        Ok((Self { sandbox, fresh }, imports))
    }

    /// Runs `input` in the state that the machine had when it was loaded.
    pub(crate) fn run(
        &mut self,
        input: Vec<u8>,
        world: World,
        watchdog: &Watchdog,
        deadline: Deadline,
    ) -> (Result<Vec<u8>, HyperlightError>, Option<World>) {
        if let Err(error) = self.sandbox.restore(Arc::clone(&self.fresh)) {
            return (Err(error), Some(world));
        }
        let handle = self.sandbox.interrupt_handle();
        let stop = Box::new(move || {
            // It says whether the machine was running; if not, this is called again.
            let _ = handle.kill();
        });
        RUNNING.set(Some(world));
        let armed = watchdog.arm(stop, deadline);
        let result = self.sandbox.call("run", input);
        drop(armed);
        (result, RUNNING.take())
    }
}

fn start(sizes: Sizes) -> Result<MultiUseSandbox, HyperlightError> {
    let guest = GuestBinary::Buffer(GUEST.to_vec());
    let mut machine = UninitializedSandbox::new(guest, Some(sizes.configuration()))?;
    machine.register("call", answer_call)?;
    // A guest that prints is not heard.
    machine.register_print(|_: String| 0)?;
    machine.evolve()
}

fn answer_call(call: Vec<u8>) -> Vec<u8> {
    RUNNING
        .with_borrow_mut(|world| world.as_mut().and_then(|world| world.answer(&call)))
        .unwrap_or_default()
}

impl World {
    /// Nothing if the run is over, or the guest does not speak sense.
    fn answer(&mut self, call: &[u8]) -> Option<Vec<u8>> {
        if self.abort.is_some() {
            return None;
        }
        let answered = match decode::<CallOut<Level, HttpRequest>>(call)? {
            CallOut::Log(level, line) => self.state.write_line(level, &line).map(|()| None),
            CallOut::Send(request) => self.state.send_request(request).map(Some),
        };
        match answered {
            Ok(answer) => encode(&answer),
            Err(abort) => {
                self.abort = Some(abort);
                None
            }
        }
    }
}

/// `value`, as the guest reads it.
pub(crate) fn encode(value: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_allocvec(value).ok()
}

/// The whole of `bytes` as one value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
