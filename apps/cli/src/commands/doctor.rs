//! `cryptlet doctor`: what this machine can isolate a region with, seen by making one.

use super::{demo::stage::find_container, read_bounded, region::Sample};
use crate::{
    args::DoctorOptions,
    error::{CliError, Doing},
    screen::{Paint, painted, say, say_json},
};
use cryptlet_isolation::{IsolationProvider, ProcessProvider, microvm::probe};
use cryptlet_types::{bounded::MAX_DOCUMENT_BYTES, policy::SignedPolicy};
use serde::Serialize;
use std::{path::Path, process::ExitCode};

/// Controls of the process provider, and what each is for.
const CONTROLS: [(&str, &str); 15] = [
    ("resource-limits", "no core file, no file, bounded memory"),
    (
        "not-dumpable",
        "its memory is for no other process of this user",
    ),
    (
        "no-new-privileges",
        "no program that it could run would have more rights",
    ),
    ("empty-environment", "nothing of the host's environment"),
    ("user-namespace", "its user is nobody outside of it"),
    (
        "network-namespace",
        "no network, not even this machine's own",
    ),
    ("ipc-namespace", "no shared memory or queues with others"),
    ("uts-namespace", "no host name to change"),
    ("mount-namespace", "no mount is seen outside"),
    ("landlock", "no file, no port, no signal to the outside"),
    ("descriptors", "none is open but the stream to the host"),
    ("pid-namespace", "no other process is there for it"),
    ("no-capabilities", "no right of an administrator"),
    ("ends-with-parent", "no region outlives its host"),
    (
        "seccomp-kill",
        "a system call that no region makes kills it",
    ),
];

/// Devices by which hardware attests.
const DEVICES: [(&str, &str); 6] = [
    ("sgx", "/dev/sgx_enclave"),
    ("tdx", "/dev/tdx_guest"),
    ("sevSnp", "/dev/sev-guest"),
    ("nitro", "/dev/nsm"),
    ("tpm", "/dev/tpmrm0"),
    ("tdx or sevSnp", "/sys/kernel/config/tsm/report"),
];

/// What `--json` prints.
#[derive(Serialize)]
struct Findings {
    container: String,
    controls: Vec<Control>,
    microvm: Microvm,
    hardware: Vec<Device>,
    /// Of the policy that was named: what it demands and this machine does not give.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Control {
    name: &'static str,
    in_force: bool,
    purpose: &'static str,
}

#[derive(Serialize)]
struct Microvm {
    works: bool,
    found: String,
}

#[derive(Serialize)]
struct Device {
    provider: &'static str,
    path: &'static str,
    present: bool,
}

pub(crate) async fn run(options: &DoctorOptions) -> Result<ExitCode, CliError> {
    let container = find_container()?;
    let provider = ProcessProvider::new(&container).doing("cannot read the container")?;
    let region = Sample::new()?.create(&provider).await?;
    let held = &region.statement().controls;
    let missing = match &options.policy {
        Some(path) => Some(missing(path, held, &provider)?),
        None => None,
    };
    let probed = probe();
    let findings = Findings {
        container: container.display().to_string(),
        controls: CONTROLS.map(|control| control_of(control, held)).into(),
        microvm: Microvm {
            works: probed.works(),
            found: probed.to_string(),
        },
        hardware: DEVICES.map(device).into(),
        missing,
    };
    if options.json {
        say_json(serde_json::to_string(&findings).doing("cannot write JSON")?);
    } else {
        show(&findings);
    }
    Ok(match &findings.missing {
        Some(missing) if !missing.is_empty() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn control_of((name, purpose): (&'static str, &'static str), held: &[String]) -> Control {
    let in_force = held.iter().any(|control| control == name);
    Control {
        name,
        in_force,
        purpose,
    }
}

fn device((provider, path): (&'static str, &'static str)) -> Device {
    Device {
        provider,
        path,
        present: Path::new(path).exists(),
    }
}

/// What the policy in a file demands of regions and this machine's do not have.
fn missing(
    path: &Path,
    held: &[String],
    provider: &dyn IsolationProvider,
) -> Result<Vec<String>, CliError> {
    let bytes = read_bounded(path, MAX_DOCUMENT_BYTES)?;
    let policy = SignedPolicy::from_json(&bytes).doing(path.display().to_string())?;
    let policy = policy.policy;
    let demanded = policy.controls.iter();
    let mut missing: Vec<_> = demanded
        .filter(|control| !held.contains(control))
        .map(|control| format!("controls: {control} is not in force here"))
        .collect();
    if !policy.accepts(provider.provider()) {
        let name = provider.provider().as_str();
        missing.push(format!("isolation: {name} is not accepted"));
    }
    Ok(missing)
}

fn show(findings: &Findings) {
    say(format_args!("container  {}", findings.container));
    say("\nregions as processes (process): controls of one that was made just now");
    for control in &findings.controls {
        let Control {
            name,
            in_force,
            purpose,
        } = control;
        say(format_args!("  {} {name:<20} {purpose}", mark(*in_force)));
    }
    say("\nregions as virtual machines (microvm)");
    let Microvm { works, found } = &findings.microvm;
    say(format_args!("  {} {found}", mark(*works)));
    say("\nhardware: devices that attest");
    for device in &findings.hardware {
        let (provider, path) = (device.provider, device.path);
        say(format_args!(
            "  {} {provider:<20} {path}",
            mark(device.present)
        ));
    }
    match &findings.missing {
        None => {}
        Some(missing) if missing.is_empty() => {
            say("\nThe policy can be met by regions as processes on this machine.");
        }
        Some(missing) => {
            say("\nThe policy cannot be met by regions as processes on this machine:");
            for reason in missing {
                say(format_args!("  {} {reason}", painted("FAIL", Paint::Bad)));
            }
        }
    }
}

fn mark(good: bool) -> String {
    match good {
        true => painted("yes ", Paint::Good),
        false => painted("no  ", Paint::Bad),
    }
}
