//! A trigger in the words of the command line. What makes no sense is refused by the field's name.

use crate::{
    args::developer::{FinalityWord, TriggerArgs},
    error::{CliError, Doing},
};
use alloy::primitives::{I256, U256};
use cryptlet_types::{
    TriggerSpec, UnixSeconds,
    subscription::{
        ApplicationSpec, BlocksSpec, ClockSpec, Direction, Finality, InstantsSpec, IntervalSpec,
        LogSpec, Missed, ScheduleSpec, ThresholdSpec,
    },
};
use cryptlet_watch::{Calendars, Schedule};
use std::fmt::Display;

/// Longest time between two: a leap year.
const MAX_SECONDS: u64 = 366 * 86_400;
/// Seconds between two looks at a value, if nobody says.
const LOOK_SECONDS: u64 = 60;
/// Most digits that an exponent adds to a value: 256 bits have 78.
const MAX_EXPONENT: usize = 77;

/// A trigger that makes sense. Its chain may be the delegate's.
#[derive(Debug)]
pub(super) struct Wanted {
    spec: TriggerSpec,
    on_delegates_chain: bool,
}

impl Wanted {
    /// Reads it; moments that have passed at `now` make no sense.
    pub(super) fn read(args: &TriggerArgs, now: UnixSeconds) -> Result<Self, CliError> {
        let spec = spec(args, now)?;
        check_rest(args, &spec)?;
        // What a host would say of it.
        TriggerSpec::decode(spec.number(), &spec.encode_condition()).map_err(CliError::new)?;
        Ok(Self {
            spec,
            on_delegates_chain: args.chain_id.is_none(),
        })
    }

    /// The trigger, on this chain if no other is named.
    pub(super) fn on(mut self, delegates_chain: u64) -> TriggerSpec {
        if self.on_delegates_chain {
            match &mut self.spec {
                TriggerSpec::Log(log) => log.chain_id = delegates_chain,
                TriggerSpec::Blocks(blocks) => blocks.chain_id = delegates_chain,
                _ => {}
            }
        }
        self.spec
    }
}

fn refused(field: &str, expected: impl Display) -> CliError {
    CliError::new(format_args!("{field}: expected {expected}"))
}

fn spec(args: &TriggerArgs, now: UnixSeconds) -> Result<TriggerSpec, CliError> {
    let bound = args.above.is_some() || args.below.is_some();
    let chosen = [
        args.cron.is_some(),
        !args.at.is_empty(),
        args.every.is_some() && !bound,
        bound,
        args.log.is_some(),
        args.blocks.is_some(),
        args.application.is_some(),
        args.request,
    ];
    if chosen.into_iter().filter(|chosen| *chosen).count() != 1 {
        let words = "trigger: expected one of --cron, --at, --every, --above or --below, --log, --blocks, --application, --request";
        return Err(CliError::new(words));
    }
    let missed = match args.skip_missed {
        true => Missed::Skip,
        false => Missed::CatchUp,
    };
    let finality = match args.finality {
        None | Some(FinalityWord::Latest) => Finality::Latest,
        Some(FinalityWord::Safe) => Finality::Safe,
        Some(FinalityWord::Finalized) => Finality::Finalized,
    };
    let chain_id = args.chain_id.unwrap_or_default();
    let calendar = || args.calendar.clone().unwrap_or_default();
    if let Some(cron) = &args.cron {
        return schedule(args, cron, missed);
    }
    if !args.at.is_empty() {
        let instants = instants(&args.at, now)?;
        return Ok(TriggerSpec::Instants(InstantsSpec { instants, missed }));
    }
    if bound {
        return threshold(args);
    }
    if let Some(every) = &args.every {
        return Ok(TriggerSpec::Interval(IntervalSpec {
            seconds: seconds("every", every)?,
            calendar: calendar(),
            missed,
        }));
    }
    if let Some(emitter) = args.log {
        return Ok(TriggerSpec::Log(LogSpec {
            chain_id,
            emitter,
            topics: args.topic.clone(),
            finality,
        }));
    }
    if let Some(every) = args.blocks {
        return Ok(TriggerSpec::Blocks(BlocksSpec {
            chain_id,
            every,
            finality,
        }));
    }
    Ok(match &args.application {
        Some(application) => TriggerSpec::Application(ApplicationSpec {
            application: application.to_string(),
            kind: args.kind.clone().unwrap_or_default(),
        }),
        None => TriggerSpec::Request,
    })
}

/// What belongs to another trigger is not left out in silence.
fn check_rest(args: &TriggerArgs, spec: &TriggerSpec) -> Result<(), CliError> {
    use TriggerSpec::{Application, Blocks, Clock, Instants, Interval, Log, Schedule, Threshold};
    let timed = matches!(spec, Clock(_) | Instants(_) | Schedule(_) | Interval(_));
    let threshold = matches!(spec, Threshold(_));
    let on_chain = matches!(spec, Log(_) | Blocks(_));
    for (given, belongs, field) in [
        (
            args.time_zone.is_some(),
            matches!(spec, Clock(_) | Schedule(_)),
            "time-zone",
        ),
        (
            args.calendar.is_some(),
            matches!(spec, Schedule(_) | Interval(_)),
            "calendar",
        ),
        (args.skip_missed, timed, "skip-missed"),
        (args.feed.is_some(), threshold, "feed"),
        (args.hysteresis.is_some(), threshold, "hysteresis"),
        (args.once, threshold, "once"),
        (!args.topic.is_empty(), matches!(spec, Log(_)), "topic"),
        (args.chain_id.is_some(), on_chain, "chain-id"),
        (args.finality.is_some(), on_chain, "finality"),
        (args.kind.is_some(), matches!(spec, Application(_)), "kind"),
    ] {
        if given && !belongs {
            return Err(refused(
                field,
                format_args!("not with the trigger {}", spec.name()),
            ));
        }
    }
    Ok(())
}

fn schedule(args: &TriggerArgs, cron: &str, missed: Missed) -> Result<TriggerSpec, CliError> {
    let (zone, calendar) = (args.time_zone.clone(), args.calendar.clone());
    let by_session = cron.starts_with("open") || cron.starts_with("close");
    if by_session && calendar.is_none() {
        return Err(refused("calendar", "one, whose sessions open and close"));
    }
    if zone.is_none() && calendar.is_none() {
        return Err(refused(
            "time-zone",
            "one, such as Europe/Berlin, or a calendar",
        ));
    }
    if !by_session {
        let clock = ClockSpec {
            cron: cron.to_owned(),
            time_zone: zone.clone().unwrap_or_else(|| "UTC".to_owned()),
        };
        let calendars = Calendars::bundled().doing("the calendars of this program")?;
        Schedule::parse(&TriggerSpec::Clock(clock.clone()), 0, &calendars)
            .map_err(|error| CliError::new(format_args!("cron: {error}")))?;
        if calendar.is_none() && missed == Missed::CatchUp {
            return Ok(TriggerSpec::Clock(clock));
        }
    }
    Ok(TriggerSpec::Schedule(ScheduleSpec {
        cron: cron.to_owned(),
        time_zone: zone.unwrap_or_default(),
        calendar: calendar.unwrap_or_default(),
        missed,
    }))
}

fn instants(texts: &[String], now: UnixSeconds) -> Result<Vec<UnixSeconds>, CliError> {
    let mut instants = Vec::with_capacity(texts.len());
    for text in texts {
        let moment: Option<jiff::Timestamp> = text.parse().ok();
        let seconds = moment.and_then(|moment| u64::try_from(moment.as_second()).ok());
        let seconds =
            seconds.ok_or_else(|| refused("at", "a moment such as 2026-12-24T17:00:00Z"))?;
        if seconds <= now {
            return Err(refused(
                "at",
                format_args!("a moment to come; {text} has passed"),
            ));
        }
        instants.push(seconds);
    }
    instants.sort_unstable();
    Ok(instants)
}

fn threshold(args: &TriggerArgs) -> Result<TriggerSpec, CliError> {
    let (field, text, direction) = match (&args.above, &args.below) {
        (Some(above), None) => ("above", above, Direction::Rising),
        (None, Some(below)) => ("below", below, Direction::Falling),
        (Some(above), Some(below)) if above == below => ("above", above, Direction::Either),
        _ => {
            return Err(refused(
                "below",
                "the same bound as above: it is crossed either way",
            ));
        }
    };
    let every = args.every.as_deref().map(|text| seconds("every", text));
    let every = every.transpose()?.unwrap_or(LOOK_SECONDS);
    let hysteresis = match &args.hysteresis {
        Some(text) => value("hysteresis", text)?,
        None => I256::ZERO,
    };
    Ok(TriggerSpec::Threshold(ThresholdSpec {
        feed_params: args.feed.clone().unwrap_or_default(),
        every: u32::try_from(every).map_err(|_| refused("every", "a shorter time"))?,
        bound: value(field, text)?,
        direction,
        hysteresis: U256::try_from(hysteresis).map_err(|_| refused("hysteresis", "0 or more"))?,
        repeat: !args.once,
    }))
}

/// A time such as `90s`, `15m`, `2h`, `1d`: a second to a year.
pub(super) fn seconds(field: &str, text: &str) -> Result<u64, CliError> {
    let expected = "a time from 1s to 366d, such as 90s, 15m, 2h or 1d";
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, unit) = found.ok_or_else(|| refused(field, expected))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = number.parse().ok().filter(|_| digits);
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| refused(field, expected))
}

/// A whole number such as `-12`, `40e18` or `1.5e18`.
fn value(field: &str, text: &str) -> Result<I256, CliError> {
    let wrong = || {
        refused(
            field,
            "a whole number of 256 bits, such as -12, 40e18 or 1.5e18",
        )
    };
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => ("-", text),
        None => ("", text),
    };
    let (number, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let formed = !whole.is_empty()
        && digits(whole)
        && digits(fraction)
        && (number.contains('.') != fraction.is_empty())
        && !exponent.is_empty()
        && digits(exponent);
    let exponent: Option<usize> = exponent.parse().ok().filter(|_| formed);
    let exponent = exponent
        .filter(|exponent| *exponent <= MAX_EXPONENT)
        .ok_or_else(wrong)?;
    // A fraction that the exponent does not take up makes no whole number.
    let zeros = exponent.checked_sub(fraction.len()).ok_or_else(wrong)?;
    let all = format!("{sign}{whole}{fraction}{}", "0".repeat(zeros));
    I256::from_dec_str(&all).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{Address, B256};

    const NOW: UnixSeconds = 1_796_000_000;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn read(change: impl FnOnce(&mut TriggerArgs)) -> Result<TriggerSpec, CliError> {
        let mut args = TriggerArgs::default();
        change(&mut args);
        Wanted::read(&args, NOW).map(|wanted| wanted.on(31_337))
    }

    #[test]
    fn each_trigger_has_its_words() {
        let clock = read(|args| {
            (args.cron, args.time_zone) = (some("30 16 * * 1-5"), some("Europe/Berlin"));
        });
        assert!(matches!(clock.unwrap(), TriggerSpec::Clock(_)));
        let close = read(|args| (args.cron, args.calendar) = (some("close-15"), some("XNYS")));
        assert!(matches!(close.unwrap(), TriggerSpec::Schedule(spec) if spec.time_zone.is_empty()));
        let at = read(|args| {
            args.at = vec![
                "2026-12-24T17:00:00Z".into(),
                "2026-12-01T00:00:00+01:00".into(),
            ];
        });
        assert!(matches!(at.unwrap(), TriggerSpec::Instants(spec) if spec.instants.is_sorted()));
        let every = read(|args| (args.every, args.calendar) = (some("2h"), some("XNYS")));
        assert!(matches!(every.unwrap(), TriggerSpec::Interval(spec) if spec.seconds == 7_200));
        let above = read(|args| (args.above, args.every) = (some("40e18"), some("5m"))).unwrap();
        let TriggerSpec::Threshold(above) = above else {
            panic!("{above:?}")
        };
        assert_eq!(
            above.bound,
            I256::from_dec_str("40000000000000000000").unwrap()
        );
        assert_eq!(
            (above.every, above.direction, above.repeat),
            (300, Direction::Rising, true)
        );
        let log = read(|args| {
            args.log = Some(Address::repeat_byte(1));
            args.topic = vec![B256::repeat_byte(2)];
        });
        assert!(matches!(log.unwrap(), TriggerSpec::Log(spec) if spec.chain_id == 31_337));
        let blocks = read(|args| (args.blocks, args.chain_id) = (Some(10), Some(1)));
        assert!(matches!(blocks.unwrap(), TriggerSpec::Blocks(spec) if spec.chain_id == 1));
        let application = read(|args| args.application = Some("crm".parse().unwrap()));
        assert!(matches!(application.unwrap(), TriggerSpec::Application(_)));
        assert_eq!(
            read(|args| args.request = true).unwrap(),
            TriggerSpec::Request
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_field() {
        type Change = fn(&mut TriggerArgs);
        let cases: [(&str, Change); 20] = [
            ("trigger", |_| {}),
            ("trigger", |args| {
                (args.request, args.blocks) = (true, Some(1))
            }),
            ("cron", |args| {
                (args.cron, args.time_zone) = (some("61 * * * *"), some("UTC"))
            }),
            ("cron", |args| {
                (args.cron, args.time_zone) = (some("0 0 31 2 *"), some("UTC"))
            }),
            ("cron", |args| {
                (args.cron, args.time_zone) = (some("0 0 * * *"), some("Mars"))
            }),
            ("time-zone", |args| args.cron = some("0 0 * * *")),
            ("calendar", |args| args.cron = some("open")),
            ("at", |args| args.at = vec!["tomorrow".into()]),
            ("at", |args| args.at = vec!["2001-01-01T00:00:00Z".into()]),
            ("instants", |args| {
                args.at = vec!["2030-01-01T00:00:00Z".into(); 2]
            }),
            ("every", |args| args.every = some("0s")),
            ("every", |args| args.every = some("367d")),
            ("every", |args| args.every = some("2")),
            ("above", |args| args.above = some("1e78")),
            ("above", |args| args.above = some("1.5")),
            ("below", |args| {
                (args.above, args.below) = (some("2"), some("1"))
            }),
            ("hysteresis", |args| {
                (args.above, args.hysteresis) = (some("2"), some("-1"))
            }),
            ("emitter", |args| args.log = Some(Address::ZERO)),
            ("every", |args| args.blocks = Some(0)),
            ("topic", |args| {
                (args.request, args.topic) = (true, vec![B256::ZERO])
            }),
        ];
        for (number, (field, change)) in cases.into_iter().enumerate() {
            let error = read(change).unwrap_err().to_string();
            assert!(error.contains(field), "{number} {field}: {error}");
        }
    }

    #[test]
    fn values_are_whole_numbers() {
        for (text, number) in [
            ("0", "0"),
            ("-12", "-12"),
            ("1.5e3", "1500"),
            ("-0.25e2", "-25"),
            ("40e18", "40000000000000000000"),
        ] {
            assert_eq!(
                value("a", text).unwrap(),
                I256::from_dec_str(number).unwrap(),
                "{text}"
            );
        }
        for wrong in [
            "", "-", "--1", "+1", "1.", ".5", "1e", "1e-1", "1.25e1", "0x10", "1_0", "1e999",
        ] {
            assert!(value("a", wrong).is_err(), "{wrong}");
        }
    }
}
