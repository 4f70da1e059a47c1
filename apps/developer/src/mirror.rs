//! Copies what the register says of a cryptlet to the mirror on the consumers' chain, where the register is on another.
//!
//! What is copied decides which keys count there, so that only the register's own word is copied, by a node that is not the
//! host's choice. The mirror is the contract that the delegate asks. A signer counts there for the mirror's longest age after
//! it was last copied, so that all are sent again but those whose revocation is there: run it regularly, and after each change,
//! since until a revocation is copied, it does not count there. Whoever copies needs the mirror's `SYNC_ROLE`.

use crate::{
    ChainClient, DeveloperError, Mined, RegisterClient, Registration, Session, Wallet, Witness,
    publish::find,
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, sol};
use cryptlet_api::{types::CryptletRef, wall_clock};
use cryptlet_chain::evm::abi::{CryptletRegister, CryptoDelegate};
use cryptlet_types::register::SignerRecord;
use std::time::Duration;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Record {
        address publisher;
        address owner;
        string name;
        bool revoked;
        address publicKey;
        bytes32 headerDigest;
        address[] hosts;
    }

    function mirrorCryptlet(address cryptlet, Record record, uint64 sourceBlock) external;
    function mirrorSigner(address cryptlet, address signer, uint64 expiry, bool revoked, uint64 sourceBlock) external;
    function source() external view returns (uint256 chainId, address register);
    function signerOf(address cryptlet, address signer) external view returns (uint64 expiry, bool revoked, uint64 sourceBlock);
}

const COPYING: &str = "cannot copy to the mirror";
const READING: &str = "cannot read the mirror";

/// What is to be copied.
pub struct Plan {
    /// The cryptlet.
    pub known: Registration,
    /// The mirror.
    pub mirror: Address,
    /// Its signers, but those that have expired, and those whose revocation the mirror has.
    pub signers: Vec<SignerRecord>,
    chain: ChainClient,
    record: Record,
    source_block: u64,
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// The cryptlet.
    pub known: Registration,
    /// The mirror.
    pub mirror: Address,
    /// The transaction with the cryptlet's record.
    pub record: Mined,
    /// Signers that were copied, each with its transaction: all but those that have expired or are revoked in the mirror already.
    pub signers: Vec<(SignerRecord, Mined)>,
}

/// Reads what the register says of a cryptlet with all its signers, and what the mirror lacks of it. Nothing is sent.
///
/// # Errors
/// [`DeveloperError::NotWitnessed`] unless somebody else than the host speaks for the register: what is copied admits
/// keys. The delegate's register is no mirror of the session's register, or a chain cannot be read.
pub async fn plan(session: &Session, name: &CryptletRef) -> Result<Plan, DeveloperError> {
    if !session.witness().is_some_and(Witness::confirms) {
        let what = "a mirror takes over what it says: which keys may sign";
        return Err(DeveloperError::NotWitnessed(what));
    }
    let register = session.register().await?;
    let chain = session.chain().await?;
    let mirror = mirror_of(session, &chain).await?;
    let source_block = register.block_number().await?;
    let known = find(&register, name).await?;
    let record = record(&register, &known).await?;
    let cryptlet = known.cryptlet.0;
    let now = wall_clock()();
    let mut signers = Vec::new();
    for signer in register.all_signers(known.cryptlet).await? {
        let asked = signerOfCall {
            cryptlet,
            signer: signer.signer,
        };
        let there = chain.read(READING, mirror, &asked).await?;
        // What nobody may sign with there any more is not paid for.
        let over = if signer.revoked {
            there.revoked
        } else {
            signer.expiry < now
        };
        if !over {
            signers.push(signer);
        }
    }
    Ok(Plan {
        known,
        mirror,
        signers,
        chain,
        record,
        source_block,
    })
}

/// Copies what was planned: a transaction for the cryptlet's record, and one for each signer.
///
/// # Errors
/// The wallet may not copy, or the chain does not answer. Run again, it goes on.
pub async fn copy(
    plan: Plan,
    wallet: &Wallet,
    patience: Duration,
) -> Result<Copied, DeveloperError> {
    let Plan {
        known,
        mirror,
        chain,
        source_block,
        ..
    } = plan;
    let cryptlet = known.cryptlet.0;
    let sent = mirrorCryptletCall {
        cryptlet,
        record: plan.record,
        sourceBlock: source_block,
    };
    let record = send(&chain, wallet, mirror, &sent, patience).await?;
    let mut signers = Vec::new();
    for signer in plan.signers {
        let sent = mirrorSignerCall {
            cryptlet,
            signer: signer.signer,
            expiry: signer.expiry,
            revoked: signer.revoked,
            sourceBlock: source_block,
        };
        let mined = send(&chain, wallet, mirror, &sent, patience).await?;
        signers.push((signer, mined));
    }
    Ok(Copied {
        known,
        mirror,
        record,
        signers,
    })
}

/// The contract that the delegate asks, if it mirrors the session's register.
async fn mirror_of(session: &Session, chain: &ChainClient) -> Result<Address, DeveloperError> {
    let delegate = session.delegate_domain().delegate;
    let asked = CryptoDelegate::registerCall {};
    let mirror = chain.read(READING, delegate, &asked).await?;
    let domain = session.register_domain();
    let found = chain.read_known(READING, mirror, &sourceCall {}).await?;
    let expected = (U256::from(domain.chain_id), domain.register);
    match found {
        Some(found) if (found.chainId, found.register) == expected => Ok(mirror),
        _ => Err(DeveloperError::Untrue(format!(
            "{mirror}, which the delegate asks, is no mirror of register {} on chain {}",
            domain.register, domain.chain_id
        ))),
    }
}

async fn record(register: &RegisterClient, known: &Registration) -> Result<Record, DeveloperError> {
    let cryptlet = known.cryptlet.0;
    Ok(Record {
        publisher: known.publisher,
        owner: known.owner,
        name: known.name.clone(),
        revoked: known.revoked,
        publicKey: register
            .read(CryptletRegister::publicKeyOfCall { cryptlet })
            .await?,
        headerDigest: register
            .read(CryptletRegister::headerDigestOfCall { cryptlet })
            .await?,
        hosts: register
            .read(CryptletRegister::hostsOfCall { cryptlet })
            .await?,
    })
}

async fn send<C: SolCall>(
    chain: &ChainClient,
    wallet: &Wallet,
    mirror: Address,
    call: &C,
    patience: Duration,
) -> Result<Mined, DeveloperError> {
    let signed = chain.sign(COPYING, wallet, mirror, call).await?;
    chain.submit(COPYING, &signed, patience).await
}
