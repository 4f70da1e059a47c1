//! The delegate's chain, as a node that is not to be relied on serves it.

use crate::{
    delegate::Sent,
    world::{Published, Trouble, World, short},
};
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use cryptlet_chain::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Head, LogChain, LogFilter, RawLog,
    Rejection, SubscriptionChange, TransactionOutcome, evm::abi,
};
use cryptlet_types::{
    CryptletId, ReportDomain, SignedDelegation, SignedReport, Subject, receipt::Inclusion,
    report::CompactSignature, subscription::Finality,
};
use std::{collections::BTreeMap, ops::RangeInclusive, pin::pin, sync::Arc, time::Duration};

/// A node's chain.
pub struct SimulatedChain(pub Arc<World>);

/// The error that a node's trouble shows as.
pub(super) fn chain_error(method: &'static str, trouble: Trouble) -> ChainError {
    match trouble {
        Trouble::Timeout(millis) => ChainError::Timeout {
            method,
            after: Duration::from_millis(millis),
        },
        Trouble::Broken => ChainError::Transport {
            method,
            message: "connection reset".to_owned(),
        },
        Trouble::Internal(code) => ChainError::Refused {
            method,
            code,
            message: "internal error".to_owned(),
        },
    }
}

/// The newest block, as the node that answers knows it.
pub(super) fn read_head(world: &World, place: &'static str) -> Head {
    let lag = world.lag(place);
    world.state().node.behind(lag).head
}

/// Waits for another head than `after`, which may come late, twice, or out of order.
pub(super) async fn wait_for_head(
    world: &World,
    place: &'static str,
    after: &Head,
) -> Result<Head, ChainError> {
    loop {
        let mut changed = pin!(world.heads.notified());
        changed.as_mut().enable();
        let head = read_head(world, place);
        if head.hash != after.hash {
            break;
        }
        changed.await;
        world.stay_alive().await;
    }
    let settings = &world.settings;
    let late = world.dice.happens(place, "late", settings.rpc_faults);
    let longest = if late { 10_000 } else { settings.rpc_millis };
    let entered = world.enter(place, settings.rpc_faults, longest).await;
    let call = entered.map_err(|trouble| chain_error(place, trouble))?;
    // What is pushed may be old by the time it arrives.
    let head = read_head(world, place);
    let left = world.leave(call).await;
    left.map_err(|trouble| chain_error(place, trouble))?;
    Ok(head)
}

impl SimulatedChain {
    async fn ask<T>(
        &self,
        place: &'static str,
        answer: impl FnOnce() -> T,
    ) -> Result<T, ChainError> {
        let world = &self.0;
        let (faults, millis) = (world.settings.rpc_faults, world.settings.rpc_millis);
        let entered = world.enter(place, faults, millis).await;
        let call = entered.map_err(|trouble| chain_error(place, trouble))?;
        let answer = answer();
        let left = world.leave(call).await;
        left.map_err(|trouble| chain_error(place, trouble))?;
        Ok(answer)
    }

    /// Takes a transaction into the pool, and looks whether it may be there at all.
    fn take(&self, raw: &Bytes) -> Result<B256, BroadcastError> {
        let world = &self.0;
        let waiting = world.state().node.read(raw)?;
        let (hash, nonce) = (waiting.hash, waiting.nonce);
        let mut said = String::new();
        for report in waiting.reports() {
            let digest = report.digest(&world.domain);
            self.publish(report, digest);
            said += &format!(
                " report {} of {} is {},",
                report.sequence,
                short(&report.subject.0),
                short(&digest)
            );
        }
        let mut state = world.state();
        let taken = state.node.take(waiting);
        state.say(&format!(
            "broadcast {} nonce {nonce}:{said} {taken:?}",
            short(&hash)
        ));
        taken
    }

    /// A report leaves the host: none may while another of its number may still be consumed.
    fn publish(&self, report: &cryptlet_types::Report, digest: B256) {
        let world = &self.0;
        let mut state = world.state();
        // No block that is still to be made has an earlier time.
        let time = (state.now() / 1_000).max(state.node.tip().head.timestamp);
        let number = (report.subject, report.sequence);
        let known = state.published.entry(number).or_default();
        let other = known.iter().find(|other| {
            other.digest != digest && other.valid_until.min(report.valid_until) >= time
        });
        let broken = other.map(|other| {
            format!(
                "report {} of {} was handed out as {} while {} is good until {} (the chain's time is {time})",
                report.sequence,
                short(&report.subject.0),
                short(&digest),
                short(&other.digest),
                other.valid_until,
            )
        });
        if known.iter().all(|known| known.digest != digest) {
            known.push(Published {
                digest,
                valid_until: report.valid_until,
            });
        }
        drop(state);
        if let Some(broken) = broken.filter(|_| world.is_settled()) {
            world.broke(broken);
        }
    }
}

#[async_trait]
impl Chain for SimulatedChain {
    fn domain(&self) -> ReportDomain {
        self.0.domain
    }

    async fn head(&self) -> Result<Head, ChainError> {
        let place = "chain.head";
        self.ask(place, || read_head(&self.0, place)).await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let head = || self.0.state().node.block(number).map(|block| block.head);
        self.ask("chain.header", head).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        wait_for_head(&self.0, "chain.next_head", after).await
    }

    async fn subscription_changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let place = "chain.subscription_changes";
        let (first, last) = blocks.into_inner();
        let world = &self.0;
        let read = || {
            let mut changes = world.state().node.changes(first, last);
            let settings = &world.settings;
            if !world.is_calm() && world.dice.happens(place, "late", settings.late_logs) {
                changes.retain(|change| change.block + 2 <= last);
            }
            if let Some(twice) = changes.last().cloned()
                && world.dice.happens(place, "twice", 100_000)
            {
                changes.push(twice);
            }
            changes
        };
        self.ask(place, read).await
    }

    async fn subscription_changes_of(
        &self,
        block: &Head,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let read = || {
            let state = self.0.state();
            let found = state.node.by_hash(block.hash);
            found.map(|found| found.changes.clone())
        };
        let found = self.ask("chain.subscription_changes_of", read).await?;
        let number = block.number;
        found.ok_or(ChainError::Reorged { number })
    }

    async fn sequence(
        &self,
        _cryptlet: CryptletId,
        subject: Subject,
    ) -> Result<Option<u64>, ChainError> {
        let place = "chain.sequence";
        let read = || {
            let lag = self.0.lag(place);
            let state = self.0.state();
            let found = state.node.delegate(lag).place(subject);
            found.map(|found| found.sequence)
        };
        self.ask(place, read).await
    }

    async fn preflight(
        &self,
        report: &SignedReport,
        _delegation: Option<&SignedDelegation>,
        _from: Address,
        _gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let place = "chain.preflight";
        let call = crate::delegate::Call {
            report: report.report.clone(),
            signature: report.signature,
        };
        let world = &self.0;
        // Whoever runs the node can deliver what it is asked about.
        self.publish(&report.report, report.report.digest(&world.domain));
        let judge = || {
            let lag = world.lag(place);
            let state = world.state();
            let time = (state.now() / 1_000).max(state.node.tip().head.timestamp);
            let judged = if world.settings.pending_pool && lag == 0 {
                state.node.pending(time).check(&call, time)
            } else {
                state.node.delegate(lag).check(&call, time)
            };
            judged.map(|_signer| ())
        };
        let judged = self.ask(place, judge).await?;
        if let Err(rejection) = &judged {
            world.say(&format!("preflight: {rejection}"));
        }
        Ok(judged)
    }

    async fn preflight_batch(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
        _from: Address,
        _gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let reports = reports.iter().map(|signed| signed.report.clone()).collect();
        let sent = Sent::Batch(reports, *signature);
        let judge = || {
            let state = self.0.state();
            let time = (state.now() / 1_000).max(state.node.tip().head.timestamp);
            let taken = state.node.delegate(0).clone().take(&sent, time);
            taken.map(|_logged| ())
        };
        self.ask("chain.preflight_batch", judge).await
    }

    async fn delivery(
        &self,
        subject: Subject,
        sequence: u64,
        from_block: u64,
    ) -> Result<Option<Delivery>, ChainError> {
        let find = || {
            let state = self.0.state();
            state.node.deliveries().find(|delivery| {
                let report = &delivery.report;
                delivery.block >= from_block
                    && (report.subject, report.sequence) == (subject, sequence)
            })
        };
        self.ask("chain.delivery", find).await
    }

    async fn is_delegation_revoked(&self, _digest: B256) -> Result<bool, ChainError> {
        self.ask("chain.is_delegation_revoked", || false).await
    }

    async fn is_signed_by(
        &self,
        _account: Address,
        _digest: B256,
        _signature: &Bytes,
    ) -> Result<bool, ChainError> {
        self.ask("chain.is_signed_by", || false).await
    }

    async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError> {
        let place = if pending {
            "chain.pending_nonce"
        } else {
            "chain.nonce"
        };
        let read = || {
            let lag = self.0.lag(place);
            self.0.state().node.nonce(account, pending, lag)
        };
        self.ask(place, read).await
    }

    async fn fees(&self) -> Result<Fees, ChainError> {
        self.ask("chain.fees", || self.0.state().node.fees()).await
    }

    fn delivery_call(
        &self,
        report: &SignedReport,
        _delegation: Option<&SignedDelegation>,
    ) -> (Address, Bytes) {
        let input = abi::deliver_call(report).abi_encode();
        (self.0.domain.delegate, input.into())
    }

    fn batch_call(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
    ) -> (Address, Bytes) {
        let input = abi::deliver_batch_call(reports, signature).abi_encode();
        (self.0.domain.delegate, input.into())
    }

    async fn broadcast(&self, transaction: &Bytes) -> Result<B256, BroadcastError> {
        self.ask("chain.broadcast", || self.take(transaction))
            .await?
    }

    async fn transaction_outcome(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionOutcome>, ChainError> {
        let place = "chain.transaction_outcome";
        let read = || {
            let lag = self.0.lag(place);
            self.0.state().node.outcome(transaction, lag)
        };
        self.ask(place, read).await
    }

    async fn transaction_outcomes(
        &self,
        transactions: &[B256],
    ) -> Result<Vec<Option<TransactionOutcome>>, ChainError> {
        let place = "chain.transaction_outcomes";
        let read = || {
            let lag = self.0.lag(place);
            let state = self.0.state();
            let outcomes = transactions.iter();
            outcomes
                .map(|hash| state.node.outcome(*hash, lag))
                .collect()
        };
        self.ask(place, read).await
    }

    async fn block_outcomes(
        &self,
        block: B256,
    ) -> Result<Option<Vec<TransactionOutcome>>, ChainError> {
        let read = || {
            let state = self.0.state();
            let found = state.node.by_hash(block);
            found.map(|found| found.outcomes().collect())
        };
        self.ask("chain.block_outcomes", read).await
    }

    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError> {
        let prove = || {
            let outcome = self.0.state().node.outcome(transaction, 0)?;
            Some(proof(&outcome))
        };
        let proven = self.ask("chain.inclusion", prove).await?;
        proven.ok_or(ChainError::NotIncluded(transaction))
    }

    async fn inclusions(
        &self,
        block: B256,
        transactions: &[B256],
    ) -> Result<BTreeMap<B256, Inclusion>, ChainError> {
        let prove = || {
            let state = self.0.state();
            let found = state.node.by_hash(block);
            found.map(|found| {
                let outcomes = found.outcomes();
                let asked = outcomes.filter(|outcome| transactions.contains(&outcome.transaction));
                asked
                    .map(|outcome| (outcome.transaction, proof(&outcome)))
                    .collect()
            })
        };
        let proven = self.ask("chain.inclusions", prove).await?;
        proven.ok_or(ChainError::NotIncluded(block))
    }
}

fn proof(outcome: &TransactionOutcome) -> Inclusion {
    Inclusion {
        header: outcome.block_hash.to_vec().into(),
        transaction_index: outcome.index,
        transaction: outcome.transaction.to_vec().into(),
        transaction_proof: vec![],
        receipt: Bytes::new(),
        receipt_proof: vec![],
    }
}

/// The same blocks, as a chain of that id whose contracts log.
pub struct SimulatedLogs {
    /// Where it is.
    pub world: Arc<World>,
    /// Its id: the delegate's chain, or another one that happens to be alike.
    pub id: u64,
}

impl SimulatedLogs {
    async fn ask<T>(
        &self,
        place: &'static str,
        answer: impl FnOnce() -> T,
    ) -> Result<T, ChainError> {
        SimulatedChain(self.world.clone()).ask(place, answer).await
    }
}

#[async_trait]
impl LogChain for SimulatedLogs {
    fn chain_id(&self) -> u64 {
        self.id
    }

    async fn head(&self, finality: Finality) -> Result<Option<Head>, ChainError> {
        let place = "chain.logs head";
        let behind = match finality {
            Finality::Latest => 0,
            Finality::Safe => SAFE,
            Finality::Finalized => FINALIZED,
        };
        let read = || {
            let lag = self.world.lag(place) + behind;
            let state = self.world.state();
            let number = state.node.tip().head.number.checked_sub(lag)?;
            state.node.block(number).map(|block| block.head)
        };
        self.ask(place, read).await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let head = || {
            self.world
                .state()
                .node
                .block(number)
                .map(|block| block.head)
        };
        self.ask("chain.logs header", head).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        wait_for_head(&self.world, "chain.logs next_head", after).await
    }

    async fn logs(
        &self,
        filter: &LogFilter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<RawLog>, ChainError> {
        let (first, last) = blocks.into_inner();
        let read = || self.world.state().node.logs(filter, first, last);
        self.ask("chain.logs", read).await
    }

    async fn logs_of_block(
        &self,
        block: &Head,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, ChainError> {
        let number = block.number;
        let read = || {
            let state = self.world.state();
            let found = state.node.by_hash(block.hash);
            found.map(|_| state.node.logs(filter, number, number))
        };
        let found = self.ask("chain.logs_of_block", read).await?;
        found.ok_or(ChainError::Reorged { number })
    }
}

/// Blocks after which one is called safe; deep reorganisations reach it.
const SAFE: u64 = 3;
/// Blocks after which one cannot be taken back: more than any reorganisation replaces.
const FINALIZED: u64 = 14;
