//! What came of it all: receipts on disk, checked offline, and counted against the chain's own logs.

use super::{
    replay::Replay,
    stage::DemoStage,
    tally::{Tally, Woken},
};
use crate::{
    args::DemoOptions,
    error::{CliError, Doing},
    screen::{Paint, Printer, painted},
};
use alloy::{primitives::B256, providers::Provider, rpc::types::Filter, sol_types::SolEvent};
use cryptlet_audit::{TrustRoots, TrustedCryptlet, verify};
use cryptlet_chain::evm::abi::{CryptletRegister, CryptoDelegate};
use cryptlet_host::Host;
use cryptlet_journal::Page;
use cryptlet_types::{Provider as Isolation, Receipt, ReportDomain};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeMap;

alloy::sol! {
    event PriceCalculated(uint64 indexed day, uint256[] rates);
}

/// The figures that `--json` prints.
#[derive(Serialize)]
pub(crate) struct Summary {
    from: String,
    to: String,
    days: usize,
    due: usize,
    delivered: usize,
    missed: usize,
    duplicates: usize,
    receipts_verified: usize,
    gas_per_delivery: u64,
    chain_id: u64,
}

impl Summary {
    /// Writes the receipts, reads them back, checks each against trust roots taken from chain and files, and
    /// counts wake-ups by the consumer's own logs.
    pub(crate) async fn collect(
        demo: &DemoStage,
        host: &Host,
        options: &DemoOptions,
        replay: Replay,
        printer: Printer,
    ) -> Result<Self, CliError> {
        let files = write_receipts(demo, host).await?;
        let roots = trust_roots(demo).await?;
        let trust = demo.out.join("trust.json");
        std::fs::write(&trust, roots.to_json().doing("trust roots")?)
            .doing("cannot write the trust roots")?;
        let mut verified = 0;
        for file in &files {
            let receipt = Receipt::from_json(&std::fs::read(file).doing("cannot read a receipt")?)
                .doing("receipt")?;
            let verdict = verify(&receipt, &roots);
            verified += usize::from(verdict.holds());
            for check in verdict.failures() {
                let reason = check.failure.as_deref().unwrap_or_default();
                printer.line(format_args!(
                    "{} {}: {}: {reason}",
                    painted("FAIL", Paint::Bad),
                    file.display(),
                    check.name
                ));
            }
        }
        let woken = woken(demo).await?;
        let tally = Tally::of(&replay.due, &woken, &options.pairs, &demo.rates);
        Ok(Self {
            from: options.from.to_string(),
            to: options.to.to_string(),
            days: replay.days,
            due: replay.due.len(),
            delivered: tally.delivered,
            missed: tally.missed,
            duplicates: tally.duplicates,
            receipts_verified: verified,
            gas_per_delivery: median(replay.gas),
            chain_id: demo.stage.chain_id,
        })
    }

    /// Whether nothing was missed or doubled, and every delivery has a receipt that holds.
    pub(crate) fn is_good(&self) -> bool {
        self.missed == 0
            && self.duplicates == 0
            && self.delivered == self.due
            && self.receipts_verified == self.delivered
    }

    pub(crate) fn print(&self, demo: &DemoStage, printer: Printer) {
        let Self {
            days,
            due,
            delivered,
            missed,
            duplicates,
            receipts_verified,
            gas_per_delivery,
            ..
        } = self;
        let out = demo.out.display();
        printer.line(format_args!(
            "\n{days} days, {due} wake-ups due, {delivered} delivered, {missed} missed, {duplicates} doubled, {gas_per_delivery} gas a delivery"
        ));
        printer.line(format_args!("{receipts_verified} receipts in {out}/receipts hold, checked offline against {out}/trust.json"));
        // As the user called it: after `make demo` it is not on the path.
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "cryptlet".to_owned());
        printer.line(format_args!(
            "check them again: {program} verify {out}/receipts/*.json"
        ));
        let (word, how) = if self.is_good() {
            ("good", Paint::Good)
        } else {
            ("not good", Paint::Bad)
        };
        printer.line(painted(word, how));
    }

    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// One file a delivery, named by the day of its trigger and its sequence.
async fn write_receipts(
    demo: &DemoStage,
    host: &Host,
) -> Result<Vec<std::path::PathBuf>, CliError> {
    let mut files = Vec::new();
    let mut page = Page::default();
    loop {
        let listing = host
            .journal()
            .receipts(page)
            .await
            .doing("cannot read the journal")?;
        for stored in listing.items {
            let receipt = stored.receipt;
            let due = i64::try_from(receipt.event.trigger.due()).doing("due")?;
            let day = jiff::Timestamp::from_second(due)
                .doing("due")?
                .strftime("%Y-%m-%d")
                .to_string();
            let name = format!("{day}-{}.json", receipt.report.report.sequence);
            let file = demo.out.join("receipts").join(name);
            std::fs::write(&file, receipt.to_json().doing("receipt")?)
                .doing("cannot write a receipt")?;
            files.push(file);
        }
        match listing.next {
            Some(after) => page = Page { after, ..page },
            None => return Ok(files),
        }
    }
}

/// What an auditor finds out without asking the host: blocks and signer from the chain, the measurement from the
/// files. Only the host's own key is taken from its vault, as an operator would publish it.
async fn trust_roots(demo: &DemoStage) -> Result<TrustRoots, CliError> {
    let signer = demo.stage.cryptlet.signer;
    let register = CryptletRegister::new(demo.stage.register, &demo.stage.provider);
    let enrolled = register
        .isSigner(demo.stage.cryptlet.cryptlet.0, signer)
        .call()
        .await
        .doing("cannot ask the register")?;
    let signers = if enrolled { vec![signer] } else { Vec::new() };
    let trusted = TrustedCryptlet {
        signers,
        measurements: vec![demo.stage.measurement],
    };
    Ok(TrustRoots {
        version: 1,
        domain: ReportDomain {
            chain_id: demo.stage.chain_id,
            delegate: demo.stage.delegate,
        },
        cryptlets: BTreeMap::from([(demo.stage.cryptlet.cryptlet, trusted)]),
        providers: vec![Isolation::Process],
        evidence: None,
        hosts: vec![demo.stage.host],
        blocks: delivery_blocks(demo).await?,
    })
}

/// What the consumer logged when it was woken: a callback that reverted has logged nothing.
async fn woken(demo: &DemoStage) -> Result<Vec<Woken>, CliError> {
    let doing = "cannot read the consumer's logs";
    let filter = Filter::new()
        .from_block(0)
        .address(demo.consumer)
        .event_signature(PriceCalculated::SIGNATURE_HASH);
    let logs = demo.stage.provider.get_logs(&filter).await.doing(doing)?;
    let mut woken = Vec::new();
    for log in logs {
        let log = log.log_decode::<PriceCalculated>().doing(doing)?.inner.data;
        let midnight = i64::try_from(log.day).doing(doing)?;
        let day = jiff::Timestamp::from_second(midnight)
            .doing(doing)?
            .to_zoned(TimeZone::UTC)
            .date();
        woken.push(Woken {
            day,
            rates: log.rates,
        });
    }
    Ok(woken)
}

/// Hashes of the blocks in which the delegate consumed reports of the consumer's subscription.
async fn delivery_blocks(demo: &DemoStage) -> Result<BTreeMap<u64, B256>, CliError> {
    let filter = Filter::new()
        .from_block(0)
        .address(demo.stage.delegate)
        .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH)
        .topic1(demo.subject.0);
    let logs = demo
        .stage
        .provider
        .get_logs(&filter)
        .await
        .doing("cannot read the delegate's logs")?;
    Ok(logs
        .iter()
        .filter_map(|log| Some((log.block_number?, log.block_hash?)))
        .collect())
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
