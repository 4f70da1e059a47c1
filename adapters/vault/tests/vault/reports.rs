//! Who signs a report: a token when everything holds, a sealed file never.

use crate::{Place, attested::Attested, block_on, file::Place as FilePlace, id, softhsm::alone};
use alloy_primitives::{Address, B256};
use cryptlet_seal::{SealError, SigningKey, recover};
use cryptlet_types::{Measurement, report::CompactSignature};
use cryptlet_vault::{KeyId, VaultError};

#[test]
fn a_sealed_file_signs_no_report() {
    block_on(async {
        let place = FilePlace::new();
        let vault = place.reopen();
        let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
        let region = Attested::new();
        let (statement, signature) = region.states(B256::repeat_byte(9));
        let (evidence, expected) = (&region.evidence, region.expected());
        let signed = vault
            .sign_report(id(1), signer, evidence, &expected, &statement, &signature)
            .await;
        let refused = KeyId::Cryptlet(id(1));
        assert!(matches!(signed, Err(VaultError::NotForSigning(key)) if key == refused));
    });
}

#[test]
fn a_token_signs_what_an_attested_region_signed() {
    alone(
        "reports::a_token_signs_what_an_attested_region_signed",
        |token| {
            block_on(async {
                let vault = token.reopen();
                let earlier = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
                let current = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
                let region = Attested::new();
                let report = B256::repeat_byte(9);
                let (statement, signature) = region.states(report);
                for signer in [earlier, current] {
                    let (evidence, expected) = (&region.evidence, region.expected());
                    let signed = vault
                        .sign_report(id(1), signer, evidence, &expected, &statement, &signature)
                        .await
                        .unwrap();
                    assert_eq!(recover(report, &signed), Ok(signer));
                }
            });
        },
    );
}

#[test]
fn a_token_signs_for_no_forgery() {
    alone("reports::a_token_signs_for_no_forgery", |token| {
        block_on(async {
            let vault = token.reopen();
            let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
            let region = Attested::new();
            let (statement, signature) = region.states(B256::repeat_byte(9));
            let expected = region.expected();

            for (forgery, evidence, expected) in region.forgeries() {
                let signed = vault
                    .sign_report(id(1), signer, &evidence, &expected, &statement, &signature)
                    .await;
                assert!(
                    matches!(signed, Err(VaultError::Refused { .. })),
                    "{forgery}"
                );
            }

            // The region signed something else, or somebody else signed.
            let mut report = statement;
            report.report = B256::repeat_byte(8);
            let mut input = statement;
            input.input = B256::ZERO;
            let mut sources = statement;
            sources.sources = B256::ZERO;
            let stranger = SigningKey::generate().sign(statement.digest()).unwrap();
            let host = region.host.sign(statement.digest()).unwrap();
            let nobody = CompactSignature::default();
            for (forgery, statement, signature) in [
                ("another report", report, signature),
                ("another input", input, signature),
                ("other sources", sources, signature),
                ("a stranger's signature", statement, stranger),
                ("the host's signature", statement, host),
                ("no signature", statement, nobody),
            ] {
                let signed = vault
                    .sign_report(
                        id(1),
                        signer,
                        &region.evidence,
                        &expected,
                        &statement,
                        &signature,
                    )
                    .await;
                assert!(
                    matches!(
                        signed,
                        Err(VaultError::Refused {
                            source: SealError::WrongSigner { .. } | SealError::MalformedSignature,
                            ..
                        })
                    ),
                    "{forgery}: {signed:?}"
                );
            }
        });
    });
}

#[test]
fn a_token_signs_for_no_other_measurement_and_no_other_cryptlet() {
    alone(
        "reports::a_token_signs_for_no_other_measurement_and_no_other_cryptlet",
        |token| {
            block_on(async {
                let vault = token.reopen();
                let mine = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
                let others = vault.create(&KeyId::Cryptlet(id(2))).await.unwrap();
                let host = vault.create(&KeyId::Host).await.unwrap();
                let region = Attested::new();
                let (evidence, expected) = (&region.evidence, region.expected());

                // The region's own key signs, but about something else than what its evidence says that it runs.
                let (mut statement, _) = region.states(B256::repeat_byte(9));
                statement.measurement = Measurement(B256::repeat_byte(2));
                let signature = region.region.sign(statement.digest()).unwrap();
                let signed = vault
                    .sign_report(id(1), mine, evidence, &expected, &statement, &signature)
                    .await;
                assert!(matches!(
                    signed,
                    Err(VaultError::Refused {
                        source: SealError::WrongMeasurement { .. },
                        ..
                    })
                ));

                let (statement, signature) = region.states(B256::repeat_byte(9));
                for (n, signer) in [(1, others), (2, mine), (1, host), (1, Address::ZERO)] {
                    let signed = vault
                        .sign_report(id(n), signer, evidence, &expected, &statement, &signature)
                        .await;
                    assert!(
                        matches!(signed, Err(VaultError::UnknownSigner { .. })),
                        "{n} {signer}"
                    );
                }
            });
        },
    );
}
