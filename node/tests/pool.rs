//! The transaction pool as a client sees it: gaps, replacement, refusals in geth's words.

use crate::support::{address, deploy, http, raw, refused, signer, start};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEip4844, TxEnvelope, TxLegacy},
    eips::{BlockId, Encodable2718},
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::{DynProvider, Provider},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cryptlet_node::{Mining, Node, NodeConfig};
use serde_json::{Value, json};

const GWEI: u128 = 1_000_000_000;

fn transfer(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::ONE,
        ..Default::default()
    }
}

fn sign<T: SignableTransaction<alloy::primitives::Signature>>(
    signer: &PrivateKeySigner,
    transaction: T,
) -> TxEnvelope
where
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = signer
        .sign_hash_sync(&transaction.signature_hash())
        .unwrap();
    transaction.into_signed(signature).into()
}

fn encoded(signer: &PrivateKeySigner, transaction: TxEip1559) -> Bytes {
    sign(signer, transaction).encoded_2718().into()
}

async fn send(provider: &DynProvider, transaction: Bytes) -> B256 {
    raw(provider, "eth_sendRawTransaction", [transaction]).await
}

async fn refusal(provider: &DynProvider, transaction: Bytes) -> String {
    let (code, message) = refused(provider, "eth_sendRawTransaction", [transaction]).await;
    assert_eq!(code, -32000, "{message}");
    message
}

async fn manual() -> (Node, DynProvider, PrivateKeySigner) {
    let node = start(NodeConfig {
        mining: Mining::Manual,
        ..Default::default()
    })
    .await;
    let (provider, signer) = (http(&node), signer(&node, 0));
    (node, provider, signer)
}

#[tokio::test]
async fn a_nonce_gap_waits_until_it_is_filled() {
    let node = start(NodeConfig::default()).await;
    let (provider, signer) = (http(&node), signer(&node, 0));
    let later = send(&provider, encoded(&signer, transfer(1))).await;
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    let waiting = provider
        .get_transaction_by_hash(later)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(waiting.block_number, None);
    let pending = |tag| {
        let provider = provider.clone();
        async move {
            provider
                .get_transaction_count(signer_address())
                .block_id(tag)
                .await
                .unwrap()
        }
    };
    fn signer_address() -> Address {
        alloy::primitives::address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
    }
    assert_eq!(pending(BlockId::pending()).await, 0);
    send(&provider, encoded(&signer, transfer(0))).await;
    assert_eq!(pending(BlockId::pending()).await, 2);
    assert_eq!(pending(BlockId::latest()).await, 2);
    assert!(
        provider
            .get_transaction_receipt(later)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_replacement_has_to_pay_a_tenth_more_of_both_prices() {
    let (_node, provider, signer) = manual().await;
    let first = send(&provider, encoded(&signer, transfer(0))).await;
    let with = |fee_cap: u128, tip: u128| {
        let transaction = TxEip1559 {
            max_fee_per_gas: fee_cap,
            max_priority_fee_per_gas: tip,
            ..transfer(0)
        };
        encoded(&signer, transaction)
    };
    for (fee_cap, tip) in [
        (11 * GWEI, GWEI),
        (10 * GWEI, 2 * GWEI),
        (11 * GWEI - 1, 2 * GWEI),
    ] {
        let message = refusal(&provider, with(fee_cap, tip)).await;
        assert_eq!(message, "replacement transaction underpriced");
    }
    let second = send(&provider, with(11 * GWEI, 11 * GWEI / 10)).await;
    let _: Value = raw(&provider, "evm_mine", ()).await;
    assert!(
        provider
            .get_transaction_receipt(second)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        provider
            .get_transaction_by_hash(first)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn refusals_have_geths_words() {
    let (node, provider, signer) = manual().await;
    let first = encoded(&signer, transfer(0));
    send(&provider, first.clone()).await;
    assert_eq!(refusal(&provider, first).await, "already known");
    let _: Value = raw(&provider, "evm_mine", ()).await;
    let own = address(&node, 0);
    let again = TxEip1559 {
        value: U256::from(2),
        ..transfer(0)
    };
    assert_eq!(
        refusal(&provider, encoded(&signer, again)).await,
        format!("nonce too low: address {own}, tx: 0 state: 1")
    );
    let cases = [
        (
            TxEip1559 {
                gas_limit: 20_999,
                ..transfer(1)
            },
            "intrinsic gas too low",
        ),
        (
            TxEip1559 {
                value: U256::MAX,
                ..transfer(1)
            },
            "insufficient funds for gas * price + value",
        ),
        (
            TxEip1559 {
                gas_limit: 30_000_001,
                ..transfer(1)
            },
            "transaction gas limit too high",
        ),
        (
            TxEip1559 {
                chain_id: 1,
                ..transfer(1)
            },
            "invalid chain id for signer",
        ),
        (
            TxEip1559 {
                max_priority_fee_per_gas: 11 * GWEI,
                ..transfer(1)
            },
            "max priority fee per gas higher than max fee per gas",
        ),
        (
            TxEip1559 {
                to: TxKind::Create,
                gas_limit: 5_000_000,
                input: vec![0; 49_153].into(),
                ..transfer(1)
            },
            "max initcode size exceeded",
        ),
        (
            TxEip1559 {
                input: vec![0; 131_072].into(),
                ..transfer(1)
            },
            "oversized data",
        ),
        (
            TxEip1559 {
                nonce: u64::MAX,
                ..transfer(1)
            },
            "nonce has max value",
        ),
    ];
    for (transaction, words) in cases {
        let message = refusal(&provider, encoded(&signer, transaction)).await;
        assert!(
            message.starts_with(words),
            "{message} should start with {words}"
        );
    }
    let garbage = refusal(&provider, Bytes::from_static(&[0x02, 0xc0])).await;
    assert!(
        garbage.starts_with("could not decode transaction"),
        "{garbage}"
    );
}

#[tokio::test]
async fn blob_transactions_are_refused() {
    let (_node, provider, signer) = manual().await;
    let blob = TxEip4844 {
        chain_id: 31337,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_fee_per_blob_gas: 1,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        ..Default::default()
    };
    let signature = signer.sign_hash_sync(&blob.signature_hash()).unwrap();
    let signed = TxEnvelope::Eip4844(alloy::consensus::Signed::new_unhashed(
        blob.into(),
        signature,
    ));
    let message = refusal(&provider, signed.encoded_2718().into()).await;
    assert!(message.contains("EIP-4844"), "{message}");
}

#[tokio::test]
async fn a_price_below_the_base_fee_waits_only_if_blocks_come_anyway() {
    let cheap = TxEip1559 {
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        ..transfer(0)
    };
    let node = start(NodeConfig::default()).await;
    let (provider, signer) = (http(&node), signer(&node, 0));
    let message = refusal(&provider, encoded(&signer, cheap.clone())).await;
    assert!(
        message.starts_with("max fee per gas less than block base fee"),
        "{message}"
    );
    let (_node, provider, signer) = manual().await;
    let waiting = send(&provider, encoded(&signer, cheap)).await;
    let _: Value = raw(&provider, "evm_mine", ()).await;
    assert!(
        provider
            .get_transaction_receipt(waiting)
            .await
            .unwrap()
            .is_none()
    );
    // The base fee falls by an eighth with each empty block, down to 7 wei.
    let _: () = raw(&provider, "anvil_mine", ["0x100"]).await;
    let receipt = provider
        .get_transaction_receipt(waiting)
        .await
        .unwrap()
        .unwrap();
    assert!(receipt.effective_gas_price <= 10);
}

#[tokio::test]
async fn what_waits_is_bounded_and_has_to_be_covered() {
    let (node, provider, signer) = manual().await;
    for nonce in 1..=64 {
        send(&provider, encoded(&signer, transfer(nonce))).await;
    }
    let message = refusal(&provider, encoded(&signer, transfer(65))).await;
    assert!(message.starts_with("account limit exceeded"), "{message}");
    let poor = crate::support::signer(&node, 1);
    let half = U256::from(6_000u64) * U256::from(10).pow(U256::from(18));
    send(
        &provider,
        encoded(
            &poor,
            TxEip1559 {
                value: half,
                ..transfer(0)
            },
        ),
    )
    .await;
    let second = TxEip1559 {
        value: half,
        ..transfer(1)
    };
    let message = refusal(&provider, encoded(&poor, second)).await;
    assert!(message.starts_with("insufficient funds"), "{message}");
}

#[tokio::test]
async fn a_block_takes_the_highest_tips_first_and_each_sender_in_order() {
    let (node, provider, first) = manual().await;
    let second = crate::support::signer(&node, 1);
    let tip = |nonce, tip: u128| TxEip1559 {
        max_priority_fee_per_gas: tip * GWEI,
        ..transfer(nonce)
    };
    let a0 = send(&provider, encoded(&first, tip(0, 1))).await;
    let a1 = send(&provider, encoded(&first, tip(1, 9))).await;
    let b0 = send(&provider, encoded(&second, tip(0, 3))).await;
    let _: Value = raw(&provider, "evm_mine", ()).await;
    let block = provider
        .get_block_by_number(1.into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        block.transactions.hashes().collect::<Vec<_>>(),
        [b0, a0, a1]
    );
}

#[tokio::test]
async fn what_does_not_fit_a_block_comes_in_the_next() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    raw::<_, ()>(&provider, "evm_setAutomine", [false]).await;
    let mut sent = Vec::new();
    for index in 1..3 {
        let transaction = TxEip1559 {
            gas_limit: 16_000_000,
            to: TxKind::Call(*probe.address()),
            input: probe.spin().calldata().clone(),
            value: U256::ZERO,
            ..transfer(0)
        };
        let signer = crate::support::signer(&node, index);
        sent.push(send(&provider, encoded(&signer, transaction)).await);
    }
    let _: () = raw(&provider, "anvil_mine", [2]).await;
    for (hash, number) in sent.into_iter().zip([2, 3]) {
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (receipt.block_number, receipt.gas_used),
            (Some(number), 16_000_000)
        );
        assert!(!receipt.status());
    }
}

#[tokio::test]
async fn legacy_transactions_are_taken_with_and_without_a_chain_id() {
    let node = start(NodeConfig::default()).await;
    let (provider, signer) = (http(&node), signer(&node, 0));
    for (nonce, chain_id) in [(0, Some(31337)), (1, None)] {
        let transaction = TxLegacy {
            chain_id,
            nonce,
            gas_price: 5 * GWEI,
            gas_limit: 21_000,
            to: TxKind::Call(Address::ZERO),
            ..Default::default()
        };
        let hash = send(&provider, sign(&signer, transaction).encoded_2718().into()).await;
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(receipt.effective_gas_price, 5 * GWEI);
    }
}

#[tokio::test]
async fn the_pending_block_holds_what_waits() {
    let (node, provider, signer) = manual().await;
    let hash = send(&provider, encoded(&signer, transfer(0))).await;
    let block: Value = raw(&provider, "eth_getBlockByNumber", json!(["pending", false])).await;
    assert_eq!(block["transactions"], json!([hash]));
    let to = Address::repeat_byte(0xaa);
    let balance = |tag| provider.get_balance(to).block_id(tag);
    assert_eq!(balance(BlockId::pending()).await.unwrap(), U256::ONE);
    assert_eq!(balance(BlockId::latest()).await.unwrap(), U256::ZERO);
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    drop(node);
}
