//! What changes add up to: pure, so that the same changes give the same record, now and after a reorganisation.

use cryptlet_types::{
    CryptletId,
    bounded::clip,
    register::{CryptletRecord, RegisterChange, SignerRecord, VersionRecord},
};
use std::fmt::Display;

/// Why a change cannot be one of our register's.
pub(super) type Impossible = String;

/// The cryptlet that a change is about; none for hosts and policy.
pub(super) fn subject(change: &RegisterChange) -> Option<CryptletId> {
    match change {
        RegisterChange::Registered { cryptlet, .. }
        | RegisterChange::Transferred { cryptlet, .. }
        | RegisterChange::VersionPublished { cryptlet, .. }
        | RegisterChange::VersionRevoked { cryptlet, .. }
        | RegisterChange::SignerEnrolled { cryptlet, .. }
        | RegisterChange::SignerRevoked { cryptlet, .. }
        | RegisterChange::CryptletRevoked { cryptlet }
        | RegisterChange::HostAssigned { cryptlet, .. }
        | RegisterChange::HostUnassigned { cryptlet, .. } => Some(*cryptlet),
        RegisterChange::HostRegistered { .. }
        | RegisterChange::HostRemoved { .. }
        | RegisterChange::PolicySet { .. }
        | RegisterChange::AdministratorsSet { .. } => None,
    }
}

/// A change as it is kept: text of strangers clipped.
pub(super) fn clipped(change: &RegisterChange) -> RegisterChange {
    let mut change = change.clone();
    match &mut change {
        RegisterChange::Registered { name, .. } => *name = clip(name),
        RegisterChange::VersionPublished { version, .. } => {
            version.label = clip(&version.label);
            version.uri = clip(&version.uri);
        }
        RegisterChange::HostRegistered { host } => host.url = clip(&host.url),
        RegisterChange::PolicySet { policy } => policy.uri = clip(&policy.uri),
        _ => {}
    }
    change
}

/// The record of a cryptlet after a change about it.
pub(super) fn advance(
    record: Option<CryptletRecord>,
    change: &RegisterChange,
) -> Result<CryptletRecord, Impossible> {
    if let RegisterChange::Registered {
        cryptlet,
        publisher,
        name,
    } = change
    {
        return match record {
            Some(_) => Err(format!("cryptlet {cryptlet} is registered twice")),
            None => Ok(CryptletRecord {
                cryptlet: *cryptlet,
                name: name.clone(),
                publisher: *publisher,
                owner: *publisher,
                revoked: false,
                versions: vec![],
                signers: vec![],
                hosts: vec![],
            }),
        };
    }
    let mut record = record.ok_or_else(|| format!("{change:?} before it was registered"))?;
    change_record(&mut record, change)?;
    Ok(record)
}

fn change_record(record: &mut CryptletRecord, change: &RegisterChange) -> Result<(), Impossible> {
    match change {
        RegisterChange::Transferred { owner, .. } => record.owner = *owner,
        RegisterChange::VersionPublished { version, .. } => publish(record, version)?,
        RegisterChange::VersionRevoked { number, .. } => revoke_version(record, *number)?,
        RegisterChange::SignerEnrolled { signer, .. } => enrol(record, signer)?,
        RegisterChange::SignerRevoked { signer, .. } => {
            let known = record
                .signers
                .iter_mut()
                .find(|known| known.signer == *signer);
            let unknown = unknown(record.cryptlet, "signer", signer);
            known.ok_or(unknown)?.revoked = true;
        }
        RegisterChange::CryptletRevoked { .. } => record.revoked = true,
        RegisterChange::HostAssigned { host, .. } if !record.hosts.contains(host) => {
            record.hosts.push(*host);
        }
        RegisterChange::HostUnassigned { host, .. } => record.hosts.retain(|known| known != host),
        _ => {}
    }
    Ok(())
}

fn publish(record: &mut CryptletRecord, version: &VersionRecord) -> Result<(), Impossible> {
    let last = record.versions.last().map_or(0, |version| version.number);
    if version.number != last.saturating_add(1) {
        let cryptlet = record.cryptlet;
        let number = version.number;
        return Err(format!("version {number} of {cryptlet} follows {last}"));
    }
    let version = version.clone();
    record.versions.push(VersionRecord {
        revoked: false,
        ..version
    });
    Ok(())
}

fn revoke_version(record: &mut CryptletRecord, number: u32) -> Result<(), Impossible> {
    let unknown = unknown(record.cryptlet, "version", number);
    let version = record
        .versions
        .iter_mut()
        .find(|known| known.number == number);
    version.ok_or(unknown)?.revoked = true;
    let signers = record.signers.iter_mut();
    for signer in signers.filter(|signer| signer.version == number) {
        signer.revoked = true;
    }
    Ok(())
}

/// A signer stays with its version, and what was revoked stays revoked, whatever a log says.
fn enrol(record: &mut CryptletRecord, signer: &SignerRecord) -> Result<(), Impossible> {
    let version = record
        .versions
        .iter()
        .find(|known| known.number == signer.version);
    let version = version.ok_or_else(|| unknown(record.cryptlet, "version", signer.version))?;
    let revoked = version.revoked;
    match record
        .signers
        .iter_mut()
        .find(|known| known.signer == signer.signer)
    {
        None => record.signers.push(SignerRecord { revoked, ..*signer }),
        Some(known) if known.version == signer.version => known.expiry = signer.expiry,
        Some(known) => {
            let (was, signer) = (known.version, signer.signer);
            return Err(format!("signer {signer} is already version {was}'s"));
        }
    }
    Ok(())
}

fn unknown(cryptlet: CryptletId, what: &str, which: impl Display) -> Impossible {
    format!("cryptlet {cryptlet} has no {what} {which}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use cryptlet_types::Sha256Digest;

    const ID: CryptletId = CryptletId(Address::repeat_byte(7));

    fn registered() -> RegisterChange {
        RegisterChange::Registered {
            cryptlet: ID,
            publisher: Address::repeat_byte(1),
            name: "gold".into(),
        }
    }

    fn published(number: u32) -> RegisterChange {
        let digest = Sha256Digest(B256::repeat_byte(1));
        RegisterChange::VersionPublished {
            cryptlet: ID,
            version: VersionRecord {
                number,
                label: format!("0.{number}.0"),
                package: digest,
                header: digest,
                manifest: digest,
                uri: String::new(),
                published_at: 1,
                revoked: false,
            },
        }
    }

    fn enrolled(byte: u8, version: u32, expiry: u64) -> RegisterChange {
        RegisterChange::SignerEnrolled {
            cryptlet: ID,
            signer: SignerRecord {
                signer: Address::repeat_byte(byte),
                version,
                expiry,
                revoked: false,
            },
        }
    }

    fn all(changes: &[RegisterChange]) -> Result<CryptletRecord, Impossible> {
        let mut record = None;
        for change in changes {
            record = Some(advance(record, change)?);
        }
        Ok(record.unwrap())
    }

    #[test]
    fn a_revoked_version_takes_its_signers_with_it_and_nothing_comes_back() {
        let revoked = RegisterChange::VersionRevoked {
            cryptlet: ID,
            number: 1,
        };
        let record = all(&[
            registered(),
            published(1),
            enrolled(1, 1, 9),
            published(2),
            enrolled(2, 2, 9),
            revoked,
            enrolled(1, 1, 99),
            enrolled(3, 1, 99),
        ])
        .unwrap();
        let admitted = |byte, number| record.admits(Address::repeat_byte(byte), number, 5);
        assert!(!admitted(1, 1) && !admitted(3, 1) && admitted(2, 2));
        assert!(record.signers[0].revoked && record.signers[2].revoked);
        assert_eq!(record.current().map(|version| version.number), Some(2));
    }

    #[test]
    fn enrolling_again_moves_the_expiry_and_nothing_else() {
        let again = all(&[
            registered(),
            published(1),
            enrolled(1, 1, 9),
            enrolled(1, 1, 5),
        ]);
        let signers = again.unwrap().signers;
        assert_eq!(signers.len(), 1);
        assert_eq!(signers[0].expiry, 5);
    }

    #[test]
    fn hosts_come_and_go() {
        let host = Address::repeat_byte(4);
        let assigned = RegisterChange::HostAssigned { cryptlet: ID, host };
        let unassigned = RegisterChange::HostUnassigned { cryptlet: ID, host };
        let record = all(&[registered(), assigned.clone(), assigned]).unwrap();
        assert_eq!(record.hosts, [host]);
        let left = advance(Some(record), &unassigned).unwrap();
        assert!(left.hosts.is_empty());
    }

    #[test]
    fn what_no_register_of_ours_says_is_impossible() {
        let revoked = RegisterChange::SignerRevoked {
            cryptlet: ID,
            signer: Address::ZERO,
        };
        let cases = [
            (vec![published(1)], "before it was registered"),
            (vec![registered(), registered()], "registered twice"),
            (vec![registered(), published(2)], "follows 0"),
            (vec![registered(), published(1), published(1)], "follows 1"),
            (vec![registered(), enrolled(1, 1, 9)], "no version 1"),
            (vec![registered(), revoked], "no signer"),
            (
                vec![
                    registered(),
                    published(1),
                    enrolled(1, 1, 9),
                    published(2),
                    enrolled(1, 2, 9),
                ],
                "already version 1's",
            ),
        ];
        for (changes, words) in cases {
            let error = all(&changes).unwrap_err();
            assert!(error.contains(words), "{error} does not say {words}");
        }
    }
}
