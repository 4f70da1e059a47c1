//! Errors as JSON-RPC shows them: geth's codes and words, because clients match on them.

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::{Panic, Revert, SolError};
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, error::INVALID_PARAMS_CODE};

use crate::{
    backend::BackendError,
    execution::{ExecutionError, SimulationError},
    logs::LogsError,
};

/// A request was understood but refused.
const SERVER_ERROR: i32 = -32000;
/// A limit was exceeded (EIP-1474).
const LIMIT_EXCEEDED: i32 = -32005;
const INTERNAL_ERROR: i32 = -32603;
/// geth's code for a call that reverted.
const EXECUTION_REVERTED: i32 = 3;

/// Why a method has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RpcError {
    InvalidParams(String),
    Refused(String),
    Limit(String),
    Internal(String),
    Reverted(Bytes),
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> Self {
        let plain = |code, message: String| ErrorObject::owned(code, message, None::<()>);
        match error {
            RpcError::InvalidParams(message) => plain(INVALID_PARAMS_CODE, message),
            RpcError::Refused(message) => plain(SERVER_ERROR, message),
            RpcError::Limit(message) => plain(LIMIT_EXCEEDED, message),
            RpcError::Internal(message) => plain(INTERNAL_ERROR, message),
            RpcError::Reverted(data) => {
                let message = match revert_reason(&data) {
                    Some(reason) => format!("execution reverted: {reason}"),
                    None => "execution reverted".to_owned(),
                };
                ErrorObject::owned(
                    EXECUTION_REVERTED,
                    message,
                    Some(hex::encode_prefixed(&data)),
                )
            }
        }
    }
}

/// The reason that Solidity encodes, if the data is `Error(string)` or `Panic(uint256)`.
fn revert_reason(data: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(data) {
        return Some(revert.reason);
    }
    Panic::abi_decode(data).ok().map(|panic| panic.to_string())
}

impl From<BackendError> for RpcError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Pool(_) | BackendError::Time(_) | BackendError::Excluded(_) => {
                Self::Refused(error.to_string())
            }
            BackendError::Limit(_) => Self::Limit(error.to_string()),
            BackendError::Execution(_) | BackendError::Journal(_) => {
                tracing::error!(%error, "the chain could not be changed");
                Self::Internal(error.to_string())
            }
        }
    }
}

impl From<ExecutionError> for RpcError {
    fn from(error: ExecutionError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<SimulationError> for RpcError {
    fn from(error: SimulationError) -> Self {
        match error {
            SimulationError::Invalid(invalid) => Self::Refused(super::call::refusal(&invalid)),
            SimulationError::Execution(error) => error.into(),
        }
    }
}

impl From<LogsError> for RpcError {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::UnknownBlock => Self::Refused(error.to_string()),
            LogsError::InvalidRange => Self::InvalidParams(error.to_string()),
            LogsError::TooManyBlocks | LogsError::TooManyLogs => Self::Limit(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::bytes;

    use super::*;

    #[test]
    fn a_revert_carries_code_reason_and_data() {
        let data = Revert::from("too late").abi_encode();
        let error = ErrorObjectOwned::from(RpcError::Reverted(data.clone().into()));
        assert_eq!(
            (error.code(), error.message()),
            (3, "execution reverted: too late")
        );
        let shown: String = serde_json::from_str(error.data().unwrap().get()).unwrap();
        assert_eq!(shown, hex::encode_prefixed(data));
        let custom = ErrorObjectOwned::from(RpcError::Reverted(bytes!("12345678")));
        assert_eq!(custom.message(), "execution reverted");
    }
}
