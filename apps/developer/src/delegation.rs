//! Delegations: an identity lets a cryptlet speak in its name. Signed here, kept by the host, revoked on chain.

use crate::{DeveloperError, Mined, Session, Wallet, files, publish::find};
use alloy_primitives::{Address, B256, FixedBytes, keccak256};
use cryptlet_api::types::{
    CryptletRef, DelegationBody, DelegationInfo, HexBytes, Moment, NewDelegation, PageQuery,
};
use cryptlet_chain::evm::abi::CryptoDelegate as abi;
use cryptlet_types::{CryptletId, Delegation, UnixSeconds, bounded::MAX_DOCUMENT_BYTES};
use rand::TryRngCore;
use std::{path::Path, time::Duration};

const REVOKING: &str = "cannot revoke the delegation";

/// What an identity allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The contract wallet (ERC-1271) that is spoken for, in place of the account that signs.
    pub identity: Option<Address>,
    /// The cryptlet that may speak.
    pub cryptlet: CryptletRef,
    /// To this contract only; none: to any.
    pub consumer: Option<Address>,
    /// At this function only; none: at any.
    pub callback: Option<FixedBytes<4>>,
    /// Last second at which it counts.
    pub expiry: UnixSeconds,
}

/// Reads a callback: a selector (`0x` and 8 hex digits), or a function's signature such as `priceOf(uint64,uint256)`.
///
/// # Errors
/// [`DeveloperError::Document`] if it is neither.
pub fn parse_callback(text: &str) -> Result<FixedBytes<4>, DeveloperError> {
    if let Some(digits) = text.strip_prefix("0x") {
        let selector = digits.parse().ok().filter(|_| digits.len() == 8);
        return selector
            .ok_or_else(|| DeveloperError::document(text, "a selector is 0x and 8 hex digits"));
    }
    let form = text.split_once('(').filter(|(name, rest)| {
        !name.is_empty() && rest.ends_with(')') && !text.contains(char::is_whitespace)
    });
    match form {
        Some(_) => Ok(FixedBytes::from_slice(keccak256(text).split_at(4).0)),
        None => Err(DeveloperError::document(
            text,
            "expected a selector, or a signature without names and spaces: priceOf(uint64,uint256)",
        )),
    }
}

/// Reads a signed delegation from a file.
///
/// # Errors
/// There is no such file, or it is none; the field is named.
pub fn load(path: &Path) -> Result<NewDelegation, DeveloperError> {
    let bytes = files::read(path, MAX_DOCUMENT_BYTES)?;
    let bytes = bytes.ok_or_else(|| DeveloperError::document(path.display(), "no such file"))?;
    let read = serde_json::from_slice(&bytes);
    read.map_err(|error| DeveloperError::document(path.display(), error))
}

/// Makes a delegation of the wallet's account, or of a contract wallet that takes its signature, and signs it. Nothing is
/// sent to the host.
///
/// # Errors
/// The cryptlet is unknown or revoked by the register's word.
pub async fn sign(
    session: &Session,
    wallet: &Wallet,
    scope: &Scope,
) -> Result<NewDelegation, DeveloperError> {
    let cryptlet = resolve(session, &scope.cryptlet).await?;
    let mut salt = B256::ZERO;
    rand::rngs::OsRng
        .try_fill_bytes(salt.as_mut_slice())
        .map_err(|error| DeveloperError::document("the system's random numbers", error))?;
    let delegation = Delegation {
        identity: scope.identity.unwrap_or(wallet.address()),
        cryptlet,
        consumer: scope.consumer.unwrap_or_default(),
        callback: scope.callback.unwrap_or_default(),
        expiry: scope.expiry,
        salt,
    };
    let signature = wallet.sign(delegation.digest(&session.delegate_domain()))?;
    Ok(NewDelegation {
        delegation: body(&delegation)?,
        signature: HexBytes(signature),
    })
}

/// The cryptlet of a name or id that something is to be delegated to.
///
/// # Errors
/// It is unknown or revoked by the register's word.
pub async fn resolve(session: &Session, name: &CryptletRef) -> Result<CryptletId, DeveloperError> {
    let (id, name, revoked) = if session.witness().is_some() {
        let known = find(&session.register().await?, name).await?;
        (known.cryptlet, known.name, known.revoked)
    } else {
        let detail = session.client().cryptlet(name).await?;
        (detail.cryptlet.into(), detail.name, detail.revoked)
    };
    if revoked {
        Err(DeveloperError::Revoked(name))
    } else {
        Ok(id)
    }
}

/// Hands a signed delegation to the host.
///
/// # Errors
/// The host refuses it, or took something else.
pub async fn submit(
    session: &Session,
    signed: &NewDelegation,
) -> Result<DelegationInfo, DeveloperError> {
    let digest = read(&signed.delegation).digest(&session.delegate_domain());
    let info = session.client().add_delegation(signed).await?;
    if info.digest.0 == digest {
        Ok(info)
    } else {
        let what = "the host took another delegation than it was given";
        Err(DeveloperError::Untrue(what.into()))
    }
}

/// Revokes a delegation that the host has, by its digest, on the consumers' chain. The identity's own account only.
///
/// # Errors
/// [`DeveloperError::UnknownDelegation`] if the host has none of this digest; the delegate refuses.
pub async fn revoke(
    session: &Session,
    wallet: &Wallet,
    digest: B256,
    patience: Duration,
) -> Result<Mined, DeveloperError> {
    let mut page = PageQuery::default();
    let found = loop {
        let listed = session.client().delegations(&page).await?;
        if let Some(found) = listed
            .items
            .into_iter()
            .find(|known| known.digest.0 == digest)
        {
            break found;
        }
        match listed.next.map(|next| next.parse()) {
            Some(Ok(after)) => page.after = Some(after),
            _ => return Err(DeveloperError::UnknownDelegation(digest)),
        }
    };
    let delegation = read(&found.delegation);
    let domain = session.delegate_domain();
    if delegation.digest(&domain) != digest {
        let what = "the host lists a delegation under another's digest";
        return Err(DeveloperError::Untrue(what.into()));
    }
    let chain = session.chain().await?;
    let call = abi::revokeDelegationCall {
        delegation: abi::Delegation {
            identity: delegation.identity,
            cryptlet: delegation.cryptlet.0,
            consumer: delegation.consumer,
            callback: delegation.callback,
            expiry: delegation.expiry,
            salt: delegation.salt,
        },
    };
    let from = wallet.address();
    let tried = chain
        .attempt(REVOKING, from, domain.delegate, &call)
        .await?;
    tried.map_err(|revert| revert.refusal(REVOKING))?;
    let signed = chain.sign(REVOKING, wallet, domain.delegate, &call).await?;
    chain.submit(REVOKING, &signed, patience).await
}

fn body(delegation: &Delegation) -> Result<DelegationBody, DeveloperError> {
    let expiry = Moment::new(delegation.expiry);
    Ok(DelegationBody {
        identity: delegation.identity.into(),
        cryptlet: delegation.cryptlet.into(),
        consumer: delegation.consumer.into(),
        callback: delegation.callback.into(),
        expiry: expiry.map_err(|error| DeveloperError::document("expiry", error))?,
        salt: delegation.salt.into(),
    })
}

fn read(body: &DelegationBody) -> Delegation {
    Delegation {
        identity: body.identity.into(),
        cryptlet: body.cryptlet.into(),
        consumer: body.consumer.into(),
        callback: body.callback.0,
        expiry: body.expiry.get(),
        salt: body.salt.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::fixed_bytes;

    #[test]
    fn a_callback_is_a_selector_or_a_signature() {
        let transfer = fixed_bytes!("a9059cbb");
        for text in ["0xa9059cbb", "transfer(address,uint256)"] {
            assert_eq!(parse_callback(text).unwrap(), transfer, "{text}");
        }
        for text in [
            "",
            "0x",
            "0xa9059c",
            "0x0xa9059c",
            "transfer",
            "(uint256)",
            "f(uint256 a)",
            "f(a",
        ] {
            assert!(parse_callback(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_signed() {
        let delegation = Delegation {
            identity: Address::repeat_byte(1),
            cryptlet: CryptletId(Address::repeat_byte(2)),
            consumer: Address::repeat_byte(3),
            callback: fixed_bytes!("a9059cbb"),
            expiry: 4,
            salt: B256::repeat_byte(5),
        };
        assert_eq!(read(&body(&delegation).unwrap()), delegation);
        let late = Delegation {
            expiry: u64::MAX,
            ..delegation
        };
        assert!(body(&late).is_err());
    }
}
