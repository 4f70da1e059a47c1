//! `cryptlet mirror`: the register's word, copied to a consumers' chain that has a mirror of it.

use super::session::{ask_whether_meant, object, open, patience, wallet};
use crate::{args::developer::MirrorOptions, error::CliError, screen::say};
use cryptlet_developer::{
    Mined,
    mirror::{self, Copied},
};
use cryptlet_types::register::SignerRecord;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) async fn run(options: &MirrorOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let patience = patience(&options.wallet);
    let plan = mirror::plan(&session, &options.cryptlet).await?;
    let words = format!(
        "{} of register {} is copied to mirror {} in {} transactions",
        plan.known.cryptlet,
        session.register_domain().register,
        plan.mirror,
        plan.signers.len().saturating_add(1)
    );
    ask_whether_meant(options.yes, &session, &words)?;
    let copied = mirror::copy(plan, &wallet, patience).await?;
    if options.json {
        object(&as_json(&copied))?;
    } else {
        show(&copied);
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(copied: &Copied) -> Value {
    let signer = |(signer, mined): &(SignerRecord, Mined)| {
        json!({
            "signer": signer.signer, "expiry": signer.expiry, "revoked": signer.revoked,
            "transaction": mined.transaction,
        })
    };
    let signers: Vec<_> = copied.signers.iter().map(signer).collect();
    json!({
        "cryptlet": copied.known.cryptlet, "name": copied.known.name, "mirror": copied.mirror,
        "transaction": copied.record.transaction, "signers": signers,
    })
}

fn show(copied: &Copied) {
    let Copied {
        known,
        mirror,
        record,
        signers,
    } = copied;
    say(format_args!(
        "{} is copied to mirror {mirror} in block {}",
        known.name, record.block
    ));
    for (signer, mined) in signers {
        let state = if signer.revoked {
            "revoked"
        } else {
            "enrolled"
        };
        say(format_args!(
            "signer {} is {state} there in block {}",
            signer.signer, mined.block
        ));
    }
}
