//! A chain behind one or several endpoints: one is in use, another answers where it cannot.
//!
//! They are asked in the order in which they are configured. One that fails rests, and is put to use again when it
//! answers a trial; one that says what cannot be is trusted again later still. Nothing of what they say is mixed: each
//! question is answered, and its answer checked, by one of them.

use super::{
    endpoint::{CallError, Endpoint},
    heads::{Block, Seen},
    reader::EvmConfig,
};
use crate::{ChainError, Head};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use futures::future::join_all;
use serde_json::value::RawValue;
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    task::JoinHandle,
};

/// Pause before a lost stream of new heads is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// A rest doubles with each failure, up to this many times the first one; of one that is not trusted it is that long.
const LONGEST_REST: u32 = 64;
/// How many blocks an endpoint may be behind another without being out of use for it.
const NEAR: u64 = 2;

/// The endpoints of one chain.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Arc<Endpoint>>,
    chain_id: u64,
    timeout: Duration,
    failover: Duration,
    first_rest: Duration,
    rests: Mutex<Vec<Option<Rest>>>,
    seen: Mutex<Seen>,
    in_use: watch::Sender<usize>,
    pushed: watch::Sender<Pushed>,
}

/// An endpoint that is not in use for a while.
#[derive(Clone, Copy, Debug)]
struct Rest {
    pause: Duration,
    until: Instant,
}

/// What was pushed last, and whether there is a stream of it.
#[derive(Clone, Copy, Debug, Default)]
struct Pushed {
    live: bool,
    head: Option<Head>,
}

/// One endpoint, and how long it may take for an answer.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    endpoint: Arc<Endpoint>,
    patience: Duration,
}

impl Asker {
    pub(super) async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        self.endpoint.ask(self.patience, method, params).await
    }

    pub(super) async fn block(&self, block: BlockId) -> Result<Option<Block>, CallError> {
        self.endpoint.block(self.patience, block).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Connection {
    /// Asks all endpoints for their chain: one has to answer, and no two may differ.
    pub(super) async fn open(config: &EvmConfig) -> Result<Self, ChainError> {
        let endpoint = |url: &String| Endpoint::at(url, config.headers).map(Arc::new);
        let endpoints: Vec<_> = config.urls.iter().map(endpoint).collect::<Result<_, _>>()?;
        let asked = endpoints
            .iter()
            .map(|endpoint| endpoint.ask_chain_id(config.timeout));
        let answers = join_all(asked).await;
        let chain_id = agreed_chain(&answers);
        let rest = |answer: &Result<u64, CallError>| {
            answer.is_err().then(|| Rest {
                pause: config.rest,
                until: Instant::now() + config.rest,
            })
        };
        let rests: Vec<_> = answers.iter().map(rest).collect();
        let chain_id = match chain_id {
            Some(chain_id) => chain_id?,
            None => return Err(first_error(answers)),
        };
        for (endpoint, answer) in endpoints.iter().zip(&answers) {
            endpoint.expect_chain(chain_id);
            if let Err(error) = answer {
                let (endpoint, error) = (endpoint.place(), error.brief());
                tracing::warn!(endpoint, error, "a node does not answer");
            }
        }
        let in_use = rests.iter().position(Option::is_none).unwrap_or_default();
        let shared = Arc::new(Shared {
            endpoints,
            chain_id,
            timeout: config.timeout,
            failover: config.failover.min(config.timeout),
            first_rest: config.rest,
            rests: Mutex::new(rests),
            seen: Mutex::new(Seen::new(config.rollback_patience)),
            in_use: watch::Sender::new(in_use),
            pushed: watch::Sender::new(Pushed::default()),
        });
        let mut tasks = Vec::new();
        if shared.endpoints.iter().any(|endpoint| endpoint.pushes()) {
            tasks.push(tokio::spawn(follow_heads(shared.clone())));
        }
        if shared.endpoints.len() > 1 {
            tasks.push(tokio::spawn(wake_the_rested(shared.clone())));
        }
        Ok(Self { shared, tasks })
    }

    pub(super) fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen()
    }

    /// Asks one question, of the next endpoint where one cannot answer it.
    pub(super) async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, ChainError> {
        let answer = self.call_raw(method, params).await;
        answer.map_err(|error| error.sorted(method))
    }

    /// As [`Connection::call`], with the node's own error kept whole.
    pub(super) async fn call_raw<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        self.any(|asker| {
            let params = params.clone();
            async move { asker.ask(method, params).await }
        })
        .await
    }

    /// Has one endpoint answer `question` wholly, checks included: where it fails by an endpoint's fault, the next one.
    pub(super) async fn any<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        question: impl Fn(Asker) -> F,
    ) -> Result<T, CallError> {
        let shared = &self.shared;
        let order = shared.order();
        let mut failed: Option<CallError> = None;
        for (place, index) in order.iter().enumerate() {
            let Some(endpoint) = shared.endpoints.get(*index) else {
                continue;
            };
            let is_last = place + 1 == order.len();
            let asker = Asker {
                endpoint: endpoint.clone(),
                patience: if is_last {
                    shared.timeout
                } else {
                    shared.failover
                },
            };
            match question(asker).await {
                Err(error) if error.is_the_endpoints() => {
                    shared.fail(*index, &error);
                    // What passes says more than what does not: another endpoint may be back soon.
                    if failed.as_ref().is_none_or(|first| !first.is_retryable()) {
                        failed = Some(error);
                    }
                }
                answer => return answer,
            }
        }
        Err(failed.unwrap_or_else(|| CallError::Chain(no_endpoint())))
    }

    /// All endpoints that are in use, each for a question of its own.
    pub(super) fn all(&self) -> Vec<Asker> {
        let shared = &self.shared;
        let asker = |endpoint: &Arc<Endpoint>| Asker {
            endpoint: endpoint.clone(),
            patience: shared.timeout,
        };
        let rests = shared.rests();
        let awake = shared.endpoints.iter().zip(rests.iter());
        let awake: Vec<_> = awake
            .filter(|(_, rest)| rest.is_none())
            .map(|(endpoint, _)| asker(endpoint))
            .collect();
        if awake.is_empty() {
            shared.endpoints.iter().map(asker).collect()
        } else {
            awake
        }
    }

    /// Compares the endpoints' newest blocks, and puts those out of use that are far behind the others.
    pub(super) async fn compare(&self) {
        let shared = &self.shared;
        let awake: Vec<_> = shared.order_awake();
        if awake.len() < 2 {
            return;
        }
        let asked = awake.iter().filter_map(|index| {
            let endpoint = shared.endpoints.get(*index)?;
            Some(async move {
                let block = endpoint.block(shared.failover, BlockNumberOrTag::Latest.into());
                (*index, block.await)
            })
        });
        let answers = join_all(asked).await;
        let number = |answer: &(usize, Result<Option<Block>, CallError>)| match answer {
            (index, Ok(Some(block))) => Some((*index, block.head.number)),
            _ => None,
        };
        let numbers: Vec<_> = answers.iter().filter_map(number).collect();
        let reference = upper_median(numbers.iter().map(|(_, number)| *number).collect());
        for (index, found) in numbers {
            let error = ChainError::Behind {
                seen: reference,
                found,
            };
            if found.saturating_add(NEAR) < reference {
                shared.fail(index, &CallError::Chain(error));
            }
        }
    }

    /// How many endpoints there are.
    pub(super) fn size(&self) -> usize {
        self.shared.endpoints.len()
    }

    /// Notice of heads that the node pushes from now on.
    pub(super) fn notices(&self) -> Notices {
        Notices {
            pushed: self.shared.pushed.subscribe(),
        }
    }
}

/// Of two the greater, of three the middle one: what more than one says where more than two are asked.
fn upper_median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let middle = numbers.len().saturating_sub(1) / 2;
    numbers.get(middle).copied().unwrap_or_default()
}

/// The chain that all serve that answered; an error if two differ, none if nobody answered.
fn agreed_chain(answers: &[Result<u64, CallError>]) -> Option<Result<u64, ChainError>> {
    let mut ids = answers.iter().filter_map(|answer| answer.as_ref().ok());
    let expected = *ids.next()?;
    match ids.find(|found| **found != expected) {
        Some(&found) => Some(Err(ChainError::ChainChanged { expected, found })),
        None => Some(Ok(expected)),
    }
}

fn first_error(answers: Vec<Result<u64, CallError>>) -> ChainError {
    let error = answers.into_iter().find_map(Result::err);
    error.map_or_else(no_endpoint, |error| error.sorted("eth_chainId"))
}

fn no_endpoint() -> ChainError {
    ChainError::Url("none given".to_owned())
}

impl Shared {
    // A panic of somebody who held a lock leaves nothing half done here.
    fn rests(&self) -> MutexGuard<'_, Vec<Option<Rest>>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order_awake(&self) -> Vec<usize> {
        let rests = self.rests();
        let awake = rests.iter().enumerate();
        awake
            .filter(|(_, rest)| rest.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// Who is asked first, and who then: those that rest last of all, for want of better.
    fn order(&self) -> Vec<usize> {
        let mut order = self.order_awake();
        let rests = self.rests();
        let mut resting: Vec<_> = rests
            .iter()
            .enumerate()
            .filter_map(|(index, rest)| rest.map(|rest| (rest.until, index)))
            .collect();
        resting.sort_unstable();
        order.extend(resting.into_iter().map(|(_, index)| index));
        order
    }

    /// Puts an endpoint out of use for a while. The only one stays in use: there is no better one.
    fn fail(&self, index: usize, error: &CallError) {
        if self.endpoints.len() < 2 || error.is_near(NEAR) {
            return;
        }
        let longest = self.first_rest.saturating_mul(LONGEST_REST);
        let mut rests = self.rests();
        let Some(rest) = rests.get_mut(index) else {
            return;
        };
        let is_new = rest.is_none();
        let pause = match *rest {
            _ if error.is_distrust() => longest,
            None => self.first_rest,
            Some(rest) => rest.pause.saturating_mul(2).min(longest),
        };
        *rest = Some(Rest {
            pause,
            until: Instant::now() + pause,
        });
        drop(rests);
        if is_new && let Some(endpoint) = self.endpoints.get(index) {
            let (endpoint, why) = (endpoint.place(), error.brief());
            if error.is_distrust() {
                tracing::warn!(endpoint, why, "a node is not trusted for a while");
            } else {
                tracing::warn!(endpoint, why, "a node is out of use for a while");
            }
        }
        self.choose();
    }

    fn wake(&self, index: usize) {
        if let Some(rest) = self.rests().get_mut(index) {
            *rest = None;
        }
        if let Some(endpoint) = self.endpoints.get(index) {
            tracing::info!(endpoint = endpoint.place(), "a node is in use again");
        }
        self.choose();
    }

    fn choose(&self) {
        let first = self.order().first().copied().unwrap_or_default();
        self.in_use.send_if_modified(|in_use| {
            let changed = *in_use != first;
            *in_use = first;
            changed
        });
    }

    fn rested(&self) -> Vec<usize> {
        let now = Instant::now();
        let rests = self.rests();
        let over = rests.iter().enumerate();
        over.filter(|(_, rest)| rest.is_some_and(|rest| rest.until <= now))
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether an endpoint answers again, and is where the chain is.
    async fn try_out(&self, index: usize) -> Result<(), CallError> {
        let Some(endpoint) = self.endpoints.get(index) else {
            return Ok(());
        };
        let latest = endpoint.block(self.failover, BlockNumberOrTag::Latest.into());
        let found = latest.await?.map_or(0, |block| block.head.number);
        match self.seen().newest() {
            Some((seen, _)) if found.saturating_add(NEAR) < seen => {
                Err(CallError::Chain(ChainError::Behind { seen, found }))
            }
            _ => Ok(()),
        }
    }

    fn take_pushed(&self, index: usize, header: &RawValue) {
        let Some(endpoint) = self.endpoints.get(index) else {
            return;
        };
        // Some providers push less than the whole header: then it is asked for.
        let head = endpoint.pushed(header);
        let head = head.and_then(|block| self.seen().take_newest(block));
        self.pushed.send_modify(|pushed| pushed.head = head.ok());
    }
}

/// Tries endpoints that have rested, so that no question has to.
async fn wake_the_rested(shared: Arc<Shared>) {
    let pause = shared.first_rest.min(RECONNECT_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        for index in shared.rested() {
            match shared.try_out(index).await {
                Ok(()) => shared.wake(index),
                Err(error) => shared.fail(index, &error),
            }
        }
    }
}

/// Keeps a stream of new heads open at the endpoint in use, where that one pushes.
async fn follow_heads(shared: Arc<Shared>) {
    let mut in_use = shared.in_use.subscribe();
    loop {
        let index = *in_use.borrow_and_update();
        let moved = tokio::select! {
            () = follow(&shared, index) => false,
            changed = in_use.changed() => changed.is_ok(),
        };
        shared.pushed.send_modify(|pushed| pushed.live = false);
        if !moved {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Follows one endpoint until its stream ends.
async fn follow(shared: &Shared, index: usize) {
    let pushing = shared.endpoints.get(index).filter(|found| found.pushes());
    let Some(endpoint) = pushing else {
        return std::future::pending().await;
    };
    let (_open, heads) = match endpoint.new_heads(shared.timeout).await {
        Ok(opened) => opened,
        Err(error) => {
            let (endpoint, error) = (endpoint.place(), error.brief());
            return tracing::warn!(endpoint, error, "cannot subscribe to new heads, polling");
        }
    };
    let mut heads = heads.into_raw();
    shared.pushed.send_modify(|pushed| {
        *pushed = Pushed {
            live: true,
            head: None,
        };
    });
    loop {
        match heads.recv().await {
            Ok(header) => shared.take_pushed(index, &header),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Pushed heads, as they come.
pub(super) struct Notices {
    pushed: watch::Receiver<Pushed>,
}

impl Notices {
    /// Whether the node pushes at present.
    pub(super) fn are_pushed(&self) -> bool {
        self.pushed.borrow().live
    }

    /// The head that was pushed last.
    pub(super) fn newest(&mut self) -> Option<Head> {
        self.pushed.borrow_and_update().head
    }

    /// Returns when something was pushed, or after `pause`, whichever is first; whether something was.
    pub(super) async fn next(&mut self, pause: Duration) -> bool {
        let pushed = tokio::time::timeout(pause, self.pushed.changed()).await;
        matches!(pushed, Ok(Ok(())))
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use std::io::{Read, Write};

    const SECRETS: [&str; 4] = ["s3cret-path", "s3cret-query", "s3cret-user", "s3cret-word"];

    async fn refused(scheme: &str, port: u16) -> String {
        let [path, query, user, word] = SECRETS;
        let url = format!("{scheme}://{user}:{word}@localhost:{port}/v3/{path}?key={query}");
        let config = EvmConfig::new(&url, Address::ZERO);
        let error = Connection::open(&config).await.unwrap_err();
        format!("{error} {error:?}")
    }

    fn hides_all(error: &str) {
        for secret in SECRETS {
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[test]
    fn what_most_say_is_the_measure() {
        let cases: [(&[u64], u64); 6] = [
            (&[], 0),
            (&[7], 7),
            (&[7, 9], 9),
            (&[7, 900, 9], 9),
            (&[1, 8, 9], 8),
            (&[5, 9, 9, 1], 9),
        ];
        for (numbers, expected) in cases {
            assert_eq!(upper_median(numbers.to_vec()), expected, "{numbers:?}");
        }
    }

    #[tokio::test]
    async fn a_nodes_url_is_in_no_error() {
        // Bound, so that no other test gets the port, and not listening.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = taken.local_addr().unwrap().port();
        let http = refused("http", port).await;
        hides_all(&http);
        assert!(http.contains("localhost"), "where it was sought: {http}");
        hides_all(&refused("ws", port).await);
    }

    #[tokio::test]
    async fn nor_is_it_where_the_node_says_it() {
        let listener = std::net::TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _head = stream.read(&mut [0; 4096]);
            let [path, query, ..] = SECRETS;
            let body = format!("Cannot POST /v3/{path}?key={query}");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = refused("http", port).await;
        hides_all(&error);
        assert!(error.contains("404: Cannot POST"), "{error}");
    }
}
