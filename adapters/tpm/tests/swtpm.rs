//! A real TPM in software: `swtpm`, started by the test, with state of its own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloy_primitives::{B256, Bytes};
use cryptlet_attest::judge;
use cryptlet_seal::attester::Attester;
use cryptlet_tpm::{Tpm, TpmSettings};
use cryptlet_types::{
    Attestation, Provider,
    policy::{EvidenceRule, ImageRule},
};
use p256::ecdsa::signature::Verifier;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};
use tempfile::TempDir;
use tss_esapi::{
    Context, TctiNameConf,
    handles::PcrHandle,
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{Attest, AttestInfo, DigestValues, Signature},
    traits::UnMarshall,
};

struct SoftwareTpm {
    folder: TempDir,
    tcti: String,
}

impl SoftwareTpm {
    /// Starts one. `--daemon` returns once the sockets are open, and wants absolute paths.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        for _ in 0..20 {
            let port = two_ports();
            let started = Command::new("swtpm")
                .args(["socket", "--tpm2", "--daemon"])
                .args(["--flags", "not-need-init,startup-clear"])
                .arg("--tpmstate")
                .arg(format!("dir={}", state.display()))
                .arg("--pid")
                .arg(format!("file={}", folder.path().join("pid").display()))
                .arg("--server")
                .arg(format!("type=tcp,port={port}"))
                .arg("--ctrl")
                .arg(format!("type=tcp,port={}", port + 1))
                .output()
                .expect("swtpm is not installed: scripts/setup.sh tpm");
            if started.status.success() {
                let tcti = format!("swtpm:host=127.0.0.1,port={port}");
                return Self { folder, tcti };
            }
        }
        panic!("no two free ports side by side");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn extend(&self, register: PcrHandle, value: &[u8]) {
        let mut context = Context::new(TctiNameConf::from_str(&self.tcti).unwrap()).unwrap();
        let mut values = DigestValues::new();
        let digest = Sha256::digest(value).to_vec().try_into().unwrap();
        values.set(HashingAlgorithm::Sha256, digest);
        context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.pcr_extend(register, values)
            })
            .unwrap();
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
        if let Some(pid) = pid
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// The first of two free ports side by side: the TPM's and that of its control channel.
fn two_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Whoever vouches for TPMs.
struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
}

struct AttestationKey(Bytes);

impl PublicKeyData for AttestationKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0[self.0.len() - 65..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { root }
    }

    fn certify(&self, public: &Bytes, path: &Path) {
        let key = AttestationKey(public.clone());
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // tcg-kp-AIKCertificate: the key signs what its TPM says and nothing else.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
        let certificate = params.signed_by(&key, &self.root).unwrap();
        fs::write(path, certificate.pem()).unwrap();
    }
}

const BOUND: B256 = B256::repeat_byte(7);
/// 2026-09-21, while every certificate here is valid.
const NOW: u64 = 1_790_000_000;

/// A TPM with an attestation key that was certified.
fn enrolled(tpm: &SoftwareTpm, authority: &Authority) -> TpmSettings {
    let settings = TpmSettings {
        tcti: tpm.tcti.clone(),
        key: tpm.path("ak"),
        certificates: tpm.path("ak.pem"),
        registers: vec![16, 0, 7],
    };
    let public = Tpm::enroll(&settings.tcti, &settings.key).unwrap();
    authority.certify(&public, &settings.certificates);
    settings
}

fn fixed(scalar: &[u8]) -> [u8; 32] {
    let mut all = [0; 32];
    all[32 - scalar.len()..].copy_from_slice(scalar);
    all
}

#[test]
fn a_quote_binds_the_statement_and_the_registers_and_is_signed_by_the_certified_key() {
    let (tpm, authority) = (SoftwareTpm::start(), Authority::new());
    tpm.extend(PcrHandle::Pcr16, b"package");
    let settings = enrolled(&tpm, &authority);
    let public = Tpm::enroll(&settings.tcti, &settings.key).unwrap();
    let attester = Tpm::open(&settings).unwrap();
    assert_eq!(attester.provider(), Provider::Tpm);
    let Attestation::Tpm {
        quote,
        signature,
        registers,
        certificates,
    } = attester.attest(BOUND, B256::ZERO).unwrap()
    else {
        panic!("another kind")
    };

    // Registers 0 and 7 of a TPM that booted nothing, and 16 as it was extended.
    let extended = Sha256::digest([vec![0; 32], Sha256::digest(b"package").to_vec()].concat());
    let expected = [vec![0; 32], vec![0; 32], extended.to_vec()].map(Bytes::from);
    assert_eq!(registers, expected);

    let said = Attest::unmarshall(&quote).unwrap();
    assert_eq!(said.extra_data().as_slice(), BOUND.as_slice());
    let AttestInfo::Quote { info } = said.attested() else {
        panic!("no quote")
    };
    assert_eq!(
        info.pcr_digest().as_slice(),
        Sha256::digest(expected.concat()).as_slice()
    );

    let Signature::EcDsa(signature) = Signature::unmarshall(&signature).unwrap() else {
        panic!("no ECDSA")
    };
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&public[public.len() - 65..]).unwrap();
    let parts = [signature.signature_r(), signature.signature_s()].map(|part| fixed(part));
    let signature = p256::ecdsa::Signature::from_scalars(parts[0], parts[1]).unwrap();
    key.verify(&quote, &signature).unwrap();
    assert!(
        key.verify(&[&quote[..], b"x"].concat(), &signature)
            .is_err()
    );
    assert_eq!(certificates.len(), 1);
}

/// The whole way, without a recording: what this TPM says now is judged by the verifier of hosts, vaults and receipts.
#[test]
fn a_quote_is_believed_under_a_policy_that_names_its_root_and_registers_and_under_no_other() {
    let (tpm, authority) = (SoftwareTpm::start(), Authority::new());
    let settings = enrolled(&tpm, &authority);
    let quote = || Tpm::open(&settings).unwrap().attest(BOUND, B256::ZERO);
    let booted = |register: &str, value: [u8; 32]| EvidenceRule {
        tpm_roots: vec![authority.root.der().to_vec().into()],
        images: vec![ImageRule {
            provider: Provider::Tpm,
            registers: BTreeMap::from([
                ("pcr0".into(), vec![0; 32].into()),
                (register.into(), value.to_vec().into()),
            ]),
        }],
        ..EvidenceRule::default()
    };
    let nothing = booted("pcr7", [0; 32]);
    let attestation = quote().unwrap();
    let judged = |bound, rule: &EvidenceRule| judge(&attestation, bound, B256::ZERO, rule, NOW);
    assert_eq!(judged(BOUND, &nothing), Ok(()));

    assert!(
        judged(B256::repeat_byte(8), &nothing).is_err(),
        "of another statement"
    );
    assert!(
        judged(BOUND, &booted("pcr7", [1; 32])).is_err(),
        "booted otherwise"
    );
    let foreign = EvidenceRule {
        tpm_roots: vec![Authority::new().root.der().to_vec().into()],
        ..nothing.clone()
    };
    assert!(
        judged(BOUND, &foreign).is_err(),
        "of a root that policy does not name"
    );
    let unnamed = EvidenceRule {
        tpm_roots: vec![],
        ..nothing.clone()
    };
    assert!(judged(BOUND, &unnamed).is_err(), "policy names no root");

    tpm.extend(PcrHandle::Pcr7, b"something else");
    let after = quote().unwrap();
    let judged = judge(&after, BOUND, B256::ZERO, &nothing, NOW);
    assert!(judged.is_err(), "something else was booted since");
}

#[test]
fn a_second_quote_is_of_the_registers_as_they_are_then() {
    let (tpm, authority) = (SoftwareTpm::start(), Authority::new());
    let settings = enrolled(&tpm, &authority);
    let registers = |settings: &TpmSettings| {
        let attester = Tpm::open(settings).unwrap();
        match attester.attest(BOUND, B256::ZERO).unwrap() {
            Attestation::Tpm { registers, .. } => registers,
            other => panic!("{other:?}"),
        }
    };
    let before = registers(&settings);
    tpm.extend(PcrHandle::Pcr7, b"something else");
    let after = registers(&settings);
    assert_ne!(before[1], after[1]);
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
}

#[test]
fn an_attester_quotes_again_and_again_and_the_key_stays_the_same() {
    let (tpm, authority) = (SoftwareTpm::start(), Authority::new());
    let settings = enrolled(&tpm, &authority);
    let first = Tpm::enroll(&settings.tcti, &settings.key).unwrap();
    assert_eq!(Tpm::enroll(&settings.tcti, &settings.key).unwrap(), first);
    let attester = Tpm::open(&settings).unwrap();
    for byte in 0..20 {
        attester
            .attest(B256::repeat_byte(byte), B256::ZERO)
            .unwrap();
    }
}

#[test]
fn a_key_of_another_tpm_and_a_certificate_of_another_key_are_refused() {
    let (one, other, authority) = (SoftwareTpm::start(), SoftwareTpm::start(), Authority::new());
    let (settings, foreign) = (enrolled(&one, &authority), enrolled(&other, &authority));
    let key = foreign.key.clone();
    let error = Tpm::open(&TpmSettings {
        key,
        ..settings.clone()
    })
    .unwrap_err();
    assert!(error.to_string().contains("the device refuses"), "{error}");
    let certificates = foreign.certificates.clone();
    let error = Tpm::open(&TpmSettings {
        certificates,
        ..settings.clone()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("not of the attestation key"),
        "{error}"
    );
    fs::write(&settings.certificates, "").unwrap();
    let error = Tpm::open(&settings).unwrap_err();
    assert!(error.to_string().contains("there is none"), "{error}");
}

#[test]
fn a_tpm_that_is_not_there_is_an_error() {
    let tcti = format!("swtpm:host=127.0.0.1,port={}", two_ports());
    let error = Tpm::enroll(&tcti, Path::new("/nowhere/ak")).unwrap_err();
    assert!(error.to_string().contains("the device refuses"), "{error}");
}
