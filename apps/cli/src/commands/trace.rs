//! `cryptlet trace`: jobs as a running host tells them, or as the journal of a stopped one has them.

mod follow;

use crate::{
    args::developer::{ListOptions, TraceOptions},
    commands::look::most,
    error::{CliError, Doing},
    screen::{say, say_json},
};
use cryptlet_developer::listing::moment;
use cryptlet_host::DataFolder;
use cryptlet_journal::{JobFilter, JobRecord, Journal, JournalError, Page, wall_clock};
use cryptlet_types::JobId;
use serde_json::json;
use std::{path::Path, process::ExitCode};

pub(crate) async fn run(options: &TraceOptions) -> Result<ExitCode, CliError> {
    match &options.data {
        Some(folder) => stopped(folder, options).await,
        None if options.follow => follow::run(options.job, &options.list).await,
        None => super::look::trace(options.job, &options.list).await,
    }
}

/// The journal of a stopped host.
pub(crate) async fn open_journal(folder: &Path) -> Result<Journal, CliError> {
    let path = DataFolder::at(folder).journal();
    if !path.is_file() {
        let what = format!("no journal at {}", path.display());
        return Err(CliError::new(what).next("name the host's data folder with --data"));
    }
    Journal::open(&path, wall_clock())
        .await
        .map_err(|error| match error {
            JournalError::InUse(_) => CliError::new(&error).next("stop the host first"),
            error => CliError::new(error),
        })
}

/// The journal's word on a job.
pub(crate) async fn job_of(journal: &Journal, id: JobId) -> Result<JobRecord, CliError> {
    let record = journal.job(id).await.doing("cannot read the journal")?;
    record.ok_or_else(|| {
        CliError::new(format_args!("the journal knows no job {id}"))
            .next("list them all: cryptlet trace --data DIR")
    })
}

/// Jobs of a stopped host.
async fn stopped(folder: &Path, options: &TraceOptions) -> Result<ExitCode, CliError> {
    let journal = open_journal(folder).await?;
    match options.job {
        Some(job) => one(&journal, job, options.list.json).await?,
        None => list(&journal, &options.list).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(journal: &Journal, options: &ListOptions) -> Result<(), CliError> {
    let mut page = Page::default();
    let mut left = most(options);
    while left > 0 {
        let listing = journal
            .jobs(&JobFilter::default(), page)
            .await
            .doing("cannot read the journal")?;
        for record in listing.items.iter().take(left) {
            if options.json {
                say_json(as_json(record));
            } else {
                say(as_line(record));
            }
        }
        left = left.saturating_sub(listing.items.len());
        match listing.next {
            Some(after) => page = Page { after, ..page },
            None => break,
        }
    }
    Ok(())
}

async fn one(journal: &Journal, id: JobId, json: bool) -> Result<(), CliError> {
    let record = job_of(journal, id).await?;
    let history = journal.history(id).await.doing("cannot read the journal")?;
    let receipt = journal.receipt(id).await.doing("cannot read the journal")?;
    if json {
        let entry = |entry: &cryptlet_journal::HistoryEntry| json!({ "atMillis": entry.at, "state": entry.state, "note": entry.note });
        let history: Vec<_> = history.iter().map(entry).collect();
        let receipt = receipt.map(|stored| stored.receipt);
        say_json(
            json!({ "job": record.job, "state": record.state, "attempts": record.attempts, "history": history, "receipt": receipt }),
        );
        return Ok(());
    }
    say(as_line(&record));
    for entry in history {
        let at = moment(entry.at / 1_000);
        say(format_args!(
            "  {at}  {:<9}  {}",
            entry.state.as_str(),
            entry.note.unwrap_or_default()
        )
        .to_string()
        .trim_end());
    }
    Ok(())
}

fn as_line(record: &JobRecord) -> String {
    let due = moment(record.job.event.trigger.due());
    let note = record.note.as_deref().unwrap_or_default();
    format!(
        "{}  {due}  {:<9}  {note}",
        record.job.id,
        record.state.as_str()
    )
    .trim_end()
    .to_owned()
}

fn as_json(record: &JobRecord) -> serde_json::Value {
    json!({
        "job": record.job.id,
        "subject": record.job.event.subject,
        "due": record.job.event.trigger.due(),
        "state": record.state,
        "attempts": record.attempts,
        "note": record.note,
    })
}
