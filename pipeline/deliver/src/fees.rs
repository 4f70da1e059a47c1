//! What a transaction offers for a unit of gas (EIP-1559).

use cryptlet_chain::Fees;

/// An offer, in wei a unit of gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Most that is paid in all.
    pub max_fee: u128,
    /// Most of it that goes to the block's producer.
    pub priority_fee: u128,
}

impl Offer {
    /// Twice the base fee (it can double in six full blocks) and what the node suggests on top, within `cap`.
    #[must_use]
    pub fn suggested(fees: Fees, cap: u128) -> Self {
        let max_fee = fees
            .base_fee
            .saturating_mul(2)
            .saturating_add(fees.priority_fee)
            .min(cap);
        Self {
            max_fee,
            priority_fee: fees.priority_fee.min(max_fee),
        }
    }

    /// An offer that replaces this one: at least an eighth more in both parts (nodes want a tenth), and not less
    /// than `suggested`. `None` if that exceeds `cap`.
    #[must_use]
    pub fn outbid(self, suggested: Self, cap: u128) -> Option<Self> {
        let more = |fee: u128| {
            fee.saturating_add(fee.div_ceil(8))
                .max(fee.saturating_add(1))
        };
        let max_fee = more(self.max_fee).max(suggested.max_fee);
        let priority_fee = more(self.priority_fee)
            .max(suggested.priority_fee)
            .min(max_fee);
        (max_fee <= cap).then_some(Self {
            max_fee,
            priority_fee,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer() -> impl Strategy<Value = Offer> {
        (any::<u128>(), any::<u128>()).prop_map(|(a, b)| Offer {
            max_fee: a.max(b),
            priority_fee: a.min(b),
        })
    }

    proptest! {
        #[test]
        fn a_replacement_is_an_eighth_higher_or_there_is_none(old in offer(), suggested in offer(), cap: u128) {
            if let Some(new) = old.outbid(suggested, cap) {
                prop_assert!(new.max_fee <= cap);
                prop_assert!(new.priority_fee <= new.max_fee);
                for (new, old) in [(new.max_fee, old.max_fee), (new.priority_fee, old.priority_fee)] {
                    prop_assert!(new > old && new - old >= old / 8);
                }
            } else {
                prop_assert!(old.max_fee.saturating_add(old.max_fee.div_ceil(8)) > cap
                    || old.max_fee.saturating_add(1) > cap || suggested.max_fee > cap || old.max_fee == u128::MAX);
            }
        }
    }

    #[test]
    fn the_first_offer_stays_within_the_cap() {
        let fees = Fees {
            base_fee: 100,
            priority_fee: 30,
        };
        let offer = |cap| Offer::suggested(fees, cap);
        assert_eq!((offer(1000).max_fee, offer(1000).priority_fee), (230, 30));
        assert_eq!((offer(20).max_fee, offer(20).priority_fee), (20, 20));
    }
}
