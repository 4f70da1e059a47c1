//! A wire that can be cut: TCP connections, handed on to one address.

use crate::error::{CliError, Doing};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Hands on until it is dropped.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    whole: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// A wire to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Result<Self, CliError> {
        let doing = "the proxy did not start";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.doing(doing)?;
        let address = listener.local_addr().doing(doing)?;
        let (whole, is_whole) = watch::channel(true);
        Ok(Self {
            address,
            whole,
            listening: tokio::spawn(listen(listener, target, is_whole)),
        })
    }

    /// Ends all connections and takes no others.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: SocketAddr, whole: watch::Receiver<bool>) {
    while let Ok((near, _)) = listener.accept().await {
        if *whole.borrow() {
            tokio::spawn(hand_on(near, target, whole.clone()));
        }
    }
}

async fn hand_on(mut near: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    for side in [&near, &far] {
        let _only_slower = side.set_nodelay(true);
    }
    tokio::select! {
        _both_ended = copy_bidirectional(&mut near, &mut far) => {}
        _cut = whole.wait_for(|whole| !*whole) => {}
    }
}
