//! What passes between the container and its virtual machine, in postcard's encoding. The container compiles this file
//! too; the types of the cryptlet's world are generated from the same interface file on both sides.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Most that a cryptlet can hand over at once, and so the longest call out; the container allows less.
pub(crate) const MAX_CALL_BYTES: usize = 2 << 20;

/// What `load` answers: the imports, or why it is no cryptlet.
pub(crate) type Loaded = Result<Vec<String>, String>;

/// A run, for the guest's function `run`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run<C, T> {
    pub(crate) context: C,
    pub(crate) trigger: T,
    pub(crate) params: Vec<u8>,
    pub(crate) fuel: u64,
    pub(crate) memory_bytes: u64,
}

/// What `run` answers.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ran<A> {
    pub(crate) ended: Result<A, Stopped>,
    pub(crate) fuel_left: u64,
}

/// Why a cryptlet did not come to an end by itself.
#[derive(Serialize, Deserialize)]
pub(crate) enum Stopped {
    OutOfFuel,
    OutOfMemory,
    /// It said more than this many bytes.
    TooLarge(u64),
    /// The container did not answer: it knows why the run is over.
    Aborted,
    Trap(String),
}

/// A call of the cryptlet, for the host function `call`. It answers with what was asked for, or with no bytes once the
/// run is over.
#[derive(Serialize, Deserialize)]
pub(crate) enum CallOut<L, R, C> {
    Log(L, String),
    Send(R),
    Sign(Vec<u8>),
    Check(C),
}

/// The answer to a call.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answered<R, E, S> {
    /// To a line.
    Taken,
    /// Of a source.
    Response(Result<R, E>),
    /// Of who signs.
    Signed(Result<S, String>),
    /// Whether a claim holds.
    Checked(Result<bool, String>),
}

/// `value`, as the other side reads it.
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    postcard::to_allocvec(value).ok()
}

/// The whole of `bytes` as one value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
