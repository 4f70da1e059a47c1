//! The container's processes, as far as a host can tell: one that was started, one for each package, one for each region.

use crate::breach;
use alloy_primitives::B256;
use cryptlet_seal::{measure, package, sha256};
use cryptlet_types::{
    Attestation, Measurement,
    region::{
        CallIn, CallInAnswer, CallOut, Created, RegionConfig, RegionFault, ToHost, ToRegion,
        decode, encode,
    },
    report::CompactSignature,
};
use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal},
};
use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    thread,
};

/// Under which name the host starts this program.
pub const NAME: &str = "cryptlet-container";
const DIVIDED: [u8; 5] = [1, 0, 0, 0, 0];

/// Arguments: none for the program, `loading`, or `region BREACH MEASUREMENT`.
pub fn run(arguments: &[String]) {
    // The host ends the program, and all of it must end then.
    if !arguments.is_empty() {
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    }
    match arguments {
        [] => divide(),
        [_] => load(),
        [_, breach, measurement] => serve(breach, Measurement(measurement.parse().unwrap())),
        _ => panic!("{arguments:?}"),
    }
}

fn divide() {
    let requests = io::stdin().as_fd().try_clone_to_owned().unwrap();
    while let Some([stream, theirs, end]) = receive(&requests) {
        let child = again(&["loading"], stream, Stdio::from(theirs));
        answer_request(&requests, &DIVIDED, &[&pidfd(&child)]);
        tell_end(child, end);
    }
}

/// This program as a child of itself.
fn again(arguments: &[&str], stream: OwnedFd, second: Stdio) -> Child {
    Command::new("/proc/self/exe")
        .arg0(NAME)
        .args(arguments)
        .stdin(Stdio::from(stream))
        .stdout(second)
        .spawn()
        .unwrap()
}

fn pidfd(child: &Child) -> OwnedFd {
    let number = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    pidfd_open(number, PidfdFlags::empty()).unwrap()
}

fn tell_end(mut child: Child, end: OwnedFd) {
    thread::spawn(move || {
        let code = child.wait().unwrap().code();
        let told = code.map_or([1, 0, 0, 0, 9], |code| {
            let [a, b, c, d] = code.to_be_bytes();
            [0, a, b, c, d]
        });
        let _ = rustix::io::write(&end, &told);
    });
}

fn load() {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let requests = io::stdout().as_fd().try_clone_to_owned().unwrap();
    let Some(ToRegion::Call(CallIn::Load(config))) = next(&mut stream) else {
        return;
    };
    let RegionConfig {
        package,
        settings,
        challenge,
    } = *config;
    let opened = package::open(&package).unwrap();
    let program = sha256(&fs::read("/proc/self/exe").unwrap());
    let measurement = measure(program, &settings, opened.digest).unwrap();
    let name = opened.manifest.name;
    if let Some(breach) = name.strip_prefix("load-") {
        match breach {
            "calls-out" => call(&mut stream, CallOut::Close),
            "asks-for-key" => asks_for_key("", measurement, B256::ZERO, &mut stream),
            "fault" => answer(&mut stream, Err(RegionFault::Package("no".into()))),
            breach => assert!(breach::on_stream(breach, &mut stream), "{breach}"),
        }
        // Until the host ends it.
        while next(&mut stream).is_some() {}
        return;
    }
    if let (Some(breach), Some(challenge)) = (name.strip_prefix("secret-"), challenge) {
        asks_for_key(breach, measurement, challenge, &mut stream);
        let heard = next(&mut stream);
        if breach == "asks-twice" && heard.is_some() {
            asks_for_key(breach, measurement, challenge, &mut stream);
        }
        // Until the host ends it.
        while next(&mut stream).is_some() {}
        return;
    }
    answer(&mut stream, Ok(CallInAnswer::Loaded(measurement)));
    let victim = opened.manifest.config.description.parse().ok();
    while let Some([stream, end]) = receive(&requests) {
        let child = again(
            &["region", &name, &measurement.0.to_string()],
            stream,
            Stdio::null(),
        );
        match name.strip_prefix("divide-") {
            Some(breach) => divide_badly(breach, &requests, &child, victim),
            None => answer_request(&requests, &DIVIDED, &[&pidfd(&child)]),
        }
        tell_end(child, end);
    }
}

/// Asks for the key of secret code, as somebody else where it lies.
fn asks_for_key(breach: &str, measurement: Measurement, challenge: B256, stream: &mut UnixStream) {
    let statement = breach::statement(breach, measurement, challenge);
    let attestation = (breach == "attested").then(|| Attestation::Simulator {
        signature: CompactSignature::default(),
    });
    let created = Created {
        statement,
        attestation,
    };
    call(stream, CallOut::CodeKey(Box::new(created)));
}

/// Answers to a request, of which none should be believed but the last.
fn divide_badly(breach: &str, requests: &OwnedFd, child: &Child, victim: Option<i32>) {
    let of = |number| pidfd_open(number, PidfdFlags::empty()).unwrap();
    match breach {
        "hands-over-a-stranger" => {
            let stranger = of(Pid::from_raw(victim.unwrap()).unwrap());
            answer_request(requests, &DIVIDED, &[&stranger]);
        }
        "hands-over-its-parent" => answer_request(requests, &DIVIDED, &[&of(getppid().unwrap())]),
        "hands-over-no-process" => answer_request(requests, &DIVIDED, &[requests]),
        "hands-over-nothing" => answer_request(requests, &DIVIDED, &[]),
        "hands-over-and-refuses" => answer_request(requests, &[0, 0, 0, 0, 11], &[&pidfd(child)]),
        "answers-garbage" => answer_request(requests, &[9; 5], &[&pidfd(child)]),
        "answers-shortly" => answer_request(requests, &[1, 0], &[&pidfd(child)]),
        "refuses" => answer_request(requests, &[0, 0, 0, 0, 11], &[]),
        "closes" => std::process::exit(0),
        "hands-over-more" => answer_request(requests, &DIVIDED, &[&pidfd(child), requests]),
        _ => panic!("{breach}"),
    }
}

fn serve(breach: &str, measurement: Measurement) {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let create = breach.strip_prefix("create-").unwrap_or_default();
    let run = breach.strip_prefix("run-").unwrap_or_default();
    while let Some(message) = next(&mut stream) {
        let ToRegion::Call(call) = message else {
            return;
        };
        match call {
            CallIn::Create { nonce } => {
                if !breach::on_stream(create, &mut stream) {
                    let statement = breach::statement(create, measurement, nonce);
                    let created = Created {
                        statement,
                        attestation: None,
                    };
                    answer(&mut stream, Ok(CallInAnswer::Created(Box::new(created))));
                }
            }
            CallIn::Run(_) => {
                if !breach::on_stream(run, &mut stream) {
                    breach::in_run(run, &mut stream);
                }
            }
            call => answer(&mut stream, breach::outside_of_runs(breach, &call)),
        }
    }
}

/// The host's next message; none at the end.
pub fn next(stream: &mut UnixStream) -> Option<ToRegion> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(decode(&body).unwrap())
}

pub fn raw(stream: &mut UnixStream, bytes: &[u8]) {
    // The host may have gone.
    let _ = stream.write_all(bytes);
}

pub fn frame(stream: &mut UnixStream, body: &[u8]) {
    raw(stream, &u32::try_from(body.len()).unwrap().to_be_bytes());
    raw(stream, body);
}

/// Messages that the host finds together: it has not read one before the next is there.
pub fn at_once(stream: &mut UnixStream, messages: &[ToHost]) {
    let mut bytes = Vec::new();
    for message in messages {
        let body = encode(message).unwrap();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    raw(stream, &bytes);
}

pub fn answer(stream: &mut UnixStream, answer: Result<CallInAnswer, RegionFault>) {
    frame(stream, &encode(&ToHost::Answer(answer)).unwrap());
}

pub fn call(stream: &mut UnixStream, call: CallOut) {
    frame(stream, &encode(&ToHost::Call(call)).unwrap());
}

fn receive<const N: usize>(requests: &OwnedFd) -> Option<[OwnedFd; N]> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(requests, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    if received.bytes == 0 {
        return None;
    }
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    rights.flatten().collect::<Vec<_>>().try_into().ok()
}

fn answer_request(requests: &OwnedFd, bytes: &[u8], rights: &[&OwnedFd]) {
    let rights: Vec<_> = rights.iter().map(|right| right.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
    }
    let _ = sendmsg(
        requests,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    );
}
