//! Executing without a transaction: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

use alloy_consensus::Header;
use alloy_eips::{
    BlockId,
    eip2930::{AccessList, AccessListItem, AccessListResult},
};
use alloy_evm::overrides::apply_state_overrides;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alloy_rpc_types_eth::{TransactionRequest, state::StateOverride};
use revm::{
    context::{
        TxEnv,
        either::Either,
        result::{ExecutionResult, HaltReason, InvalidTransaction, ResultAndState},
    },
    precompile::{PrecompileSpecId, Precompiles},
};

use super::{args::Args, error::RpcError};
use crate::{
    backend::{Backend, next_base_fee},
    chain::Chain,
    execution::{self, SPEC, TRANSACTION_GAS_CAP, environment, simulate},
    state::{ExecutionState, State},
};

/// geth's tolerance: an estimate is at most 1.5 % above the least gas that works.
const ESTIMATE_TOLERANCE: u64 = 1_000 / 15;
/// Gas that a call with value may need on top of what it used (the stipend).
const CALL_STIPEND: u64 = 2_300;
/// Rounds until the access list of a call stops growing.
const MAX_ACCESS_LIST_ROUNDS: u32 = 8;

/// A state, and the header of the block in which a call on it takes place.
pub(crate) struct Scene {
    chain: Chain,
    pub(crate) state: State,
    header: Header,
}

impl Scene {
    /// The block that `id` names; for `pending`, the block that would be mined now.
    pub(crate) fn find(backend: &Backend, id: BlockId) -> Result<Self, RpcError> {
        let chain = backend.head();
        if !id.is_pending() {
            let block = chain.find(id).ok_or_else(unknown_block)?;
            let (state, header) = (block.state.clone(), block.header.inner().clone());
            return Ok(Self {
                chain,
                state,
                header,
            });
        }
        let tip = chain.tip();
        if backend.pool().has_ready(&tip.state, next_base_fee(tip)) {
            let block = backend.pending(&chain)?;
            let header = block.header.inner().clone();
            return Ok(Self {
                chain,
                state: block.state,
                header,
            });
        }
        let header = execution::header_after(&tip.header, backend.next_timestamp(&chain));
        Ok(Self {
            state: tip.state.clone(),
            header,
            chain,
        })
    }

    fn with_overrides(mut self, overrides: Option<StateOverride>) -> Result<Self, RpcError> {
        if let Some(overrides) = overrides {
            let mut state = self.execution_state();
            apply_state_overrides(overrides, &mut state)
                .map_err(|error| RpcError::InvalidParams(error.to_string()))?;
            self.state = state.state;
        }
        Ok(self)
    }

    fn execution_state(&self) -> ExecutionState {
        ExecutionState::new(self.state.clone(), self.chain.clone())
    }

    fn run(&self, transaction: TxEnv) -> Result<ResultAndState, RpcError> {
        let environment = environment(self.chain.id(), &self.header);
        Ok(simulate(self.execution_state(), environment, transaction)?)
    }
}

/// There is no such block.
pub(crate) fn unknown_block() -> RpcError {
    RpcError::Refused("header not found".into())
}

/// `eth_call(transaction, block, stateOverrides)`.
pub(crate) fn call(backend: &Backend, mut args: Args<'_>) -> Result<Bytes, RpcError> {
    let request = args.required::<TransactionRequest>("transaction")?;
    let block = args.block()?;
    let overrides = args.optional("stateOverrides")?;
    args.end()?;
    let scene = Scene::find(backend, block)?.with_overrides(overrides)?;
    let limit = scene.header.gas_limit;
    let transaction = transaction(&request, &scene, request.gas.unwrap_or(limit).min(limit))?;
    output(scene.run(transaction)?.result)
}

/// `eth_estimateGas(transaction, block, stateOverrides)`; the block is `pending` if none is given.
pub(crate) fn estimate_gas(backend: &Backend, mut args: Args<'_>) -> Result<U64, RpcError> {
    let request = args.required::<TransactionRequest>("transaction")?;
    let block = args.optional("block")?.unwrap_or_else(BlockId::pending);
    let overrides = args.optional("stateOverrides")?;
    args.end()?;
    let scene = Scene::find(backend, block)?.with_overrides(overrides)?;
    estimate(&scene, &request).map(U64::from)
}

/// The least gas with which the transaction succeeds, within geth's tolerance.
pub(crate) fn estimate(scene: &Scene, request: &TransactionRequest) -> Result<u64, RpcError> {
    let most = most_gas(scene, request)?;
    let at = |gas| transaction(request, scene, gas).and_then(|tx| scene.run(tx));
    let first = at(most)?;
    let gas = *first.result.gas();
    if !execution::succeeded(&first) {
        if let ExecutionResult::Halt {
            reason: HaltReason::OutOfGas(_),
            ..
        } = first.result
        {
            return Err(RpcError::Refused(format!(
                "gas required exceeds allowance ({most})"
            )));
        }
        output(first.result)?;
    }
    let used = gas.tx_gas_used();
    // Refunds come after execution and a call keeps back a 64th, so a little more than what was
    // used is the likely answer; then halve the rest.
    let (mut low, mut high) = (used.saturating_sub(1), most);
    let spent = gas.total_gas_spent().saturating_add(CALL_STIPEND);
    let likely = spent.saturating_mul(64) / 63;
    let works = |gas| at(gas).is_ok_and(|result| execution::succeeded(&result));
    if works(used) {
        return Ok(used);
    }
    if likely < high {
        if works(likely) {
            high = likely;
        } else {
            low = likely;
        }
    }
    while high.saturating_sub(low) > (high / ESTIMATE_TOLERANCE).max(1) {
        let middle = low.midpoint(high);
        if works(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// What the gas limit may be at most: by the request, the rules, and the sender's balance.
fn most_gas(scene: &Scene, request: &TransactionRequest) -> Result<u64, RpcError> {
    let limit = scene.header.gas_limit.min(TRANSACTION_GAS_CAP);
    let asked = request.gas.unwrap_or(limit).min(limit);
    let price = request
        .gas_price
        .or(request.max_fee_per_gas)
        .unwrap_or_default();
    if price == 0 {
        return Ok(asked);
    }
    let balance = scene.state.balance(request.from.unwrap_or_default());
    let value = request.value.unwrap_or_default();
    let Some(available) = balance.checked_sub(value) else {
        return Err(RpcError::Refused("insufficient funds for transfer".into()));
    };
    let affordable = available / U256::from(price);
    Ok(u64::try_from(affordable).unwrap_or(u64::MAX).min(asked))
}

/// `eth_createAccessList(transaction, block)`.
pub(crate) fn create_access_list(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<AccessListResult, RpcError> {
    let mut request = args.required::<TransactionRequest>("transaction")?;
    let block = args.optional("block")?.unwrap_or_else(BlockId::pending);
    args.end()?;
    let scene = Scene::find(backend, block)?;
    let gas = most_gas(&scene, &request)?;
    for _ in 0..MAX_ACCESS_LIST_ROUNDS {
        let executed = scene.run(transaction(&request, &scene, gas)?)?;
        let list = accessed(&executed, &request, &scene);
        // An access list makes storage warm, which can change what a contract does.
        let settled = request.access_list.as_ref() == Some(&list);
        request.access_list = Some(list);
        if settled {
            break;
        }
    }
    let executed = scene.run(transaction(&request, &scene, gas)?)?;
    let gas_used = U256::from(executed.result.gas().tx_gas_used());
    Ok(AccessListResult {
        access_list: request.access_list.unwrap_or_default(),
        gas_used,
        error: output(executed.result).err().map(|error| match error {
            RpcError::Refused(message) => message,
            _ => "execution reverted".to_owned(),
        }),
    })
}

/// Accounts and storage that the execution used and that are not warm anyway.
fn accessed(executed: &ResultAndState, request: &TransactionRequest, scene: &Scene) -> AccessList {
    let from = request.from.unwrap_or_default();
    let target = match request.to {
        Some(TxKind::Call(target)) => target,
        _ => from.create(scene.state.nonce(from)),
    };
    let precompiles = Precompiles::new(PrecompileSpecId::from_spec_id(SPEC));
    let warm = |address: &Address| {
        [from, target, scene.header.beneficiary].contains(address) || precompiles.contains(address)
    };
    let mut items: Vec<_> = executed
        .state
        .iter()
        .filter(|(address, account)| !account.storage.is_empty() || !warm(address))
        .map(|(address, account)| {
            let mut storage_keys: Vec<_> = account.storage.keys().map(|k| B256::from(*k)).collect();
            storage_keys.sort_unstable();
            AccessListItem {
                address: *address,
                storage_keys,
            }
        })
        .collect();
    items.sort_unstable_by_key(|item| item.address);
    AccessList(items)
}

/// The request as the EVM takes it, with `gas` as its limit.
fn transaction(request: &TransactionRequest, scene: &Scene, gas: u64) -> Result<TxEnv, RpcError> {
    if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() {
        return Err(RpcError::Refused(crate::pool::PoolError::Blob.to_string()));
    }
    let eip1559 = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && eip1559 {
        let message = "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified";
        return Err(RpcError::InvalidParams(message.into()));
    }
    let id = scene.chain.id();
    if let Some(have) = request.chain_id.filter(|chain_id| *chain_id != id) {
        let message = format!("chainId does not match node's (have={have}, want={id})");
        return Err(RpcError::InvalidParams(message));
    }
    let data = request.input.clone().try_into_unique_input();
    let data = data.map_err(|error| RpcError::InvalidParams(error.to_string()))?;
    let caller = request.from.unwrap_or_default();
    let gas_price = request
        .gas_price
        .or(request.max_fee_per_gas)
        .unwrap_or_default();
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let tx_type = match (authorizations.is_empty(), eip1559, &request.access_list) {
        (false, ..) => 4,
        (true, true, _) => 2,
        (true, false, Some(_)) => 1,
        (true, false, None) => 0,
    };
    Ok(TxEnv {
        tx_type,
        caller,
        gas_limit: gas,
        gas_price,
        // Without a fee cap nothing is paid, and a tip above it would be invalid.
        gas_priority_fee: (tx_type >= 2).then(|| {
            let tip = request.max_priority_fee_per_gas.unwrap_or_default();
            if gas_price == 0 { 0 } else { tip }
        }),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: data.unwrap_or_default(),
        nonce: request.nonce.unwrap_or_else(|| scene.state.nonce(caller)),
        chain_id: Some(id),
        access_list: request.access_list.clone().unwrap_or_default(),
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        ..Default::default()
    })
}

/// What the execution returned, or the error that geth gives for its end.
fn output(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(RpcError::Reverted(output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::Refused(halt(&reason))),
    }
}

fn halt(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".into(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        other => format!("execution halted: {other:?}"),
    }
}

/// geth's words for a transaction that cannot start.
pub(crate) fn refusal(invalid: &InvalidTransaction) -> String {
    match invalid {
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => {
            "max fee per gas less than block base fee".into()
        }
        InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas,
            gas_limit,
        }
        | InvalidTransaction::GasFloorMoreThanGasLimit {
            gas_floor: initial_gas,
            gas_limit,
        } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".into()
        }
        other => other.to_string(),
    }
}
