//! Positional parameters of a method.

use alloy_eips::BlockId;
use alloy_primitives::U256;
use jsonrpsee::types::{Params, params::ParamsSequence};
use serde::{Deserialize, de::DeserializeOwned};

use super::error::RpcError;

/// Reads the parameters one after the other; errors name the one that is wrong.
pub(crate) struct Args<'a> {
    rest: ParamsSequence<'a>,
    named: bool,
    position: u32,
}

impl<'a> Args<'a> {
    pub(crate) fn new(params: &'a Params<'a>) -> Self {
        Self {
            rest: params.sequence(),
            named: params.is_object(),
            position: 0,
        }
    }

    /// The next parameter; null or nothing is an error.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RpcError> {
        self.optional(name)?.ok_or_else(|| {
            RpcError::InvalidParams(format!(
                "missing value for required argument {} ({name})",
                self.position.saturating_sub(1)
            ))
        })
    }

    /// The next parameter; null or nothing is none.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, RpcError> {
        if self.named {
            return Err(RpcError::InvalidParams(
                "parameters must be an array".into(),
            ));
        }
        let position = self.position;
        self.position = position.saturating_add(1);
        self.rest.optional_next().map_err(|error| {
            let reason = error
                .data()
                .map_or_else(|| error.message().into(), ToString::to_string);
            RpcError::InvalidParams(format!("invalid argument {position} ({name}): {reason}"))
        })
    }

    /// The next parameter as a block; nothing is the latest block.
    pub(crate) fn block(&mut self) -> Result<BlockId, RpcError> {
        Ok(self.optional("block")?.unwrap_or_default())
    }

    /// There must be no more parameters.
    pub(crate) fn end(mut self) -> Result<(), RpcError> {
        let taken = self.position;
        match self.optional::<serde::de::IgnoredAny>("extra")? {
            None => Ok(()),
            Some(_) => Err(RpcError::InvalidParams(format!(
                "too many arguments, want at most {taken}"
            ))),
        }
    }
}

/// A quantity that callers write as a hex string, a decimal string or a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrString")]
pub(crate) struct Quantity(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrString {
    Number(u64),
    String(U256),
}

impl TryFrom<NumberOrString> for Quantity {
    type Error = String;

    fn try_from(value: NumberOrString) -> Result<Self, String> {
        match value {
            NumberOrString::Number(number) => Ok(Self(number)),
            NumberOrString::String(number) => u64::try_from(number)
                .map(Self)
                .map_err(|_| format!("{number} does not fit 64 bits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_argument() {
        let params = Params::new(Some(r#"["0x1", true, 5]"#));
        let mut args = Args::new(&params);
        assert_eq!(args.required::<Quantity>("count").unwrap(), Quantity(1));
        let error = args.required::<Quantity>("interval").unwrap_err();
        let RpcError::InvalidParams(message) = error else {
            panic!("{error:?}")
        };
        assert!(
            message.starts_with("invalid argument 1 (interval)"),
            "{message}"
        );
    }

    #[test]
    fn missing_extra_and_named_parameters_are_refused() {
        let none = Params::new(None);
        assert!(Args::new(&none).required::<Quantity>("count").is_err());
        assert!(Args::new(&none).end().is_ok());
        let two = Params::new(Some("[1, 2]"));
        let mut args = Args::new(&two);
        args.required::<Quantity>("count").unwrap();
        let expected = RpcError::InvalidParams("too many arguments, want at most 1".into());
        assert_eq!(args.end(), Err(expected));
        let named = Params::new(Some(r#"{"count": 1}"#));
        assert!(Args::new(&named).optional::<Quantity>("count").is_err());
    }
}
