//! Whether a signature is an account's: by recovery where the account has no code, by asking it where it has (ERC-1271),
//! as OpenZeppelin's `SignatureChecker` judges it in the delegate.

use super::{endpoint::CallError, reader::Reader};
use crate::ChainError;
use alloy::{
    network::TransactionBuilder,
    rpc::types::{BlockId, TransactionRequest},
    sol_types::SolCall,
    transports::RpcError,
};
use alloy_primitives::{Address, B256, Bytes, FixedBytes, Signature};

alloy::sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
}

/// ERC-1271's word for yes: the selector of the question.
const YES: FixedBytes<4> = FixedBytes(isValidSignatureCall::SELECTOR);

pub(super) async fn is_signed_by(
    reader: &Reader,
    account: Address,
    digest: B256,
    signature: &Bytes,
) -> Result<bool, ChainError> {
    let connection = reader.connection();
    let code = connection.call("eth_getCode", (account, BlockId::latest()));
    let code: Bytes = code.await?;
    if code.is_empty() {
        return Ok(recovers(account, digest, signature));
    }
    let question = isValidSignatureCall {
        hash: digest,
        signature: signature.clone(),
    };
    let request = TransactionRequest::default()
        .with_to(account)
        .with_input(question.abi_encode());
    let asked = (request, BlockId::latest());
    let answer: Result<Bytes, _> = connection.call_raw("eth_call", asked).await;
    match answer {
        Ok(answer) => Ok(isValidSignatureCall::abi_decode_returns_validate(&answer)
            .is_ok_and(|word| word == YES)),
        // A wallet that reverts says no, whatever its reason.
        Err(CallError::Rpc(RpcError::ErrorResp(_))) => Ok(false),
        Err(error) => Err(error.sorted("eth_call")),
    }
}

/// Whether 65 bytes `r`, `s` (low), `v` (27 or 28) recover to `account`.
fn recovers(account: Address, digest: B256, signature: &Bytes) -> bool {
    let standard = signature.len() == 65 && matches!(signature.last(), Some(27 | 28));
    let parsed = Signature::from_raw(signature).ok();
    let low = parsed.filter(|parsed| standard && parsed.normalize_s().is_none());
    low.and_then(|parsed| parsed.recover_address_from_prehash(&digest).ok())
        .is_some_and(|found| found == account && account != Address::ZERO)
}
