//! Naming the host for a cryptlet: contracts that are deployed from then on record it as their attested host.

use super::{PUBLISHING, Step};
use crate::{DeveloperError, RegisterClient, Session, Wallet};
use alloy_primitives::Address;
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_types::CryptletId;
use std::time::Duration;

/// Assigns the host to the cryptlet, unless it is assigned already. Returns the host if it is assigned now; a host that
/// cannot be named is told, and is no failure: the cryptlet is published all the same.
pub(super) async fn attest(
    session: &Session,
    register: &RegisterClient,
    wallet: &Wallet,
    cryptlet: CryptletId,
    patience: Duration,
    tell: &(dyn Fn(Step) + Sync),
) -> Result<Option<Address>, DeveloperError> {
    let host: Address = session.info().host.into();
    if register.hosts_of(cryptlet).await?.contains(&host) {
        return Ok(Some(host));
    }
    let refuse = |reason: String| {
        tell(Step::NotAttested(reason));
        Ok(None)
    };
    let Some(record) = register.host(host).await? else {
        return refuse(format!("the register does not know the host {host}"));
    };
    let authority = session.info().authority.into();
    if record.authority != authority {
        return refuse(format!(
            "the register says that the authority of {host} is {}, and it serves with {authority}",
            record.authority
        ));
    }
    let call = abi::assignHostCall {
        cryptlet: cryptlet.0,
        host,
    };
    let tried = register
        .attempt(PUBLISHING, wallet.address(), &call)
        .await?;
    if let Err(revert) = tried {
        return refuse(revert.refusal("the host cannot be assigned").to_string());
    }
    let mined = register.send(PUBLISHING, wallet, &call, patience);
    let block = mined.await?.block;
    tell(Step::Attested { host, block });
    Ok(Some(host))
}
