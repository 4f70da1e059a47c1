//! Logs of the register as values. Strict: a register says what its ABI says, so that anything else is an error of the
//! node (or another contract), never a change that is passed over.

use super::{abi::CryptletRegister as abi, decode::LogPosition};
use alloy::sol_types::{SolEvent, SolEventInterface, abi::AbiDecoderConfig};
use alloy_primitives::{Address, B256, Log, U256};
use cryptlet_types::{
    CryptletId, Sha256Digest, UnixSeconds,
    register::{Board, HostRecord, PolicyRecord, RegisterChange, SignerRecord, VersionRecord},
};

/// Topics of the logs that are changes.
pub(super) const TOPICS: [B256; 13] = [
    abi::CryptletRegistered::SIGNATURE_HASH,
    abi::Transfer::SIGNATURE_HASH,
    abi::VersionPublished::SIGNATURE_HASH,
    abi::VersionRevoked::SIGNATURE_HASH,
    abi::SignerEnrolled::SIGNATURE_HASH,
    abi::SignerRevoked::SIGNATURE_HASH,
    abi::CryptletRevoked::SIGNATURE_HASH,
    abi::HostRegistered::SIGNATURE_HASH,
    abi::HostRemoved::SIGNATURE_HASH,
    abi::HostAssigned::SIGNATURE_HASH,
    abi::HostUnassigned::SIGNATURE_HASH,
    abi::PolicySet::SIGNATURE_HASH,
    abi::AdministratorsSet::SIGNATURE_HASH,
];

/// Reads a log of the register as a change; `None` for one that changes nothing that is not said by another: the
/// transfer of a new token, and topics that are none of [`TOPICS`].
///
/// # Errors
/// Says which event's ABI the log does not keep to.
pub fn change(log: &Log, at: LogPosition) -> Result<Option<RegisterChange>, String> {
    let strict = AbiDecoderConfig::new().strict(true);
    let Ok(event) = abi::CryptletRegisterEvents::decode_log_with_config(log, strict) else {
        let known = log
            .topics()
            .first()
            .is_some_and(|topic| TOPICS.contains(topic));
        return if known {
            Err("not what the register's ABI says".to_owned())
        } else {
            Ok(None)
        };
    };
    of_event(event.data, at.timestamp)
}

fn of_event(
    event: abi::CryptletRegisterEvents,
    published_at: UnixSeconds,
) -> Result<Option<RegisterChange>, String> {
    use abi::CryptletRegisterEvents as Events;
    Ok(Some(match event {
        Events::CryptletRegistered(event) => RegisterChange::Registered {
            cryptlet: CryptletId(event.cryptlet),
            publisher: event.publisher,
            name: event.name,
        },
        Events::Transfer(event) if event.from == Address::ZERO => return Ok(None),
        Events::Transfer(event) => RegisterChange::Transferred {
            cryptlet: token(event.tokenId)?,
            owner: event.to,
        },
        Events::VersionPublished(event) => RegisterChange::VersionPublished {
            cryptlet: CryptletId(event.cryptlet),
            version: version(event.number, event.version, published_at),
        },
        Events::VersionRevoked(event) => RegisterChange::VersionRevoked {
            cryptlet: CryptletId(event.cryptlet),
            number: event.number,
        },
        Events::SignerEnrolled(event) => RegisterChange::SignerEnrolled {
            cryptlet: CryptletId(event.cryptlet),
            signer: SignerRecord {
                signer: event.signer,
                version: event.version,
                expiry: event.expiry,
                revoked: false,
            },
        },
        Events::SignerRevoked(event) => RegisterChange::SignerRevoked {
            cryptlet: CryptletId(event.cryptlet),
            signer: event.signer,
        },
        Events::CryptletRevoked(event) => RegisterChange::CryptletRevoked {
            cryptlet: CryptletId(event.cryptlet),
        },
        Events::HostRegistered(event) => RegisterChange::HostRegistered {
            host: HostRecord {
                host: event.host,
                url: event.url,
                authority: Sha256Digest(event.authority),
            },
        },
        Events::HostRemoved(event) => RegisterChange::HostRemoved { host: event.host },
        Events::HostAssigned(event) => RegisterChange::HostAssigned {
            cryptlet: CryptletId(event.cryptlet),
            host: event.host,
        },
        Events::HostUnassigned(event) => RegisterChange::HostUnassigned {
            cryptlet: CryptletId(event.cryptlet),
            host: event.host,
        },
        Events::PolicySet(event) => RegisterChange::PolicySet {
            policy: PolicyRecord {
                epoch: event.epoch,
                digest: Sha256Digest(event.digest),
                uri: event.uri,
            },
        },
        Events::AdministratorsSet(event) => RegisterChange::AdministratorsSet {
            board: board(event.members, event.threshold, event.term)?,
        },
    }))
}

fn version(number: u32, version: abi::Version, published_at: UnixSeconds) -> VersionRecord {
    VersionRecord {
        number,
        label: version.label,
        package: Sha256Digest(version.packageDigest),
        header: Sha256Digest(version.headerDigest),
        manifest: Sha256Digest(version.manifestDigest),
        uri: version.uri,
        published_at,
        revoked: false,
    }
}

/// A cryptlet's token has the number of its id.
fn token(number: U256) -> Result<CryptletId, String> {
    let word = B256::from(number);
    let id = Address::from_word(word);
    if id.into_word() == word {
        Ok(CryptletId(id))
    } else {
        Err(format!("tokenId: {number} is no cryptlet's"))
    }
}

/// The board of these members.
///
/// # Errors
/// The threshold is none that any number of members could reach.
pub(super) fn board(members: Vec<Address>, threshold: U256, term: u64) -> Result<Board, String> {
    let threshold =
        u64::try_from(threshold).map_err(|_| "threshold: does not fit in 64 bits".to_owned())?;
    Ok(Board {
        members,
        threshold,
        term,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, LogData};
    use proptest::prelude::*;

    const AT: LogPosition = LogPosition {
        block: 5,
        index: 0,
        timestamp: 1_000,
    };
    const CRYPTLET: Address = Address::repeat_byte(3);

    fn log(event: &impl SolEvent) -> Log {
        Log {
            address: Address::ZERO,
            data: event.encode_log_data(),
        }
    }

    #[test]
    fn a_version_is_dated_by_its_block() {
        let event = abi::VersionPublished {
            cryptlet: CRYPTLET,
            number: 2,
            version: abi::Version {
                label: "0.2.0".into(),
                packageDigest: B256::repeat_byte(1),
                headerDigest: B256::repeat_byte(2),
                manifestDigest: B256::repeat_byte(3),
                uri: "oci://example/x".into(),
            },
        };
        let expected = VersionRecord {
            number: 2,
            label: "0.2.0".into(),
            package: Sha256Digest(B256::repeat_byte(1)),
            header: Sha256Digest(B256::repeat_byte(2)),
            manifest: Sha256Digest(B256::repeat_byte(3)),
            uri: "oci://example/x".into(),
            published_at: 1_000,
            revoked: false,
        };
        assert_eq!(
            change(&log(&event), AT),
            Ok(Some(RegisterChange::VersionPublished {
                cryptlet: CryptletId(CRYPTLET),
                version: expected
            }))
        );
    }

    #[test]
    fn a_new_token_is_its_publishers_and_a_transferred_one_the_new_owners() {
        let transfer = |from, number| {
            let event = abi::Transfer {
                from,
                to: Address::repeat_byte(9),
                tokenId: number,
            };
            change(&log(&event), AT)
        };
        let number = U256::from_be_bytes(CRYPTLET.into_word().0);
        assert_eq!(transfer(Address::ZERO, number), Ok(None));
        assert_eq!(
            transfer(Address::repeat_byte(8), number),
            Ok(Some(RegisterChange::Transferred {
                cryptlet: CryptletId(CRYPTLET),
                owner: Address::repeat_byte(9)
            }))
        );
        let strange = transfer(Address::repeat_byte(8), U256::MAX).unwrap_err();
        assert!(strange.starts_with("tokenId"), "{strange}");
    }

    #[test]
    fn a_log_that_is_not_what_the_register_says_is_an_error_and_others_are_none_of_ours() {
        let event = abi::SignerEnrolled {
            cryptlet: CRYPTLET,
            signer: Address::repeat_byte(4),
            version: 1,
            expiry: 7,
        };
        let mut cut = log(&event);
        cut.data.data = Bytes::from_static(&[1; 40]);
        assert!(change(&cut, AT).is_err());
        let data = LogData::new_unchecked(vec![B256::repeat_byte(8)], Bytes::new());
        let address = Address::ZERO;
        assert_eq!(change(&Log { address, data }, AT), Ok(None));
        let members = vec![Address::repeat_byte(1)];
        let threshold = U256::MAX;
        let board = abi::AdministratorsSet {
            term: 1,
            members,
            threshold,
        };
        assert!(change(&log(&board), AT).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_logs_never_panic(topic in 0_usize..13, more in 0_usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut topics = vec![TOPICS[topic]];
            topics.extend(std::iter::repeat_n(B256::repeat_byte(0xff), more));
            let data = LogData::new_unchecked(topics, bytes.into());
            let _ = change(&Log { address: Address::ZERO, data }, AT);
        }
    }
}
