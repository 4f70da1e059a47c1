//! What the register's chain says is found, survives a restart, and is taken back after a reorganisation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::{Address, B256};
use cryptlet_register::{
    Current, Cursor, Index, Known, PackageStore, PolicySet, Register, RegisterError, Replica,
    Synced,
};
use cryptlet_types::register::{Board, CryptletRecord, HostRecord, PolicyRecord, RegisterChange};
use proptest::prelude::*;
use std::{fs, path::Path, sync::Arc};
use support::*;

async fn open(folder: &Path) -> Index {
    Index::open(&folder.join("index.db")).await.unwrap()
}

async fn filled(folder: &Path) -> Index {
    let index = open(folder).await;
    let changes = registration("gold", 1);
    index.apply(cursor(10), &changes, 1_000).await.unwrap();
    index
}

async fn names(index: &Index, query: &str) -> Vec<String> {
    let found = index.search(query, 100, None).await.unwrap();
    found.into_iter().map(|known| known.record.name).collect()
}

fn board(threshold: u64) -> RegisterChange {
    let members = vec![Address::repeat_byte(1)];
    RegisterChange::AdministratorsSet {
        board: Board {
            members,
            threshold,
            term: 1,
        },
    }
}

fn policy(epoch: u64) -> RegisterChange {
    let digest = digest(u8::try_from(epoch).unwrap());
    let uri = String::new();
    RegisterChange::PolicySet {
        policy: PolicyRecord { epoch, digest, uri },
    }
}

fn host(byte: u8, url: &str) -> HostRecord {
    HostRecord {
        host: Address::repeat_byte(byte),
        url: url.into(),
        authority: digest(byte),
    }
}

#[tokio::test]
async fn a_registered_cryptlet_is_found_by_name_and_by_id_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let known = index.by_name("gold").await.unwrap().unwrap();
    assert_eq!(known.record.owner, publisher());
    assert_eq!(known.record.current().unwrap().package, digest(1));
    assert!(known.record.admits(Address::repeat_byte(1), 1, 10_000));
    assert_eq!(known.flaw, None);
    drop(index);

    let index = open(folder.path()).await;
    assert_eq!(index.by_id(gold()).await.unwrap(), Some(known));
    let synced = Synced {
        block: 10,
        hash: cursor(10).hash,
        at: 1_000,
    };
    assert_eq!(index.synced().await.unwrap(), Some(synced));
    for name in ["Gold", "gol", "gold ", "gold%", ""] {
        assert_eq!(index.by_name(name).await.unwrap(), None, "{name:?}");
    }
}

#[tokio::test]
async fn nobody_else_may_write_to_it_and_other_files_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let error = Index::open(&folder.path().join("index.db"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegisterError::InUse(_)) && error.is_retryable(),
        "{error}"
    );
    drop(index);
    open(folder.path()).await;

    let foreign = folder.path().join("foreign.db");
    fs::write(&foreign, "not a database at all, and long enough to have a header of a hundred bytes or so, which is what it takes").unwrap();
    assert!(Index::open(&foreign).await.is_err());
}

#[tokio::test]
async fn changes_of_later_blocks_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let owner = Address::repeat_byte(0xcd);
    let changes = [
        published(gold(), 2),
        enrolled(gold(), 2, 2, 20_000),
        RegisterChange::Transferred {
            cryptlet: gold(),
            owner,
        },
        RegisterChange::HostAssigned {
            cryptlet: gold(),
            host: Address::repeat_byte(5),
        },
        RegisterChange::HostRegistered {
            host: host(5, "https://one.example"),
        },
        RegisterChange::HostRegistered {
            host: host(4, "https://two.example"),
        },
        RegisterChange::HostRegistered {
            host: host(5, "https://moved.example"),
        },
    ];
    index.apply(cursor(11), &changes, 1_010).await.unwrap();
    let record = index.by_id(gold()).await.unwrap().unwrap().record;
    assert_eq!(record.owner, owner);
    assert_eq!(record.current().unwrap().number, 2);
    assert_eq!(record.hosts, [Address::repeat_byte(5)]);
    let hosts = [
        host(4, "https://two.example"),
        host(5, "https://moved.example"),
    ];
    assert_eq!(index.hosts().await.unwrap(), hosts);

    let revoked = [
        RegisterChange::VersionRevoked {
            cryptlet: gold(),
            number: 2,
        },
        RegisterChange::HostRemoved {
            host: Address::repeat_byte(4),
        },
    ];
    index.apply(cursor(12), &revoked, 1_020).await.unwrap();
    let record = index.by_id(gold()).await.unwrap().unwrap().record;
    assert_eq!(record.current().unwrap().number, 1);
    assert_eq!(index.hosts().await.unwrap(), hosts[1..]);
}

#[tokio::test]
async fn a_policy_is_kept_with_the_board_that_set_it() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).await;
    assert_eq!(index.policy().await.unwrap(), None);
    assert_eq!(index.board().await.unwrap(), None);
    index
        .apply(cursor(1), &[board(1), policy(3), board(2)], 1)
        .await
        .unwrap();
    let (
        RegisterChange::PolicySet { policy: record },
        RegisterChange::AdministratorsSet { board: by },
    ) = (policy(3), board(1))
    else {
        panic!()
    };
    assert_eq!(
        index.policy().await.unwrap(),
        Some(PolicySet { record, board: by })
    );
    assert_eq!(index.board().await.unwrap().unwrap().threshold, 2);
    for epoch in [3, 2] {
        let error = index
            .apply(cursor(2), &[policy(epoch)], 2)
            .await
            .unwrap_err();
        assert!(matches!(error, RegisterError::Foreign(_)), "{error}");
    }
}

#[tokio::test]
async fn blocks_follow_each_other_and_a_block_is_taken_whole_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let other = Cursor {
        hash: B256::repeat_byte(9),
        ..cursor(10)
    };
    for behind in [cursor(9), other] {
        let error = index.apply(behind, &[], 2_000).await.unwrap_err();
        assert!(
            matches!(error, RegisterError::NotNext { last: 10, .. }),
            "{error}"
        );
    }
    let again = index.apply(cursor(10), &[board(1)], 2_000).await;
    assert!(
        matches!(again, Err(RegisterError::NotNext { .. })),
        "once is enough"
    );
    index.apply(cursor(10), &[], 2_000).await.unwrap();
    assert_eq!(
        index.synced().await.unwrap().unwrap().at,
        2_000,
        "still the head"
    );

    let impossible = [
        (
            vec![published(id(publisher(), "silver"), 1)],
            "before it was registered",
        ),
        (vec![registered("gold")], "registered twice"),
        (vec![published(gold(), 7)], "follows 1"),
        (
            vec![RegisterChange::HostRemoved {
                host: Address::ZERO,
            }],
            "never registered",
        ),
        (
            vec![RegisterChange::Transferred {
                cryptlet: id(publisher(), "silver"),
                owner: publisher(),
            }],
            "was not registered",
        ),
    ];
    for (bad, words) in impossible {
        let mut changes = registration("tin", 7);
        changes.extend(bad);
        let error = index.apply(cursor(11), &changes, 3_000).await.unwrap_err();
        assert!(matches!(error, RegisterError::Foreign(_)) && !error.is_retryable());
        assert!(error.to_string().contains("not our register"), "{error}");
        assert!(
            error.to_string().contains(words),
            "{error} does not say {words}"
        );
        assert_eq!(index.by_name("tin").await.unwrap(), None);
        assert_eq!(index.synced().await.unwrap().unwrap().block, 10);
    }
    index
        .apply(cursor(11), &registration("tin", 7), 3_000)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hostile_register_cannot_make_look_alikes() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let elsewhere = RegisterChange::Registered {
        cryptlet: id(Address::ZERO, "silver"),
        publisher: publisher(),
        name: "silver".into(),
    };
    let cases = [
        (registered("g0ld"), "looks like gold"),
        (registered("go-ld"), "looks like gold"),
        (registered("GOLD"), "a-z"),
        (registered("g\u{43e}ld"), "a-z"),
        (registered("gold\u{1b}[2K"), "a-z"),
        (registered(&"a".repeat(65)), "a-z"),
        (registered(&"b".repeat(20_000)), "a-z"),
        (registered("-gold"), "hyphen"),
        (elsewhere, "id is not"),
    ];
    for (number, (change, words)) in (11..).zip(cases) {
        index
            .apply(cursor(number), std::slice::from_ref(&change), 1_000)
            .await
            .unwrap();
        let RegisterChange::Registered { cryptlet, name, .. } = change else {
            panic!()
        };
        let known = index.by_id(cryptlet).await.unwrap().unwrap();
        assert!(known.flaw.as_ref().unwrap().contains(words), "{known:?}");
        assert!(!known.record.name.chars().any(char::is_control));
        assert!(known.record.name.len() <= 1024);
        let by_name = index.by_name(&name).await.unwrap();
        assert!(by_name.is_none_or(|known| known.record.cryptlet == gold()));
    }
    assert_eq!(names(&index, "").await, ["gold"]);
    assert_eq!(names(&index, "old").await, ["gold"]);
    // It is still a cryptlet: contracts name it by its id.
    let fake = id(publisher(), "g0ld");
    index
        .apply(cursor(30), &[published(fake, 1)], 1_000)
        .await
        .unwrap();
    let known = index.by_id(fake).await.unwrap().unwrap();
    assert!(known.record.current().is_some() && known.flaw.is_some());
    assert_eq!(names(&index, "g0ld").await, Vec::<String>::new());
}

#[tokio::test]
async fn searching_ranks_the_name_before_its_beginning_before_its_middle_before_other_words() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).await;
    let all = [
        "gold-price",
        "price",
        "price-feed",
        "best-price",
        "silver",
        "ab",
        "xaby",
        "price-2",
    ];
    for (number, name) in (1..).zip(all) {
        let mut changes = registration(name, u8::try_from(number).unwrap());
        if let RegisterChange::VersionPublished { version, .. } = &mut changes[2] {
            version.manifest = digest(u8::try_from(number).unwrap());
        }
        index.apply(cursor(number), &changes, 1_000).await.unwrap();
    }
    index
        .describe(digest(5), "Price of an ounce \"fix\"\u{1b}[2K")
        .await
        .unwrap();
    let ranked = [
        "price",
        "price-2",
        "price-feed",
        "best-price",
        "gold-price",
        "silver",
    ];
    assert_eq!(names(&index, "price").await, ranked);
    assert_eq!(names(&index, "  PRICE ").await, ranked);
    assert_eq!(names(&index, "ounce price").await, ["silver"]);
    assert_eq!(names(&index, "\"fix\"").await, ["silver"]);
    assert_eq!(names(&index, "rice gold").await, ["gold-price"]);
    assert_eq!(names(&index, "ab").await, ["ab", "xaby"]);
    assert_eq!(names(&index, "price 2").await, ["price-2"]);
    assert_eq!(
        names(&index, &publisher().to_string()).await.len(),
        all.len()
    );
    for none in [
        "platinum",
        "pri ze",
        "NOT",
        "price OR silver",
        "price*",
        "name:price",
        "%",
        "\"",
    ] {
        assert_eq!(names(&index, none).await, Vec::<String>::new(), "{none:?}");
    }
    assert_eq!(
        names(&index, "a\0b").await,
        ["ab", "xaby"],
        "control characters are spaces"
    );
    let silver = index.by_name("silver").await.unwrap().unwrap();
    assert_eq!(
        silver.description.as_deref(),
        Some("Price of an ounce \"fix\" [2K")
    );

    let mut after: Option<String> = None;
    let mut pages = vec![];
    loop {
        let page = index.search("price", 2, after.as_deref()).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.record.name.clone());
        pages.extend(page.into_iter().map(|known| known.record.name));
    }
    assert_eq!(pages, ranked);
    let listed = index.list(3, Some("best-price")).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|known| known.record.name.as_str())
        .collect();
    assert_eq!(listed, ["gold-price", "price", "price-2"]);
}

#[tokio::test]
async fn a_reorganisation_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(folder.path()).await;
    let first = index.by_id(gold()).await.unwrap().unwrap();
    index
        .apply(cursor(20), &[board(1), policy(1)], 1_010)
        .await
        .unwrap();
    let later = [
        published(gold(), 2),
        enrolled(gold(), 2, 2, 20_000),
        policy(2),
        board(2),
    ];
    index.apply(cursor(21), &later, 1_020).await.unwrap();
    index
        .apply(cursor(22), &registration("tin", 7), 1_030)
        .await
        .unwrap();
    let revoked = RegisterChange::CryptletRevoked { cryptlet: gold() };
    index.apply(cursor(23), &[revoked], 1_040).await.unwrap();
    let cursors = [23, 22, 21, 20, 10].map(cursor);
    assert_eq!(index.cursors().await.unwrap(), cursors);

    let never = Cursor {
        hash: B256::ZERO,
        ..cursor(21)
    };
    for unknown in [never, cursor(15), cursor(99)] {
        let error = index.rewind(Some(unknown)).await.unwrap_err();
        assert!(matches!(error, RegisterError::UnknownCursor(_)), "{error}");
    }
    index.rewind(Some(cursor(20))).await.unwrap();
    assert_eq!(index.by_id(gold()).await.unwrap(), Some(first));
    assert_eq!(index.by_name("tin").await.unwrap(), None);
    assert_eq!(names(&index, "tin").await, Vec::<String>::new());
    assert_eq!(index.policy().await.unwrap().unwrap().record.epoch, 1);
    assert_eq!(index.board().await.unwrap().unwrap().threshold, 1);
    assert_eq!(index.synced().await.unwrap().unwrap().at, 1_010);
    // The other fork may say the same at other blocks.
    index
        .apply(cursor(24), &registration("tin", 8), 1_050)
        .await
        .unwrap();
    assert_eq!(names(&index, "tin").await, ["tin"]);

    index.rewind(None).await.unwrap();
    assert_eq!(index.synced().await.unwrap(), None);
    assert_eq!(index.by_id(gold()).await.unwrap(), None);
    assert_eq!(index.policy().await.unwrap(), None);
    index
        .apply(cursor(5), &registration("gold", 1), 900)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_learns_what_runs_how_old_that_is_and_why_nothing_does() {
    let folder = tempfile::tempdir().unwrap();
    let index = Arc::new(open(folder.path()).await);
    let packages = PackageStore::open(&folder.path().join("packages"), ROOM).unwrap();
    let replica = Replica::new(index.clone(), packages);
    let register: &dyn Register = &replica;
    assert_eq!(register.current(gold()).await.unwrap(), Current::Unknown);

    let files = files(b"code", None);
    let package = replica.put(files.clone()).await.unwrap();
    assert_eq!(register.package(package).await.unwrap(), files.package);
    assert_eq!(register.files(package).await.unwrap(), files);
    assert_eq!(
        register.current(gold()).await.unwrap(),
        Current::Unknown,
        "the chain says what runs"
    );

    let mut changes = registration("gold", 1);
    let opened = cryptlet_seal::package::open_files(&files).unwrap();
    if let RegisterChange::VersionPublished { version, .. } = &mut changes[2] {
        version.package = package;
        version.manifest = opened.manifest_digest;
    }
    index.apply(cursor(10), &changes, 1_000).await.unwrap();
    let Current::Runs(entry) = register.current(gold()).await.unwrap() else {
        panic!()
    };
    assert_eq!(entry.version.package, package);
    let synced = register.synced().await.unwrap().unwrap();
    assert_eq!((synced.block, synced.at), (10, 1_000));
    let found = register.search("reference rates", 10, None).await.unwrap();
    assert_eq!(found.len(), 1, "its manifest's words find it");
    assert_eq!(
        register.by_name("gold").await.unwrap(),
        Some(found[0].clone())
    );

    let revoked = RegisterChange::VersionRevoked {
        cryptlet: gold(),
        number: 1,
    };
    index.apply(cursor(11), &[revoked], 1_000).await.unwrap();
    assert_eq!(register.current(gold()).await.unwrap(), Current::NoVersion);
    let revoked = RegisterChange::CryptletRevoked { cryptlet: gold() };
    index.apply(cursor(12), &[revoked], 1_000).await.unwrap();
    assert_eq!(register.current(gold()).await.unwrap(), Current::Revoked);
}

/// Changes that a register of ours could log, made from numbers.
fn possible(known: &[CryptletRecord], step: (u8, u8)) -> Vec<RegisterChange> {
    let (kind, which) = step;
    let Some(record) = known.get(usize::from(which) % known.len().max(1)) else {
        return registration("name-0", 1);
    };
    let cryptlet = record.cryptlet;
    let versions = u32::try_from(record.versions.len()).unwrap();
    match kind % 6 {
        0 => registration(&format!("name-{}", "x".repeat(known.len())), which),
        1 => vec![published(cryptlet, versions + 1)],
        2 => vec![RegisterChange::VersionRevoked {
            cryptlet,
            number: 1 + u32::from(which) % versions,
        }],
        3 => vec![RegisterChange::Transferred {
            cryptlet,
            owner: Address::repeat_byte(which),
        }],
        4 => vec![enrolled(
            cryptlet,
            200 + which % 50,
            versions,
            u64::from(which),
        )],
        _ => vec![RegisterChange::CryptletRevoked { cryptlet }],
    }
}

async fn everything(index: &Index) -> Vec<Known> {
    index.list(100, None).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever happened after a block, going back to it gives what was there.
    #[test]
    fn rewinding_gives_what_was_there(steps in proptest::collection::vec(any::<(u8, u8)>(), 1..14), back in 0usize..14) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let index = open(folder.path()).await;
            let mut states = vec![];
            for (number, step) in (1..).zip(&steps) {
                let records: Vec<_> = everything(&index).await.into_iter().map(|known| known.record).collect();
                let changes = possible(&records, *step);
                // What is impossible for this record is refused as a whole.
                let _ = index.apply(cursor(number), &changes, number).await;
                index.apply(cursor(number), &[], number).await.unwrap();
                states.push((number, everything(&index).await));
            }
            let (number, state) = states[back % states.len()].clone();
            index.rewind(Some(cursor(number))).await.unwrap();
            assert_eq!(everything(&index).await, state);
        });
    }
}
