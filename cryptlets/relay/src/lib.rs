//! Answers every trigger at once and asks no source: what the fabric itself takes is measured with it.
//!
//! No parameters. Payload: `(uint256 number, bytes32 hash)`, from what it was woken with:
//!
//! | woken by | number | hash |
//! |---|---|---|
//! | clock, request, call | the moment | zero |
//! | threshold | the value | the feed |
//! | log | first word of the data | the transaction |
//! | block | its number | its hash |
//! | application | first word of the data | Keccak-256 of the message's id |
//! | step | its number | zero |
//!
//! As a feed it has the moment itself, which rises by one a second. A word that is cut short is zero.

use cryptlet::{
    Answer, Context, Cryptlet, Description, Failure, Trigger, abi,
    primitives::{B256, I256, U256, keccak256},
};

/// The cryptlet.
pub struct Relay;

impl Cryptlet for Relay {
    type Params = ();
    type Payload = (abi::Uint<256>, abi::FixedBytes<32>);

    fn describe() -> Description {
        Description::new("relay").on_trigger("relayed()", "(uint256,bytes32)")
    }

    fn on_trigger(_: &Context, trigger: Trigger, (): ()) -> Result<Answer<(U256, B256)>, Failure> {
        Ok(Answer::Deliver(match trigger {
            Trigger::Clock(at) | Trigger::Request(at) => moment(at),
            Trigger::Threshold(seen) => (seen.value.into_raw(), seen.feed),
            Trigger::Log(log) => (first_word(&log.data), log.transaction),
            Trigger::Block(block) => (U256::from(block.number), block.hash),
            Trigger::Application(said) => (first_word(&said.data), keccak256(said.id)),
            Trigger::Step(step) => moment(step.number.into()),
        }))
    }

    fn observe(context: &Context, (): ()) -> Result<Option<I256>, Failure> {
        Ok(Some(I256::from_raw(U256::from(context.now))))
    }

    fn call(context: &Context, (): ()) -> Result<(U256, B256), Failure> {
        Ok(moment(context.now))
    }
}

fn moment(at: u64) -> (U256, B256) {
    (U256::from(at), B256::ZERO)
}

fn first_word(data: &[u8]) -> U256 {
    let word = data.first_chunk::<32>().copied();
    U256::from_be_bytes(word.unwrap_or_default())
}

cryptlet::export!(Relay);
