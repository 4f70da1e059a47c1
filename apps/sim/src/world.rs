//! The world of one seed: its time, its chain, its faults. It outlives every host that lives in it.

use crate::{
    delegate::Delegate,
    dice::Dice,
    node::{EMITTER, Node, Wish},
    settings::{Settings, Switches},
    trace::Trace,
};
use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use cryptlet_chain::ChangeKind;
use cryptlet_types::{
    ClockSpec, CryptletId, JobId, ReportDomain, Subject, Subscription, TriggerSpec, UnixSeconds,
    subscription::{Finality, LogSpec},
};
use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

/// Id of a chain beside the delegate's, whose blocks happen to be the same.
pub const OTHER: u64 = 5;
/// When every world begins: 2026-09-21 14:13:20 UTC.
pub const BEGINNING: UnixSeconds = 1_790_000_000;
/// Most times that a host is killed in one seed.
const MAX_DEATHS: u64 = 40;
/// Seconds, after the world has calmed down, until which events are looked at.
pub const LAST_EVENTS: u64 = 60;

/// What happens by itself.
#[derive(Clone, Debug)]
enum Happening {
    /// A block is made, and perhaps others replaced.
    Block,
    /// A contract wants something.
    Wish(Wish),
    /// No faults any more.
    Calm,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer in so many milliseconds.
    Timeout(u64),
    /// The connection broke.
    Broken,
    /// The other side has troubles of its own, and says so in its own way.
    Internal(i64),
}

/// What a call still has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call has to be left, too"]
pub struct Call {
    place: &'static str,
    fails: Option<Trouble>,
    dies: bool,
}

/// A report that was handed to a node.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Its digest.
    pub digest: B256,
    /// The last second at which it is accepted.
    pub valid_until: UnixSeconds,
}

/// What is in a world.
#[derive(Debug)]
pub struct State {
    /// The chain.
    pub node: Node,
    /// What happened.
    pub trace: Trace,
    /// Which job each report was made for, by digest.
    pub made: BTreeMap<B256, JobId>,
    /// Reports that were handed to a node, by number.
    pub published: BTreeMap<(Subject, u64), Vec<Published>>,
    /// The latest second since which each subscription was ever said to be, whatever became of the block that said so.
    pub since: BTreeMap<Subject, UnixSeconds>,
    /// The second at which the last host began to live.
    pub alive_since: UnixSeconds,
    /// Rules that were broken, in words.
    pub broken: Vec<String>,
    /// How often a host was killed.
    pub deaths: u64,
    /// Blocks that were replaced.
    pub replaced: u64,
    /// Calls of any port.
    pub calls: u64,
    happenings: BTreeMap<(u64, u64), Happening>,
    counted: u64,
    millis: u64,
    life: Option<Instant>,
    dead: bool,
    calm_since: Option<u64>,
    outage_until: u64,
    full_until: u64,
    looked_at: bool,
}

/// A world.
pub struct World {
    /// All chance.
    pub dice: Dice,
    /// What it is like.
    pub settings: Settings,
    /// What is looked at.
    pub switches: Switches,
    /// Where reports go.
    pub domain: ReportDomain,
    /// The cryptlet.
    pub cryptlet: CryptletId,
    state: Mutex<State>,
    /// Told at each change of the chain. Not a `watch`, which wakes those who wait in an order of its own choice.
    pub heads: Notify,
    /// Told when the host is killed.
    pub killed: Notify,
}

impl World {
    /// The world of `seed`, in which `signer` speaks for `cryptlet` and `transmitter` sends.
    #[must_use]
    pub fn new(
        seed: u64,
        switches: Switches,
        cryptlet: CryptletId,
        signer: Address,
        transmitter: Address,
    ) -> Self {
        let dice = Dice::new(seed);
        let settings = Settings::of(&dice, switches);
        let domain = ReportDomain {
            chain_id: 31_337,
            delegate: Address::repeat_byte(0xde),
        };
        let delegate = Delegate::new(domain, cryptlet, signer);
        let state = State {
            node: Node::new(domain.chain_id, delegate, transmitter, BEGINNING - 60),
            trace: Trace::new(switches.trace),
            made: BTreeMap::new(),
            published: BTreeMap::new(),
            since: BTreeMap::new(),
            alive_since: 0,
            broken: vec![],
            deaths: 0,
            replaced: 0,
            calls: 0,
            happenings: BTreeMap::new(),
            counted: 0,
            millis: BEGINNING * 1_000,
            life: None,
            dead: false,
            calm_since: None,
            outage_until: 0,
            full_until: 0,
            looked_at: false,
        };
        let world = Self {
            dice,
            settings,
            switches,
            domain,
            cryptlet,
            state: Mutex::new(state),
            heads: Notify::new(),
            killed: Notify::new(),
        };
        world.begin();
        world
    }

    /// Plans what happens by itself.
    fn begin(&self) {
        let start = BEGINNING * 1_000;
        let mut state = self.state();
        state.say(&format!("{:?}", self.settings));
        state.plan(start + self.settings.block_millis, Happening::Block);
        let calm = start + self.settings.chaos_millis;
        state.plan(calm, Happening::Calm);
        for nonce in 0..self.settings.subscriptions {
            let subscription = self.subscription(nonce);
            let subject = subscription.subject;
            // Most subscribe early.
            let spread = self.settings.chaos_millis / self.dice.between("wish", "early", 1..=8);
            let at = start + self.dice.between("wish", "at", 0..=spread);
            state.plan(at, Happening::Wish(Wish::Subscribe(Box::new(subscription))));
            if self.dice.happens("wish", "ends", 300_000) {
                let end = self.dice.between("wish", "end", at..=calm.max(at));
                state.plan(end, Happening::Wish(Wish::Unsubscribe(subject)));
            }
            if self.dice.happens("wish", "pauses", 150_000) {
                let pause = self.dice.between("wish", "pause", at..=calm.max(at));
                let lasts = 1_000 * self.dice.between("wish", "pause lasts", 1..=120);
                state.plan(pause, Happening::Wish(Wish::Pause(subject, true)));
                let end = (pause + lasts).min(calm.max(pause + 1));
                state.plan(end, Happening::Wish(Wish::Pause(subject, false)));
            }
        }
        let emissions = self
            .dice
            .between("wish", "emissions", 0..=self.settings.emissions);
        for number in 0..emissions {
            let at = self.dice.between("wish", "emits", start..=calm + 55_000);
            let logs = self.dice.choice("wish", "logs", [1, 1, 2, 5]);
            let topic = self.topic("emitted");
            let emit = Wish::Emit {
                number,
                logs,
                topic,
            };
            state.plan(at, Happening::Wish(emit));
        }
    }

    fn topic(&self, what: &'static str) -> B256 {
        B256::repeat_byte(self.dice.choice("wish", what, [0xa1, 0xa1, 0xa2, 0xa3]))
    }

    /// What a subscription waits for.
    fn trigger(&self) -> TriggerSpec {
        let every = self.dice.between("wish", "every", 1..=3);
        let topic = self.topic("topic");
        match self.dice.between("wish", "trigger", 0..=9) {
            0..=3 => TriggerSpec::Clock(ClockSpec {
                cron: format!("*/{every} * * * *"),
                time_zone: "UTC".to_owned(),
            }),
            4 => TriggerSpec::Request,
            kind => TriggerSpec::Log(LogSpec {
                chain_id: if kind == 9 {
                    OTHER
                } else {
                    self.domain.chain_id
                },
                emitter: EMITTER,
                topics: if every == 1 { vec![] } else { vec![topic] },
                finality: match (kind, every) {
                    (8, 1) => Finality::Safe,
                    (8, _) => Finality::Finalized,
                    _ => Finality::Latest,
                },
            }),
        }
    }

    fn subscription(&self, nonce: u64) -> Subscription {
        let validity = self.dice.choice("wish", "validity", [30, 60, 300, 600]);
        Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::repeat_byte(0xc0),
            nonce,
            cryptlet: self.cryptlet,
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([1, 2, 3, 4]),
            callback_gas: 50_000,
            validity,
            trigger: self.trigger(),
            params: Bytes::new(),
            since: 0,
        }
        .with_subject_in(&self.domain)
    }

    /// What is in it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> u64 {
        self.state().now()
    }

    /// Adds a line to the trace.
    pub fn say(&self, said: &str) {
        self.state().say(said);
    }

    /// Says that a rule was broken.
    pub fn broke(&self, rule: String) {
        let mut state = self.state();
        state.say(&format!("BROKEN: {rule}"));
        state.broken.push(rule);
    }

    /// A host begins to live; the world's time is the runtime's from now on.
    pub fn come_alive(&self) {
        let mut state = self.state();
        state.life = Some(Instant::now());
        state.dead = false;
        state.alive_since = state.now() / 1_000;
        state.say("host starts");
    }

    /// The host is gone, and nothing of it runs any more.
    pub fn stand_still(&self, millis: u64) {
        let mut state = self.state();
        state.millis = millis;
        state.life = None;
        state.dead = true;
    }

    /// Whether there are still faults.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.state().calm_since.is_some()
    }

    /// The second up to which events are looked at; none before the world is calm.
    #[must_use]
    pub fn last_due(&self) -> Option<UnixSeconds> {
        let calm = self.state().calm_since;
        calm.map(|millis| millis / 1_000 + LAST_EVENTS)
    }

    /// Nobody dies and no disk is full while `looked_at`: what is read then is read by the simulation.
    pub fn look(&self, looked_at: bool) {
        self.state().looked_at = looked_at;
    }

    /// Waits for the world's time to reach `millis`.
    pub async fn until(&self, millis: u64) {
        let (life, base) = {
            let state = self.state();
            (state.life, state.millis)
        };
        if let Some(life) = life {
            sleep_until(life + Duration::from_millis(millis.saturating_sub(base))).await;
        }
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> u64 {
        let first = self
            .state()
            .happenings
            .first_key_value()
            .map(|(at, _)| at.0);
        first.unwrap_or(u64::MAX)
    }

    /// Has everything happen that is due by `millis`.
    pub fn go_on(&self, millis: u64) {
        loop {
            let mut state = self.state();
            let next = state.happenings.first_key_value().map(|(at, _)| *at);
            let Some(at) = next.filter(|at| at.0 <= millis) else {
                return;
            };
            let Some(happening) = state.happenings.remove(&at) else {
                return;
            };
            if state.life.is_none() {
                state.millis = state.millis.max(at.0);
            }
            self.happen(&mut state, happening);
            drop(state);
            self.heads.notify_waiters();
        }
    }

    fn happen(&self, state: &mut State, happening: Happening) {
        match happening {
            Happening::Block => self.block(state),
            Happening::Wish(wish) => {
                match &wish {
                    Wish::Subscribe(wanted) => {
                        let subject = short(&wanted.subject.0);
                        state.say(&format!("wish: subscribe {subject} {:?}", wanted.trigger));
                    }
                    Wish::Unsubscribe(subject) => {
                        state.say(&format!("wish: unsubscribe {}", short(&subject.0)));
                    }
                    other => state.say(&format!("wish: {other:?}")),
                }
                state.node.wish(wish);
            }
            Happening::Calm => {
                state.calm_since = Some(state.now());
                state.outage_until = 0;
                state.full_until = 0;
                state.say("calm");
            }
        }
    }

    fn block(&self, state: &mut State) {
        let (dice, settings) = (&self.dice, &self.settings);
        let now = state.now();
        let seconds = now / 1_000;
        state.plan(now + settings.block_millis, Happening::Block);
        let calm = state.calm_since.is_some();
        if !calm && settings.losses > 0 {
            let forgotten = state.node.forget(dice, settings.losses / 10);
            if forgotten > 0 {
                state.say(&format!("pool forgets {forgotten}"));
            }
        }
        if !calm && dice.happens("world", "reorg", settings.reorgs) {
            let depth = dice.between("world", "depth", 1..=settings.reorg_depth);
            let replaced = state.node.replace(depth, seconds, dice, settings);
            state.replaced += replaced.blocks;
            state.note_subscriptions(settings.reorg_depth + 2);
            state.say(&format!("reorg: {replaced:?}"));
        }
        state.node.mine(seconds, dice, settings);
        state.note_subscriptions(1);
        let tip = state.node.tip();
        let line = format!(
            "block {} {} time {} holds {} deliveries, {} changes, {} logs",
            tip.head.number,
            short(&tip.head.hash),
            tip.head.timestamp,
            tip.mined.len(),
            tip.changes.len(),
            tip.logs.len()
        );
        state.say(&line);
        if !calm && dice.happens("world", "outage", settings.outages) {
            let lasts = dice.between("world", "outage lasts", 500..=20_000);
            state.outage_until = now + lasts;
            state.say(&format!("outage of {lasts} ms"));
        }
    }

    /// Whether journal and chain have to agree in the end: where blocks are replaced, only if that is asked for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.switches.settled || self.settings.reorgs == 0
    }

    /// How many blocks the node that answers this question is behind.
    #[must_use]
    pub fn lag(&self, place: &'static str) -> u64 {
        if self.is_calm() || !self.dice.happens(place, "stale", self.settings.stale) {
            return 0;
        }
        self.dice.between(place, "lag", 1..=3)
    }

    /// A call begins: it may take its time, fail before it had an effect, or be the last that the host does.
    ///
    /// # Errors
    /// It failed, and had no effect.
    pub async fn enter(
        &self,
        place: &'static str,
        faults: u64,
        longest: u64,
    ) -> Result<Call, Trouble> {
        self.die_if(place, "dies before", "before").await;
        let wait = self.dice.between(place, "takes", 0..=longest);
        self.take(wait).await;
        let (mut call, before) = self.fate(place, faults);
        match call.fails {
            Some(trouble) if before => {
                self.say(&format!("{place}: {trouble:?}"));
                self.fail(trouble).await;
                Err(trouble)
            }
            _ => {
                let dies = self.dies(place, "dies after");
                call.dies = dies;
                Ok(call)
            }
        }
    }

    /// Draws what comes of a call, and whether it fails before its effect.
    fn fate(&self, place: &'static str, faults: u64) -> (Call, bool) {
        let dice = &self.dice;
        let (calm, outage) = {
            let state = self.state();
            let calm = state.calm_since.is_some();
            (calm, state.now() < state.outage_until)
        };
        let fails = !calm && dice.happens(place, "fails", faults);
        let kind = match dice.between(place, "how", 0..=4) {
            0 => Trouble::Timeout(dice.between(place, "timeout", 1_000..=15_000)),
            1 | 2 => Trouble::Broken,
            3 => Trouble::Internal(-32_603),
            _ => Trouble::Internal(-32_000),
        };
        let before = dice.happens(place, "before", 500_000);
        let is_node = place.starts_with("chain") || place.starts_with("register");
        let call = |fails| Call {
            place,
            fails,
            dies: false,
        };
        if outage && is_node {
            return (call(Some(Trouble::Broken)), true);
        }
        (call(fails.then_some(kind)), before)
    }

    /// A call ends: what it did is done, but whoever called may never know.
    ///
    /// # Errors
    /// It failed on the way back.
    pub async fn leave(&self, call: Call) -> Result<(), Trouble> {
        let place = call.place;
        if call.dies {
            self.kill(place, "after");
        }
        self.stay_alive().await;
        self.say(place);
        if let Some(trouble) = call.fails {
            self.say(&format!("{place}: done, but {trouble:?}"));
            self.fail(trouble).await;
            return Err(trouble);
        }
        Ok(())
    }

    async fn fail(&self, trouble: Trouble) {
        if let Trouble::Timeout(millis) = trouble {
            self.take(millis).await;
        }
    }

    /// Time passes, for a host that lives.
    pub async fn take(&self, millis: u64) {
        self.stay_alive().await;
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
            self.stay_alive().await;
        }
    }

    /// The dead do nothing.
    pub async fn stay_alive(&self) {
        let dead = {
            let mut state = self.state();
            state.calls += 1;
            state.dead
        };
        if dead {
            pending::<()>().await;
        }
    }

    async fn die_if(&self, place: &'static str, what: &'static str, when: &str) {
        self.stay_alive().await;
        if self.dies(place, what) {
            self.kill(place, when);
            pending::<()>().await;
        }
    }

    /// Whether the host dies here.
    #[must_use]
    pub fn dies(&self, place: &'static str, what: &'static str) -> bool {
        let may = {
            let state = self.state();
            !state.dead
                && !state.looked_at
                && state.calm_since.is_none()
                && state.deaths < MAX_DEATHS
        };
        may && self.dice.happens(place, what, self.settings.deaths)
    }

    /// Kills the host.
    pub fn kill(&self, place: &str, when: &str) {
        let mut state = self.state();
        if state.dead {
            return;
        }
        state.dead = true;
        state.deaths += 1;
        state.say(&format!("host killed {when} {place}"));
        drop(state);
        self.killed.notify_waiters();
    }

    /// Whether the disk has no room now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (now, free) = {
            let state = self.state();
            let free = state.looked_at || state.calm_since.is_some();
            (state.now(), free)
        };
        if free {
            return false;
        }
        if self.dice.happens("disk", "full", self.settings.disk_full) {
            let lasts = self.dice.between("disk", "full lasts", 1..=20_000);
            let mut state = self.state();
            state.full_until = now + lasts;
            state.say(&format!("disk full for {lasts} ms"));
        }
        now < self.state().full_until
    }

    /// Whether the host is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let state = self.state();
        state.dead && !state.looked_at
    }
}

impl State {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        let lived = self.life.map_or(0, |life| {
            u64::try_from(life.elapsed().as_millis()).unwrap_or(u64::MAX)
        });
        self.millis.saturating_add(lived)
    }

    /// Adds a line to the trace.
    pub fn say(&mut self, said: &str) {
        let now = self.now();
        self.trace.add(now.saturating_sub(BEGINNING * 1_000), said);
    }

    /// Remembers what the last `blocks` say of when subscriptions began.
    fn note_subscriptions(&mut self, blocks: u64) {
        let last = self.node.tip().head.number;
        for change in self.node.changes(last.saturating_sub(blocks - 1), last) {
            if let ChangeKind::Subscribed(subscription) = change.kind {
                let since = self.since.entry(change.subject).or_default();
                *since = subscription.since.max(*since);
            }
        }
    }

    fn plan(&mut self, at: u64, happening: Happening) {
        self.counted += 1;
        self.happenings.insert((at, self.counted), happening);
    }
}

/// The first bytes of a hash, for people.
#[must_use]
pub fn short(hash: &B256) -> String {
    format!("{hash:#x}").chars().take(10).collect()
}
