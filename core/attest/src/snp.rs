//! AMD SEV-SNP: a report that the processor signs with a key whose certificate AMD signs (AMD 56860; AMD 57230, "VCEK
//! Certificate and KDS Interface Specification").

mod report;

use crate::{
    AttestError, image,
    read::{malformed, unproven},
    x509::{Certificate, KeyKind, Revocations, Rules, Scheme, check_path},
};
use alloy_primitives::{B256, Bytes};
use cryptlet_types::{
    Provider, UnixSeconds,
    policy::{EvidenceRule, SnpTcb},
};
use report::{Report, Signer};
use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use subtle::ConstantTimeEq;
use x509_cert::der::{Decode, asn1::ObjectIdentifier};

/// Policy bit: the host may debug the guest, that is, read its memory.
const POLICY_DEBUG: u64 = 1 << 19;
/// Policy bit: a migration agent may take the guest elsewhere.
const POLICY_MIGRATION: u64 = 1 << 18;

/// Extensions of a VCEK or VLEK certificate (AMD 57230, table "X.509 extensions").
const BOOTLOADER_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const RESERVED_SPL: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7"),
];
const MICROCODE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HARDWARE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const OPERATOR_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// Families of processors. Each has a root of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Milan,
    Genoa,
    Turin,
}

impl Family {
    /// Whether the family's processors say `family` and `model` of themselves. Genoa's root is that of Bergamo and Siena too.
    fn includes(self, (family, model): (u8, u8)) -> bool {
        match self {
            Self::Milan => family == 0x19 && model <= 0x0f,
            Self::Genoa => family == 0x19 && matches!(model, 0x10..=0x1f | 0xa0..=0xaf),
            Self::Turin => family == 0x1a && model <= 0x1f,
        }
    }
}

/// Whom to trust, and how they sign.
#[derive(Clone, Copy, Debug)]
struct Roots<'a> {
    arks: &'a [(Family, &'a [u8])],
    schemes: &'a [Scheme],
}

/// AMD's roots. `roots/README.md` has their digests.
const AMD: Roots<'static> = Roots {
    arks: &[
        (Family::Milan, include_bytes!("../roots/amd-ark-milan.der")),
        (Family::Genoa, include_bytes!("../roots/amd-ark-genoa.der")),
        (Family::Turin, include_bytes!("../roots/amd-ark-turin.der")),
    ],
    schemes: &[Scheme::RsaPssSha384],
};

/// What comes with a report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// The report.
    pub(crate) report: &'a [u8],
    /// VCEK or VLEK, ASK or ASVK, ARK.
    pub(crate) certificates: &'a [Bytes],
    /// The ARK's revocation list.
    pub(crate) revocations: &'a [u8],
}

pub(crate) fn judge(
    parts: Parts<'_>,
    bound: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    judge_under(AMD, parts, bound, rule, at)
}

fn judge_under(
    roots: Roots<'_>,
    parts: Parts<'_>,
    bound: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    let report = Report::read(parts.report)?;
    let path = read_path(parts.certificates)?;
    let family = check_signatures(roots, &report, &path, at)?;
    check_unrevoked(roots, &path, parts.revocations, at)?;
    check_bound(&report, bound)?;
    check_guest(&report)?;
    check_tcb(&report, family, rule)?;
    check_image(&report, rule)
}

/// Leaf, ASK and ARK.
fn read_path(certificates: &[Bytes]) -> Result<[Certificate<'_>; 3], AttestError> {
    let [leaf, ask, ark] = certificates else {
        let reason = format!("are {}, not VCEK, ASK and ARK", certificates.len());
        return Err(malformed("certificates", reason));
    };
    Ok([
        Certificate::read("VCEK", leaf)?,
        Certificate::read("ASK", ask)?,
        Certificate::read("ARK", ark)?,
    ])
}

/// Checks that a chip of AMD's made the report, and says of which family it is.
fn check_signatures(
    roots: Roots<'_>,
    report: &Report<'_>,
    path: &[Certificate<'_>; 3],
    at: UnixSeconds,
) -> Result<Family, AttestError> {
    let [leaf, _, ark] = path;
    let known = roots.arks.iter().find(|(_, root)| *root == ark.der());
    let Some((family, _)) = known else {
        return Err(unproven("ARK", "is no root of AMD's"));
    };
    let rules = Rules {
        schemes: roots.schemes,
        purpose: None,
    };
    check_path(path, rules, at)?;
    if leaf.key_kind()? != KeyKind::P384 {
        return Err(malformed("VCEK", "has no key on P-384"));
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.key())
        .verify(report.signed, &report.signature)
        .map_err(|_| unproven("report", "is not signed by the VCEK"))?;
    if report.processor.is_some_and(|own| !family.includes(own)) {
        return Err(unproven("ARK", "is that of another family"));
    }
    check_endorsed(report, *family, leaf)?;
    Ok(*family)
}

/// Checks that the certificate is of the chip and the TCB that the report is of.
fn check_endorsed(
    report: &Report<'_>,
    family: Family,
    leaf: &Certificate<'_>,
) -> Result<(), AttestError> {
    let tcb = Tcb::read(report.reported_tcb, family, "reported TCB")?;
    let levels = [
        (BOOTLOADER_SPL, tcb.parts.bootloader, "blSPL"),
        (TEE_SPL, tcb.parts.tee, "teeSPL"),
        (SNP_SPL, tcb.parts.snp, "snpSPL"),
        (MICROCODE_SPL, tcb.parts.microcode, "ucodeSPL"),
    ];
    let fmc = (family == Family::Turin).then_some((FMC_SPL, tcb.fmc, "fmcSPL"));
    for (id, reported, name) in levels.into_iter().chain(fmc) {
        if level(leaf, id)? != Some(reported) {
            let reason = format!("{name} is not the report's {reported}");
            return Err(unproven("VCEK", reason));
        }
    }
    for id in RESERVED_SPL {
        if level(leaf, id)?.is_some_and(|level| level != 0) {
            return Err(unproven("VCEK", format!("extension {id} is not zero")));
        }
    }
    let (hardware, operator) = (leaf.extension(HARDWARE_ID), leaf.extension(OPERATOR_ID));
    match (report.signer, hardware, operator) {
        (Signer::Vcek, Some(hardware), None) => check_chip(&report.chip_id, hardware, family),
        (Signer::Vlek, None, Some(_)) => Ok(()),
        _ => Err(unproven("VCEK", "is of another kind than the report says")),
    }
}

/// A security patch level of the certificate.
fn level(leaf: &Certificate<'_>, id: ObjectIdentifier) -> Result<Option<u8>, AttestError> {
    leaf.extension(id)
        .map(u8::from_der)
        .transpose()
        .map_err(|error| malformed("VCEK", format!("extension {id}: {error}")))
}

/// Turin's chips have 8 bytes of identity, the others 64; a report has 64, filled up with zeros. A masked identity is zero and
/// fits no certificate.
fn check_chip(chip: &[u8; 64], hardware: &[u8], family: Family) -> Result<(), AttestError> {
    let length = match family {
        Family::Milan | Family::Genoa => 64,
        Family::Turin => 8,
    };
    let fits = chip.split_at_checked(length).is_some_and(|(own, rest)| {
        own == hardware && own.iter().any(|byte| *byte != 0) && rest.iter().all(|byte| *byte == 0)
    });
    match fits {
        true => Ok(()),
        false => Err(unproven("VCEK", "hwID is not the report's chip id")),
    }
}

/// Checks that neither ASK nor ARK is revoked. ASKs publish no list: a VCEK is given up by raising the TCB.
fn check_unrevoked(
    roots: Roots<'_>,
    [_, ask, ark]: &[Certificate<'_>; 3],
    revocations: &[u8],
    at: UnixSeconds,
) -> Result<(), AttestError> {
    let list = Revocations::read(revocations, ark, roots.schemes, at)?;
    list.check(ask)?;
    list.check(ark)
}

fn check_bound(report: &Report<'_>, bound: B256) -> Result<(), AttestError> {
    let mut wanted = [0; 64];
    let (first, _) = wanted.split_at_mut(32);
    first.copy_from_slice(bound.as_slice());
    match bool::from(report.report_data.ct_eq(&wanted)) {
        true => Ok(()),
        false => Err(AttestError::Unbound {
            what: "report data",
        }),
    }
}

/// Refuses guests that somebody outside can read.
fn check_guest(report: &Report<'_>) -> Result<(), AttestError> {
    if report.policy & POLICY_DEBUG != 0 {
        return Err(refused("the host may debug the guest"));
    }
    if report.policy & POLICY_MIGRATION != 0 || report.migration_agent != [0xff; 32] {
        return Err(refused("a migration agent may move the guest"));
    }
    if report.vmpl != 0 {
        let vmpl = report.vmpl;
        return Err(refused(&format!("VMPL {vmpl} asked for the report, not 0")));
    }
    Ok(())
}

fn check_tcb(report: &Report<'_>, family: Family, rule: &EvidenceRule) -> Result<(), AttestError> {
    let Some(least) = rule.snp else {
        return Err(refused("names no least TCB (evidence.snp)"));
    };
    for (field, bytes) in [
        ("reported TCB", report.reported_tcb),
        ("committed TCB", report.committed_tcb),
        ("launch TCB", report.launch_tcb),
    ] {
        let tcb = Tcb::read(bytes, family, field)?.parts;
        for (part, own, least) in [
            ("bootloader", tcb.bootloader, least.bootloader),
            ("tee", tcb.tee, least.tee),
            ("snp", tcb.snp, least.snp),
            ("microcode", tcb.microcode, least.microcode),
        ] {
            if own < least {
                let reason = format!("{field}: {part} {own} is below {least}");
                return Err(refused(&reason));
            }
        }
    }
    Ok(())
}

fn check_image(report: &Report<'_>, rule: &EvidenceRule) -> Result<(), AttestError> {
    image::check(Provider::SevSnp, rule, |name| match name {
        "measurement" => Ok(&report.measurement[..]),
        "hostData" => Ok(&report.host_data),
        _ => Err("is no register of SEV-SNP"),
    })
}

/// `TCB_VERSION` (AMD 56860), whose order of bytes depends on the family.
#[derive(Clone, Copy, Debug)]
struct Tcb {
    parts: SnpTcb,
    /// The firmware of Turin's own first boot loader. Zero elsewhere.
    fmc: u8,
}

impl Tcb {
    fn read(bytes: [u8; 8], family: Family, field: &'static str) -> Result<Self, AttestError> {
        let (fmc, [bootloader, tee, snp, microcode], reserved) = match (family, bytes) {
            (Family::Turin, [fmc, bootloader, tee, snp, a, b, c, microcode]) => {
                (fmc, [bootloader, tee, snp, microcode], [a, b, c, 0])
            }
            (Family::Milan | Family::Genoa, [bootloader, tee, a, b, c, d, snp, microcode]) => {
                (0, [bootloader, tee, snp, microcode], [a, b, c, d])
            }
        };
        if reserved != [0; 4] {
            return Err(malformed(field, "reserved bytes are not zero"));
        }
        let parts = SnpTcb {
            bootloader,
            tee,
            snp,
            microcode,
        };
        Ok(Self { parts, fmc })
    }
}

fn refused(reason: &str) -> AttestError {
    AttestError::Refused(reason.to_owned())
}

#[cfg(test)]
mod tests;
