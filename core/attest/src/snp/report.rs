//! The attestation report as it lies in memory (AMD 56860, "SEV Secure Nested Paging Firmware ABI Specification", table
//! `ATTESTATION_REPORT`): little-endian, 1,184 bytes, the last 512 of which are the signature over the rest.

use crate::{
    AttestError,
    read::{Fields, malformed},
};

/// Bytes of a report.
const REPORT_BYTES: usize = 0x4a0;
/// Bytes of it that are signed.
const SIGNED_BYTES: usize = 0x2a0;
/// ECDSA on P-384 with SHA-384: the only algorithm of reports.
const ECDSA_P384_SHA384: u32 = 1;
/// Policy bit that is always one.
const POLICY_ONE: u64 = 1 << 17;
/// Policy bits that no version gives a meaning: they are zero.
const POLICY_RESERVED: u64 = u64::MAX << 26;
/// Bits of the flags at 48h that have a meaning: author key, masked chip key, and three that name the signing key.
const FLAGS_KNOWN: u32 = 0b1_1111;

/// The key that signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// The chip's own.
    Vcek,
    /// One that AMD loaded into the chips of a cloud's operator.
    Vlek,
}

/// What a report says, as far as it is judged. Nothing of it is true before the signature is checked.
#[derive(Clone, Debug)]
pub(super) struct Report<'a> {
    pub(super) policy: u64,
    pub(super) vmpl: u32,
    pub(super) signer: Signer,
    pub(super) report_data: [u8; 64],
    pub(super) measurement: [u8; 48],
    pub(super) host_data: [u8; 32],
    /// The report of the guest's migration agent; all ones without one.
    pub(super) migration_agent: [u8; 32],
    /// The version of the trusted computing base that the signing key is derived from.
    pub(super) reported_tcb: [u8; 8],
    /// Family and model by `CPUID`; none in version 2.
    pub(super) processor: Option<(u8, u8)>,
    pub(super) chip_id: [u8; 64],
    /// The version that cannot be gone back behind.
    pub(super) committed_tcb: [u8; 8],
    /// The version when the guest was launched.
    pub(super) launch_tcb: [u8; 8],
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// `r` and `s`, big-endian, 48 bytes each.
    pub(super) signature: [u8; 96],
}

impl<'a> Report<'a> {
    /// Reads a report of version 2 to 5. Versions differ in what they reserve.
    ///
    /// # Errors
    /// Another size or version; reserved bytes or bits that are not as the version sets them; no signature.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, AttestError> {
        if bytes.len() != REPORT_BYTES {
            let reason = format!("is {} bytes, not {REPORT_BYTES}", bytes.len());
            return Err(malformed("report", reason));
        }
        let (signed, signature) = bytes
            .split_at_checked(SIGNED_BYTES)
            .ok_or_else(|| malformed("report", "ends too early"))?;
        let mut fields = Fields::of(signed);
        let version = u32::from_le_bytes(fields.array("version")?);
        if !(2..=5).contains(&version) {
            return Err(malformed("version", format!("{version} is not known")));
        }
        fields.bytes(4, "guest SVN")?;
        let policy = policy(u64::from_le_bytes(fields.array("policy")?))?;
        fields.bytes(32, "family and image")?;
        let vmpl = u32::from_le_bytes(fields.array("VMPL")?);
        let algorithm = u32::from_le_bytes(fields.array("signature algorithm")?);
        if algorithm != ECDSA_P384_SHA384 {
            return Err(malformed("signature algorithm", "is not ECDSA P-384"));
        }
        fields.bytes(16, "current TCB and platform info")?;
        let signer = signer(u32::from_le_bytes(fields.array("flags")?))?;
        fields.zeros(4, "bytes 4Ch to 4Fh")?;
        let report_data = fields.array("report data")?;
        let measurement = fields.array("measurement")?;
        let host_data = fields.array("host data")?;
        fields.bytes(48 + 48 + 32, "key digests and report id")?;
        let migration_agent = fields.array("report id of the migration agent")?;
        let reported_tcb = fields.array("reported TCB")?;
        let processor = processor(&mut fields, version)?;
        let chip_id = fields.array("chip id")?;
        let committed_tcb = fields.array("committed TCB")?;
        fields.bytes(3, "current version")?;
        fields.zeros(1, "byte 1EBh")?;
        fields.bytes(3, "committed version")?;
        fields.zeros(1, "byte 1EFh")?;
        let launch_tcb = fields.array("launch TCB")?;
        if version >= 5 {
            fields.bytes(16, "mitigation vectors")?;
            fields.zeros(152, "bytes 208h to 29Fh")?;
        } else {
            fields.zeros(168, "bytes 1F8h to 29Fh")?;
        }
        fields.end("report")?;
        Ok(Self {
            policy,
            vmpl,
            signer,
            report_data,
            measurement,
            host_data,
            migration_agent,
            reported_tcb,
            processor,
            chip_id,
            committed_tcb,
            launch_tcb,
            signed,
            signature: self::signature(signature)?,
        })
    }
}

fn policy(policy: u64) -> Result<u64, AttestError> {
    if policy & POLICY_ONE == 0 || policy & POLICY_RESERVED != 0 {
        return Err(malformed("policy", "reserved bits are not as they are set"));
    }
    Ok(policy)
}

fn signer(flags: u32) -> Result<Signer, AttestError> {
    if flags & !FLAGS_KNOWN != 0 {
        return Err(malformed("flags", "reserved bits are not zero"));
    }
    match flags >> 2 {
        0 => Ok(Signer::Vcek),
        1 => Ok(Signer::Vlek),
        _ => Err(malformed("flags", "the report is not signed")),
    }
}

fn processor(fields: &mut Fields<'_>, version: u32) -> Result<Option<(u8, u8)>, AttestError> {
    if version == 2 {
        fields.zeros(24, "bytes 188h to 19Fh")?;
        return Ok(None);
    }
    let [family, model, _stepping] = fields.array("CPUID")?;
    fields.zeros(21, "bytes 18Bh to 19Fh")?;
    Ok(Some((family, model)))
}

/// `r` and `s` in 72 bytes each, little-endian, and nothing behind them.
fn signature(bytes: &[u8]) -> Result<[u8; 96], AttestError> {
    let mut fields = Fields::of(bytes);
    let mut both = [0; 96];
    let (r, s) = both.split_at_mut(48);
    for number in [r, s] {
        number.copy_from_slice(fields.bytes(48, "signature")?);
        number.reverse();
        fields.zeros(24, "signature")?;
    }
    fields.zeros(368, "signature")?;
    fields.end("signature")?;
    Ok(both)
}
