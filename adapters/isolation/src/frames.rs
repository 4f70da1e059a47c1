//! Frames on the stream to a region: a big-endian `u32` length and one CBOR item.

use crate::{IsolationError, region::out_of_turn};
use cryptlet_types::{
    bounded::MAX_FRAME_BYTES,
    region::{ToHost, ToRegion, decode, encode},
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are read at first: most answers fit.
const FIRST_READ_BYTES: usize = 8 << 10;
/// Most bytes of one read: what is announced is believed only as far as it comes.
const MOST_READ_BYTES: usize = 1 << 20;

fn died(error: &io::Error) -> IsolationError {
    IsolationError::Died(error.kind().to_string())
}

/// Sends a message.
pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &ToRegion,
) -> Result<(), IsolationError> {
    let body = encode(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_FRAME_BYTES)
        .ok_or_else(|| too_long(body.len()))?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    let written = stream.write_all(&frame).await;
    written.map_err(|error| died(&error))?;
    stream.flush().await.map_err(|error| died(&error))
}

/// Receives a message, with nothing behind it: who has said something waits for an answer. A small one is read in one go.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<ToHost, IsolationError> {
    let mut frame = Vec::with_capacity(FIRST_READ_BYTES);
    let length = loop {
        if let Some(head) = frame.first_chunk() {
            break length(*head)?;
        }
        read(stream, &mut frame, FIRST_READ_BYTES).await?;
    };
    let end = 4 + length;
    while frame.len() < end {
        let missing = (end - frame.len()).min(MOST_READ_BYTES);
        frame.reserve(missing);
        read(stream, &mut frame, missing).await?;
    }
    if frame.len() > end {
        return Err(out_of_turn());
    }
    Ok(decode(frame.get(4..).unwrap_or_default())?)
}

/// Reads at most so many bytes, and some.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    frame: &mut Vec<u8>,
    most: usize,
) -> Result<(), IsolationError> {
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    match stream.take(most).read_buf(frame).await {
        Ok(0) => Err(died(&io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(died(&error)),
    }
}

fn length(head: [u8; 4]) -> Result<usize, IsolationError> {
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    match length <= MAX_FRAME_BYTES {
        true => Ok(length),
        false => Err(too_long(length)),
    }
}

fn too_long(length: usize) -> IsolationError {
    IsolationError::Protocol(format!(
        "frame of {length} bytes, at most {MAX_FRAME_BYTES}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_types::region::{CallOut, CallOutAnswer};
    use proptest::prelude::*;

    #[tokio::test]
    async fn an_oversize_frame_is_refused_before_it_is_read() {
        let length = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes();
        let error = receive(&mut length.as_slice()).await.unwrap_err();
        assert!(matches!(error, IsolationError::Protocol(_)), "{error}");
    }

    #[tokio::test]
    async fn a_frame_that_ends_early_means_that_the_region_died() {
        let body = encode(&cryptlet_types::region::ToHost::Call(CallOut::Close)).unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        for end in 0..frame.len() {
            let error = receive(&mut &frame[..end]).await.unwrap_err();
            assert!(matches!(error, IsolationError::Died(_)), "{error}");
        }
        assert!(receive(&mut frame.as_slice()).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_says_two_things_at_once_is_not_heard() {
        let one = encode(&ToHost::Call(CallOut::Close)).unwrap();
        let head = u32::try_from(one.len()).unwrap().to_be_bytes();
        let twice = [&head[..], &one, &head[..], &one].concat();
        let error = receive(&mut twice.as_slice()).await.unwrap_err();
        assert!(error.to_string().contains("out of turn"), "{error}");
    }

    #[tokio::test]
    async fn a_long_message_is_read_whole() {
        for bytes in [FIRST_READ_BYTES - 4, FIRST_READ_BYTES, 3 * MOST_READ_BYTES] {
            let body = encode(&ToHost::Call(CallOut::Send(vec![7; bytes].into()))).unwrap();
            let head = u32::try_from(body.len()).unwrap().to_be_bytes();
            let frame = [&head[..], &body].concat();
            let said = receive(&mut frame.as_slice()).await.unwrap();
            assert!(matches!(said, ToHost::Call(CallOut::Send(sent)) if sent.len() == bytes));
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_a_breach() {
        let mut sent = Vec::new();
        send(&mut sent, &ToRegion::Answer(Ok(CallOutAnswer::Done)))
            .await
            .unwrap();
        let error = receive(&mut sent.as_slice()).await.unwrap_err();
        assert!(matches!(error, IsolationError::Protocol(_)), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut stream = bytes.as_slice();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            while runtime.block_on(receive(&mut stream)).is_ok() {}
        }
    }
}
