//! A cryptlet that misbehaves as its parameters say: what containers, hosts and benchmarks are tried with.
//!
//! Parameters: `(string behaviour, string detail)`. Payload: `(string)`. `echo` is the well-behaved one: it
//! returns `detail`, and is the bare component call of the benchmarks. `relay` tells what it was woken with, `count` and
//! `ponder` take `detail` steps, with and without progress, `bloat` keeps that many bytes, and `sign` has `detail` signed and `claim` asks whether another did. As a feed it has the value
//! `detail`, and a caller gets what a contract would.

use cryptlet::{
    Answer, Context, Cryptlet, Description, Failure, Trigger, abi, http,
    primitives::{I256, hex},
    regions, signing,
};
use std::hint::black_box;

/// The cryptlet.
pub struct Hostile;

impl Cryptlet for Hostile {
    type Params = (abi::String, abi::String);
    type Payload = (abi::String,);

    fn describe() -> Description {
        Description::new("hostile").on_trigger("Misbehave(string,string)", "(string)")
    }

    fn on_trigger(
        _: &Context,
        trigger: Trigger,
        (behaviour, detail): (String, String),
    ) -> Result<Answer<(String,)>, Failure> {
        match behaviour.as_str() {
            "relay" => Ok(Answer::Deliver((format!("{trigger:?}"),))),
            "count" | "ponder" => step(trigger, number(&detail)?, behaviour == "count"),
            "bloat" => Ok(Answer::Proceed {
                state: vec![1; number(&detail)?],
                payload: None,
            }),
            _ => misbehave(&behaviour, detail),
        }
    }

    fn observe(
        _: &Context,
        (behaviour, detail): (String, String),
    ) -> Result<Option<I256>, Failure> {
        match misbehave(&behaviour, detail)? {
            Answer::Deliver((value,)) => match value.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Failure::Refused(format!("{value:?} is no value"))),
            },
            _ => Ok(None),
        }
    }

    fn call(
        context: &Context,
        (behaviour, detail): (String, String),
    ) -> Result<(String,), Failure> {
        match behaviour.as_str() {
            "relay" => Ok((format!("{} {}", context.consumer, context.now),)),
            _ => match misbehave(&behaviour, detail)? {
                Answer::Deliver(said) => Ok(said),
                _ => Err(Failure::Refused("nothing to say".into())),
            },
        }
    }
}

fn misbehave(behaviour: &str, detail: String) -> Result<Answer<(String,)>, Failure> {
    let said = match behaviour {
        "echo" => detail,
        "skip" => return Ok(Answer::Skip(detail)),
        "refuse" => return Err(Failure::Refused(detail)),
        "trap" => trap(),
        "loop" => spin(),
        "eat" => eat(),
        "recurse" => recurse(1).to_string(),
        "huge" => "x".repeat(number(&detail)?),
        "log" => shout(number(&detail)?),
        "fetch" => fetch(&detail)?,
        "hammer" => hammer(&detail)?,
        "sign" => sign(detail.as_bytes())?,
        "claim" => claim(&detail)?,
        "sign-huge" => sign(&vec![0; number(&detail)?])?,
        "sign-many" => sign_again(number(&detail)?)?,
        _ => return Err(Failure::Refused(format!("no behaviour {behaviour:?}"))),
    };
    Ok(Answer::Deliver((said,)))
}

/// A full stop for each step, until there are `steps` of them.
fn step(trigger: Trigger, steps: usize, tell: bool) -> Result<Answer<(String,)>, Failure> {
    let mut state = match trigger {
        Trigger::Step(step) => step.state,
        _ => Vec::new(),
    };
    state.push(b'.');
    let said = String::from_utf8_lossy(&state).into_owned();
    Ok(if state.len() > steps {
        Answer::Deliver((said,))
    } else {
        Answer::Proceed {
            state,
            payload: tell.then_some((said,)),
        }
    })
}

fn number(text: &str) -> Result<usize, Failure> {
    text.parse()
        .map_err(|_| Failure::Refused(format!("{text:?} is no number")))
}

fn trap() -> ! {
    std::process::abort()
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns).wrapping_add(1);
    }
}

fn eat() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn recurse(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return depth;
    }
    let frame = black_box([depth; 64]);
    recurse(depth.wrapping_add(1)).wrapping_add(frame.iter().sum())
}

/// Lines as long as `bytes`, more than a run is allowed.
fn shout(bytes: usize) -> String {
    let line = "y".repeat(bytes);
    for _ in 0..1_000 {
        cryptlet::info!("{line}");
    }
    "shouted".into()
}

/// Status and body of a page, or how it failed, as a deliverable value.
fn fetch(url: &str) -> Result<String, Failure> {
    let said = match http::get(url) {
        Ok(response) => {
            let body = String::from_utf8_lossy(&response.body);
            format!("{} {body}", response.status)
        }
        Err(error) => format!("{error:?}"),
    };
    Ok(said.chars().take(4_000).collect())
}

/// Both signatures of a message, in hexadecimal, or `none`.
fn sign(message: &[u8]) -> Result<String, Failure> {
    let signed = signing::sign(message)?;
    let cryptlet = signed.cryptlet.map_or("none".into(), hex::encode);
    Ok(format!("{cryptlet} {}", hex::encode(signed.region)))
}

/// Whether a claim holds: its seven parts in hexadecimal, in their order, asked so many times as the eighth says.
fn claim(detail: &str) -> Result<String, Failure> {
    let mut parts = detail.split(' ');
    let mut part = || hex::decode(parts.next().unwrap_or_default()).unwrap_or_default();
    let claim = regions::Claim {
        host: part(),
        measurement: part(),
        evidence: part(),
        cryptlet: part(),
        subject: part(),
        message: part(),
        signature: part(),
    };
    let times = number(parts.next().unwrap_or_default())?;
    let mut holds = false;
    for _ in 0..times {
        holds = regions::check_signature(&claim)?;
    }
    Ok(holds.to_string())
}

/// The signatures of the last of so many messages.
fn sign_again(times: usize) -> Result<String, Failure> {
    let mut told = String::new();
    for _ in 0..times {
        told = sign(b"again")?;
    }
    Ok(told)
}

/// The same page again and again, for ever.
fn hammer(url: &str) -> Result<String, Failure> {
    loop {
        http::get(url)?;
    }
}

cryptlet::export!(Hostile);
