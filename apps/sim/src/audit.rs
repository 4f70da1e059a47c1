//! What has to be true of a seed, in the end.

use crate::{
    fixture::{FixtureError, Set},
    node::Node,
    world::{LAST_EVENTS, World, short},
};
use cryptlet_chain::{ChangeKind, Delivery};
use cryptlet_journal::{JobFilter, JobRecord, Page, StoredReceipt, at_once};
use cryptlet_types::{
    Event, Job, JobId, JobState, Subject, Subscription, Trigger, TriggerSpec, UnixSeconds,
    subscription::{Finality, LogSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// What there was to be found in a seed.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Events that had to be there.
    pub expected: u64,
    /// Jobs, by where they ended.
    pub jobs: BTreeMap<JobState, u64>,
    /// Reports that the chain consumed.
    pub delivered: u64,
    /// How often the host was killed.
    pub deaths: u64,
    /// Blocks that were replaced.
    pub replaced: u64,
    /// Calls of the host.
    pub calls: u64,
    /// Lines of the trace.
    pub lines: u64,
}

/// Words in the reasons for which a job may come to nothing: the world's fault, or as the contract wanted.
const GOOD_REASONS: [&str; 12] = [
    "cryptlet trapped",
    "cryptlet refused",
    "cryptlet could not answer",
    "run took longer",
    "region ended",
    "region did not answer",
    "the token was lost",
    "view of the chain is stale",
    "as often as policy lets it be tried",
    "the delegate would accept the report",
    "the subscription has ended",
    "unknown subscription",
];

/// A subscription as the chain tells of it in the end.
struct Told {
    subscription: Subscription,
    /// Its log: block, and place within it.
    place: (u64, u64),
    ended: bool,
    /// Whether it ever was: then what had to be due is not said here.
    paused: bool,
}

/// What the chain tells of subscriptions.
fn told(node: &Node) -> BTreeMap<Subject, Told> {
    let mut told = BTreeMap::new();
    for block in node.blocks() {
        for change in &block.changes {
            match &change.kind {
                ChangeKind::Subscribed(subscription) => {
                    let subscription = (**subscription).clone();
                    let begun = Told {
                        subscription,
                        place: (change.block, change.log_index),
                        ended: false,
                        paused: false,
                    };
                    told.insert(change.subject, begun);
                }
                ChangeKind::Unsubscribed => {
                    if let Some(told) = told.get_mut(&change.subject) {
                        told.ended = true;
                    }
                }
                ChangeKind::Paused | ChangeKind::Resumed { .. } => {
                    if let Some(told) = told.get_mut(&change.subject) {
                        told.paused = true;
                    }
                }
                ChangeKind::Refused { .. } | ChangeKind::Consumed { .. } => {}
            }
        }
    }
    told
}

/// When the subscription is due, up to `last`: by arithmetic, not by the host's own schedule.
fn dues(subscription: &Subscription, last: UnixSeconds) -> impl Iterator<Item = UnixSeconds> {
    let minutes = match &subscription.trigger {
        TriggerSpec::Clock(spec) => spec.cron.chars().filter_map(|c| c.to_digit(10)).next(),
        _ => None,
    };
    let every = 60 * u64::from(minutes.unwrap_or(1));
    let first = subscription.since.div_ceil(every);
    (first..)
        .map(move |count| count * every)
        .take_while(move |due| *due <= last)
}

/// The occurrences that the subscription has to be woken by, up to `last`. Where a chain is read beside what the delegate says,
/// that begins some time after the subscription: there, those count that came when the world had been calm for a while.
fn occurrences(node: &Node, told: &Told, last: UnixSeconds, settled: UnixSeconds) -> Vec<Trigger> {
    let subscription = &told.subscription;
    match &subscription.trigger {
        TriggerSpec::Clock(_) => {
            let dues = dues(subscription, last);
            dues.map(|due| Trigger::Clock { due }).collect()
        }
        TriggerSpec::Request => {
            let at = subscription.since;
            vec![Trigger::Request { at }]
        }
        TriggerSpec::Log(spec) => {
            let at_once = (spec.chain_id, spec.finality) == (node.chain_id(), Finality::Latest);
            let blocks = node.blocks().flat_map(|block| &block.logs);
            let counts = |log: &&cryptlet_chain::RawLog| {
                let after = match at_once {
                    true => (log.block, log.index) > told.place,
                    false => log.at >= settled,
                };
                after && log.at <= last && selects(spec, log)
            };
            let entries = blocks.filter(counts);
            let entries = entries.filter_map(|log| log.entry(spec.chain_id));
            entries.map(Trigger::Log).collect()
        }
        _ => vec![],
    }
}

/// Seconds that a host needs until it reads every chain, when the world is calm.
const SETTLING: u64 = 35;

fn selects(spec: &LogSpec, log: &cryptlet_chain::RawLog) -> bool {
    let mut topics = spec.topics.iter().zip(&log.topics);
    spec.emitter == log.emitter && topics.all(|(wanted, topic)| wanted.is_zero() || wanted == topic)
}

/// Jobs that had to be there, each with a word for it. Nothing is expected of a subscription that has ended: the host may not
/// have been there before its end.
fn expected(world: &World, last: UnixSeconds) -> BTreeMap<JobId, String> {
    let state = world.state();
    let calm = last.saturating_sub(LAST_EVENTS);
    let settled = calm.max(state.alive_since).saturating_add(SETTLING);
    let mut expected = BTreeMap::new();
    for (subject, told) in told(&state.node) {
        if told.ended || told.paused {
            continue;
        }
        let known = state.since.get(&subject).copied().unwrap_or_default();
        for trigger in occurrences(&state.node, &told, last, settled) {
            if !world.is_settled() && trigger.due() < known {
                continue;
            }
            let event = Event::new(&world.domain, subject, trigger);
            expected.insert(Job::id_of(&event), word(&event));
        }
    }
    expected
}

async fn jobs(set: &Set) -> Result<BTreeMap<JobId, JobRecord>, FixtureError> {
    set.world.look(true);
    let mut jobs = BTreeMap::new();
    let mut page = Page {
        after: 0,
        limit: 1_000,
    };
    loop {
        let listed = set.journal.jobs(&JobFilter::default(), page).await?;
        jobs.extend(
            listed
                .items
                .into_iter()
                .map(|record| (record.job.id, record)),
        );
        match listed.next {
            Some(next) => page.after = next,
            None => break,
        }
    }
    set.world.look(false);
    Ok(jobs)
}

/// Whether it came to nothing because there was no such subscription.
fn was_unknown(record: &JobRecord) -> bool {
    let reason = record.note.as_deref().unwrap_or_default();
    let unknown = ["the subscription has ended", "unknown subscription"];
    record.state == JobState::Failed && unknown.iter().any(|word| reason.contains(word))
}

/// What is still to be done about events that were due by `last`, in words.
///
/// # Errors
/// The journal cannot be read.
pub async fn left(set: &Set, last: UnixSeconds) -> Result<Vec<String>, FixtureError> {
    let jobs = jobs(set).await?;
    let mut left = vec![];
    for (id, word) in expected(&set.world, last) {
        match jobs.get(&id) {
            Some(record) if record.state == JobState::Withdrawn => {
                left.push(format!("{word} is withdrawn, though it occurred"));
            }
            Some(record) if was_unknown(record) => {
                left.push(format!("{word} failed for a subscription that lasts"));
            }
            Some(_) => {}
            None => left.push(format!("{word} never became a job")),
        }
    }
    let paused = paused(&set.world);
    for record in jobs.values() {
        let waits = paused.contains(&record.job.event.subject);
        if !waits && record.job.event.trigger.due() <= last && record.state.is_unfinished() {
            left.push(format!(
                "{} is still {}",
                word(&record.job.event),
                record.state.as_str()
            ));
        }
    }
    Ok(left)
}

/// Subscriptions that the delegate takes no report of now.
fn paused(world: &World) -> BTreeSet<Subject> {
    let state = world.state();
    let places = state.node.delegate(0).places();
    let paused = places.filter(|place| place.paused);
    paused.map(|place| place.subscription.subject).collect()
}

fn word(event: &Event) -> String {
    format!(
        "{} {} due at {} of {}",
        event.trigger.name(),
        short(&event.id.0),
        event.trigger.due(),
        short(&event.subject.0)
    )
}

/// Looks at everything.
///
/// # Errors
/// The journal cannot be read.
pub fn check(set: &Set) -> Result<Found, FixtureError> {
    let world = &set.world;
    let jobs = at_once(jobs(set))?;
    let mut broken = vec![];
    let mut found = Found::default();
    for record in jobs.values() {
        *found.jobs.entry(record.state).or_default() += 1;
        broken.extend(bad_end(record));
    }
    found.expected = world.last_due().map_or(0, |last| {
        expected(world, last).len().try_into().unwrap_or(u64::MAX)
    });
    let deliveries: Vec<Delivery> = world.state().node.deliveries().collect();
    found.delivered = deliveries.len().try_into().unwrap_or(u64::MAX);
    broken.extend(bad_sequences(&deliveries));
    broken.extend(bad_deliveries(world, &jobs, &deliveries));
    let receipts = at_once(receipts(set, &jobs))?;
    broken.extend(bad_receipts(world, &receipts, &deliveries));
    let mut state = world.state();
    for broken in broken {
        state.say(&format!("BROKEN: {broken}"));
        state.broken.push(broken);
    }
    found.deaths = state.deaths;
    found.replaced = state.replaced;
    found.calls = state.calls;
    found.lines = state.trace.count();
    Ok(found)
}

/// What came to nothing did so for a reason, and not for the host's own fault.
fn bad_end(record: &JobRecord) -> Option<String> {
    let given_up = matches!(
        record.state,
        JobState::Failed | JobState::Skipped | JobState::Parked
    );
    let reason = record.note.as_deref().unwrap_or_default();
    let is_good = match record.state {
        JobState::Skipped => !reason.is_empty(),
        _ => GOOD_REASONS.iter().any(|good| reason.contains(good)),
    };
    (given_up && !is_good).then(|| {
        let state = record.state.as_str();
        format!("{} is {state}: {reason:?}", word(&record.job.event))
    })
}

/// The numbers of each subscription are 1, 2, 3 and so on.
fn bad_sequences(deliveries: &[Delivery]) -> Vec<String> {
    let mut last: BTreeMap<Subject, u64> = BTreeMap::new();
    let mut broken = vec![];
    for delivery in deliveries {
        let report = &delivery.report;
        let last = last.entry(report.subject).or_default();
        if report.sequence != *last + 1 {
            let subject = short(&report.subject.0);
            broken.push(format!(
                "report {} of {subject} follows {last}",
                report.sequence
            ));
        }
        *last = report.sequence;
    }
    broken
}

/// The chain consumed a report of each job once at most, and of each that the journal says it did. Where blocks are
/// replaced, the latter is looked at only if it is asked for.
fn bad_deliveries(
    world: &World,
    jobs: &BTreeMap<JobId, JobRecord>,
    deliveries: &[Delivery],
) -> Vec<String> {
    let last = world.last_due().unwrap_or_default();
    let is_later =
        |record: &JobRecord| record.state.is_unfinished() && record.job.event.trigger.due() > last;
    let state = world.state();
    let mut broken = vec![];
    let mut counts: BTreeMap<JobId, u64> = BTreeMap::new();
    for delivery in deliveries {
        let report = &delivery.report;
        let number = format!("report {} of {}", report.sequence, short(&report.subject.0));
        let Some(job) = state.made.get(&report.digest) else {
            broken.push(format!("{number} was made by no region"));
            continue;
        };
        *counts.entry(*job).or_default() += 1;
        match jobs.get(job) {
            Some(record) if record.state == JobState::Delivered || is_later(record) => {}
            // What is on its way cannot be called back.
            Some(record) if record.state == JobState::Withdrawn => {}
            Some(record) => broken.push(format!(
                "{number} was consumed, and {} is {}: {:?}",
                word(&record.job.event),
                record.state.as_str(),
                record.note
            )),
            None => broken.push(format!(
                "{number} was consumed for a job that the journal lacks"
            )),
        }
    }
    for (job, count) in &counts {
        if let (Some(record), true) = (jobs.get(job), *count > 1) {
            broken.push(format!(
                "{} was delivered {count} times",
                word(&record.job.event)
            ));
        }
    }
    drop(state);
    let looked_at = world.is_settled();
    let delivered = jobs
        .values()
        .filter(|record| record.state == JobState::Delivered);
    for record in delivered.filter(|_| looked_at) {
        if !counts.contains_key(&record.job.id) {
            broken.push(format!(
                "{} is delivered, and the chain knows nothing of it",
                word(&record.job.event)
            ));
        }
    }
    broken
}

async fn receipts(
    set: &Set,
    jobs: &BTreeMap<JobId, JobRecord>,
) -> Result<BTreeMap<JobId, StoredReceipt>, FixtureError> {
    set.world.look(true);
    let mut receipts = BTreeMap::new();
    for job in jobs.keys() {
        if let Some(receipt) = set.journal.receipt(*job).await? {
            receipts.insert(*job, receipt);
        }
    }
    set.world.look(false);
    Ok(receipts)
}

/// Each receipt names the block in which the chain has the delivery. Where blocks are replaced, this is looked at only if it is
/// asked for.
fn bad_receipts(
    world: &World,
    receipts: &BTreeMap<JobId, StoredReceipt>,
    deliveries: &[Delivery],
) -> Vec<String> {
    if !world.is_settled() {
        return vec![];
    }
    let mut broken = vec![];
    for stored in receipts.values() {
        let receipt = &stored.receipt;
        let report = &receipt.report.report;
        let number = format!("report {} of {}", report.sequence, short(&report.subject.0));
        let digest = report.digest(&world.domain);
        let consumed = deliveries
            .iter()
            .find(|delivery| delivery.report.digest == digest);
        match consumed {
            None => broken.push(format!(
                "there is a receipt of {number}, which was not consumed"
            )),
            Some(delivery)
                if receipt.inclusion.header.as_ref() != delivery.block_hash.as_slice() =>
            {
                broken.push(format!(
                    "the receipt of {number} is of a block that was replaced"
                ));
            }
            Some(delivery) if delivery.report.success != stored.success => {
                broken.push(format!(
                    "the receipt of {number} says another outcome of its callback"
                ));
            }
            Some(_) => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use cryptlet_chain::DeliveredReport;
    use cryptlet_types::CryptletId;

    fn delivery(subject: u8, sequence: u64) -> Delivery {
        Delivery {
            transaction: B256::ZERO,
            block: 1,
            block_hash: B256::ZERO,
            gas_used: 0,
            report: DeliveredReport {
                subject: Subject(B256::repeat_byte(subject)),
                cryptlet: CryptletId(Address::ZERO),
                sequence,
                digest: B256::ZERO,
                signer: Address::ZERO,
                success: true,
                reason: None,
            },
        }
    }

    #[test]
    fn gaps_and_repetitions_are_seen_in_each_subscription_by_itself() {
        let of = |numbers: &[(u8, u64)]| {
            let numbers = numbers.iter();
            let deliveries: Vec<_> = numbers.map(|(subject, n)| delivery(*subject, *n)).collect();
            bad_sequences(&deliveries).len()
        };
        assert_eq!(of(&[(1, 1), (2, 1), (1, 2), (2, 2)]), 0);
        assert_eq!(of(&[(1, 1), (1, 3)]), 1);
        assert_eq!(of(&[(1, 1), (1, 1)]), 1);
        assert_eq!(of(&[(1, 2)]), 1);
    }
}
