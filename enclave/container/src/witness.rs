//! Who has hardware speak for regions on a machine of their own: the process that listens, for its children.
//!
//! A region has no device and may open none. It asks over a stream, in frames (a big-endian `u32` length and one CBOR item):
//! what it is told first is the provider. It may then have statements attested, in this order: that of the container without a
//! package, which the certificate shows, once; and, after it has said what it is about to load and before any of that is compiled,
//! that of the region, once, or twice for a package whose code is secret, the first time to ask for the code's key. So whatever a
//! package does to the process that compiles it, no statement about another package is attested.

use crate::session::Witness;
use cryptlet_seal::{attester::Attester, measure_container};
use cryptlet_types::{
    Attestation, EvidenceStatement, Measurement, Provider, Sha256Digest,
    attestation::MAX_ATTESTATION_BYTES,
    bounded::clip,
    region::{decode, encode},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, ErrorKind, Read, Write};

/// Most bytes of one frame: an attestation and what is around it.
const MAX_FRAME_BYTES: usize = MAX_ATTESTATION_BYTES + (4 << 10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Question {
    /// What will be loaded, and whether its code is secret.
    Measured(Measurement, bool),
    Attest(Box<EvidenceStatement>),
}

type Answer = Result<Option<Attestation>, String>;

/// A region's way to its witness.
#[derive(Debug)]
pub struct Asking<S> {
    stream: S,
    provider: Provider,
}

impl<S: Read + Write> Asking<S> {
    /// Hears who the witness is.
    ///
    /// # Errors
    /// There is none, or it does not speak like one.
    pub fn new(mut stream: S) -> io::Result<Self> {
        let provider = receive(&mut stream)?;
        Ok(Self { stream, provider })
    }

    /// Whose hardware speaks.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    fn ask(&mut self, question: &Question) -> Answer {
        let failed = |error: io::Error| format!("witness: {error}");
        send(&mut self.stream, question).map_err(failed)?;
        receive::<Answer>(&mut self.stream).map_err(failed)?
    }
}

impl<S: Read + Write> Witness for Asking<S> {
    fn measured(&mut self, measurement: Measurement, secret: bool) -> Result<(), String> {
        self.ask(&Question::Measured(measurement, secret))
            .map(|_| ())
    }

    fn attest(&mut self, statement: &EvidenceStatement) -> Result<Attestation, String> {
        let question = Question::Attest(Box::new(statement.clone()));
        self.ask(&question)?
            .ok_or_else(|| "witness: no attestation".into())
    }
}

/// Answers one region until its last statement is attested, or it breaks the rules, which ends its way to hardware.
///
/// # Errors
/// The region has gone, or broke the rules.
pub fn stand_by(
    mut stream: impl Read + Write,
    attester: &dyn Attester,
    container: Sha256Digest,
) -> io::Result<()> {
    send(&mut stream, &attester.provider())?;
    let mut rules = Rules::new(attester.provider(), measure_container(container));
    while !rules.are_over() {
        let question = receive(&mut stream)?;
        let answer = rules.answer(question, attester);
        let broken = answer.is_err();
        send(&mut stream, &answer)?;
        if broken {
            return Err(ErrorKind::PermissionDenied.into());
        }
    }
    Ok(())
}

/// What a region may have attested next.
struct Rules {
    provider: Provider,
    next: Next,
}

enum Next {
    Container(Measurement),
    Measured(EvidenceStatement),
    /// That the region is, and whether it says so once more.
    Region(EvidenceStatement, bool),
    Nothing,
}

impl Rules {
    fn new(provider: Provider, container: Measurement) -> Self {
        Self {
            provider,
            next: Next::Container(container),
        }
    }

    fn are_over(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    fn answer(&mut self, question: Question, attester: &dyn Attester) -> Answer {
        let refused = || Err("witness: this is not what may be attested now".to_owned());
        match (std::mem::replace(&mut self.next, Next::Nothing), question) {
            (Next::Container(measurement), Question::Attest(said))
                if said.measurement == measurement && said.provider == self.provider =>
            {
                let attestation = attest(attester, &said)?;
                self.next = Next::Measured(*said);
                Ok(Some(attestation))
            }
            (Next::Measured(first), Question::Measured(measurement, secret)) => {
                let expected = EvidenceStatement {
                    measurement,
                    ..first
                };
                self.next = Next::Region(expected, secret);
                Ok(None)
            }
            (Next::Region(mut expected, again), Question::Attest(said)) => {
                expected.nonce = said.nonce;
                if *said != expected {
                    return refused();
                }
                let attestation = attest(attester, &said)?;
                if again {
                    self.next = Next::Region(expected, false);
                }
                Ok(Some(attestation))
            }
            _ => refused(),
        }
    }
}

fn attest(attester: &dyn Attester, statement: &EvidenceStatement) -> Result<Attestation, String> {
    let attested = attester.attest(statement.bound(), statement.nonce);
    attested.map_err(|error| clip(&error.to_string()))
}

fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = encode(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &body].concat())
}

fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    decode(&body).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use cryptlet_seal::{attester::Simulator, sha256};
    use std::{os::unix::net::UnixStream, thread};

    fn said(measurement: Measurement) -> EvidenceStatement {
        EvidenceStatement {
            provider: Provider::Simulator,
            controls: vec!["seccomp-kill".into()],
            measurement,
            region_key: Address::repeat_byte(1),
            exchange_key: B256::repeat_byte(2),
            nonce: B256::repeat_byte(3),
        }
    }

    fn container() -> EvidenceStatement {
        said(measure_container(sha256(b"container")))
    }

    const PACKAGE: Measurement = Measurement(B256::repeat_byte(9));

    /// A region that asks, and what its witness makes of it.
    fn asked<T>(ask: impl FnOnce(&mut Asking<UnixStream>) -> T) -> (T, io::Result<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let witness = thread::spawn(move || {
            let simulator = Simulator::everybodys().unwrap();
            stand_by(ours, &simulator, sha256(b"container"))
        });
        let mut asking = Asking::new(theirs).unwrap();
        assert_eq!(asking.provider(), Provider::Simulator);
        let said = ask(&mut asking);
        drop(asking);
        (said, witness.join().unwrap())
    }

    #[test]
    fn a_region_has_the_container_and_then_itself_attested_and_nothing_more() {
        let ((), ended) = asked(|witness| {
            witness.attest(&container()).unwrap();
            witness.measured(PACKAGE, false).unwrap();
            let region = EvidenceStatement {
                nonce: B256::repeat_byte(7),
                ..said(PACKAGE)
            };
            witness.attest(&region).unwrap();
            assert!(witness.attest(&region).is_err(), "once is enough");
        });
        ended.unwrap();
    }

    #[test]
    fn who_has_secret_code_to_load_has_itself_attested_twice() {
        let ((), ended) = asked(|witness| {
            witness.attest(&container()).unwrap();
            witness.measured(PACKAGE, true).unwrap();
            for nonce in [7, 8] {
                let nonce = B256::repeat_byte(nonce);
                let region = EvidenceStatement {
                    nonce,
                    ..said(PACKAGE)
                };
                witness.attest(&region).unwrap();
            }
            assert!(witness.attest(&said(PACKAGE)).is_err(), "twice is enough");
        });
        ended.unwrap();
        let (refused, ended) = asked(|witness| {
            witness.attest(&container()).unwrap();
            witness.measured(PACKAGE, true).unwrap();
            witness.attest(&said(PACKAGE)).unwrap();
            witness.attest(&EvidenceStatement {
                exchange_key: B256::ZERO,
                ..said(PACKAGE)
            })
        });
        assert!(refused.unwrap_err().contains("may be attested now"));
        assert!(ended.is_err());
    }

    #[test]
    fn a_statement_about_another_package_key_or_place_is_never_attested() {
        let changes: [fn(&mut EvidenceStatement); 5] = [
            |said| said.measurement = Measurement(B256::repeat_byte(8)),
            |said| said.region_key = Address::ZERO,
            |said| said.exchange_key = B256::ZERO,
            |said| said.provider = Provider::Tdx,
            |said| said.controls.clear(),
        ];
        for change in changes {
            let (refused, ended) = asked(|witness| {
                witness.attest(&container()).unwrap();
                witness.measured(PACKAGE, false).unwrap();
                let mut region = said(PACKAGE);
                change(&mut region);
                let refused = witness.attest(&region);
                assert!(witness.attest(&said(PACKAGE)).is_err(), "no second try");
                refused
            });
            assert!(refused.unwrap_err().contains("may be attested now"));
            assert!(ended.is_err());
        }
    }

    #[test]
    fn nothing_is_attested_out_of_turn() {
        let (refused, _) = asked(|witness| witness.attest(&said(PACKAGE)));
        assert!(refused.is_err(), "not the container");
        let (refused, _) = asked(|witness| witness.measured(PACKAGE, false));
        assert!(refused.is_err(), "a package before the container");
        let (refused, _) = asked(|witness| {
            witness.attest(&container()).unwrap();
            witness.attest(&said(PACKAGE))
        });
        assert!(refused.is_err(), "a region before its package");
        let (refused, _) = asked(|witness| {
            witness.attest(&container()).unwrap();
            witness.measured(PACKAGE, false).unwrap();
            witness.measured(Measurement(B256::ZERO), false)
        });
        assert!(refused.is_err(), "two packages");
    }

    #[test]
    fn an_oversize_frame_is_refused_before_it_is_read() {
        let length = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes();
        let error = receive::<Question>(&mut length.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
