//! Prices a European call option by Monte Carlo: a computation too long for one run.
//!
//! Parameters: `(uint256 spot, uint256 strike, uint256 volatility, int256 rate, uint256 years, uint64 paths, uint64 seed)`,
//! all but the last two with 18 decimals; volatility and rate are per year, the rate continuously compounded. Payload:
//! `(uint64 done, uint64 total, uint256 price, uint256 standardError)`: paths so far and in all, and both figures with
//! 18 decimals. Each run takes 100,000 paths, tells the contract how far it is, and goes on; the last word has
//! `done == total`.
//!
//! The same parameters give the same figures to the last bit, however the paths are split into runs: the generator counts
//! (path, seed), the sums are added up in the order of the paths, and the container has no randomness of its own.

mod model;

use cryptlet::{
    Answer, Context, Cryptlet, Description, Failure, Trigger, abi,
    primitives::{I256, U256},
};
use model::{Model, Sums};

/// Paths of one run: less than half of the fuel that the manifest asks for.
const PATHS_OF_A_RUN: u64 = 100_000;
/// Most paths: a thousand runs.
const MAX_PATHS: u64 = 100_000_000;
/// One, with 18 decimals.
const ONE: u128 = 1_000_000_000_000_000_000;
/// Largest amount, volatility, rate and number of years that makes sense.
const MAX_AMOUNT: f64 = 1e15;
const MAX_RATE: f64 = 10.0;
const MAX_YEARS: f64 = 100.0;

/// The cryptlet.
pub struct MonteCarlo;

type Params = (U256, U256, U256, I256, U256, u64, u64);
type Payload = (u64, u64, U256, U256);

impl Cryptlet for MonteCarlo {
    type Params = (
        abi::Uint<256>,
        abi::Uint<256>,
        abi::Uint<256>,
        abi::Int<256>,
        abi::Uint<256>,
        abi::Uint<64>,
        abi::Uint<64>,
    );
    type Payload = (abi::Uint<64>, abi::Uint<64>, abi::Uint<256>, abi::Uint<256>);

    fn describe() -> Description {
        Description::new("monte-carlo").on_trigger(
            "priced(uint256,uint256,uint256,int256,uint256,uint64,uint64)",
            "(uint64,uint64,uint256,uint256)",
        )
    }

    fn on_trigger(
        _: &Context,
        trigger: Trigger,
        params: Params,
    ) -> Result<Answer<Payload>, Failure> {
        let (model, paths) = read(params)?;
        let mut sums = match trigger {
            Trigger::Step(step) => Sums::from_state(&step.state)
                .ok_or_else(|| Failure::Refused("state: not of this computation".into()))?,
            _ => Sums::default(),
        };
        let end = paths.min(sums.count.saturating_add(PATHS_OF_A_RUN));
        model.add(&mut sums, end);
        let payload = told(&model, &sums, paths);
        Ok(if sums.count < paths {
            Answer::Proceed {
                state: sums.to_state(),
                payload: Some(payload),
            }
        } else {
            Answer::Deliver(payload)
        })
    }
}

/// Each refusal names its parameter.
fn read(
    (spot, strike, volatility, rate, years, paths, seed): Params,
) -> Result<(Model, u64), Failure> {
    let refused = |reason: &str| Failure::Refused(reason.into());
    let positive = |value: U256, most: f64, reason: &str| match number(value) {
        Some(value) if value > 0.0 && value <= most => Ok(value),
        _ => Err(refused(reason)),
    };
    let (negative, size) = (rate.is_negative(), number(rate.unsigned_abs()));
    let rate = size
        .filter(|size| *size <= MAX_RATE)
        .map(|size| if negative { -size } else { size })
        .ok_or_else(|| refused("rate: -10 to 10 a year"))?;
    if !(2..=MAX_PATHS).contains(&paths) {
        return Err(refused("paths: 2 to 100000000"));
    }
    let model = Model {
        spot: positive(spot, MAX_AMOUNT, "spot: above 0, at most 1e15")?,
        strike: positive(strike, MAX_AMOUNT, "strike: above 0, at most 1e15")?,
        volatility: positive(volatility, MAX_RATE, "volatility: above 0, at most 10")?,
        rate,
        years: positive(years, MAX_YEARS, "years: above 0, at most 100")?,
        seed,
    };
    Ok((model, paths))
}

fn told(model: &Model, sums: &Sums, paths: u64) -> Payload {
    let (price, error) = model.price(sums);
    (sums.count, paths, fixed(price), fixed(error))
}

/// A number with 18 decimals; none if it has no place in 128 bits.
fn number(value: U256) -> Option<f64> {
    let value = u128::try_from(value).ok()?;
    Some(value as f64 / ONE as f64)
}

/// The other way round, rounded down. What is no number, or larger than any price, becomes the nearest that is one.
fn fixed(value: f64) -> U256 {
    U256::from((value * ONE as f64) as u128)
}

cryptlet::export!(MonteCarlo);

#[cfg(test)]
mod tests {
    use super::*;

    fn units(value: f64) -> U256 {
        fixed(value)
    }

    fn params(paths: u64) -> Params {
        let rate = I256::from_raw(units(0.05));
        (
            units(100.0),
            units(110.0),
            units(0.3),
            rate,
            units(0.5),
            paths,
            42,
        )
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        type Change = (&'static str, fn(&mut Params));
        let changes: [Change; 8] = [
            ("spot", |p| p.0 = U256::ZERO),
            ("spot", |p| p.0 = U256::MAX),
            ("strike", |p| p.1 = U256::ZERO),
            ("volatility", |p| p.2 = units(10.5)),
            ("rate", |p| p.3 = I256::MIN),
            ("years", |p| p.4 = units(101.0)),
            ("paths", |p| p.5 = 1),
            ("paths", |p| p.5 = MAX_PATHS + 1),
        ];
        for (name, change) in changes {
            let mut params = params(1_000);
            change(&mut params);
            match read(params) {
                Err(Failure::Refused(reason)) => assert!(reason.starts_with(name), "{reason}"),
                other => panic!("{name}: {:?}", other.is_ok()),
            }
        }
        assert!(read(params(1_000)).is_ok());
    }

    #[test]
    fn a_negative_rate_is_one() {
        let mut params = params(1_000);
        params.3 = -params.3;
        let Ok((model, _)) = read(params) else {
            panic!("refused")
        };
        assert_eq!(model.rate, -0.05);
    }
}
