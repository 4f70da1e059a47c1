//! Frames on the stream to the host: a big-endian `u32` length and one CBOR item (see `cryptlet_types::region`).

use cryptlet_types::{
    bounded::MAX_FRAME_BYTES,
    region::{CallIn, CallOut, CallOutAnswer, FrameError, ToHost, ToRegion, decode, encode},
};
use std::{
    cell::RefCell,
    io::{ErrorKind, Read, Write},
    rc::Rc,
};

/// Least room for one read: a job fits.
const LEAST_READ_BYTES: usize = 8 << 10;
/// Most room for one read: what is announced is believed only as far as it comes.
const MOST_READ_BYTES: usize = 1 << 20;

/// Why the conversation with the host cannot go on. The region ends: no retry helps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The host has gone.
    #[error("host has gone: {0}")]
    Gone(ErrorKind),
    /// The host announced a frame that is too long.
    #[error("frame of {0} bytes, at most {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// The host sent something else than a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The host spoke when it was not its turn.
    #[error("host spoke out of turn")]
    OutOfTurn,
}

impl ChannelError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    fn gone(error: &std::io::Error) -> Self {
        Self::Gone(error.kind())
    }
}

/// Who answers the region's calls out.
pub trait Host {
    /// Calls out and waits for the answer. The inner error is the host's word, for people.
    ///
    /// # Errors
    /// The conversation cannot go on.
    fn call(&mut self, call: CallOut) -> Result<Result<CallOutAnswer, String>, ChannelError>;
}

/// A host that a run shares with the session; a region has one thread of conversation.
pub type SharedHost = Rc<RefCell<dyn Host>>;

/// The stream to the host.
#[derive(Debug)]
pub struct Channel<S> {
    stream: S,
    /// What was read and not taken yet comes first.
    buffer: Vec<u8>,
    /// How many bytes that are.
    read: usize,
}

impl<S: Read + Write> Channel<S> {
    /// A channel on `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            read: 0,
        }
    }

    /// The host's next call; none when the host has closed the stream between two frames.
    ///
    /// # Errors
    /// The conversation cannot go on.
    pub fn next_call(&mut self) -> Result<Option<CallIn>, ChannelError> {
        match self.receive()? {
            None => Ok(None),
            Some(ToRegion::Call(call)) => Ok(Some(call)),
            Some(ToRegion::Answer(_)) => Err(ChannelError::OutOfTurn),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The conversation cannot go on.
    pub fn send(&mut self, message: &ToHost) -> Result<(), ChannelError> {
        let body = encode(message)?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_FRAME_BYTES)
            .ok_or(ChannelError::TooLong(body.len()))?;
        let mut frame = Vec::with_capacity(body.len() + 4);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&body);
        self.stream
            .write_all(&frame)
            .map_err(|error| ChannelError::gone(&error))
    }

    fn receive(&mut self) -> Result<Option<ToRegion>, ChannelError> {
        let Some(length) = self.receive_length()? else {
            return Ok(None);
        };
        let end = 4 + length;
        while self.read < end {
            if self.read(end - self.read)? == 0 {
                return Err(ChannelError::Gone(ErrorKind::UnexpectedEof));
            }
        }
        let message = decode(self.buffer.get(4..end).unwrap_or_default())?;
        self.taken(end);
        Ok(Some(message))
    }

    /// Length of the next frame, at most [`MAX_FRAME_BYTES`]; none at the end of the stream.
    fn receive_length(&mut self) -> Result<Option<usize>, ChannelError> {
        loop {
            let head = self.buffer.get(..self.read).unwrap_or_default();
            if let Some(head) = head.first_chunk() {
                let length = usize::try_from(u32::from_be_bytes(*head));
                let length = length.unwrap_or(usize::MAX);
                return match length <= MAX_FRAME_BYTES {
                    true => Ok(Some(length)),
                    false => Err(ChannelError::TooLong(length)),
                };
            }
            if self.read(4)? == 0 {
                return match self.read {
                    0 => Ok(None),
                    _ => Err(ChannelError::Gone(ErrorKind::UnexpectedEof)),
                };
            }
        }
    }

    /// Reads once; returns how much. Where there is no room left, room for what is `wanted` is made first: a small call is read at
    /// once with its head, by one system call.
    fn read(&mut self, wanted: usize) -> Result<usize, ChannelError> {
        if self.read == self.buffer.len() {
            let room = wanted.clamp(LEAST_READ_BYTES, MOST_READ_BYTES);
            self.buffer.resize(self.read + room, 0);
        }
        let into = self.buffer.get_mut(self.read..).unwrap_or_default();
        let count = loop {
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| ChannelError::gone(&error))?,
            }
        };
        self.read += count;
        Ok(count)
    }

    /// Forgets the first bytes of the buffer. It does not keep the size of the largest call.
    fn taken(&mut self, end: usize) {
        self.buffer.copy_within(end..self.read, 0);
        self.read -= end;
        if self.buffer.len() > LEAST_READ_BYTES {
            self.buffer.truncate(self.read);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<S: Read + Write> Host for Channel<S> {
    fn call(&mut self, call: CallOut) -> Result<Result<CallOutAnswer, String>, ChannelError> {
        self.send(&ToHost::Call(call))?;
        match self.receive()? {
            Some(ToRegion::Answer(answer)) => Ok(answer),
            Some(ToRegion::Call(_)) => Err(ChannelError::OutOfTurn),
            None => Err(ChannelError::Gone(ErrorKind::UnexpectedEof)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A stream that yields what was prepared and keeps what is written.
    struct Prepared {
        input: Cursor<Vec<u8>>,
        output: Vec<u8>,
    }

    impl Read for Prepared {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.input.read(buffer)
        }
    }

    impl Write for Prepared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.output.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn channel(input: Vec<u8>) -> Channel<Prepared> {
        Channel::new(Prepared {
            input: Cursor::new(input),
            output: Vec::new(),
        })
    }

    fn frame(message: &ToRegion) -> Vec<u8> {
        let body = encode(message).unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        frame
    }

    #[test]
    fn a_closed_stream_is_no_call() {
        assert!(channel(Vec::new()).next_call().unwrap().is_none());
    }

    #[test]
    fn an_oversize_frame_is_refused_before_it_is_read() {
        let length = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
        let error = channel(length.to_be_bytes().to_vec()).next_call();
        assert_eq!(
            error.unwrap_err(),
            ChannelError::TooLong(MAX_FRAME_BYTES + 1)
        );
    }

    #[test]
    fn a_frame_that_ends_early_is_an_end() {
        let whole = frame(&ToRegion::Answer(Ok(CallOutAnswer::Done)));
        for end in 1..whole.len() {
            let error = channel(whole[..end].to_vec()).next_call().unwrap_err();
            assert_eq!(error, ChannelError::Gone(ErrorKind::UnexpectedEof), "{end}");
        }
    }

    /// A stream that yields a byte at a time.
    struct Slow(Prepared);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_are_the_same_however_they_come() {
        let image = |bytes: usize| CallIn::Resume {
            grant: cryptlet_types::region::KeyGrant::InVault {
                signer: Default::default(),
            },
            image: vec![7; bytes].into(),
        };
        let sizes = [
            0,
            5,
            LEAST_READ_BYTES - 1,
            LEAST_READ_BYTES,
            3 * MOST_READ_BYTES,
            9,
        ];
        let all: Vec<u8> = sizes
            .iter()
            .flat_map(|bytes| frame(&ToRegion::Call(image(*bytes))))
            .collect();
        let mut together = channel(all.clone());
        let mut slow = Channel::new(Slow(channel(all).stream));
        for bytes in sizes {
            let expected = format!("{:?}", image(bytes));
            for next in [together.next_call(), slow.next_call()] {
                assert_eq!(format!("{:?}", next.unwrap().unwrap()), expected);
            }
            assert!(slow.buffer.capacity() <= LEAST_READ_BYTES);
        }
        assert!(together.next_call().unwrap().is_none());
        assert!(slow.next_call().unwrap().is_none());
    }

    #[test]
    fn an_answer_is_no_call_and_a_call_no_answer() {
        let answer = frame(&ToRegion::Answer(Ok(CallOutAnswer::Done)));
        assert_eq!(
            channel(answer).next_call().unwrap_err(),
            ChannelError::OutOfTurn
        );
        let grant = cryptlet_types::region::KeyGrant::InVault {
            signer: Default::default(),
        };
        let call = frame(&ToRegion::Call(CallIn::Provision(grant)));
        assert_eq!(
            channel(call).call(CallOut::Close).unwrap_err(),
            ChannelError::OutOfTurn
        );
    }

    #[test]
    fn a_call_gets_its_answer() {
        let mut channel = channel(frame(&ToRegion::Answer(Err("no".into()))));
        assert!(matches!(channel.call(CallOut::Close), Ok(Err(reason)) if reason == "no"));
        assert_eq!(
            channel.stream.output[4..],
            encode(&ToHost::Call(CallOut::Close)).unwrap()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut channel = channel(bytes);
            while let Ok(Some(_)) = channel.next_call() {}
        }
    }
}
