//! Reads of contracts that ask a cryptlet and wait (ERC-3668).

use super::{Service, problems};
use crate::calls::{Asked, Frozen, Question};
use alloy_primitives::Bytes;
use async_trait::async_trait;
use cryptlet_api::{
    Problem, ProblemKind,
    types::{CallRequest, Result},
};
use cryptlet_journal::{FrozenAnswer, Journal};
use cryptlet_register::Register;
use cryptlet_run::Program;
use std::sync::Arc;

/// Frozen answers in the journal.
pub(super) struct JournalAnswers(pub(super) Arc<Journal>);

#[async_trait]
impl Frozen for JournalAnswers {
    type Error = Problem;

    async fn find(&self, question: &Question) -> Result<Option<Bytes>> {
        let found = self.0.answer(&place(question)).await;
        found.map_err(problems::journal)
    }

    async fn keep(&self, question: &Question, answer: Bytes) -> Result<Bytes> {
        let kept = self.0.freeze_answer(&place(question), &answer).await;
        kept.map_err(problems::journal)
    }
}

fn place(question: &Question) -> FrozenAnswer {
    FrozenAnswer {
        cryptlet: question.cryptlet,
        request: question.request,
        from: question.window.start,
        until: question.window.end,
    }
}

impl Service {
    /// The answer to a contract's read: the first one of its window, for everybody.
    pub(super) async fn answer_call(&self, request: CallRequest) -> Result<Bytes> {
        let refused = |what: &str| {
            Problem::refused(
                format!("data: {what}"),
                "build the contract on CryptletCaller",
            )
        };
        let asked = Asked::read(request.sender.into(), &request.data.0);
        let asked = asked.map_err(refused)?;
        // The contract compares the window with its block's time.
        let head = self.chain.head().await.map_err(problems::chain)?;
        let question = asked.question(head.timestamp);
        let question = question.ok_or_else(|| refused("windowLength: no window holds now"))?;
        let make = async || self.make_answer(&asked, head.timestamp).await;
        self.calls.answer(question, make).await
    }

    async fn make_answer(&self, asked: &Asked, now: u64) -> Result<Bytes> {
        let known = self.replica.by_id(asked.cryptlet).await;
        let known = known.map_err(problems::register)?;
        let known = known.ok_or_else(|| problems::no_cryptlet(&asked.cryptlet.to_string()))?;
        let verdict = self.verdict(&known).await?;
        let version = known.record.current().filter(|_| verdict.allowed);
        let version = version.ok_or_else(|| {
            Problem::refused(
                verdict.reasons.join("; "),
                format!("see why: cryptlet explain {}", known.record.name),
            )
        })?;
        let opened = self.manifests.opened(version.package).await;
        let opened = opened.map_err(|error| Problem::internal(&error))?;
        let opened = opened.ok_or_else(|| problems::no_package(version.package))?;
        let program = Program {
            cryptlet: asked.cryptlet,
            package: version.package,
            limits: opened.manifest.config.limits,
        };
        let runner = self.desk.runner();
        let params = asked.params.clone();
        let answer = runner.call(&program, asked.sender, params, asked.window_length, now);
        match answer.await {
            Ok(signed) => Ok(signed.response()),
            Err(error) if error.is_retryable() => Err(Problem::unavailable(error.to_string())),
            Err(error) => Err(Problem::new(
                ProblemKind::Refused,
                error.to_string(),
                "look at what the cryptlet takes: cryptlet show NAME",
            )),
        }
    }
}
