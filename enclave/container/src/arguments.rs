//! What the program may be told when it starts: nothing, or where to listen and who attests. As `/init` it gets what stands
//! after `--` on the kernel's command line (Linux, `Documentation/admin-guide/kernel-parameters.rst`).

use crate::vsock;
use std::{ffi::OsString, path::PathBuf};

/// How the program is called, after its name.
pub const USAGE: &str =
    "[--listen HOST:PORT|vsock:PORT --attest nitro|simulator|(tdx|sevSnp --collateral FILE)]";
/// Most arguments: three options, each with its value.
const MAX_ARGUMENTS: usize = 6;

/// What a program that listens was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub address: Address,
    /// Who attests its regions.
    pub attest: Attest,
}

/// Where hosts find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// `vsock:PORT`: that port, for whoever reaches this machine by vsock.
    Vsock(u32),
}

/// What attests regions of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attest {
    /// The secure module of an AWS Nitro enclave.
    Nitro,
    /// Intel TDX, with the file that has Intel's collateral.
    Tdx(PathBuf),
    /// AMD SEV-SNP, with the file that has AMD's collateral.
    SevSnp(PathBuf),
    /// A root that everybody knows. It proves nothing.
    Simulator,
}

/// The arguments are not as [`USAGE`] says. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// Reads the arguments, without the program's name. Nothing if there are none.
///
/// # Errors
/// [`Unknown`].
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Listening>, Unknown> {
    let words: Option<Vec<String>> = arguments
        .take(MAX_ARGUMENTS + 1)
        .map(|word| word.into_string().ok())
        .collect();
    match words.ok_or(Unknown)?.as_slice() {
        [] => Ok(None),
        words => listening(words).map(Some).ok_or(Unknown),
    }
}

fn listening(words: &[String]) -> Option<Listening> {
    let (mut listen, mut attest, mut collateral) = (None, None, None);
    let (options, rest) = words.as_chunks::<2>();
    for [option, value] in options {
        let place = match option.as_str() {
            "--listen" => &mut listen,
            "--attest" => &mut attest,
            "--collateral" => &mut collateral,
            _ => return None,
        };
        if place.replace(value.as_str()).is_some() {
            return None;
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let attest = match (attest?, collateral) {
        ("nitro", None) => Attest::Nitro,
        ("simulator", None) => Attest::Simulator,
        ("tdx", Some(file)) => Attest::Tdx(file.into()),
        ("sevSnp", Some(file)) => Attest::SevSnp(file.into()),
        _ => return None,
    };
    let address = match listen?.strip_prefix("vsock:") {
        Some(port) => Address::Vsock(vsock::port(port)?),
        None => Address::Tcp(listen?.to_owned()),
    };
    Some(Listening { address, attest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parsed(line: &str) -> Result<Option<Listening>, Unknown> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_come_in_any_order_and_each_kind_with_what_it_needs() {
        let tcp = || Address::Tcp("10.0.0.9:8700".into());
        let file = || PathBuf::from("/collateral");
        let cases = [
            (
                "--listen 10.0.0.9:8700 --attest simulator",
                tcp(),
                Attest::Simulator,
            ),
            (
                "--attest nitro --listen vsock:8700",
                Address::Vsock(8_700),
                Attest::Nitro,
            ),
            (
                "--listen 10.0.0.9:8700 --attest tdx --collateral /collateral",
                tcp(),
                Attest::Tdx(file()),
            ),
            (
                "--collateral /collateral --attest sevSnp --listen vsock:1024",
                Address::Vsock(1_024),
                Attest::SevSnp(file()),
            ),
        ];
        for (line, address, attest) in cases {
            assert_eq!(
                parsed(line),
                Ok(Some(Listening { address, attest })),
                "{line}"
            );
        }
        assert_eq!(parsed(""), Ok(None));
    }

    #[test]
    fn anything_else_is_answered_with_the_usage() {
        let cases = [
            "--listen",
            "--listen 10.0.0.9:8700",
            "--attest simulator",
            "--listen a:1 --attest",
            "--listen a:1 --attest process",
            "--listen a:1 --attest sgx",
            "--listen a:1 --attest Nitro",
            "--listen a:1 --attest tdx",
            "--listen a:1 --attest sevSnp",
            "--listen a:1 --attest nitro --collateral x",
            "--listen a:1 --attest simulator --collateral x",
            "--listen a:1 --listen a:1 --attest simulator",
            "--listen a:1 --attest simulator --other x",
            "--listen a:1 --attest tdx --collateral x extra",
            "--listen a:1 --attest tdx --collateral x --listen a:1",
            "--simulate a:1",
            "--listen vsock: --attest simulator",
            "--listen vsock:x --attest simulator",
            "--listen vsock:-1 --attest simulator",
            "--listen vsock:+1 --attest simulator",
            "--listen vsock:3:8700 --attest simulator",
            "--listen vsock:4294967295 --attest simulator",
            "--listen vsock:4294967296 --attest simulator",
        ];
        for line in cases {
            assert_eq!(parsed(line), Err(Unknown), "{line}");
        }
        let endless = std::iter::repeat(OsString::from("--listen"));
        assert_eq!(parse(endless), Err(Unknown));
        let no_text = [OsString::from_vec(vec![0xff]), OsString::from("x")];
        assert_eq!(parse(no_text.into_iter()), Err(Unknown));
    }
}
