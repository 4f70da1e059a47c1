//! `cryptlet dev`: chain, register, feed and host of a developer's own, in one folder, until Ctrl-C.
//!
//! While it serves, a connection file in the user's state folder says where it is, so that the other commands find it.

use crate::{
    args::DevOptions,
    commands::{
        demo::{rates, stage::find_container},
        host::tell,
        keep_private,
        node::interrupted,
    },
    error::{CliError, Doing},
    screen::{note, say, say_json},
};
use cryptlet_api::Connection;
use cryptlet_stage::dev::{self, Dev};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) async fn run(options: DevOptions) -> Result<ExitCode, CliError> {
    keep_private();
    let folder = options.dir;
    fs::create_dir_all(&folder).doing(format_args!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize().doing("cannot find the folder")?;
    let mut dev = Dev::start(dev::DevOptions {
        folder: folder.clone(),
        container: find_container()?,
        rpc_port: options.rpc_port,
        api_port: options.api_port,
        allow: options.allow,
        rates: rates()?.repeating(),
    })
    .await
    .doing("the development stage did not start")
    .map_err(|error| {
        error.next("see what is in its way; --rpc-port 0 and --api-port 0 take any free ports")
    })?;
    let notice = Notice::leave(&dev.connection)?;
    introduce(&dev, &folder, options.json);
    let outcome = serve(&mut dev, options.json).await;
    drop(notice);
    dev.stop().await.doing("it did not stop cleanly")?;
    outcome
}

async fn serve(dev: &mut Dev, json: bool) -> Result<ExitCode, CliError> {
    let mut progress = dev.host.watch();
    loop {
        tokio::select! {
            outcome = interrupted() => {
                outcome?;
                return Ok(ExitCode::SUCCESS);
            }
            ended = dev.host.ended() => {
                ended.doing("the host cannot go on")?;
                return Ok(ExitCode::FAILURE);
            }
            news = progress.recv() => if let Ok(news) = news {
                tell(&news, json);
            },
        }
    }
}

fn introduce(dev: &Dev, folder: &Path, json: bool) {
    if json {
        say_json(serde_json::json!({
            "state": "ready", "folder": folder, "rpc": dev.rpc, "api": dev.connection.url,
            "register": dev.register, "delegate": dev.delegate,
        }));
        return;
    }
    note(
        "For development on this machine only: the keys of the chain's accounts are public knowledge.",
    );
    if let Some(epoch) = dev.kept_policy {
        note(format_args!(
            "policy {epoch} is not of `cryptlet dev`: it is kept as it is, and --allow changes nothing"
        ));
    }
    say(format_args!("folder    {}", folder.display()));
    say(format_args!("chain     {}", dev.rpc));
    say(format_args!("register  {}", dev.register));
    say(format_args!("delegate  {}", dev.delegate));
    say(format_args!("api       {}", dev.connection.url));
    say("ready");
}

/// The connection file in the user's state folder, as long as this program serves. Whoever started later has put theirs
/// in its place: that stays.
struct Notice {
    path: PathBuf,
    connection: Connection,
}

impl Notice {
    fn leave(connection: &Connection) -> Result<Self, CliError> {
        let path = cryptlet_developer::connect::state_file()
            .ok_or_else(|| CliError::new("there is no state folder: HOME is not set"))?;
        let doing = format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).doing(&doing)?;
        }
        connection.save(&path).doing(&doing)?;
        Ok(Self {
            path,
            connection: connection.clone(),
        })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if Connection::load(&self.path).is_ok_and(|there| there == self.connection) {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn connection(port: u16) -> Connection {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Connection {
            url: format!("https://localhost:{port}"),
            authority: made.cert.pem(),
            token: Zeroizing::new("A".repeat(43)),
        }
    }

    #[test]
    fn the_first_to_end_leaves_the_connection_of_the_last_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connection.json");
        let leave = |port| {
            let connection = connection(port);
            connection.save(&path).unwrap();
            let path = path.clone();
            Notice { path, connection }
        };
        let (first, second) = (leave(1), leave(2));
        drop(first);
        assert_eq!(Connection::load(&path).unwrap(), second.connection);
        drop(second);
        assert!(!path.exists());
    }
}
