//! A vendor of our own: root, authority, platform, quoting enclave and lists, made as Intel makes them, so that tests can have
//! said what Intel never would.

use super::super::{Tee, pem};
use alloy_primitives::{B256, hex};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CustomExtension, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

/// 15 January 2026, midnight.
pub(super) const AT: u64 = 1_768_435_200;

const PCK_SERIAL: u64 = 1_001;
const AUTHORITY_SERIAL: u64 = 1_002;
const SIGNER_SERIAL: u64 = 1_003;

/// What is said about one platform. `Default` is what is accepted.
pub(super) struct Said {
    pub(super) tee: Tee,
    /// Status and advisories of the platform's level.
    pub(super) status: &'static str,
    pub(super) advisories: &'static [&'static str],
    /// Status of the quoting enclave's level.
    pub(super) qe_status: &'static str,
    /// Status of the level below the platform's, which the present module of a trust domain is on.
    pub(super) below: &'static str,
    /// Body of a trust domain's report is that of TDX 1.5, with a present module on the level below.
    pub(super) downgraded: bool,
    /// Bytes 0 and 3 of the attributes of enclave or domain.
    pub(super) attributes: (u8, u8),
    pub(super) qe_attributes: u8,
    pub(super) bound: [u8; 64],
    pub(super) pce_id: &'static str,
    pub(super) fmspc: &'static str,
    pub(super) tcb_type: u8,
    /// Serial numbers in the authority's and the root's lists.
    pub(super) revoked: Vec<u64>,
    pub(super) revoked_by_root: Vec<u64>,
    /// First and last day of January 2026 of the authority's list.
    pub(super) list: (u8, u8),
    /// The authority's list is signed by a key that is not the authority's.
    pub(super) list_of_stranger: bool,
    /// Last day of January 2026 of TCB info, QE identity, the platform's certificate, and the root's list.
    pub(super) ends: [u8; 4],
    /// A critical extension that nobody knows in the platform's certificate.
    pub(super) critical: bool,
    /// Last year of the root itself.
    pub(super) root_until: i32,
    /// What is shown as root, and believed, has the name of the one that issued everything, and another key.
    pub(super) other_root: bool,
}

impl Said {
    pub(super) fn of(tee: Tee) -> Self {
        Self {
            tee,
            status: "UpToDate",
            advisories: &[],
            qe_status: "UpToDate",
            below: "OutOfDate",
            downgraded: false,
            attributes: match tee {
                Tee::Sgx => (0x05, 0),
                Tee::Tdx => (0, 0x10),
            },
            qe_attributes: 0x11,
            bound: [0; 64],
            pce_id: "0000",
            fmspc: "00906ed50000",
            tcb_type: 0,
            revoked: vec![],
            revoked_by_root: vec![],
            list: (1, 31),
            list_of_stranger: false,
            ends: [31; 4],
            critical: false,
            root_until: 2049,
            other_root: false,
        }
    }
}

/// What a verifier is shown, and the root that it all goes back to.
pub(super) struct Shown {
    pub(super) root: Vec<u8>,
    pub(super) quote: Vec<u8>,
    pub(super) collateral: Value,
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

fn params(name: &str, serial: u64, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial.into());
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    params
}

fn root(said: &Said) -> Authority {
    let mut params = params("Root", 1_000, true);
    params.not_after = date_time_ymd(said.root_until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority {
        params,
        key,
        certificate,
    }
}

impl Authority {
    fn issue(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self {
            params,
            key,
            certificate,
        }
    }

    fn list(&self, serials: &[u64], days: (u8, u8), key: &KeyPair) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, days.0),
            next_update: date_time_ymd(2026, 1, days.1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::from_params(&self.params, key));
        hex::encode(list.unwrap().der())
    }

    /// `r` and `s` over `data`.
    fn sign(&self, data: &[u8]) -> Vec<u8> {
        sign(&self.key, data)
    }
}

fn sign(key: &KeyPair, data: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.serialized_der(), &random).unwrap();
    pair.sign(&random, data).unwrap().as_ref().to_vec()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..128 => vec![tag, u8::try_from(length).unwrap()],
        _ => vec![tag, 0x81, u8::try_from(length).unwrap()],
    };
    [head, content.to_vec()].concat()
}

/// An entry of the extension `1.2.840.113741.1.13.1`, by the end of its name.
fn entry(name: &[u8], value: Vec<u8>) -> Vec<u8> {
    let oid = [&hex!("2a864886f84d010d01"), name].concat();
    tlv(0x30, &[tlv(6, &oid), value].concat())
}

/// What Intel's certificates for platforms say about them (Intel SGX PCK Certificate and CRL Profile, section 1.3.5).
fn platform() -> Vec<u8> {
    let tcb = [
        entry(&[2, 17], tlv(2, &[5])),
        entry(&[2, 18], tlv(4, &[5; 16])),
    ];
    let entries = [
        entry(&[1], tlv(4, &[0; 16])),
        entry(&[2], tlv(0x30, &tcb.concat())),
        entry(&[3], tlv(4, &[0, 0])),
        entry(&[4], tlv(4, &hex!("00906ed50000"))),
        entry(&[5], tlv(10, &[0])),
    ];
    tlv(0x30, &entries.concat())
}

fn pck(said: &Said) -> CertificateParams {
    let mut params = params("PCK", PCK_SERIAL, false);
    let oid = [1, 2, 840, 113_741, 1, 13, 1];
    let extension = CustomExtension::from_oid_content(&oid, platform());
    params.custom_extensions.push(extension);
    if said.critical {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    }
    params.not_after = date_time_ymd(2026, 1, said.ends[2]);
    params
}

fn tcb_info(said: &Said) -> String {
    let components = |svn: u8| json!(vec![json!({ "svn": svn }); 16]);
    // The second component names the module's version: 0, the one without levels of its own.
    let domains = |svn: u8| {
        let mut all = components(svn);
        all[1]["svn"] = 0.into();
        all
    };
    let level = |svn: u8, status, advisories: &[&str]| {
        json!({
            "tcb": {
                "sgxtcbcomponents": components(5), "tdxtcbcomponents": domains(svn), "pcesvn": 5,
            },
            "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories,
        })
    };
    json!({
        "id": said.tee.tcb_info(), "version": 3,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": format!("2026-01-{:02}T00:00:00Z", said.ends[0]),
        "fmspc": said.fmspc, "pceId": said.pce_id, "tcbType": said.tcb_type,
        "tcbEvaluationDataNumber": 17,
        "tcbLevels": [level(5, said.status, said.advisories), level(0, said.below, &["LOW"])],
        "tdxModule": {
            "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "ff".repeat(8),
        },
        "tdxModuleIdentities": [],
    })
    .to_string()
}

fn qe_identity(said: &Said) -> String {
    json!({
        "id": match said.tee { Tee::Sgx => "QE", Tee::Tdx => "TD_QE" }, "version": 2,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": format!("2026-01-{:02}T00:00:00Z", said.ends[1]),
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000", "miscselectMask": "ffffffff",
        // As in Intel's, the mask leaves the bit for debugging (2) to be looked at.
        "attributes": format!("11{}", "00".repeat(15)), "attributesMask": format!("f9{}", "ff".repeat(15)),
        "mrsigner": "aa".repeat(32), "isvprodid": 1,
        "tcbLevels": [{
            "tcb": { "isvsvn": 1 }, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": said.qe_status,
            "advisoryIDs": ["QE-1"],
        }],
    })
    .to_string()
}

/// A report of an enclave.
fn enclave(attributes: u8, signer: u8, data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; 384];
    report[48] = attributes;
    report[64..96].fill(0xee);
    report[128..160].fill(signer);
    report[256] = 1;
    report[258] = 1;
    report[320..].copy_from_slice(data);
    report
}

/// A report of a trust domain (TDX 1.0, or 1.5 where the module was downgraded).
fn domain(said: &Said) -> Vec<u8> {
    let mut report = vec![0; 584];
    report[..16].fill(5);
    report[1] = 0;
    report[120] = said.attributes.0;
    report[123] = said.attributes.1;
    report[136..184].fill(0xdd);
    report[520..].copy_from_slice(&said.bound);
    if said.downgraded {
        report.extend([0; 16 + 48]);
    }
    report
}

/// Header and body: what the attestation key signs.
fn signed(said: &Said) -> Vec<u8> {
    let version: u16 = match (said.tee, said.downgraded) {
        (Tee::Sgx, _) => 3,
        (Tee::Tdx, false) => 4,
        (Tee::Tdx, true) => 5,
    };
    let body = match said.tee {
        Tee::Sgx => enclave(said.attributes.0, 0xbb, &said.bound),
        Tee::Tdx => domain(said),
    };
    let descriptor = match version {
        5 => [&[3, 0][..], &648u32.to_le_bytes()].concat(),
        _ => vec![],
    };
    [
        &version.to_le_bytes()[..],
        &2u16.to_le_bytes(),
        &said.tee.number().to_le_bytes(),
        &[0; 4],
        &hex!("939a7233f79c4ca9940a0db3957f0607"),
        &[0; 20],
        &descriptor,
        &body,
    ]
    .concat()
}

fn sized(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), data].concat()
}

fn quote(said: &Said, pck: &Authority, chain: &str) -> Vec<u8> {
    let attestation = KeyPair::generate().unwrap();
    let key = &attestation.public_key_raw()[1..];
    let auth = [7; 32];
    let hash = digest(&SHA256, &[key, &auth].concat());
    let hash = B256::from_slice(hash.as_ref());
    let mut data = [0; 64];
    data[..32].copy_from_slice(&hash[..]);
    let qe = enclave(said.qe_attributes, 0xaa, &data);
    let certified = [
        &qe[..],
        &pck.sign(&qe),
        &32u16.to_le_bytes(),
        &auth,
        &sized(5, chain.as_bytes()),
    ]
    .concat();
    let certified = match said.tee {
        Tee::Sgx => certified,
        Tee::Tdx => sized(6, &certified),
    };
    let signed = signed(said);
    let rest = [&sign(&attestation, &signed)[..], key, &certified].concat();
    let length = u32::try_from(rest.len()).unwrap().to_le_bytes();
    [signed, length.to_vec(), rest].concat()
}

/// Makes a quote with its collateral.
pub(super) fn forge(said: &Said) -> Shown {
    let issuer = root(said);
    let other = said.other_root.then(|| root(said));
    let authority = issuer.issue(params("Authority", AUTHORITY_SERIAL, true));
    let pck = authority.issue(pck(said));
    let signer = issuer.issue(params("Signer", SIGNER_SERIAL, false));
    let root = other.unwrap_or(issuer);
    let stranger = KeyPair::generate().unwrap();
    let list_key = if said.list_of_stranger {
        &stranger
    } else {
        &authority.key
    };
    let of = |chain: &[&Authority]| {
        let chain: Vec<_> = chain
            .iter()
            .map(|it| it.certificate.der().clone())
            .collect();
        pem::write(&chain)
    };
    let (tcb_info, qe_identity) = (tcb_info(said), qe_identity(said));
    Shown {
        quote: quote(said, &pck, &of(&[&pck, &authority, &root])),
        collateral: json!({
            "pck_crl_issuer_chain": of(&[&authority, &root]),
            "root_ca_crl": root.list(&said.revoked_by_root, (1, said.ends[3]), &root.key),
            "pck_crl": authority.list(&said.revoked, said.list, list_key),
            "tcb_info_issuer_chain": of(&[&signer, &root]),
            "tcb_info_signature": hex::encode(signer.sign(tcb_info.as_bytes())),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": of(&[&signer, &root]),
            "qe_identity_signature": hex::encode(signer.sign(qe_identity.as_bytes())),
            "qe_identity": qe_identity,
        }),
        root: root.certificate.der().to_vec(),
    }
}

/// Serial numbers of the platform's certificate, its authority's, and that of the signer of collateral.
pub(super) const SERIALS: [u64; 3] = [PCK_SERIAL, AUTHORITY_SERIAL, SIGNER_SERIAL];
