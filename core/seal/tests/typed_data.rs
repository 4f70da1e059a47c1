//! The golden subscriptions, delegations and approvals of policy in `vectors/`. Each file must be, byte for byte, what
//! is rendered here; with `UPDATE_VECTORS=true` the files are written anew. That the contracts compute the same hashes
//! is shown where they run: in the tests of `cryptlet-deliver` and `cryptlet-watch`.

#![allow(
    clippy::unwrap_used,
    reason = "the lint allows this in test functions; helpers of tests are the same"
)]

mod goldens;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, address, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use cryptlet_seal::{SigningKey, check};
use cryptlet_types::{
    ClockSpec, CryptletId, Delegation, ReportDomain, Sha256Digest, SignedDelegation, Subject,
    Subscription, TriggerSpec, register::RegisterDomain, report::CompactSignature,
};
use goldens::golden;
use serde_json::json;

const DELEGATE: Address = address!("de1e6a7e00000000000000000000000000000001");
const REGISTER: Address = address!("4e61574e40000000000000000000000000000001");
const CRYPTLET: Address = address!("00112233445566778899aabbccddeeff00112233");
const KEY: B256 = {
    let mut secret = [0; 32];
    secret[29] = 0x0a;
    secret[30] = 0x11;
    secret[31] = 0xce;
    B256::new(secret)
};
const HERE: ReportDomain = ReportDomain {
    chain_id: 31_337,
    delegate: DELEGATE,
};

/// 65 bytes `r`, `s`, `v`, as wallets and `SignatureChecker` have them.
fn account_signature(signature: CompactSignature) -> Bytes {
    let CompactSignature { r, vs } = signature;
    let mut s = vs.0;
    let v = 27 + (s[0] >> 7);
    s[0] &= 0x7f;
    [r.as_slice(), &s, &[v]].concat().into()
}

fn subscription() -> Subscription {
    Subscription {
        subject: Subject(B256::ZERO),
        consumer: address!("c000000000000000000000000000000000000001"),
        nonce: 0,
        cryptlet: CryptletId(CRYPTLET),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([0x12, 0x34, 0x56, 0x78]),
        callback_gas: 100_000,
        validity: 86_400,
        trigger: TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * MON-FRI".into(),
            time_zone: "Europe/Berlin".into(),
        }),
        params: (true, vec!["USD".to_owned(), "GBP".to_owned()])
            .abi_encode_params()
            .into(),
        since: 1_792_000_000,
    }
}

fn check_subscription(name: &str, domain: &ReportDomain, subscription: Subscription) {
    let subscription = subscription.with_subject_in(domain);
    assert_eq!(subscription.check(domain), Ok(()));
    let encoded = subscription.to_abi().abi_encode();
    let value = json!({
        "domain": domain,
        "subscription": subscription,
        "condition": subscription.trigger.encode_condition(),
        "encodedHash": keccak256(&encoded),
        "encoded": Bytes::from(encoded),
    });
    golden("subscription", name, &value);
}

#[test]
fn subscriptions_have_the_subjects_that_their_fields_give() {
    check_subscription("clock", &HERE, subscription());
    let other_chain = ReportDomain {
        chain_id: 1,
        ..HERE
    };
    check_subscription("other-chain", &other_chain, subscription());
    let on_behalf = Subscription {
        on_behalf_of: address!("1de0000000000000000000000000000000000001"),
        nonce: 1,
        ..subscription()
    };
    check_subscription("on-behalf", &HERE, on_behalf);
    let no_params = Subscription {
        params: Bytes::new(),
        validity: 1,
        callback_gas: 20_000,
        ..subscription()
    };
    check_subscription("minimum-values", &HERE, no_params);
    let largest = Subscription {
        nonce: u64::MAX,
        callback: FixedBytes([0xff; 4]),
        callback_gas: 5_000_000,
        validity: 604_800,
        params: vec![0xff; 4096].into(),
        ..subscription()
    };
    check_subscription("maximum-values", &HERE, largest);
}

fn check_delegation(name: &str, domain: &ReportDomain, change: impl FnOnce(&mut Delegation)) {
    let key = SigningKey::from_secret(&KEY).unwrap();
    let mut delegation = Delegation {
        identity: key.address(),
        cryptlet: CryptletId(CRYPTLET),
        consumer: Address::ZERO,
        callback: FixedBytes::ZERO,
        expiry: 1_800_000_000,
        salt: B256::ZERO,
    };
    change(&mut delegation);
    let digest = delegation.digest(domain);
    let signature = key.sign(digest).unwrap();
    assert_eq!(check(digest, &signature, delegation.identity), Ok(()));
    let value = json!({
        "domain": domain,
        "signed": SignedDelegation {
            delegation: delegation.clone(),
            signature: account_signature(signature),
        },
        "domainSeparator": domain.eip712().separator(),
        "structHash": delegation.to_abi().eip712_hash_struct(),
        "digest": digest,
        "privateKey": KEY,
    });
    golden("delegation", name, &value);
}

#[test]
fn delegations_are_hashed_and_signed_as_typed_data() {
    check_delegation("any-consumer", &HERE, |_| ());
    check_delegation("one-callback", &HERE, |delegation| {
        delegation.consumer = subscription().consumer;
        delegation.callback = subscription().callback;
        delegation.salt = B256::repeat_byte(7);
    });
    let other_chain = ReportDomain {
        chain_id: 1,
        ..HERE
    };
    check_delegation("other-chain", &other_chain, |delegation| {
        delegation.expiry = u64::MAX;
    });
}

fn check_approval(name: &str, chain_id: u64, term: u64, epoch: u64, document: B256) {
    let domain = RegisterDomain {
        chain_id,
        register: REGISTER,
    };
    let key = SigningKey::from_secret(&KEY).unwrap();
    let digest = domain.policy_digest(key.address(), term, epoch, Sha256Digest(document));
    let signature = key.sign(digest).unwrap();
    let value = json!({
        "domain": domain,
        "term": term,
        "policy": { "epoch": epoch, "digest": document },
        "digest": digest,
        "privateKey": KEY,
        "approval": {
            "administrator": key.address(),
            "signature": account_signature(signature),
        },
    });
    golden("approval", name, &value);
}

#[test]
fn approvals_of_policy_are_hashed_and_signed_as_typed_data() {
    check_approval("first", 31_337, 1, 1, B256::repeat_byte(0x5a));
    check_approval("later-term", 31_337, 2, 1, B256::repeat_byte(0x5a));
    check_approval("other-chain", 1, 1, 1, B256::repeat_byte(0x5a));
    check_approval(
        "maximum-values",
        u64::MAX,
        u64::MAX,
        u64::MAX,
        B256::repeat_byte(0xff),
    );
}
