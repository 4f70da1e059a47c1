//! Receipts: what the journal gathered, with the chain's proof and the host's signature.

use crate::HostError;
use cryptlet_seal::SealError;
use cryptlet_types::{
    Job, Receipt, outbox::RunRecord, receipt::Inclusion, report::CompactSignature,
};
use cryptlet_vault::{KeyId, Vault};

/// The receipt of a delivered job.
pub(crate) async fn assemble(
    job: &Job,
    run: RunRecord,
    inclusion: Inclusion,
    vault: &dyn Vault,
) -> Result<Receipt, HostError> {
    let RunRecord {
        input,
        sources,
        report,
        evidence,
        policy_epoch,
        policy,
        ..
    } = run;
    let mut receipt = Receipt {
        version: 1,
        job: job.id,
        domain: input.domain,
        subscription: job.subscription.clone(),
        event: job.event.clone(),
        package: job.package,
        policy_epoch,
        policy,
        input,
        sources,
        report,
        evidence,
        inclusion,
        host_signature: CompactSignature::default(),
    };
    let digest = receipt.digest().map_err(SealError::from)?;
    receipt.host_signature = vault.sign(&KeyId::Host, digest).await?;
    Ok(receipt)
}
