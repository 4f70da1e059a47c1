//! What a block says about a transaction: Merkle-Patricia proofs against the header's roots.

use crate::TrustRoots;
use alloy_consensus::{Header, ReceiptEnvelope, Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, Log, U64, keccak256};
use alloy_rlp::Decodable;
use alloy_sol_types::{SolEvent, SolValue};
use alloy_trie::{Nibbles, proof::verify_proof};
use cryptlet_types::{
    CryptletId, Measurement, Report, Subject,
    delegation::AbiDelegation,
    receipt::Inclusion,
    report::{AbiReport, CompactSignature},
};

alloy_sol_types::sol! {
    /// The delegate's log of a consumed report.
    #[derive(Debug, PartialEq, Eq)]
    event Delivered(
        bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes32 digest, address signer, bool success
    );
}

/// `deliver` of the delegate.
const DELIVER: &str =
    "deliver((address,bytes32,uint64,uint64,uint64,bytes32,bytes32,bytes),bytes32,bytes32)";
/// `deliverOnBehalfOf` of the delegate.
const DELIVER_ON_BEHALF_OF: &str = "deliverOnBehalfOf((address,bytes32,uint64,uint64,uint64,bytes32,bytes32,bytes),bytes32,bytes32,(address,address,address,bytes4,uint64,bytes32),bytes)";

/// `deliverBatch` of the delegate.
const DELIVER_BATCH: &str =
    "deliverBatch((address,bytes32,(bytes32,uint64,uint64,uint64,bytes)[]),bytes32,bytes32)";

/// What a transaction hands the delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// One report.
    One(Box<DeliveredCall>),
    /// Reports of one cryptlet, on nobody's behalf, in their order, with its signature over them together.
    Batch(Vec<Report>, CompactSignature),
}

/// A report by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredCall {
    /// The report.
    pub report: AbiReport,
    /// The cryptlet's signature.
    pub signature: CompactSignature,
    /// The delegation under which it is said, if it is said under one.
    pub delegation: Option<AbiDelegation>,
}

/// What the proofs establish for a trusted block.
#[derive(Debug)]
pub struct Included {
    /// The header.
    pub header: Header,
    /// The transaction that the block holds.
    pub transaction: TxEnvelope,
    /// Its result.
    pub receipt: ReceiptEnvelope,
}

/// Number of the block that an inclusion speaks of; nothing is checked.
#[must_use]
pub fn block_number(inclusion: &Inclusion) -> Option<u64> {
    whole::<Header>(&inclusion.header).map(|header| header.number)
}

/// Checks that the block is a trusted one, and then both proofs. Proofs against a header that nobody vouches for are
/// not even looked at: whoever makes up the header makes up what is below it.
///
/// # Errors
/// Says in words what is not trusted, malformed or not in the block.
pub fn included(inclusion: &Inclusion, roots: &TrustRoots) -> Result<Included, String> {
    let header = whole::<Header>(&inclusion.header).ok_or("the header is not a block header")?;
    trusted(&header, keccak256(&inclusion.header), roots)?;
    let proven = |what: &str, root, value: &Bytes, proof: &Vec<Bytes>| {
        let key = Nibbles::unpack(alloy_rlp::encode(U64::from(inclusion.transaction_index)));
        verify_proof(root, key, Some(value.to_vec()), proof).map_err(|_| {
            format!(
                "the {what} is not in the block at index {}",
                inclusion.transaction_index
            )
        })
    };
    let Inclusion {
        transaction,
        transaction_proof,
        receipt,
        receipt_proof,
        ..
    } = inclusion;
    proven(
        "transaction",
        header.transactions_root,
        transaction,
        transaction_proof,
    )?;
    proven("receipt", header.receipts_root, receipt, receipt_proof)?;
    let transaction = TxEnvelope::decode_2718_exact(transaction)
        .map_err(|_| "the transaction is malformed".to_owned())?;
    let receipt = ReceiptEnvelope::decode_2718_exact(receipt)
        .map_err(|_| "the transaction's receipt is malformed".to_owned())?;
    Ok(Included {
        header,
        transaction,
        receipt,
    })
}

fn trusted(header: &Header, found: B256, roots: &TrustRoots) -> Result<(), String> {
    let number = header.number;
    match roots.blocks.get(&number) {
        Some(trusted) if *trusted == found => Ok(()),
        Some(trusted) => Err(format!("block {number} is {found}, trusted is {trusted}")),
        None => Err(format!("no trusted hash for block {number}")),
    }
}

/// Decodes RLP that fills `bytes` exactly.
fn whole<T: Decodable>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes;
    let value = T::decode(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

impl Included {
    /// Whether the transaction calls `delegate` itself.
    #[must_use]
    pub fn calls(&self, delegate: Address) -> bool {
        self.transaction.to() == Some(delegate)
    }

    /// What the transaction's call data delivers, if that is what it does.
    #[must_use]
    pub fn handed(&self) -> Option<Handed> {
        let (selector, arguments) = self.transaction.input().split_at_checked(4)?;
        let calls = |signature: &str| keccak256(signature).get(..4) == Some(selector);
        if calls(DELIVER_BATCH) {
            return batch(arguments);
        }
        let (report, r, vs, delegation) = if calls(DELIVER) {
            type Arguments = (AbiReport, B256, B256);
            let (report, r, vs) = Arguments::abi_decode_params_validate(arguments).ok()?;
            (report, r, vs, None)
        } else if calls(DELIVER_ON_BEHALF_OF) {
            type Arguments = (AbiReport, B256, B256, AbiDelegation, Bytes);
            let (report, r, vs, delegation, _) =
                Arguments::abi_decode_params_validate(arguments).ok()?;
            (report, r, vs, Some(delegation))
        } else {
            return None;
        };
        Some(Handed::One(Box::new(DeliveredCall {
            report,
            signature: CompactSignature { r, vs },
            delegation,
        })))
    }

    /// The delegate's `Delivered` logs.
    #[must_use]
    pub fn delivered_logs(&self, delegate: Address) -> Vec<Delivered> {
        let of_delegate = |log: &&Log| log.address == delegate;
        let logs = self.receipt.logs().iter().filter(of_delegate);
        logs.filter_map(|log| Delivered::decode_log_data_validate(&log.data).ok())
            .collect()
    }
}

/// The reports of a batch's call data.
fn batch(arguments: &[u8]) -> Option<Handed> {
    type Item = (B256, u64, u64, u64, Bytes);
    type Arguments = ((Address, B256, Vec<Item>), B256, B256);
    let ((cryptlet, region, items), r, vs) =
        Arguments::abi_decode_params_validate(arguments).ok()?;
    let report = |(subject, sequence, issued_at, valid_until, payload): Item| Report {
        cryptlet: CryptletId(cryptlet),
        subject: Subject(subject),
        sequence,
        issued_at,
        valid_until,
        region: Measurement(region),
        delegation: B256::ZERO,
        payload,
    };
    let reports = items.into_iter().map(report).collect();
    Some(Handed::Batch(reports, CompactSignature { r, vs }))
}
