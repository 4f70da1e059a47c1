//! A region in a process: its conversation, and its end.

use crate::{CallOutSession, IsolationError, Region, frames, process::Loaded, zygote::Child};
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_types::{
    EvidenceStatement, ReportDomain, SignedReport,
    region::{
        CallAnswer, CallIn, CallInAnswer, CallInput, CallOut, CallOutAnswer, KeyGrant,
        ObserveAnswer, ObserveInput, RunAnswer, RunInput, ToHost, ToRegion,
    },
    report::CompactSignature,
};
use rustix::net::{RecvFlags, recv};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};

/// Time for what the region does without the cryptlet: to make its keys, to open a wrapped one, to sign a batch.
pub(crate) const OWN_TIME: Duration = Duration::from_secs(5);
/// How much later than the region the host notices that a run's time is up: the region then hears that its
/// source is late when it knows already that the run is over, and answers with a deadline fault.
const CALL_OUT_GRACE: Duration = Duration::from_millis(250);
/// How long after that the region has to say so itself, before it is ended.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// A region's process.
pub(crate) struct RegionProcess {
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
    /// The process that it was copied from, with which it would end.
    pub(crate) _loaded: Arc<Loaded>,
}

/// The host's side of the conversation. Dropping it kills the process.
pub(crate) struct Conversation {
    process: Option<RegionProcess>,
    answered: bool,
    session: Box<dyn CallOutSession>,
}

impl Conversation {
    pub(crate) fn new(process: RegionProcess, session: Box<dyn CallOutSession>) -> Self {
        Self {
            process: Some(process),
            answered: false,
            session,
        }
    }

    pub(crate) fn into_region(self, statement: EvidenceStatement, wall: Duration) -> ProcessRegion {
        ProcessRegion {
            conversation: self,
            statement,
            wall,
        }
    }

    /// Calls in and answers the calls out until the region has answered, within `time` and its graces. The
    /// process is kept only after an answer: whatever else happens, a dropped future included, ends it.
    pub(crate) async fn call(
        &mut self,
        call: CallIn,
        time: Duration,
    ) -> Result<CallInAnswer, IsolationError> {
        let Some(mut process) = self.process.take() else {
            return Err(IsolationError::Died("in an earlier call".into()));
        };
        // A region that refuses to start says so without having been asked.
        if self.answered && !is_quiet(&process.stream) {
            return Err(process.end(out_of_turn()).await);
        }
        let start = Instant::now();
        let late = start + time + CALL_OUT_GRACE;
        let end = late + ANSWER_GRACE;
        let talk = converse(&mut process.stream, self.session.as_mut(), call, late);
        let result = timeout_at(end, talk).await;
        self.session.run_ended();
        match result {
            Ok(Ok(answer)) => {
                self.process = Some(process);
                self.answered = true;
                Ok(answer?)
            }
            Ok(Err(error)) => Err(process.end(error).await),
            Err(_) => {
                let millis = u64::try_from((end - start).as_millis()).unwrap_or(u64::MAX);
                Err(process.end(IsolationError::Timeout(millis)).await)
            }
        }
    }
}

impl Conversation {
    /// Ends a region that answers something else than it was asked.
    async fn other_answer<T>(&mut self) -> Result<T, IsolationError> {
        let error = other_answer();
        match self.process.take() {
            Some(process) => Err(process.end(error).await),
            None => Err(error),
        }
    }
}

pub(crate) fn other_answer() -> IsolationError {
    IsolationError::Protocol("another answer than asked for".into())
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

/// Whether nothing has been said that nobody asked for. What follows an answer would otherwise be taken for the next one.
fn is_quiet(stream: &UnixStream) -> bool {
    // Asked of the system, since the runtime may not have heard yet. That the stream was closed is found out by the call.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(recv(stream, &mut [0_u8], flags), Ok((1.., _)))
}

fn out_of_turn() -> IsolationError {
    IsolationError::Protocol("region spoke out of turn".into())
}

type Answer = Result<CallInAnswer, cryptlet_types::region::RegionFault>;

async fn converse(
    stream: &mut UnixStream,
    session: &mut dyn CallOutSession,
    call: CallIn,
    late: Instant,
) -> Result<Answer, IsolationError> {
    // A region that refuses to start says so without waiting for the call, which then finds nobody.
    let sent = frames::send(stream, &ToRegion::Call(call)).await;
    loop {
        match frames::receive(stream).await {
            Ok(ToHost::Answer(answer)) => return Ok(answer),
            Ok(ToHost::Call(call_out)) => {
                let answer = answer(session, call_out, late).await;
                frames::send(stream, &ToRegion::Answer(answer)).await?;
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

/// A region in a process of its own.
pub(crate) struct ProcessRegion {
    conversation: Conversation,
    statement: EvidenceStatement,
    wall: Duration,
}

#[async_trait]
impl Region for ProcessRegion {
    fn statement(&self) -> &EvidenceStatement {
        &self.statement
    }

    async fn provision(&mut self, grant: KeyGrant) -> Result<Address, IsolationError> {
        let call = CallIn::Provision(grant);
        match self.conversation.call(call, OWN_TIME).await? {
            CallInAnswer::Provisioned(address) => Ok(address),
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
