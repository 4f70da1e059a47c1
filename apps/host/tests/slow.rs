//! What takes long, while time and the register go on.
use crate::support::{Play, account::job_in, due, eventually, is_held, retry};
use alloy::primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_chain::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Head, Rejection, SubscriptionChange,
    TransactionOutcome,
};
use cryptlet_host::{Host, HostClock, Parts, Standing};
use cryptlet_types::{
    CryptletId, JobState::Delivered, ReportDomain, SignedDelegation, SignedReport, Subject,
    receipt::Inclusion, report::CompactSignature,
};
use cryptlet_watch::{Clock, ManualClock};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};
use tokio::sync::watch;

async fn parts(play: &Play, clock: &Arc<ManualClock>) -> Parts {
    let config = play.config();
    eventually("the folder is free", || async {
        let clock = HostClock::Free(clock.clone());
        match Parts::open(&config, Some(clock)).await {
            Ok(parts) => Some(parts),
            Err(error) if is_held(&error) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// A chain whose logs take as long as it takes to announce three times what is in force.
struct Slow {
    inner: Arc<dyn Chain>,
    standing: watch::Receiver<Standing>,
}

#[async_trait]
impl Chain for Slow {
    fn domain(&self) -> ReportDomain {
        self.inner.domain()
    }

    async fn head(&self) -> Result<Head, ChainError> {
        self.inner.head().await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.inner.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.inner.next_head(after).await
    }

    async fn subscription_changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let mut standing = self.standing.clone();
        standing.mark_unchanged();
        for _ in 0..3 {
            standing.changed().await.expect("the host runs");
        }
        self.inner.subscription_changes(blocks).await
    }

    async fn subscription_changes_of(
        &self,
        block: &Head,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let number = block.number;
        self.subscription_changes(number..=number).await
    }

    async fn sequence(
        &self,
        cryptlet: CryptletId,
        subject: Subject,
    ) -> Result<Option<u64>, ChainError> {
        self.inner.sequence(cryptlet, subject).await
    }

    async fn preflight(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let inner = &self.inner;
        inner.preflight(report, delegation, from, gas_limit).await
    }

    async fn preflight_batch(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let inner = &self.inner;
        let answer = inner.preflight_batch(reports, signature, from, gas_limit);
        answer.await
    }

    async fn delivery(
        &self,
        subject: Subject,
        sequence: u64,
        from_block: u64,
    ) -> Result<Option<Delivery>, ChainError> {
        self.inner.delivery(subject, sequence, from_block).await
    }

    async fn is_delegation_revoked(&self, digest: B256) -> Result<bool, ChainError> {
        self.inner.is_delegation_revoked(digest).await
    }

    async fn is_signed_by(
        &self,
        account: Address,
        digest: B256,
        signature: &Bytes,
    ) -> Result<bool, ChainError> {
        self.inner.is_signed_by(account, digest, signature).await
    }

    async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError> {
        self.inner.nonce(account, pending).await
    }

    async fn fees(&self) -> Result<Fees, ChainError> {
        self.inner.fees().await
    }

    fn delivery_call(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
    ) -> (Address, Bytes) {
        self.inner.delivery_call(report, delegation)
    }

    fn batch_call(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
    ) -> (Address, Bytes) {
        self.inner.batch_call(reports, signature)
    }

    async fn broadcast(&self, transaction: &Bytes) -> Result<B256, BroadcastError> {
        self.inner.broadcast(transaction).await
    }

    async fn transaction_outcome(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionOutcome>, ChainError> {
        self.inner.transaction_outcome(transaction).await
    }

    async fn transaction_outcomes(
        &self,
        transactions: &[B256],
    ) -> Result<Vec<Option<TransactionOutcome>>, ChainError> {
        self.inner.transaction_outcomes(transactions).await
    }

    async fn block_outcomes(
        &self,
        block: B256,
    ) -> Result<Option<Vec<TransactionOutcome>>, ChainError> {
        self.inner.block_outcomes(block).await
    }

    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError> {
        self.inner.inclusion(transaction).await
    }

    async fn inclusions(
        &self,
        block: B256,
        transactions: &[B256],
    ) -> Result<BTreeMap<B256, Inclusion>, ChainError> {
        self.inner.inclusions(block, transactions).await
    }
}

#[tokio::test]
async fn logs_that_take_longer_than_a_block_are_read_to_their_end() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let clock = Arc::new(ManualClock::new(due(11) + 7_200));
    let mut parts = parts(&play, &clock).await;
    parts.chain = Arc::new(Slow {
        inner: parts.chain.clone(),
        standing: parts.rules.watch(),
    });
    let host = Host::start(parts, None).await.unwrap();
    eventually("the subscription is read", || async {
        play.stage.rpc("evm_mine", ()).await.unwrap();
        let known = host.journal().subscriptions().await.unwrap();
        let mut known = known.iter().map(|known| known.subscription.subject);
        known
            .any(|subject| subject == watched.subject)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_report_is_issued_when_its_jobs_turn_has_come() {
    let mut play = Play::market(retry(3)).await;
    let both = [
        play.price_consumer(&["USD"]).await,
        play.price_consumer(&["GBP"]).await,
    ];
    let clock = Arc::new(ManualClock::new(due(11) + 7_200));
    let host = Host::start(parts(&play, &clock).await, None).await.unwrap();
    eventually("the subscriptions are read", || async {
        let known = host.journal().subscriptions().await.unwrap();
        (known.len() == both.len()).then_some(())
    })
    .await;
    play.feed.hold();
    clock.advance_to(due(12));
    // One waits for the feed, the other one for the region of their cryptlet.
    play.feed.holds().await;
    for watched in both {
        job_in(&host, watched, due(12), &[cryptlet_types::JobState::Routed]).await;
    }
    let later = due(12) + 3_600;
    play.stage.set_time(later).await.unwrap();
    clock.advance_to(later);
    play.feed.open();
    let mut issued = Vec::new();
    for watched in both {
        let record = job_in(&host, watched, due(12), &[Delivered]).await;
        assert_eq!(record.attempts, 0, "at the first attempt");
        let run = record.run.unwrap();
        issued.push(run.report.report.issued_at);
    }
    issued.sort_unstable();
    assert_eq!(issued, [due(12), clock.now()]);
}
