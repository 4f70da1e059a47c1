//! One signed EIP-1559 transaction.

use crate::{DeliverError, TransmitterSigner, fees::Offer};
use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use cryptlet_types::{outbox::Submission, report::CompactSignature};

/// What a delivery's transaction says, apart from nonce and fees.
#[derive(Clone, Debug)]
pub struct Call {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The delegate.
    pub to: Address,
    /// Call data.
    pub input: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
}

/// Builds and signs the transaction.
///
/// # Errors
/// The key cannot sign, or signs as somebody else.
pub async fn sign(
    call: &Call,
    nonce: u64,
    offer: Offer,
    signer: &dyn TransmitterSigner,
) -> Result<Submission, DeliverError> {
    let transaction = TxEip1559 {
        chain_id: call.chain_id,
        nonce,
        gas_limit: call.gas_limit,
        max_fee_per_gas: offer.max_fee,
        max_priority_fee_per_gas: offer.priority_fee,
        to: TxKind::Call(call.to),
        input: call.input.clone(),
        ..TxEip1559::default()
    };
    let digest = transaction.signature_hash();
    let signature = signer.sign(digest).await.map_err(DeliverError::Signer)?;
    let transmitter = signer.address();
    if cryptlet_seal::recover(digest, &signature).ok() != Some(transmitter) {
        return Err(DeliverError::WrongSignature);
    }
    let signed = TxEnvelope::from(transaction.into_signed(expand(&signature)));
    Ok(Submission {
        transmitter,
        nonce,
        hash: *signed.tx_hash(),
        raw: signed.encoded_2718().into(),
        max_fee_per_gas: offer.max_fee,
        max_priority_fee_per_gas: offer.priority_fee,
    })
}

/// What a signed transaction of this form says; nothing, if it is of another.
#[must_use]
pub fn call_of(raw: &[u8]) -> Option<Call> {
    let envelope = TxEnvelope::decode_2718_exact(raw).ok()?;
    let transaction = envelope.as_eip1559()?.tx();
    let TxKind::Call(to) = transaction.to else {
        return None;
    };
    Some(Call {
        chain_id: transaction.chain_id,
        to,
        input: transaction.input.clone(),
        gas_limit: transaction.gas_limit,
    })
}

/// EIP-2098 as the three values that a transaction carries.
fn expand(signature: &CompactSignature) -> Signature {
    let vs = U256::from_be_bytes(signature.vs.0);
    let parity = vs.bit(255);
    let mut s = vs;
    s.set_bit(255, false);
    Signature::from_scalars_and_parity(signature.r, B256::from(s), parity)
}
