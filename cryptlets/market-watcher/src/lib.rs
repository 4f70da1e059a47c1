//! The paper's MarketWatcher: wakes a contract with the day's reference rates, if the market was open.
//!
//! Parameters: `(bool onlyIfMarketOpen, string[] currencies)`. Payload: `(uint64 day, uint256[] rates)`: the
//! day as Unix seconds of its midnight UTC, and units of each currency for one euro with 18 decimals, in the
//! order asked for. Setting `feed`: the URL that is asked, with `?date=YYYY-MM-DD` added.
//!
//! The day is the UTC date of the moment at which the trigger was due. For a schedule between 02:00 and
//! midnight in Europe/Berlin (the example's is 16:00) that is also the date in Frankfurt, where the rates are set.

mod date;
mod feed;
mod rate;

use cryptlet::{
    Answer, Context, Cryptlet, Description, Failure, Trigger, abi, http, primitives::U256,
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
        Trigger::Clock(due): Trigger,
        (only_if_open, currencies): (bool, Vec<String>),
    ) -> Result<Answer<(u64, Vec<U256>)>, Failure> {
        if currencies.is_empty() {
            return Err(Failure::Refused("no currency was asked for".into()));
        }
        let date = Date::of(due);
        let table = fetch(context.setting("feed")?, date)?;
        match feed::read(&table, date).map_err(Failure::Unavailable)? {
            Day::Open(row) => Ok(Answer::Deliver((date.midnight(), row.rates(&currencies)?))),
            Day::Closed if only_if_open => Ok(Answer::Skip(format!("market closed on {date}"))),
            Day::Closed => Err(Failure::Refused(format!("market closed on {date}"))),
        }
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
