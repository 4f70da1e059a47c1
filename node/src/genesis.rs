//! The genesis block: the funded development accounts and the contracts that Osaka relies on.

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, Bytes, address, bytes};
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner, coins_bip39::English};
use revm::state::Bytecode;

use crate::{chain::Block, config::DevAccounts, error::NodeError, execution, state::State};

/// The mnemonic that every development chain uses.
const MNEMONIC: &str = "test test test test test test test test test test test junk";
const MAX_ACCOUNTS: u32 = 100;

/// The deterministic deployment proxy, which forge uses for CREATE2; Anvil has it too.
const CREATE2_DEPLOYER: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
static CREATE2_DEPLOYER_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// The keys of the development accounts, in the order of their derivation path.
pub(crate) fn development_signers(
    accounts: DevAccounts,
) -> Result<Vec<PrivateKeySigner>, NodeError> {
    let refused = |reason: String| NodeError::Config {
        field: "accounts.count",
        reason,
    };
    if accounts.count > MAX_ACCOUNTS {
        return Err(refused(format!(
            "{} is more than {MAX_ACCOUNTS}",
            accounts.count
        )));
    }
    let derive = |index| {
        MnemonicBuilder::<English>::default()
            .phrase(MNEMONIC)
            .index(index)
            .and_then(|builder| builder.build())
            .map_err(|error| refused(error.to_string()))
    };
    (0..accounts.count).map(derive).collect()
}

/// The genesis block.
pub(crate) fn block(
    signers: &[PrivateKeySigner],
    accounts: DevAccounts,
    timestamp: u64,
    gas_limit: u64,
) -> Block {
    let mut state = State::default();
    for signer in signers {
        state.update(signer.address(), |account| {
            account.balance = accounts.balance
        });
    }
    for (address, code) in [
        (eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
        (
            eip2935::HISTORY_STORAGE_ADDRESS,
            &eip2935::HISTORY_STORAGE_CODE,
        ),
        (
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        ),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        ),
        (CREATE2_DEPLOYER, &CREATE2_DEPLOYER_CODE),
    ] {
        state.update(address, |account| {
            account.nonce = 1;
            account.set_code(Bytecode::new_legacy(code.clone()));
        });
    }
    execution::genesis(state, timestamp, gas_limit)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{b256, keccak256};

    use super::*;

    #[test]
    fn the_accounts_are_the_ones_that_every_development_chain_has() {
        let signers = development_signers(DevAccounts::default()).unwrap();
        assert_eq!(signers.len(), 10);
        let first = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        let last = address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720");
        assert_eq!((signers[0].address(), signers[9].address()), (first, last));
    }

    #[test]
    fn the_create2_deployer_is_the_published_one() {
        let published = b256!("2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989");
        assert_eq!(keccak256(&CREATE2_DEPLOYER_CODE), published);
    }

    #[test]
    fn too_many_accounts_are_refused() {
        let accounts = DevAccounts {
            count: MAX_ACCOUNTS + 1,
            ..Default::default()
        };
        assert!(matches!(
            development_signers(accounts),
            Err(NodeError::Config {
                field: "accounts.count",
                ..
            })
        ));
    }
}
