//! A price that follows geometric Brownian motion, and sums over its paths.

use std::f64::consts::TAU;

/// What is priced: a call at `strike` in `years` on what costs `spot` now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) spot: f64,
    pub(crate) strike: f64,
    pub(crate) volatility: f64,
    pub(crate) rate: f64,
    pub(crate) years: f64,
    pub(crate) seed: u64,
}

/// Payoffs so far: how many, their sum, and the sum of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) count: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    /// 24 bytes, big-endian.
    pub(crate) fn to_state(self) -> Vec<u8> {
        let words = [self.count, self.sum.to_bits(), self.squares.to_bits()];
        words.map(u64::to_be_bytes).concat()
    }

    pub(crate) fn from_state(state: &[u8]) -> Option<Self> {
        let (words, []) = state.as_chunks::<8>() else {
            return None;
        };
        let &[count, sum, squares] = words else {
            return None;
        };
        Some(Self {
            count: u64::from_be_bytes(count),
            sum: f64::from_bits(u64::from_be_bytes(sum)),
            squares: f64::from_bits(u64::from_be_bytes(squares)),
        })
    }
}

impl Model {
    /// Adds the payoffs of the next paths, until there are `end`.
    pub(crate) fn add(&self, sums: &mut Sums, end: u64) {
        let drift = (self.rate - self.volatility * self.volatility / 2.0) * self.years;
        let spread = self.volatility * self.years.sqrt();
        while sums.count < end {
            let last = self.spot * (drift + spread * normal(self.seed, sums.count)).exp();
            let payoff = (last - self.strike).max(0.0);
            sums.sum += payoff;
            sums.squares += payoff * payoff;
            sums.count += 1;
        }
    }

    /// The discounted mean, and its standard error.
    pub(crate) fn price(&self, sums: &Sums) -> (f64, f64) {
        let count = sums.count as f64;
        let discount = (-self.rate * self.years).exp();
        let mean = sums.sum / count;
        // Rounding can make what is about zero a little less.
        let variance = (sums.squares / count - mean * mean).max(0.0);
        (discount * mean, discount * (variance / count).sqrt())
    }
}

/// The standard normal number of a path (Box and Muller).
fn normal(seed: u64, path: u64) -> f64 {
    let radius = (-2.0 * uniform(seed, path, 0).ln()).sqrt();
    radius * (TAU * uniform(seed, path, 1)).cos()
}

/// A number above 0, at most 1.
fn uniform(seed: u64, path: u64, which: u64) -> f64 {
    let counter = path.wrapping_mul(2).wrapping_add(which);
    let bits = mix(mix(seed).wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 11;
    (bits + 1) as f64 / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators").
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTION: Model = Model {
        spot: 100.0,
        strike: 100.0,
        volatility: 0.2,
        rate: 0.05,
        years: 1.0,
        seed: 7,
    };

    /// The normal distribution function, by Simpson's rule over its density.
    fn distribution(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / TAU.sqrt();
        let steps = 2_000;
        let width = x / f64::from(steps);
        let inner: f64 = (1..steps)
            .map(|step| density(width * f64::from(step)) * if step % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        0.5 + width / 3.0 * (density(0.0) + inner + density(x))
    }

    /// The closed form of Black and Scholes.
    fn black_scholes(model: &Model) -> f64 {
        let spread = model.volatility * model.years.sqrt();
        let drift = (model.rate + model.volatility * model.volatility / 2.0) * model.years;
        let upper = ((model.spot / model.strike).ln() + drift) / spread;
        let discount = (-model.rate * model.years).exp();
        model.spot * distribution(upper) - model.strike * discount * distribution(upper - spread)
    }

    #[test]
    fn the_closed_form_is_the_textbooks() {
        // J. Hull, "Options, futures, and other derivatives", example 15.6: 4.76.
        let hull = Model {
            spot: 42.0,
            strike: 40.0,
            rate: 0.1,
            years: 0.5,
            ..OPTION
        };
        assert!((black_scholes(&hull) - 4.76).abs() < 0.005);
    }

    #[test]
    fn prices_are_within_three_standard_errors_of_the_closed_form() {
        let options = [
            OPTION,
            Model {
                strike: 120.0,
                ..OPTION
            },
            Model {
                strike: 80.0,
                seed: 1,
                ..OPTION
            },
            Model {
                volatility: 0.6,
                years: 3.0,
                ..OPTION
            },
            Model {
                rate: -0.01,
                years: 0.1,
                seed: u64::MAX,
                ..OPTION
            },
            Model {
                spot: 1_954.25,
                strike: 2_000.0,
                volatility: 0.15,
                seed: 0,
                ..OPTION
            },
        ];
        for model in options {
            let mut sums = Sums::default();
            model.add(&mut sums, 400_000);
            let (price, error) = model.price(&sums);
            let exact = black_scholes(&model);
            assert!(error < exact / 50.0, "{model:?}: {price} +- {error}");
            assert!(
                (price - exact).abs() < 3.0 * error,
                "{model:?}: {price} +- {error}, exactly {exact}"
            );
        }
    }

    #[test]
    fn how_the_paths_are_split_does_not_matter() {
        let mut whole = Sums::default();
        OPTION.add(&mut whole, 1_000);
        let mut split = Sums::default();
        for end in [1, 17, 500, 999, 1_000] {
            OPTION.add(&mut split, end);
            split = Sums::from_state(&split.to_state()).unwrap();
        }
        assert_eq!(whole, split);
    }

    #[test]
    fn a_state_of_another_length_is_none() {
        for length in [0, 8, 23, 25, 32] {
            assert_eq!(Sums::from_state(&vec![0; length]), None);
        }
    }

    #[test]
    fn another_seed_gives_other_paths() {
        let mut sums = [Sums::default(); 2];
        OPTION.add(&mut sums[0], 100);
        Model { seed: 8, ..OPTION }.add(&mut sums[1], 100);
        assert_ne!(sums[0], sums[1]);
    }
}
