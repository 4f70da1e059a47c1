//! A package's three files: two lengths of two bytes each, the image manifest, the manifest, the code. What opens is what its
//! digests name.
#![no_main]

use cryptlet_seal::{package, sha256};
use cryptlet_types::region::Package;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((lengths, files)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let [a, b, c, d] = *lengths;
    let index = usize::from(u16::from_be_bytes([a, b])).min(files.len());
    let (index, files) = files.split_at(index);
    let manifest = usize::from(u16::from_be_bytes([c, d])).min(files.len());
    let (manifest, code) = files.split_at(manifest);
    // What an image manifest says of its layers is read before there are any.
    let named = package::contents(index);
    let opened = package::open(&Package {
        index: index.to_vec().into(),
        manifest: manifest.to_vec().into(),
        code: code.to_vec().into(),
    });
    if let Ok(opened) = opened {
        assert!(named.is_ok());
        assert_eq!(opened.digest, sha256(index));
        assert_eq!(opened.manifest_digest, sha256(manifest));
    }
});
