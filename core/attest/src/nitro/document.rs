//! The attestation document of a Nitro enclave (AWS, "Nitro Enclaves Attestation Process", section 2.2): an untagged
//! `COSE_Sign1` (RFC 9052, section 4.2) over a CBOR map. Sizes are those of its section 3.2.2.

use crate::{AttestError, read::malformed};
use ciborium::Value;
use std::collections::BTreeMap;

/// Most bytes of a document: 16 KiB. The device's answers, of which it is a part, have 12 KiB at most.
const MAX_DOCUMENT_BYTES: usize = 16 << 10;
/// The protected header `{1: -35}`: ES384, and nothing else.
const ES384: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// Bytes of a signature: `r` and `s`, big-endian.
const SIGNATURE_BYTES: usize = 96;
/// Bytes of a register: SHA-384.
const REGISTER_BYTES: usize = 48;
/// Most registers.
const MAX_REGISTERS: usize = 32;
/// Most bytes of a certificate.
const MAX_CERTIFICATE_BYTES: usize = 1024;
/// Most certificates above the enclave's.
const MAX_BUNDLE: usize = 8;

/// A document. Nothing of it is true before the signature is checked.
#[derive(Debug)]
pub(super) struct Document {
    /// The bytes that are signed: `Sig_structure` of RFC 9052, section 4.4.
    pub(super) signed: Vec<u8>,
    /// The signature over them.
    pub(super) signature: Vec<u8>,
    /// When it was made.
    pub(super) milliseconds: u64,
    /// Locked registers.
    pub(super) pcrs: BTreeMap<u8, Vec<u8>>,
    /// The enclave's certificate, DER.
    pub(super) certificate: Vec<u8>,
    /// Those above it, DER, from the root.
    pub(super) bundle: Vec<Vec<u8>>,
    pub(super) user_data: Option<Vec<u8>>,
    pub(super) nonce: Option<Vec<u8>>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// Names the field that is missing, unknown, there twice, of another type or size, or encoded in a roundabout way.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AttestError> {
        let (payload, signature) = envelope(bytes)?;
        let signed = encode(&Value::Array(vec![
            Value::Text("Signature1".into()),
            Value::Bytes(ES384.to_vec()),
            Value::Bytes(vec![]),
            Value::Bytes(payload.clone()),
        ]))?;
        let mut map = Map::read(decode("payload", &payload)?)?;
        if map.text("module_id")?.is_empty() {
            return Err(malformed("module_id", "is empty"));
        }
        if map.text("digest")? != "SHA384" {
            return Err(malformed("digest", "is not SHA384"));
        }
        let milliseconds = map.number("timestamp")?;
        let pcrs = registers(map.take("pcrs")?)?;
        let certificate = certificate("certificate", map.take("certificate")?)?;
        let bundle = bundle(map.take("cabundle")?)?;
        map.bytes("public_key", 1..=1024)?;
        let user_data = map.bytes("user_data", 0..=512)?;
        let nonce = map.bytes("nonce", 0..=512)?;
        map.end()?;
        Ok(Self {
            signed,
            signature,
            milliseconds,
            pcrs,
            certificate,
            bundle,
            user_data,
            nonce,
        })
    }
}

/// Payload and signature.
fn envelope(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), AttestError> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        let reason = format!("is longer than {MAX_DOCUMENT_BYTES} bytes");
        return Err(malformed("document", reason));
    }
    let value = decode("document", bytes)?;
    // The envelope is not signed: there is one way to write it.
    if encode(&value)? != bytes {
        return Err(malformed("document", "is not encoded in the shortest way"));
    }
    let Value::Array(parts) = value else {
        return Err(malformed("document", "is no COSE_Sign1"));
    };
    let Ok(
        [
            Value::Bytes(protected),
            Value::Map(unprotected),
            Value::Bytes(payload),
            Value::Bytes(signature),
        ],
    ) = <[Value; 4]>::try_from(parts)
    else {
        return Err(malformed("document", "is no COSE_Sign1"));
    };
    if protected != ES384 {
        let reason = "is not ES384: AWS did not sign this (an emulated device signs nothing)";
        return Err(malformed("protected header", reason));
    }
    if !unprotected.is_empty() {
        return Err(malformed("unprotected header", "is not empty"));
    }
    if signature.len() != SIGNATURE_BYTES {
        let reason = format!("is {} bytes, not {SIGNATURE_BYTES}", signature.len());
        return Err(malformed("signature", reason));
    }
    Ok((payload, signature))
}

fn decode(field: &'static str, mut bytes: &[u8]) -> Result<Value, AttestError> {
    let value = ciborium::from_reader(&mut bytes)
        .map_err(|error| malformed(field, format!("is no CBOR: {error}")))?;
    match bytes.is_empty() {
        true => Ok(value),
        false => Err(malformed(field, "bytes follow it")),
    }
}

fn encode(value: &Value) -> Result<Vec<u8>, AttestError> {
    let mut bytes = vec![];
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| malformed("document", error.to_string()))?;
    Ok(bytes)
}

/// The payload's fields that were not taken yet.
struct Map {
    fields: BTreeMap<String, Value>,
}

impl Map {
    fn read(payload: Value) -> Result<Self, AttestError> {
        let Value::Map(pairs) = payload else {
            return Err(malformed("payload", "is no map"));
        };
        let mut fields = BTreeMap::new();
        for (name, value) in pairs {
            let Value::Text(name) = name else {
                return Err(malformed("payload", "has a field whose name is no text"));
            };
            if fields.insert(name, value).is_some() {
                return Err(malformed("payload", "has a field twice"));
            }
        }
        Ok(Self { fields })
    }

    fn take(&mut self, field: &'static str) -> Result<Value, AttestError> {
        self.fields
            .remove(field)
            .ok_or_else(|| malformed(field, "is missing"))
    }

    fn text(&mut self, field: &'static str) -> Result<String, AttestError> {
        match self.take(field)? {
            Value::Text(text) => Ok(text),
            _ => Err(malformed(field, "is no text")),
        }
    }

    fn number(&mut self, field: &'static str) -> Result<u64, AttestError> {
        let number = self.take(field)?.into_integer().ok();
        number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| malformed(field, "is no number above zero"))
    }

    /// A field that may be left out or null.
    fn bytes(
        &mut self,
        field: &'static str,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<Vec<u8>>, AttestError> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) if sizes.contains(&bytes.len()) => Ok(Some(bytes)),
            Some(_) => Err(malformed(field, "is not bytes of its size")),
        }
    }

    fn end(self) -> Result<(), AttestError> {
        match self.fields.is_empty() {
            true => Ok(()),
            false => Err(malformed("payload", "has a field that is not documented")),
        }
    }
}

fn registers(value: Value) -> Result<BTreeMap<u8, Vec<u8>>, AttestError> {
    let wrong = || malformed("pcrs", "is no map of 1 to 32 registers of SHA-384");
    let pairs = value.into_map().map_err(|_| wrong())?;
    if pairs.is_empty() || pairs.len() > MAX_REGISTERS {
        return Err(wrong());
    }
    let mut registers = BTreeMap::new();
    for (index, register) in pairs {
        let index = index.into_integer().map_err(|_| wrong())?;
        let index = u8::try_from(index).map_err(|_| wrong())?;
        let register = register.into_bytes().map_err(|_| wrong())?;
        if usize::from(index) >= MAX_REGISTERS || register.len() != REGISTER_BYTES {
            return Err(wrong());
        }
        if registers.insert(index, register).is_some() {
            return Err(malformed("pcrs", "has a register twice"));
        }
    }
    Ok(registers)
}

fn certificate(field: &'static str, value: Value) -> Result<Vec<u8>, AttestError> {
    match value {
        Value::Bytes(der) if (1..=MAX_CERTIFICATE_BYTES).contains(&der.len()) => Ok(der),
        _ => Err(malformed(field, "is no certificate of 1 to 1,024 bytes")),
    }
}

fn bundle(value: Value) -> Result<Vec<Vec<u8>>, AttestError> {
    match value {
        Value::Array(all) if (1..=MAX_BUNDLE).contains(&all.len()) => all
            .into_iter()
            .map(|one| certificate("cabundle", one))
            .collect(),
        _ => Err(malformed("cabundle", "is no list of 1 to 8 certificates")),
    }
}
