//! One transaction's way: a report by itself, or a batch, from the first question to what the chain made of it.

use crate::{
    BatchOrder, DeliverError, Deliverer, Order, Outcome,
    fees::Offer,
    gas,
    mined::Block,
    transaction::{self, Call},
};
use alloy_primitives::B256;
use cryptlet_chain::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Rejection, TransactionOutcome,
};
use cryptlet_types::{JobId, RunId, SignedReport, outbox::Submission};
use std::time::Duration;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

/// First pause between two looks for a receipt where nobody tells of blocks; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How often in a row a transaction may be refused or revert without a reason that a preflight finds.
const MAX_FAILURES: u32 = 5;
/// How often the transaction of a batch may bring nothing: its reports can go one by one instead.
const MAX_BATCH_FAILURES: u32 = 2;

/// What an attempt brings.
enum Work<'a> {
    One(&'a Order),
    Batch(&'a [Order]),
}

/// How an attempt ended.
pub(crate) enum Settled {
    /// The report's outcome.
    One(Box<Outcome>),
    /// What the batch's transaction delivered, for each of its reports.
    Batch(Vec<Option<Delivery>>),
}

/// One transaction on its way.
pub(crate) struct Attempt<'a> {
    deliverer: &'a Deliverer,
    work: Work<'a>,
    call: Call,
    /// Every transaction that may have been sent, oldest first.
    sent: Vec<Submission>,
    state: State,
    failures: u32,
    /// Whether the delegate need not be asked before the first transaction.
    sure: bool,
    /// The nonce of the last transaction, until the delegate is asked again.
    nonce: Option<u64>,
    /// Since when it has been on its way, or has to be sent again.
    begun: Instant,
    blocks: Option<Receiver<Block>>,
    /// What a block was seen to hold.
    found: Option<TransactionOutcome>,
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
    pub(crate) fn one(
        deliverer: &'a Deliverer,
        order: &'a Order,
        submissions: &[Submission],
    ) -> Self {
        let delegation = order.delegation.as_ref();
        let (to, input) = deliverer.chain.delivery_call(&order.report, delegation);
        let payload = order.report.report.payload.len();
        let mut gas_limit = gas::limit(&input, payload, order.callback_gas);
        if delegation.is_some() {
            gas_limit = gas_limit.saturating_add(gas::CONSENT);
        }
        let call = Call {
            chain_id: deliverer.chain.domain().chain_id,
            to,
            input,
            gas_limit,
        };
        Self::new(deliverer, Work::One(order), call, submissions)
    }

    pub(crate) fn batch(deliverer: &'a Deliverer, batch: &'a BatchOrder) -> Self {
        let reports: Vec<SignedReport> = batch
            .orders
            .iter()
            .map(|order| order.report.clone())
            .collect();
        let (to, input) = deliverer.chain.batch_call(&reports, &batch.signature);
        let items = batch.orders.iter();
        let items = items.map(|order| (order.report.report.payload.len(), order.callback_gas));
        let call = Call {
            chain_id: deliverer.chain.domain().chain_id,
            to,
            gas_limit: gas::batch_limit(&input, items),
            input,
        };
        Self::new(deliverer, Work::Batch(&batch.orders), call, &[])
    }

    pub(crate) fn sent_batch(
        deliverer: &'a Deliverer,
        orders: &'a [Order],
        submissions: &[Submission],
    ) -> Result<Self, DeliverError> {
        let last = submissions.last().ok_or(DeliverError::Unreadable)?;
        let call = transaction::call_of(&last.raw).ok_or(DeliverError::Unreadable)?;
        Ok(Self::new(deliverer, Work::Batch(orders), call, submissions))
    }

    fn new(
        deliverer: &'a Deliverer,
        work: Work<'a>,
        call: Call,
        submissions: &[Submission],
    ) -> Self {
        // Another account's transaction may be mined, but its nonce is none of this transmitter's.
        let account = deliverer.signer.address();
        let state = match submissions.last() {
            Some(last) if last.transmitter == account => State::Unsent,
            _ => State::Idle,
        };
        let sure = match work {
            Work::One(order) => order.expected,
            Work::Batch(_) => submissions.is_empty(),
        };
        Self {
            deliverer,
            work,
            call,
            sent: submissions.to_vec(),
            nonce: None,
            state,
            failures: 0,
            sure,
            begun: Instant::now(),
            blocks: None,
            found: None,
        }
    }

    fn chain(&self) -> &'a dyn Chain {
        self.deliverer.chain.as_ref()
    }

    fn orders(&self) -> &'a [Order] {
        match self.work {
            Work::One(order) => std::slice::from_ref(order),
            Work::Batch(orders) => orders,
        }
    }

    /// The run under which the transaction's nonce is held: a batch has that of its first report.
    pub(crate) fn run(&self) -> RunId {
        let none = RunId::first(JobId(B256::ZERO));
        self.orders().first().map_or(none, |order| order.run)
    }

    /// Whether a node has the last transaction.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Its place has come: what it waits for is counted from now on.
    pub(crate) fn take_turn(&mut self) {
        self.begun = Instant::now();
    }

    fn runs(&self) -> Vec<RunId> {
        self.orders().iter().map(|order| order.run).collect()
    }

    /// One step towards the outcome. What decides that a transaction is lost is read before its receipt is looked
    /// for: then a missing receipt cannot be one that came in between.
    pub(crate) async fn step(&mut self) -> Result<Option<Settled>, DeliverError> {
        let view = self.view().await?;
        if let Some(settled) = self.settled().await? {
            return Ok(Some(settled));
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
            State::Waiting { since, .. }
                if self.found.is_none() && since.elapsed() >= config.longest_pause => {}
            _ => return Ok(None),
        }
        let account = self.deliverer.signer.address();
        let over = self.is_over().await?;
        let mined = self.chain().nonce(account, false).await?;
        Ok(Some(View { mined, over }))
    }

    /// Whether nothing that the transaction brings can be consumed any more.
    async fn is_over(&self) -> Result<bool, ChainError> {
        if let Work::One(order) = self.work {
            let report = &order.report.report;
            let consumed = self.chain().sequence(report.cryptlet, report.subject);
            if consumed
                .await?
                .is_none_or(|sequence| sequence >= report.sequence)
            {
                return Ok(true);
            }
        }
        let ends = self.orders().iter();
        let last = ends.map(|order| order.report.report.valid_until).max();
        self.is_past(last.unwrap_or_default()).await
    }

    async fn is_past(&self, valid_until: u64) -> Result<bool, ChainError> {
        Ok(self.chain().head().await?.timestamp > valid_until)
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
                tracing::warn!(job = %self.run().job, nonce = last.nonce, "nonce used by another transaction");
                self.release();
                self.state = State::Idle;
                return Ok(());
            }
            if view.over {
                self.deliverer.nonces().abandon(last, self.run());
                self.state = State::Idle;
                return Ok(());
            }
            if since.elapsed() >= config.resend_after {
                return self.push_on(view.mined).await;
            }
        }
        self.look_out(pause).await;
        let pause = self.pause_after(pause.saturating_mul(2));
        self.state = State::Waiting { since, pause };
        Ok(())
    }

    /// How long to wait before looking without being told, where `grown` is due otherwise. Blocks tell what is to be seen: then
    /// it is looked now and then only, for what they do not tell.
    fn pause_after(&self, grown: Duration) -> Duration {
        let config = &self.deliverer.config;
        if self.deliverer.mined.is_told() {
            config.longest_backoff
        } else {
            grown.min(config.longest_pause)
        }
    }

    /// Waits until a block is seen to hold one of the transactions, or for so long.
    async fn look_out(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(blocks) = &mut self.blocks {
            let block = tokio::select! {
                biased;
                block = blocks.recv() => block,
                () = sleep_until(until) => return,
            };
            match block {
                Ok(None) => return,
                Ok(Some(block)) => {
                    let mut sent = self.sent.iter().rev();
                    self.found = sent.find_map(|sent| block.get(&sent.hash).cloned());
                    if self.found.is_some() {
                        return;
                    }
                }
                // It has missed some: it looks for itself.
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => self.blocks = None,
            }
        }
        sleep_until(until).await;
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
            tracing::warn!(job = %self.run().job, nonce, "filling a gap before the transaction");
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
                tracing::info!(job = %self.run().job, nonce, max_fee = offer.max_fee, "replacing");
                self.send_new(nonce, offer).await
            }
            Err(DeliverError::FeeCap { cap }) if matches!(self.state, State::Waiting { .. }) => {
                tracing::warn!(job = %self.run().job, nonce, cap, "not mined, and at the fee cap");
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
        let run = self.run();
        let taken = |last: &Submission| deliverer.nonces().is_taken_from(last.nonce, run);
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

    /// Sends a first transaction, once the delegate has said yes or is known to.
    async fn begin(&mut self) -> Result<Option<Settled>, DeliverError> {
        match self.work {
            _ if std::mem::take(&mut self.sure) && !self.deliverer.window().is_crowded() => {}
            Work::One(order) => {
                let asked = self.preflight(order).await;
                self.learn(&asked);
                if asked.as_ref().is_err_and(|error| !error.is_everybodys()) {
                    self.failures = 0;
                }
                if let Some(outcome) = asked? {
                    return Ok(Some(Settled::One(Box::new(outcome))));
                }
            }
            Work::Batch(orders) => {
                if !self.may_be_sent_whole(orders).await? {
                    return Ok(Some(Settled::Batch(vec![None; orders.len()])));
                }
            }
        }
        self.send_first().await?;
        Ok(None)
    }

    /// Whether a batch that brought nothing, since it overtook a report before it for instance, is to be sent once more. Waits
    /// for its first report's turn, for as long as a transaction waits for its block.
    async fn may_be_sent_whole(&mut self, orders: &[Order]) -> Result<bool, DeliverError> {
        let Some(first) = orders.first() else {
            return Ok(false);
        };
        // Where reports wait for room, one by one they would take more of it.
        let may_wait = self.begun.elapsed() < self.deliverer.config.resend_after
            || self.deliverer.window().is_crowded();
        let asked = self.preflight(first).await;
        self.learn(&asked);
        match asked {
            Ok(outcome) => Ok(outcome.is_none()),
            Err(error) if error.is_everybodys() => Err(error),
            Err(error) if error.is_its_turns() && may_wait => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// What the first answer after a transaction was mined in vain, or given up, says of the chain: if the report has expired by
    /// now, it takes too long to mine.
    fn learn(&mut self, asked: &Result<Option<Outcome>, DeliverError>) {
        if asked.as_ref().is_err_and(DeliverError::is_everybodys) {
            return;
        }
        if let (Some(nonce), Ok(Some(Outcome::Expired))) = (self.nonce.take(), asked) {
            self.deliverer.window().too_late(nonce);
        }
    }

    /// Asks the delegate: the outcome, unless it would consume the report.
    async fn preflight(&self, order: &Order) -> Result<Option<Outcome>, DeliverError> {
        let from = self.deliverer.signer.address();
        let delegation = order.delegation.as_ref();
        let gas_limit = self.call.gas_limit;
        let answer = self
            .chain()
            .preflight(&order.report, delegation, from, gas_limit);
        match answer.await? {
            Ok(()) => Ok(None),
            Err(Rejection::NotYetValid) => Err(DeliverError::NotYetValid),
            Err(Rejection::Expired) => Ok(Some(Outcome::Expired)),
            Err(Rejection::Paused) => self.unless_expired(order, DeliverError::Paused).await,
            Err(Rejection::WrongSequence { expected, given }) if expected > given => {
                self.consumed(order).await.map(Some)
            }
            // The node is behind, or blocks were taken back: the report waits for the chain to come to it.
            Err(Rejection::WrongSequence { expected, given }) => {
                let ahead = DeliverError::Ahead { expected, given };
                self.unless_expired(order, ahead).await
            }
            Err(rejection) => self.refused(order, rejection).await.map(Some),
        }
    }

    /// What can pass is waited for until the report's time is over.
    async fn unless_expired(
        &self,
        order: &Order,
        error: DeliverError,
    ) -> Result<Option<Outcome>, DeliverError> {
        if self.is_past(order.report.report.valid_until).await? {
            return Ok(Some(Outcome::Expired));
        }
        Err(error)
    }

    /// The delegate says that the number is consumed: by which report?
    async fn consumed(&self, order: &Order) -> Result<Outcome, DeliverError> {
        let sequence = order.report.report.sequence;
        let from_block = order.from_block;
        let delivery = self.find_delivery(order).await?;
        let delivery = delivery.ok_or(DeliverError::DeliveryNotFound {
            sequence,
            from_block,
        })?;
        Ok(self.adopt(order, delivery))
    }

    /// A subscription that has ended may have consumed the report before.
    async fn refused(&self, order: &Order, rejection: Rejection) -> Result<Outcome, DeliverError> {
        if rejection == Rejection::UnknownSubscription
            && let Some(delivery) = self.find_delivery(order).await?
        {
            return Ok(self.adopt(order, delivery));
        }
        Ok(Outcome::Refused(rejection))
    }

    async fn find_delivery(&self, order: &Order) -> Result<Option<Delivery>, ChainError> {
        let report = &order.report.report;
        self.chain()
            .delivery(report.subject, report.sequence, order.from_block)
            .await
    }

    fn adopt(&self, order: &Order, delivery: Delivery) -> Outcome {
        if self.is_of(order, &delivery) {
            Outcome::Delivered(delivery)
        } else {
            Outcome::Superseded(delivery)
        }
    }

    fn is_of(&self, order: &Order, delivery: &Delivery) -> bool {
        delivery.report.digest == order.report.report.digest(&self.chain().domain())
    }

    /// Looks whether one of the transactions is in a block. A reverted one consumed nothing: back to the start.
    async fn settled(&mut self) -> Result<Option<Settled>, DeliverError> {
        let mut without = None;
        for (place, submission) in self.sent.iter().enumerate().rev() {
            let found = self
                .found
                .take_if(|found| found.transaction == submission.hash);
            let outcome = match found {
                Some(outcome) => Some(outcome),
                None if self.found.is_some() => None,
                None => self.chain().transaction_outcome(submission.hash).await?,
            };
            let Some(outcome) = outcome else { continue };
            self.deliverer.account.used(submission.nonce);
            if let Some(settled) = self.made_of(&outcome) {
                self.deliverer.window().in_time();
                return Ok(Some(settled));
            }
            without = Some((place, outcome.gas_used));
        }
        let Some((place, gas_used)) = without else {
            return Ok(None);
        };
        self.release();
        let submission = self.sent.remove(place);
        let hash = submission.hash;
        tracing::warn!(job = %self.run().job, %hash, gas_used, "transaction delivered nothing");
        self.state = State::Idle;
        self.begun = Instant::now();
        Ok(self.reverted())
    }

    /// What a mined transaction made of the work; nothing, if it brought none of it.
    fn made_of(&self, outcome: &TransactionOutcome) -> Option<Settled> {
        let delivery = |order: &Order| {
            let report = &order.report.report;
            outcome.delivery(report.subject, report.sequence)
        };
        match self.work {
            Work::One(order) => {
                let delivery = delivery(order)?;
                Some(Settled::One(Box::new(self.adopt(order, delivery))))
            }
            Work::Batch(orders) => {
                let ours = |order| delivery(order).filter(|delivery| self.is_of(order, delivery));
                let deliveries: Vec<_> = orders.iter().map(ours).collect();
                let any = deliveries.iter().any(Option::is_some);
                any.then_some(Settled::Batch(deliveries))
            }
        }
    }

    /// The end, if transactions have reverted often enough that the delegate would have accepted when it was asked.
    fn reverted(&mut self) -> Option<Settled> {
        self.failures += 1;
        match self.work {
            Work::One(_) if self.failures >= MAX_FAILURES => {
                Some(Settled::One(Box::new(Outcome::Unexplained)))
            }
            Work::Batch(orders) if self.failures >= MAX_BATCH_FAILURES => {
                Some(Settled::Batch(vec![None; orders.len()]))
            }
            _ => None,
        }
    }

    /// Takes a nonce, signs, writes to the outbox, broadcasts.
    async fn send_first(&mut self) -> Result<(), DeliverError> {
        let deliverer = self.deliverer;
        let _sending = deliverer.sending.lock().await;
        let known = deliverer.account.known().await?;
        let slot = deliverer.nonces().next(known.mined, known.pending);
        let waiting = deliverer.nonces().waiting();
        if !deliverer.window().has_room(slot.nonce, waiting) {
            return Err(DeliverError::Crowded { waiting });
        }
        let offer = self.offer(known.fees, slot.outbid.as_ref())?;
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
            .submitted(&self.runs(), &submission)
            .await
            .map_err(DeliverError::Outbox)?;
        self.sent.push(submission);
        self.nonce = Some(nonce);
        self.state = State::Unsent;
        self.broadcast_last().await
    }

    /// Broadcasts the last transaction. The caller holds `sending`.
    async fn broadcast_last(&mut self) -> Result<(), DeliverError> {
        let Some(last) = self.sent.last() else {
            self.state = State::Idle;
            return Ok(());
        };
        // Before it is sent: it may be in a block before the node has answered.
        self.blocks
            .get_or_insert_with(|| self.deliverer.mined.listen());
        let answer = self.chain().broadcast(&last.raw).await;
        self.broadcasted(answer)
    }

    /// Draws the consequences of a node's answer to the last transaction.
    fn broadcasted(&mut self, answer: Result<B256, BroadcastError>) -> Result<(), DeliverError> {
        let run = self.run();
        match answer {
            Ok(_) | Err(BroadcastError::AlreadyKnown) => self.start_waiting(),
            Err(BroadcastError::NonceTooLow) => {
                self.deliverer.account.forget();
                self.state = State::Idle;
                // A node that is behind says so again at once.
                return Err(DeliverError::StaleNonce);
            }
            Err(BroadcastError::Underpriced(reason)) => {
                tracing::warn!(job = %run.job, reason, "underpriced");
                self.state = State::Outbid;
            }
            Err(BroadcastError::Refused(reason)) => {
                self.deliverer.account.forget();
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
            tracing::debug!(job = %self.run().job, hash = %last.hash, nonce = last.nonce, "waiting for a block");
            self.deliverer.nonces().accepted(last.nonce, self.run());
        }
        let pause = self.pause_after(FIRST_PAUSE);
        self.state = State::Waiting {
            since: Instant::now(),
            pause,
        };
    }

    /// Nobody waits for the nonces of this attempt any more.
    fn release(&self) {
        let mut nonces = self.deliverer.nonces();
        for submission in &self.sent {
            nonces.settled(submission.nonce, self.run());
        }
    }
}

/// The chain, as far as a waiting transaction is concerned.
#[derive(Clone, Copy, Debug)]
struct View {
    /// Nonces below are used up.
    mined: u64,
    /// Nothing that it brings can be consumed any more: the transaction can only revert.
    over: bool,
}
