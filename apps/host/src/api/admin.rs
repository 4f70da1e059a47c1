//! Keys, policy, delegations.

use super::{Service, jobs::place, problems};
use crate::HostError;
use alloy_primitives::{Address, B256};
use cryptlet_api::{
    Caller, Problem,
    types::{
        Approval, DelegationBody, DelegationInfo, Document, Hex, HexBytes, KeyInfo, NewDelegation,
        NewPolicy, Page, PageQuery, PolicyInfo, Result,
    },
};
use cryptlet_types::{
    CryptletId,
    delegation::{Delegation, MAX_SIGNATURE_BYTES, SignedDelegation},
    policy::SignedPolicy,
};
use cryptlet_vault::{KeyId, KeyRecord, KeyState};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::atomic::{AtomicBool, Ordering};

/// Most questions to the chain at once for one page: a page is asked for in a fraction of a request's time, and is one
/// caller's among many.
const QUESTIONS_AT_ONCE: usize = 16;

impl Service {
    pub(super) async fn list_keys(&self, page: &PageQuery) -> Result<Page<KeyInfo>> {
        let keys = self.vault.list().await.map_err(problems::vault)?;
        let mut rows: Vec<_> = keys.into_iter().map(key_info).collect();
        rows.sort_by_key(key_place);
        Ok(page.cut(rows, key_place))
    }

    pub(super) async fn show_policy(&self) -> Result<PolicyInfo> {
        let document = self.rules.document().await;
        let document = document.map_err(|error| Problem::internal(&error))?;
        let Some(SignedPolicy { policy, approvals }) = document else {
            let reason = self.rules.standing().without;
            return Err(Problem::not_found(
                reason.unwrap_or_else(|| "this host has no policy".to_owned()),
                "put one in force: cryptlet policy new, sign, set",
            ));
        };
        let record = self.replica.index().policy().await;
        let record = record.map_err(problems::register)?.map(|set| set.record);
        let internal = |error: &dyn std::fmt::Display| Problem::internal(error);
        let digest = cryptlet_seal::sha256(&policy.to_json().map_err(|error| internal(&error))?);
        let confirmed = record
            .as_ref()
            .is_some_and(|record| record.epoch == policy.epoch && record.digest == digest);
        let approval = |approval: cryptlet_types::policy::Approval| Approval {
            administrator: approval.administrator.into(),
            signature: HexBytes(approval.signature),
        };
        Ok(PolicyInfo {
            epoch: policy.epoch,
            digest: digest.0.into(),
            uri: record.map(|record| record.uri).unwrap_or_default(),
            policy: Document::of(&policy).map_err(|error| internal(&error))?,
            approvals: approvals.into_iter().map(approval).collect(),
            confirmed,
        })
    }

    pub(super) async fn install_policy(
        &self,
        caller: &Caller,
        policy: NewPolicy,
    ) -> Result<PolicyInfo> {
        let bytes = serde_json::to_vec(&policy).map_err(|error| Problem::internal(&error))?;
        let installed = self.rules.install(bytes).await;
        let policy = installed.map_err(|error| match error {
            HostError::Register(error) if error.refuses_a_policy() => Problem::refused(
                error.to_string(),
                "the register's word comes first: cryptlet policy set sends the transaction, then the document",
            ),
            error => Problem::internal(&error),
        })?;
        tracing::info!(
            caller = caller.name,
            epoch = policy.policy.epoch,
            "policy taken"
        );
        self.show_policy().await
    }

    pub(super) async fn list_delegations(&self, page: &PageQuery) -> Result<Page<DelegationInfo>> {
        let after = place::<Hex<32>>(page, "delegations")?.map(|after| after.0);
        // One more says whether there is a next page.
        let known = self.delegations.list(after, page.size().saturating_add(1));
        let page = page.cut(known, |(digest, _)| digest.to_string());
        // A node that does not answer is not waited for once a row.
        let silent = AtomicBool::new(false);
        let rows = page.items.into_iter().map(|(digest, signed)| {
            let silent = &silent;
            async move {
                let revoked = if silent.load(Ordering::Relaxed) {
                    None
                } else {
                    self.chain.is_delegation_revoked(digest).await.ok()
                };
                silent.fetch_or(revoked.is_none(), Ordering::Relaxed);
                delegation_info(digest, &signed.delegation, revoked)
            }
        });
        let items = stream::iter(rows).buffered(QUESTIONS_AT_ONCE).try_collect();
        Ok(Page {
            items: items.await?,
            next: page.next,
        })
    }

    pub(super) async fn take_delegation(
        &self,
        caller: &Caller,
        new: NewDelegation,
    ) -> Result<DelegationInfo> {
        let signed = signed(new)?;
        let domain = self.chain.domain();
        let digest = signed.delegation.digest(&domain);
        self.check_delegation(digest, &signed).await?;
        let delegation = signed.delegation.clone();
        let revoked = self.chain.is_delegation_revoked(digest).await;
        if revoked.map_err(problems::chain)? {
            return Err(Problem::refused(
                format!("delegation {digest} was revoked, which is final"),
                "sign another one with another salt: cryptlet delegation sign",
            ));
        }
        let kept = self.delegations.add(&caller.name, signed, self.clock.now());
        kept.map_err(|error| match error {
            HostError::TooManyDelegations => Problem::refused(
                error.to_string(),
                "wait until some have expired, or ask the operator",
            ),
            error => Problem::internal(&error),
        })?;
        tracing::info!(caller = caller.name, %digest, identity = %delegation.identity, "delegation taken");
        delegation_info(digest, &delegation, Some(false))
    }

    /// The chain judges the signature now as it will when a report under it arrives: a false one must not stand in the way of
    /// a true one.
    async fn check_delegation(&self, digest: B256, signed: &SignedDelegation) -> Result<()> {
        let delegation = &signed.delegation;
        let now = self.clock.now();
        let refuse = |what: String| {
            Err(Problem::refused(
                what,
                "sign a new one: cryptlet delegation sign",
            ))
        };
        if delegation.expiry < now {
            return refuse(format!("expiry: {} has passed", delegation.expiry));
        }
        if signed.signature.len() > MAX_SIGNATURE_BYTES {
            return refuse(format!("signature: at most {MAX_SIGNATURE_BYTES} bytes"));
        }
        let (identity, signature) = (delegation.identity, &signed.signature);
        let judged = self.chain.is_signed_by(identity, digest, signature).await;
        if judged.map_err(problems::chain)? {
            return Ok(());
        }
        refuse(format!("signature: it is not of {identity}"))
    }
}

fn delegation_info(
    digest: B256,
    delegation: &Delegation,
    revoked: Option<bool>,
) -> Result<DelegationInfo> {
    Ok(DelegationInfo {
        digest: digest.into(),
        delegation: DelegationBody {
            identity: delegation.identity.into(),
            cryptlet: delegation.cryptlet.0.into(),
            consumer: delegation.consumer.into(),
            callback: Hex(delegation.callback),
            expiry: cryptlet_api::types::Moment::new(delegation.expiry)
                .map_err(|error| Problem::internal(&error))?,
            salt: delegation.salt.into(),
        },
        revoked,
    })
}

fn signed(new: NewDelegation) -> Result<SignedDelegation> {
    let body = new.delegation;
    let identity = Address::from(body.identity);
    if identity == Address::ZERO {
        return Err(Problem::refused(
            "identity: zero is nobody",
            "name an account",
        ));
    }
    Ok(SignedDelegation {
        delegation: Delegation {
            identity,
            cryptlet: CryptletId(body.cryptlet.into()),
            consumer: body.consumer.into(),
            callback: body.callback.0,
            expiry: body.expiry.get(),
            salt: body.salt.0,
        },
        signature: new.signature.0,
    })
}

fn key_info(key: KeyRecord) -> KeyInfo {
    let (purpose, cryptlet) = match key.id {
        KeyId::Host => ("host", None),
        KeyId::Transmitter => ("transmitter", None),
        KeyId::Authority => ("authority", None),
        KeyId::Cryptlet(cryptlet) => ("cryptlet", Some(cryptlet)),
    };
    let is_authority = key.id == KeyId::Authority;
    KeyInfo {
        purpose: purpose.to_owned(),
        cryptlet: cryptlet.map(|cryptlet| cryptlet.0.into()),
        address: (!is_authority).then(|| key.address.into()),
        public_key: HexBytes(key.public_key.to_vec().into()),
        current: key.state == KeyState::Current,
    }
}

/// Where a key stands in the list: ascending text.
fn key_place(key: &KeyInfo) -> String {
    let text =
        |value: &Option<Hex<20>>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "{}.{}.{}",
        key.purpose,
        text(&key.cryptlet),
        text(&key.address)
    )
}
