use super::*;
use alloy_primitives::{Address, FixedBytes};
use cryptlet_types::{TriggerSpec, report::CompactSignature};
use proptest::prelude::*;
use std::{cmp::Ordering, collections::BTreeMap};

fn spec(bound: i64, direction: Direction, hysteresis: u64, repeat: bool) -> ThresholdSpec {
    ThresholdSpec {
        feed_params: Bytes::from_static(b"gold"),
        every: 60,
        bound: I256::try_from(bound).unwrap(),
        direction,
        hysteresis: U256::from(hysteresis),
        repeat,
    }
}

fn subject(number: u8) -> Subject {
    Subject(B256::repeat_byte(number))
}

fn subscription(number: u8, spec: &ThresholdSpec) -> Subscription {
    Subscription {
        subject: subject(number),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger: TriggerSpec::Threshold(spec.clone()),
        params: Bytes::new(),
        since: 100,
    }
}

fn feed() -> B256 {
    spec(0, Direction::Rising, 0, true).feed(CryptletId(Address::ZERO))
}

fn observation(value: i64, at: UnixSeconds) -> Observation {
    Observation {
        feed: feed(),
        value: I256::try_from(value).unwrap(),
        at,
        signature: CompactSignature::default(),
    }
}

struct World {
    thresholds: Thresholds,
    at: UnixSeconds,
}

impl World {
    fn new(specs: &[ThresholdSpec]) -> Self {
        let mut thresholds = Thresholds::new();
        for (number, spec) in (1..).zip(specs) {
            assert!(thresholds.add(&subscription(number, spec), spec, None));
        }
        Self {
            thresholds,
            at: 100,
        }
    }

    fn hits(&mut self, value: i64) -> Vec<u8> {
        self.at += 60;
        let hits = self.thresholds.observe(&observation(value, self.at));
        hits.into_iter().map(|subject| subject.0[0]).collect()
    }

    fn due(&mut self, now: UnixSeconds) -> Vec<UnixSeconds> {
        let due = self.thresholds.take_due(now, 10);
        due.into_iter().map(|feed| feed.due).collect()
    }
}

#[test]
fn the_first_value_fires_nothing_and_a_crossing_needs_both_sides() {
    let mut world = World::new(&[
        spec(100, Direction::Rising, 0, true),
        spec(100, Direction::Falling, 0, true),
        spec(100, Direction::Either, 0, true),
    ]);
    assert_eq!(world.hits(500), [] as [u8; 0]);
    assert_eq!(world.hits(600), [] as [u8; 0], "still beyond");
    assert_eq!(world.hits(100), [2, 3], "at the bound");
    assert_eq!(world.hits(100), [] as [u8; 0]);
    assert_eq!(world.hits(99), [] as [u8; 0]);
    assert_eq!(world.hits(100), [1, 3]);
    assert_eq!(world.hits(101), [] as [u8; 0]);
    assert_eq!(world.hits(99), [2, 3]);
}

#[test]
fn it_is_armed_again_beyond_the_hysteresis_only() {
    let mut world = World::new(&[
        spec(100, Direction::Rising, 10, true),
        spec(100, Direction::Either, 10, true),
    ]);
    assert_eq!(world.hits(99), [] as [u8; 0]);
    assert_eq!(
        world.hits(105),
        [1, 2],
        "before the first crossing the bound alone counts"
    );
    assert_eq!(world.hits(90), [] as [u8; 0], "90 is not beyond 100 - 10");
    assert_eq!(world.hits(105), [] as [u8; 0]);
    assert_eq!(world.hits(89), [] as [u8; 0]);
    assert_eq!(
        world.hits(111),
        [1, 2],
        "and the either-way one waits above at once"
    );
    assert_eq!(world.hits(100), [2]);
}

#[test]
fn once_is_once_also_after_a_restart() {
    let once = spec(100, Direction::Rising, 0, false);
    let mut world = World::new(std::slice::from_ref(&once));
    world.hits(99);
    assert_eq!(world.hits(100), [1]);
    let done = State {
        armed: false,
        fired: true,
    };
    assert_eq!(world.thresholds.take_changed(), [(subject(1), done)]);
    assert_eq!(world.hits(99), [] as [u8; 0]);
    assert_eq!(world.hits(100), [] as [u8; 0]);
    assert_eq!(
        world.thresholds.next_due(),
        None,
        "nobody waits for the feed"
    );
    let mut again = Thresholds::new();
    again.add(&subscription(1, &once), &once, Some(done));
    assert_eq!(
        (again.next_due(), again.state(subject(1))),
        (None, Some(done))
    );
    assert_eq!(again.observe(&observation(99, 1_000)), []);
    assert_eq!(again.observe(&observation(100, 2_000)), []);
}

#[test]
fn old_values_and_values_before_the_subscription_fire_nothing() {
    let rising = spec(100, Direction::Rising, 0, true);
    let mut world = World::new(&[rising]);
    let mut observe = |value, at| world.thresholds.observe(&observation(value, at)).len();
    assert_eq!(observe(99, 50), 0);
    assert_eq!(observe(100, 99), 0, "the subscription is of 100");
    assert_eq!(observe(101, 100), 1, "it waited on");
    assert_eq!(observe(99, 100), 0, "not later than the last");
    assert_eq!(observe(99, 60), 0);
    assert_eq!(observe(101, 160), 0, "99 was left aside");
    let other = Observation {
        feed: B256::ZERO,
        ..observation(0, 500)
    };
    assert_eq!(world.thresholds.observe(&other), []);
    let last = Last {
        value: I256::try_from(101).unwrap(),
        at: 160,
    };
    assert_eq!(world.thresholds.last(feed()), Some(last));
}

#[test]
fn a_hysteresis_beyond_all_values_never_arms_again() {
    let widest = ThresholdSpec {
        hysteresis: U256::MAX,
        ..spec(100, Direction::Either, 0, true)
    };
    let edge = ThresholdSpec {
        bound: I256::MIN,
        hysteresis: U256::from(1) << 255,
        ..spec(0, Direction::Falling, 0, true)
    };
    let mut world = World::new(&[widest, edge]);
    let mut observe = |value| {
        world.at += 60;
        let observation = Observation {
            value,
            ..observation(0, world.at)
        };
        world.thresholds.observe(&observation).len()
    };
    assert_eq!(observe(I256::ZERO), 0);
    assert_eq!(observe(I256::MIN), 1, "the edge");
    assert_eq!(observe(I256::MAX), 1, "the widest");
    assert_eq!(observe(I256::MIN), 1, "the edge again, as MAX is beyond 0");
    assert_eq!(observe(I256::ZERO), 0);
    assert_eq!(observe(I256::MIN), 0, "0 is not");
}

#[test]
fn feeds_are_observed_while_somebody_waits() {
    let rising = spec(100, Direction::Rising, 0, true);
    let other = ThresholdSpec {
        every: 3_600,
        ..rising.clone()
    };
    let mut world = World::new(&[rising.clone(), rising.clone(), other.clone()]);
    assert_eq!(world.thresholds.feeds(), 2);
    let asked = world.thresholds.take_due(1_000, 10);
    assert_eq!(asked.len(), 2, "at once");
    let gold = asked.iter().find(|due| due.feed == feed()).unwrap();
    assert_eq!(
        (gold.every, &gold.params, gold.cryptlet),
        (60, &rising.feed_params, CryptletId(Address::ZERO))
    );
    assert_eq!(world.thresholds.next_due(), Some(1_020));
    assert_eq!(world.due(1_019), [] as [u64; 0]);
    assert_eq!(world.due(1_200), [1_020], "1080, 1140 and 1200 are past");
    world.thresholds.pause(subject(1));
    assert_eq!(world.due(1_260), [1_260]);
    world.thresholds.pause(subject(2));
    assert_eq!(world.thresholds.next_due(), Some(3_600));
    world.thresholds.resume(subject(1));
    assert_eq!(world.due(1_320), [1_320]);
    assert!(world.thresholds.remove(subject(1)));
    assert!(world.thresholds.remove(subject(2)));
    assert!(!world.thresholds.remove(subject(2)));
    assert_eq!((world.thresholds.feeds(), world.thresholds.len()), (1, 1));
    world.thresholds.remove(subject(3));
    assert_eq!(world.thresholds.next_due(), None);
    let last = Last {
        value: I256::ZERO,
        at: 7_200,
    };
    world
        .thresholds
        .restore(other.feed(CryptletId(Address::ZERO)), last);
    world.thresholds.add(&subscription(3, &other), &other, None);
    assert_eq!(
        world.thresholds.next_due(),
        Some(10_800),
        "observed already"
    );
}

/// The definition, one subscription by itself.
struct Naive {
    spec: ThresholdSpec,
    side: Option<bool>,
    fired: bool,
    paused: bool,
}

impl Naive {
    fn arm(&mut self, value: I256) {
        let margin = if self.fired {
            I256::from_raw(self.spec.hysteresis)
        } else {
            I256::ZERO
        };
        let (rises, falls) = (
            self.spec.direction != Direction::Falling,
            self.spec.direction != Direction::Rising,
        );
        if rises && value < self.spec.bound - margin {
            self.side = Some(false);
        } else if falls && value > self.spec.bound + margin {
            self.side = Some(true);
        }
    }

    fn observe(&mut self, value: I256) -> bool {
        if self.paused || self.fired && !self.spec.repeat {
            return false;
        }
        let hit = match self.side {
            Some(false) => value >= self.spec.bound,
            Some(true) => value <= self.spec.bound,
            None => false,
        };
        if hit {
            self.fired = true;
            self.side = None;
        }
        if self.side.is_none() {
            self.arm(value);
        }
        hit
    }

    fn resume(&mut self, last: Option<I256>) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        if let Some(last) = last {
            let (rises, falls) = (
                self.spec.direction != Direction::Falling,
                self.spec.direction != Direction::Rising,
            );
            self.side = match last.cmp(&self.spec.bound) {
                Ordering::Less if rises => Some(false),
                Ordering::Greater if falls => Some(true),
                _ => None,
            };
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Observe(i64),
    Add(u8, ThresholdSpec),
    Remove(u8),
    Pause(u8),
    Resume(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let direction = prop_oneof![
        Just(Direction::Rising),
        Just(Direction::Falling),
        Just(Direction::Either)
    ];
    let spec = (-5_i64..5, direction, 0_u64..4, any::<bool>()).prop_map(
        |(bound, direction, hysteresis, repeat)| spec(bound, direction, hysteresis, repeat),
    );
    let step = prop_oneof![
        8 => (-8_i64..8).prop_map(Step::Observe),
        4 => (0_u8..12, spec).prop_map(|(number, spec)| Step::Add(number, spec)),
        1 => (0_u8..12).prop_map(Step::Remove),
        1 => (0_u8..12).prop_map(Step::Pause),
        1 => (0_u8..12).prop_map(Step::Resume),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn hits_are_those_of_the_definition_through_pauses_and_restarts(steps in steps()) {
        let mut world = World::new(&[]);
        let mut naive: BTreeMap<u8, Naive> = BTreeMap::new();
        // What a journal keeps.
        let mut states: BTreeMap<Subject, State> = BTreeMap::new();
        let mut last = None;
        for step in steps {
            match step {
                Step::Observe(value) => {
                    let expected: Vec<u8> = naive.iter_mut()
                        .filter_map(|(number, naive)| naive.observe(I256::try_from(value).unwrap()).then_some(*number))
                        .collect();
                    prop_assert_eq!(world.hits(value), expected);
                    states.extend(world.thresholds.take_changed());
                    last = world.thresholds.last(feed());
                    let waiting = naive.values().any(|naive| !naive.paused && (naive.spec.repeat || !naive.fired));
                    prop_assert_eq!(world.thresholds.next_due().is_some(), waiting);
                }
                Step::Add(number, spec) => {
                    world.thresholds.add(&subscription(number, &spec), &spec, None);
                    states.remove(&subject(number));
                    let mut new = Naive { spec, side: None, fired: false, paused: false };
                    if let Some(last) = world.thresholds.last(feed()) {
                        new.arm(last.value);
                    }
                    naive.insert(number, new);
                }
                Step::Remove(number) => {
                    prop_assert_eq!(world.thresholds.remove(subject(number)), naive.remove(&number).is_some());
                    states.remove(&subject(number));
                }
                Step::Pause(number) => {
                    world.thresholds.pause(subject(number));
                    naive.entry(number).and_modify(|naive| naive.paused = true);
                }
                Step::Resume(number) => {
                    world.thresholds.resume(subject(number));
                    states.extend(world.thresholds.take_changed());
                    let last = world.thresholds.last(feed()).map(|last| last.value);
                    naive.entry(number).and_modify(|naive| naive.resume(last));
                }
                Step::Restart if naive.is_empty() => {}
                Step::Restart => {
                    // A feed that was left by everybody is known no longer.
                    let known = world.thresholds.last(feed()).and(last);
                    let at = world.at;
                    world = World::new(&[]);
                    world.at = at;
                    if let Some(known) = known {
                        world.thresholds.restore(feed(), known);
                    }
                    for (number, naive) in &naive {
                        let subscription = subscription(*number, &naive.spec);
                        world.thresholds.add(&subscription, &naive.spec, states.get(&subject(*number)).copied());
                        if naive.paused {
                            world.thresholds.pause(subject(*number));
                        }
                    }
                }
            }
        }
        for (number, naive) in naive {
            let state = world.thresholds.state(subject(number)).unwrap();
            prop_assert_eq!(state.fired, naive.fired);
            if !naive.paused && (naive.spec.repeat || !naive.fired) {
                prop_assert_eq!(state.armed, naive.side.is_some());
            }
        }
    }
}
