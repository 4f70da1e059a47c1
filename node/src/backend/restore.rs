//! From the chain to records of the state file, and back.

use std::sync::Arc;

use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, Bytes};
use revm::state::Bytecode;

use super::Backend;
use crate::{
    chain::{Block, Chain, Transaction},
    config::NodeConfig,
    execution,
    journal::{AccountChange, Record, RecordedTransaction, VERSION},
    pool::Rules,
    transaction,
};

impl Backend {
    /// Takes the genesis block from the state file, if it is the one that the configuration makes.
    pub(super) fn restore_genesis(
        &self,
        config: &NodeConfig,
        record: Record,
        block: impl Fn(u64) -> Block,
    ) -> Result<(), String> {
        let Record::Genesis {
            version,
            chain_id,
            gas_limit,
            timestamp,
            hash,
        } = record
        else {
            return Err("not a genesis record".into());
        };
        let differs = |field: &str, file: u64, configured: u64| {
            Err(format!(
                "{field} is {file}, but this node needs {configured}"
            ))
        };
        if version != VERSION {
            return differs("version", version.into(), VERSION.into());
        }
        if chain_id != config.chain_id {
            return differs("chainId", chain_id, config.chain_id);
        }
        if gas_limit != config.gas_limit {
            return differs("gasLimit", gas_limit, config.gas_limit);
        }
        if let Some(configured) = config.genesis_timestamp
            && timestamp != configured
        {
            return differs("timestamp", timestamp, configured);
        }
        let genesis = block(timestamp);
        if genesis.hash() != hash {
            let made = genesis.hash();
            return Err(format!(
                "hash is {hash}, but the configured accounts give {made}"
            ));
        }
        *self.head.write() = Chain::new(chain_id, genesis);
        Ok(())
    }

    /// Applies a record of the state file.
    pub(super) fn replay(&self, record: Record) -> Result<(), String> {
        match record {
            Record::Genesis { .. } => Err("a second genesis record".into()),
            Record::Block {
                header,
                transactions,
                clock_offset,
            } => self.replay_block(&header, transactions, clock_offset),
            Record::Transaction(recorded) => {
                let transaction = decode(recorded)?;
                let chain = self.head();
                let rules = Rules {
                    chain_id: chain.id(),
                    block_gas_limit: chain.tip().header.gas_limit,
                    state: &chain.tip().state,
                    base_fee: None,
                };
                self.pool
                    .lock()
                    .add(Arc::new(transaction), &rules)
                    .map_err(|e| e.to_string())
            }
            Record::Dropped { transaction } => {
                self.pool.lock().remove(transaction);
                Ok(())
            }
            Record::Clock { offset, next } => {
                self.clock.lock().restore(offset, next);
                Ok(())
            }
            Record::Account { address, change } => {
                let mut chain = self.head();
                apply_change(&mut chain, address, &change)?;
                *self.head.write() = chain;
                Ok(())
            }
        }
    }

    fn replay_block(
        &self,
        header: &Bytes,
        transactions: Vec<RecordedTransaction>,
        clock_offset: i64,
    ) -> Result<(), String> {
        let header: alloy_consensus::Header =
            alloy_rlp::decode_exact(header).map_err(|error| format!("header: {error}"))?;
        let recorded = header.hash_slow();
        let mut chain = self.head();
        if header.parent_hash != chain.tip().hash() {
            return Err(format!(
                "block {} does not follow the block before",
                header.number
            ));
        }
        let transactions: Result<Vec<_>, _> = transactions
            .into_iter()
            .map(|tx| decode(tx).map(Arc::new))
            .collect();
        let built = execution::build_block(&chain, header, transactions?)
            .map_err(|error| error.to_string())?;
        if built.block.hash() != recorded {
            let number = built.block.number();
            return Err(format!("executing block {number} again gives another hash"));
        }
        let block = chain.push(built.block);
        *self.head.write() = chain;
        self.pool.lock().prune(&block.state);
        self.clock.lock().restore(clock_offset, None);
        Ok(())
    }
}

/// The transaction as the state file keeps it.
pub(super) fn recorded(transaction: &Transaction) -> RecordedTransaction {
    RecordedTransaction {
        raw: transaction.inner().encoded_2718().into(),
        impersonated: transaction::is_impersonated(transaction).then(|| transaction.signer()),
    }
}

fn decode(recorded: RecordedTransaction) -> Result<Transaction, String> {
    let envelope = alloy_consensus::TxEnvelope::decode_2718_exact(&recorded.raw)
        .map_err(|error| format!("transaction: {error}"))?;
    match recorded.impersonated {
        Some(sender) => Ok(Transaction::new_unchecked(envelope, sender)),
        None => transaction::recover(envelope).map_err(|error| format!("transaction: {error}")),
    }
}

/// The block as the state file keeps it.
pub(super) fn block_record(block: &Block, clock_offset: i64) -> Record {
    Record::Block {
        header: alloy_rlp::encode(block.header.inner()).into(),
        transactions: block.transactions.iter().map(|tx| recorded(tx)).collect(),
        clock_offset,
    }
}

/// Changes an account in the state of the tip; returns what is wrong with the change.
pub(super) fn apply_change(
    chain: &mut Chain,
    address: Address,
    change: &AccountChange,
) -> Result<(), String> {
    match change {
        AccountChange::Balance(balance) => chain.update_tip(address, |a| a.balance = *balance),
        AccountChange::Nonce(nonce) => chain.update_tip(address, |a| a.nonce = *nonce),
        AccountChange::Storage { slot, value } => {
            chain.update_tip(address, |account| account.set_storage(*slot, *value));
        }
        AccountChange::Code(code) => {
            let code = Bytecode::new_raw_checked(code.clone())
                .map_err(|error| format!("invalid code: {error}"))?;
            chain.update_tip(address, |account| account.set_code(code));
        }
    }
    Ok(())
}
