//! `cryptlet trace --follow`: what changes, as it happens.

use crate::{
    args::developer::ListOptions,
    commands::{
        look::{jobs, most},
        node::interrupted,
        session::{object, open},
    },
    error::CliError,
    screen::say,
};
use cryptlet_api::{
    Client,
    types::{Hex, JobStateName, JobSummary},
};
use cryptlet_developer::{DeveloperError, listing};
use cryptlet_types::{JobId, JobState};
use std::{collections::HashMap, process::ExitCode, time::Duration};
use tokio::time::sleep;

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Follows a job until it is final, or all jobs until Ctrl-C.
pub(super) async fn run(job: Option<JobId>, options: &ListOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let client = session.client();
    let following = async {
        match job {
            Some(job) => one(client, job, options.json).await,
            None => all(client, options).await,
        }
    };
    tokio::select! {
        outcome = following => outcome,
        outcome = interrupted() => outcome.map(|()| ExitCode::SUCCESS),
    }
}

/// A job's steps, each once. Ends as the job ends: a delivery and a skip are good.
async fn one(client: &Client, job: JobId, json: bool) -> Result<ExitCode, CliError> {
    let mut told = 0;
    loop {
        let trace = client.job(Hex::from(job)).await;
        let trace = trace.map_err(DeveloperError::from)?;
        let new = trace.steps.get(told..).unwrap_or_default();
        if json {
            new.iter().try_for_each(object)?;
        } else {
            listing::steps(new).blocks().iter().for_each(say);
        }
        told = trace.steps.len();
        let state = trace.summary.state;
        if JobState::from(state).is_final() {
            let failed = state == JobStateName::Failed;
            return Ok(if failed {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            });
        }
        sleep(LOOK).await;
    }
}

/// All jobs, each whenever its state or its count of attempts is another.
async fn all(client: &Client, options: &ListOptions) -> Result<ExitCode, CliError> {
    let mut told = HashMap::new();
    loop {
        let now = jobs(client, most(options)).await?;
        let mut changed = news(&mut told, now);
        changed.sort_by_key(|job| job.due);
        if options.json {
            changed.iter().try_for_each(object)?;
        } else {
            listing::jobs(&changed).blocks().iter().for_each(say);
        }
        sleep(LOOK).await;
    }
}

type Told = HashMap<Hex<32>, (JobStateName, u32)>;

/// Jobs that are not as they were told last; they count as told from now on.
fn news(told: &mut Told, now: Vec<JobSummary>) -> Vec<JobSummary> {
    let mut changed = now;
    changed.retain(|job| {
        let mark = (job.state, job.attempts);
        told.insert(job.job, mark) != Some(mark)
    });
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_again_only_when_it_changed() {
        let job = |attempts| JobSummary {
            job: Hex::default(),
            subject: Hex::default(),
            cryptlet: Hex::default(),
            due: 1,
            state: JobStateName::Routed,
            attempts,
            reason: None,
        };
        let mut told = Told::new();
        assert_eq!(news(&mut told, vec![job(0)]).len(), 1);
        assert_eq!(news(&mut told, vec![job(0)]).len(), 0);
        assert_eq!(news(&mut told, vec![job(1)]).len(), 1);
    }
}
