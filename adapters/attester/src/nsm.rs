//! AWS Nitro enclaves: `/dev/nsm`, the device of the Nitro Secure Module.
//!
//! Requests and responses are CBOR (AWS, `aws-nitro-enclaves-nsm-api`) and go through one ioctl (Linux,
//! `include/uapi/linux/nsm.h`).

use alloy_primitives::B256;
use ciborium::Value;
use cryptlet_seal::attester::{Attester, AttesterError, bounded};
use cryptlet_types::{Attestation, Provider};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Where Linux puts the device.
pub const DEVICE: &str = "/dev/nsm";
/// Most bytes of a response (`NSM_RESPONSE_MAX_SIZE`).
const MAX_RESPONSE_BYTES: usize = 0x3000;
const ATTESTATION: &str = "Attestation";

/// What answers requests of the Nitro Secure Module.
pub trait SecureModule: Send + Sync {
    /// Sends a request and waits for the response, both CBOR. The kernel gives up after two minutes.
    ///
    /// # Errors
    /// What the operating system says.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>>;
}

/// The device itself.
#[derive(Debug)]
pub struct NsmDevice {
    file: File,
}

impl NsmDevice {
    /// Opens it, at [`DEVICE`] as a rule.
    ///
    /// # Errors
    /// What the operating system says: there is none outside of an enclave.
    pub fn open(path: &Path) -> Result<Self, AttesterError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(AttesterError::system(path.display().to_string()))?;
        Ok(Self { file })
    }
}

/// `struct nsm_raw`: address and length of the request, then of the response.
#[repr(C)]
struct Message {
    request: u64,
    request_bytes: u64,
    response: u64,
    response_bytes: u64,
}

const RAW: Opcode = opcode::read_write::<Message>(0x0A, 0);

impl SecureModule for NsmDevice {
    #[allow(unsafe_code, reason = "no safe interface to an ioctl")]
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut response = vec![0_u8; MAX_RESPONSE_BYTES];
        let mut message = Message {
            request: u64::try_from(request.as_ptr().expose_provenance()).map_err(too_large)?,
            request_bytes: u64::try_from(request.len()).map_err(too_large)?,
            response: u64::try_from(response.as_mut_ptr().expose_provenance())
                .map_err(too_large)?,
            response_bytes: u64::try_from(response.len()).map_err(too_large)?,
        };
        // SAFETY: the opcode goes with the structure, whose layout is the kernel's. The kernel reads as many bytes of the
        // request and writes at most as many of the response as the structure says; both outlive the call.
        unsafe { ioctl(&self.file, Updater::<RAW, Message>::new(&mut message)) }?;
        response.truncate(usize::try_from(message.response_bytes).map_err(too_large)?);
        Ok(response)
    }
}

/// Gets attestation documents from a Nitro Secure Module.
#[derive(Debug)]
pub struct Nsm<M> {
    module: M,
}

impl<M: SecureModule> Nsm<M> {
    /// Asks this module.
    pub fn new(module: M) -> Self {
        Self { module }
    }
}

impl<M: SecureModule> Attester for Nsm<M> {
    fn provider(&self) -> Provider {
        Provider::Nitro
    }

    /// `bound` becomes `user_data`, `nonce` becomes `nonce`.
    fn attest(&self, bound: B256, nonce: B256) -> Result<Attestation, AttesterError> {
        let response = self
            .module
            .ask(&request(bound, nonce)?)
            .map_err(AttesterError::system("nsm"))?;
        let document = document(&response)?.into();
        bounded(Attestation::Nitro { document })
    }
}

fn request(bound: B256, nonce: B256) -> Result<Vec<u8>, AttesterError> {
    let text = |text: &str| Value::Text(text.into());
    let fields = vec![
        (text("user_data"), Value::Bytes(bound.to_vec())),
        (text("nonce"), Value::Bytes(nonce.to_vec())),
        (text("public_key"), Value::Null),
    ];
    let request = Value::Map(vec![(text(ATTESTATION), Value::Map(fields))]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&request, &mut bytes)
        .map_err(|error| AttesterError::malformed("request", error.to_string()))?;
    Ok(bytes)
}

/// The document in a response: a map of one entry, named after the request or `Error`.
fn document(response: &[u8]) -> Result<Vec<u8>, AttesterError> {
    let refuse = |reason: &str| AttesterError::malformed("response", reason);
    if response.len() > MAX_RESPONSE_BYTES {
        return Err(refuse("is larger than its buffer"));
    }
    let mut rest = response;
    let value: Value =
        ciborium::from_reader(&mut rest).map_err(|error| refuse(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse("goes on after its end"));
    }
    let (name, content) = only_entry(value).ok_or_else(|| refuse("is no map of one entry"))?;
    match (name.as_str(), content) {
        (ATTESTATION, content) => match only_entry(content) {
            Some((field, Value::Bytes(document)))
                if field == "document" && !document.is_empty() =>
            {
                Ok(document)
            }
            _ => Err(refuse("has no document")),
        },
        ("Error", Value::Text(code)) => Err(AttesterError::Refused(code)),
        _ => Err(refuse("answers another question")),
    }
}

fn only_entry(value: Value) -> Option<(String, Value)> {
    let Value::Map(mut entries) = value else {
        return None;
    };
    let entry = entries.pop()?;
    match (entry, entries.is_empty()) {
        ((Value::Text(name), content), true) => Some((name, content)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use proptest::prelude::*;
    use std::sync::Mutex;

    /// Made by AWS's own library, `aws-nitro-enclaves-nsm-api` 0.5, of the same values.
    const REQUEST: &str = "a16b4174746573746174696f6ea369757365725f646174615820\
        1111111111111111111111111111111111111111111111111111111111111111\
        656e6f6e63655820\
        2222222222222222222222222222222222222222222222222222222222222222\
        6a7075626c69635f6b6579f6";
    const RESPONSE: &str = "a16b4174746573746174696f6ea168646f63756d656e7443d28443";
    const TOO_LARGE: &str = "a1654572726f726d496e707574546f6f4c61726765";
    const RANDOM: &str = "a16947657452616e646f6da16672616e646f6d420102";

    /// Answers the same to everything, and remembers the question.
    struct Recorded {
        answer: io::Result<Vec<u8>>,
        asked: Mutex<Vec<u8>>,
    }

    impl SecureModule for Recorded {
        fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
            *self.asked.lock().unwrap() = request.to_vec();
            match &self.answer {
                Ok(answer) => Ok(answer.clone()),
                Err(error) => Err(error.kind().into()),
            }
        }
    }

    fn answered(answer: io::Result<Vec<u8>>) -> (Result<Attestation, AttesterError>, Vec<u8>) {
        let asked = Mutex::default();
        let nsm = Nsm::new(Recorded { answer, asked });
        let (bound, nonce) = (B256::repeat_byte(0x11), B256::repeat_byte(0x22));
        let attestation = nsm.attest(bound, nonce);
        let asked = nsm.module.asked.into_inner().unwrap();
        (attestation, asked)
    }

    fn refused(answer: &str) -> AttesterError {
        answered(Ok(hex::decode(answer).unwrap())).0.unwrap_err()
    }

    #[test]
    fn question_and_answer_are_those_of_awss_own_library() {
        let (attestation, asked) = answered(Ok(hex::decode(RESPONSE).unwrap()));
        assert_eq!(hex::encode(asked), REQUEST.replace(' ', ""));
        let document = vec![0xd2, 0x84, 0x43].into();
        assert_eq!(attestation.unwrap(), Attestation::Nitro { document });
    }

    #[test]
    fn the_ioctl_has_the_number_of_the_kernels_header() {
        assert_eq!(RAW, 0xC020_0A00);
    }

    #[test]
    fn a_device_that_is_no_secure_module_is_an_error_and_so_is_none() {
        let null = NsmDevice::open(Path::new("/dev/null")).unwrap();
        assert!(null.ask(b"x").is_err());
        let error = NsmDevice::open(Path::new("/nowhere/nsm")).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/nsm: "), "{error}");
    }

    #[test]
    fn a_refusal_is_told_in_the_devices_words() {
        let error = refused(TOO_LARGE);
        assert_eq!(error.to_string(), "the device refuses: InputTooLarge");
        assert!(!error.is_retryable());
    }

    #[test]
    fn hostile_answers_are_refused() {
        let deep = format!("{}00", "81".repeat(4_000));
        let cases = [
            ("", "response"),
            (RANDOM, "another question"),
            (RESPONSE.strip_suffix("43").unwrap(), "response"),
            (&format!("{RESPONSE}00"), "after its end"),
            // Two entries; a list; a document that is text, that is empty, that has company; an error that is no text.
            ("a2616100616200", "no map of one entry"),
            ("80", "no map of one entry"),
            ("a1006161", "no map of one entry"),
            (
                "a16b4174746573746174696f6ea168646f63756d656e746161",
                "no document",
            ),
            (
                "a16b4174746573746174696f6ea168646f63756d656e7440",
                "no document",
            ),
            (
                "a16b4174746573746174696f6ea268646f63756d656e744101616100",
                "no document",
            ),
            ("a1654572726f7207", "another question"),
            // A byte string that claims more than there is; nesting without end.
            ("a16b4174746573746174696f6e5bffffffffffffffff", "response"),
            (&deep, "response"),
        ];
        for (answer, reason) in cases {
            let error = refused(answer);
            assert!(
                matches!(&error, AttesterError::Malformed { .. })
                    && error.to_string().contains(reason),
                "{answer}: {error}"
            );
        }
        let (large, _) = answered(Ok(vec![0; MAX_RESPONSE_BYTES + 1]));
        assert!(large.unwrap_err().to_string().contains("larger"));
    }

    /// Memory for them there is none: a reader that makes room for what is announced would end the process.
    #[test]
    fn lengths_that_are_announced_and_do_not_come_are_refused() {
        for major in 2..=5_u8 {
            let length = format!("{:02x}{:016x}", major << 5 | 27, 1_u64 << 50);
            // By itself, as the answer, and as the document in it.
            for before in [
                "",
                "a16b4174746573746174696f6e",
                "a16b4174746573746174696f6ea168646f63756d656e74",
            ] {
                let error = refused(&format!("{before}{length}"));
                assert!(matches!(error, AttesterError::Malformed { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_device_that_does_not_answer_in_time_is_worth_a_retry() {
        let (attestation, _) = answered(Err(io::ErrorKind::TimedOut.into()));
        assert!(attestation.unwrap_err().is_retryable());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read_or_refused = document(&bytes);
        }

        #[test]
        fn any_document_comes_through(bytes in prop::collection::vec(any::<u8>(), 1..2_000)) {
            let text = |text: &str| Value::Text(text.into());
            let content = Value::Map(vec![(text("document"), Value::Bytes(bytes.clone()))]);
            let mut response = Vec::new();
            ciborium::into_writer(&Value::Map(vec![(text(ATTESTATION), content)]), &mut response).unwrap();
            prop_assert_eq!(document(&response).unwrap(), bytes);
        }
    }
}
