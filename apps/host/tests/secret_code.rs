//! Secret code through a running host: published, agreed to, run and audited, and read by nobody on the way.
use crate::support::{
    Play,
    account::{job_in, receipts, story},
    due, end_of,
    office::{Draft, client, make, new_package, open, with_api},
    retry,
};
use cryptlet_api::{
    ClientError,
    types::{Hex, HexBytes, NewCodeAgreement, NewCodeKey, Role, SecretCodeInfo},
};
use cryptlet_audit::verify;
use cryptlet_host::{DataFolder, Progress};
use cryptlet_seal::{CodeKey, SigningKey, sha256};
use cryptlet_types::{
    CodeAgreement,
    JobState::{Delivered, Failed, Parked},
    SecretCode, Sha256Digest,
    policy::{CodeRule, Determinism},
};
use std::{fs, path::Path};

/// The agreement of an account, as a wallet signs it.
fn agreement(key: &SigningKey, package: Sha256Digest, code: Sha256Digest) -> NewCodeAgreement {
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
fn draft(key: &CodeKey, counterparties: &[SigningKey]) -> (Draft, Vec<u8>) {
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

#[tokio::test]
async fn secret_code_runs_once_every_counterparty_agreed_and_its_receipts_hold() {
    let play = Play::market(retry(1)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = with_api(play.config());
    let mut host = open(&config).await;
    play.in_force(&host, 1).await;
    let publisher = client(&host, &config, Role::Publisher);
    let (key, parties) = (CodeKey::generate().unwrap(), [1, 2].map(party));
    let (draft, component) = draft(&key, &parties);
    let made = play.publish(&publisher, &draft, u64::MAX).await;
    play.synced(&host).await;
    let (package, code) = (made.package(), sha256(&component));
    let id: Hex<32> = package.into();

    let parked = |day| {
        let (play, host) = (&play, &host);
        async move {
            play.noon(day).await;
            let job = job_in(host, watched, due(day), &[Parked, Failed, Delivered]).await;
            assert_eq!(job.state, Parked);
            let story = story(host.journal(), &job).await;
            (job.job.id, story.last().unwrap().1.clone().unwrap())
        }
    };
    let (job, said) = parked(12).await;
    assert!(said.contains("was not given its key"), "{said}");

    let new = NewCodeKey {
        key: Hex((*key.bytes()).into()),
    };
    let info = publisher.set_code_key(id, &new).await.unwrap();
    assert!(info.has_key && !info.ready);
    publisher.set_code_key(id, &new).await.unwrap();
    let other = NewCodeKey {
        key: Hex([7; 32].into()),
    };
    assert_eq!(refusal(publisher.set_code_key(id, &other).await).0, 409);
    let (_, said) = parked(13).await;
    let named = parties[0].address().to_string();
    assert!(
        said.contains(&named) && said.contains("has not agreed"),
        "{said}"
    );

    // Nobody else agrees in their stead, nor to another package, nor in another form.
    let stranger = agreement(&party(3), package, code);
    let elsewhere = agreement(&parties[0], code, code);
    for wrong in [stranger, elsewhere] {
        let (status, detail) = refusal(publisher.add_code_agreement(id, &wrong).await);
        assert_eq!(status, 422, "{detail}");
        assert!(detail.contains("none of the counterparties"), "{detail}");
    }
    let mut short = agreement(&parties[0], package, code);
    short.signature = HexBytes(short.signature.0.slice(..64));
    assert_eq!(
        refusal(publisher.add_code_agreement(id, &short).await).0,
        422
    );
    // One agrees to something else at first.
    for (party, to) in [(0, code), (1, sha256(b"another")), (1, code)] {
        let info = publisher
            .add_code_agreement(id, &agreement(&parties[party], package, to))
            .await
            .unwrap();
        assert_eq!(info.ready, (party, to) == (1, code));
        assert_eq!(info.counterparties[party].code, Some(to.into()));
    }

    let operator = client(&host, &config, Role::Operator);
    operator.retry_job(job.0.into()).await.unwrap();
    job_in(&host, watched, due(12), &[Delivered]).await;
    host.stop().await;
    let held = receipts(host.journal(), watched.subject).await;
    let [stored] = held.as_slice() else {
        panic!("{} receipts", held.len())
    };
    assert_eq!(stored.receipt.package, package);
    // An auditor knows the package by its measurement, and not what it does.
    let mut roots = play.roots().await;
    let trusted = roots.cryptlets.get_mut(&made.cryptlet).unwrap();
    trusted.signers.push(made.signer);
    trusted.measurements.push(play.measurement(&made.files));
    let verdict = verify(&stored.receipt, &roots);
    let failures: Vec<_> = verdict.failures().collect();
    assert!(verdict.holds(), "{failures:?}");
    let data = DataFolder::at(&config.data);
    assert!(!holds(data.path(), key.bytes()), "the key in the clear");
    assert!(component.ends_with(SECRET));
    assert!(!holds(data.path(), SECRET), "the code in the clear");
}

fn party(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32]).unwrap()
}

#[tokio::test]
async fn secret_code_and_a_policy_that_demands_to_know_the_code_exclude_one_another() {
    let mut play = Play::market(retry(1)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = with_api(play.config());
    let host = open(&config).await;
    play.in_force(&host, 1).await;
    let publisher = client(&host, &config, Role::Publisher);
    let key = CodeKey::generate().unwrap();
    let (draft, _) = draft(&key, &[party(1)]);
    play.publish(&publisher, &draft, u64::MAX).await;
    let mut policy = play.stage.policy.policy.clone();
    policy.epoch = 2;
    policy.code = CodeRule {
        determinism: Some(Determinism::CanonicalNan),
    };
    play.stage.enact(policy).await.unwrap();
    play.in_force(&host, 2).await;
    let again = make(&play, &publisher, &draft).await;
    let again = publisher.store_package(&new_package(&again.files)).await;
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
