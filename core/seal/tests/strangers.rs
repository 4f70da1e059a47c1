//! Whatever a stranger hands over as a package: it is what its digests name, or it is refused.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloy_primitives::Address;
use cryptlet_seal::package::{build, contents, open};
use cryptlet_types::{Manifest, manifest::ManifestConfig, region::Package};
use proptest::prelude::*;

fn package() -> Package {
    let manifest = Manifest {
        name: "m".into(),
        public_key: Address::repeat_byte(1),
        version: "1".into(),
        config: ManifestConfig::default(),
    };
    build(&manifest, b"\0asm", b"{}", None).unwrap().package
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_package(
        index in proptest::collection::vec(any::<u8>(), 0..500),
        manifest in proptest::collection::vec(any::<u8>(), 0..500),
        code in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        prop_assert!(contents(&index).is_err());
        let [index, manifest, code] = [index, manifest, code].map(Into::into);
        let package = Package { index, manifest, code };
        prop_assert!(open(&package).is_err(), "opened");
    }

    #[test]
    fn a_package_with_an_altered_byte_is_refused_or_has_another_digest(
        file in 0..3_usize,
        at in any::<prop::sample::Index>(),
        flipped in 1..=255_u8,
    ) {
        let whole = package();
        let mut altered = whole.clone();
        let file = match file {
            0 => &mut altered.index,
            1 => &mut altered.manifest,
            _ => &mut altered.code,
        };
        let mut bytes = file.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flipped;
        *file = bytes.into();
        if let Ok(opened) = open(&altered) {
            prop_assert_ne!(opened.digest, open(&whole).unwrap().digest);
        }
    }
}
