//! New heads as nodes push them.

use crate::support::{World, nobody};
use cryptlet_chain::{EvmConfig, EvmLogChain, Head, LogChain};
use cryptlet_types::subscription::Finality;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A wire to a node that counts what is sent to it, and can be cut.
struct Wire {
    url: String,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Wire {
    async fn to(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let node = world.url.trim_start_matches("http://").to_owned();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let task = tokio::spawn(async move {
            let mut wires = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&node).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                wires.spawn(copy(near_in, far_out, counted.clone()));
                wires.spawn(copy(far_in, near_out, Arc::default()));
            }
        });
        Self { url, sent, task }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    count: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 16_384];
    while let Ok(read) = from.read(&mut buffer).await {
        count.fetch_add(read, Ordering::SeqCst);
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Mines until one block was pushed, so that the stream is known to be open.
pub(crate) async fn streaming(world: &World, chain: &EvmLogChain) -> Head {
    loop {
        let head = chain.head(Finality::Latest).await.unwrap().unwrap();
        world.mine().await;
        let next = tokio::time::timeout(Duration::from_millis(100), chain.next_head(&head)).await;
        if let Ok(next) = next {
            let next = next.unwrap();
            let quiet = tokio::time::timeout(Duration::from_millis(50), chain.next_head(&next));
            assert!(quiet.await.is_err());
            return next;
        }
    }
}

fn never_polling<const N: usize>(world: &World, urls: [String; N]) -> EvmConfig {
    EvmConfig {
        poll_interval: Duration::from_secs(3600),
        ..world.config(urls)
    }
}

#[tokio::test]
async fn a_pushed_head_is_the_answer_without_a_question() {
    let world = World::new().await;
    let wire = Wire::to(&world).await;
    let config = never_polling(&world, [wire.url.clone()]);
    let chain = EvmLogChain::open(config).await.unwrap();
    let mut head = streaming(&world, &chain).await;
    // One more, so that what asked before has been answered.
    for round in 0..5 {
        let before = wire.sent();
        let (next, ()) = tokio::join!(chain.next_head(&head), world.mine());
        let next = next.unwrap();
        assert_eq!((next.number, next.parent), (head.number + 1, head.hash));
        if round > 0 {
            assert_eq!(wire.sent(), before, "nothing was asked");
        }
        head = next;
    }
    // Two at once: the newest is the answer, and it leads back to what was known.
    world.mine().await;
    world.mine().await;
    while chain.next_head(&head).await.unwrap().number < head.number + 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_stream_goes_on_at_another_node_when_its_own_is_gone() {
    let world = World::new().await;
    let wire = Wire::to(&world).await;
    let (_taken, dead) = nobody("ws");
    let urls = [dead, wire.url.clone(), world.ws_url()];
    let config = never_polling(&world, urls);
    let chain = EvmLogChain::open(config).await.unwrap();
    streaming(&world, &chain).await;
    wire.task.abort();
    streaming(&world, &chain).await;
}

#[tokio::test]
async fn a_stream_that_broke_is_opened_again() {
    let world = World::new().await;
    let wire = Wire::to(&world).await;
    let address = wire.url.trim_start_matches("ws://").to_owned();
    let config = never_polling(&world, [wire.url.clone()]);
    let chain = EvmLogChain::open(config).await.unwrap();
    streaming(&world, &chain).await;
    wire.task.abort();
    let _ended = wire.task.await;
    let error = loop {
        if let Err(error) = chain.head(Finality::Latest).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(error.is_retryable(), "{error}");
    let listener = TcpListener::bind(&address).await.unwrap();
    let node = world.url.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(&node).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    streaming(&world, &chain).await;
}
