//! Recordings of runs, a file each, where policy has them kept. What sources said is in them: they are the host's user's alone.

use crate::files;
use cryptlet_run::RunRecording;
use cryptlet_types::{
    Job, RunId, RunRecord,
    event::Step,
    recording::{Recorded, RecordingFile},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where recordings lie; nowhere in a simulation, whose regions record nothing.
#[derive(Clone, Debug)]
pub(crate) struct Recordings(Option<PathBuf>);

impl Recordings {
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self(Some(folder))
    }

    pub(crate) fn nowhere() -> Self {
        Self(None)
    }

    /// Keeps the recording of a run whose report is about to be written down. A report is not held up by its recording: where
    /// that cannot be kept, the host says so and goes on.
    pub(crate) async fn keep(
        &self,
        job: &Job,
        id: RunId,
        run: &RunRecord,
        next: Option<&Step>,
        recording: RunRecording,
    ) {
        let RunRecording { settings, recorded } = recording;
        if recorded == Recorded::TooLarge {
            tracing::warn!(job = %job.id, run = id.number, "sources said too much: the run has no recording");
        }
        let file = RecordingFile {
            version: 1,
            run: id,
            package: job.package,
            settings,
            fuel_used: run.fuel_used,
            state: next.map(|step| alloy_primitives::keccak256(&step.state)),
            recorded,
        };
        let folder = self.0.clone();
        let written = tokio::task::spawn_blocking(move || write(folder.as_deref(), &file));
        let failure = match written.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(job = %job.id, run = id.number, failure, "the run's recording was not kept");
    }
}

/// Replaces what an earlier attempt at the same run left behind.
fn write(folder: Option<&Path>, file: &RecordingFile) -> io::Result<()> {
    let folder = folder.ok_or_else(|| io::Error::other("there is no folder for recordings"))?;
    files::make_folder(folder)?;
    let bytes = file.to_json().map_err(io::Error::other)?;
    files::replace(&folder.join(RecordingFile::name_of(file.run)), &bytes)
}
