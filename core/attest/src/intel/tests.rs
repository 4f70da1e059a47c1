//! What no genuine sample shows: a vendor of our own says it, and a verifier that believes this vendor is asked.

mod altered;
mod forge;
mod genuine;
mod sample;

use super::*;
use cryptlet_types::policy::{ImageRule, TcbStatus};
use forge::{AT, SERIALS, Said, Shown, forge};

const BOTH: [Tee; 2] = [Tee::Sgx, Tee::Tdx];

fn rule(tee: Tee, tcb: &[TcbStatus]) -> EvidenceRule {
    let (name, value) = match tee {
        Tee::Sgx => ("mrEnclave", vec![0xee; 32]),
        Tee::Tdx => ("mrTd", vec![0xdd; 48]),
    };
    EvidenceRule {
        max_age_seconds: 60,
        images: vec![ImageRule {
            provider: tee.provider(),
            registers: [(name.into(), value.into())].into(),
        }],
        tcb: tcb.to_vec(),
        ..EvidenceRule::default()
    }
}

fn judge_shown(
    shown: &Shown,
    root: &[u8],
    tee: Tee,
    tcb: &[TcbStatus],
    at: u64,
) -> Result<(), AttestError> {
    let collateral = shown.collateral.to_string();
    let quote = Quoted {
        tee,
        quote: &shown.quote,
        collateral: collateral.as_bytes(),
    };
    quote.judge_under(root, &[0; 64], &rule(tee, tcb), at)
}

/// What a verifier says that believes this vendor, 14 days into January.
fn judged(said: &Said, tcb: &[TcbStatus]) -> Result<(), AttestError> {
    let shown = forge(said);
    judge_shown(&shown, &shown.root, said.tee, tcb, AT)
}

fn unproven(said: &Said, why: &str) {
    // Not even a policy that accepts every state accepts it.
    let every = [
        TcbStatus::UpToDate,
        TcbStatus::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
    ];
    match judged(said, &every) {
        Err(AttestError::Unproven { reason, .. }) if reason.contains(why) => {}
        other => panic!("{other:?} does not say {why}"),
    }
}

fn refused(result: Result<(), AttestError>, why: &str) {
    match result {
        Err(AttestError::Refused(reason)) if reason.contains(why) => {}
        other => panic!("{other:?} does not say {why}"),
    }
}

#[test]
fn the_root_built_in_is_intels() {
    let digest = ring::digest::digest(&ring::digest::SHA256, ROOT);
    let published = hex!("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
    assert_eq!(digest.as_ref(), published);
}

#[test]
fn only_the_root_that_is_believed_counts() {
    for tee in BOTH {
        let shown = forge(&Said::of(tee));
        let strangers = forge(&Said::of(tee)).root;
        assert_eq!(judge_shown(&shown, &shown.root, tee, &[], AT), Ok(()));
        for root in [ROOT, &strangers] {
            assert!(judge_shown(&shown, root, tee, &[], AT).is_err());
        }
    }
}

#[test]
fn a_chain_that_only_names_the_root_is_refused() {
    for tee in BOTH {
        let said = Said {
            other_root: true,
            ..Said::of(tee)
        };
        unproven(&said, "InvalidSignatureForPublicKey");
    }
}

#[test]
fn a_revoked_certificate_is_refused_wherever_it_stands() {
    let [pck, authority, signer] = SERIALS;
    for tee in BOTH {
        let other = Said {
            revoked: vec![1, 2, 3],
            revoked_by_root: vec![4, pck],
            ..Said::of(tee)
        };
        assert_eq!(judged(&other, &[]), Ok(()));
        let revoked = Said {
            revoked: vec![1, pck],
            ..Said::of(tee)
        };
        unproven(&revoked, "CertRevoked");
        for serial in [authority, signer, 1_000] {
            let revoked = Said {
                revoked_by_root: vec![serial],
                ..Said::of(tee)
            };
            unproven(&revoked, "CertRevoked");
        }
    }
}

#[test]
fn revocation_lists_are_believed_from_their_day_to_their_last_and_only_from_their_authority() {
    for tee in BOTH {
        let not_yet = Said {
            list: (16, 31),
            ..Said::of(tee)
        };
        unproven(&not_yet, "not valid yet");
        let expired = Said {
            list: (1, 14),
            ..Said::of(tee)
        };
        unproven(&expired, "CrlExpired");
        let strangers = Said {
            list_of_stranger: true,
            ..Said::of(tee)
        };
        unproven(&strangers, "InvalidCrlSignatureForPublicKey");
    }
}

#[test]
fn whatever_has_expired_is_refused() {
    for tee in BOTH {
        for (index, why) in [
            "TCBInfo expired",
            "QE Identity expired",
            "CertExpired",
            "CrlExpired",
        ]
        .into_iter()
        .enumerate()
        {
            let mut said = Said::of(tee);
            said.ends[index] = 14;
            unproven(&said, why);
        }
        let root = Said {
            root_until: 2026,
            ..Said::of(tee)
        };
        unproven(&root, "has expired");
    }
}

#[test]
fn an_enclave_or_domain_that_can_be_debugged_is_refused() {
    for (tee, attributes, why) in [
        (Tee::Sgx, (0x07, 0), "Debug"),
        (Tee::Tdx, (0x01, 0x10), "Debug"),
        (Tee::Tdx, (0x10, 0x10), "profiling"),
        (Tee::Tdx, (0, 0x30), "migration"),
        (Tee::Tdx, (0, 0), "SEPT_VE_DISABLE"),
    ] {
        let said = Said {
            attributes,
            ..Said::of(tee)
        };
        unproven(&said, why);
    }
    for tee in BOTH {
        let quoting = Said {
            qe_attributes: 0x13,
            ..Said::of(tee)
        };
        unproven(&quoting, "Debug");
    }
}

#[test]
fn a_revoked_platform_is_refused_whatever_policy_says() {
    for tee in BOTH {
        let platform = Said {
            status: "Revoked",
            ..Said::of(tee)
        };
        unproven(&platform, "Revoked");
        let quoting = Said {
            qe_status: "Revoked",
            ..Said::of(tee)
        };
        unproven(&quoting, "Revoked");
    }
}

#[test]
fn every_state_is_accepted_where_policy_lists_it_and_refused_where_not() {
    let states = [
        ("UpToDate", TcbStatus::UpToDate),
        ("SWHardeningNeeded", TcbStatus::SwHardeningNeeded),
        ("ConfigurationNeeded", TcbStatus::ConfigurationNeeded),
        (
            "ConfigurationAndSWHardeningNeeded",
            TcbStatus::ConfigurationAndSwHardeningNeeded,
        ),
        ("OutOfDate", TcbStatus::OutOfDate),
        (
            "OutOfDateConfigurationNeeded",
            TcbStatus::OutOfDateConfigurationNeeded,
        ),
    ];
    for (status, listed) in states {
        let said = Said {
            status,
            advisories: &["INTEL-SA-1", "INTEL-SA-2"],
            ..Said::of(Tee::Tdx)
        };
        assert_eq!(judged(&said, &[listed]), Ok(()));
        let others: Vec<_> = states
            .into_iter()
            .map(|(_, other)| other)
            .filter(|other| *other != listed)
            .collect();
        let result = judged(&said, &others);
        refused(result.clone(), status);
        refused(result, "INTEL-SA-1, INTEL-SA-2");
    }
    let unknown = Said {
        status: "Splendid",
        ..Said::of(Tee::Sgx)
    };
    unproven(&unknown, "Splendid");
}

#[test]
fn the_quoting_enclaves_state_counts_too() {
    let of = |qe_status| Said {
        qe_status,
        ..Said::of(Tee::Sgx)
    };
    let old = of("OutOfDate");
    refused(judged(&old, &[]), "OutOfDate (advisories: QE-1)");
    assert_eq!(judged(&old, &[TcbStatus::OutOfDate]), Ok(()));
    // Intel's rules for merging states drop this one.
    let otherwise = of("ConfigurationNeeded");
    refused(judged(&otherwise, &[]), "quoting enclave");
    let both = [TcbStatus::UpToDate, TcbStatus::ConfigurationNeeded];
    assert_eq!(judged(&otherwise, &both), Ok(()));
}

#[test]
fn a_domain_whose_present_module_is_worse_than_the_first_is_refused() {
    let said = Said {
        downgraded: true,
        ..Said::of(Tee::Tdx)
    };
    refused(
        judged(&said, &[]),
        "present platform's TCB is OutOfDate (advisories: LOW)",
    );
    let both = [TcbStatus::UpToDate, TcbStatus::OutOfDate];
    assert_eq!(judged(&said, &both), Ok(()));
    let revoked = Said {
        downgraded: true,
        below: "Revoked",
        ..Said::of(Tee::Tdx)
    };
    unproven(&revoked, "Revoked");
}

#[test]
fn a_domain_that_is_to_be_launched_again_is_refused_whatever_policy_says() {
    let said = Said {
        downgraded: true,
        status: "OutOfDate",
        below: "UpToDate",
        ..Said::of(Tee::Tdx)
    };
    let every = [TcbStatus::UpToDate, TcbStatus::OutOfDate];
    refused(judged(&said, &every), "TDRelaunchAdvised");
}

#[test]
fn collateral_of_another_platform_is_refused() {
    for tee in BOTH {
        let family = Said {
            fmspc: "00906ed50001",
            ..Said::of(tee)
        };
        unproven(&family, "Fmspc");
        for pce_id in ["0001", "", "00", "zz"] {
            let enclave = Said {
                pce_id,
                ..Said::of(tee)
            };
            unproven(&enclave, "provisioning certification enclave");
        }
        let kind = Said {
            tcb_type: 1,
            ..Said::of(tee)
        };
        unproven(&kind, "type 1");
    }
}

#[test]
fn an_extension_that_is_critical_and_unknown_is_refused() {
    for tee in BOTH {
        let said = Said {
            critical: true,
            ..Said::of(tee)
        };
        unproven(&said, "UnsupportedCriticalExtension");
    }
}

#[test]
fn report_data_is_the_bound_bytes_and_zeros() {
    for tee in BOTH {
        for index in [0, 31, 32, 63] {
            let mut said = Said::of(tee);
            said.bound[index] = 1;
            let unbound = AttestError::Unbound {
                what: "report data",
            };
            assert_eq!(judged(&said, &[]), Err(unbound));
        }
    }
}
