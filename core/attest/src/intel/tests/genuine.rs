//! Genuine evidence: what is believed of it, when, and under which policy.

use super::sample::*;
use crate::intel::*;
use alloy_primitives::{Bytes, bytes};
use cryptlet_types::policy::{ImageRule, TcbStatus};
use serde_json::Value;

#[test]
fn genuine_quotes_are_believed_while_their_collateral_is_valid() {
    for sample in all() {
        assert_eq!(sample.judge_at(sample.at), Ok(()));
    }
}

#[test]
fn a_quote_of_another_statement_is_refused() {
    let unbound = Err(AttestError::Unbound {
        what: "report data",
    });
    let sgx = Sample::sgx();
    assert_eq!(sgx.judge_bound(HELLO), Ok(()));
    assert_eq!(sgx.judge_bound(B256::repeat_byte(1)), unbound);
    // Nothing but the second half of their report data is wrong with these.
    for domain in [Sample::tdx(), Sample::tdx_1_0()] {
        let first = B256::from_slice(&domain.data[..32]);
        assert_eq!(domain.judge_bound(first), unbound);
    }
    for sample in all() {
        for index in [0, 31, 32, 63] {
            let mut replayed = sample.clone();
            replayed.data[index] ^= 0x80;
            assert_eq!(replayed.judge_at(sample.at), unbound);
        }
    }
}

#[test]
fn collateral_is_believed_from_its_youngest_date_to_its_oldest() {
    // The youngest issue, and the end that comes first: at that second a list has expired, other parts a second later.
    let dates = [
        (1_750_330_571, 1_752_919_278),
        (1_791_419_306, 1_794_008_711),
        (1_750_329_147, 1_752_919_235),
    ];
    for (sample, (first, last)) in all().into_iter().zip(dates) {
        assert_eq!(sample.judge_at(first), Ok(()));
        assert_eq!(sample.judge_at(last - 1), Ok(()));
        for moment in [0, first - 1, last + 1, last + (1 << 32), u64::MAX] {
            unproven(&sample.judge_at(moment), "");
        }
    }
}

#[test]
fn an_enclaves_quote_is_not_taken_for_a_domains_nor_the_other_way_round() {
    for sample in all() {
        let other = match sample.tee {
            Tee::Sgx => Sample::tdx(),
            Tee::Tdx => Sample::sgx(),
        };
        let rule = EvidenceRule {
            images: vec![sample.image([]), other.image([])],
            ..sample.rule()
        };
        let crossed = other.judge(sample.quote, sample.collateral, &rule, sample.at);
        malformed(&crossed, "quote");
    }
}

#[test]
fn collateral_of_another_platform_or_kind_is_refused() {
    let (sgx, tdx, older) = (Sample::sgx(), Sample::tdx(), Sample::tdx_1_0());
    for (one, other) in [
        (&sgx, &tdx),
        (&tdx, &sgx),
        (&sgx, &older),
        (&older, &tdx),
        (&tdx, &older),
    ] {
        let mixed = one.judge(one.quote, other.collateral, &one.rule(), other.at);
        match mixed {
            Err(AttestError::Malformed { field, .. }) => assert!(field.starts_with("pck_")),
            other => unproven(&other, ""),
        }
    }
    let older_says: Value = serde_json::from_slice(older.collateral).unwrap();
    let sgx_says: Value = serde_json::from_slice(sgx.collateral).unwrap();
    for (part, signature) in [
        ("tcb_info", "tcb_info_signature"),
        ("qe_identity", "qe_identity_signature"),
    ] {
        let mut mixed = older_says.clone();
        for field in [part, signature] {
            mixed[field] = sgx_says[field].clone();
        }
        // Genuine, signed and valid at the same time, and of an enclave's platform.
        unproven(&older.judge_collateral(mixed.to_string().as_bytes()), "");
    }
}

#[test]
fn policy_says_which_states_of_the_platform_are_accepted() {
    let (sgx, tdx) = (Sample::sgx(), Sample::tdx());
    let listing = |sample: &Sample, tcb: &[TcbStatus]| {
        sample.judge_under(&EvidenceRule {
            tcb: tcb.to_vec(),
            ..sample.rule()
        })
    };
    let refusal = listing(&sgx, &[]);
    refused(&refusal, "ConfigurationAndSWHardeningNeeded");
    refused(&refusal, "INTEL-SA-00289, INTEL-SA-00615");
    refused(
        &listing(&sgx, &[TcbStatus::SwHardeningNeeded]),
        "Configuration",
    );
    assert_eq!(listing(&sgx, &[TcbStatus::UpToDate, sgx.tcb]), Ok(()));
    assert_eq!(listing(&tdx, &[]), Ok(()));
    refused(&listing(&tdx, &[TcbStatus::OutOfDate]), "UpToDate");
}

#[test]
fn a_platform_below_every_level_that_intel_lists_is_refused() {
    let sample = Sample {
        quote: include_bytes!("../../../tests/samples/intel/tdx-outdated.quote"),
        collateral: include_bytes!("../../../tests/samples/intel/tdx-outdated.collateral.json"),
        at: 1_771_500_000,
        ..Sample::tdx()
    };
    unproven(&sample.judge_at(sample.at), "No matching TCB level");
}

#[test]
fn only_images_of_policy_are_accepted() {
    let (sgx, tdx) = (Sample::sgx(), Sample::tdx());
    let images = |sample: &Sample, images: Vec<ImageRule>| {
        sample.judge_under(&EvidenceRule {
            images,
            ..sample.rule()
        })
    };
    let signer = bytes!("815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6");
    let zeros = Bytes::from([0; 48]);
    for sample in all() {
        let other = ImageRule {
            registers: [(sample.image.0.into(), Bytes::from([7; 48]))].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![]), "names no image");
        refused(&images(&sample, vec![other.clone()]), sample.image.0);
        let short = ImageRule {
            registers: [(sample.image.0.into(), sample.image.1.slice(..31))].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![short]), sample.image.0);
        assert_eq!(images(&sample, vec![other, sample.image([])]), Ok(()));
        let unknown = sample.image([("pcr0", zeros.clone())]);
        refused(&images(&sample, vec![unknown]), "\"pcr0\"");
        let nothing = ImageRule {
            registers: [].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![nothing]), "does not name");
    }
    refused(&images(&sgx, vec![tdx.image([])]), "names no image");
    assert_eq!(
        images(&sgx, vec![sgx.image([("mrSigner", signer.clone())])]),
        Ok(())
    );
    refused(
        &images(&tdx, vec![tdx.image([("mrSigner", signer)])]),
        "\"mrSigner\"",
    );
    let config = tdx.image([("mrConfigId", bytes!("01"))]);
    refused(&images(&tdx, vec![config]), "mrConfigId");
    for name in ["rtMr0", "rtMr1", "rtMr2", "rtMr3", "mrSeam"] {
        // All of them have been extended in this domain.
        refused(
            &images(&tdx, vec![tdx.image([(name, zeros.clone())])]),
            name,
        );
    }
}
