//! A stream that takes what its peer still sends after the last answer, and throws it away.
//!
//! Whoever is refused may be in the middle of a body. A connection that is closed with bytes unread is reset, and the peer
//! then loses the answer that it has not read yet, or never looks for it because its own write failed (RFC 9112, 9.6).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

const PIECE_BYTES: usize = 16 << 10;

/// Passes everything on; its shutdown ends when the peer has ended its side, or after `patience`.
pub(crate) struct Linger<S> {
    stream: S,
    patience: Duration,
    /// Since this side has ended.
    ending: Option<Pin<Box<Sleep>>>,
}

impl<S> Linger<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            ending: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ending.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let patience = this.patience;
        let ending = this.ending.get_or_insert_with(|| Box::pin(sleep(patience)));
        // First, because whoever sends without a pause would use up all that this task may do at a time.
        if ending.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut piece = [0; PIECE_BYTES];
        loop {
            let mut thrown_away = ReadBuf::new(&mut piece);
            match Pin::new(&mut this.stream).poll_read(context, &mut thrown_away) {
                Poll::Ready(Ok(())) if !thrown_away.filled().is_empty() => {}
                // Its end, or a connection that is gone: there is nobody to wait for.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    #[tokio::test]
    async fn a_peer_that_is_still_sending_reads_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = Linger::new(stream, Duration::from_secs(60));
            stream.write_all(b"no").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(&[0; 1 << 20]).await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "no");
        peer.write_all(&[0; 1 << 20]).await.unwrap();
        peer.shutdown().await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_never_ends_is_left() {
        let (near, mut far) = tokio::io::duplex(16);
        let sends = tokio::spawn(async move { while far.write_all(&[0; 7]).await.is_ok() {} });
        let mut stream = Linger::new(near, Duration::from_millis(20));
        stream.shutdown().await.unwrap();
        drop(stream);
        sends.await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_peer_is_left() {
        let (near, _far) = tokio::io::duplex(16);
        let mut stream = Linger::new(near, Duration::from_millis(20));
        stream.shutdown().await.unwrap();
    }
}
