//! `cryptlet subscribe`: the delegate's call for a trigger in words, printed or sent.

mod trigger;

use super::{
    publish::tell_mined,
    session::{object, open, patience, wallet},
};
use crate::{args::developer::SubscribeOptions, error::CliError, screen::say};
use cryptlet_api::wall_clock;
use cryptlet_developer::{
    delegation::{parse_callback, resolve},
    subscription::{Order, subscribe},
};
use cryptlet_types::bounded::{MAX_SUBSCRIPTION_BYTES, MAX_VALIDITY_SECONDS};
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn run(options: &SubscribeOptions) -> Result<ExitCode, CliError> {
    let callback = parse_callback(&options.callback)?;
    let validity = trigger::seconds("validity", &options.validity)?;
    if !(1..=MAX_VALIDITY_SECONDS).contains(&validity) {
        let most = MAX_VALIDITY_SECONDS / 86_400;
        return Err(CliError::new(format_args!(
            "validity: expected 1 second to {most} days"
        )));
    }
    if options.params.len() > MAX_SUBSCRIPTION_BYTES {
        let what = format!("params: expected at most {MAX_SUBSCRIPTION_BYTES} bytes");
        return Err(CliError::new(what));
    }
    let wanted = trigger::Wanted::read(&options.trigger, wall_clock()())?;
    let session = open(&options.host).await?;
    let delegate = session.delegate_domain();
    let order = Order {
        cryptlet: resolve(&session, &options.cryptlet).await?,
        callback,
        callback_gas: options.callback_gas,
        validity: u32::try_from(validity).unwrap_or(u32::MAX),
        trigger: wanted.on(delegate.chain_id),
        params: options.params.clone(),
    };
    if options.send {
        let wallet = wallet(&options.wallet, &session)?;
        let words = format!(
            "{} is subscribed to by {}",
            order.cryptlet,
            wallet.address()
        );
        let mined = subscribe(&session, &wallet, &order, patience(&options.wallet)).await?;
        return tell_mined(options.json, &words, mined);
    }
    let (data, condition) = (order.call_data(), order.trigger.encode_condition());
    if options.json {
        object(&json!({
            "delegate": delegate.delegate, "chainId": delegate.chain_id, "trigger": order.trigger.number(),
            "condition": condition, "data": data,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!(
        "// {}: {}",
        order.trigger.name(),
        order.trigger
    ));
    say(format_args!(
        "CryptoDelegate({}).subscribe(CryptoDelegate.Subscription({{\n    cryptlet: {},\n    onBehalfOf: address(0),\n    \
        callback: {},\n    callbackGas: {},\n    validity: {},\n    trigger: {},\n    condition: {},\n    params: {}\n}}));",
        delegate.delegate,
        order.cryptlet,
        order.callback,
        order.callback_gas,
        order.validity,
        order.trigger.number(),
        literal(&condition),
        literal(&order.params),
    ));
    say(format_args!("// as call data: {data}"));
    Ok(ExitCode::SUCCESS)
}

/// Bytes as Solidity writes them.
fn literal(bytes: &alloy::primitives::Bytes) -> String {
    format!("hex\"{}\"", alloy::primitives::hex::encode(bytes))
}
