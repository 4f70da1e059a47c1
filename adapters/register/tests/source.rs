//! Source is packed the same way each time, and hostile archives are refused before anything is written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use cryptlet_register::{
    RegisterError,
    source::{MAX_DEPTH, MAX_ENTRIES, MAX_FILE_BYTES, MAX_UNPACKED_BYTES, inspect, pack, unpack},
};
use cryptlet_seal::package::MAX_SOURCE_BYTES;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};
use tar::{Builder, EntryType, Header};

fn tree(folder: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// A header whose path is exactly these bytes, whatever they are.
fn header(path: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_mode(0o777);
    header.set_size(size);
    header.set_cksum();
    header
}

fn archive(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, kind, content) in entries {
        tar.append(&header(path, *kind, content.len() as u64), *content)
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn refused(packed: &[u8], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let error = unpack(packed, &target).unwrap_err();
    assert!(matches!(error, RegisterError::Source { .. }), "{error}");
    assert!(
        error.to_string().contains(words),
        "{error} does not say {words:?}"
    );
    assert!(
        !error.to_string().chars().any(char::is_control),
        "{error:?}"
    );
    assert!(!target.exists(), "nothing is written of it");
}

#[test]
fn what_is_packed_is_unpacked_and_the_same_files_give_the_same_bytes() {
    let [one, two, out] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let files = [
        ("src/lib.rs", "fn main() {}"),
        ("Cargo.toml", "[package]"),
        ("src/a/b.rs", ""),
        ("\u{e9}.md", "x"),
    ];
    tree(one.path(), &files);
    let mut backwards = files;
    backwards.reverse();
    tree(two.path(), &backwards);
    let packed = pack(one.path()).unwrap();
    assert_eq!(packed, pack(two.path()).unwrap());
    assert_eq!(packed.skipped, Vec::<String>::new());

    let target = out.path().join("new");
    let unpacked = unpack(&packed.bytes, &target).unwrap();
    let paths: Vec<_> = unpacked.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        ["Cargo.toml", "src/a/b.rs", "src/lib.rs", "\u{e9}.md"]
    );
    for (path, content) in files {
        assert_eq!(fs::read_to_string(target.join(path)).unwrap(), content);
    }
    assert_eq!(pack(&target).unwrap(), packed);
}

#[test]
fn build_output_version_control_links_and_large_files_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    tree(
        folder.path(),
        &[
            ("lib.rs", "x"),
            ("target/a", "x"),
            (".git/HEAD", "x"),
            (".cryptlet/connection.json", "a token"),
            ("secret-code/0a.key", "a key"),
            ("inner/target/b", "x"),
            ("secret", "x"),
        ],
    );
    symlink(folder.path().join("secret"), folder.path().join("link")).unwrap();
    symlink("/etc", folder.path().join("etc")).unwrap();
    let large = fs::File::create(folder.path().join("large.bin")).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    let packed = pack(folder.path()).unwrap();
    let paths: Vec<_> = inspect(&packed.bytes)
        .unwrap()
        .into_iter()
        .map(|file| file.path)
        .collect();
    assert_eq!(paths, ["lib.rs", "secret"]);
    assert_eq!(
        packed.skipped,
        [
            ".cryptlet",
            ".git",
            "etc",
            "inner/target",
            "large.bin",
            "link",
            "secret-code",
            "target"
        ]
    );
}

#[test]
fn names_that_are_not_plain_are_not_packed() {
    for name in [b"a\xff".as_slice(), b"a\nb", b"a\\b"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        assert!(matches!(
            pack(folder.path()),
            Err(RegisterError::Source { .. })
        ));
    }
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    let file = EntryType::Regular;
    let cases: [(&[u8], &str); 12] = [
        (b"../evil", "\"..\""),
        (b"a/../../evil", "\"..\""),
        (b"a/..", "\"..\""),
        (b"./a", "\".\""),
        (b"/etc/passwd", "absolute"),
        (b"//a", "absolute"),
        (b"a//b", "empty part"),
        (b"a/", "empty part"),
        (b"", "1 to 255 bytes"),
        (b"..\\evil", "backslashes"),
        (b"a\x1b[2K", "control"),
        (b"a\xff", "not UTF-8"),
    ];
    for (path, words) in cases {
        refused(
            &gzip(&archive(&[(b"good", file, b"x"), (path, file, b"x")])),
            words,
        );
    }
    refused(
        &gzip(&archive(&[(b"../evil/", EntryType::Directory, b"")])),
        "\"..\"",
    );
}

#[test]
fn links_devices_and_extension_headers_are_refused() {
    let mut link = header(b"link", EntryType::Symlink, 0);
    link.set_link_name("/etc/passwd").unwrap();
    link.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&link, &[][..]).unwrap();
    refused(&gzip(&tar.into_inner().unwrap()), "a link");
    for (kind, words) in [
        (EntryType::Link, "a link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a device"),
        (EntryType::Continuous, "extension"),
        (EntryType::GNULongName, "extension"),
        (EntryType::GNULongLink, "extension"),
        (EntryType::GNUSparse, "extension"),
        (EntryType::XHeader, "extension"),
        (EntryType::XGlobalHeader, "extension"),
        (EntryType::new(b'V'), "extension"),
    ] {
        refused(&gzip(&archive(&[(b"a", kind, b"")])), words);
    }
    refused(
        &gzip(&archive(&[(b"a/", EntryType::Directory, b"x")])),
        "folder with content",
    );
    let mut gnu = Header::new_gnu();
    gnu.set_path("a").unwrap();
    gnu.set_size(0);
    gnu.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&gnu, &[][..]).unwrap();
    refused(&gzip(&tar.into_inner().unwrap()), "ustar");
}

#[test]
fn nothing_is_there_twice() {
    let (file, folder) = (EntryType::Regular, EntryType::Directory);
    type Entries<'e> = &'e [(&'e [u8], EntryType, &'e [u8])];
    let cases: [Entries<'_>; 5] = [
        &[(b"a", file, b"x"), (b"a", file, b"y")],
        &[(b"a/", folder, b""), (b"a", folder, b"")],
        &[(b"a", file, b"x"), (b"a/", folder, b"")],
        &[(b"a/", folder, b""), (b"a", file, b"x")],
        &[(b"a/b", file, b"x"), (b"a", file, b"x")],
    ];
    for entries in cases {
        refused(&gzip(&archive(entries)), "twice");
    }
    refused(
        &gzip(&archive(&[(b"a", file, b"x"), (b"a/b", file, b"x")])),
        "is a file",
    );
    let good = archive(&[
        (b"a/b", file, b"x"),
        (b"a/", folder, b""),
        (b"c/", folder, b""),
    ]);
    assert_eq!(inspect(&gzip(&good)).unwrap().len(), 1);
}

#[test]
fn bombs_are_refused_before_they_unpack() {
    let zeros = vec![0; 40 << 20];
    let by_ratio = gzip(&archive(&[(b"bomb", EntryType::Regular, &zeros)]));
    assert!(by_ratio.len() < 100_000);
    refused(&by_ratio, "unpacks to more than");

    // Noise that packs badly at first, so that the ratio alone would let it pass.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    let total = vec![0; usize::try_from(MAX_UNPACKED_BYTES).unwrap()];
    let by_total = gzip(&archive(&[
        (b"noise", EntryType::Regular, &noise),
        (b"bomb", EntryType::Regular, &total),
    ]));
    refused(&by_total, "unpacks to more than 67108864 bytes");

    let names: Vec<_> = (0..=MAX_ENTRIES).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (name.as_bytes(), EntryType::Regular, b"".as_slice()))
        .collect();
    refused(&gzip(&archive(&many)), "more than 10000 files and folders");
    assert_eq!(
        inspect(&gzip(&archive(&many[1..]))).unwrap().len(),
        MAX_ENTRIES
    );

    refused(&vec![0; MAX_SOURCE_BYTES + 1], "16777216 bytes packed");
    // An entry that says it is larger than anything.
    let mut lying = header(b"a", EntryType::Regular, 0);
    lying.set_size(u64::MAX);
    lying.set_cksum();
    refused(&gzip(lying.as_bytes()), "");
}

/// Folders that only paths name are made, too: few bytes would be a million of them.
#[test]
fn paths_are_not_deep_and_their_folders_count() {
    let deep = |count: usize| ["a"].repeat(count).join("/");
    let at = |path: &str| gzip(&archive(&[(path.as_bytes(), EntryType::Regular, b"x")]));
    assert_eq!(inspect(&at(&deep(MAX_DEPTH))).unwrap().len(), 1);
    refused(&at(&deep(MAX_DEPTH + 1)), "more than 32 names");
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &[(&deep(MAX_DEPTH + 1), "x")]);
    let error = pack(folder.path()).unwrap_err();
    assert!(error.to_string().contains("more than 32 names"), "{error}");

    // Each file has 31 folders of its own.
    let below = deep(MAX_DEPTH - 1);
    let names: Vec<_> = (0..=MAX_ENTRIES / MAX_DEPTH)
        .map(|n| format!("{n}/{below}"))
        .collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (name.as_bytes(), EntryType::Regular, b"".as_slice()))
        .collect();
    refused(&gzip(&archive(&many)), "more than 10000 files and folders");
    inspect(&gzip(&archive(&many[1..]))).unwrap();
}

#[test]
fn nothing_hides_behind_the_archive_and_nothing_is_missing() {
    let tar = archive(&[(b"a", EntryType::Regular, &[7; 600])]);
    let good = gzip(&tar);
    inspect(&good).unwrap();
    let second = [good.clone(), good.clone()].concat();
    refused(&second, "something follows");
    refused(&[good.clone(), b"x".to_vec()].concat(), "something follows");
    let hidden = [tar.clone(), b"hidden".to_vec()].concat();
    refused(&gzip(&hidden), "something follows");
    for length in [0, 1, 10, good.len() / 2, good.len() - 1] {
        refused(&good[..length], "");
    }
    let mut checksum = good.clone();
    let place = good.len() - 8;
    checksum[place] ^= 1;
    refused(&checksum, "");
    refused(&gzip(&tar[..700]), "");
    let mut damaged = tar;
    damaged[0] = b'b';
    refused(&gzip(&damaged), "checksum");
    refused(b"plain text", "");
}

#[test]
fn only_an_empty_folder_is_unpacked_into() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    tree(from.path(), &[("a", "new")]);
    let packed = pack(from.path()).unwrap().bytes;
    fs::write(to.path().join("a"), "mine").unwrap();
    let error = unpack(&packed, to.path()).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    assert_eq!(fs::read_to_string(to.path().join("a")).unwrap(), "mine");
    fs::remove_file(to.path().join("a")).unwrap();
    unpack(&packed, to.path()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_files_come_back(files in proptest::collection::btree_map("[a-z]{1,8}/[a-z.]{0,3}[a-z]{1,8}", ".{0,300}", 0..12)) {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let list: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        tree(from.path(), &list);
        let packed = pack(from.path()).unwrap();
        let unpacked: BTreeMap<_, _> = unpack(&packed.bytes, &to.path().join("new")).unwrap()
            .into_iter().map(|file| (file.path, String::from_utf8(file.content).unwrap())).collect();
        let expected: BTreeMap<_, _> = files.into_iter().filter(|(path, _)| !path.starts_with("target/")).collect();
        prop_assert_eq!(unpacked, expected);
    }

    /// Whatever an archive says, everything that is unpacked lies in the folder.
    #[test]
    fn nothing_is_written_outside(path in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'a'), any::<u8>()], 1..60), kind in any::<u8>()) {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("x/y/z");
        let packed = gzip(&archive(&[(&path, EntryType::new(kind), b"x")]));
        let written = unpack(&packed, &target).is_ok();
        let mut found = vec![];
        let mut folders = vec![outside.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        prop_assert_eq!(found.len(), usize::from(written));
        prop_assert!(found.iter().all(|path| path.starts_with(&target)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(inspect(&bytes).is_err());
        prop_assert!(inspect(&gzip(&bytes)).is_err() || bytes.iter().all(|byte| *byte == 0));
    }
}
