//! What is there: `status`, `search`, `show`, `explain`, `subscriptions`, `trace` of a host that runs.

use super::session::{list, object, open};
use crate::{
    args::developer::{
        JobsCommand, JobsOptions, ListOptions, OneOptions, RetryJobOptions, SearchOptions,
        StatusOptions,
    },
    error::CliError,
    screen::{note, say},
};
use cryptlet_api::{
    Client, JobQuery,
    types::{CryptletDetail, CryptletRef, Hex, JobStateName, JobSummary},
};
use cryptlet_developer::{DeveloperError, Session, Witness, confirm, import::Verified, listing};
use cryptlet_types::JobId;
use serde_json::json;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long a host may be behind its chain before that is said.
const MOMENT: Duration = Duration::from_secs(5);
/// Wait before a host that is behind is asked again.
const LOOK: Duration = Duration::from_millis(50);

/// Most lines of a listing.
pub(crate) fn most(options: &ListOptions) -> usize {
    usize::try_from(options.limit).unwrap_or(usize::MAX)
}

pub(crate) async fn status(options: &StatusOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    if options.json {
        object(session.info())?;
    } else {
        say(listing::host(&session));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn search(options: &SearchOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.list.host).await?;
    let client = session.client();
    let word = options.word.as_ref();
    let found = listing::all(most(&options.list), async |page| {
        client.cryptlets(word, &page).await
    });
    list(options.list.json, &found.await?, listing::cryptlets)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a cryptlet, with what the register confirms of it. What it does not confirm is said, and ends with a failure.
pub(crate) async fn show(options: &OneOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let (detail, checked) = compared(&session, &options.cryptlet).await?;
    let verified = checked.as_ref().ok().and_then(Option::as_ref);
    let witness = session.witness().filter(|_| checked.is_ok());
    if options.json {
        let confirmed = witness.is_some_and(Witness::confirms);
        let doubt = checked.as_ref().err().map(ToString::to_string);
        object(&json!({ "cryptlet": detail, "confirmed": confirmed, "doubt": doubt }))?;
    } else {
        let word = checked.is_ok().then_some(witness);
        say(listing::cryptlet(&detail, verified, word));
    }
    if let Err(error) = checked {
        note("");
        return Err(error.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// What the host says of a cryptlet, and what comparing it with the register came to. A host may be a moment behind its chain,
/// when somebody has just changed something: then it is asked again.
async fn compared(
    session: &Session,
    cryptlet: &CryptletRef,
) -> Result<(CryptletDetail, Result<Option<Verified>, DeveloperError>), CliError> {
    let until = Instant::now() + MOMENT;
    loop {
        let detail = session.client().cryptlet(cryptlet).await;
        let detail = detail.map_err(DeveloperError::from)?;
        let checked = confirm(session, cryptlet, &detail).await;
        let is_behind = matches!(checked, Err(DeveloperError::HostBehind(_)));
        if !is_behind || Instant::now() >= until {
            return Ok((detail, checked));
        }
        sleep(LOOK).await;
    }
}

pub(crate) async fn explain(options: &OneOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let explanation = session.client().explain(&options.cryptlet).await;
    let explanation = explanation.map_err(DeveloperError::from)?;
    if options.json {
        object(&explanation)?;
    } else {
        say(listing::explanation(&explanation));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn subscriptions(options: &ListOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let client = session.client();
    let found = listing::all(most(options), async |page| {
        client.subscriptions(&page).await
    });
    list(options.json, &found.await?, listing::subscriptions)?;
    Ok(ExitCode::SUCCESS)
}

/// Jobs, newest first.
pub(crate) async fn jobs(client: &Client, most: usize) -> Result<Vec<JobSummary>, DeveloperError> {
    jobs_in(client, None, most).await
}

async fn jobs_in(
    client: &Client,
    state: Option<JobStateName>,
    most: usize,
) -> Result<Vec<JobSummary>, DeveloperError> {
    let query = |page| JobQuery {
        page,
        state,
        ..JobQuery::default()
    };
    listing::all(most, async |page| client.jobs(&query(page)).await).await
}

/// Lists jobs, or has one tried again.
pub(crate) async fn list_jobs(options: &JobsOptions) -> Result<ExitCode, CliError> {
    if let Some(JobsCommand::Retry(retry)) = &options.what {
        return retry_job(retry).await;
    }
    let session = open(&options.list.host).await?;
    let found = jobs_in(session.client(), options.state, most(&options.list)).await?;
    list(options.list.json, &found, listing::jobs)?;
    Ok(ExitCode::SUCCESS)
}

async fn retry_job(options: &RetryJobOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let job = session.client().retry_job(Hex::from(options.job)).await;
    let job = job.map_err(DeveloperError::from)?;
    if options.json {
        object(&job)?;
    } else {
        say(format_args!("job {} is {} again", job.job, job.state));
    }
    Ok(ExitCode::SUCCESS)
}

/// Jobs of a host that runs.
pub(crate) async fn trace(job: Option<JobId>, options: &ListOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let client = session.client();
    let Some(job) = job else {
        let found = jobs(client, most(options)).await?;
        list(options.json, &found, listing::jobs)?;
        return Ok(ExitCode::SUCCESS);
    };
    let trace = client.job(Hex::from(job)).await;
    let trace = trace.map_err(DeveloperError::from)?;
    if options.json {
        object(&trace)?;
    } else {
        say(listing::trace(&trace));
    }
    Ok(ExitCode::SUCCESS)
}
