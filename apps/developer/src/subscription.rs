//! Subscribing for an account of one's own: most contracts subscribe themselves.

use crate::{DeveloperError, Mined, Session, Wallet};
use alloy_primitives::{Address, Bytes, FixedBytes};
use alloy_sol_types::SolCall;
use cryptlet_chain::evm::abi::CryptoDelegate as abi;
use cryptlet_types::{CryptletId, TriggerSpec};
use std::time::Duration;

const SUBSCRIBING: &str = "cannot subscribe";

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The cryptlet whose reports are wanted.
    pub cryptlet: CryptletId,
    /// Selector of the function that is called back.
    pub callback: FixedBytes<4>,
    /// Gas that it gets.
    pub callback_gas: u32,
    /// Seconds for which a report stays deliverable.
    pub validity: u32,
    /// When to wake.
    pub trigger: TriggerSpec,
    /// ABI-encoded parameters for the cryptlet.
    pub params: Bytes,
}

impl Order {
    fn call(&self) -> abi::subscribeCall {
        abi::subscribeCall {
            s: abi::Subscription {
                cryptlet: self.cryptlet.0,
                onBehalfOf: Address::ZERO,
                callback: self.callback,
                callbackGas: self.callback_gas,
                validity: self.validity,
                trigger: self.trigger.number(),
                condition: self.trigger.encode_condition(),
                params: self.params.clone(),
            },
        }
    }

    /// The delegate's call data: for a contract that passes calls on, such as a wallet of several owners.
    #[must_use]
    pub fn call_data(&self) -> Bytes {
        self.call().abi_encode().into()
    }
}

/// Subscribes: the wallet's account is the consumer.
///
/// # Errors
/// The delegate refuses, and says why; no node, or no block in time.
pub async fn subscribe(
    session: &Session,
    wallet: &Wallet,
    order: &Order,
    patience: Duration,
) -> Result<Mined, DeveloperError> {
    let chain = session.chain().await?;
    let delegate = session.delegate_domain().delegate;
    let call = order.call();
    let tried = chain
        .attempt(SUBSCRIBING, wallet.address(), delegate, &call)
        .await?;
    tried.map_err(|revert| revert.refusal(SUBSCRIBING))?;
    let signed = chain.sign(SUBSCRIBING, wallet, delegate, &call).await?;
    chain.submit(SUBSCRIBING, &signed, patience).await
}
