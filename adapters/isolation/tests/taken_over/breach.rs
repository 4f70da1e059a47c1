//! What a container does that was taken over, by the name of its package. One with another name keeps to the protocol.

use crate::container::{answer, at_once, call, frame, next, raw};
use alloy_primitives::{Address, B256};
use cryptlet_types::{
    EvidenceStatement, Measurement, Provider,
    bounded::{MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_SEALED_BYTES},
    region::{
        CallIn, CallInAnswer, CallOut, CallOutAnswer, Created, LogLevel, RegionFault, RunAnswer,
        RunOutcome, ToHost, ToRegion, encode,
    },
};
use rustix::process::{Signal, getpid, kill_process};
use std::{io::Write, os::unix::net::UnixStream, thread, time::Duration};

/// Says or does what no container says, on the stream; whether there is such a breach.
pub fn on_stream(breach: &str, stream: &mut UnixStream) -> bool {
    match breach {
        "garbage" => raw(stream, &[0, 0, 0, 3, 0xff, 0xff, 0xff]),
        "nested" => frame(stream, &[0x81; 100_000]),
        "trailing" => {
            let mut body = encode(&ToHost::Call(CallOut::Close)).unwrap();
            body.push(0);
            frame(stream, &body);
        }
        // `{"Call": {"Send": [...]}}` with as many elements as would fill the machine's memory.
        "endless-array" => {
            let head = b"\xa1\x64Call\xa1\x64Send\x9b\x00\x00\x40\x00\x00\x00\x00\x00\x07";
            frame(stream, head);
        }
        "empty" => raw(stream, &[0; 4]),
        "oversize" => {
            let length = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
            raw(stream, &length.to_be_bytes());
        }
        "gigabyte" => raw(stream, &(1_u32 << 30).to_be_bytes()),
        "early" => {
            raw(stream, &[0, 0, 0, 100, 1, 2, 3]);
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        "closes" => stream.shutdown(std::net::Shutdown::Both).unwrap(),
        "exits" => std::process::exit(7),
        "other-answer" => answer(stream, Ok(CallInAnswer::Provisioned(Address::ZERO))),
        "silent" => {}
        "dribble" => {
            raw(stream, &1_000_000_u32.to_be_bytes());
            while stream.write_all(&[0]).is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        _ => return false,
    }
    true
}

/// A run's answer that says this.
fn says(text: impl Into<String>) -> Result<CallInAnswer, RegionFault> {
    Ok(CallInAnswer::Ran(Box::new(RunAnswer {
        outcome: RunOutcome::Skip(text.into()),
        proceed: None,
        sources: Vec::new(),
        fuel_used: 0,
        recording: None,
    })))
}

fn log(message: String) -> CallOut {
    CallOut::Log {
        level: LogLevel::Info,
        message,
    }
}

/// Calls out and says what it heard.
fn asks(stream: &mut UnixStream, asked: CallOut) -> String {
    call(stream, asked);
    match next(stream) {
        Some(ToRegion::Answer(Ok(CallOutAnswer::Done))) => "done".into(),
        Some(ToRegion::Answer(Ok(CallOutAnswer::Received(bytes)))) => format!("{bytes}"),
        Some(ToRegion::Answer(Err(reason))) => reason,
        // Nobody listens any more.
        _ => std::process::exit(1),
    }
}

/// Answers a run, or something else.
pub fn in_run(breach: &str, stream: &mut UnixStream) {
    let done = |count: usize, stream: &mut UnixStream, asked: &dyn Fn() -> CallOut| {
        let answers = (0..count).map(|_| asks(stream, asked()));
        answers
            .filter(|answer| answer == "done")
            .count()
            .to_string()
    };
    match breach {
        "twice" => {
            let twice = [says("first"), says("second")].map(ToHost::Answer);
            at_once(stream, &twice);
        }
        "answers-then-calls" => {
            at_once(
                stream,
                &[ToHost::Answer(says("first")), ToHost::Call(CallOut::Close)],
            );
        }
        // The first answer must have been read by then, or the two would be found together.
        "answers-ahead" => {
            answer(stream, says(std::process::id().to_string()));
            kill_process(getpid(), Signal::STOP).unwrap();
            answer(stream, says("to what nobody has asked yet"));
            std::process::exit(0);
        }
        "shouts" => {
            let lines = done(1_000, stream, &|| log("x".into()));
            answer(stream, says(lines));
        }
        "shouts-long" => {
            asks(stream, log("x".repeat(8 << 20)));
            answer(stream, says("shouted"));
        }
        "shouts-for-ever" => loop {
            asks(stream, log("x".repeat(MAX_MESSAGE_BYTES)));
        },
        "connects" => {
            let place = || CallOut::Connect {
                place: crate::support::PLACE.into(),
            };
            let connections = done(200, stream, &place);
            answer(stream, says(connections));
        }
        "connects-elsewhere" => {
            let place = "169.254.169.254:80".to_owned();
            let heard = asks(stream, CallOut::Connect { place });
            answer(stream, says(heard));
        }
        "uses-no-stream" => {
            let heard = [CallOut::Send(vec![1].into()), CallOut::Receive(u32::MAX)];
            let heard = heard.map(|asked| asks(stream, asked));
            answer(stream, says(heard.join("; ")));
        }
        "asks-for-key" => {
            let said = statement("", Measurement(B256::ZERO), B256::ZERO);
            let created = Box::new(Created {
                statement: said,
                attestation: None,
            });
            let heard = asks(stream, CallOut::CodeKey(created));
            answer(stream, says(heard));
        }
        "late" => {
            thread::sleep(Duration::from_millis(3_000));
            answer(stream, says("late"));
        }
        "faults-then-answers" => {
            let both = [Err(RegionFault::Deadline(1)), says("late")].map(ToHost::Answer);
            at_once(stream, &both);
        }
        _ => answer(stream, says("well-behaved")),
    }
}

/// What a region says about itself.
pub fn statement(breach: &str, measurement: Measurement, nonce: B256) -> EvidenceStatement {
    let honest = EvidenceStatement {
        provider: Provider::Process,
        controls: vec!["seccomp-kill".into()],
        measurement,
        region_key: cryptlet_seal::SigningKey::generate().address(),
        exchange_key: cryptlet_seal::ExchangeKey::generate().public(),
        nonce,
    };
    match breach {
        "other-measurement" => EvidenceStatement {
            measurement: Measurement(B256::repeat_byte(7)),
            ..honest
        },
        "earlier-nonce" => EvidenceStatement {
            nonce: B256::repeat_byte(8),
            ..honest
        },
        "other-provider" => EvidenceStatement {
            provider: Provider::SevSnp,
            ..honest
        },
        _ => honest,
    }
}

/// Answers a call that is no run.
pub fn outside_of_runs(breach: &str, call: &CallIn) -> Result<CallInAnswer, RegionFault> {
    match call {
        CallIn::Seal if breach == "seals-too-much" => {
            let image = vec![0; MAX_SEALED_BYTES + 1];
            Ok(CallInAnswer::Sealed(image.into()))
        }
        CallIn::Provision(_) => Ok(CallInAnswer::Provisioned(Address::ZERO)),
        _ => Err(RegionFault::Protocol("not in this test".into())),
    }
}
