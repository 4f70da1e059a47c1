//! `cryptlet image`: what hardware boots, with what it will say of it.

use crate::{
    args::{Image, ImageParts, SnpOptions},
    error::{CliError, Doing},
    screen::{say, say_json},
};
use cryptlet_image::{ImageDescriptor, Linking, Parts, SnpMachine, nitro, snp, tdx};
use std::process::ExitCode;

/// Bit 0 of `SEV_FEATURES` (AMD 24593, appendix B): SEV-SNP, and nothing else.
const SNP_ONLY: u64 = 1;

/// Command lines, unless another is given. Whatever went wrong, the machine restarts, and whoever holds the other end of its console
/// has no debugger there. An enclave restarts by its keyboard controller, and has no PCI, as in AWS's own command line. Collateral
/// grows old: QEMU hands it over, so that the image stays.
const ON_NITRO: &str = "console=ttyS0 panic=-1 sysctl.kernel.sysrq=0 reboot=k pci=off random.trust_cpu=on -- --listen vsock:8700 --attest nitro";
const ON_SNP: &str = "console=ttyS0 panic=-1 sysctl.kernel.sysrq=0 -- --listen vsock:8700 --attest sevSnp \
     --collateral /sys/firmware/qemu_fw_cfg/by_name/opt/bletchley/collateral/raw";
const ON_TDX: &str = "console=ttyS0 panic=-1 sysctl.kernel.sysrq=0 -- --listen vsock:8700 --attest tdx \
     --collateral /sys/firmware/qemu_fw_cfg/by_name/opt/bletchley/collateral/raw";

pub(crate) fn run(what: &Image) -> Result<ExitCode, CliError> {
    let (parts, made) = match what {
        Image::Nitro(parts) => (parts, nitro(&parts_of(parts, ON_NITRO), &parts.out)),
        Image::Tdx(parts) => (parts, tdx(&parts_of(parts, ON_TDX), &parts.out)),
        Image::Snp(options) => (&options.parts, sev_snp(options)?),
    };
    let descriptor = made.doing("cannot make the image")?;
    if parts.json {
        say_json(serde_json::to_string(&descriptor).doing("cannot write JSON")?);
    } else {
        show(parts, &descriptor)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sev_snp(
    options: &SnpOptions,
) -> Result<Result<ImageDescriptor, cryptlet_image::ImageError>, CliError> {
    let signature = cryptlet_image::snp::signature_of(&options.processor).ok_or_else(|| {
        CliError::new(format_args!(
            "--processor {:?} is not known",
            options.processor
        ))
        .next("one of EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa, EPYC-Turin")
    })?;
    let machine = SnpMachine {
        processors: options.processors,
        signature,
        features: SNP_ONLY,
    };
    let parts = &options.parts;
    Ok(snp(
        &parts_of(parts, ON_SNP),
        &options.firmware,
        machine,
        &parts.out,
    ))
}

fn parts_of(parts: &ImageParts, cmdline: &str) -> Parts {
    Parts {
        kernel: parts.kernel.clone(),
        cmdline: parts.cmdline.clone().unwrap_or_else(|| cmdline.into()),
        modules: parts.module.clone(),
        container: parts.container.clone(),
        linking: match parts.libraries.as_slice() {
            [] => Linking::Static,
            folders => Linking::From(folders.to_vec()),
        },
    }
}

fn show(parts: &ImageParts, descriptor: &ImageDescriptor) -> Result<(), CliError> {
    say(format_args!("folder     {}", parts.out.display()));
    say(format_args!("container  {}", descriptor.container));
    for file in &descriptor.files {
        let (name, size, digest) = (&file.name, file.size, file.sha256);
        say(format_args!("{name:<16} {size:>12} bytes  {digest}"));
    }
    for name in &descriptor.not_predicted {
        say(format_args!(
            "{name} is not predicted: take it from the evidence of a machine that you trust for it"
        ));
    }
    match descriptor.rule() {
        Some(rule) => {
            let rule = serde_json::to_string_pretty(&rule).doing("cannot write JSON")?;
            say("\nfor the policy's evidence.images:");
            say(rule);
        }
        None => {
            say("\nno rule for a policy: the register that says what was booted is not predicted")
        }
    }
    Ok(())
}
