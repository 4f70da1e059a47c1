//! Hosts that are hostile to their own container: what they say, send and swap gives them no region that is not what its
//! evidence says, and what divides goes on dividing.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_isolation::{IsolationProvider, ProcessProvider};
use cryptlet_seal::{key_binding, wrap};
use cryptlet_types::{
    EvidenceStatement, Measurement,
    bounded::MAX_FRAME_BYTES,
    region::{
        CallIn, CallInAnswer, CallOut, CallOutAnswer, KeyGrant, RegionConfig, RegionFault, ToHost,
        ToRegion, encode,
    },
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, write},
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixStream},
    },
};
use support::{
    HOSTILE, MONTE_CARLO, NAME, Setup, behave, container, provision,
    raw::{Answer, Child, Program, child, divide, divided},
    said,
};

fn config(setup: &Setup) -> Box<RegionConfig> {
    Box::new(RegionConfig {
        package: setup.package(),
        settings: setup.settings(),
        challenge: None,
    })
}

fn protocol(answer: Answer) -> String {
    match answer {
        Err(RegionFault::Protocol(reason)) => reason,
        other => panic!("no protocol fault: {other:?}"),
    }
}

fn package(answer: Answer) -> String {
    match answer {
        Err(RegionFault::Package(reason)) => reason,
        other => panic!("no package fault: {other:?}"),
    }
}

/// What no frame of a host's is, and whether it is the host's end as well.
fn no_frames() -> [Vec<u8>; 7] {
    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length, body].concat()
    };
    let answer = encode(&ToRegion::Answer(Ok(CallOutAnswer::Done))).unwrap();
    let oversize = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
    [
        framed(&[0xff; 9]),
        framed(&[]),
        framed(&[0x81; 100_000]),
        // A package whose first file is an array of as many bytes as would fill the machine's memory.
        framed(b"\xa1\x64Call\xa1\x64Load\xa1\x67package\xa1\x65index\x9b\x00\x00\x40\x00\x00\x00\x00\x00\x07"),
        oversize.to_be_bytes().to_vec(),
        u32::MAX.to_be_bytes().to_vec(),
        framed(&answer),
    ]
}

#[test]
fn requests_with_the_wrong_descriptors_are_refused_or_come_to_nothing() {
    let program = Program::start();
    let (_stream, theirs) = UnixStream::pair().unwrap();
    let (_told, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    // The first answer says that it has begun.
    assert_eq!(
        divide(&program.requests, &[], None).err(),
        Some(Errno::INVAL.raw_os_error())
    );
    let before = program.descriptors();
    let file = File::open("/dev/null").unwrap();
    let (datagrams, _other) = UnixDatagram::pair().unwrap();
    let written = tempfile::tempfile().unwrap();
    for no_pipe in [
        file.as_fd(),
        theirs.as_fd(),
        datagrams.as_fd(),
        written.as_fd(),
    ] {
        let refused = divide(&program.requests, &[theirs.as_fd(); 2], Some(no_pipe));
        assert_eq!(refused.err(), Some(Errno::INVAL.raw_os_error()));
    }
    for count in [0, 1, 3, 15] {
        // Those with a number of descriptors that nobody needs end by themselves.
        let given = vec![theirs.as_fd(); count];
        let _ = divide(&program.requests, &given, Some(end.as_fd()));
    }
    let odd = [file.as_fd(), datagrams.as_fd()];
    divide(&program.requests, &odd, Some(end.as_fd())).unwrap();
    (&program.requests).write_all(&[1, 2, 3]).unwrap();
    for _ in 0..3 {
        assert_eq!(
            divided(&program.requests).err(),
            Some(Errno::INVAL.raw_os_error())
        );
    }
    // It divides, and when its children have ended it holds what it held.
    let (mut loading, requests) = program.loading();
    let loaded = loading.call(CallIn::Load(config(&Setup::new(HOSTILE))));
    assert!(matches!(loaded, Ok(CallInAnswer::Loaded(_))));
    drop((loading, requests));
    support::process::wait_until("descriptors are left", || program.descriptors() == before);
}

#[test]
fn what_a_host_left_open_is_closed() {
    let begun = || {
        let program = Program::start();
        assert!(divide(&program.requests, &[], None).is_err());
        program
    };
    let before = begun();
    let left_open = pipe_with(PipeFlags::empty()).unwrap();
    let after = begun();
    assert_eq!(after.descriptors(), before.descriptors());
    drop(left_open);
}

/// Beyond that its descriptors would not be enough: it would have children that it can tell nobody of.
#[test]
fn a_program_has_only_so_many_children_at_a_time() {
    let program = Program::start();
    let (stream, theirs) = UnixStream::pair().unwrap();
    let (_told, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    // They share one stream and one place to tell their ends, for this side has no more descriptors either.
    let ask = || divide(&program.requests, &[theirs.as_fd(); 2], Some(end.as_fd()));
    for count in 0..480 {
        assert!(ask().is_ok(), "{count}");
    }
    assert_eq!(ask().err(), Some(Errno::AGAIN.raw_os_error()));
    // With their host gone they end, and make room.
    drop(stream);
    support::process::wait_until("it divides no more", || ask().is_ok());
}

#[test]
fn an_end_that_nobody_reads_holds_nothing_up() {
    let program = Program::start();
    let (_told, full) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    while write(&full, &[0; 4_096]).is_ok() {}
    rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::empty()).unwrap();
    let file = File::open("/dev/null").unwrap();
    let child = divide(&program.requests, &[file.as_fd()], Some(full.as_fd())).unwrap();
    // Its end has to be told before the next request is heard.
    poll(&mut [PollFd::new(&child, PollFlags::IN)], None).unwrap();
    let (mut loading, _requests) = program.loading();
    assert!(
        loading
            .call(CallIn::Load(config(&Setup::new(HOSTILE))))
            .is_ok()
    );
}

#[test]
fn a_loading_process_ends_at_what_is_no_frame_and_the_next_one_loads() {
    let program = Program::start();
    for bytes in no_frames() {
        let (mut loading, _requests) = program.loading();
        loading.send_bytes(&bytes);
        assert!(loading.next().is_none(), "{:?}", &bytes[..4]);
        assert_eq!(loading.ended(), Some(1));
    }
    let (mut early, _requests) = program.loading();
    early.send_bytes(&[0, 0, 0, 9, 1]);
    early.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(early.ended(), Some(1));
    let (mut loading, _requests) = program.loading();
    assert!(
        loading
            .call(CallIn::Load(config(&Setup::new(HOSTILE))))
            .is_ok()
    );
}

#[test]
fn nothing_is_done_before_a_package_is_loaded() {
    let (program, setup) = (Program::start(), Setup::new(HOSTILE));
    let (mut loading, requests) = program.loading();
    protocol(loading.call(CallIn::Create { nonce: B256::ZERO }));
    let signer = setup.key.address();
    protocol(loading.call(CallIn::Provision(KeyGrant::InVault { signer })));
    protocol(loading.call(CallIn::Run(Box::new(behave("echo", "x")))));
    assert!(loading.call(CallIn::Load(config(&setup))).is_ok());
    assert!(child(&requests, &[]).is_ok());
}

#[test]
fn a_package_that_was_swapped_since_it_was_measured_is_found_out_inside() {
    let (program, setup) = (Program::start(), Setup::new(HOSTILE));
    let other = Setup::new(MONTE_CARLO);
    type Swap = fn(&mut RegionConfig, &Setup);
    let swaps: [(Swap, &str); 4] = [
        (
            |config, other| config.package.code = other.package().code,
            "code",
        ),
        (
            |config, other| config.package.manifest = other.package().manifest,
            "manifest",
        ),
        (
            |config, other| config.package.index = other.package().index,
            "manifest",
        ),
        (|config, _| config.settings.limits.fuel += 1, "limits"),
    ];
    for (swap, what) in swaps {
        let (mut loading, _requests) = program.loading();
        let mut swapped = config(&setup);
        swap(&mut swapped, &other);
        let reason = package(loading.call(CallIn::Load(swapped)));
        assert!(reason.contains(what), "{reason}");
        // Nor does the same process take the right one then.
        assert!(protocol(loading.call(CallIn::Load(config(&setup)))).contains("once"));
    }
    // All three swapped is another package, and says so.
    let (mut loading, _requests) = program.loading();
    let loaded = loading.call(CallIn::Load(config(&other))).unwrap();
    let measured = support::provider().measurement(&setup.package(), &setup.settings());
    assert!(
        matches!(loaded, CallInAnswer::Loaded(measurement) if measurement != measured.unwrap())
    );
}

/// A region of the hostile cryptlet, as it was divided off.
fn region(program: &Program, setup: &Setup) -> Child {
    let (mut loading, requests) = program.loading();
    assert!(loading.call(CallIn::Load(config(setup))).is_ok());
    let region = child(&requests, &[]).unwrap();
    // What it is a copy of lives as long as the test.
    std::mem::forget((loading, requests));
    region
}

fn created(region: &mut Child) -> EvidenceStatement {
    let nonce = B256::repeat_byte(1);
    match region.call(CallIn::Create { nonce }) {
        Ok(CallInAnswer::Created(created)) => created.statement,
        other => panic!("not created: {other:?}"),
    }
}

fn ready(program: &Program, setup: &Setup) -> Child {
    let mut region = region(program, setup);
    let to = created(&mut region);
    let secret = setup.key.secret();
    let wrapped = wrap(to.exchange_key, &key_binding(&to), secret.as_slice()).unwrap();
    assert!(
        region
            .call(CallIn::Provision(KeyGrant::Wrapped(wrapped)))
            .is_ok()
    );
    region
}

#[test]
fn a_region_is_made_once_and_in_its_order() {
    let (program, setup) = (Program::start(), Setup::new(HOSTILE));
    let mut region = region(&program, &setup);
    protocol(region.call(CallIn::Run(Box::new(behave("echo", "x")))));
    assert!(protocol(region.call(CallIn::Load(config(&setup)))).contains("once"));
    let first = created(&mut region);
    // A second challenge is not answered, and so no second statement about the same keys exists.
    protocol(region.call(CallIn::Create {
        nonce: B256::repeat_byte(2),
    }));
    protocol(region.call(CallIn::Load(config(&setup))));
    protocol(region.call(CallIn::Run(Box::new(behave("echo", "x")))));
    assert_eq!(first.nonce, B256::repeat_byte(1));
}

#[test]
fn a_region_tells_what_is_no_frame_and_ends() {
    let (program, setup) = (Program::start(), Setup::new(HOSTILE));
    let (mut loading, requests) = program.loading();
    assert!(loading.call(CallIn::Load(config(&setup))).is_ok());
    for bytes in no_frames() {
        let mut region = child(&requests, &[]).unwrap();
        created(&mut region);
        region.send_bytes(&bytes);
        match region.next() {
            Some(ToHost::Answer(answer)) => protocol(answer),
            other => panic!("{other:?}"),
        };
        assert!(region.next().is_none());
        assert_eq!(region.ended(), Some(1));
    }
    assert!(child(&requests, &[]).is_ok());
}

#[test]
fn an_answer_that_is_none_ends_a_run_without_a_report() {
    let program = Program::start();
    let setup = Setup::new(HOSTILE);
    let run = || {
        let url = format!("https://{NAME}/");
        ToRegion::Call(CallIn::Run(Box::new(behave("fetch", &url))))
    };
    // Another call in the place of an answer.
    let mut interrupted = ready(&program, &setup);
    interrupted.send(&run());
    assert!(matches!(
        interrupted.next(),
        Some(ToHost::Call(CallOut::Connect { .. }))
    ));
    interrupted.send(&run());
    match interrupted.next() {
        Some(ToHost::Answer(answer)) => assert!(protocol(answer).contains("out of turn")),
        other => panic!("{other:?}"),
    }
    assert_eq!(interrupted.ended(), Some(1));
    // Bytes that nobody asked for, or more of them: the source is not believed, and the region goes on.
    for bytes in [1, 1 << 20] {
        let mut region = ready(&program, &setup);
        region.send(&run());
        let answer = loop {
            match region.next().unwrap() {
                ToHost::Call(_) => {
                    let received = CallOutAnswer::Received(vec![7; bytes].into());
                    region.send(&ToRegion::Answer(Ok(received)));
                }
                ToHost::Answer(answer) => break answer,
            }
        };
        match answer {
            Ok(CallInAnswer::Ran(answer)) => {
                let said = said(&answer);
                assert!(!said.contains("200 "), "{said}");
                assert!(answer.sources.is_empty());
            }
            other => {
                protocol(other);
            }
        }
    }
}

#[tokio::test]
async fn what_runs_is_what_was_hashed_even_if_the_file_is_another_by_then() {
    let setup = Setup::new(HOSTILE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cryptlet-container");
    fs::copy(container(), &path).unwrap();
    let provider = ProcessProvider::new(&path).unwrap();
    let measured = provider
        .measurement(&setup.package(), &setup.settings())
        .unwrap();
    // Both ways of replacing a file: its bytes, and its name.
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all(&fs::read("/bin/true").unwrap()).unwrap();
    drop(file);
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::copy("/bin/true", &path).unwrap();
    let create = || {
        let (package, settings) = (setup.package(), setup.settings());
        provider.create(package, settings, B256::ZERO, setup.relay())
    };
    let first = create().await.unwrap();
    assert_eq!(first.statement().measurement, measured);
    // It holds for a program that is started again, too.
    support::process::kill(support::process::newest_program());
    let mut second = create().await.unwrap();
    assert_eq!(second.statement().measurement, measured);
    provision(second.as_mut(), &setup.key).await.unwrap();
    assert_eq!(said(&second.run(behave("echo", "x")).await.unwrap()), "x");
}

#[tokio::test]
async fn evidence_of_an_earlier_region_is_not_taken_for_a_new_one() {
    let setup = Setup::new(HOSTILE);
    let earlier = setup.create().await.unwrap();
    let later = setup.create().await.unwrap();
    // What a host can replay is a statement; the key that goes with it is in the region that made it.
    let secret = setup.key.secret();
    let to = earlier.statement();
    let wrapped = wrap(to.exchange_key, &key_binding(to), secret.as_slice()).unwrap();
    let mut later = later;
    let refused = later.provision(KeyGrant::Wrapped(wrapped)).await;
    assert!(refused.is_err());
    // Nor is the region's key released under another challenge than the one that it answered, or for other code.
    let changes: [fn(&mut EvidenceStatement); 2] = [
        |said| said.nonce = B256::repeat_byte(7),
        |said| said.measurement = Measurement(B256::repeat_byte(7)),
    ];
    for change in changes {
        let mut said = later.statement().clone();
        change(&mut said);
        let wrapped = wrap(said.exchange_key, &key_binding(&said), secret.as_slice()).unwrap();
        assert!(later.provision(KeyGrant::Wrapped(wrapped)).await.is_err());
    }
}
