//! Logs and custom errors of the delegate as values. Total: whatever a chain holds, something is said about it.

use super::abi::CryptoDelegate as abi;
use crate::{ChangeKind, DeliveredReport, Rejection, SubscriptionChange, UndeliveredReport};
use alloy::sol_types::{SolError, SolEvent, SolInterface};
use alloy_primitives::{Address, B256, FixedBytes, Log};
use cryptlet_types::{
    CryptletId, ReportDomain, Subject, Subscription, TriggerSpec, UnixSeconds, bounded::clip,
    subscription::SubscriptionError,
};

const OTHER_DELEGATION: &str = "another than the report's";
const OTHER_IDENTITY: &str = "missing, or of another identity than subscribed";

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

/// Reads a log of the delegate of `domain` as a change of subscriptions; `None` if it is about something else. A
/// subscription whose subject is not that of its fields is refused.
#[must_use]
pub fn subscription_change(
    log: &Log,
    domain: &ReportDomain,
    at: LogPosition,
) -> Option<SubscriptionChange> {
    let (&topic, rest) = log.topics().split_first()?;
    let subject = Subject(rest.first().copied().unwrap_or_default());
    let kind = if topic == abi::Subscribed::SIGNATURE_HASH {
        match subscription(log, domain, at.timestamp) {
            Ok(subscription) => ChangeKind::Subscribed(Box::new(subscription)),
            Err(reason) => ChangeKind::Refused { reason },
        }
    } else if topic == abi::Unsubscribed::SIGNATURE_HASH {
        ChangeKind::Unsubscribed
    } else if topic == abi::Paused::SIGNATURE_HASH {
        ChangeKind::Paused
    } else if topic == abi::Resumed::SIGNATURE_HASH {
        ChangeKind::Resumed { at: at.timestamp }
    } else if topic == abi::Delivered::SIGNATURE_HASH {
        let consumed = abi::Delivered::decode_log_data_validate(&log.data).ok()?;
        ChangeKind::Consumed {
            sequence: consumed.sequence,
        }
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

fn subscription(
    log: &Log,
    domain: &ReportDomain,
    since: UnixSeconds,
) -> Result<Subscription, String> {
    let event = abi::Subscribed::decode_log_data_validate(&log.data)
        .map_err(|_| "log: not an ABI-encoded Subscribed event".to_owned())?;
    of_event(event, domain, since).map_err(|error| error.to_string())
}

fn of_event(
    event: abi::Subscribed,
    domain: &ReportDomain,
    since: UnixSeconds,
) -> Result<Subscription, SubscriptionError> {
    let asked = event.subscription;
    if asked.cryptlet != event.cryptlet {
        return Err(SubscriptionError::OtherCryptlet);
    }
    let subscription = Subscription {
        subject: Subject(event.subject),
        consumer: event.consumer,
        nonce: event
            .nonce
            .try_into()
            .map_err(|_| SubscriptionError::Nonce)?,
        cryptlet: CryptletId(asked.cryptlet),
        on_behalf_of: asked.onBehalfOf,
        callback: asked.callback,
        callback_gas: asked.callbackGas,
        validity: asked.validity,
        trigger: TriggerSpec::decode(asked.trigger, &asked.condition)?,
        params: asked.params,
        since,
    };
    subscription.check(domain)?;
    Ok(subscription)
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

/// The reports of batches that `delegate` left out, from the logs of one transaction.
#[must_use]
pub fn undelivered_reports<'a>(
    delegate: Address,
    logs: impl IntoIterator<Item = &'a Log>,
) -> Vec<UndeliveredReport> {
    let own = logs.into_iter().filter(|log| log.address == delegate);
    own.filter_map(|log| abi::Undelivered::decode_log_data_validate(&log.data).ok())
        .map(|event| UndeliveredReport {
            subject: Subject(event.subject),
            cryptlet: CryptletId(event.cryptlet),
            sequence: event.sequence,
            reason: left_out(event.reason, event.sequence),
        })
        .collect()
}

/// What the selector of a custom error says of report number `given` of a batch.
fn left_out(selector: FixedBytes<4>, given: u64) -> Rejection {
    match selector.0 {
        abi::WrongSequence::SELECTOR => Rejection::NotTheNext { given },
        abi::WrongDelegation::SELECTOR => Rejection::DelegationRefused(OTHER_DELEGATION),
        abi::WrongIdentity::SELECTOR => Rejection::DelegationRefused(OTHER_IDENTITY),
        _ => rejection(&selector.0),
    }
}

/// Reads the revert data of a refused `deliver`.
#[must_use]
pub fn rejection(revert_data: &[u8]) -> Rejection {
    use abi::CryptoDelegateErrors as Errors;
    match Errors::abi_decode(revert_data) {
        Ok(Errors::UnknownSubscription(_)) => Rejection::UnknownSubscription,
        Ok(Errors::SubscriptionPaused(_)) => Rejection::Paused,
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
        Ok(Errors::WrongDelegation(_)) => Rejection::DelegationRefused(OTHER_DELEGATION),
        Ok(Errors::WrongIdentity(_)) => Rejection::DelegationRefused(OTHER_IDENTITY),
        Ok(Errors::DelegationOutOfScope(_)) => Rejection::DelegationRefused("out of scope"),
        Ok(Errors::DelegationExpired(_)) => Rejection::DelegationRefused("expired"),
        Ok(Errors::DelegationIsRevoked(_)) => Rejection::DelegationRefused("revoked"),
        Ok(Errors::InvalidDelegationSignature(_)) => {
            Rejection::DelegationRefused("not signed by its identity")
        }
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
pub(crate) const SUBSCRIPTION_TOPICS: [B256; 5] = [
    abi::Delivered::SIGNATURE_HASH,
    abi::Subscribed::SIGNATURE_HASH,
    abi::Unsubscribed::SIGNATURE_HASH,
    abi::Paused::SIGNATURE_HASH,
    abi::Resumed::SIGNATURE_HASH,
];
/// Topic of the log of a consumed report.
pub(crate) const DELIVERED_TOPIC: B256 = abi::Delivered::SIGNATURE_HASH;

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::sol_types::{Revert, SolError, SolValue};
    use alloy_primitives::{Bytes, LogData, U256, keccak256};
    use cryptlet_types::ClockSpec;

    const AT: LogPosition = LogPosition {
        block: 5,
        index: 2,
        timestamp: 1000,
    };

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(7),
    };

    /// What a delegate logs: the subject is computed here by the contract's own formula.
    fn event(trigger: u8, condition: Bytes, params: Bytes) -> abi::Subscribed {
        let subscription = abi::Subscription {
            cryptlet: Address::repeat_byte(3),
            onBehalfOf: Address::ZERO,
            callback: FixedBytes([4; 4]),
            callbackGas: 50_000,
            validity: 600,
            trigger,
            condition,
            params,
        };
        let (consumer, nonce) = (Address::repeat_byte(2), U256::from(5));
        let fields = keccak256(subscription.abi_encode());
        let (chain, delegate) = (U256::from(DOMAIN.chain_id), DOMAIN.delegate);
        let subject = keccak256((chain, delegate, consumer, nonce, fields).abi_encode_params());
        abi::Subscribed {
            subject,
            consumer,
            cryptlet: subscription.cryptlet,
            nonce,
            subscription,
        }
    }

    fn log(event: &abi::Subscribed) -> Log {
        Log {
            address: Address::ZERO,
            data: event.encode_log_data(),
        }
    }

    fn subscribed(trigger: u8, condition: Bytes, params: Bytes) -> Log {
        log(&event(trigger, condition, params))
    }

    fn subscription_change(log: &Log, at: LogPosition) -> Option<SubscriptionChange> {
        super::subscription_change(log, &DOMAIN, at)
    }

    fn condition() -> Bytes {
        let spec = TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        });
        spec.encode_condition()
    }

    fn refusal(log: &Log) -> String {
        match subscription_change(log, AT).unwrap().kind {
            ChangeKind::Refused { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_subscription_is_read_and_dated_by_its_block() {
        let event = event(1, condition(), Bytes::from_static(&[9]));
        let change = subscription_change(&log(&event), AT).unwrap();
        assert_eq!((change.block, change.log_index), (5, 2));
        assert_eq!(change.subject, Subject(event.subject));
        let ChangeKind::Subscribed(subscription) = change.kind else {
            panic!("{:?}", change.kind)
        };
        assert_eq!((subscription.since, subscription.nonce), (1000, 5));
        assert_eq!(subscription.params, Bytes::from_static(&[9]));
    }

    #[test]
    fn a_subscription_that_cannot_be_served_is_refused_by_field() {
        let cases = [
            (subscribed(10, condition(), Bytes::new()), "trigger: "),
            (subscribed(1, Bytes::new(), Bytes::new()), "condition: "),
            (
                subscribed(1, vec![0; 5000].into(), Bytes::new()),
                "condition: 5000",
            ),
            (
                subscribed(1, condition(), vec![0; 5000].into()),
                "params: 5000",
            ),
        ];
        for (log, expected) in cases {
            let reason = refusal(&log);
            assert!(reason.starts_with(expected), "{reason}");
        }
        let mut log = subscribed(1, condition(), Bytes::new());
        log.data.data = Bytes::from_static(&[1; 40]);
        assert!(refusal(&log).starts_with("log: "));
    }

    #[test]
    fn a_subject_that_commits_to_something_else_is_refused() {
        let good = || event(1, condition(), Bytes::from_static(&[9]));
        type Forgery = (&'static str, fn(&mut abi::Subscribed));
        let forgeries: [Forgery; 8] = [
            ("subject: ", |e| e.subscription.params = Bytes::new()),
            ("subject: ", |e| {
                e.subscription.onBehalfOf = Address::repeat_byte(1)
            }),
            ("subject: ", |e| e.subscription.callbackGas += 1),
            ("subject: ", |e| e.consumer = Address::ZERO),
            ("subject: ", |e| e.nonce = U256::ZERO),
            ("nonce: ", |e| e.nonce = U256::MAX),
            ("cryptlet: ", |e| e.cryptlet = Address::ZERO),
            ("validity: ", |e| e.subscription.validity = 604_801),
        ];
        for (field, forge) in forgeries {
            let mut forged = good();
            forge(&mut forged);
            let reason = refusal(&log(&forged));
            assert!(reason.starts_with(field), "{field}: {reason}");
        }
        let elsewhere = ReportDomain {
            chain_id: 1,
            ..DOMAIN
        };
        let change = super::subscription_change(&log(&good()), &elsewhere, AT).unwrap();
        assert!(matches!(change.kind, ChangeKind::Refused { .. }));
    }

    #[test]
    fn logs_about_something_else_are_none_of_ours() {
        let topics = vec![B256::repeat_byte(8)];
        let data = LogData::new_unchecked(topics, Bytes::new());
        let address = Address::ZERO;
        assert_eq!(subscription_change(&Log { address, data }, AT), None);
        let data = LogData::new_unchecked(Vec::new(), Bytes::new());
        assert_eq!(subscription_change(&Log { address, data }, AT), None);
    }

    #[test]
    fn a_delivery_counts_only_from_the_delegate_and_takes_its_own_reason() {
        let delegate = Address::repeat_byte(7);
        let delivered = |sequence| abi::Delivered {
            subject: B256::ZERO,
            cryptlet: Address::ZERO,
            sequence,
            digest: B256::ZERO,
            signer: Address::ZERO,
            success: sequence == 1,
        };
        let failed = abi::CallbackFailed {
            subject: B256::ZERO,
            sequence: 2,
            reason: Bytes::from_static(b"no"),
        };
        let log = |address, data| Log { address, data };
        let logs = [
            log(delegate, delivered(1).encode_log_data()),
            log(delegate, delivered(2).encode_log_data()),
            log(delegate, failed.encode_log_data()),
            log(Address::ZERO, delivered(3).encode_log_data()),
        ];
        let reports = delivered_reports(delegate, &logs);
        let seen: Vec<_> = reports
            .iter()
            .map(|r| (r.sequence, r.reason.clone()))
            .collect();
        assert_eq!(seen, [(1, None), (2, Some(Bytes::from_static(b"no")))]);
    }

    #[test]
    fn a_pause_and_its_end_are_changes() {
        let (subject, consumer) = (B256::repeat_byte(5), Address::repeat_byte(2));
        let cryptlet = Address::repeat_byte(3);
        let paused = abi::Paused {
            subject,
            consumer,
            cryptlet,
        };
        let resumed = abi::Resumed {
            subject,
            consumer,
            cryptlet,
        };
        let cases = [
            (paused.encode_log_data(), ChangeKind::Paused),
            (
                resumed.encode_log_data(),
                ChangeKind::Resumed { at: AT.timestamp },
            ),
        ];
        for (data, kind) in cases {
            let address = Address::ZERO;
            let change = subscription_change(&Log { address, data }, AT).unwrap();
            assert_eq!((change.subject, change.kind), (Subject(subject), kind));
        }
    }

    #[test]
    fn what_a_batch_left_out_says_why_and_counts_only_from_the_delegate() {
        let delegate = Address::repeat_byte(7);
        let left_out = |address, selector| {
            let event = abi::Undelivered {
                subject: B256::repeat_byte(5),
                cryptlet: Address::repeat_byte(3),
                sequence: 9,
                reason: FixedBytes(selector),
            };
            let data = event.encode_log_data();
            Log { address, data }
        };
        let cases = [
            (
                abi::UnknownSubscription::SELECTOR,
                Rejection::UnknownSubscription,
            ),
            (abi::SubscriptionPaused::SELECTOR, Rejection::Paused),
            (
                abi::WrongSequence::SELECTOR,
                Rejection::NotTheNext { given: 9 },
            ),
            (
                abi::WrongIdentity::SELECTOR,
                Rejection::DelegationRefused(OTHER_IDENTITY),
            ),
            (
                abi::WrongDelegation::SELECTOR,
                Rejection::DelegationRefused(OTHER_DELEGATION),
            ),
            (abi::NotYetValid::SELECTOR, Rejection::NotYetValid),
            (abi::Expired::SELECTOR, Rejection::Expired),
            (abi::InvalidValidity::SELECTOR, Rejection::InvalidValidity),
            (
                [1, 2, 3, 4],
                Rejection::Other("reverted with 0x01020304".into()),
            ),
        ];
        for (selector, reason) in cases {
            let logs = [
                left_out(delegate, selector),
                left_out(Address::ZERO, selector),
            ];
            let expected = UndeliveredReport {
                subject: Subject(B256::repeat_byte(5)),
                cryptlet: CryptletId(Address::repeat_byte(3)),
                sequence: 9,
                reason,
            };
            assert_eq!(undelivered_reports(delegate, &logs), [expected]);
        }
    }

    #[test]
    fn every_custom_error_of_a_delivery_has_its_own_rejection() {
        let wrong = abi::WrongSequence {
            expected: 3,
            given: 5,
        };
        let gas = abi::InsufficientGas {
            required: U256::from(9),
            available: U256::MAX,
        };
        let stranger = abi::SignerNotEnrolled {
            cryptlet: Address::repeat_byte(1),
            signer: Address::repeat_byte(2),
        };
        let cases = [
            (
                abi::UnknownSubscription {}.abi_encode(),
                Rejection::UnknownSubscription,
            ),
            (abi::SubscriptionPaused {}.abi_encode(), Rejection::Paused),
            (
                abi::DelegationExpired { expiry: 1 }.abi_encode(),
                Rejection::DelegationRefused("expired"),
            ),
            (
                abi::InvalidValidity {}.abi_encode(),
                Rejection::InvalidValidity,
            ),
            (abi::NotYetValid {}.abi_encode(), Rejection::NotYetValid),
            (abi::Expired {}.abi_encode(), Rejection::Expired),
            (
                abi::InvalidSignature {}.abi_encode(),
                Rejection::InvalidSignature,
            ),
            (
                wrong.abi_encode(),
                Rejection::WrongSequence {
                    expected: 3,
                    given: 5,
                },
            ),
            (
                gas.abi_encode(),
                Rejection::InsufficientGas {
                    required: 9,
                    available: u64::MAX,
                },
            ),
            (
                stranger.abi_encode(),
                Rejection::SignerNotEnrolled {
                    cryptlet: CryptletId(Address::repeat_byte(1)),
                    signer: Address::repeat_byte(2),
                },
            ),
        ];
        for (data, expected) in cases {
            assert_eq!(rejection(&data), expected);
        }
        let text = Revert::from("something else").abi_encode();
        for data in [&[][..], &[1, 2, 3], &[0xff; 5000], &text] {
            let Rejection::Other(message) = rejection(data) else {
                panic!("{data:?}")
            };
            assert!(message.len() <= 1024);
        }
    }
}
