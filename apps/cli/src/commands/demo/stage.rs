//! The demo's own part of the stage: its folder, what is said while it is set up, and how to talk to it.

use crate::{
    error::{CliError, Doing},
    screen::Printer,
};
use alloy::primitives::Address;
use cryptlet_feed::Rates;
use cryptlet_seal::package;
use cryptlet_stage::{CryptletSource, FEED_NAME, Source, Stage, StageOptions};
use cryptlet_types::{Subject, policy::Retry};
use jiff::{civil::Date, tz::TimeZone};
use std::path::{Path, PathBuf};

/// What marks a folder as a demo's, so that nothing else is ever replaced.
const MARKER: &str = ".bletchley-demo";

/// A stage with a consumer that was woken never yet.
pub(crate) struct DemoStage {
    pub(crate) stage: Stage,
    pub(crate) out: PathBuf,
    pub(crate) rates: Rates,
    pub(crate) consumer: Address,
    pub(crate) subject: Subject,
}

impl DemoStage {
    /// Sets everything up in `out`, in the first hour of `from`, and says what there is.
    pub(crate) async fn build(
        out: &Path,
        from: Date,
        pairs: &[String],
        rates: Rates,
        printer: Printer,
    ) -> Result<Self, CliError> {
        replace_folder(out)?;
        let stage = Stage::build(StageOptions {
            out: out.to_owned(),
            container: find_container()?,
            genesis: midnight(from)?,
            cryptlet: CryptletSource::market_watcher(),
            source: Source::Rates(rates.clone()),
            retry: Retry {
                attempts: 5,
                first_millis: 200,
                longest_millis: 5_000,
            },
            // Years pass here in seconds, and a region lives for seconds.
            max_age_seconds: 10 * 366 * 86_400,
        })
        .await
        .doing("the demo cannot be set up")?;
        let (consumer, subject) = stage
            .deploy_price_consumer(pairs)
            .await
            .doing("the demo cannot be set up")?;
        let demo = Self {
            stage,
            out: out.to_owned(),
            rates,
            consumer,
            subject,
        };
        demo.describe(printer);
        Ok(demo)
    }

    fn describe(&self, printer: Printer) {
        let Self {
            stage, consumer, ..
        } = self;
        printer.fact(
            "chain",
            format_args!("{}  id {}", stage.url(), stage.chain_id),
        );
        if let Some(address) = stage.feed() {
            printer.fact("feed", format_args!("https://{FEED_NAME}/  at {address}"));
        }
        printer.fact("register", stage.register);
        printer.fact("delegate", stage.delegate);
        printer.fact(
            "cryptlet",
            format_args!(
                "market-watcher {}  signer {}",
                stage.cryptlet.cryptlet, stage.cryptlet.signer
            ),
        );
        printer.fact("package", package::oci_digest(stage.cryptlet.package));
        printer.fact("measurement", stage.measurement);
        printer.fact("consumer", format_args!("PriceConsumer {consumer}, to be woken at 16:00 Europe/Berlin if the market was open"));
    }

    /// Says how to talk to what is left running.
    pub(crate) fn introduce(&self, printer: Printer) {
        let Self {
            stage, consumer, ..
        } = self;
        let (url, delegate, register) = (stage.url(), stage.delegate, stage.register);
        let cryptlet = stage.cryptlet.cryptlet;
        printer.line(format_args!(
            "\nNode and host keep serving. In another terminal, with Foundry's cast:\n\
             \n  export ETH_RPC_URL={url}\
             \n  cast block-number\
             \n  cast call {consumer} 'wakeUps()(uint32)'\
             \n  cast logs --from-block 0 --address {delegate} 'Delivered(bytes32 indexed,address indexed,uint64,bytes32,address,bool)'\
             \n  cast call {register} 'cryptletOf(address)(address,string,bool)' {cryptlet}\
             \n\nThe host goes by the chain's time. Move it on by a day, and the contract is woken if the feed has rates of it\
             \n(its last day is 2026-10-30: try --to 2026-10-28):\n\
             \n  cast rpc evm_increaseTime 86400 && cast rpc evm_mine\n\
             \nCtrl-C ends it."
        ));
    }
}

/// An empty folder at `out`, in place of an earlier demo's and of nothing else.
fn replace_folder(out: &Path) -> Result<(), CliError> {
    let doing = format!("cannot prepare {}", out.display());
    let strangers = out.exists() && !out.join(MARKER).exists();
    if strangers && std::fs::read_dir(out).doing(&doing)?.next().is_some() {
        let what = format!(
            "{} is not empty and is not an earlier demo's",
            out.display()
        );
        return Err(CliError::new(what).next("name another folder with --out, or empty this one"));
    }
    if out.exists() {
        std::fs::remove_dir_all(out).doing(&doing)?;
    }
    std::fs::create_dir_all(out.join("receipts")).doing(&doing)?;
    std::fs::write(
        out.join(MARKER),
        "made by cryptlet demo; replaced by the next one\n",
    )
    .doing(&doing)
}

/// The container's binary: beside this one.
pub(crate) fn find_container() -> Result<PathBuf, CliError> {
    let own = std::env::current_exe().doing("cannot find this program's own file")?;
    let container = own.with_file_name("cryptlet-container");
    if container.is_file() {
        return Ok(container);
    }
    let what = format!("no cryptlet-container beside {}", own.display());
    Err(CliError::new(what)
        .next("build both: cargo build --release -p cryptlet-cli -p cryptlet-container"))
}

/// The first second of the day, UTC: after everything that was due the day before.
fn midnight(day: Date) -> Result<u64, CliError> {
    let start = day.to_zoned(TimeZone::UTC).doing("--from")?;
    u64::try_from(start.timestamp().as_second()).doing("--from is before 1970")
}
