//! The steps from a signed report to its outcome.

use crate::{
    DeliverError, Outbox, TransmitterSigner,
    fees::Offer,
    gas,
    nonces::Nonces,
    transaction::{self, Call},
};
use alloy_primitives::B256;
use cryptlet_chain::{BroadcastError, Chain, ChainError, Delivery, Fees, Rejection};
use cryptlet_types::{JobId, SignedDelegation, SignedReport, outbox::Submission};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// First pause between two looks for a receipt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// First pause after a failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// How often in a row a transaction may be refused or revert without a reason that a preflight finds.
const MAX_FAILURES: u32 = 5;

/// How patient and how generous a [`Deliverer`] is.
#[derive(Clone, Copy, Debug)]
pub struct DeliverConfig {
    /// Wait for a receipt before the transaction is sent again, with higher fees.
    pub resend_after: Duration,
    /// Longest pause between two looks for a receipt.
    pub longest_pause: Duration,
    /// Longest pause after a failure.
    pub longest_backoff: Duration,
    /// Most that a unit of gas may ever cost, in wei.
    pub max_fee_per_gas: u128,
}

impl Default for DeliverConfig {
    /// Sent again after 15 s; looks at most 250 ms apart; at most 5 s after a failure; at most 500 gwei.
    fn default() -> Self {
        Self {
            resend_after: Duration::from_secs(15),
            longest_pause: Duration::from_millis(250),
            longest_backoff: Duration::from_secs(5),
            max_fee_per_gas: 500_000_000_000,
        }
    }
}

/// A report to deliver.
#[derive(Clone, Debug)]
pub struct Order {
    /// The job that it belongs to.
    pub job: JobId,
    /// The report.
    pub report: SignedReport,
    /// The delegation under which the report was made; none if it is on nobody's behalf.
    pub delegation: Option<SignedDelegation>,
    /// Gas that the subscription promises its callback.
    pub callback_gas: u32,
    /// Where a search for a delivery by somebody else begins: no later than the block of the subscription.
    pub from_block: u64,
}

/// What became of a report. Final, but for a reorganisation of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The delegate consumed this very report, whoever submitted it, and called back (successfully or not).
    Delivered(Delivery),
    /// The chain's time has passed `validUntil`: nobody can deliver it any more, and its number is still free.
    Expired,
    /// The delegate will never accept it.
    Refused(Rejection),
    /// Another report consumed the number.
    Superseded(Delivery),
}

/// Delivers reports by one transmitter. Reports of different subscriptions may be delivered at the same time;
/// those of one subscription one after the other, as their numbers demand.
pub struct Deliverer {
    chain: Arc<dyn Chain>,
    signer: Arc<dyn TransmitterSigner>,
    outbox: Arc<dyn Outbox>,
    config: DeliverConfig,
    /// Held from the choice of a nonce until a node has accepted it or not.
    sending: tokio::sync::Mutex<()>,
    nonces: Mutex<Nonces>,
}

impl Deliverer {
    /// A deliverer for the transmitter of `signer`. There must be one at most for an account.
    #[must_use]
    pub fn new(
        chain: Arc<dyn Chain>,
        signer: Arc<dyn TransmitterSigner>,
        outbox: Arc<dyn Outbox>,
        config: DeliverConfig,
    ) -> Self {
        Self {
            chain,
            signer,
            outbox,
            config,
            sending: tokio::sync::Mutex::new(()),
            nonces: Mutex::new(Nonces::default()),
        }
    }

    /// Brings a report that was never sent to its outcome.
    ///
    /// Waits for as long as it takes: while the node is down, while the transmitter has no funds. May be dropped at
    /// any point, which is a crash as far as the report is concerned: [`Deliverer::resume`] takes it up.
    ///
    /// # Errors
    /// What a retry cannot help (see [`DeliverError::is_retryable`]). The report is still undelivered then, as far
    /// as is known; [`Deliverer::resume`] may be tried once the cause is removed.
    pub async fn deliver(&self, order: &Order) -> Result<Outcome, DeliverError> {
        self.resume(order, &[]).await
    }

    /// Brings a report to its outcome whose `submissions` (oldest first, as the outbox has them) may have been sent.
    ///
    /// # Errors
    /// As [`Deliverer::deliver`].
    pub async fn resume(
        &self,
        order: &Order,
        submissions: &[Submission],
    ) -> Result<Outcome, DeliverError> {
        let mut attempt = Attempt::new(self, order, submissions);
        let mut backoff = FIRST_BACKOFF;
        loop {
            match attempt.step().await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => backoff = FIRST_BACKOFF,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(job = %order.job, %error, ?backoff, "delivery waits");
                    tokio::time::sleep(backoff).await;
                    backoff = backoff.saturating_mul(2).min(self.config.longest_backoff);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn nonces(&self) -> MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One report on its way.
struct Attempt<'a> {
    deliverer: &'a Deliverer,
    order: &'a Order,
    digest: B256,
    call: Call,
    /// Every transaction that may have been sent, oldest first.
    sent: Vec<Submission>,
    state: State,
    failures: u32,
}

/// Where an attempt stands.
#[derive(Debug)]
enum State {
    /// No transaction of this report can be mined: ask the delegate, then build one.
    Idle,
    /// The last transaction may not have reached a node.
    Unsent,
    /// The last transaction pays too little: it needs a replacement.
    Outbid,
    /// A node has accepted the last transaction.
    Waiting { since: Instant, pause: Duration },
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<'a> Attempt<'a> {
    fn new(deliverer: &'a Deliverer, order: &'a Order, submissions: &[Submission]) -> Self {
        let domain = deliverer.chain.domain();
        let delegation = order.delegation.as_ref();
        let (to, input) = deliverer.chain.delivery_call(&order.report, delegation);
        let payload = order.report.report.payload.len();
        let mut gas_limit = gas::limit(&input, payload, order.callback_gas);
        if delegation.is_some() {
            gas_limit = gas_limit.saturating_add(gas::CONSENT);
        }
        let call = Call {
            chain_id: domain.chain_id,
            to,
            input,
            gas_limit,
        };
        // Another account's transaction may be mined, but its nonce is none of this transmitter's.
        let account = deliverer.signer.address();
        let state = match submissions.last() {
            Some(last) if last.transmitter == account => State::Unsent,
            _ => State::Idle,
        };
        Self {
            deliverer,
            order,
            digest: order.report.report.digest(&domain),
            call,
            sent: submissions.to_vec(),
            state,
            failures: 0,
        }
    }

    fn chain(&self) -> &'a dyn Chain {
        self.deliverer.chain.as_ref()
    }

    /// One step towards the outcome. What decides that a transaction is lost is read before its receipt is looked
    /// for: then a missing receipt cannot be one that came in between.
    async fn step(&mut self) -> Result<Option<Outcome>, DeliverError> {
        let view = self.view().await?;
        if let Some(outcome) = self.settled().await? {
            return Ok(Some(outcome));
        }
        match self.state {
            State::Idle => self.begin().await,
            State::Unsent => self.send_again().await.map(|()| None),
            State::Outbid => self.outbid_last().await.map(|()| None),
            State::Waiting { since, pause } => self.wait(since, pause, view).await.map(|()| None),
        }
    }

    /// The chain as it stands, if it is time to look at more than receipts.
    async fn view(&self) -> Result<Option<View>, DeliverError> {
        let config = &self.deliverer.config;
        match self.state {
            State::Waiting { since, pause }
                if pause >= config.longest_pause || since.elapsed() >= config.resend_after => {}
            _ => return Ok(None),
        }
        let report = &self.order.report.report;
        let account = self.deliverer.signer.address();
        let consumed = self
            .chain()
            .sequence(report.cryptlet, report.subject)
            .await?
            .is_none_or(|sequence| sequence >= report.sequence);
        Ok(Some(View {
            mined: self.chain().nonce(account, false).await?,
            over: consumed || self.chain().head().await?.timestamp > report.valid_until,
        }))
    }

    /// Waits for the receipt; gives the transaction up when it cannot succeed any more.
    async fn wait(
        &mut self,
        since: Instant,
        pause: Duration,
        view: Option<View>,
    ) -> Result<(), DeliverError> {
        let config = self.deliverer.config;
        let Some(last) = self.sent.last() else {
            self.state = State::Idle;
            return Ok(());
        };
        if let Some(view) = view {
            if view.mined > last.nonce {
                tracing::warn!(job = %self.order.job, nonce = last.nonce, "nonce used by another transaction");
                self.release();
                self.state = State::Idle;
                return Ok(());
            }
            if view.over {
                self.deliverer.nonces().abandon(last, self.order.job);
                self.state = State::Idle;
                return Ok(());
            }
            if since.elapsed() >= config.resend_after {
                return self.push_on(view.mined).await;
            }
        }
        tokio::time::sleep(pause).await;
        let pause = pause.saturating_mul(2).min(config.longest_pause);
        self.state = State::Waiting { since, pause };
        Ok(())
    }

    /// No receipt for a long time: the pool may have lost the transaction, something before it may be stuck, or it
    /// pays too little.
    async fn push_on(&mut self, mined: u64) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let _sending = deliverer.sending.lock().await;
        let Some(last) = self.sent.last() else {
            return Ok(());
        };
        let gap = deliverer.nonces().gap_below(last.nonce, mined);
        if let Some(nonce) = gap {
            tracing::warn!(job = %self.order.job, nonce, "filling a gap before the transaction");
            let offer = self.offer(self.chain().fees().await?, Some(last))?;
            self.release();
            return self.send_new(nonce, offer).await;
        }
        let pending = self.chain().nonce(last.transmitter, true).await?;
        if pending > last.nonce {
            self.replace_last().await
        } else {
            self.broadcast_last().await
        }
    }

    /// Sends a transaction with the same nonce and higher fees. The caller holds `sending`.
    async fn replace_last(&mut self) -> Result<(), DeliverError> {
        let Some(last) = self.sent.last() else {
            self.state = State::Idle;
            return Ok(());
        };
        let nonce = last.nonce;
        match self.offer(self.chain().fees().await?, Some(last)) {
            Ok(offer) => {
                tracing::info!(job = %self.order.job, nonce, max_fee = offer.max_fee, "replacing");
                self.send_new(nonce, offer).await
            }
            Err(DeliverError::FeeCap { cap }) if matches!(self.state, State::Waiting { .. }) => {
                tracing::warn!(job = %self.order.job, nonce, cap, "not mined, and at the fee cap");
                self.start_waiting();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The last transaction was not taken for its fee, or because another one holds its nonce.
    async fn outbid_last(&mut self) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let _sending = deliverer.sending.lock().await;
        let job = self.order.job;
        let taken = |last: &Submission| deliverer.nonces().is_taken_from(last.nonce, job);
        if self.sent.last().is_some_and(taken) {
            self.state = State::Idle;
            return Ok(());
        }
        self.replace_last().await
    }

    /// Broadcasts the bytes of the last transaction as they are.
    async fn send_again(&mut self) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let _sending = deliverer.sending.lock().await;
        self.broadcast_last().await
    }

    /// Asks the delegate, and sends a first transaction if it says yes.
    async fn begin(&mut self) -> Result<Option<Outcome>, DeliverError> {
        let from = self.deliverer.signer.address();
        let gas_limit = self.call.gas_limit;
        let answer = self
            .chain()
            .preflight(
                &self.order.report,
                self.order.delegation.as_ref(),
                from,
                gas_limit,
            )
            .await?;
        match answer {
            Ok(()) => {
                self.send_first().await?;
                Ok(None)
            }
            Err(Rejection::NotYetValid) => Err(DeliverError::NotYetValid),
            Err(Rejection::Expired) => Ok(Some(Outcome::Expired)),
            Err(Rejection::WrongSequence { expected, given }) if expected > given => {
                self.consumed().await.map(Some)
            }
            Err(Rejection::WrongSequence { expected, given }) => self.ahead(expected, given).await,
            Err(rejection) => self.refused(rejection).await.map(Some),
        }
    }

    /// The node's delegate expects an earlier number: the node is behind, or blocks were taken back. The report waits
    /// for the chain to come to it, until its time is over.
    async fn ahead(&self, expected: u64, given: u64) -> Result<Option<Outcome>, DeliverError> {
        if self.chain().head().await?.timestamp > self.order.report.report.valid_until {
            return Ok(Some(Outcome::Expired));
        }
        Err(DeliverError::Ahead { expected, given })
    }

    /// The delegate says that the number is consumed: by which report?
    async fn consumed(&self) -> Result<Outcome, DeliverError> {
        let sequence = self.order.report.report.sequence;
        let from_block = self.order.from_block;
        let delivery = self.find_delivery().await?;
        let delivery = delivery.ok_or(DeliverError::DeliveryNotFound {
            sequence,
            from_block,
        })?;
        Ok(self.adopt(delivery))
    }

    /// A subscription that has ended may have consumed the report before.
    async fn refused(&self, rejection: Rejection) -> Result<Outcome, DeliverError> {
        if rejection == Rejection::UnknownSubscription
            && let Some(delivery) = self.find_delivery().await?
        {
            return Ok(self.adopt(delivery));
        }
        Ok(Outcome::Refused(rejection))
    }

    async fn find_delivery(&self) -> Result<Option<Delivery>, ChainError> {
        let report = &self.order.report.report;
        self.chain()
            .delivery(report.subject, report.sequence, self.order.from_block)
            .await
    }

    fn adopt(&self, delivery: Delivery) -> Outcome {
        if delivery.report.digest == self.digest {
            Outcome::Delivered(delivery)
        } else {
            Outcome::Superseded(delivery)
        }
    }

    /// Looks whether one of the transactions is in a block. A reverted one consumed nothing: back to the start.
    async fn settled(&mut self) -> Result<Option<Outcome>, DeliverError> {
        let report = &self.order.report.report;
        let mut reverted = None;
        for (place, submission) in self.sent.iter().enumerate().rev() {
            let Some(outcome) = self.chain().transaction_outcome(submission.hash).await? else {
                continue;
            };
            if let Some(delivery) = outcome.delivery(report.subject, report.sequence) {
                return Ok(Some(self.adopt(delivery)));
            }
            reverted = Some((place, outcome.gas_used));
        }
        if let Some((place, gas_used)) = reverted {
            self.release();
            let submission = self.sent.remove(place);
            let hash = submission.hash;
            tracing::warn!(job = %self.order.job, %hash, gas_used, "delivery reverted");
            self.state = State::Idle;
            return self.failed("transactions revert, yet the delegate would accept the report");
        }
        Ok(None)
    }

    fn failed(&mut self, what: &str) -> Result<Option<Outcome>, DeliverError> {
        self.failures += 1;
        if self.failures < MAX_FAILURES {
            return Ok(None);
        }
        Ok(Some(Outcome::Refused(Rejection::Other(what.to_owned()))))
    }

    /// Takes a nonce, signs, writes to the outbox, broadcasts.
    async fn send_first(&mut self) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let _sending = deliverer.sending.lock().await;
        let account = deliverer.signer.address();
        let (mined, pending, fees) = tokio::try_join!(
            self.chain().nonce(account, false),
            self.chain().nonce(account, true),
            self.chain().fees(),
        )?;
        let slot = deliverer.nonces().next(mined, pending);
        let offer = self.offer(fees, slot.outbid.as_ref())?;
        self.send_new(slot.nonce, offer).await
    }

    /// What to pay, given a transaction that has to be outbid.
    fn offer(&self, fees: Fees, outbid: Option<&Submission>) -> Result<Offer, DeliverError> {
        let cap = self.deliverer.config.max_fee_per_gas;
        let suggested = Offer::suggested(fees, cap);
        let Some(waiting) = outbid else {
            return Ok(suggested);
        };
        let waiting = Offer {
            max_fee: waiting.max_fee_per_gas,
            priority_fee: waiting.max_priority_fee_per_gas,
        };
        waiting
            .outbid(suggested, cap)
            .ok_or(DeliverError::FeeCap { cap })
    }

    async fn send_new(&mut self, nonce: u64, offer: Offer) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let submission =
            transaction::sign(&self.call, nonce, offer, deliverer.signer.as_ref()).await?;
        deliverer
            .outbox
            .submitted(self.order.job, &submission)
            .await
            .map_err(DeliverError::Outbox)?;
        self.sent.push(submission);
        self.state = State::Unsent;
        self.broadcast_last().await
    }

    /// Broadcasts the last transaction. The caller holds `sending`.
    async fn broadcast_last(&mut self) -> Result<(), DeliverError> {
        let Some(last) = self.sent.last() else {
            self.state = State::Idle;
            return Ok(());
        };
        let answer = self.chain().broadcast(&last.raw).await;
        self.broadcasted(answer)
    }

    /// Draws the consequences of a node's answer to the last transaction.
    fn broadcasted(&mut self, answer: Result<B256, BroadcastError>) -> Result<(), DeliverError> {
        let job = self.order.job;
        match answer {
            Ok(_) | Err(BroadcastError::AlreadyKnown) => self.start_waiting(),
            Err(BroadcastError::NonceTooLow) => self.state = State::Idle,
            Err(BroadcastError::Underpriced(reason)) => {
                tracing::warn!(%job, reason, "underpriced");
                self.state = State::Outbid;
            }
            Err(BroadcastError::Refused(reason)) => {
                self.state = State::Idle;
                self.failures += 1;
                return Err(if self.failures < MAX_FAILURES {
                    DeliverError::NotTaken(reason)
                } else {
                    BroadcastError::Refused(reason).into()
                });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A node has the last transaction.
    fn start_waiting(&mut self) {
        if let Some(last) = self.sent.last() {
            tracing::debug!(job = %self.order.job, hash = %last.hash, nonce = last.nonce, "waiting for a block");
            self.deliverer.nonces().accepted(last.nonce, self.order.job);
        }
        self.state = State::Waiting {
            since: Instant::now(),
            pause: FIRST_PAUSE,
        };
    }

    /// Nobody waits for the nonces of this attempt any more.
    fn release(&self) {
        let mut nonces = self.deliverer.nonces();
        for submission in &self.sent {
            nonces.settled(submission.nonce, self.order.job);
        }
    }
}

/// The chain, as far as a waiting transaction is concerned.
#[derive(Clone, Copy, Debug)]
struct View {
    /// Nonces below are used up.
    mined: u64,
    /// The report is consumed, its subscription has ended, or its time is over: the transaction can only revert.
    over: bool,
}
