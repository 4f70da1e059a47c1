//! A place on the loopback in front of another one, which a test shuts, holds and opens.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Keeps its address for as long as it lives.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    /// Bound and never listening: while the gate is shut, nobody else is given its port.
    _kept: TcpSocket,
    behind: SocketAddr,
    cut: CancellationToken,
    tasks: TaskTracker,
    held: Arc<Notify>,
    passes: watch::Sender<bool>,
}

impl Gate {
    /// An open gate in front of `behind`.
    pub(crate) fn before(behind: SocketAddr) -> Self {
        let kept = bound((Ipv4Addr::LOCALHOST, 0).into());
        let address = kept.local_addr().unwrap();
        let mut gate = Self {
            address,
            _kept: kept,
            behind,
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            held: Arc::default(),
            passes: watch::Sender::new(true),
        };
        gate.serve(listener(address));
        gate
    }

    /// Connections are refused, and those that were open are gone.
    pub(crate) async fn shut(&mut self) {
        self.cut.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Connections are taken, and wait for the gate to be opened.
    pub(crate) fn hold(&mut self) {
        self.passes.send_replace(false);
    }

    /// Connections reach the place behind, those that were held first.
    pub(crate) fn open(&mut self) {
        self.passes.send_replace(true);
        if self.cut.is_cancelled() {
            self.serve(listener(self.address));
        }
    }

    /// Waits until a connection is being held.
    pub(crate) async fn holds(&self) {
        self.held.notified().await;
    }

    fn serve(&mut self, listener: TcpListener) {
        (self.cut, self.tasks) = (CancellationToken::new(), TaskTracker::new());
        let (cut, tasks, behind) = (self.cut.clone(), self.tasks.clone(), self.behind);
        let (passes, held) = (self.passes.subscribe(), self.held.clone());
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (cut, passes) = (cut.clone(), passes.clone());
                if !*passes.borrow() {
                    held.notify_one();
                }
                tasks.spawn(async move {
                    cut.run_until_cancelled(join(stream, behind, passes)).await;
                });
            }
        };
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            cut.run_until_cancelled(accept).await;
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// A socket that shares its address with those of this function only.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

fn listener(address: SocketAddr) -> TcpListener {
    bound(address).listen(1_024).unwrap()
}

async fn join(mut stream: TcpStream, behind: SocketAddr, mut passes: watch::Receiver<bool>) {
    if passes.wait_for(|passes| *passes).await.is_err() {
        return;
    }
    if let Ok(mut other) = TcpStream::connect(behind).await {
        let _either_side_may_break = copy_bidirectional(&mut stream, &mut other).await;
    }
}
