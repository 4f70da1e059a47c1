//! A region: its conversation, and its end.

use crate::{
    CallOutSession, IsolationError, Region, busy_poll::Waits, frames, process::Loaded,
    zygote::Child,
};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_types::{
    Attestation, EvidenceStatement, Measurement, Provider, ReportDomain, SignedReport,
    bounded::MAX_SEALED_BYTES,
    recording::{ReplayInput, Replayed},
    region::{
        CallAnswer, CallIn, CallInAnswer, CallInput, CallOut, CallOutAnswer, Created, KeyGrant,
        ObserveAnswer, ObserveInput, RunAnswer, RunInput, ToHost, ToRegion,
    },
    report::CompactSignature,
};
use rustix::net::{RecvFlags, recv};
use std::{future::poll_fn, os::fd::OwnedFd, pin::Pin, sync::Arc, task::Poll, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout, timeout_at},
};

/// Time for what the region does without the cryptlet: to make its keys, to open a wrapped one, to sign a batch, to seal.
pub(crate) const OWN_TIME: Duration = Duration::from_secs(5);
/// Time for a region to begin whose component runs in a virtual machine: that is started, and loads the component. It takes a
/// fraction of this even where the processor is emulated and busy.
const MACHINE_TIME: Duration = Duration::from_secs(30);
/// How much later than the region the host notices that a run's time is up: the region then hears that its
/// source is late when it knows already that the run is over, and answers with a deadline fault.
const CALL_OUT_GRACE: Duration = Duration::from_millis(250);
/// How long after that the region has to say so itself, before it is ended.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Bytes for and from a region.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A region's stream, and what ends the region.
pub(crate) struct Line {
    pub(crate) stream: Box<dyn ByteStream>,
    /// The region's process, if it is on this machine. Elsewhere it ends with its stream.
    pub(crate) process: Option<RegionProcess>,
}

/// A region's process.
pub(crate) struct RegionProcess {
    pub(crate) child: Child,
    /// The socket of its stream, to be looked at beside the runtime, which may hear later.
    pub(crate) socket: OwnedFd,
    /// The process that it was copied from, with which it would end.
    pub(crate) _loaded: Arc<Loaded>,
}

/// The host's side of the conversation. Dropping it ends the region.
pub(crate) struct Conversation {
    line: Option<Line>,
    answered: bool,
    waits: Waits,
    session: Box<dyn CallOutSession>,
}

impl Conversation {
    pub(crate) fn new(line: Line, session: Box<dyn CallOutSession>) -> Self {
        Self {
            line: Some(line),
            answered: false,
            waits: Waits::new(),
            session,
        }
    }

    /// Has the region make its keys. What it says is compared with what is `expected`, and what it says it is of.
    pub(crate) async fn create(
        mut self,
        challenge: B256,
        expected: Expected,
        wall: Duration,
    ) -> Result<LiveRegion, IsolationError> {
        let call = CallIn::Create { nonce: challenge };
        let time = match expected.provider {
            Provider::Microvm => MACHINE_TIME,
            _ => OWN_TIME,
        };
        let CallInAnswer::Created(created) = self.call(call, time).await? else {
            return self.other_answer().await;
        };
        expected.compare(&created)?;
        Ok(LiveRegion {
            conversation: self,
            created: *created,
            nonce: expected.nonce,
            wall,
        })
    }

    /// Calls in and answers the calls out until the region has answered, within `time` and its graces. The
    /// process is kept only after an answer: whatever else happens, a dropped future included, ends it.
    pub(crate) async fn call(
        &mut self,
        call: CallIn,
        time: Duration,
    ) -> Result<CallInAnswer, IsolationError> {
        let Some(mut line) = self.line.take() else {
            return Err(IsolationError::Died("in an earlier call".into()));
        };
        // A region that refuses to start says so without having been asked.
        if self.answered && !line.is_quiet().await {
            return Err(line.end(out_of_turn()).await);
        }
        self.waits.begin();
        let start = Instant::now();
        let late = start + time + CALL_OUT_GRACE;
        let end = late + ANSWER_GRACE;
        let talk = converse(
            &mut line,
            &mut self.waits,
            self.session.as_mut(),
            call,
            late,
        );
        let result = timeout_at(end, talk).await;
        self.session.run_ended();
        match result {
            Ok(Ok(answer)) => {
                self.line = Some(line);
                self.answered = true;
                Ok(answer?)
            }
            Ok(Err(error)) => Err(line.end(error).await),
            Err(_) => {
                let millis = u64::try_from((end - start).as_millis()).unwrap_or(u64::MAX);
                Err(line.end(IsolationError::Timeout(millis)).await)
            }
        }
    }
}

impl Conversation {
    /// Ends a region that answers something else than it was asked.
    async fn other_answer<T>(&mut self) -> Result<T, IsolationError> {
        let error = other_answer();
        match self.line.take() {
            Some(line) => Err(line.end(error).await),
            None => Err(error),
        }
    }
}

pub(crate) fn other_answer() -> IsolationError {
    IsolationError::Protocol("another answer than asked for".into())
}

impl Line {
    /// Whether nothing has been said that nobody asked for. What follows an answer would otherwise be taken for the next one.
    /// That the stream was closed is found out by the call.
    async fn is_quiet(&mut self) -> bool {
        if let Some(process) = &self.process {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            return !matches!(recv(&process.socket, &mut [0_u8], flags), Ok((1.., _)));
        }
        // The runtime knows what has come only after it has looked, which it does when nobody has anything else to do.
        tokio::task::yield_now().await;
        let (mut byte, stream) = ([0_u8], &mut self.stream);
        let mut into = ReadBuf::new(&mut byte);
        poll_fn(|context| {
            let read = Pin::new(&mut *stream).poll_read(context, &mut into);
            Poll::Ready(read.is_pending() || into.filled().is_empty())
        })
        .await
    }

    /// What the region says next.
    async fn hear(&mut self, waits: &mut Waits) -> Result<ToHost, IsolationError> {
        let began = Instant::now();
        if let Some(process) = &self.process {
            waits.look(&process.socket);
        }
        let said = frames::receive(&mut self.stream).await;
        waits.took(began.elapsed());
        said
    }

    /// Ends the region: closes its stream, kills its process.
    async fn end(self, error: IsolationError) -> IsolationError {
        drop(self.stream);
        match self.process {
            Some(process) => process.end(error).await,
            None => error,
        }
    }
}

impl RegionProcess {
    /// Kills the process and waits for its end. If it had died by itself, says how.
    async fn end(mut self, error: IsolationError) -> IsolationError {
        // The stream ends just before the process does: it is waited for, to learn how.
        if matches!(error, IsolationError::Died(_))
            && let Ok(how) = timeout(ANSWER_GRACE, self.child.ended()).await
        {
            return IsolationError::Died(how);
        }
        self.child.kill();
        // What is killed ends; how long that takes is the system's matter.
        let _ = timeout(ANSWER_GRACE, self.child.ended()).await;
        error
    }
}

pub(crate) fn out_of_turn() -> IsolationError {
    IsolationError::Protocol("region spoke out of turn".into())
}

type Answer = Result<CallInAnswer, cryptlet_types::region::RegionFault>;

async fn converse(
    line: &mut Line,
    waits: &mut Waits,
    session: &mut dyn CallOutSession,
    call: CallIn,
    late: Instant,
) -> Result<Answer, IsolationError> {
    // A region that refuses to start says so without waiting for the call, which then finds nobody.
    let sent = frames::send(&mut line.stream, &ToRegion::Call(call)).await;
    loop {
        match line.hear(waits).await {
            Ok(ToHost::Answer(answer)) => return Ok(answer),
            Ok(ToHost::Call(call_out)) => {
                let answer = answer(session, call_out, late).await;
                frames::send(&mut line.stream, &ToRegion::Answer(answer)).await?;
            }
            Err(error) => return Err(sent.err().unwrap_or(error)),
        }
    }
}

async fn answer(
    session: &mut dyn CallOutSession,
    call: CallOut,
    late: Instant,
) -> Result<CallOutAnswer, String> {
    match timeout_at(late, session.call_out(call)).await {
        Ok(answer) => answer,
        Err(_) => {
            session.run_ended();
            Err("time is up".into())
        }
    }
}

/// What a region has to say about itself.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) provider: Provider,
    pub(crate) measurement: Measurement,
    pub(crate) nonce: B256,
    /// The key that it has shown already, if it has.
    pub(crate) region_key: Option<Address>,
}

impl Expected {
    pub(crate) fn compare(&self, created: &Created) -> Result<(), IsolationError> {
        let mismatch = |what, expected: String, found: String| {
            Err(IsolationError::Mismatch {
                what,
                expected,
                found,
            })
        };
        let said = &created.statement;
        if said.provider != self.provider {
            let (expected, found) = (self.provider, said.provider);
            return mismatch("provider", expected.as_str().into(), found.as_str().into());
        }
        let attested = created.attestation.as_ref().map(Attestation::provider);
        if attested != Some(self.provider).filter(|provider| provider.attests()) {
            let name = |by: Option<Provider>| by.map_or("none", Provider::as_str).to_owned();
            let expected = Some(self.provider).filter(|provider| provider.attests());
            return mismatch("attestation", name(expected), name(attested));
        }
        if said.measurement != self.measurement {
            let (expected, found) = (self.measurement, said.measurement);
            return mismatch("measurement", expected.to_string(), found.to_string());
        }
        if said.nonce != self.nonce {
            return mismatch("nonce", self.nonce.to_string(), said.nonce.to_string());
        }
        match self.region_key {
            Some(key) if said.region_key != key => {
                mismatch("key", key.to_string(), said.region_key.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// A region that was created.
pub(crate) struct LiveRegion {
    conversation: Conversation,
    created: Created,
    nonce: B256,
    wall: Duration,
}

#[async_trait]
impl Region for LiveRegion {
    fn statement(&self) -> &EvidenceStatement {
        &self.created.statement
    }

    fn attestation(&self) -> Option<&Attestation> {
        self.created.attestation.as_ref()
    }

    fn nonce(&self) -> B256 {
        self.nonce
    }

    async fn provision(&mut self, grant: KeyGrant) -> Result<Address, IsolationError> {
        let call = CallIn::Provision(grant);
        match self.conversation.call(call, OWN_TIME).await? {
            CallInAnswer::Provisioned(address) => Ok(address),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn resume(&mut self, grant: KeyGrant, image: Bytes) -> Result<Address, IsolationError> {
        let call = CallIn::Resume { grant, image };
        match self.conversation.call(call, OWN_TIME).await? {
            CallInAnswer::Provisioned(address) => Ok(address),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn seal(&mut self) -> Result<Bytes, IsolationError> {
        match self.conversation.call(CallIn::Seal, OWN_TIME).await? {
            CallInAnswer::Sealed(image) if image.len() <= MAX_SEALED_BYTES => Ok(image),
            CallInAnswer::Sealed(_) => {
                let what = format!("a sealed image of more than {MAX_SEALED_BYTES} bytes");
                Err(IsolationError::Protocol(what))
            }
            _ => self.conversation.other_answer().await,
        }
    }

    async fn run(&mut self, input: RunInput) -> Result<RunAnswer, IsolationError> {
        let call = CallIn::Run(Box::new(input));
        match self.conversation.call(call, self.wall).await? {
            CallInAnswer::Ran(answer) => Ok(*answer),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn observe(&mut self, input: ObserveInput) -> Result<ObserveAnswer, IsolationError> {
        let call = CallIn::Observe(Box::new(input));
        match self.conversation.call(call, self.wall).await? {
            CallInAnswer::Observed(answer) => Ok(*answer),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn call(&mut self, input: CallInput) -> Result<CallAnswer, IsolationError> {
        let call = CallIn::Call(Box::new(input));
        match self.conversation.call(call, self.wall).await? {
            CallInAnswer::Called(answer) => Ok(*answer),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn replay(&mut self, input: ReplayInput) -> Result<Replayed, IsolationError> {
        let call = CallIn::Replay(Box::new(input));
        match self.conversation.call(call, self.wall).await? {
            CallInAnswer::Replayed(replayed) => Ok(*replayed),
            _ => self.conversation.other_answer().await,
        }
    }

    async fn sign_batch(
        &mut self,
        domain: ReportDomain,
        reports: Vec<SignedReport>,
    ) -> Result<CompactSignature, IsolationError> {
        let call = CallIn::SignBatch { domain, reports };
        match self.conversation.call(call, OWN_TIME).await? {
            CallInAnswer::BatchSigned(signature) => Ok(signature),
            _ => self.conversation.other_answer().await,
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;
    use cryptlet_types::region::{CallOutAnswer, RegionFault, encode};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    struct Nobody;

    #[async_trait]
    impl CallOutSession for Nobody {
        async fn call_out(&mut self, _: CallOut) -> Result<CallOutAnswer, String> {
            Err("nobody is here".into())
        }

        fn run_ended(&mut self) {}
    }

    fn frame() -> Vec<u8> {
        let answer: Answer = Err(RegionFault::Protocol("no".into()));
        let body = encode(&ToHost::Answer(answer)).unwrap();
        let head = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&head[..], &body].concat()
    }

    /// What comes later than an answer, and before the next call, is not taken for the next answer.
    #[tokio::test]
    async fn what_follows_an_answer_is_found_before_the_next_call() {
        for late in [true, false] {
            let (ours, mut region) = UnixStream::pair().unwrap();
            region.write_all(&frame()).await.unwrap();
            let line = Line {
                stream: Box::new(ours),
                process: None,
            };
            let mut conversation = Conversation::new(line, Box::new(Nobody));
            let first = conversation.call(CallIn::Seal, OWN_TIME).await.unwrap_err();
            assert!(matches!(first, IsolationError::Fault(_)), "{first}");
            if late {
                region.write_all(&[0]).await.unwrap();
                let next = conversation.call(CallIn::Seal, OWN_TIME).await.unwrap_err();
                assert!(next.to_string().contains("out of turn"), "{next}");
            } else {
                // The first call is still there.
                assert!(region.read(&mut [0; 64]).await.unwrap() > 0);
                let (answered, next) = tokio::join!(
                    async {
                        region.readable().await.unwrap();
                        region.write_all(&frame()).await
                    },
                    conversation.call(CallIn::Seal, OWN_TIME)
                );
                answered.unwrap();
                let next = next.unwrap_err();
                assert!(matches!(next, IsolationError::Fault(_)), "{next}");
            }
        }
    }
}
