//! Policies: written from one that allows nothing, signed by administrators, set in the register, handed to the host.

use crate::{DeveloperError, Mined, Session, Wallet, files};
use cryptlet_api::types::{Approval as ApiApproval, Document, HexBytes, NewPolicy, PolicyInfo};
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_seal::{check_approvals, sha256};
use cryptlet_types::{
    Policy, Sha256Digest,
    bounded::MAX_DOCUMENT_BYTES,
    policy::{Approval, SignedPolicy},
};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

const SETTING: &str = "cannot set the policy";
/// Pause between two looks how far the host is.
const LOOK: Duration = Duration::from_millis(100);

/// A policy file without approvals, for the next epoch: it allows nothing. What is wanted is added by hand.
///
/// # Errors
/// The host or the register cannot be asked which epoch is in force.
pub async fn template(session: &Session) -> Result<SignedPolicy, DeveloperError> {
    let in_force = match session.witness() {
        Some(_) => {
            let policy = session.register().await?.policy().await?;
            policy.map(|policy| policy.epoch)
        }
        None => session.info().policy.map(|policy| policy.epoch),
    };
    let epoch = in_force.unwrap_or_default().saturating_add(1);
    Ok(SignedPolicy {
        policy: Policy::closed(epoch),
        approvals: vec![],
    })
}

/// Reads a policy file, with approvals or none.
///
/// # Errors
/// Names the field that is missing, unknown or wrong.
pub fn load(path: &Path) -> Result<SignedPolicy, DeveloperError> {
    let bytes = files::read(path, MAX_DOCUMENT_BYTES)?;
    let bytes = bytes.ok_or_else(|| DeveloperError::document(path.display(), "no such file"))?;
    let wrong = |error| DeveloperError::document(path.display(), error);
    SignedPolicy::from_json(&bytes).map_err(wrong)
}

/// Writes a policy file, whole.
///
/// # Errors
/// The file cannot be written.
pub fn store(path: &Path, signed: &SignedPolicy) -> Result<(), DeveloperError> {
    files::replace(path, &signed.to_json()?)
}

/// SHA-256 of the policy document: what administrators approve.
///
/// # Errors
/// None in practice.
pub fn digest(policy: &Policy) -> Result<Sha256Digest, DeveloperError> {
    Ok(sha256(&policy.to_json()?))
}

/// Adds the wallet's approval, in place of an earlier one of its own. It counts for the board's present term only.
///
/// # Errors
/// [`DeveloperError::NoRpc`] if nobody says where the register's chain answers, which knows the term;
/// [`DeveloperError::NotAnAdministrator`] if the account is not on the register's board.
pub async fn sign(
    session: &Session,
    wallet: &Wallet,
    mut signed: SignedPolicy,
) -> Result<SignedPolicy, DeveloperError> {
    let administrator = wallet.address();
    let register = session.register().await?;
    let board = register.board().await?;
    if !board.members.contains(&administrator) {
        return Err(DeveloperError::NotAnAdministrator(administrator));
    }
    let (epoch, digest) = (signed.policy.epoch, digest(&signed.policy)?);
    let message = register
        .domain()
        .policy_digest(administrator, board.term, epoch, digest);
    let signature = wallet.sign(message)?;
    signed
        .approvals
        .retain(|known| known.administrator != administrator);
    signed.approvals.push(Approval {
        administrator,
        signature,
    });
    signed
        .approvals
        .sort_by_key(|approval| approval.administrator);
    Ok(signed)
}

/// What setting a policy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    /// The transaction; none: the register had the policy already.
    pub mined: Option<Mined>,
    /// What the host has now.
    pub info: PolicyInfo,
}

/// Sets a signed policy in the register and hands it to the host. Anybody may send it: what counts are the approvals.
/// Interrupted, it goes on when it is run again.
///
/// # Errors
/// Approvals that do not hold, an epoch that is not later, before anything is paid; the host refuses it.
pub async fn set(
    session: &Session,
    wallet: &Wallet,
    signed: &SignedPolicy,
    patience: Duration,
) -> Result<PolicySet, DeveloperError> {
    let register = session.register().await?;
    let digest = digest(&signed.policy)?;
    let epoch = signed.policy.epoch;
    let in_force = register.policy().await?;
    let done = in_force.is_some_and(|known| known.epoch == epoch && known.digest == digest);
    let mined = if done {
        None
    } else {
        let board = register.board().await?;
        // Wallets that are contracts count on chain only: the register's own trial below has the last word.
        if signed
            .approvals
            .iter()
            .all(|approval| approval.signature.len() == 65)
        {
            check_approvals(signed, &register.domain(), &board)?;
        }
        let call = abi::setPolicyCall {
            epoch,
            digest: digest.0,
            uri: format!("{}/v1/policy", session.info().url.trim_end_matches('/')),
            approvals: signed.approvals.iter().map(approval).collect(),
        };
        let tried = register.attempt(SETTING, wallet.address(), &call).await?;
        tried.map_err(|revert| revert.refusal(SETTING))?;
        Some(register.send(SETTING, wallet, &call, patience).await?)
    };
    let approvals = signed.approvals.iter().map(|approval| ApiApproval {
        administrator: approval.administrator.into(),
        signature: HexBytes(approval.signature.clone()),
    });
    let policy = Document::of(&signed.policy)
        .map_err(|error| DeveloperError::document("the policy", error))?;
    let new = NewPolicy {
        policy,
        approvals: approvals.collect(),
    };
    await_host(session, register.block_number().await?, patience).await?;
    let info = session.client().set_policy(&new).await?;
    Ok(PolicySet { mined, info })
}

/// Waits until the host has read the register up to `block`: before, it knows of no policy but the old one.
async fn await_host(
    session: &Session,
    block: u64,
    patience: Duration,
) -> Result<(), DeveloperError> {
    let deadline = Instant::now() + patience;
    while session.client().host().await?.register_state.synced_block < block {
        if Instant::now() >= deadline {
            return Err(DeveloperError::HostBehind(block));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn approval(approval: &Approval) -> abi::PolicyApproval {
    abi::PolicyApproval {
        administrator: approval.administrator,
        signature: approval.signature.clone(),
    }
}
