use super::*;
use crate::testing::{
    NOW, TOO_EARLY, TOO_LATE, authority, issued, leaf, list, listed, p256, p384, refused, root,
    sign,
};
use cryptlet_types::policy::ImageRule;
use proptest::prelude::*;
use rcgen::{CertificateParams, CertificateRevocationListParams, CustomExtension, KeyPair};
use std::sync::LazyLock;

const AZURE: &[u8] = include_bytes!("../../tests/samples/snp/azure.report");
const VIRTEE: &[u8] = include_bytes!("../../tests/samples/snp/virtee.report");
const VIRTEE_VCEK: &[u8] = include_bytes!("../../tests/samples/snp/virtee.vcek.der");
const ASK_MILAN: &[u8] = include_bytes!("../../tests/samples/snp/ask-milan.der");
const BOUND: B256 = B256::repeat_byte(0x42);

/// A report, its chain and its list, all made here and open to change before they are signed.
struct Made {
    family: Family,
    report: Vec<u8>,
    ark: CertificateParams,
    ask: CertificateParams,
    vcek: CertificateParams,
    list: CertificateRevocationListParams,
    keys: [KeyPair; 3],
    rule: EvidenceRule,
    bound: B256,
    at: UnixSeconds,
}

/// The same, signed.
struct Signed {
    arks: Vec<(Family, Vec<u8>)>,
    report: Vec<u8>,
    certificates: Vec<Bytes>,
    revocations: Vec<u8>,
    rule: EvidenceRule,
    bound: B256,
    at: UnixSeconds,
}

const LEVELS: [u64; 4] = [1, 2, 3, 8];

/// Extension `1.3.6.1.4.1.3704.1.3.number` with a small integer.
fn level_extension(number: u64, value: u8) -> CustomExtension {
    let integer = match value {
        0x80.. => vec![2, 2, 0, value],
        _ => vec![2, 1, value],
    };
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 3704, 1, 3, number], integer)
}

fn identity(number: u64, value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 3704, 1, number], value)
}

impl Made {
    /// A report of version 3 by a Genoa, TCB 10.0.20.200, that the rule accepts.
    fn new() -> Self {
        let tcb = [10, 0, 0, 0, 0, 0, 20, 200];
        let mut report = vec![0; 0x2a0];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &3_u32.to_le_bytes());
        put(0x08, &0x3_001f_u64.to_le_bytes());
        put(0x34, &1_u32.to_le_bytes());
        put(0x50, BOUND.as_slice());
        put(0x90, &[0x11; 48]);
        put(0xc0, &[0x22; 32]);
        put(0x160, &[0xff; 32]);
        put(0x188, &[0x19, 0x11, 0]);
        put(0x1a0, &[0x33; 64]);
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            put(at, &tcb);
        }
        let mut vcek = leaf("SEV-VCEK");
        vcek.custom_extensions = LEVELS
            .into_iter()
            .zip([10, 0, 20, 200])
            .map(|(number, value)| level_extension(number, value))
            .collect();
        vcek.custom_extensions.push(identity(4, vec![0x33; 64]));
        let image = ImageRule {
            provider: Provider::SevSnp,
            registers: [("measurement".into(), vec![0x11; 48].into())].into(),
        };
        Self {
            family: Family::Genoa,
            report,
            ark: authority("ARK", 1, None),
            ask: authority("ASK", 2, Some(0)),
            vcek,
            list: list(&[9]),
            keys: [p384(), p384(), p384()],
            rule: EvidenceRule {
                snp: Some(SnpTcb {
                    bootloader: 10,
                    tee: 0,
                    snp: 20,
                    microcode: 200,
                }),
                images: vec![image],
                ..EvidenceRule::default()
            },
            bound: BOUND,
            at: NOW,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.report[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn sign(mut self) -> Signed {
        let [ark_key, ask_key, vcek_key] = &self.keys;
        let ark = root(&self.ark, ark_key);
        let mut signature = sign(vcek_key, &self.report);
        for number in signature.chunks_mut(48) {
            number.reverse();
            self.report.extend_from_slice(number);
            self.report.extend([0; 24]);
        }
        self.report.resize(0x4a0, 0);
        let vcek = issued(&self.vcek, vcek_key, (&self.ask, ask_key));
        let ask = issued(&self.ask, ask_key, (&self.ark, ark_key));
        Signed {
            revocations: listed(&self.list, (&self.ark, ark_key)),
            arks: vec![(self.family, ark.clone())],
            report: self.report,
            certificates: vec![vcek.into(), ask.into(), ark.into()],
            rule: self.rule,
            bound: self.bound,
            at: self.at,
        }
    }
}

impl Signed {
    fn judge(&self) -> Result<(), AttestError> {
        let arks: Vec<_> = self
            .arks
            .iter()
            .map(|(family, ark)| (*family, ark.as_slice()))
            .collect();
        let roots = Roots {
            arks: &arks,
            schemes: &[Scheme::EcdsaSha384],
        };
        let parts = Parts {
            report: &self.report,
            certificates: &self.certificates,
            revocations: &self.revocations,
        };
        judge_under(roots, parts, self.bound, &self.rule, self.at)
    }
}

/// Judges what is changed before it is signed.
fn made(change: impl FnOnce(&mut Made)) -> Result<(), AttestError> {
    let mut made = Made::new();
    change(&mut made);
    made.sign().judge()
}

/// Judges what is changed after it was signed.
fn altered(change: impl FnOnce(&mut Signed)) -> Result<(), AttestError> {
    let mut signed = Made::new().sign();
    change(&mut signed);
    signed.judge()
}

/// Checks the signatures of a genuine report of a Milan.
fn genuine(report: &[u8], vcek: &[u8], ask: &[u8], at: UnixSeconds) -> Result<Family, AttestError> {
    let ark = AMD.arks[0].1;
    let certificates = [vcek, ask, ark].map(Bytes::copy_from_slice);
    check_signatures(AMD, &Report::read(report)?, &read_path(&certificates)?, at)
}

#[test]
fn a_genuine_report_is_signed_by_amd() {
    let ask = |report, vcek, at| genuine(report, vcek, ASK_MILAN, at);
    for at in [1_690_000_000, NOW, 1_890_000_000] {
        assert_eq!(ask(VIRTEE, VIRTEE_VCEK, at), Ok(Family::Milan));
    }
    let early = ask(VIRTEE, VIRTEE_VCEK, 1_680_000_000);
    refused(early, "VCEK: is not valid before 2023-04-03");
    let late = ask(VIRTEE, VIRTEE_VCEK, 1_910_000_000);
    refused(late, "VCEK: expired at 2030-04-03");
    // A genuine report of another chip.
    refused(ask(AZURE, VIRTEE_VCEK, NOW), "is not signed by the VCEK");
    let other: &[u8] = include_bytes!("../../tests/samples/snp/ask-genoa.der");
    let result = genuine(VIRTEE, VIRTEE_VCEK, other, NOW);
    refused(result, "VCEK: is not issued by the ASK");
}

#[test]
fn what_a_genuine_report_says_is_judged() {
    let report = Report::read(AZURE).unwrap();
    let digest = B256::from_slice(&AZURE[0x50..0x70]);
    assert_eq!(check_bound(&report, digest), Ok(()));
    refused(check_bound(&report, BOUND), "report data");
    assert_eq!(check_guest(&report), Ok(()));
    let mut rule = Made::new().rule;
    rule.snp = Some(SnpTcb {
        bootloader: 3,
        tee: 0,
        snp: 8,
        microcode: 0x73,
    });
    assert_eq!(check_tcb(&report, Family::Milan, &rule), Ok(()));
    refused(check_image(&report, &rule), "measurement is 0x");
    let measured = Bytes::copy_from_slice(&AZURE[0x90..0xc0]);
    rule.images[0]
        .registers
        .insert("measurement".into(), measured);
    assert_eq!(check_image(&report, &rule), Ok(()));
}

#[test]
fn a_genuine_report_without_a_revocation_list_is_refused() {
    let ark = AMD.arks[0].1;
    let certificates = [VIRTEE_VCEK, ASK_MILAN, ark].map(Bytes::copy_from_slice);
    let parts = Parts {
        report: VIRTEE,
        certificates: &certificates,
        revocations: &[],
    };
    let digest = B256::from_slice(&VIRTEE[0x50..0x70]);
    let result = judge(parts, digest, &Made::new().rule, NOW);
    refused(result, "revocation list: is missing");
}

#[test]
fn no_byte_of_a_genuine_report_can_be_altered() {
    for place in 0..VIRTEE.len() {
        let mut report = VIRTEE.to_vec();
        report[place] ^= 0x10;
        let result = genuine(&report, VIRTEE_VCEK, ASK_MILAN, NOW);
        assert!(result.is_err(), "byte {place:#x}");
    }
}

#[test]
fn what_fits_is_accepted_in_each_version_and_family() {
    assert_eq!(made(|_| {}), Ok(()));
    let second = made(|made| {
        made.put(0, &[2]);
        made.put(0x188, &[0; 3]);
    });
    assert_eq!(second, Ok(()));
    let fifth = made(|made| {
        made.put(0, &[5]);
        made.put(0x1f8, &[1; 16]);
    });
    assert_eq!(fifth, Ok(()));
    assert_eq!(made(turin), Ok(()));
    assert_eq!(made(vlek), Ok(()));
    let host_data = made(|made| {
        let registers = &mut made.rule.images[0].registers;
        registers.insert("hostData".into(), vec![0x22; 32].into());
    });
    assert_eq!(host_data, Ok(()));
}

/// Turin has an FMC, another order in the TCB, and a chip identity of 8 bytes.
fn turin(made: &mut Made) {
    made.family = Family::Turin;
    made.put(0x188, &[0x1a, 0x02]);
    for at in [0x38, 0x180, 0x1e0, 0x1f0] {
        made.put(at, &[1, 10, 0, 20, 0, 0, 0, 200]);
    }
    made.put(0x1a8, &[0; 56]);
    let extensions = &mut made.vcek.custom_extensions;
    extensions.pop();
    extensions.push(identity(4, vec![0x33; 8]));
    extensions.push(level_extension(9, 1));
}

fn vlek(made: &mut Made) {
    made.put(0x48, &[0b100]);
    made.put(0x1a0, &[0; 64]);
    let extensions = &mut made.vcek.custom_extensions;
    extensions.pop();
    extensions.push(identity(5, b"\x16\x01a".to_vec()));
}

#[test]
fn a_report_of_another_statement_is_refused() {
    refused(made(|made| made.bound = B256::ZERO), "report data");
    refused(made(|made| made.put(0x70, &[1])), "report data");
    refused(made(|made| made.put(0x8f, &[1])), "report data");
    refused(made(|made| made.put(0x50, &[0])), "report data");
}

#[test]
fn guests_that_somebody_can_read_are_refused() {
    let policy = |bits: u64| made(|made| made.put(8, &(0x3_001f | bits).to_le_bytes()));
    assert_eq!(policy(0), Ok(()));
    refused(policy(1 << 19), "may debug");
    refused(policy(1 << 18), "migration agent");
    refused(made(|made| made.put(0x160, &[0; 32])), "migration agent");
    refused(made(|made| made.put(0x30, &[1])), "VMPL 1");
}

#[test]
fn a_trusted_computing_base_that_is_too_old_is_refused() {
    for (part, says) in [
        (0, "bootloader 10 is below 11"),
        (1, "tee 0 is below 1"),
        (2, "snp 20 is below 21"),
        (3, "microcode 200 is below 201"),
    ] {
        let old = made(|made| {
            let least = made.rule.snp.as_mut().unwrap();
            let parts = [
                &mut least.bootloader,
                &mut least.tee,
                &mut least.snp,
                &mut least.microcode,
            ];
            for (index, own) in parts.into_iter().enumerate() {
                *own += u8::from(index == part);
            }
        });
        refused(old, &format!("reported TCB: {says}"));
    }
    let committed = made(|made| made.put(0x1e0, &[9]));
    refused(committed, "committed TCB: bootloader 9 is below 10");
    let launch = made(|made| made.put(0x1f7, &[199]));
    refused(launch, "launch TCB: microcode 199 is below 200");
    refused(made(|made| made.rule.snp = None), "names no least TCB");
    let newer = made(|made| {
        made.put(0x1e0, &[11]);
        made.put(0x1f7, &[201]);
    });
    assert_eq!(newer, Ok(()));
}

#[test]
fn other_images_are_refused() {
    refused(made(|made| made.put(0x90, &[0])), "measurement is 0x0011");
    let unknown = made(|made| {
        let registers = &mut made.rule.images[0].registers;
        registers.insert("reportId".into(), vec![0].into());
    });
    refused(unknown, "reportId is no register of SEV-SNP");
    let host_data = made(|made| {
        let registers = &mut made.rule.images[0].registers;
        registers.insert("hostData".into(), vec![0; 32].into());
    });
    refused(host_data, "hostData is 0x22");
    refused(made(|made| made.rule.images.clear()), "names no image");
}

#[test]
fn a_certificate_of_another_chip_or_tcb_is_refused() {
    for (index, says) in [(0, "blSPL"), (1, "teeSPL"), (2, "snpSPL"), (3, "ucodeSPL")] {
        let other = made(|made| {
            made.vcek.custom_extensions[index] = level_extension(LEVELS[index], 9);
        });
        refused(other, says);
        let missing = made(|made| {
            made.vcek.custom_extensions.remove(index);
        });
        refused(missing, says);
    }
    let fmc = made(|made| {
        turin(made);
        made.put(0x180, &[2]);
    });
    refused(fmc, "fmcSPL");
    let reserved = made(|made| made.vcek.custom_extensions.push(level_extension(5, 1)));
    refused(reserved, "1.3.6.1.4.1.3704.1.3.5 is not zero");
    refused(made(|made| made.put(0x1a0, &[0])), "hwID is not");
    let masked = made(|made| {
        made.put(0x1a0, &[0; 64]);
        made.vcek.custom_extensions[4] = identity(4, vec![0; 64]);
    });
    refused(masked, "hwID is not");
    let short = made(|made| made.vcek.custom_extensions[4] = identity(4, vec![0x33; 63]));
    refused(short, "hwID is not");
    let anonymous = made(|made| {
        made.vcek.custom_extensions.pop();
    });
    refused(anonymous, "another kind");
    refused(made(|made| made.put(0x48, &[0b100])), "another kind");
    let vcek_as_vlek = made(|made| {
        vlek(made);
        made.put(0x48, &[0]);
    });
    refused(vcek_as_vlek, "another kind");
    refused(
        made(|made| made.put(0x188, &[0x19, 0x01])),
        "another family",
    );
}

#[test]
fn paths_that_do_not_hold_are_refused() {
    refused(made(|made| made.at = TOO_EARLY), "not valid before");
    refused(made(|made| made.at = TOO_LATE), "expired");
    let (strangers, own) = (Made::new().sign(), Made::new().sign());
    refused(
        altered(|signed| signed.arks.clone_from(&own.arks)),
        "is no root of AMD's",
    );
    refused(
        altered(|signed| signed.certificates.clone_from(&strangers.certificates)),
        "is no root of AMD's",
    );
    for index in 0..2 {
        let other = strangers.certificates[index].clone();
        let mixed = altered(|signed| signed.certificates[index] = other);
        refused(mixed, "is not signed by");
    }
    let parts = Parts {
        report: &own.report,
        certificates: &own.certificates,
        revocations: &own.revocations,
    };
    refused(judge(parts, BOUND, &own.rule, NOW), "is no root of AMD's");
    let curve = made(|made| made.keys[2] = p256());
    refused(curve, "no key on P-384");
}

#[test]
fn revoked_authorities_are_refused_and_so_are_lists_that_do_not_hold() {
    refused(made(|made| made.list = list(&[2])), "ASK: is revoked");
    refused(made(|made| made.list = list(&[1])), "ARK: is revoked");
    let expired = made(|made| made.list.next_update = rcgen::date_time_ymd(2026, 12, 31));
    refused(expired, "revocation list: expired");
    let early = made(|made| made.list.this_update = rcgen::date_time_ymd(2027, 6, 1));
    refused(early, "revocation list: is not valid before");
    let missing = altered(|signed| signed.revocations.clear());
    refused(missing, "revocation list: is missing");
    let other = Made::new().sign().revocations;
    let others = altered(|signed| signed.revocations = other);
    refused(others, "revocation list: is not signed by the ARK");
}

#[test]
fn reports_in_another_form_are_refused() {
    for (place, value, why) in [
        (0x00, 1, "version"),
        (0x00, 6, "version"),
        (0x0a, 0x01, "policy"),
        (0x0b, 0x04, "policy"),
        (0x34, 2, "signature algorithm"),
        (0x48, 0b1_1100, "the report is not signed"),
        (0x48, 0b10_0000, "flags"),
        (0x4c, 1, "bytes 4Ch to 4Fh"),
        (0x18b, 1, "bytes 18Bh to 19Fh"),
        (0x182, 1, "reported TCB"),
        (0x1e2, 1, "committed TCB"),
        (0x1f2, 1, "launch TCB"),
        (0x1eb, 1, "byte 1EBh"),
        (0x1ef, 1, "byte 1EFh"),
        (0x1f8, 1, "bytes 1F8h to 29Fh"),
        (0x29f, 1, "bytes 1F8h to 29Fh"),
    ] {
        refused(made(|made| made.put(place, &[value])), why);
    }
    let second = made(|made| made.put(0, &[2]));
    refused(second, "bytes 188h to 19Fh");
    let fifth = made(|made| {
        made.put(0, &[5]);
        made.put(0x208, &[1]);
    });
    refused(fifth, "bytes 208h to 29Fh");
    for (place, why) in [
        (0x2d0, "signature"),
        (0x318, "signature"),
        (0x49f, "signature"),
    ] {
        refused(altered(|signed| signed.report[place] = 1), why);
    }
}

#[test]
fn missing_parts_garbage_and_oversize_are_refused() {
    refused(altered(|signed| signed.report.clear()), "is 0 bytes");
    refused(altered(|signed| signed.report.push(0)), "is 1185 bytes");
    let unsigned = altered(|signed| signed.report[0x2a0..].fill(0));
    refused(unsigned, "is not signed by the VCEK");
    for index in 0..3 {
        let missing = altered(|signed| {
            signed.certificates.remove(index);
        });
        refused(missing, "are 2, not");
        let empty = altered(|signed| signed.certificates[index] = Bytes::new());
        refused(empty, "is missing");
        let garbage = altered(|signed| signed.certificates[index] = vec![1; 100].into());
        refused(garbage, "is no DER");
        let oversize = altered(|signed| signed.certificates[index] = vec![0; 9000].into());
        refused(oversize, "is longer than");
    }
    let turned = altered(|signed| signed.certificates.reverse());
    refused(turned, "is no root of AMD's");
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| Made::new().sign());

fn judge_sample(report: &[u8], certificates: &[Bytes], revocations: &[u8]) -> bool {
    let signed = Signed {
        arks: SIGNED.arks.clone(),
        report: report.to_vec(),
        certificates: certificates.to_vec(),
        revocations: revocations.to_vec(),
        rule: SIGNED.rule.clone(),
        bound: BOUND,
        at: NOW,
    };
    signed.judge().is_ok()
}

proptest! {
    #[test]
    fn nothing_altered_verifies(
        part in 0_usize..5, place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let mut parts = vec![SIGNED.report.clone(), SIGNED.revocations.clone()];
        parts.extend(SIGNED.certificates.iter().map(|der| der.to_vec()));
        let place = place.index(parts[part].len());
        parts[part][place] ^= mask;
        let certificates: Vec<Bytes> = parts[2..].iter().cloned().map(Bytes::from).collect();
        let accepted = judge_sample(&parts[0], &certificates, &parts[1]);
        prop_assert!(!accepted, "part {part} byte {place}");
    }

    #[test]
    fn no_genuine_certificate_can_be_altered(
        which in 0_usize..2, place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let mut pair = [VIRTEE_VCEK.to_vec(), ASK_MILAN.to_vec()];
        let place = place.index(pair[which].len());
        pair[which][place] ^= mask;
        prop_assert!(genuine(VIRTEE, &pair[0], &pair[1], NOW).is_err(), "byte {place}");
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        report in prop::collection::vec(any::<u8>(), 0..1300),
        body in prop::collection::vec(any::<u8>(), 1184),
        certificate in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(!judge_sample(&report, &SIGNED.certificates, &SIGNED.revocations));
        let _ = Report::read(&body);
        let three = vec![Bytes::from(certificate.clone()); 3];
        prop_assert!(!judge_sample(&SIGNED.report, &three, &certificate));
    }
}

#[test]
fn the_made_evidence_is_accepted_before_it_is_altered() {
    assert!(judge_sample(
        &SIGNED.report,
        &SIGNED.certificates,
        &SIGNED.revocations
    ));
}
