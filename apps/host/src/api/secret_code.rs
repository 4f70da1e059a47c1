//! Keys of secret code, and who agreed to it.

use super::{Service, problems};
use crate::{
    HostError,
    secret_codes::{Refused, SecretCodeStore, Standing},
};
use cryptlet_api::{
    Caller, Problem,
    types::{Counterparty, Hex, NewCodeAgreement, NewCodeKey, Result, SecretCodeInfo},
};
use cryptlet_seal::CodeKey;
use cryptlet_types::{SecretCode, Sha256Digest, report::CompactSignature};
use cryptlet_vault::VaultError;

impl Service {
    pub(super) async fn show_secret_code(&self, package: Hex<32>) -> Result<SecretCodeInfo> {
        let (store, secret) = self.secret(package).await?;
        let standing = store.standing(package.into(), &secret).await;
        Ok(info(package, standing.map_err(host)?))
    }

    pub(super) async fn take_code_key(
        &self,
        caller: &Caller,
        package: Hex<32>,
        key: NewCodeKey,
    ) -> Result<SecretCodeInfo> {
        let (store, _) = self.secret(package).await?;
        let key = CodeKey::from_bytes(key.key.0.as_slice());
        let key = key.map_err(|error| Problem::internal(&error))?;
        let taken = store.set_key(package.into(), &key).await;
        taken.map_err(|refused| match refused {
            Refused::Host(error) => host(error),
            refused => Problem::conflict(
                refused.to_string(),
                "ask the operator, who alone can remove it",
            ),
        })?;
        tracing::info!(caller = caller.name, %package, "key of secret code taken");
        self.show_secret_code(package).await
    }

    pub(super) async fn take_code_agreement(
        &self,
        caller: &Caller,
        package: Hex<32>,
        agreement: NewCodeAgreement,
    ) -> Result<SecretCodeInfo> {
        let (store, secret) = self.secret(package).await?;
        let signature = signature(&agreement.signature.0)?;
        let code = agreement.code.into();
        let agreed = store.agree(package.into(), &secret, code, signature).await;
        let account = agreed.map_err(|refused| match refused {
            Refused::Host(error) => host(error),
            refused => Problem::refused(
                refused.to_string(),
                "sign as one of its counterparties: cryptlet secret-code agree",
            ),
        })?;
        tracing::info!(caller = caller.name, %package, %account, "agreement to secret code taken");
        self.show_secret_code(package).await
    }

    /// Why a package's secret code does not run here, for people; nothing: it does.
    pub(super) async fn missing_of(
        &self,
        package: Sha256Digest,
        secret: &SecretCode,
    ) -> Result<Option<String>> {
        let Some(store) = &self.secret_codes else {
            return Ok(Some(NO_STORE.into()));
        };
        let standing = store.standing(package, secret).await.map_err(host)?;
        Ok(standing.missing())
    }

    /// What the package says of its secret code.
    async fn secret(&self, package: Hex<32>) -> Result<(&SecretCodeStore, SecretCode)> {
        let opened = self.manifests.opened(package.into()).await;
        let opened = opened.map_err(host)?;
        let opened = opened.ok_or_else(|| problems::no_package(Sha256Digest(package.0)))?;
        let secret = opened.manifest.config.secret_code.clone();
        let none = || {
            let next = "see what is secret of it: cryptlet show NAME";
            Problem::not_found(format!("the code of package {package} is not secret"), next)
        };
        let store = self.secret_codes.as_deref().ok_or_else(no_store)?;
        Ok((store, secret.ok_or_else(none)?))
    }
}

fn info(package: Hex<32>, standing: Standing) -> SecretCodeInfo {
    SecretCodeInfo {
        package,
        has_key: standing.has_key,
        ready: standing.missing().is_none(),
        counterparties: standing
            .counterparties
            .into_iter()
            .map(|(account, code)| Counterparty {
                account: account.into(),
                code: code.map(Into::into),
            })
            .collect(),
    }
}

/// 65 bytes, `r`, `s` and `v`, as wallets write them.
fn signature(bytes: &[u8]) -> Result<CompactSignature> {
    let malformed = || {
        let next = "sign anew: cryptlet secret-code agree";
        Problem::refused("signature: not the 65 bytes of an account's", next)
    };
    let mut whole: [u8; 65] = bytes.try_into().map_err(|_| malformed())?;
    // Wallets say which of the two points it is by 27 and 28, or by 0 and 1.
    let [.., v] = &mut whole;
    if *v < 2 {
        *v += 27;
    }
    CompactSignature::from_recoverable(&whole).ok_or_else(malformed)
}

const NO_STORE: &str = "this host keeps no keys of secret code";

fn no_store() -> Problem {
    Problem::refused(NO_STORE, "hand it to a host that does")
}

fn host(error: HostError) -> Problem {
    match error {
        HostError::Vault(VaultError::NoSealing) => {
            let next = "hand it to a host whose vault is a sealed file";
            Problem::refused(
                "this host's keys lie in a token, which keeps no others",
                next,
            )
        }
        HostError::Vault(VaultError::NotSealedHere(what)) => {
            let next = "ask the operator to take the package's file out of the folder secret-code";
            Problem::refused(format!("{what}: it was sealed by another vault"), next)
        }
        HostError::Vault(error) => problems::vault(error),
        error => Problem::internal(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cryptlet_seal::{SigningKey, recover};

    #[test]
    fn a_wallets_signature_is_read_and_any_other_form_refused() {
        let key = SigningKey::from_secret(&[3; 32]).unwrap();
        let digest = B256::repeat_byte(7);
        let compact = key.sign(digest).unwrap();
        let mut s = compact.vs;
        let odd = s[0] >> 7;
        s[0] &= 0x7f;
        for v in [odd, odd + 27] {
            let whole = [compact.r.as_slice(), s.as_slice(), &[v]].concat();
            let read = signature(&whole).unwrap();
            assert_eq!(recover(digest, &read).unwrap(), key.address());
            assert!(signature(&whole[..64]).is_err());
            assert!(signature(&[&whole[..], &[0]].concat()).is_err());
        }
        let mut high = s;
        high[0] |= 0x80;
        for (s, v) in [(s, 2), (s, 29), (high, 27)] {
            let whole = [compact.r.as_slice(), s.as_slice(), &[v]].concat();
            assert!(signature(&whole).is_err(), "{s} {v}");
        }
    }
}
