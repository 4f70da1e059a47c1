//! One suite for all providers: what a host may rely on, whoever isolates. See `README.md` beside this file.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod properties;
#[path = "../support/mod.rs"]
mod support;

use cryptlet_isolation::IsolationProvider;

/// Makes a provider, each time as a host does that has just started.
type Starts = fn() -> Box<dyn IsolationProvider>;

/// A module of tests for a provider: one for each property.
macro_rules! conforms {
    ($provider:ident, $starts:expr, [$($property:ident),* $(,)?]) => {
        mod $provider {
            $(
                #[tokio::test]
                async fn $property() {
                    super::properties::$property($starts).await;
                }
            )*
        }
    };
    ($provider:ident, $starts:expr) => {
        conforms!($provider, $starts, [
            a_region_is_created_given_its_key_and_woken_in_this_order,
            a_region_says_who_isolates_it_and_repeats_the_challenge,
            the_digest_is_the_same_after_every_restart,
            the_digest_is_another_for_other_code_limits_or_places,
            a_signature_is_true_for_that_code_in_that_region_alone,
            each_limit_stops_a_run_and_the_next_one_is_fresh,
            time_is_limited_whatever_fuel_is_left,
            nothing_is_called_out_that_settings_do_not_allow,
            a_cryptlet_comes_back_as_itself_in_another_region,
            a_key_for_one_region_is_of_no_use_to_another,
            a_key_that_stays_in_its_vault_signs_there,
            a_message_is_signed_by_both_keys_for_its_subscription_alone,
            a_cryptlet_believes_what_another_said_in_its_region_alone,
            what_is_no_package_makes_no_region,
            a_region_ends_when_it_is_dropped,
            a_call_that_is_dropped_ends_its_region,
        ]);
    };
}

conforms!(here, crate::support::provider);
