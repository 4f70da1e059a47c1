//! The `cryptlet` command: demo, node, host, verification and measurement.

mod args;
mod commands;
mod error;
mod screen;

use args::{Arguments, Bench, Command};
use clap::Parser;
use error::CliError;
use std::{io::IsTerminal, process::ExitCode};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(error) => Err(CliError::system("no asynchronous runtime", error)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            screen::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Demo(options) => commands::demo::run(options).await,
        Command::Dev(options) => commands::dev::run(options).await,
        Command::Node(options) => commands::node::run(options).await,
        Command::Host(options) => commands::host::run(options).await,
        Command::Verify(options) => commands::verify::run(&options),
        Command::New(options) => commands::author::new(&options),
        Command::Build(options) => commands::author::build(&options),
        Command::Check(options) => commands::author::check(&options),
        Command::Test(options) => commands::author::test(&options).await,
        Command::Publish(options) => commands::publish::run(&options).await,
        Command::Revoke(options) => commands::publish::revoke(&options).await,
        Command::Mirror(options) => commands::mirror::run(&options).await,
        Command::Keys(what) => commands::publish::keys(&what).await,
        Command::Search(options) => commands::look::search(&options).await,
        Command::Show(options) => commands::look::show(&options).await,
        Command::Source(options) => commands::source::run(&options).await,
        Command::Explain(options) => commands::look::explain(&options).await,
        Command::Import(options) => commands::import::run(&options).await,
        Command::Subscribe(options) => commands::subscribe::run(&options).await,
        Command::Subscriptions(options) => commands::look::subscriptions(&options).await,
        Command::Trace(options) => commands::trace::run(&options).await,
        Command::Replay(options) => commands::replay::run(&options).await,
        Command::Jobs(options) => commands::look::list_jobs(&options).await,
        Command::Audit(options) => commands::audit::run(&options).await,
        Command::Application(what) => commands::application::run(&what).await,
        Command::Status(options) => commands::look::status(&options).await,
        Command::Policy(what) => commands::govern::policy(&what).await,
        Command::Delegation(what) => commands::govern::delegation(&what).await,
        Command::SecretCode(what) => commands::secret_code::run(&what).await,
        Command::Token(what) => commands::govern::token(&what).await,
        Command::Bench { what } => match what {
            Bench::Path(options) => commands::bench::run(options).await,
            Bench::Isolation(options) => commands::bench::isolation::run(options).await,
            Bench::Subscriptions(options) => commands::bench::million::run(options).await,
        },
        Command::Doctor(options) => commands::doctor::run(&options).await,
        Command::Image(what) => commands::image::run(&what),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}

/// Log lines go to standard error: results on standard output stay clean. `RUST_LOG` overrides `--verbose`.
fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "error,alloy=off",
        1 => "warn,cryptlet=info,cryptlet_host=info,cryptlet_run=info,cryptlet_deliver=info",
        _ => "info,cryptlet=debug,cryptlet_host=debug,cryptlet_run=debug,cryptlet_deliver=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        .init();
}
