//! AMD's collateral in a file: DER, one structure after the other, as AMD's key server gives each of them out.

use super::SnpCollateral;
use alloy_primitives::Bytes;
use cryptlet_seal::attester::AttesterError;

/// Tag of a sequence, which lists and certificates are (X.690, 8.9; RFC 5280).
const SEQUENCE: u8 = 0x30;

impl SnpCollateral {
    /// Reads a file that has the ARK's revocation list, and nothing else or, where the machine's host offers no certificates, the
    /// three of the path after it, from the leaf up: VCEK (or VLEK), ASK (or ASVK), ARK. What is in them is not looked at here.
    ///
    /// # Errors
    /// [`AttesterError::Settings`] if it has another form.
    pub fn from_der(file: &[u8]) -> Result<Self, AttesterError> {
        let refuse = || {
            let reason = "is neither one DER structure, the ARK's revocation list, nor that followed by VCEK, ASK and ARK";
            AttesterError::Settings(reason.into())
        };
        let mut rest = file;
        let mut next = || {
            let (first, after) = split(rest)?;
            rest = after;
            Some(Bytes::copy_from_slice(first))
        };
        let revocations = next().ok_or_else(refuse)?;
        let (endorsement, intermediate, root) = (next(), next(), next());
        let whole = rest.is_empty() && endorsement.is_some() == root.is_some();
        whole
            .then_some(Self {
                endorsement,
                intermediate,
                root,
                revocations,
            })
            .ok_or_else(refuse)
    }
}

/// The sequence that the bytes begin with, and what follows it. Lengths have one byte, or up to three after their number
/// (X.690, 8.1.3).
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [SEQUENCE, length, rest @ ..] = bytes else {
        return None;
    };
    let (more, content) = match *length {
        short @ 0..=0x7f => (0, usize::from(short)),
        long @ 0x81..=0x83 => {
            let more = usize::from(long - 0x80);
            let number = rest.get(..more)?.iter();
            (
                more,
                number.fold(0, |all, byte| all << 8 | usize::from(*byte)),
            )
        }
        _ => return None,
    };
    bytes.split_at_checked(2 + more + content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..0x80 => vec![SEQUENCE, u8::try_from(length).unwrap()],
            _ => {
                let [a, b] = u16::try_from(length).unwrap().to_be_bytes();
                vec![SEQUENCE, 0x82, a, b]
            }
        };
        [&head, content].concat()
    }

    #[test]
    fn a_list_stands_alone_or_before_the_whole_path() {
        let [list, leaf, middle, root] = [vec![1; 300], vec![2; 5], vec![3; 127], vec![4; 2_000]]
            .map(|content| sequence(&content));
        let alone = SnpCollateral::from_der(&list).unwrap();
        assert_eq!(alone.revocations, list);
        assert_eq!(
            (alone.endorsement, alone.intermediate, alone.root),
            (None, None, None)
        );
        let whole = [list.clone(), leaf.clone(), middle.clone(), root.clone()].concat();
        let whole = SnpCollateral::from_der(&whole).unwrap();
        assert_eq!(whole.revocations, list);
        let path = [whole.endorsement, whole.intermediate, whole.root].map(Option::unwrap);
        assert_eq!(path.map(|found| found.to_vec()), [leaf, middle, root]);
    }

    #[test]
    fn other_forms_are_refused() {
        let list = sequence(b"list");
        let times = |count| list.repeat(count);
        let cut = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
        let followed = |by: &[u8]| [list.as_slice(), by].concat();
        let cases = [
            Vec::new(),
            times(2),
            times(3),
            times(5),
            cut(&list),
            cut(&times(4)),
            followed(b"\n"),
            b"-----BEGIN X509 CRL-----".to_vec(),
            vec![SEQUENCE],
            vec![SEQUENCE, 0x80],
            vec![SEQUENCE, 0x84, 0, 0, 0, 0],
            vec![SEQUENCE, 0x83, 0xff, 0xff, 0xff],
        ];
        for file in cases {
            let error = SnpCollateral::from_der(&file).unwrap_err();
            assert!(error.to_string().contains("revocation list"), "{file:?}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_whole_or_refused(file in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = SnpCollateral::from_der(&file) {
                let parts = [Some(read.revocations), read.endorsement, read.intermediate, read.root];
                prop_assert_eq!(parts.into_iter().flatten().flatten().collect::<Vec<_>>(), file);
            }
        }
    }
}
