//! A folder that behaves as the kernel's (`drivers/virt/coco/guest/report.c`), and misbehaves when it is told to.

use super::{certificates::tests::usual, *};
use std::{collections::BTreeMap, sync::Mutex};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    None,
    /// The security module is asked by somebody else.
    Busy(&'static str),
    /// Somebody else writes to the entry after the report was made.
    Written,
    /// What is written is lost when the file is closed; the report is of what was there before.
    Lost,
    /// Reads end early.
    Short(usize),
    /// The report is about other data.
    Other,
    /// There is no such attribute.
    Without(&'static str),
    /// An attribute holds something else.
    Says(&'static str, &'static str),
    /// Names of entries are taken.
    Taken(u64),
    /// The entry stays.
    Stays,
}

#[derive(Default)]
struct Entry {
    generation: u64,
    inblob: Vec<u8>,
}

struct Fake {
    provider: &'static str,
    certificates: Vec<u8>,
    mischief: Mischief,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Fake {
    fn report(&self, entry: &mut Entry) -> io::Result<Vec<u8>> {
        if entry.inblob.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut data = entry.inblob.clone();
        match self.mischief {
            Mischief::Other => data[0] ^= 1,
            Mischief::Written => entry.generation += 1,
            _ => {}
        }
        Ok(match self.provider {
            "tdx_guest" => quote(4, &data),
            _ => snp_report(&data),
        })
    }
}

impl ReportFolder for Fake {
    fn create(&self, entry: &str) -> io::Result<()> {
        let number: u64 = entry.rsplit('-').next().unwrap().parse().unwrap();
        if matches!(self.mischief, Mischief::Taken(until) if number < until) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut entries = self.entries.lock().unwrap();
        assert!(entries.insert(entry.into(), Entry::default()).is_none());
        Ok(())
    }

    fn read(&self, entry: &str, attribute: &str) -> io::Result<Vec<u8>> {
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(entry).unwrap();
        match self.mischief {
            Mischief::Busy(busy) if busy == attribute => {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            Mischief::Without(missing) if missing == attribute => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Mischief::Says(says, what) if says == attribute => return Ok(what.into()),
            _ => {}
        }
        let mut bytes = match attribute {
            "provider" => format!("{}\n", self.provider).into_bytes(),
            "generation" => format!("{}\n", entry.generation).into_bytes(),
            "outblob" => self.report(entry)?,
            "auxblob" if self.provider == "sev_guest" => self.certificates.clone(),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        if let (Mischief::Short(length), "outblob") = (self.mischief, attribute) {
            bytes.truncate(length);
        }
        Ok(bytes)
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        assert_eq!((attribute, bytes.len()), ("inblob", REPORT_DATA_BYTES));
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(entry).unwrap();
        match self.mischief {
            Mischief::Busy("inblob") => return Err(io::ErrorKind::ResourceBusy.into()),
            Mischief::Lost => entry.inblob = bytes.to_vec(),
            _ => {
                entry.generation += 1;
                entry.inblob = bytes.to_vec();
            }
        }
        Ok(())
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        if self.mischief == Mischief::Stays {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.entries
            .lock()
            .unwrap()
            .remove(entry)
            .map(drop)
            .unwrap();
        Ok(())
    }
}

fn snp_report(data: &[u8]) -> Vec<u8> {
    let mut report = vec![0xab; SNP_REPORT_BYTES];
    report[SNP_REPORT_DATA..SNP_REPORT_DATA + data.len()].copy_from_slice(data);
    report
}

/// The shape of a quote: header, body, length of the signature data, signature data.
fn quote(version: u16, data: &[u8]) -> Vec<u8> {
    let mut quote = version.to_le_bytes().to_vec();
    quote.resize(TDX_HEADER_BYTES, 0xcd);
    let mut body = vec![0xab; TDX_BODY_BYTES];
    if version == 5 {
        // A TD 1.5 has 64 bytes more.
        body.resize(TDX_BODY_BYTES + 64, 0xab);
        quote.extend_from_slice(&3_u16.to_le_bytes());
        quote.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    }
    body[TDX_REPORT_DATA..TDX_REPORT_DATA + data.len()].copy_from_slice(data);
    quote.extend_from_slice(&body);
    quote.extend_from_slice(&100_u32.to_le_bytes());
    quote.extend_from_slice(&[0xee; 100]);
    quote
}

const BOUND: B256 = B256::repeat_byte(0x11);

fn tdx() -> Collateral {
    Collateral::Tdx(b"{}".into())
}

fn snp() -> Collateral {
    Collateral::SevSnp(SnpCollateral {
        revocations: b"list".into(),
        ..SnpCollateral::default()
    })
}

fn guest(collateral: &Collateral, mischief: Mischief) -> Tsm<Fake> {
    let folder = Fake {
        provider: collateral.name(),
        certificates: usual(),
        mischief,
        entries: Mutex::default(),
    };
    Tsm::new(folder, collateral.clone())
}

/// Asks, and sees that no entry stays.
fn asked(tsm: &Tsm<Fake>) -> Result<Attestation, AttesterError> {
    let attestation = tsm.attest(BOUND, B256::ZERO);
    assert!(
        tsm.folder.entries.lock().unwrap().is_empty(),
        "an entry stays"
    );
    attestation
}

fn refused(collateral: &Collateral, mischief: Mischief) -> AttesterError {
    asked(&guest(collateral, mischief)).unwrap_err()
}

fn bound_then_zeros() -> Vec<u8> {
    [[0x11; 32], [0; 32]].concat()
}

#[test]
fn a_tdx_guest_binds_the_statement_and_zeros_and_brings_its_collateral() {
    let tsm = guest(&tdx(), Mischief::None);
    assert_eq!(tsm.provider(), Provider::Tdx);
    let expected = Attestation::Tdx {
        quote: quote(4, &bound_then_zeros()).into(),
        collateral: b"{}".into(),
    };
    assert_eq!(asked(&tsm).unwrap(), expected);
    assert_eq!(asked(&tsm).unwrap(), expected, "and again");
}

#[test]
fn an_snp_guest_brings_the_hosts_certificates_and_the_revocations_that_were_given() {
    let tsm = guest(&snp(), Mischief::None);
    assert_eq!(tsm.provider(), Provider::SevSnp);
    let expected = Attestation::SevSnp {
        report: snp_report(&bound_then_zeros()).into(),
        certificates: [&b"leaf"[..], b"middle", b"root"].map(Bytes::from).into(),
        revocations: b"list".into(),
    };
    assert_eq!(asked(&tsm).unwrap(), expected);
}

#[test]
fn a_host_without_certificates_is_made_up_for_by_the_collateral_or_refused() {
    let missing = refused(&snp(), Mischief::Without("auxblob"));
    assert!(matches!(missing, AttesterError::Settings(_)), "{missing}");
    let certificate = |name: &'static [u8]| Some(Bytes::from_static(name));
    let whole = Collateral::SevSnp(SnpCollateral {
        endorsement: certificate(b"a"),
        intermediate: certificate(b"b"),
        root: certificate(b"c"),
        revocations: Bytes::new(),
    });
    let attestation = asked(&guest(&whole, Mischief::Without("auxblob"))).unwrap();
    assert!(matches!(
        attestation,
        Attestation::SevSnp { certificates, .. } if certificates == [&b"a"[..], b"b", b"c"].map(Bytes::from)
    ));
}

#[test]
fn a_busy_module_is_worth_a_retry_wherever_it_says_so() {
    for attribute in ["provider", "generation", "inblob", "outblob", "auxblob"] {
        let error = refused(&snp(), Mischief::Busy(attribute));
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains(attribute), "{error}");
    }
}

#[test]
fn a_report_of_a_changed_generation_is_not_taken() {
    for mischief in [Mischief::Written, Mischief::Lost] {
        for collateral in [tdx(), snp()] {
            let error = refused(&collateral, mischief);
            assert!(matches!(error, AttesterError::Busy(_)), "{error}");
        }
    }
}

#[test]
fn a_guest_of_another_kind_is_refused_by_name() {
    for name in ["sev_guest", "arm_cca_guest", "", "tdx_guest\n\n", "\u{7f}"] {
        let error = refused(&tdx(), Mischief::Says("provider", name));
        let expected = format!("provider: is {:?}", name.strip_suffix('\n').unwrap_or(name));
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn a_generation_that_is_no_number_is_refused() {
    for text in ["", "-1", "1 ", "18446744073709551616"] {
        let error = refused(&tdx(), Mischief::Says("generation", text));
        assert!(error.to_string().starts_with("generation: "), "{error}");
    }
}

#[test]
fn a_report_cut_short_anywhere_is_refused() {
    for length in [0, 1, 47, 200, 631, 632, 635, 636, 735] {
        let error = refused(&tdx(), Mischief::Short(length));
        assert!(error.to_string().contains("cut short"), "{length}: {error}");
    }
    for length in [0, SNP_REPORT_DATA, SNP_REPORT_BYTES - 1] {
        let error = refused(&snp(), Mischief::Short(length));
        assert!(error.to_string().contains("cut short"), "{length}: {error}");
    }
}

#[test]
fn a_report_about_other_data_is_refused() {
    for collateral in [tdx(), snp()] {
        let error = refused(&collateral, Mischief::Other);
        assert_eq!(error.to_string(), "outblob: is about other report data");
    }
}

#[test]
fn entries_that_others_left_are_passed_over_up_to_a_limit() {
    assert!(asked(&guest(&tdx(), Mischief::Taken(15))).is_ok());
    let error = refused(&tdx(), Mischief::Taken(16));
    assert!(error.is_retryable(), "{error}");
}

#[test]
fn an_entry_that_cannot_be_removed_is_an_error() {
    let tsm = guest(&tdx(), Mischief::Stays);
    let error = tsm.attest(BOUND, B256::ZERO).unwrap_err();
    assert!(error.to_string().starts_with("tsm/report entry"), "{error}");
}

#[test]
fn quotes_of_version_5_are_read_and_others_refused() {
    let data = bound_then_zeros();
    let five = quote(5, &data);
    assert!(check_report(&tdx(), &five, &data).is_ok());
    for length in 0..five.len() {
        assert!(
            check_report(&tdx(), &five[..length], &data).is_err(),
            "{length}"
        );
    }
    let error = check_report(&tdx(), &quote(3, &data), &data).unwrap_err();
    assert!(error.to_string().contains("version 3"), "{error}");
    let mut endless = five;
    endless[TDX_HEADER_BYTES + 2..TDX_HEADER_BYTES + 6].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(check_report(&tdx(), &endless, &data).is_err());
}
