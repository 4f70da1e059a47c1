//! A register on another chain than the consumers: the host reads the register, the delegate a mirror of it.
use crate::support::{
    Play,
    account::{job_in, receipts},
    due,
    office::{client, mined, open, shown, with_api},
    retry,
};
use alloy::{
    primitives::{Address, B256},
    providers::Provider,
    rpc::types::Filter,
    sol_types::{SolEvent, SolValue},
};
use cryptlet_api::types::Role;
use cryptlet_audit::verify;
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_host::HostConfig;
use cryptlet_stage::{Mirror, PRICE_CONSUMER};
use cryptlet_types::{
    JobState::{Delivered, Failed},
    ReportDomain,
};
use cryptlet_vault::{FileVault, KeyId, Unlock, Vault};

async fn deliveries(mirror: &Mirror) -> Vec<(u64, B256)> {
    let filter = Filter::new()
        .from_block(0)
        .address(mirror.delegate)
        .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH);
    let logs = mirror.provider.get_logs(&filter).await.unwrap();
    let block = |log: &alloy::rpc::types::Log| (log.block_number.unwrap(), log.block_hash.unwrap());
    logs.iter().map(block).collect()
}

/// Address of the stage's transmitter.
async fn transmitter(play: &Play) -> Address {
    let data = cryptlet_host::DataFolder::at(&play.stage.config.data);
    let key = Unlock::KeyFile(play.folder.path().join("vault.key"));
    let vault = FileVault::open(&data.vault(), &key).unwrap();
    vault.address(&KeyId::Transmitter).await.unwrap()
}

#[tokio::test]
async fn reports_are_delivered_where_a_mirror_knows_their_signer_until_it_is_revoked() {
    let play = Play::market(retry(3)).await;
    let (stage, transmitter) = (&play.stage, transmitter(&play).await);
    let mirror = Mirror::build(stage, due(11) + 3_600, transmitter)
        .await
        .unwrap();
    assert_ne!(mirror.chain_id, stage.chain_id);
    let (cryptlet, signer) = (stage.cryptlet.cryptlet, stage.cryptlet.signer);
    mirror.copy(stage, cryptlet, &[signer]).await.unwrap();
    let arguments = (mirror.delegate, cryptlet.0, vec!["USD".to_owned()]);
    let arguments = arguments.abi_encode_params();
    let (consumer, subject) = mirror
        .deploy_consumer(PRICE_CONSUMER, &arguments)
        .await
        .unwrap();
    let watched = crate::support::account::Watched { consumer, subject };

    let mut config = with_api(HostConfig {
        rpc: mirror.url(),
        delegate: mirror.delegate,
        ..play.config()
    });
    config.register.rpc = Some(stage.url());
    let host = open(&config).await;
    let reader = client(&host, &config, Role::Reader);
    play.in_force(&host, 1).await;
    mirror.set_time(due(12)).await.unwrap();
    job_in(&host, watched, due(12), &[Delivered]).await;
    let stored = receipts(host.journal(), subject).await.remove(0);
    let domain = ReportDomain {
        chain_id: mirror.chain_id,
        delegate: mirror.delegate,
    };
    assert!(stored.success);
    assert_eq!(stored.receipt.domain, domain);
    let mut roots = play.roots().await;
    roots.domain = domain;
    roots.blocks = deliveries(&mirror).await.into_iter().collect();
    let verdict = verify(&stored.receipt, &roots);
    assert!(
        verdict.holds(),
        "{:?}",
        verdict.failures().collect::<Vec<_>>()
    );

    // The host hears of a revocation before anybody copies it.
    mined(play.register().revokeSigner(cryptlet.0, signer)).await;
    shown(&reader, "market-watcher", |found| {
        found.signers.iter().all(|known| known.revoked)
    })
    .await;
    mirror.set_time(due(13)).await.unwrap();
    let record = job_in(&host, watched, due(13), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(note.contains("no signer that is valid now"), "{note}");
    assert_eq!(deliveries(&mirror).await.len(), 1);
}

/// A host that has not heard of a revocation finds it where it delivers, once it was copied.
#[tokio::test]
async fn a_revocation_that_was_copied_counts_where_reports_are_delivered() {
    let play = Play::market(retry(3)).await;
    let (stage, transmitter) = (&play.stage, transmitter(&play).await);
    let mirror = Mirror::build(stage, due(11) + 3_600, transmitter)
        .await
        .unwrap();
    let (cryptlet, signer) = (stage.cryptlet.cryptlet, stage.cryptlet.signer);
    mirror.copy(stage, cryptlet, &[signer]).await.unwrap();
    let arguments = (mirror.delegate, cryptlet.0, vec!["USD".to_owned()]);
    let arguments = arguments.abi_encode_params();
    let (consumer, subject) = mirror
        .deploy_consumer(PRICE_CONSUMER, &arguments)
        .await
        .unwrap();
    let watched = crate::support::account::Watched { consumer, subject };

    let place = stage.url().replace("http://", "");
    let place = place.trim_end_matches('/').parse().unwrap();
    let mut gate = crate::support::gate::Gate::before(place);
    let mut config = HostConfig {
        rpc: mirror.url(),
        delegate: mirror.delegate,
        ..play.config()
    };
    config.register.rpc = Some(format!("http://{}", gate.address));
    let host = open(&config).await;
    play.in_force(&host, 1).await;
    gate.shut().await;
    mined(play.register().revokeVersion(cryptlet.0, 1)).await;
    mirror.copy(stage, cryptlet, &[signer]).await.unwrap();
    mirror.set_time(due(12)).await.unwrap();
    let record = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(
        note.contains("refused") && note.contains(&signer.to_string()),
        "{note}"
    );
    assert!(deliveries(&mirror).await.is_empty());
}
