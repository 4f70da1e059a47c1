//! A host in memory, to try the API against: `serve FOLDER [PORT]` writes `authority.pem` and an operator's `token`
//! to FOLDER, and prints its URL once it serves.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "an example, on what the tests stand on"
)]

#[path = "../tests/api/support/mod.rs"]
mod support;

use cryptlet_api::{ServerLimits, types::Role};
use support::{Setup, TestHost};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("serve FOLDER [PORT]")?;
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    // A fuzzer fails to authenticate on purpose.
    let limits = ServerLimits {
        failures: u32::MAX,
        ..ServerLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let host = TestHost::at(listener, setup);
    let folder = std::path::Path::new(&folder);
    std::fs::write(folder.join("authority.pem"), host.authority.pem())?;
    std::fs::write(folder.join("token"), host.token(Role::Operator))?;
    println!("{}", host.url());
    tokio::signal::ctrl_c().await?;
    host.server.stop().await;
    Ok(())
}
