//! Frames on the stream to a region: a big-endian `u32` length and one CBOR item.

use crate::IsolationError;
use cryptlet_types::{
    bounded::MAX_FRAME_BYTES,
    region::{ToHost, ToRegion, decode, encode},
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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

/// Receives a message.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<ToHost, IsolationError> {
    let length = stream.read_u32().await.map_err(|error| died(&error))?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_FRAME_BYTES)
        .ok_or_else(|| too_long(usize::try_from(length).unwrap_or(usize::MAX)))?;
    let mut body = vec![0; length];
    let read = stream.read_exact(&mut body).await;
    read.map_err(|error| died(&error))?;
    Ok(decode(&body)?)
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
