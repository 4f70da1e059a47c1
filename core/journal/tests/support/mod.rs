//! Values for tests: one path per number.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use cryptlet_journal::{
    Clock, Cursor, DELEGATE, Delivered, JobRecord, Journal, JournalError, Occurred, Ran, Routed,
    RunOutcome, SubscriptionChange,
};
use cryptlet_types::{
    ClockSpec, CryptletId, Event, Evidence, EvidenceStatement, Job, JobId, Limits, Measurement,
    Provider, Receipt, ReportDomain, RunId, RunRecord, Sha256Digest, SignedReport, Subject,
    Submission, Subscription, Trigger, TriggerSpec, event::LogEntry, receipt::Inclusion,
    region::RunInput, report::CompactSignature,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) const DOMAIN: ReportDomain = ReportDomain {
    chain_id: 31337,
    delegate: Address::repeat_byte(0xde),
};
pub(crate) const SINCE: u64 = 1_000;

/// A clock that counts questions.
pub(crate) fn ticks() -> Clock {
    let next = AtomicU64::new(1);
    Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn open(path: &Path) -> Journal {
    Journal::open(path, ticks()).await.unwrap()
}

/// Jobs that there is something to do for, in the order in which they were recorded.
pub(crate) async fn unfinished_jobs(journal: &Journal) -> Vec<JobRecord> {
    let unfinished = journal.unfinished().await.unwrap();
    let numbers: Vec<_> = unfinished.iter().map(|job| job.number).collect();
    let found = journal.jobs_by_number(&numbers).await.unwrap();
    assert_eq!(found.len(), unfinished.len());
    for (job, record) in unfinished.iter().zip(&found) {
        assert!(job.state.is_unfinished());
        assert_eq!(
            (job.number, job.id, job.state, job.attempts),
            (record.number, record.job.id, record.state, record.attempts)
        );
        let subscription = &record.job.subscription;
        assert_eq!(
            (job.subject, job.cryptlet),
            (subscription.subject, subscription.cryptlet)
        );
    }
    found
}

pub(crate) fn cursor(number: u64) -> Cursor {
    let hash = B256::repeat_byte(7);
    Cursor { number, hash }
}

pub(crate) fn subscription(subject: u8) -> Subscription {
    Subscription {
        subject: Subject(B256::repeat_byte(subject)),
        consumer: Address::repeat_byte(1),
        nonce: subject.into(),
        cryptlet: CryptletId(Address::repeat_byte(2)),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1, 2, 3, 4]),
        callback_gas: 100_000,
        validity: 3600,
        trigger: TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        }),
        params: Bytes::from_static(b"USD"),
        since: SINCE,
    }
}

/// The event number `n` of a subscription.
pub(crate) fn event(subject: u8, n: u64) -> Event {
    let due = SINCE + n;
    let trigger = Trigger::Clock { due };
    Event::new(&DOMAIN, subscription(subject).subject, trigger)
}

pub(crate) fn job(subject: u8, n: u64) -> Job {
    job_of(subject, event(subject, n))
}

/// The log number `n` for a subscription, as it stands in `block`.
pub(crate) fn log(subject: u8, n: u64, block: u64) -> Event {
    let log = LogEntry {
        chain_id: DOMAIN.chain_id,
        block,
        block_hash: B256::repeat_byte(7),
        at: SINCE + block,
        transaction: B256::from(U256::from(n)),
        index: 0,
        ordinal: 0,
        emitter: Address::repeat_byte(15),
        topics: vec![],
        data: Bytes::new(),
    };
    Event::new(&DOMAIN, subscription(subject).subject, Trigger::Log(log))
}

pub(crate) fn job_of(subject: u8, event: Event) -> Job {
    Job {
        id: Job::id_of(&event),
        event,
        subscription: subscription(subject),
        package: Sha256Digest(B256::repeat_byte(3)),
        limits: Limits::default(),
        policy_epoch: 1,
    }
}

const SIGNATURE: CompactSignature = CompactSignature {
    r: B256::repeat_byte(5),
    vs: B256::repeat_byte(6),
};

/// A run of `job`; runs with different `salt` are different.
pub(crate) fn run(job: &Job, salt: u8) -> RunRecord {
    let measurement = Measurement(B256::repeat_byte(4));
    let due = job.event.trigger.due();
    let input = RunInput {
        job: job.id,
        domain: DOMAIN,
        subscription: job.subscription.clone(),
        trigger: job.event.trigger.clone(),
        sequence: 1,
        issued_at: due,
        valid_until: due + 3600,
        delegation: None,
        settings: [("feed".to_owned(), "rates.example".to_owned())].into(),
    };
    let report = input.report(measurement, Bytes::from(vec![salt; 64]));
    let signed = SignedReport {
        report,
        signer: Address::repeat_byte(8),
        signature: SIGNATURE,
        region_signature: SIGNATURE,
    };
    let statement = EvidenceStatement {
        provider: Provider::Process,
        controls: vec!["seccomp".into()],
        measurement,
        region_key: Address::repeat_byte(9),
        exchange_key: B256::repeat_byte(10),
        nonce: B256::repeat_byte(11),
    };
    let evidence = Evidence {
        statement,
        made_at: due,
        host: Address::repeat_byte(12),
        signature: SIGNATURE,
        attestation: None,
    };
    RunRecord {
        policy_epoch: 1,
        policy: cryptlet_types::Sha256Digest(alloy_primitives::B256::repeat_byte(6)),
        input,
        sources: vec![],
        report: signed,
        evidence,
        fuel_used: 1,
    }
}

pub(crate) fn submission(nonce: u64, fee: u128) -> Submission {
    let mut hash = B256::repeat_byte(0xaa);
    hash.0[..8].copy_from_slice(&nonce.to_be_bytes());
    hash.0[8..24].copy_from_slice(&fee.to_be_bytes());
    Submission {
        transmitter: Address::repeat_byte(13),
        nonce,
        hash,
        raw: Bytes::from_static(&[2]),
        max_fee_per_gas: fee,
        max_priority_fee_per_gas: 1,
    }
}

pub(crate) fn receipt(job: &Job, run: &RunRecord) -> Receipt {
    Receipt {
        version: 1,
        job: job.id,
        domain: DOMAIN,
        subscription: job.subscription.clone(),
        event: job.event.clone(),
        package: job.package,
        policy_epoch: job.policy_epoch,
        policy: Sha256Digest(B256::repeat_byte(14)),
        input: run.input.clone(),
        sources: run.sources.clone(),
        report: run.report.clone(),
        evidence: run.evidence.clone(),
        host_signature: SIGNATURE,
        inclusion: Inclusion {
            header: Bytes::from_static(&[0xc0]),
            transaction_index: 0,
            transaction: Bytes::new(),
            transaction_proof: vec![],
            receipt: Bytes::new(),
            receipt_proof: vec![],
        },
    }
}

/// `receipt` of a delivery in a block.
pub(crate) fn delivered(job: &Job, run: &RunRecord, success: bool, block: u64) -> Delivered {
    Delivered {
        run: first(job.id),
        receipt: receipt(job, run),
        success,
        block: cursor(block),
    }
}

pub(crate) fn added(subject: u8, block: u64) -> SubscriptionChange {
    let subscription = subscription(subject);
    SubscriptionChange::Added {
        subscription,
        block,
    }
}

/// Moves the delegate's cursor; nothing else happened.
pub(crate) async fn apply(journal: &Journal, number: u64, changes: &[SubscriptionChange]) {
    journal
        .apply(DELEGATE, cursor(number), changes, &[])
        .await
        .unwrap();
}

/// Records a subscription in the cursor's block, or in block 1.
pub(crate) async fn subscribe(journal: &Journal, subject: u8) {
    let at = journal.cursor(DELEGATE).await.unwrap();
    let block = at.map_or(1, |at| at.number);
    apply(journal, block, &[added(subject, block)]).await;
}

/// Records subscription, event and job, as often as it is called.
pub(crate) async fn routed(journal: &Journal, subject: u8, n: u64) -> Job {
    subscribe(journal, subject).await;
    let job = job(subject, n);
    let waiting = Occurred::from(job.event.clone());
    journal.record_events(&[waiting]).await.unwrap();
    let routed = Routed::Job(Box::new(job.clone()));
    journal.settle_events(&[routed]).await.unwrap();
    job
}

/// The job's first run.
pub(crate) fn first(job: JobId) -> RunId {
    RunId::first(job)
}

/// The job's present run; the first of a job that is not known.
pub(crate) async fn present(journal: &Journal, job: JobId) -> RunId {
    let record = journal.job(job).await.unwrap();
    record.map_or(first(job), |record| record.present)
}

/// One outcome.
pub(crate) async fn ran(
    journal: &Journal,
    job: JobId,
    outcome: RunOutcome,
) -> Result<(), JournalError> {
    let next = None;
    let run = present(journal, job).await;
    let mut told = journal.record_runs(&[Ran { run, outcome, next }]).await?;
    told.pop().unwrap().map(|taken| assert_eq!(taken, None))
}

pub(crate) async fn report(
    journal: &Journal,
    id: JobId,
    run: &RunRecord,
) -> Result<(), JournalError> {
    ran(journal, id, RunOutcome::Reported(Box::new(run.clone()))).await
}

/// One delivery of the present run, in block 1.
pub(crate) async fn deliver(
    journal: &Journal,
    job: &Job,
    run: &RunRecord,
    success: bool,
) -> Result<(), JournalError> {
    let delivered = Delivered {
        run: present(journal, job.id).await,
        ..delivered(job, run, success, 1)
    };
    let mut told = journal.record_deliveries(&[delivered]).await?;
    told.pop().unwrap()
}

pub(crate) async fn reopen(journal: &Journal, id: JobId, reason: &str) -> Result<(), JournalError> {
    let mut told = journal
        .reopen(&[(present(journal, id).await, reason)])
        .await?;
    told.pop().unwrap()
}
