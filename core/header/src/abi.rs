//! The types of an interface, as its ABI describes them.

use alloy_json_abi::{EventParam, InternalType, Param};
use std::collections::{BTreeMap, BTreeSet};
use syn_solidity::{ItemEnum, ItemStruct, ItemUdt, SolIdent, Storage, Type, VariableDeclaration};

/// Structs within structs.
const MAX_DEPTH: usize = 8;
/// Parameters and fields that the ABI of one interface may describe: structs are written out wherever they are used, and
/// structs of structs grow fast.
const MAX_PARAMS: usize = 4_096;
/// What an `enum` of Solidity can hold.
const MAX_VARIANTS: usize = 256;

/// The custom types of an interface.
#[derive(Debug)]
pub(crate) struct Types {
    interface: String,
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeSet<String>,
    aliases: BTreeMap<String, ItemUdt>,
    params_left: usize,
}

/// A type in the ABI's words.
struct Described {
    /// `tuple[]` for an array of structs.
    abi: String,
    internal: InternalType,
    components: Vec<Param>,
    /// Whether Solidity wants to be told where it lies (`memory`, `calldata`).
    is_reference: bool,
}

impl Types {
    pub(crate) fn new(interface: String) -> Self {
        Self {
            interface,
            structs: BTreeMap::new(),
            enums: BTreeSet::new(),
            aliases: BTreeMap::new(),
            params_left: MAX_PARAMS,
        }
    }

    pub(crate) fn add_struct(&mut self, item: ItemStruct) {
        self.structs.insert(item.name.as_string(), item);
    }

    pub(crate) fn add_enum(&mut self, item: &ItemEnum) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for variant in &item.variants {
            let name = variant.ident.as_string();
            if !seen.insert(name.clone()) {
                return Err(format!("{name} is listed twice"));
            }
        }
        if seen.is_empty() || seen.len() > MAX_VARIANTS {
            return Err(format!("an enum has 1 to {MAX_VARIANTS} members"));
        }
        self.enums.insert(item.name.as_string());
        Ok(())
    }

    pub(crate) fn add_alias(&mut self, item: ItemUdt) -> Result<(), String> {
        let is_value = matches!(
            item.ty,
            Type::Address(..)
                | Type::Bool(_)
                | Type::FixedBytes(..)
                | Type::Int(..)
                | Type::Uint(..)
        );
        if !is_value {
            return Err(
                "a type is made of an elementary value type: uint256, address, bytes32 ...".into(),
            );
        }
        self.aliases.insert(item.name.as_string(), item);
        Ok(())
    }

    /// Sees that every struct can be described, used or not.
    pub(crate) fn check_structs(&mut self) -> Result<(), (String, String)> {
        let structs: Vec<_> = self.structs.values().cloned().collect();
        for item in structs {
            self.fields(&item, 0)
                .map_err(|reason| (item.name.as_string(), reason))?;
        }
        Ok(())
    }

    /// A parameter or result of a function, which says where a reference lies.
    pub(crate) fn argument(&mut self, declared: &VariableDeclaration) -> Result<Param, String> {
        let described = self.describe(&declared.ty, 0)?;
        let placed = match &declared.storage {
            None => !described.is_reference,
            Some(Storage::Memory(_) | Storage::Calldata(_)) => described.is_reference,
            Some(Storage::Storage(_) | Storage::Transient(_)) => false,
        };
        if !placed {
            let how = match described.is_reference {
                true => "needs memory or calldata behind it",
                false => "is a value: nothing stands between type and name",
            };
            return Err(format!("{} {how}", declared.ty));
        }
        param(declared.name.as_ref(), described)
    }

    /// A parameter of an error, or a field of a struct.
    pub(crate) fn value(
        &mut self,
        declared: &VariableDeclaration,
        depth: usize,
    ) -> Result<Param, String> {
        if declared.storage.is_some() {
            return Err(format!(
                "{}: only functions say where an argument lies",
                declared.ty
            ));
        }
        let described = self.describe(&declared.ty, depth)?;
        param(declared.name.as_ref(), described)
    }

    /// A parameter of an event.
    pub(crate) fn event_param(
        &mut self,
        ty: &Type,
        name: Option<&SolIdent>,
        indexed: bool,
    ) -> Result<EventParam, String> {
        let Described {
            abi,
            internal,
            components,
            ..
        } = self.describe(ty, 0)?;
        let name = name.map(identifier).transpose()?.unwrap_or_default();
        EventParam::new(&name, &abi, indexed, components, Some(internal))
            .map_err(|error| error.to_string())
    }

    fn describe(&mut self, ty: &Type, depth: usize) -> Result<Described, String> {
        self.params_left = self.params_left.checked_sub(1).ok_or_else(|| {
            format!("the interface describes more than {MAX_PARAMS} parameters and fields")
        })?;
        match ty {
            Type::Address(_, None) => Ok(elementary("address", false)),
            Type::Address(_, Some(_)) => Ok(Described {
                internal: InternalType::AddressPayable("address payable".into()),
                ..elementary("address", false)
            }),
            Type::Bool(_) => Ok(elementary("bool", false)),
            Type::String(_) => Ok(elementary("string", true)),
            Type::Bytes(_) => Ok(elementary("bytes", true)),
            Type::FixedBytes(_, size) => Ok(elementary(&format!("bytes{size}"), false)),
            Type::Int(_, size) => Ok(elementary(
                &format!("int{}", size.map_or(256, u16::from)),
                false,
            )),
            Type::Uint(_, size) => Ok(elementary(
                &format!("uint{}", size.map_or(256, u16::from)),
                false,
            )),
            Type::Array(array) => {
                let suffix = match (&array.size, array.size()) {
                    (None, _) => "[]".into(),
                    (Some(_), Some(size)) if size > 0 => format!("[{size}]"),
                    _ => return Err("the size of an array is a number, at least 1".into()),
                };
                self.describe(&array.ty, depth).map(|of| of.array(&suffix))
            }
            Type::Custom(path) => match path.iter().collect::<Vec<_>>().as_slice() {
                [name] => self.custom(&name.as_string(), depth),
                _ => Err(format!("{path}: name types without a path")),
            },
            Type::Tuple(_) | Type::Function(_) | Type::Mapping(_) => {
                Err(format!("{ty} cannot be sent to a contract"))
            }
        }
    }

    fn custom(&mut self, name: &str, depth: usize) -> Result<Described, String> {
        let contract = Some(self.interface.clone());
        let ty = name.to_owned();
        if self.enums.contains(name) {
            let internal = InternalType::Enum { contract, ty };
            return Ok(Described {
                internal,
                ..elementary("uint8", false)
            });
        }
        if let Some(alias) = self.aliases.get(name).cloned() {
            let internal = InternalType::Other { contract, ty };
            return Ok(Described {
                internal,
                ..self.describe(&alias.ty, depth)?
            });
        }
        let Some(item) = self.structs.get(name).cloned() else {
            return Err(format!("{name} is no type of this interface"));
        };
        Ok(Described {
            abi: "tuple".into(),
            internal: InternalType::Struct { contract, ty },
            components: self.fields(&item, depth)?,
            is_reference: true,
        })
    }

    fn fields(&mut self, item: &ItemStruct, depth: usize) -> Result<Vec<Param>, String> {
        if depth == MAX_DEPTH {
            return Err(format!(
                "structs in structs are at most {MAX_DEPTH} deep, and never hold themselves"
            ));
        }
        item.fields
            .iter()
            .map(|field| self.value(field, depth + 1))
            .collect()
    }
}

impl Described {
    fn array(self, suffix: &str) -> Self {
        let internal = match self.internal {
            InternalType::AddressPayable(ty) => InternalType::AddressPayable(ty + suffix),
            InternalType::Contract(ty) => InternalType::Contract(ty + suffix),
            InternalType::Enum { contract, ty } => InternalType::Enum {
                contract,
                ty: ty + suffix,
            },
            InternalType::Struct { contract, ty } => InternalType::Struct {
                contract,
                ty: ty + suffix,
            },
            InternalType::Other { contract, ty } => InternalType::Other {
                contract,
                ty: ty + suffix,
            },
        };
        Self {
            abi: self.abi + suffix,
            internal,
            components: self.components,
            is_reference: true,
        }
    }
}

fn elementary(name: &str, is_reference: bool) -> Described {
    Described {
        abi: name.into(),
        internal: InternalType::Other {
            contract: None,
            ty: name.into(),
        },
        components: Vec::new(),
        is_reference,
    }
}

fn param(name: Option<&SolIdent>, described: Described) -> Result<Param, String> {
    let Described {
        abi,
        internal,
        components,
        ..
    } = described;
    let name = name.map(identifier).transpose()?.unwrap_or_default();
    Param::new(&name, &abi, components, Some(internal)).map_err(|error| error.to_string())
}

/// A parameter's or field's name, if both parsers read the same.
fn identifier(name: &SolIdent) -> Result<String, String> {
    match name.as_string() {
        name if ["this", "This", "super", "crate", "_"].contains(&name.as_str()) => {
            Err(format!("{name:?} (or self) cannot be a name here"))
        }
        name => Ok(name),
    }
}
