//! One virtual machine: hyperlight's, on KVM, with one processor, no devices, and two ways out: an answer, and a call
//! to the host function `call`.
//!
//! It runs on a thread of its own, since what it asks for is answered by the session's thread, which has the stream to the
//! host; and since the signal that stops it must reach no other thread.

use crate::{
    alarm::{self, Alarm},
    wire::{Loaded, MAX_CALL_BYTES, decode},
};
use hyperlight_host::{
    GuestBinary, HyperlightError, MultiUseSandbox, UninitializedSandbox,
    hypervisor::InterruptHandle,
    sandbox::{SandboxConfiguration, snapshot::Snapshot},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

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

/// Starts a machine and has it answer: it opens `/dev/kvm` for later ones, and shows that guests run.
pub(crate) fn try_out() -> Result<(), String> {
    let sizes = Sizes {
        code: 0,
        memory: 0,
        response: 0,
    };
    match imports(b"no component", sizes) {
        // That is what it has to say about that.
        Err(reason) if reason.starts_with(REFUSED) => Ok(()),
        Err(reason) => Err(reason),
        Ok(_) => Err("the guest takes anything for a component".into()),
    }
}

/// How a reason of the guest begins.
const REFUSED: &str = "no cryptlet: ";

/// The imports of the component of which `code` is the machine code.
pub(crate) fn imports(code: &[u8], sizes: Sizes) -> Result<Vec<String>, String> {
    load(&mut create(sizes, |_| Vec::new())?, code.to_vec())
}

/// A machine with a component in it, and its thread.
pub(crate) struct Machine {
    runs: Sender<Vec<u8>>,
    said: Receiver<Said>,
    answers: Sender<Vec<u8>>,
    handle: Arc<dyn InterruptHandle>,
}

/// What the machine's thread says to the session's.
enum Said {
    Call(Vec<u8>),
    Ended(Result<Vec<u8>, String>),
}

impl Machine {
    /// Starts a machine that has loaded `code`.
    pub(crate) fn start(code: Vec<u8>, sizes: Sizes) -> Result<Self, String> {
        let (runs, inputs) = channel();
        let (say, said) = channel();
        let (answers, answered) = channel();
        let (ready, started) = channel();
        let call = ask(say.clone(), answered);
        alarm::silence().map_err(|error| error.to_string())?;
        let work = move || match prepare(code, sizes, call) {
            Ok((machine, fresh)) => {
                if ready.send(Ok(machine.interrupt_handle())).is_ok() {
                    attend(machine, &fresh, &inputs, &say);
                }
            }
            Err(reason) => {
                // Whoever waits for it is there until it comes.
                let _ = ready.send(Err(reason));
            }
        };
        let spawned = thread::Builder::new().name("machine".into()).spawn(work);
        spawned.map_err(|error| error.to_string())?;
        let handle = started.recv().map_err(|_| GONE)??;
        Ok(Self {
            runs,
            said,
            answers,
            handle,
        })
    }

    /// What stops the run in progress.
    pub(crate) fn stop(&self) -> Box<dyn Fn() + Send> {
        let handle = Arc::clone(&self.handle);
        Box::new(move || {
            let _alarm = Alarm::ring();
            // It waits until the machine does not run any more. If it did not, it says so at once, and this is called again.
            let _ = handle.kill();
        })
    }

    /// Runs `input` in the state that the machine had when it had loaded the component; `answer` answers its calls.
    pub(crate) fn run(
        &self,
        input: Vec<u8>,
        mut answer: impl FnMut(Vec<u8>) -> Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        self.runs.send(input).map_err(|_| GONE)?;
        loop {
            match self.said.recv().map_err(|_| GONE)? {
                Said::Call(call) => self.answers.send(answer(call)).map_err(|_| GONE)?,
                Said::Ended(result) => return result,
            }
        }
    }
}

const GONE: &str = "the machine's thread has ended";

/// The host function `call`: has the session's thread answer.
fn ask(
    say: Sender<Said>,
    answered: Receiver<Vec<u8>>,
) -> impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static {
    let ends = Mutex::new((say, answered));
    move |call| {
        let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (say, answered) = &*ends;
        match say.send(Said::Call(call)) {
            Ok(()) => answered.recv().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}

/// A machine that has loaded `code`, and its state then, to which it has been brought back once: that changes where its memory
/// lies, which a sealed region cannot do.
fn prepare(
    code: Vec<u8>,
    sizes: Sizes,
    call: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Result<(MultiUseSandbox, Arc<Snapshot>), String> {
    alarm::hear().map_err(|error| error.to_string())?;
    let mut machine = create(sizes, call)?;
    load(&mut machine, code)?;
    let fresh = machine.snapshot().map_err(told)?;
    machine.restore(Arc::clone(&fresh)).map_err(told)?;
    Ok((machine, fresh))
}

/// Runs until there is nobody who wants runs.
fn attend(
    mut machine: MultiUseSandbox,
    fresh: &Arc<Snapshot>,
    inputs: &Receiver<Vec<u8>>,
    say: &Sender<Said>,
) {
    for input in inputs {
        let restored = machine.restore(Arc::clone(fresh));
        let result = restored.and_then(|()| machine.call("run", input));
        if say.send(Said::Ended(result.map_err(told))).is_err() {
            return;
        }
    }
}

fn create(
    sizes: Sizes,
    answer: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Result<MultiUseSandbox, String> {
    let create = || {
        let guest = GuestBinary::Buffer(GUEST.to_vec());
        let mut machine = UninitializedSandbox::new(guest, Some(sizes.configuration()))?;
        machine.register("call", answer)?;
        // A guest that prints is not heard.
        machine.register_print(|_: String| 0)?;
        machine.evolve()
    };
    create().map_err(told)
}

fn told(error: HyperlightError) -> String {
    error.to_string()
}

fn load(machine: &mut MultiUseSandbox, code: Vec<u8>) -> Result<Vec<String>, String> {
    let answer: Vec<u8> = machine.call("load", code).map_err(told)?;
    let imports = decode::<Loaded>(&answer).ok_or("the guest answered without sense")?;
    imports.map_err(|reason| format!("{REFUSED}{reason}"))
}
