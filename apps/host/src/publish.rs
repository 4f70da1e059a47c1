//! Publishing a cryptlet at this host: key, package, catalog. Enrolling the key on chain is the publisher's
//! own transaction.

use crate::HostError;
use alloy_primitives::{Address, keccak256};
use alloy_sol_types::SolValue;
use cryptlet_register::LocalRegister;
use cryptlet_seal::package;
use cryptlet_types::{CryptletId, Manifest, Sha256Digest, manifest::ManifestSource};
use cryptlet_vault::{KeyId, Vault, VaultError};

/// What publishing gave.
#[derive(Clone, Debug)]
pub struct Published {
    /// The cryptlet's id in the register.
    pub cryptlet: CryptletId,
    /// Address of its signing key, to be enrolled in the register.
    pub signer: Address,
    /// Digest of its package.
    pub package: Sha256Digest,
}

/// Makes the cryptlet's key in the vault (or takes the one that is there), packs manifest and code, and makes
/// the package the one that this host runs.
///
/// # Errors
/// The manifest is wrong, or vault or content store cannot be written.
pub async fn prepare_package(
    publisher: Address,
    source: &ManifestSource,
    code: &[u8],
    vault: &dyn Vault,
    register: &LocalRegister,
) -> Result<Published, HostError> {
    let cryptlet = cryptlet_id(publisher, &source.name);
    let key = KeyId::Cryptlet(cryptlet);
    let signer = match vault.address(&key).await {
        Ok(signer) => signer,
        Err(VaultError::Unknown(_)) => vault.create(&key).await?,
        Err(error) => return Err(error.into()),
    };
    let manifest: Manifest = source.clone().with_key(signer)?;
    let package = register.publish(cryptlet, &package::build(&manifest, code)?)?;
    Ok(Published {
        cryptlet,
        signer,
        package,
    })
}

/// The id that the register derives: the last 20 bytes of `keccak256(abi.encode(publisher, name))`.
fn cryptlet_id(publisher: Address, name: &str) -> CryptletId {
    CryptletId(Address::from_word(keccak256(
        (publisher, name).abi_encode_params(),
    )))
}
