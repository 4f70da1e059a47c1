//! The host's own entry in the register: its key, its URL, the authority that vouches for its certificates.

use crate::{DeveloperError, Mined, Session, Wallet};
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_types::Sha256Digest;
use std::time::Duration;

const REGISTERING: &str = "cannot register the host";

/// Has the register name the session's host as it serves now; nothing is sent if it does already. The register's registrar
/// only.
///
/// # Errors
/// The wallet may not, the register cannot be asked, or the chain does not take the transaction.
pub async fn register(
    session: &Session,
    wallet: &Wallet,
    patience: Duration,
) -> Result<Option<Mined>, DeveloperError> {
    let register = session.register().await?;
    let info = session.info();
    let host = info.host.into();
    let authority = Sha256Digest::from(info.authority);
    let known = register.host(host).await?;
    if known.is_some_and(|known| known.url == info.url && known.authority == authority) {
        return Ok(None);
    }
    let call = abi::registerHostCall {
        host,
        url: info.url.clone(),
        authority: authority.0,
    };
    let from = wallet.address();
    let tried = register.attempt(REGISTERING, from, &call).await?;
    tried.map_err(|revert| revert.refusal(REGISTERING))?;
    let sent = register.send(REGISTERING, wallet, &call, patience);
    sent.await.map(Some)
}
