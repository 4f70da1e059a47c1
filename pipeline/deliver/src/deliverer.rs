//! One transmitter, and the deliveries that go out by it.

use crate::{
    DeliverError, Outbox, Place, TransmitterSigner,
    account::Account,
    attempt::{Attempt, Settled},
    mined::{Block, Mined},
    nonces::Nonces,
    window::Window,
};
use cryptlet_chain::{Chain, Delivery, Head, Rejection};
use cryptlet_types::{
    RunId, SignedDelegation, SignedReport, outbox::Submission, report::CompactSignature,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::broadcast::Receiver,
    time::{sleep, timeout},
};

/// First pause after a failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// How patient and how generous a [`Deliverer`] is.
#[derive(Clone, Copy, Debug)]
pub struct DeliverConfig {
    /// Wait for a receipt before the transaction is sent again, with higher fees.
    pub resend_after: Duration,
    /// Longest pause between two looks for a receipt, where nobody tells of blocks.
    pub longest_pause: Duration,
    /// Longest pause after a failure, and between two looks where somebody tells of blocks.
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
    /// The run that made it.
    pub run: RunId,
    /// The report.
    pub report: SignedReport,
    /// The delegation under which the report was made; none if it is on nobody's behalf.
    pub delegation: Option<SignedDelegation>,
    /// Gas that the subscription promises its callback.
    pub callback_gas: u32,
    /// Where a search for a delivery by somebody else begins: no later than the block of the subscription.
    pub from_block: u64,
    /// Whether the delegate is known to expect this very report: then it is sent without asking first.
    pub expected: bool,
}

/// Reports of one cryptlet, on nobody's behalf, to deliver by one transaction.
#[derive(Clone, Debug)]
pub struct BatchOrder {
    /// The reports, in the order in which the delegate is to take them; at least one.
    pub orders: Vec<Order>,
    /// The cryptlet's signature over the batch.
    pub signature: CompactSignature,
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
    /// Its transactions revert, again and again, though the delegate would accept it whenever it is asked: a chain that is so full
    /// that they are mined too late, for instance. Sending more of them only costs.
    Unexplained,
}

/// Delivers reports by one transmitter. Reports of different subscriptions may be delivered at the same time;
/// those of one subscription in the order of their numbers, as long as each is handed in after the one before it.
pub struct Deliverer {
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) signer: Arc<dyn TransmitterSigner>,
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) config: DeliverConfig,
    /// Held from the choice of a nonce until a node has accepted it or not.
    pub(crate) sending: tokio::sync::Mutex<()>,
    nonces: Mutex<Nonces>,
    window: Mutex<Window>,
    pub(crate) account: Account,
    pub(crate) mined: Mined,
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
            account: Account::new(chain.clone(), signer.address()),
            mined: Mined::new(chain.clone()),
            chain,
            signer,
            outbox,
            config,
            sending: tokio::sync::Mutex::new(()),
            nonces: Mutex::default(),
            window: Mutex::default(),
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
        self.resume_in(&mut Place::default(), order, submissions)
            .await
    }

    /// As [`Deliverer::resume`], when its place in a line has come.
    ///
    /// # Errors
    /// As [`Deliverer::deliver`].
    pub async fn resume_in(
        &self,
        place: &mut Place,
        order: &Order,
        submissions: &[Submission],
    ) -> Result<Outcome, DeliverError> {
        let mut attempt = Attempt::one(self, order, submissions);
        loop {
            match self.bring(&mut attempt, place).await? {
                Settled::One(outcome) => return Ok(*outcome),
                // A batch that this report was once part of has come to its end.
                Settled::Batch(_) => attempt = Attempt::one(self, order, &[]),
            }
        }
    }

    /// Brings the one transaction of a batch to its end: for each of its reports, in order, the delivery, if there was one. What
    /// the batch did not deliver is to be delivered by itself. Nothing of it is in any block that is not said here, and
    /// nothing of it waits in a node any more, as far as is known.
    ///
    /// # Errors
    /// As [`Deliverer::deliver`].
    pub async fn deliver_batch(
        &self,
        place: &mut Place,
        batch: &BatchOrder,
    ) -> Result<Vec<Option<Delivery>>, DeliverError> {
        let mut attempt = Attempt::batch(self, batch);
        match self.bring(&mut attempt, place).await? {
            Settled::Batch(deliveries) => Ok(deliveries),
            Settled::One(_) => Ok(vec![None; batch.orders.len()]),
        }
    }

    /// As [`Deliverer::deliver_batch`], for a batch of which `submissions` (oldest first, at least one) may have been sent.
    ///
    /// # Errors
    /// As [`Deliverer::deliver`]; [`DeliverError::Unreadable`] if the last submission is no transaction.
    pub async fn resume_batch(
        &self,
        place: &mut Place,
        orders: &[Order],
        submissions: &[Submission],
    ) -> Result<Vec<Option<Delivery>>, DeliverError> {
        let mut attempt = Attempt::sent_batch(self, orders, submissions)?;
        match self.bring(&mut attempt, place).await? {
            Settled::Batch(deliveries) => Ok(deliveries),
            Settled::One(_) => Ok(vec![None; orders.len()]),
        }
    }

    /// Tells it of the newest block: deliveries in it are found at once, by one question for all of them. Without this, each
    /// is looked for by itself after growing pauses.
    pub async fn observe(&self, head: &Head) {
        self.account.refresh().await;
        self.mined.look(head).await;
    }

    /// The chain was reorganised: nothing that is remembered of it is believed.
    pub fn doubt(&self) {
        self.account.forget();
    }

    async fn bring(
        &self,
        attempt: &mut Attempt<'_>,
        place: &mut Place,
    ) -> Result<Settled, DeliverError> {
        place.come().await;
        attempt.take_turn();
        let mut backoff = FIRST_BACKOFF;
        loop {
            // Before it is asked whose turn it is: the block that brings it may come while the answer is on its way.
            let blocks = self.mined.listen();
            match attempt.step().await {
                Ok(Some(settled)) => return Ok(settled),
                Ok(None) => {
                    backoff = FIRST_BACKOFF;
                    if attempt.is_sent() {
                        place.leave();
                    }
                }
                Err(error) if error.is_retryable() => {
                    let longest = self.config.longest_backoff;
                    // Reports behind it that are sent before it come too early for the delegate.
                    let for_room = matches!(error, DeliverError::Crowded { .. });
                    if !for_room && (!error.is_everybodys() || backoff >= longest) {
                        place.leave();
                    }
                    if !for_room {
                        self.account.forget();
                    }
                    tracing::warn!(job = %attempt.run().job, %error, ?backoff, "delivery waits");
                    self.rest(&error, backoff, blocks).await;
                    backoff = backoff.saturating_mul(2).min(longest);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits after a failure. Whose turn has not come is woken by the next block, which may have brought it.
    async fn rest(&self, error: &DeliverError, backoff: Duration, mut blocks: Receiver<Block>) {
        if !error.is_its_turns() || !self.mined.is_told() {
            return sleep(backoff).await;
        }
        sleep(backoff.min(self.config.longest_pause)).await;
        let _no_block_came = timeout(self.config.longest_backoff, blocks.recv()).await;
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nonces(&self) -> MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
