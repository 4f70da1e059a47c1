//! Building, signing and recovering transactions.

use alloy_consensus::{
    SignableTransaction, TxEnvelope, crypto::RecoveryError, transaction::SignerRecoverable,
};
use alloy_primitives::{Address, Signature, U256};

use crate::chain::Transaction;

/// Recovers the sender. High `s` values are refused (EIP-2).
pub(crate) fn recover(envelope: TxEnvelope) -> Result<Transaction, RecoveryError> {
    let sender = envelope.recover_signer()?;
    Ok(Transaction::new_unchecked(envelope, sender))
}

/// Stands where a signature would be when the sender is impersonated. It names the sender, so that
/// equal transactions of two impersonated accounts have different hashes.
pub(crate) fn impersonated_signature(sender: Address) -> Signature {
    Signature::new(U256::from_be_bytes(sender.into_word().0), U256::ONE, false)
}

/// Whether the transaction was made with [`impersonated_signature`].
pub(crate) fn is_impersonated(transaction: &Transaction) -> bool {
    *transaction.inner().signature() == impersonated_signature(transaction.signer())
}

/// Attaches a signature, and the sender that made it.
pub(crate) fn signed(
    transaction: alloy_consensus::TypedTransaction,
    signature: Signature,
    sender: Address,
) -> Transaction {
    Transaction::new_unchecked(transaction.into_signed(signature).into(), sender)
}
