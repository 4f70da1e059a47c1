//! What a host tells whoever watches it, as it happens.

use cryptlet_types::{Event, Job, JobId, Receipt};
use std::sync::Arc;

/// The end of a job or event.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The chain consumed the report.
    Delivered {
        /// The receipt.
        receipt: Arc<Receipt>,
        /// Whether the callback returned (or reverted).
        success: bool,
        /// Number of the block.
        block: u64,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// The cryptlet had nothing to deliver.
    Skipped {
        /// The job.
        job: Arc<Job>,
        /// Why.
        reason: String,
    },
    /// A run failed for a passing reason and will be tried again.
    Retried {
        /// The job.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// The job was given up.
    Failed {
        /// The job.
        job: Arc<Job>,
        /// Why.
        reason: String,
    },
    /// The job came to nothing too often; it is kept, and tried again by hand.
    Parked {
        /// The job.
        job: Arc<Job>,
        /// Why.
        reason: String,
    },
    /// The event got no job.
    Refused {
        /// The event.
        event: Arc<Event>,
        /// Why.
        reason: String,
    },
}
