//! The host's API over real HTTPS: publishing through it, what it refuses, what it shows, and whom it believes and is
//! believed by.
use crate::support::{
    Play,
    account::job_in,
    due,
    office::{
        Draft, client, hand_in, make, mined, new_package, open, shown, token, told, with_api,
    },
    retry,
};
use alloy::primitives::{Address, keccak256};
use cryptlet_api::{
    Client, ClientError, Connection, Credentials, JobQuery,
    types::{CryptletRef, JobStateName, NewKey, PageQuery, Role, Source},
};
use cryptlet_host::{ApiConfig, CertificateFiles, DataFolder, Host, HostConfig};
use cryptlet_register::source;
use cryptlet_seal::{package, sha256};
use cryptlet_types::{JobState::Delivered, Receipt, Sha256Digest, policy::Whom};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

const NAME: &str = "market-watcher";

struct Office {
    play: Play,
    config: HostConfig,
    host: Host,
    publisher: Client,
}

impl Office {
    async fn open() -> Self {
        let play = Play::market(retry(3)).await;
        let config = with_api(play.config());
        let host = open(&config).await;
        play.in_force(&host, 1).await;
        let publisher = client(&host, &config, Role::Publisher);
        Self {
            play,
            config,
            host,
            publisher,
        }
    }

    fn client(&self, role: Role) -> Client {
        client(&self.host, &self.config, role)
    }
}

fn name(text: &str) -> CryptletRef {
    text.parse().unwrap()
}

/// Status and detail of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (problem.status, problem.detail),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_is_published_is_found_within_two_seconds_of_its_block() {
    let office = Office::open().await;
    let (play, publisher) = (&office.play, &office.publisher);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lib.rs"), "//! The whole of it.\n").unwrap();
    let mut slowest = Duration::ZERO;
    for number in 0..5 {
        let mut draft = Draft::market_watcher(&format!("watcher-{number}"), "0.1.0");
        draft.manifest.config.description = "Watches porcupines".into();
        draft.source = Some(source::pack(folder.path()).unwrap().bytes.to_vec());
        let made = play.register_as(publisher, &draft).await;
        let mined = Instant::now();
        let query = format!("watcher-{number}").parse().unwrap();
        crate::support::eventually("it is found", || async {
            let found = publisher
                .cryptlets(Some(&query), &PageQuery::default())
                .await;
            let found = found.unwrap().items;
            found
                .iter()
                .any(|row| row.cryptlet == made.cryptlet.into())
                .then_some(())
        })
        .await;
        slowest = slowest.max(mined.elapsed());
    }
    println!("found {slowest:?} after the block, at the latest of 5");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");

    let by_word = "porcupines".parse().unwrap();
    let found = publisher
        .cryptlets(Some(&by_word), &PageQuery::default())
        .await;
    assert_eq!(found.unwrap().items.len(), 5);
    let page = PageQuery {
        limit: Some(cryptlet_api::types::PageLimit::new(2).unwrap()),
        after: None,
    };
    let first = publisher.cryptlets(None, &page).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let rest = PageQuery {
        limit: None,
        after: Some(first.next.unwrap().parse().unwrap()),
    };
    assert_eq!(
        publisher.cryptlets(None, &rest).await.unwrap().items.len(),
        4
    );
}

#[tokio::test]
async fn header_source_and_explanation_are_those_of_the_registered_version() {
    let office = Office::open().await;
    let (play, publisher) = (&office.play, &office.publisher);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lib.rs"), "//! The whole of it.\n").unwrap();
    let mut draft = Draft::market_watcher(NAME, "0.2.0");
    let packed = source::pack(folder.path()).unwrap().bytes.to_vec();
    draft.source = Some(packed.clone());
    draft
        .manifest
        .config
        .egress
        .push("other.example:443".into());
    draft.manifest.config.limits.fuel = u64::MAX;
    let second = play.publish(publisher, &draft, u64::MAX).await;
    let found = shown(publisher, NAME, |found| found.current == Some(2)).await;
    assert!(found.policy.allowed, "{:?}", found.policy.reasons);
    assert_eq!(found.source, Source::Revealed(sha256(&packed).0.into()));
    assert_eq!(found.interface.unwrap().contract, "MarketWatcher");

    let header = publisher.header(&name(NAME), None).await.unwrap();
    assert_eq!(sha256(&header), Sha256Digest(second.version.headerDigest));
    assert_eq!(
        publisher.source(&name(NAME), Some(2)).await.unwrap(),
        packed
    );
    let first = publisher.header(&name(NAME), Some(1)).await.unwrap();
    assert_ne!(first, header);
    let (status, detail) = refusal(publisher.source(&name(NAME), Some(1)).await);
    assert!(status == 404 && detail.contains("not revealed"), "{detail}");
    let (status, _) = refusal(publisher.header(&name(NAME), Some(3)).await);
    assert_eq!(status, 404);
    let by_id = CryptletRef::from(second.cryptlet);
    assert_eq!(publisher.cryptlet(&by_id).await.unwrap().name, NAME);
    let (status, _) = refusal(publisher.cryptlet(&name("nobody")).await);
    assert_eq!(status, 404);

    let explained = publisher.explain(&name(NAME)).await.unwrap();
    assert_eq!((explained.version, explained.epoch), (2, 1));
    let row = |word: &str| {
        let rows = explained.rows.iter();
        let mut fitting = rows.filter(|row| row.aspect.to_lowercase().contains(word));
        fitting
            .find(|row| row.overridden)
            .map(|row| row.result.clone())
    };
    assert!(
        row("fuel").is_some(),
        "policy's limit counts: {:?}",
        explained.rows
    );
    let reach = row("egress")
        .or_else(|| row("source"))
        .or_else(|| row("network"));
    let reach = reach.expect("policy overrides what it may reach");
    assert!(!reach.contains("other.example"), "{reach}");
}

/// A package in which `change` was made to one part, whose digests are right otherwise.
#[tokio::test]
async fn a_package_that_does_not_fit_is_refused_with_the_reason() {
    let office = Office::open().await;
    let (play, publisher) = (&office.play, &office.publisher);
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let good = make(play, publisher, &draft).await;
    let refused = async |files: &package::PackageFiles| {
        let answer = publisher.store_package(&new_package(files)).await;
        let (status, detail) = refusal(answer);
        assert_eq!(status, 422, "{detail}");
        detail
    };

    // Bytes that are not those of the digests.
    for part in 0..4 {
        let mut files = good.files.clone();
        let place = match part {
            0 => &mut files.package.index,
            1 => &mut files.package.manifest,
            2 => &mut files.package.code,
            _ => &mut files.header,
        };
        let mut bytes = place.to_vec();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        *place = bytes.into();
        refused(&files).await;
    }
    // A header of another name, version or key than the manifest.
    let manifest = draft.manifest.clone().with_key(good.signer).unwrap();
    let stranger = Address::repeat_byte(9);
    let headers = [
        (
            Draft::market_watcher("gold-price", "0.2.0").header(good.cryptlet, good.signer),
            "name",
        ),
        (
            Draft::market_watcher(NAME, "0.3.0").header(good.cryptlet, good.signer),
            "version",
        ),
        (draft.header(good.cryptlet, stranger), "publicKey"),
        (b"{}".to_vec(), "header"),
    ];
    for (header, word) in headers {
        let files = package::build(&manifest, &draft.code, &header, None).unwrap();
        let said = refused(&files).await.to_lowercase();
        assert!(
            said.contains(&word.to_lowercase()) || word == "header",
            "{said}"
        );
    }
    // A key that is not in the vault, or is another cryptlet's.
    let said = refused(&draft.files(good.cryptlet, stranger)).await;
    assert!(said.contains("the vault has no key"), "{said}");
    let other = make(play, publisher, &Draft::market_watcher("other", "0.1.0")).await;
    let said = refused(&draft.files(good.cryptlet, other.signer)).await;
    assert!(said.contains("the vault has no key"), "{said}");
    // Code that imports what its manifest does not declare, and code that is none.
    let mut silent = Draft::market_watcher(NAME, "0.2.0");
    silent.manifest.config.imports.clear();
    let said = refused(&silent.files(good.cryptlet, good.signer)).await;
    assert!(said.contains("http") && said.contains("import"), "{said}");
    let mut empty = Draft::market_watcher(NAME, "0.2.0");
    empty.code = b"\0asm".to_vec();
    refused(&empty.files(good.cryptlet, good.signer)).await;
    // Nothing of all this was kept, and the good one is taken.
    let keys = publisher.cryptlet(&name(NAME)).await.unwrap();
    assert_eq!(keys.versions.len(), 1);
    hand_in(publisher, &good).await;
    hand_in(publisher, &good).await;
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// An archive of one entry, as no honest tool writes it.
fn archive(path: &[u8], kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    gzip(&builder.into_inner().unwrap())
}

#[tokio::test]
async fn hostile_source_is_refused() {
    let office = Office::open().await;
    let (play, publisher) = (&office.play, &office.publisher);
    let good = make(play, publisher, &Draft::market_watcher(NAME, "0.2.0")).await;
    let file = tar::EntryType::Regular;
    let bomb = archive(b"zeros", file, &vec![0; 70 << 20]);
    assert!(bomb.len() < 1 << 20);
    let hostile = [
        bomb,
        archive(b"../evil", file, b"x"),
        archive(b"/etc/evil", file, b"x"),
        archive(b"link", tar::EntryType::Symlink, b""),
        archive(b"device", tar::EntryType::Block, b""),
        b"no archive".to_vec(),
    ];
    for source in hostile {
        let mut draft = Draft::market_watcher(NAME, "0.2.0");
        draft.source = Some(source);
        let files = draft.files(good.cryptlet, good.signer);
        let started = Instant::now();
        let (status, detail) = refusal(publisher.store_package(&new_package(&files)).await);
        assert_eq!(status, 422, "{detail}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    publisher.host().await.unwrap();
}

#[tokio::test]
async fn policy_says_whose_keys_are_made() {
    let mut play = Play::market(retry(3)).await;
    let account = play.stage.account.address();
    let mut policy = play.stage.policy.policy.clone();
    (policy.epoch, policy.publishers) = (2, Whom::Only(vec![account]));
    play.stage.enact(policy).await.unwrap();
    let config = with_api(play.config());
    let host = open(&config).await;
    play.in_force(&host, 2).await;
    let publisher = client(&host, &config, Role::Publisher);
    let key = |publisher: Address| NewKey {
        publisher: publisher.into(),
        name: "gold-price".parse().unwrap(),
    };
    let (status, detail) = refusal(publisher.create_key(&key(Address::repeat_byte(3))).await);
    assert!(status == 422 && detail.contains("`publishers`"), "{detail}");
    let made = publisher.create_key(&key(account)).await.unwrap();
    let register = play.register();
    let id = register.cryptletId(account, "gold-price".into());
    assert_eq!(Address::from(made.cryptlet), id.call().await.unwrap());
    let again = publisher.create_key(&key(account)).await.unwrap();
    assert_eq!(
        again.signer, made.signer,
        "a key that no version uses is used first"
    );
}

#[tokio::test]
async fn subscriptions_jobs_traces_and_receipts_are_the_journals() {
    let office = Office::open().await;
    let (play, host) = (&office.play, &office.host);
    let watched = play.price_consumer(&["USD"]).await;
    play.noon(12).await;
    job_in(host, watched, due(12), &[Delivered]).await;
    let reader = office.client(Role::Reader);
    let rows = reader
        .subscriptions(&PageQuery::default())
        .await
        .unwrap()
        .items;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (row.subject, row.consumer),
        (watched.subject.0.into(), watched.consumer.into())
    );
    assert_eq!(row.name.as_deref(), Some(NAME));
    assert_eq!(
        (row.next_due, row.refused.as_deref()),
        (Some(due(13)), None)
    );

    let of = |state| JobQuery {
        subject: Some(watched.subject.0.into()),
        state: Some(state),
        page: PageQuery::default(),
    };
    assert!(
        reader
            .jobs(&of(JobStateName::Failed))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let jobs = reader
        .jobs(&of(JobStateName::Delivered))
        .await
        .unwrap()
        .items;
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(job.due, due(12));
    let trace = reader.job(job.job).await.unwrap();
    let states: Vec<_> = trace.steps.iter().map(|step| step.state).collect();
    assert_eq!(states.first(), Some(&JobStateName::Routed));
    assert_eq!(states.last(), Some(&JobStateName::Delivered));
    let bytes = reader.receipt(job.job).await.unwrap();
    let receipt = Receipt::from_json(&bytes).unwrap();
    let transaction = trace.transaction.unwrap();
    assert_eq!(
        transaction.hash,
        keccak256(&receipt.inclusion.transaction).into()
    );
    assert!(transaction.callback_succeeded);
    let verdict = cryptlet_audit::verify(&receipt, &play.roots().await);
    assert!(verdict.holds());
    let (status, _) = refusal(reader.receipt(keccak256("no job").into()).await);
    assert_eq!(status, 404);

    mined(
        play.register()
            .revokeVersion(play.stage.cryptlet.cryptlet.0, 1),
    )
    .await;
    shown(&reader, NAME, |found| found.current.is_none()).await;
    let rows = reader
        .subscriptions(&PageQuery::default())
        .await
        .unwrap()
        .items;
    assert!(
        rows[0].refused.as_ref().unwrap().contains("not revoked"),
        "{rows:?}"
    );
}

#[tokio::test]
async fn each_role_reaches_as_far_as_it_says() {
    let office = Office::open().await;
    let reader = office.client(Role::Reader);
    let key = NewKey {
        publisher: office.play.stage.account.address().into(),
        name: "gold-price".parse().unwrap(),
    };
    assert_eq!(refusal(reader.create_key(&key).await).0, 403);
    office.publisher.create_key(&key).await.unwrap();
    assert_eq!(
        refusal(office.publisher.keys(&PageQuery::default()).await).0,
        403
    );
    let operator = office.client(Role::Operator);
    let keys = operator.keys(&PageQuery::default()).await.unwrap().items;
    let purposes: Vec<_> = keys.iter().map(|key| key.purpose.as_str()).collect();
    for purpose in ["host", "transmitter", "authority", "cryptlet"] {
        assert!(purposes.contains(&purpose), "{purposes:?}");
    }
    let api = office.host.api().unwrap();
    let nobody = Credentials::Token("A".repeat(43).into());
    let nobody = Client::with(&api.url, &api.authority, nobody, None).unwrap();
    assert_eq!(refusal(nobody.host().await).0, 401);
    nobody.health().await.unwrap();
    let info = reader.host().await.unwrap();
    assert_eq!(info.host, office.host.address().into());
    assert_eq!(info.authority, api.authority_digest.into());
    assert_eq!(info.policy.unwrap().epoch, 1);
    assert!(!info.register_state.stale);
}

#[tokio::test]
async fn the_hosts_own_authority_outlives_restarts_and_no_other_is_believed() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let mut host = open(&config).await;
    let kept = {
        let api = host.api().unwrap();
        (api.authority.clone(), api.authority_digest)
    };
    host.stop().await;
    drop(host);
    let host = open(&config).await;
    let api = host.api().unwrap();
    assert_eq!((api.authority.clone(), api.authority_digest), kept);
    let reader = token(&config, Role::Reader);
    let connection = Connection {
        url: api.url.clone(),
        authority: kept.0,
        token: reader.clone(),
    };
    let client = Client::new(&connection, Some(kept.1.into())).unwrap();
    told(&client, |_| true).await;

    let other = Play::market(retry(3)).await;
    let others = open(&with_api(other.config())).await;
    let false_authority = Connection {
        authority: others.api().unwrap().authority.clone(),
        ..connection.clone()
    };
    let refused = Client::new(&false_authority, Some(kept.1.into())).unwrap_err();
    assert!(
        matches!(refused, ClientError::OtherAuthority { .. }),
        "{refused}"
    );
    let unpinned = Client::new(&false_authority, None).unwrap();
    let refused = unpinned.host().await.unwrap_err();
    assert!(
        matches!(refused, ClientError::NotTheHost { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_from_elsewhere_is_shown_where_it_is_configured() {
    let play = Play::market(retry(3)).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let server = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&server, &issuer).unwrap();
    let files = CertificateFiles {
        chain: write("chain.pem", leaf.pem()),
        key: write("key.pem", server.serialize_pem()),
        authority: write("authority.pem", root.pem()),
    };
    let config = with_api(play.config());
    let api = ApiConfig {
        certificate: Some(files.clone()),
        ..config.api.clone().unwrap()
    };
    let config = HostConfig {
        api: Some(api),
        ..config
    };
    let host = open(&config).await;
    assert_eq!(host.api().unwrap().authority, root.pem());
    let reader = client(&host, &config, Role::Reader);
    told(&reader, |_| true).await;
    drop(host);

    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = crate::support::eventually("the folder is free", || async {
        match Host::open(&config).await.map(drop) {
            Err(error) if crate::support::is_held(&error) => None,
            ended => Some(ended),
        }
    });
    let said = refused.await.unwrap_err().to_string();
    assert!(said.contains("key.pem"), "{said}");
}

#[tokio::test]
async fn a_damaged_package_is_a_reason_of_its_own_rows_and_of_no_others() {
    let play = Play::market(retry(3)).await;
    play.price_consumer(&["USD"]).await;
    let config = with_api(play.config());
    // The code: what is large enough is nothing else.
    let blobs = DataFolder::at(&config.data).packages().join("blobs/sha256");
    let blobs = fs::read_dir(blobs).unwrap().map(|blob| blob.unwrap());
    let code = blobs.max_by_key(|blob| blob.metadata().unwrap().len());
    fs::write(code.unwrap().path(), "damaged").unwrap();
    let host = open(&config).await;
    let reader = client(&host, &config, Role::Reader);
    let row = crate::support::eventually("the subscription is listed", || async {
        let listed = reader.subscriptions(&PageQuery::default()).await;
        let row = listed.unwrap().items.into_iter().next()?;
        let refused = row.refused.as_ref()?;
        refused.contains("damaged").then_some(row)
    });
    assert_eq!(row.await.name.as_deref(), Some(NAME));
    let after = PageQuery {
        limit: None,
        after: Some("nowhere".parse().unwrap()),
    };
    let (status, detail) = refusal(reader.subscriptions(&after).await);
    assert!(status == 422 && detail.contains("after"), "{detail}");
}

#[tokio::test]
async fn a_host_whose_api_cannot_be_served_leaves_its_folder_to_the_next_one() {
    let play = Play::market(retry(3)).await;
    let mut config = with_api(play.config());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = config.api.as_ref().unwrap().listen;
    config.api.as_mut().unwrap().listen = taken.local_addr().unwrap();
    let refused = match Host::open(&config).await {
        Ok(_) => panic!("the place is taken"),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("api"), "{refused}");
    config.api.as_mut().unwrap().listen = free;
    open(&config).await;
}

#[tokio::test]
async fn a_key_that_no_version_uses_in_a_week_is_destroyed() {
    let office = Office::open().await;
    let ask = async |name: &str| {
        let new = NewKey {
            publisher: office.play.stage.account.address().into(),
            name: name.parse().unwrap(),
        };
        office.publisher.create_key(&new).await.unwrap().signer
    };
    let operator = office.client(Role::Operator);
    let addresses = async || {
        let page = PageQuery::default();
        let keys = operator.keys(&page).await.unwrap().items;
        let listed = keys.into_iter().filter_map(|key| {
            assert_eq!(key.public_key.0.len(), 65, "{}", key.purpose);
            key.address
        });
        listed.collect::<Vec<_>>()
    };
    let forgotten = ask("forgotten").await;
    let draft = Draft::market_watcher("published", "0.1.0");
    let published = office.play.register_as(&office.publisher, &draft).await;
    office.play.noon(20).await;
    office.play.synced(&office.host).await;
    let kept = ask("kept").await;
    let left = addresses().await;
    assert!(!left.contains(&forgotten), "it came into no use");
    assert!(left.contains(&published.signer.into()));
    assert!(left.contains(&kept));
    assert_ne!(ask("forgotten").await, forgotten);
}
