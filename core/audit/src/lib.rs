//! Checking a receipt, offline, against the auditor's own trust roots.
//!
//! A receipt proves a chain of statements, each bound to the next:
//!
//! 1. `form`: subject and delegation fit the subscription, the trigger leads to this job, the input to this report
//! 2. `domain`: chain and delegate are the auditor's
//! 3. `signature`: the report was signed by a key that the auditor trusts for this cryptlet
//! 4. `measurement`: what ran is what the auditor trusts for this cryptlet
//! 5. `evidence`: a trusted host vouches for that region
//! 6. `region`: the region's own key countersigned report, input and sources
//! 7. `host`: the host signed the whole receipt
//! 8. `block`: the block is one that the auditor trusts, and holds transaction and result
//! 9. `transaction`: it delivers exactly this report, if it calls the delegate itself
//! 10. `inclusion`: the delegate logged that it consumed exactly this report
//! 11. `time`: the block was made while the report was valid
//!
//! All checks are made and each is reported; a receipt is good only if all of them hold.
//!
//! Beside that, a [`Claim`] is compared with what comes of repeating a run from its recording.

mod chain_of_trust;
mod checks;
mod inclusion;
mod queue;
mod replay;
mod trust;

pub use chain_of_trust::{Link, chain_of_trust};
pub use checks::{Check, Verdict, region_statement, verify};
pub use inclusion::{DeliveredCall, Included, block_number, included};
pub use queue::{QueueLink, queue_chain};
pub use replay::Claim;
pub use trust::{TrustRoots, TrustedCryptlet};
