//! Repeats a run in a region of its own, in which nobody is asked for anything.

use crate::RunError;
use alloy_primitives::B256;
use async_trait::async_trait;
use cryptlet_audit::{Claim, Verdict};
use cryptlet_isolation::{CallOutHandler, CallOutSession, IsolationError, IsolationProvider};
use cryptlet_seal::package;
use cryptlet_types::{
    bounded::clip,
    recording::{Recorded, RecordingFile, ReplayInput, Replayed},
    region::{CallOut, CallOutAnswer, Package, RegionSettings},
};
use std::sync::Arc;

/// Compares what is claimed of a run with its recording, and with what comes of repeating it in a region of `isolation`. The
/// region gets no key and reaches nobody.
///
/// # Errors
/// The package is damaged, its code is secret, or no region could be started. Whatever differs, and a run that cannot be repeated, is a verdict.
pub async fn replay(
    isolation: &dyn IsolationProvider,
    package: Package,
    claim: &Claim<'_>,
    recording: &RecordingFile,
) -> Result<Verdict, RunError> {
    let opened = package::open(&package)?;
    if opened.manifest.config.secret_code.is_some() {
        return Err(RunError::Secret);
    }
    let digest = opened.digest;
    let measured = isolation.measurement(&package, &recording.settings)?;
    let premises = claim.premises(recording, digest, measured);
    let replayed = match &recording.recorded {
        _ if digest != claim.package => Err("another package would run".to_owned()),
        Recorded::TooLarge => Err("there is nothing to repeat it from".to_owned()),
        Recorded::Whole(recorded) => {
            let asked = ReplayInput {
                input: claim.input.clone(),
                recording: recorded.clone(),
            };
            repeat(isolation, package, recording.settings.clone(), asked).await?
        }
    };
    let compared = claim.compare(recording, &replayed);
    Ok(Claim::verdict(premises, compared))
}

/// The inner error is why the run did not come to its end.
async fn repeat(
    isolation: &dyn IsolationProvider,
    package: Package,
    settings: RegionSettings,
    asked: ReplayInput,
) -> Result<Result<Replayed, String>, RunError> {
    let nonce = B256::from(rand::random::<[u8; 32]>());
    let region = isolation.create(package, settings, nonce, Arc::new(Nobody));
    let replayed = match region.await {
        Ok(mut region) => region.replay(asked).await,
        Err(error) => Err(error),
    };
    match replayed {
        Ok(replayed) => Ok(Ok(replayed)),
        Err(IsolationError::Fault(fault)) => Ok(Err(clip(&fault.to_string()))),
        Err(error) => Err(error.into()),
    }
}

/// Answers nothing: what a repeated run is told comes from its recording. Its log lines were written when it ran.
struct Nobody;

impl CallOutHandler for Nobody {
    fn open(&self, _settings: &RegionSettings) -> Box<dyn CallOutSession> {
        Box::new(Self)
    }
}

#[async_trait]
impl CallOutSession for Nobody {
    async fn call_out(&mut self, call: CallOut) -> Result<CallOutAnswer, String> {
        match call {
            CallOut::Log { .. } => Ok(CallOutAnswer::Done),
            CallOut::Connect { .. }
            | CallOut::Send(_)
            | CallOut::Receive(_)
            | CallOut::Close
            | CallOut::CodeKey(_) => Err("nobody is asked in a replay".to_owned()),
        }
    }

    fn run_ended(&mut self) {}
}
