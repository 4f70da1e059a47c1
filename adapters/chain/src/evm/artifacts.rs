//! The compiled contracts, as `contracts/artifacts` holds them: for who deploys them.

use crate::ChainError;
use alloy_primitives::Bytes;
use serde::Deserialize;

/// Artifact of the `CryptoDelegate`. Constructor: `(address register)`.
pub const CRYPTO_DELEGATE: &str =
    include_str!("../../../../contracts/artifacts/CryptoDelegate.json");
/// Artifact of the `CryptletRegister`. Constructor: `(address admin, address[] administrators, uint256 threshold)`.
pub const CRYPTLET_REGISTER: &str =
    include_str!("../../../../contracts/artifacts/CryptletRegister.json");

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

/// What a deployment transaction carries: the artifact's creation code and the ABI-encoded constructor arguments.
///
/// # Errors
/// [`ChainError::Artifact`] if the artifact is not JSON with a `bytecode`.
pub fn init_code(artifact: &str, arguments: &[u8]) -> Result<Bytes, ChainError> {
    let artifact: Artifact =
        serde_json::from_str(artifact).map_err(|error| ChainError::Artifact(error.to_string()))?;
    let mut code = artifact.bytecode.to_vec();
    code.extend_from_slice(arguments);
    Ok(code.into())
}
