//! The certificate table that comes with a report of SEV-SNP: AMD 56421 (GHCB standardization), section 4.1.8.1,
//! `MSG_REPORT_REQ`. Entries of 24 bytes (GUID, offset, length; the numbers little-endian) up to one that is zero, then the
//! certificates.

use super::{SnpCollateral, little_endian};
use alloy_primitives::{Bytes, hex};
use cryptlet_seal::attester::AttesterError;

const ENTRY_BYTES: usize = 24;
const GUID_BYTES: usize = 16;
/// Kinds there are, and room for as many that are not known here.
const MAX_ENTRIES: usize = 16;

const VCEK: [u8; 16] = hex!("63da758de6644564adc5f4b93be8accd");
const VLEK: [u8; 16] = hex!("a8074bc2a25a483eaae639c045a0b8a1");
const ASK: [u8; 16] = hex!("4ab7b379bbac4fe4a02f05aef327c782");
const ARK: [u8; 16] = hex!("c0b406a4a803495297433fb6014cd0ae");

/// What a table holds of what is needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    pub(super) endorsement: Option<Bytes>,
    pub(super) intermediate: Option<Bytes>,
    pub(super) root: Option<Bytes>,
}

impl Certificates {
    /// Reads a table; nothing at all is an empty one. The host made it, so nothing of it is believed but its form.
    pub(super) fn read(table: &[u8]) -> Result<Self, AttesterError> {
        let mut found = Self::default();
        if table.is_empty() {
            return Ok(found);
        }
        for number in 0..MAX_ENTRIES {
            let refuse =
                |reason: &str| AttesterError::malformed(format!("auxblob[{number}]"), reason);
            let entry = table
                .get(number * ENTRY_BYTES..)
                .and_then(|rest| rest.get(..ENTRY_BYTES))
                .ok_or_else(|| refuse("is cut short"))?;
            if entry.iter().all(|byte| *byte == 0) {
                return Ok(found);
            }
            let certificate =
                certificate(table, entry).ok_or_else(|| refuse("points outside of the table"))?;
            let guid = entry.get(..GUID_BYTES).unwrap_or_default();
            if let Some(place) = found.place(guid) {
                if place.is_some() {
                    return Err(refuse("is there twice"));
                }
                *place = Some(certificate);
            }
        }
        Err(AttesterError::malformed(
            "auxblob",
            format!("has more than {MAX_ENTRIES} entries"),
        ))
    }

    /// Where a certificate of this kind belongs; none for kinds that are not needed.
    fn place(&mut self, guid: &[u8]) -> Option<&mut Option<Bytes>> {
        match guid {
            guid if guid == VCEK || guid == VLEK => Some(&mut self.endorsement),
            guid if guid == ASK => Some(&mut self.intermediate),
            guid if guid == ARK => Some(&mut self.root),
            _ => None,
        }
    }

    /// From the endorsement key up to the root, with what the host fetched in the place of what is missing.
    pub(super) fn chain(self, fetched: &SnpCollateral) -> Result<Vec<Bytes>, AttesterError> {
        let parts = [
            ("VCEK or VLEK", self.endorsement, &fetched.endorsement),
            ("ASK or ASVK", self.intermediate, &fetched.intermediate),
            ("ARK", self.root, &fetched.root),
        ];
        parts
            .into_iter()
            .map(|(name, found, fetched)| {
                found.or_else(|| fetched.clone()).ok_or_else(|| {
                    let reason = format!(
                        "the certificate {name} is neither in auxblob nor in the collateral"
                    );
                    AttesterError::Settings(reason)
                })
            })
            .collect()
    }
}

fn certificate(table: &[u8], entry: &[u8]) -> Option<Bytes> {
    let offset = little_endian(entry, GUID_BYTES, 4)?;
    let length = little_endian(entry, GUID_BYTES + 4, 4)?;
    let bytes = table.get(offset..offset.checked_add(length)?)?;
    (!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table as a host makes it.
    pub(crate) fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let mut offset = (entries.len() + 1) * ENTRY_BYTES;
        let (mut head, mut body) = (Vec::new(), Vec::new());
        for (guid, certificate) in entries {
            head.extend_from_slice(guid);
            head.extend_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
            head.extend_from_slice(&u32::try_from(certificate.len()).unwrap().to_le_bytes());
            body.extend_from_slice(certificate);
            offset += certificate.len();
        }
        head.extend_from_slice(&[0; ENTRY_BYTES]);
        [head, body].concat()
    }

    pub(crate) fn usual() -> Vec<u8> {
        table(&[
            (ARK, b"root"),
            ([9; 16], b"other"),
            (VCEK, b"leaf"),
            (ASK, b"middle"),
        ])
    }

    fn message(table: &[u8]) -> String {
        Certificates::read(table).unwrap_err().to_string()
    }

    #[test]
    fn certificates_come_out_from_the_leaf_up_whatever_their_order_and_unknown_kinds_are_passed_over()
     {
        let chain = Certificates::read(&usual())
            .unwrap()
            .chain(&SnpCollateral::default());
        assert_eq!(
            chain.unwrap(),
            [&b"leaf"[..], b"middle", b"root"].map(Bytes::from)
        );
    }

    #[test]
    fn what_the_table_lacks_is_taken_from_the_collateral_and_refused_if_that_lacks_it_too() {
        let fetched = SnpCollateral {
            endorsement: Some(b"older leaf".into()),
            intermediate: Some(b"fetched middle".into()),
            ..SnpCollateral::default()
        };
        let read = || Certificates::read(&table(&[(VLEK, b"leaf")])).unwrap();
        let error = read().chain(&fetched).unwrap_err().to_string();
        assert!(error.contains("ARK is neither"), "{error}");
        let root = Some(b"fetched root".into());
        let chain = read().chain(&SnpCollateral { root, ..fetched }).unwrap();
        assert_eq!(
            chain,
            [&b"leaf"[..], b"fetched middle", b"fetched root"].map(Bytes::from)
        );
    }

    #[test]
    fn hostile_tables_are_refused() {
        let good = usual();
        let mut outside = good.clone();
        outside[GUID_BYTES..GUID_BYTES + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(message(&outside).contains("auxblob[0]: points outside"));
        let empty = table(&[(ARK, b"")]);
        assert!(message(&empty).contains("auxblob[0]: points outside"));
        let twice = table(&[(VCEK, b"a"), (VLEK, b"b")]);
        assert!(message(&twice).contains("auxblob[1]: is there twice"));
        assert!(message(&good[..ENTRY_BYTES - 1]).contains("auxblob[0]: is cut short"));
        let many = table(&[([9; 16], &b"x"[..]); MAX_ENTRIES]);
        assert!(message(&many).contains("more than 16 entries"));
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _read_or_refused = Certificates::read(&bytes);
        }

        #[test]
        fn any_certificates_come_through(
            leaf in prop::collection::vec(any::<u8>(), 1..100),
            root in prop::collection::vec(any::<u8>(), 1..100),
        ) {
            let read = Certificates::read(&table(&[(VCEK, &leaf), (ARK, &root)])).unwrap();
            let (endorsement, root) = (Some(leaf.into()), Some(root.into()));
            prop_assert_eq!(read, Certificates { endorsement, root, intermediate: None });
        }
    }
}
