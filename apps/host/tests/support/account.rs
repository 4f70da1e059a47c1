//! What must hold of a subscription in the end, whatever has happened to the host in between.

use super::{Play, within_patience};
use alloy::primitives::Address;
use cryptlet_audit::verify;
use cryptlet_host::Host;
use cryptlet_journal::{HistoryEntry, JobFilter, JobRecord, Journal, Page, StoredReceipt};
use cryptlet_types::{JobState, Subject};
use std::collections::BTreeSet;

/// A contract and its subscription.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) consumer: Address,
    pub(crate) subject: Subject,
}

/// The jobs of a subscription, by the order in which they were due.
pub(crate) async fn jobs(journal: &Journal, subject: Subject) -> Vec<JobRecord> {
    let page = Page {
        after: 0,
        limit: 1_000,
    };
    let mut jobs = journal
        .jobs(&JobFilter::default(), page)
        .await
        .unwrap()
        .items;
    jobs.retain(|record| record.job.event.subject == subject);
    jobs.sort_by_key(|record| record.job.event.trigger.due());
    jobs
}

/// The job that was due at `due`, once it has reached one of `states`.
pub(crate) async fn job_in(
    host: &Host,
    watched: Watched,
    due: u64,
    states: &[JobState],
) -> JobRecord {
    let reached = within_patience(|| async {
        let jobs = jobs(host.journal(), watched.subject).await;
        let found = jobs
            .into_iter()
            .find(|record| record.job.event.trigger.due() == due)?;
        states.contains(&found.state).then_some(found)
    });
    if let Some(found) = reached.await {
        return found;
    }
    let mut stories = Vec::new();
    for record in jobs(host.journal(), watched.subject).await {
        stories.push((
            record.job.event.trigger.due(),
            story(host.journal(), &record).await,
        ));
    }
    panic!("what was due at {due} never became {states:?}: {stories:#?}");
}

/// States and notes of a job's history.
pub(crate) async fn story(
    journal: &Journal,
    record: &JobRecord,
) -> Vec<(JobState, Option<String>)> {
    let history = journal.history(record.job.id).await.unwrap();
    check_transitions(&history);
    history
        .into_iter()
        .map(|entry| (entry.state, entry.note))
        .collect()
}

/// Each state may follow the one before; a run that came to nothing leaves the job routed, and only a reorganisation undoes an end.
fn check_transitions(history: &[HistoryEntry]) {
    assert_eq!(
        history.first().map(|entry| entry.state),
        Some(JobState::Routed)
    );
    for pair in history.windows(2) {
        let (from, to) = (pair[0].state, pair[1].state);
        let again = from == JobState::Routed && to == JobState::Routed && pair[1].note.is_some();
        assert!(from.may_become(to) || again, "{history:?}");
        let note = pair[1].note.as_deref().unwrap_or_default();
        let undone = note.contains("reorganisation");
        assert!(!from.is_final() || undone, "{history:?}");
    }
}

/// The receipts of a subscription, by sequence.
pub(crate) async fn receipts(journal: &Journal, subject: Subject) -> Vec<StoredReceipt> {
    let page = Page {
        after: 0,
        limit: 1_000,
    };
    let mut receipts = journal.receipts(page).await.unwrap().items;
    receipts.retain(|stored| stored.receipt.event.subject == subject);
    receipts.sort_by_key(|stored| stored.receipt.report.report.sequence);
    receipts
}

/// The auditor finds nothing wrong with any of them.
pub(crate) async fn assert_hold(play: &Play, receipts: &[StoredReceipt]) {
    let roots = play.roots().await;
    for stored in receipts {
        let verdict = verify(&stored.receipt, &roots);
        assert!(
            verdict.holds(),
            "{:?}",
            verdict.failures().collect::<Vec<_>>()
        );
    }
}

/// Everything due at `dues` was delivered, once each, in order, with the callback's result `success`: the chain,
/// the journal and the receipts agree, and every receipt holds.
pub(crate) async fn assert_delivered(
    play: &Play,
    journal: &Journal,
    watched: Watched,
    dues: &[u64],
    success: bool,
) {
    let expected: Vec<_> = (1..)
        .zip(dues)
        .map(|(number, due)| (number, *due))
        .collect();
    let consumed = play.consumed(watched.subject).await;
    let on_chain: Vec<_> = (1..)
        .take(dues.len())
        .map(|number| (number, success))
        .collect();
    assert_eq!(consumed, on_chain, "the chain's account");

    let receipts = receipts(journal, watched.subject).await;
    let answered: Vec<_> = receipts
        .iter()
        .map(|stored| {
            let receipt = &stored.receipt;
            assert_eq!(stored.success, success);
            (receipt.report.report.sequence, receipt.event.trigger.due())
        })
        .collect();
    assert_eq!(answered, expected, "the receipts' account");
    assert_hold(play, &receipts).await;

    let mut delivered = BTreeSet::new();
    for record in jobs(journal, watched.subject).await {
        let story = story(journal, &record).await;
        let ended = record.state.is_final() || record.state == JobState::Parked;
        assert!(ended, "{story:?}");
        if record.state == JobState::Delivered {
            assert!(delivered.insert(record.job.event.trigger.due()));
        }
    }
    assert_eq!(
        delivered,
        dues.iter().copied().collect(),
        "the journal's account"
    );
}
