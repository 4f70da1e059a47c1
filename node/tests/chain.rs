//! The chain as an alloy client sees it: deploying, calling, logs, receipts, roots, proofs.

use crate::support::{Probe, address, deploy, http, next, raw, refused, start, ws};
use alloy::{
    consensus::{Header, ReceiptEnvelope, TxEnvelope, proofs},
    eips::{BlockId, BlockNumberOrTag, Encodable2718},
    network::{TransactionBuilder, TransactionResponse},
    primitives::{Address, B256, Bloom, Bytes, Signature, TxKind, U256, b256, keccak256},
    providers::Provider,
    rpc::types::{Filter, TransactionRequest},
};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use cryptlet_node::NodeConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_contract_is_deployed_called_and_read() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    assert_eq!(provider.get_chain_id().await.unwrap(), 31337);
    assert_eq!(provider.get_accounts().await.unwrap()[0], address(&node, 0));
    let probe = deploy(&provider).await;
    let receipt = probe
        .set(U256::from(7))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.block_number, Some(2));
    assert_eq!(probe.value().call().await.unwrap(), U256::from(7));
    let fields = probe.blockFields().call().await.unwrap();
    assert_eq!(fields.number, U256::from(2));
    assert_eq!(fields.chain, U256::from(31337));
    let first = provider
        .get_block_by_number(1.into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fields.parent, first.header.hash);
    // The past is still there.
    assert_eq!(
        probe
            .value()
            .block(BlockId::number(1))
            .call()
            .await
            .unwrap(),
        U256::ZERO
    );
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_creation_receipt_names_the_contract_and_its_price() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let request = TransactionRequest::default().with_deploy_code(Probe::BYTECODE.clone());
    let receipt = provider
        .send_transaction(request)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert_eq!(receipt.contract_address, Some(address(&node, 0).create(0)));
    assert!(receipt.effective_gas_price > 0);
    let shown: Value = raw(
        &provider,
        "eth_getTransactionReceipt",
        [receipt.transaction_hash],
    )
    .await;
    let block = provider
        .get_block_by_number(1.into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        shown["blockTimestamp"],
        json!(format!("{:#x}", block.header.timestamp))
    );
    assert_eq!(shown["type"], json!("0x2"));
}

#[tokio::test]
async fn reverts_are_errors_in_calls_and_receipts_in_blocks() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let call = json!({"to": probe.address(), "data": probe.refuse().calldata()});
    let (code, message) = refused(&provider, "eth_call", json!([call, "latest"])).await;
    assert_eq!(
        (code, message.as_str()),
        (3, "execution reverted: not today")
    );
    let (code, message) = refused(&provider, "eth_estimateGas", json!([call])).await;
    assert_eq!(
        (code, message.as_str()),
        (3, "execution reverted: not today")
    );
    let error = probe.refuseCustom().call().await.err().unwrap();
    let refused = error
        .as_decoded_error::<Probe::Refused>()
        .expect("the custom error's data");
    assert_eq!(refused.code, U256::from(42));
    let pending = probe.refuse().gas(100_000).send().await.unwrap();
    let receipt = pending.get_receipt().await.unwrap();
    assert!(!receipt.status());
    assert!(receipt.logs().is_empty());
}

#[tokio::test]
async fn headers_commit_to_transactions_receipts_logs_and_state() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    raw::<_, ()>(&provider, "evm_setAutomine", [false]).await;
    for value in 0..5u64 {
        let call = probe.set(U256::from(value)).gas(200_000);
        let call = if value % 2 == 0 {
            call
        } else {
            call.gas_price(5_000_000_000)
        };
        let _ = call.send().await.unwrap();
    }
    let _: Value = raw(&provider, "evm_mine", ()).await;
    let block = provider
        .get_block_by_number(2.into())
        .full()
        .await
        .unwrap()
        .unwrap();
    let header: Header = block.header.inner.clone();
    assert_eq!(header.hash_slow(), block.header.hash);
    let transactions: Vec<TxEnvelope> = block
        .transactions
        .txns()
        .map(|tx| tx.inner.inner().clone())
        .collect();
    assert_eq!(transactions.len(), 5);
    assert_eq!(
        header.transactions_root,
        proofs::calculate_transaction_root(&transactions)
    );
    let receipts = provider
        .get_block_receipts(2.into())
        .await
        .unwrap()
        .unwrap();
    let consensus: Vec<ReceiptEnvelope> = receipts
        .iter()
        .map(|receipt| receipt.inner.clone().map_logs(|log| log.inner))
        .collect();
    assert_eq!(
        header.receipts_root,
        proofs::calculate_receipt_root(&consensus)
    );
    let indices: Vec<_> = receipts
        .iter()
        .flat_map(|r| r.logs().iter().map(|log| log.log_index.unwrap()))
        .collect();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert_eq!(
        header.gas_used,
        receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>()
    );
    let bloom = consensus
        .iter()
        .fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
    assert_eq!(header.logs_bloom, bloom);
    let empty_requests = b256!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(header.requests_hash, Some(empty_requests));
    let raw_transaction: Bytes = raw(
        &provider,
        "eth_getRawTransactionByHash",
        [transactions[0].tx_hash()],
    )
    .await;
    assert_eq!(raw_transaction, Bytes::from(transactions[0].encoded_2718()));
}

#[tokio::test]
async fn accounts_and_storage_are_proven_against_the_state_root() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    probe
        .set(U256::from(9))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    let fill = probe.fill(U256::ZERO, U256::from(40)).send().await.unwrap();
    fill.get_receipt().await.unwrap();
    let mapped = keccak256([U256::from(3).to_be_bytes::<32>(), U256::ONE.to_be_bytes()].concat());
    let absent = B256::repeat_byte(0xee);
    let keys = vec![B256::ZERO, mapped, absent];
    for (number, values) in [(2, [9, 0, 0]), (3, [9, 4, 0])] {
        let block = provider
            .get_block_by_number(number.into())
            .await
            .unwrap()
            .unwrap();
        let proof = provider
            .get_proof(*probe.address(), keys.clone())
            .block_id(BlockId::number(number))
            .await
            .unwrap();
        let account = TrieAccount {
            nonce: proof.nonce,
            balance: proof.balance,
            storage_root: proof.storage_hash,
            code_hash: proof.code_hash,
        };
        let path = Nibbles::unpack(keccak256(probe.address()));
        let leaf = Some(alloy_rlp::encode(account));
        verify_proof(block.header.state_root, path, leaf, &proof.account_proof).unwrap();
        for ((key, value), slot) in keys.iter().zip(values).zip(&proof.storage_proof) {
            assert_eq!(slot.value, U256::from(value));
            let leaf = (value > 0).then(|| alloy_rlp::encode(U256::from(value)));
            let path = Nibbles::unpack(keccak256(key));
            verify_proof(proof.storage_hash, path, leaf, &slot.proof).unwrap();
        }
    }
    let nobody = provider
        .get_proof(Address::repeat_byte(0x77), vec![])
        .await
        .unwrap();
    let tip = provider
        .get_block(BlockId::latest())
        .await
        .unwrap()
        .unwrap();
    let path = Nibbles::unpack(keccak256(Address::repeat_byte(0x77)));
    verify_proof(tip.header.state_root, path, None, &nobody.account_proof).unwrap();
}

#[tokio::test]
async fn logs_are_found_by_range_by_block_and_by_topic() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    for value in 1..=3u64 {
        probe
            .set(U256::from(value))
            .send()
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
    }
    let filter = Filter::new().address(*probe.address());
    let all = provider
        .get_logs(&filter.clone().from_block(0))
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].block_number, Some(2));
    let second = U256::from(2);
    let by_topic = filter.clone().from_block(0).topic2(B256::from(second));
    let found = provider.get_logs(&by_topic).await.unwrap();
    assert_eq!(found, all[1..2]);
    let by_hash = filter.clone().at_block_hash(all[2].block_hash.unwrap());
    assert_eq!(provider.get_logs(&by_hash).await.unwrap(), all[2..]);
    let other = Filter::new().address(Address::ZERO).from_block(0);
    assert!(provider.get_logs(&other).await.unwrap().is_empty());
    let unknown = json!([{"blockHash": B256::ZERO}]);
    assert_eq!(
        refused(&provider, "eth_getLogs", unknown).await.1,
        "unknown block"
    );
    let backwards = json!([{"fromBlock": "0x3", "toBlock": "0x1"}]);
    assert_eq!(refused(&provider, "eth_getLogs", backwards).await.0, -32602);
}

#[tokio::test]
async fn subscriptions_push_heads_logs_and_accepted_transactions() {
    let node = start(NodeConfig::default()).await;
    let provider = ws(&node).await;
    let probe = deploy(&provider).await;
    let mut heads = provider.subscribe_blocks().await.unwrap().into_stream();
    let filter = Filter::new().address(*probe.address());
    let mut logs = provider
        .subscribe_logs(&filter)
        .await
        .unwrap()
        .into_stream();
    let mut accepted = provider
        .subscribe_pending_transactions()
        .await
        .unwrap()
        .into_stream();
    let pending = probe.set(U256::from(5)).send().await.unwrap();
    let hash = *pending.tx_hash();
    assert_eq!(next(&mut accepted).await, hash);
    assert_eq!(next(&mut heads).await.number, 2);
    let log = next(&mut logs).await;
    assert_eq!(log.transaction_hash, Some(hash));
    assert!(!log.removed);
    // What has been announced can be fetched.
    assert!(
        provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_revert_of_the_chain_takes_logs_back() {
    let node = start(NodeConfig::default()).await;
    let provider = ws(&node).await;
    let probe = deploy(&provider).await;
    let snapshot: String = raw(&provider, "evm_snapshot", ()).await;
    let filter = Filter::new().address(*probe.address());
    let polled: String = raw(&provider, "eth_newFilter", [&filter]).await;
    let mut logs = provider
        .subscribe_logs(&filter)
        .await
        .unwrap()
        .into_stream();
    let receipt = probe
        .set(U256::from(5))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(!next(&mut logs).await.removed);
    let seen: Vec<Value> = raw(&provider, "eth_getFilterChanges", [&polled]).await;
    assert_eq!(seen.len(), 1);
    assert!(raw::<_, bool>(&provider, "evm_revert", [&snapshot]).await);
    let removed = next(&mut logs).await;
    assert!(removed.removed);
    assert_eq!(removed.transaction_hash, Some(receipt.transaction_hash));
    let seen: Vec<Value> = raw(&provider, "eth_getFilterChanges", [&polled]).await;
    assert_eq!(seen[0]["removed"], json!(true));
    assert_eq!(probe.value().call().await.unwrap(), U256::ZERO);
    assert_eq!(provider.get_block_number().await.unwrap(), 1);
    let gone = provider
        .get_transaction_receipt(receipt.transaction_hash)
        .await
        .unwrap();
    assert!(gone.is_none());
    assert!(
        !raw::<_, bool>(&provider, "evm_revert", [&snapshot]).await,
        "used twice"
    );
}

#[tokio::test]
async fn access_lists_are_made_and_used() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let call = json!({"from": address(&node, 0), "to": probe.address(),
        "data": probe.set(U256::from(1)).calldata()});
    let made: Value = raw(&provider, "eth_createAccessList", json!([call])).await;
    let slots = json!([{"address": probe.address(), "storageKeys": [B256::ZERO]}]);
    assert_eq!(made["accessList"], slots);
    let list = serde_json::from_value(made["accessList"].clone()).unwrap();
    let pending = probe
        .set(U256::from(1))
        .access_list(list)
        .send()
        .await
        .unwrap();
    let receipt = pending.get_receipt().await.unwrap();
    assert_eq!(made["gasUsed"], json!(format!("{:#x}", receipt.gas_used)));
}

#[tokio::test]
async fn estimates_are_enough_and_near() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let estimate = probe.emitMany(U256::from(30)).estimate_gas().await.unwrap();
    let pending = probe
        .emitMany(U256::from(30))
        .gas(estimate)
        .send()
        .await
        .unwrap();
    let receipt = pending.get_receipt().await.unwrap();
    assert!(receipt.status());
    assert!(
        estimate <= receipt.gas_used * 1_02 / 100,
        "{estimate} {}",
        receipt.gas_used
    );
    let transfer = json!([{"from": address(&node, 0), "to": address(&node, 1), "value": "0x1"}]);
    assert_eq!(
        raw::<_, String>(&provider, "eth_estimateGas", transfer).await,
        "0x5208"
    );
    let endless = json!([{"to": probe.address(), "data": probe.spin().calldata()}]);
    let (code, message) = refused(&provider, "eth_estimateGas", endless).await;
    assert_eq!(
        (code, message.as_str()),
        (-32000, "gas required exceeds allowance (16777216)")
    );
}

#[tokio::test]
async fn calls_take_state_overrides() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let call = json!({"to": probe.address(), "data": probe.value().calldata()});
    let overrides = json!({probe.address().to_string(): {"stateDiff": {B256::ZERO.to_string(): B256::repeat_byte(1)}}});
    let seen: B256 = raw(&provider, "eth_call", json!([call, "latest", overrides])).await;
    assert_eq!(seen, B256::repeat_byte(1));
    assert_eq!(probe.value().call().await.unwrap(), U256::ZERO);
}

#[tokio::test]
async fn a_set_code_transaction_delegates_the_account() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let owner = crate::support::signer(&node, 3);
    let authorization = alloy::eips::eip7702::Authorization {
        chain_id: U256::from(31337),
        address: *probe.address(),
        nonce: 0,
    };
    use alloy::signers::SignerSync;
    let signature = owner
        .sign_hash_sync(&authorization.signature_hash())
        .unwrap();
    let request = TransactionRequest {
        to: Some(TxKind::Call(owner.address())),
        authorization_list: Some(vec![authorization.into_signed(signature)]),
        gas: Some(200_000),
        input: probe.set(U256::from(3)).calldata().clone().into(),
        ..Default::default()
    };
    let receipt = provider
        .send_transaction(request)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(receipt.status());
    let own = Probe::new(owner.address(), provider.clone());
    assert_eq!(own.value().call().await.unwrap(), U256::from(3));
    let code = provider.get_code_at(owner.address()).await.unwrap();
    assert_eq!(
        code,
        Bytes::from([&[0xef, 1, 0], probe.address().as_slice()].concat())
    );
}

#[tokio::test]
async fn fees_follow_eip_1559() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    probe
        .fill(U256::ZERO, U256::from(700))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    let history = provider
        .get_fee_history(10, BlockNumberOrTag::Latest, &[0.0, 50.0, 100.0])
        .await
        .unwrap();
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas.len(), 4);
    assert!(history.gas_used_ratio[2] > 0.5);
    assert!(
        history.base_fee_per_gas[3] > history.base_fee_per_gas[2],
        "more than half full"
    );
    assert!(
        history.base_fee_per_gas[1] < history.base_fee_per_gas[0],
        "empty genesis"
    );
    let rewards = &history.reward.unwrap()[2];
    assert_eq!(rewards.len(), 3);
    assert!(rewards[0] > 0);
    let refused = refused(
        &provider,
        "eth_feeHistory",
        json!(["0x1", "latest", [50, 10]]),
    )
    .await;
    assert_eq!(refused.0, -32602);
}

#[tokio::test]
async fn blocks_are_found_by_every_tag() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    deploy(&provider).await;
    let by = |tag: &'static str| {
        let provider = provider.clone();
        async move { raw::<_, Value>(&provider, "eth_getBlockByNumber", json!([tag, false])).await }
    };
    assert_eq!(by("earliest").await["number"], json!("0x0"));
    let latest = by("latest").await;
    assert_eq!(latest["number"], json!("0x1"));
    assert_eq!(by("safe").await, latest);
    assert_eq!(by("finalized").await, latest);
    assert_eq!(by("pending").await["number"], json!("0x2"));
    assert_eq!(by("0x5").await, Value::Null);
    let hash = latest["hash"].clone();
    let transaction: Value = raw(
        &provider,
        "eth_getTransactionByBlockHashAndIndex",
        json!([hash, "0x0"]),
    )
    .await;
    assert_eq!(transaction["transactionIndex"], json!("0x0"));
    let found = provider
        .get_transaction_by_hash(transaction["hash"].as_str().unwrap().parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.from(), address(&node, 0));
    let count: String = raw(
        &provider,
        "eth_getBlockTransactionCountByHash",
        json!([hash]),
    )
    .await;
    assert_eq!(count, "0x1");
}

#[tokio::test]
async fn development_accounts_sign_messages_and_typed_data() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let owner = address(&node, 0);
    let signature: Bytes = raw(&provider, "personal_sign", json!(["0x6869", owner])).await;
    let signature = Signature::from_raw(&signature).unwrap();
    assert_eq!(signature.recover_address_from_msg("hi").unwrap(), owner);
    let data = json!({
        "types": {
            "EIP712Domain": [{"name": "name", "type": "string"}],
            "Note": [{"name": "text", "type": "string"}],
        },
        "primaryType": "Note", "domain": {"name": "test"}, "message": {"text": "hi"},
    });
    let typed: alloy::dyn_abi::TypedData = serde_json::from_value(data.clone()).unwrap();
    let signature: Bytes = raw(&provider, "eth_signTypedData_v4", json!([owner, data])).await;
    let hash = typed.eip712_signing_hash().unwrap();
    let signature = Signature::from_raw(&signature).unwrap();
    assert_eq!(
        signature.recover_address_from_prehash(&hash).unwrap(),
        owner
    );
}

#[tokio::test]
async fn web_pages_from_elsewhere_are_refused() {
    let node = start(NodeConfig::default()).await;
    let host = node.url().replace("http://", "");
    for (origin, status) in [
        ("", "200"),
        ("Origin: http://localhost:3000\r\n", "200"),
        ("Origin: https://attacker.example\r\n", "403"),
        ("Origin: http://localhost.attacker.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
    ] {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut connection = tokio::net::TcpStream::connect(&host).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{origin}: {answer}"
        );
    }
}
