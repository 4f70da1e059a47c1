//! Running the EVM: block building and read-only calls, under the rules of Osaka.

use std::sync::Arc;

use alloy_consensus::{Header, ReceiptEnvelope, Sealed, Transaction as _, TxReceipt, proofs};
use alloy_eips::{eip1559::BaseFeeParams, eip7685::EMPTY_REQUESTS_HASH, eip7840::BlobParams};
use alloy_evm::{
    Evm, EvmEnv, EvmFactory,
    block::{BlockExecutionError, BlockExecutor, BlockValidationError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder, spec::EthExecutorSpec,
    },
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, B256, Bloom, Bytes, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use revm::{
    context::{
        BlockEnv, CfgEnv, TxEnv,
        result::{EVMError, ExecutionResult, InvalidTransaction, ResultAndState},
    },
    context_interface::cfg::gas_params::GasParams,
    primitives::hardfork::SpecId,
};

use crate::{
    chain::{Block, Chain, Transaction},
    state::{ExecutionState, State},
};

/// The rules of every block of the chain, from genesis.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// Most gas that one transaction may ask for (EIP-7825).
pub(crate) const TRANSACTION_GAS_CAP: u64 = 16_777_216;

/// Base fee of the genesis block, in wei.
pub(crate) const GENESIS_BASE_FEE: u64 = 1_000_000_000;

/// Execution failed in a way that no transaction explains; this is a defect of the node.
#[derive(Debug, thiserror::Error)]
#[error("execution failed: {0}")]
pub(crate) struct ExecutionError(String);

/// Every fork up to Osaka is active from genesis, none after.
#[derive(Debug, Clone, Copy)]
struct Forks;

impl EthereumHardforks for Forks {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        match fork {
            EthereumHardfork::Dao => ForkCondition::Never,
            fork if fork > EthereumHardfork::Osaka => ForkCondition::Never,
            fork if fork >= EthereumHardfork::Shanghai => ForkCondition::Timestamp(0),
            _ => ForkCondition::Block(0),
        }
    }
}

impl EthExecutorSpec for Forks {
    fn deposit_contract_address(&self) -> Option<Address> {
        None
    }
}

/// The header of a block that has yet to be executed: what execution produces is still empty.
pub(crate) fn header_after(parent: &Sealed<Header>, timestamp: u64) -> Header {
    let number = parent.number.saturating_add(1);
    Header {
        parent_hash: parent.hash(),
        number,
        timestamp,
        gas_limit: parent.gas_limit,
        base_fee_per_gas: parent.next_block_base_fee(BaseFeeParams::ethereum()),
        // The "randomness" that contracts read as PREVRANDAO: fixed by the chain, so that a block
        // can be executed again, and known to everyone.
        mix_hash: keccak256([parent.hash(), B256::from(U256::from(number))].concat()),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    }
}

/// The genesis block over `state`.
pub(crate) fn genesis(state: State, timestamp: u64, gas_limit: u64) -> Block {
    let header = Header {
        timestamp,
        gas_limit,
        base_fee_per_gas: Some(GENESIS_BASE_FEE),
        state_root: state.root(),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    };
    Block::new(header, Vec::new(), Vec::new(), state)
}

/// The environment that a block with `header` is executed in.
pub(crate) fn environment(chain_id: u64, header: &Header) -> EvmEnv {
    let mut cfg = CfgEnv::new_with_spec(SPEC);
    cfg.chain_id = chain_id;
    // EIP-3607 guards against a key whose address collides with a contract, which nobody can
    // find; without it an impersonated contract can send, and any account can be called from.
    cfg.disable_eip3607 = true;
    let mut block = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        prevrandao: Some(header.mix_hash),
        ..Default::default()
    };
    let fraction = u64::try_from(BlobParams::osaka().update_fraction).unwrap_or(u64::MAX);
    block.set_blob_excess_gas_and_price(header.excess_blob_gas.unwrap_or_default(), fraction);
    EvmEnv::new(cfg, block)
}

/// Why a transaction did not enter a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// It may fit a later block: the block was full, or a transaction before it is missing.
    Later,
    /// It can never be executed as it stands.
    Never(String),
}

/// A block, and the transactions that were offered for it but are not in it.
pub(crate) struct Built {
    pub(crate) block: Block,
    pub(crate) excluded: Vec<(B256, Exclusion)>,
}

/// Executes `transactions` in order on the tip of `chain` and seals the block that results.
pub(crate) fn build_block(
    chain: &Chain,
    mut header: Header,
    transactions: Vec<Arc<Transaction>>,
) -> Result<Built, ExecutionError> {
    let parent = chain.tip();
    let mut state = ExecutionState::new(parent.state.clone(), chain.clone());
    let evm = EthEvmFactory::default().create_evm(&mut state, environment(chain.id(), &header));
    let context = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: None,
        extra_data: Bytes::new(),
        tx_count_hint: Some(transactions.len()),
        slot_number: None,
    };
    let mut executor = EthBlockExecutor::new(evm, context, Forks, AlloyReceiptBuilder::default());
    executor.apply_pre_execution_changes().map_err(failed)?;
    let mut included = Vec::with_capacity(transactions.len());
    let mut excluded = Vec::new();
    for transaction in transactions {
        match executor.execute_transaction(transaction.as_ref()) {
            Ok(_) => included.push(transaction),
            Err(error) => excluded.push((*transaction.tx_hash(), exclusion(error)?)),
        }
    }
    let (_, result) = executor.finish().map_err(failed)?;
    header.gas_used = result.gas_used;
    header.state_root = state.state.root();
    header.requests_hash = Some(result.requests.requests_hash());
    header.transactions_root = transactions_root(&included);
    header.receipts_root = proofs::calculate_receipt_root(&result.receipts);
    header.logs_bloom = bloom(&result.receipts);
    Ok(Built {
        block: Block::new(header, included, result.receipts, state.state),
        excluded,
    })
}

fn transactions_root(transactions: &[Arc<Transaction>]) -> B256 {
    let inner: Vec<_> = transactions
        .iter()
        .map(|transaction| transaction.inner())
        .collect();
    proofs::calculate_transaction_root(&inner)
}

fn bloom(receipts: &[ReceiptEnvelope]) -> Bloom {
    receipts
        .iter()
        .fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom())
}

fn failed(error: BlockExecutionError) -> ExecutionError {
    ExecutionError(error.to_string())
}

fn exclusion(error: BlockExecutionError) -> Result<Exclusion, ExecutionError> {
    match error.as_validation() {
        Some(BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas { .. }) => {
            Ok(Exclusion::Later)
        }
        Some(BlockValidationError::InvalidTx { error, .. }) => {
            Ok(match error.as_invalid_tx_err() {
                Some(
                    InvalidTransaction::NonceTooHigh { .. }
                    | InvalidTransaction::GasPriceLessThanBasefee,
                ) => Exclusion::Later,
                _ => Exclusion::Never(error.to_string()),
            })
        }
        _ => Err(failed(error)),
    }
}

/// Executes one transaction and throws its changes away.
///
/// The sender's nonce is not checked. A call without a gas price pays none, whatever the base fee
/// is; one with a price must afford it.
pub(crate) fn simulate(
    state: ExecutionState,
    mut environment: EvmEnv,
    transaction: TxEnv,
) -> Result<ResultAndState, SimulationError> {
    environment.cfg_env.disable_nonce_check = true;
    environment.cfg_env.disable_base_fee = transaction.gas_price == 0;
    environment.cfg_env.tx_gas_limit_cap = Some(u64::MAX);
    let mut evm = EthEvmFactory::default().create_evm(state, environment);
    evm.transact(transaction).map_err(|error| match error {
        EVMError::Transaction(invalid) => SimulationError::Invalid(invalid),
        other => SimulationError::Execution(ExecutionError(other.to_string())),
    })
}

/// Why a simulation has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulationError {
    #[error("{0}")]
    Invalid(InvalidTransaction),
    #[error(transparent)]
    Execution(ExecutionError),
}

/// Gas that a transaction must at least bring, before its first instruction (EIP-2028, EIP-7623).
pub(crate) fn intrinsic_gas(transaction: &TxEnv) -> u64 {
    let gas = GasParams::new_spec(SPEC).initial_tx_gas_for_tx(transaction, None);
    gas.initial_regular_gas().max(gas.floor_gas())
}

/// Whether the execution ended well.
pub(crate) fn succeeded(result: &ResultAndState) -> bool {
    matches!(result.result, ExecutionResult::Success { .. })
}

/// What a transaction may take from its sender at most, in wei.
pub(crate) fn cost(transaction: &Transaction) -> U256 {
    U256::from(transaction.max_fee_per_gas())
        .saturating_mul(U256::from(transaction.gas_limit()))
        .saturating_add(transaction.value())
}
