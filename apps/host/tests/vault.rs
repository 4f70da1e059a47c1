//! The whole path with keys that cannot be taken out: a PKCS#11 token signs for host, transmitter, authority and cryptlet.
//!
//! `SoftHSM` finds its tokens by an environment variable, so that a test that needs one runs this program once more, for
//! itself alone, with a fresh folder of tokens.
use crate::support::{
    Play,
    account::{job_in, receipts},
    due,
    office::{Draft, client, mined, open, shown, with_api},
    retry,
};
use cryptlet_api::types::{PageQuery, Role};
use cryptlet_audit::verify;
use cryptlet_host::{HostConfig, PinConfig, VaultConfig};
use cryptlet_types::JobState::{Delivered, Failed};
use cryptlet_vault::{KeyId, PinSource, Pkcs11Config, Pkcs11Vault, Vault};
use std::{env, fs, path::Path, process::Command};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const LABEL: &str = "bletchley host";
const PIN: &str = "fedcba123456";
/// Environment variable that says that this process has a token of its own.
const TOKENS: &str = "HOST_TEST_TOKENS";
const PIN_VARIABLE: &str = "HOST_TEST_PIN";
const NAME: &str = "market-watcher";

/// Runs `body` with a token of its own; `test` is the calling test's full name.
fn alone(test: &str, body: impl AsyncFnOnce()) {
    assert!(
        Path::new(MODULE).exists(),
        "{MODULE} is missing: install the Debian package softhsm2 (apt-get install softhsm2)"
    );
    if env::var_os(TOKENS).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        return runtime.unwrap().block_on(body());
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let settings = folder.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&settings, text).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--pin", PIN])
        .args(["--so-pin", "abcdef654321"])
        .env("SOFTHSM2_CONF", &settings)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SOFTHSM2_CONF", settings)
        .env(TOKENS, &tokens)
        .env(PIN_VARIABLE, PIN)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{test}:\n{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Makes the host's keys in the token, and pays its transmitter.
async fn on_the_token(play: &Play) -> HostConfig {
    let vault = Pkcs11Vault::open(Pkcs11Config {
        module: MODULE.into(),
        token_label: LABEL.into(),
        pin: PinSource::Environment(PIN_VARIABLE.into()),
    });
    let vault = vault.unwrap();
    for key in [KeyId::Host, KeyId::Transmitter, KeyId::Authority] {
        vault.create(&key).await.unwrap();
    }
    play.fund(vault.address(&KeyId::Transmitter).await.unwrap())
        .await;
    HostConfig {
        vault: VaultConfig::Pkcs11 {
            module: MODULE.into(),
            token: LABEL.into(),
            pin: PinConfig::Variable(PIN_VARIABLE.into()),
        },
        ..with_api(play.config())
    }
}

#[test]
fn a_token_signs_for_all_and_a_cryptlet_keeps_its_name_when_its_key_is_changed() {
    let name = "vault::a_token_signs_for_all_and_a_cryptlet_keeps_its_name_when_its_key_is_changed";
    alone(name, async || {
        let play = Play::market(retry(3)).await;
        let watched = play.price_consumer(&["USD"]).await;
        let config = on_the_token(&play).await;
        let host = open(&config).await;
        play.in_force(&host, 1).await;
        let operator = client(&host, &config, Role::Operator);
        let draft = Draft::market_watcher(NAME, "0.2.0");
        let second = play.publish(&operator, &draft, u64::MAX).await;
        shown(&operator, NAME, |found| found.current == Some(2)).await;
        play.noon(12).await;
        job_in(&host, watched, due(12), &[Delivered]).await;

        // The same code under another key: the id stays.
        let draft = Draft::market_watcher(NAME, "0.2.0+key.2");
        let third = play.publish(&operator, &draft, u64::MAX).await;
        assert_eq!(third.cryptlet, second.cryptlet);
        assert_ne!(third.signer, second.signer);
        mined(play.register().revokeVersion(second.cryptlet.0, 2)).await;
        shown(&operator, NAME, |found| {
            found.versions.iter().any(|version| version.revoked)
        })
        .await;
        play.noon(13).await;
        job_in(&host, watched, due(13), &[Delivered]).await;

        let mut roots = play.roots().await;
        roots.hosts = vec![host.address()];
        let trusted = roots.cryptlets.get_mut(&second.cryptlet).unwrap();
        trusted.signers = vec![second.signer, third.signer];
        trusted.measurements = vec![
            play.measurement(&second.files),
            play.measurement(&third.files),
        ];
        let stored = receipts(host.journal(), watched.subject).await;
        let signers: Vec<_> = stored
            .iter()
            .map(|stored| {
                let verdict = verify(&stored.receipt, &roots);
                let failures: Vec<_> = verdict.failures().collect();
                assert!(verdict.holds(), "{failures:?}");
                stored.receipt.report.signer
            })
            .collect();
        assert_eq!(signers, [second.signer, third.signer]);
        let keys = operator.keys(&PageQuery::default()).await.unwrap().items;
        let current: Vec<_> = keys
            .iter()
            .filter(|key| key.purpose == "cryptlet" && key.current)
            .collect();
        assert_eq!(current.len(), 1);
        assert_eq!(current[0].address, Some(third.signer.into()));

        // Nothing is left that may sign: the token's first version is revoked, the second's turn comes.
        mined(play.register().revokeVersion(third.cryptlet.0, 3)).await;
        mined(play.register().revokeVersion(third.cryptlet.0, 1)).await;
        shown(&operator, NAME, |found| found.current.is_none()).await;
        play.noon(14).await;
        play.noon(15).await;
        let jobs = crate::support::account::jobs(host.journal(), watched.subject).await;
        assert!(
            jobs.iter()
                .all(|job| job.state == Delivered || job.state == Failed)
        );
        assert_eq!(play.consumed(watched.subject).await.len(), 2);
    });
}
