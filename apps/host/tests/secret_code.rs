//! Secret code through a running host: published, agreed to, run and audited, and read by nobody on the way.
use crate::support::{
    Play,
    account::{Watched, job_in, receipts, story},
    due, end_of,
    office::{Draft, Made, client, new_package, open, with_api},
    retry,
};
use alloy::hex;
use cryptlet_api::{
    Client, ClientError,
    types::{Hex, HexBytes, NewCodeAgreement, NewCodeKey, Role, SecretCodeInfo},
};
use cryptlet_audit::verify;
use cryptlet_host::{DataFolder, Host, HostConfig, Progress};
use cryptlet_seal::{CodeKey, SigningKey, sha256};
use cryptlet_types::{
    CodeAgreement, JobId,
    JobState::{Delivered, Failed, Parked},
    SecretCode, Sha256Digest,
    policy::{CodeRule, Determinism},
};
use std::{fs, path::Path};

/// The agreement of an account, as a wallet signs it.
pub(crate) fn agreement(
    key: &SigningKey,
    package: Sha256Digest,
    code: Sha256Digest,
) -> NewCodeAgreement {
    let compact = key.sign(CodeAgreement { package, code }.digest()).unwrap();
    let (mut s, odd) = (compact.vs, compact.vs[0] >> 7);
    s[0] &= 0x7f;
    let signature = [compact.r.as_slice(), s.as_slice(), &[27 + odd]].concat();
    NewCodeAgreement {
        code: code.into(),
        signature: HexBytes(signature.into()),
    }
}

/// Status and detail of a refusal.
fn refusal(answer: Result<SecretCodeInfo, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (problem.status, problem.detail),
        error => panic!("{error}"),
    }
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => fs::read(&path)
                .unwrap()
                .windows(bytes.len())
                .any(|found| found == bytes),
        }
    })
}

/// What no other component ends with.
const SECRET: &[u8] = b"nobody who was not told knows this";

/// The market watcher under a further version, with a section of its own, encrypted.
pub(crate) fn draft(key: &CodeKey, counterparties: &[SigningKey]) -> (Draft, Vec<u8>) {
    let mut draft = Draft::market_watcher("market-watcher", "0.2.0");
    let name = b"\x04note";
    let length = u8::try_from(name.len() + SECRET.len()).unwrap();
    // A custom section of a component: 0, its length, its name, and whatever it holds.
    let component = [&draft.code, &[0, length][..], name, SECRET].concat();
    draft.code = key.encrypt(&component).unwrap();
    draft.manifest.config.secret_code = Some(SecretCode {
        counterparties: counterparties.iter().map(SigningKey::address).collect(),
    });
    (draft, component)
}

/// A host of a market, and a version of its cryptlet whose code is secret.
struct Scene {
    play: Play,
    watched: Watched,
    config: HostConfig,
    host: Host,
    publisher: Client,
    key: CodeKey,
    made: Made,
    component: Vec<u8>,
}

impl Scene {
    async fn begin() -> Self {
        let play = Play::market(retry(1)).await;
        let watched = play.price_consumer(&["USD"]).await;
        let config = with_api(play.config());
        let host = open(&config).await;
        play.in_force(&host, 1).await;
        let publisher = client(&host, &config, Role::Publisher);
        let key = CodeKey::generate().unwrap();
        let (draft, component) = draft(&key, &PARTIES.map(party));
        let made = play.publish(&publisher, &draft, u64::MAX).await;
        play.synced(&host).await;
        Self {
            play,
            watched,
            config,
            host,
            publisher,
            key,
            made,
            component,
        }
    }

    fn id(&self) -> Hex<32> {
        self.made.package().into()
    }

    async fn give(&self, key: &[u8; 32]) -> Result<SecretCodeInfo, ClientError> {
        let key = NewCodeKey {
            key: Hex((*key).into()),
        };
        self.publisher.set_code_key(self.id(), &key).await
    }

    async fn agree(&self, number: u8, code: Sha256Digest) -> Result<SecretCodeInfo, ClientError> {
        let agreement = agreement(&party(number), self.made.package(), code);
        let reader = client(&self.host, &self.config, Role::Reader);
        reader.add_code_agreement(self.id(), &agreement).await
    }

    /// Why what was due on that day is parked, and its job.
    async fn parked(&self, day: u64) -> (JobId, String) {
        self.play.noon(day).await;
        let states = [Parked, Failed, Delivered];
        let job = job_in(&self.host, self.watched, due(day), &states).await;
        assert_eq!(job.state, Parked);
        let story = story(self.host.journal(), &job).await;
        (job.job.id, story.last().unwrap().1.clone().unwrap())
    }

    /// What the host says of it beside policy.
    async fn explained(&self) -> String {
        let name = "market-watcher".parse().unwrap();
        let explanation = self.publisher.explain(&name).await.unwrap();
        let mut rows = explanation.rows.into_iter();
        let row = rows.find(|row| row.aspect == "secretCode").unwrap();
        assert!(!row.overridden);
        row.result
    }

    /// The host is started again; meanwhile its operator does something.
    async fn restarted(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self {
            play,
            watched,
            config,
            mut host,
            publisher: _,
            key,
            made,
            component,
        } = self;
        host.stop().await;
        // As long as it is there, it holds its folder.
        drop(host);
        meanwhile(&DataFolder::at(&config.data).secret_code());
        let host = open(&config).await;
        play.in_force(&host, 1).await;
        play.synced(&host).await;
        Self {
            publisher: client(&host, &config, Role::Publisher),
            play,
            watched,
            config,
            host,
            key,
            made,
            component,
        }
    }
}

const PARTIES: [u8; 2] = [1, 2];

#[tokio::test]
async fn secret_code_runs_once_every_counterparty_agreed_and_its_receipts_hold() {
    let scene = Scene::begin().await;
    let code = sha256(&scene.component);
    let (first, said) = scene.parked(12).await;
    assert!(said.contains("was not given its key"), "{said}");
    assert!(scene.explained().await.contains("was not given its key"));

    let info = scene.give(scene.key.bytes()).await.unwrap();
    assert!(info.has_key && !info.ready);
    scene.give(scene.key.bytes()).await.unwrap();
    assert_eq!(refusal(scene.give(&[7; 32]).await).0, 409);
    let (second, said) = scene.parked(13).await;
    let named = party(1).address().to_string();
    assert!(
        said.contains(&named) && said.contains("has not agreed"),
        "{said}"
    );

    // What was handed in outlives the host. One agrees to something else at first.
    let scene = scene.restarted(|_| ()).await;
    for (number, to) in [(1, code), (2, sha256(b"another")), (2, code)] {
        let info = scene.agree(number, to).await.unwrap();
        assert_eq!(info.ready, (number, to) == (2, code));
        let place = usize::from(number) - 1;
        assert_eq!(info.counterparties[place].code, Some(to.into()));
    }
    let mut scene = scene.restarted(|_| ()).await;
    assert_eq!(scene.explained().await, "key and agreements are here");
    let operator = client(&scene.host, &scene.config, Role::Operator);
    for (job, day) in [(first, 12), (second, 13)] {
        operator.retry_job(job.0.into()).await.unwrap();
        job_in(&scene.host, scene.watched, due(day), &[Delivered]).await;
    }
    scene.host.stop().await;
    assert_audited(&scene).await;

    let data = DataFolder::at(&scene.config.data);
    let digits = hex::encode(scene.key.bytes());
    for clear in [scene.key.bytes().as_slice(), digits.as_bytes(), SECRET] {
        assert!(!holds(data.path(), clear), "in the clear");
    }
    let agreed = named.to_lowercase();
    assert!(holds(data.path(), agreed.as_bytes()), "what is no secret");
    assert!(scene.component.ends_with(SECRET));
}

/// An auditor knows the package by its measurement, and not what it does.
async fn assert_audited(scene: &Scene) {
    let mut roots = scene.play.roots().await;
    let trusted = roots.cryptlets.get_mut(&scene.made.cryptlet).unwrap();
    trusted.signers.push(scene.made.signer);
    trusted
        .measurements
        .push(scene.play.measurement(&scene.made.files));
    let held = receipts(scene.host.journal(), scene.watched.subject).await;
    assert_eq!(held.len(), 2);
    for stored in held {
        assert_eq!(stored.receipt.package, scene.made.package());
        let verdict = verify(&stored.receipt, &roots);
        let failures: Vec<_> = verdict.failures().collect();
        assert!(verdict.holds(), "{failures:?}");
    }
}

#[tokio::test]
async fn nobody_agrees_in_anothers_stead_to_another_package_or_in_another_form() {
    let scene = Scene::begin().await;
    let (id, package, code) = (scene.id(), scene.made.package(), sha256(&scene.component));
    let stranger = agreement(&party(3), package, code);
    let elsewhere = agreement(&party(1), code, code);
    for wrong in [stranger, elsewhere] {
        let taken = scene.publisher.add_code_agreement(id, &wrong).await;
        let (status, detail) = refusal(taken);
        assert_eq!(status, 422, "{detail}");
        assert!(detail.contains("none of the counterparties"), "{detail}");
    }
    let mut short = agreement(&party(1), package, code);
    short.signature = HexBytes(short.signature.0.slice(..64));
    let taken = scene.publisher.add_code_agreement(id, &short).await;
    assert_eq!(refusal(taken).0, 422);
    // Neither of a package that is open, nor of one that is not here.
    let open = scene.play.stage.cryptlet.package;
    for (other, words) in [(open, "is not secret"), (code, "does not have package")] {
        let (status, detail) = refusal(scene.publisher.secret_code(other.into()).await);
        assert_eq!(status, 404);
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn a_wrong_key_that_came_first_is_seen_and_gives_way_to_the_right_one() {
    let scene = Scene::begin().await;
    let code = sha256(&scene.component);
    // Whoever comes first is kept, and the other is told.
    let (one, two) = tokio::join!(scene.give(&[1; 32]), scene.give(&[2; 32]));
    assert!(one.is_ok() != two.is_ok());
    for number in PARTIES {
        assert!(!scene.agree(number, code).await.unwrap().ready);
    }
    let (job, said) = scene.parked(12).await;
    assert!(said.contains("of another component"), "{said}");
    let file = format!("{:x}.json", scene.made.package().0);
    let scene = scene
        .restarted(|folder| fs::remove_file(folder.join(file)).unwrap())
        .await;
    scene.give(scene.key.bytes()).await.unwrap();
    for number in PARTIES {
        scene.agree(number, code).await.unwrap();
    }
    let operator = client(&scene.host, &scene.config, Role::Operator);
    operator.retry_job(job.0.into()).await.unwrap();
    job_in(&scene.host, scene.watched, due(12), &[Delivered]).await;
}

pub(crate) fn party(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32]).unwrap()
}

#[tokio::test]
async fn secret_code_and_a_policy_that_demands_to_know_the_code_exclude_one_another() {
    let Scene {
        mut play,
        watched,
        host,
        publisher,
        made,
        ..
    } = Scene::begin().await;
    let mut policy = play.stage.policy.policy.clone();
    policy.epoch = 2;
    policy.code = CodeRule {
        determinism: Some(Determinism::CanonicalNan),
    };
    play.stage.enact(policy).await.unwrap();
    play.in_force(&host, 2).await;
    let again = publisher.store_package(&new_package(&made.files)).await;
    let Err(ClientError::Problem(problem)) = again else {
        panic!("taken")
    };
    assert!(
        problem.detail.contains("which is secret"),
        "{}",
        problem.detail
    );
    let mut news = host.watch();
    play.noon(12).await;
    match end_of(&mut news, watched.subject, due(12)).await.last {
        Progress::Refused { reason, .. } => {
            assert!(reason.contains("it is secret"), "{reason}");
        }
        other => panic!("not refused: {other:?}"),
    }
}
