//! The golden messages in `vectors/message`. Each file must be, byte for byte, what is rendered here; with
//! `UPDATE_VECTORS=true` the files are written anew. The contracts' tests believe the same files.

#![allow(
    clippy::unwrap_used,
    reason = "the lint allows this in test functions; helpers of tests are the same"
)]

mod goldens;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use cryptlet_seal::{SigningKey, check};
use cryptlet_types::{
    CryptletId, CryptletMessage, Measurement, MessageStatement, ReportDomain, Subject,
    message::MAX_SIGNED_BYTES,
};
use goldens::golden;
use serde_json::json;

fn key(name: &str) -> SigningKey {
    SigningKey::from_secret(&keccak256(name)).unwrap()
}

fn check_message(name: &str, domain: ReportDomain, subject: Subject, message: Bytes) {
    let (signer, region) = (
        key("cryptlet key of the golden messages"),
        key("region key of the golden messages"),
    );
    let cryptlet = CryptletId(Address::repeat_byte(0x44));
    let said = CryptletMessage {
        cryptlet,
        subject,
        message,
    };
    let digest = said.digest(&domain);
    let statement = MessageStatement {
        measurement: Measurement(B256::repeat_byte(0x11)),
        message: digest,
    };
    let signature = signer.sign(digest).unwrap();
    let countersigned = region.sign(statement.digest()).unwrap();
    assert_eq!(check(digest, &signature, signer.address()), Ok(()));
    let value = json!({
        "domain": domain,
        "cryptlet": cryptlet,
        "subject": said.subject,
        "message": said.message,
        "digest": digest,
        "signer": signer.address(),
        "signature": signature.to_bytes(),
        "measurement": statement.measurement,
        "regionDigest": statement.digest(),
        "regionKey": region.address(),
        "regionSignature": countersigned.to_bytes(),
    });
    golden("message", name, &value);
}

#[test]
fn messages_are_hashed_and_signed() {
    let domain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0x77),
    };
    let subject = Subject(B256::repeat_byte(0x55));
    let main_net = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    check_message(
        "plain",
        domain,
        subject,
        Bytes::from_static(b"pay 7 to the bearer"),
    );
    check_message("empty", main_net, Subject(B256::ZERO), Bytes::new());
    check_message(
        "longest",
        domain,
        subject,
        vec![0xff; MAX_SIGNED_BYTES].into(),
    );
}
