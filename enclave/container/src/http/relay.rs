//! The byte stream that the host relays, as the standard library's traits want it.

use super::ExchangeError;
use crate::{
    channel::{ChannelError, SharedHost},
    deadline::{Deadline, DeadlinePassed},
};
use alloy_primitives::Bytes;
use cryptlet_types::{
    bounded::clip,
    recording::Divergence,
    region::{CallOut, CallOutAnswer},
};
use std::io::{self, Read, Write};

/// Most bytes asked for, or sent, at once: one TLS record.
const CHUNK_BYTES: usize = 16 << 10;

/// Why a run ends whatever the cryptlet would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// Its time is up.
    #[error(transparent)]
    Deadline(#[from] DeadlinePassed),
    /// The conversation with the host cannot go on.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It left the recording from which it is repeated.
    #[error("replay diverged at {0}")]
    Diverged(Divergence),
}

/// A connected stream. The host has one stream for a region; connecting closes the one before.
pub(super) struct RelayStream<'a> {
    host: &'a SharedHost,
    deadline: Deadline,
    abort: Option<Abort>,
}

impl<'a> RelayStream<'a> {
    pub(super) fn connect(
        host: &'a SharedHost,
        deadline: Deadline,
        place: &str,
    ) -> Result<Self, ExchangeError> {
        let mut stream = Self {
            host,
            deadline,
            abort: None,
        };
        let place = place.to_owned();
        match stream.call(CallOut::Connect { place }) {
            Ok(CallOutAnswer::Done) => Ok(stream),
            Ok(CallOutAnswer::Received(_) | CallOutAnswer::CodeKey(_)) => {
                Err(Abort::Channel(ChannelError::OutOfTurn).into())
            }
            Err(error) => Err(match stream.take_abort() {
                Some(abort) => abort.into(),
                None => ExchangeError::Unreachable(error.to_string()),
            }),
        }
    }

    /// Why the run is over, if it is: then whatever else failed is a consequence.
    pub(super) fn take_abort(&mut self) -> Option<Abort> {
        self.abort.take()
    }

    fn call(&mut self, call: CallOut) -> io::Result<CallOutAnswer> {
        let answer = self.host.borrow_mut().call(call);
        let over = |abort: Abort| io::Error::other(abort);
        match (answer, self.deadline.check()) {
            (Err(error), _) => Err(over(self.abort.insert(error.into()).clone())),
            (_, Err(passed)) => Err(over(self.abort.insert(passed.into()).clone())),
            (Ok(Err(reason)), _) => Err(io::Error::other(clip(&reason))),
            (Ok(Ok(answer)), _) => Ok(answer),
        }
    }

    fn out_of_turn(&mut self) -> io::Error {
        io::Error::other(self.abort.insert(ChannelError::OutOfTurn.into()).clone())
    }
}

impl Read for RelayStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(CHUNK_BYTES);
        let count = u32::try_from(wanted).map_err(io::Error::other)?;
        let CallOutAnswer::Received(bytes) = self.call(CallOut::Receive(count))? else {
            return Err(self.out_of_turn());
        };
        match buffer
            .get_mut(..bytes.len())
            .filter(|_| bytes.len() <= wanted)
        {
            Some(target) => {
                target.copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            None => Err(self.out_of_turn()),
        }
    }
}

impl Write for RelayStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        match self.call(CallOut::Send(Bytes::copy_from_slice(chunk)))? {
            CallOutAnswer::Done => Ok(chunk.len()),
            CallOutAnswer::Received(_) | CallOutAnswer::CodeKey(_) => Err(self.out_of_turn()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
