//! The paper's MarketWatcher: wakes a contract with the day's reference rates, if the market was open.
//!
//! Parameters: `(bool onlyIfMarketOpen, string[] currencies)`. Payload: `(uint64 day, uint256[] rates)`: the
//! day as Unix seconds of its midnight UTC, and units of each currency for one euro with 18 decimals, in the
//! order asked for. Setting `feed`: the URL that is asked, with `?date=YYYY-MM-DD` added.
//!
//! As a feed it has the day's rate of the one currency that the parameters name, or none while there is none; a caller gets what
//! a contract would get at that moment.
//!
//! The day is the UTC date of the moment that the trigger is of: due, observed, or asked. For a schedule between 02:00 and
//! midnight in Europe/Berlin (the example's is 16:00) that is also the date in Frankfurt, where the rates are set.

mod date;
mod feed;
mod rate;

use cryptlet::{
    Answer, Context, Cryptlet, Description, Failure, Trigger, abi, http,
    primitives::{I256, U256},
};
use date::Date;
use feed::Day;

/// The cryptlet.
pub struct MarketWatcher;

impl Cryptlet for MarketWatcher {
    type Params = (abi::Bool, abi::Array<abi::String>);
    type Payload = (abi::Uint<64>, abi::Array<abi::Uint<256>>);

    fn describe() -> Description {
        Description::new("market-watcher")
            .on_trigger("CalculatePrice(bool,string[])", "(uint64,uint256[])")
    }

    fn on_trigger(
        context: &Context,
        trigger: Trigger,
        (only_if_open, currencies): (bool, Vec<String>),
    ) -> Result<Answer<(u64, Vec<U256>)>, Failure> {
        let moment = match trigger {
            Trigger::Clock(due) => due,
            Trigger::Threshold(seen) => seen.at,
            Trigger::Request(at) => at,
            _ => {
                return Err(Failure::Refused(
                    "only moments and its own rates wake it".into(),
                ));
            }
        };
        match rates(context, moment, &currencies)? {
            Ok(rates) => Ok(Answer::Deliver(rates)),
            Err(closed) if only_if_open => Ok(Answer::Skip(closed)),
            Err(closed) => Err(Failure::Refused(closed)),
        }
    }

    fn observe(
        context: &Context,
        (_, currencies): (bool, Vec<String>),
    ) -> Result<Option<I256>, Failure> {
        if currencies.len() != 1 {
            return Err(Failure::Refused("a feed is of one currency".into()));
        }
        let rates = rates(context, context.now, &currencies)?.ok();
        Ok(rates.and_then(|(_, rates)| rates.first().map(|rate| I256::from_raw(*rate))))
    }

    fn call(
        context: &Context,
        (_, currencies): (bool, Vec<String>),
    ) -> Result<(u64, Vec<U256>), Failure> {
        rates(context, context.now, &currencies)?.map_err(Failure::Refused)
    }
}

/// Day and rates, or the word that the market was closed.
type Rates = Result<(u64, Vec<U256>), String>;

fn rates(context: &Context, moment: u64, currencies: &[String]) -> Result<Rates, Failure> {
    if currencies.is_empty() {
        return Err(Failure::Refused("no currency was asked for".into()));
    }
    let date = Date::of(moment);
    let table = fetch(context.setting("feed")?, date)?;
    match feed::read(&table, date).map_err(Failure::Unavailable)? {
        Day::Open(row) => Ok(Ok((date.midnight(), row.rates(currencies)?))),
        Day::Closed => Ok(Err(format!("market closed on {date}"))),
    }
}

fn fetch(feed: &str, date: Date) -> Result<String, Failure> {
    let response = http::get(&format!("{feed}?date={date}"))?;
    if response.status != 200 {
        return Err(Failure::Unavailable(format!(
            "feed answered with status {}",
            response.status
        )));
    }
    String::from_utf8(response.body)
        .map_err(|_| Failure::Unavailable("feed's answer is not text".into()))
}

cryptlet::export!(MarketWatcher);
