//! Reads over the gateway (ERC-3668).

use super::{Bytes20, FormError, HexBytes};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// What a wallet library asks a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallRequest {
    /// The contract that reverted with `OffchainLookup`.
    pub sender: Bytes20,
    /// Its `callData`.
    pub data: HexBytes,
}

/// What the gateway answers: for the callback of the contract that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallAnswer {
    /// The signed answer, as the contract takes it.
    pub data: HexBytes,
}

/// Call data in a path, with or without the ending `.json` that the template of ERC-3668 may add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallData(pub HexBytes);

/// Characters that fit into a path beside the rest of it; what is longer is sent as a body.
const MAX_IN_PATH: usize = 4_000;

impl FromStr for CallData {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        text.strip_suffix(".json").unwrap_or(text).parse().map(Self)
    }
}

impl PartialSchema for CallData {
    fn schema() -> RefOr<Schema> {
        let about = "Bytes in hex; .json may follow.";
        super::text::text_schema(
            r"^0x([0-9a-fA-F]{2})*(\.json)?$",
            2,
            Some(MAX_IN_PATH),
            about,
        )
    }
}

impl ToSchema for CallData {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_data_in_a_path_may_end_in_json() {
        for right in ["0x00fF", "0x00ff.json"] {
            let read: CallData = right.parse().unwrap();
            assert_eq!(read.0.to_string(), "0x00ff");
        }
        for wrong in ["", ".json", "0x0", "0x00.json.json", "0x00.JSON", "00"] {
            assert!(wrong.parse::<CallData>().is_err(), "{wrong}");
        }
    }
}
