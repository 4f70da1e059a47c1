//! Logs and custom errors of the delegate as values. Total: whatever a chain holds, something is said about it.

use super::abi::CryptoDelegate as abi;
use crate::{ChangeKind, DeliveredReport, Rejection, SubscriptionChange};
use alloy::sol_types::{SolEvent, SolInterface};
use alloy_primitives::{Address, B256, Log};
use cryptlet_types::{
    CryptletId, Subject, Subscription, TriggerSpec, UnixSeconds,
    bounded::{MAX_SUBSCRIPTION_BYTES, clip},
    subscription::SubscriptionError,
};

/// Where a log stands.
#[derive(Clone, Copy, Debug)]
pub struct LogPosition {
    /// Its block's number.
    pub block: u64,
    /// Its place within the block.
    pub index: u64,
    /// Its block's timestamp.
    pub timestamp: UnixSeconds,
}

/// Reads a log of the delegate as a change of subscriptions; `None` if it is about something else.
#[must_use]
pub fn subscription_change(log: &Log, at: LogPosition) -> Option<SubscriptionChange> {
    let (&topic, rest) = log.topics().split_first()?;
    let subject = Subject(rest.first().copied().unwrap_or_default());
    let kind = if topic == abi::Subscribed::SIGNATURE_HASH {
        match subscription(log, at.timestamp) {
            Ok(subscription) => ChangeKind::Subscribed(Box::new(subscription)),
            Err(reason) => ChangeKind::Refused { reason },
        }
    } else if topic == abi::Unsubscribed::SIGNATURE_HASH {
        ChangeKind::Unsubscribed
    } else {
        return None;
    };
    Some(SubscriptionChange {
        block: at.block,
        log_index: at.index,
        subject,
        kind,
    })
}

fn subscription(log: &Log, since: UnixSeconds) -> Result<Subscription, String> {
    let event = abi::Subscribed::decode_log_data_validate(&log.data)
        .map_err(|_| "log: not an ABI-encoded Subscribed event".to_owned())?;
    if event.params.len() > MAX_SUBSCRIPTION_BYTES {
        let size = event.params.len();
        let field = "params";
        return Err(SubscriptionError::TooLarge { field, size }.to_string());
    }
    let trigger =
        TriggerSpec::decode(event.trigger, &event.condition).map_err(|error| error.to_string())?;
    Ok(Subscription {
        subject: Subject(event.subject),
        consumer: event.consumer,
        cryptlet: CryptletId(event.cryptlet),
        callback: event.callback,
        callback_gas: event.callbackGas,
        validity: event.validity,
        trigger,
        params: event.params,
        since,
    })
}

/// The reports that `delegate` consumed, from the logs of one transaction.
#[must_use]
pub fn delivered_reports<'a>(
    delegate: Address,
    logs: impl IntoIterator<Item = &'a Log>,
) -> Vec<DeliveredReport> {
    let mut reports: Vec<DeliveredReport> = Vec::new();
    for log in logs.into_iter().filter(|log| log.address == delegate) {
        if let Ok(event) = abi::Delivered::decode_log_data_validate(&log.data) {
            reports.push(DeliveredReport {
                subject: Subject(event.subject),
                cryptlet: CryptletId(event.cryptlet),
                sequence: event.sequence,
                digest: event.digest,
                signer: event.signer,
                success: event.success,
                reason: None,
            });
        } else if let Ok(event) = abi::CallbackFailed::decode_log_data_validate(&log.data) {
            let failed = |report: &&mut DeliveredReport| {
                report.subject.0 == event.subject && report.sequence == event.sequence
            };
            if let Some(report) = reports.iter_mut().find(failed) {
                report.reason = Some(event.reason);
            }
        }
    }
    reports
}

/// Reads the revert data of a refused `deliver`.
#[must_use]
pub fn rejection(revert_data: &[u8]) -> Rejection {
    use abi::CryptoDelegateErrors as Errors;
    match Errors::abi_decode(revert_data) {
        Ok(Errors::UnknownSubscription(_)) => Rejection::UnknownSubscription,
        Ok(Errors::WrongSequence(error)) => Rejection::WrongSequence {
            expected: error.expected,
            given: error.given,
        },
        Ok(Errors::InvalidValidity(_)) => Rejection::InvalidValidity,
        Ok(Errors::NotYetValid(_)) => Rejection::NotYetValid,
        Ok(Errors::Expired(_)) => Rejection::Expired,
        Ok(Errors::InvalidSignature(_)) => Rejection::InvalidSignature,
        Ok(Errors::SignerNotEnrolled(error)) => Rejection::SignerNotEnrolled {
            cryptlet: CryptletId(error.cryptlet),
            signer: error.signer,
        },
        Ok(Errors::InsufficientGas(error)) => Rejection::InsufficientGas {
            required: error.required.saturating_to(),
            available: error.available.saturating_to(),
        },
        Ok(other) => Rejection::Other(clip(&format!("{other:?}"))),
        Err(_) => Rejection::Other(clip(&format!(
            "reverted with {}",
            alloy_primitives::hex::encode_prefixed(revert_data)
        ))),
    }
}

/// Topics of the logs about subscriptions.
pub(crate) const SUBSCRIPTION_TOPICS: [B256; 2] = [
    abi::Subscribed::SIGNATURE_HASH,
    abi::Unsubscribed::SIGNATURE_HASH,
];
/// Topic of the log of a consumed report.
pub(crate) const DELIVERED_TOPIC: B256 = abi::Delivered::SIGNATURE_HASH;
