//! What kind of world a seed makes, and what is looked at.

use crate::dice::Dice;

/// What may be switched by whoever runs the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// The host may be killed.
    pub crashes: bool,
    /// Blocks may be replaced.
    pub reorgs: bool,
    /// What a replaced block held may be lost for good, deliveries among it.
    pub losses: bool,
    /// A node may answer from a few blocks ago.
    pub stale: bool,
    /// A node may leave out the newest logs without saying so.
    pub late_logs: bool,
    /// Journal and chain have to agree after reorganisations, too.
    pub settled: bool,
    /// Every line of the trace is kept.
    pub trace: bool,
}

impl Default for Switches {
    /// Everything that today's host is meant to stand.
    fn default() -> Self {
        Self {
            crashes: true,
            reorgs: true,
            losses: true,
            stale: false,
            late_logs: false,
            settled: true,
            trace: false,
        }
    }
}

/// What a seed's world is like. Chances are in a million a call.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Milliseconds between two blocks.
    pub block_millis: u64,
    /// A call of a node fails.
    pub rpc_faults: u64,
    /// Longest ordinary answer of a node, in milliseconds.
    pub rpc_millis: u64,
    /// The host dies at a call.
    pub deaths: u64,
    /// A block is followed by a reorganisation.
    pub reorgs: u64,
    /// Most blocks that are replaced at once.
    pub reorg_depth: u64,
    /// A transaction of a replaced block, or of the pool at a new block, is lost for good.
    pub losses: u64,
    /// A node answers from a few blocks ago.
    pub stale: u64,
    /// A node leaves out the newest logs.
    pub late_logs: u64,
    /// A region fails.
    pub region_faults: u64,
    /// Longest run, in milliseconds.
    pub run_millis: u64,
    /// The vault fails.
    pub vault_faults: u64,
    /// A transaction finds the disk full, and all others for a while.
    pub disk_full: u64,
    /// A block is followed by an outage of the node.
    pub outages: u64,
    /// Whether the cryptlet's key stays in the vault.
    pub in_vault: bool,
    /// Whether the host goes by the chain's time.
    pub chain_clock: bool,
    /// Seconds that the host's own clock is behind the world's (or ahead, if negative).
    pub lag: i64,
    /// Whether a node asked about the pending block knows of what is in its pool.
    pub pending_pool: bool,
    /// Most transactions in a block.
    pub block_room: u64,
    /// Subscriptions that contracts make.
    pub subscriptions: u64,
    /// Most transactions whose logs somebody may wait for.
    pub emissions: u64,
    /// Milliseconds until the world calms down.
    pub chaos_millis: u64,
}

impl Settings {
    /// What the dice say, within what is switched on.
    #[must_use]
    pub fn of(dice: &Dice, switches: Switches) -> Self {
        let pick = |what, choices| dice.choice("settings", what, choices);
        let coin = |what, chance| dice.happens("settings", what, chance);
        let only = |on: bool, chance: u64| if on { chance } else { 0 };
        let block_millis = pick("block", [1_000, 1_000, 2_000, 12_000]);
        let run_millis = pick("run", [5, 50, 500, 4_000]);
        let block_room = pick("room", [1, 2, 50, 50]);
        // What is asked for has to be possible: one transaction a block, or one run at a time, is soon too few.
        let is_narrow = run_millis > 1_000 || (block_room < 3 && block_millis > 2_000);
        let most_emissions = if is_narrow { 4 } else { 40 };
        Self {
            block_millis,
            rpc_faults: pick("rpc", [0, 2_000, 20_000, 100_000]),
            rpc_millis: pick("latency", [0, 5, 50, 400]),
            deaths: only(switches.crashes, pick("deaths", [0, 200, 1_000, 4_000])),
            reorgs: only(switches.reorgs, pick("reorgs", [0, 0, 20_000, 100_000])),
            reorg_depth: pick("depth", [1, 2, 4, 12]),
            losses: only(
                switches.losses,
                pick("losses", [0, 20_000, 100_000, 400_000]),
            ),
            stale: only(switches.stale, pick("stale", [0, 10_000, 50_000, 200_000])),
            late_logs: only(switches.late_logs, pick("late", [0, 0, 20_000, 100_000])),
            region_faults: pick("region", [0, 0, 30_000, 150_000]),
            run_millis,
            vault_faults: pick("vault", [0, 0, 2_000, 20_000]),
            disk_full: pick("disk", [0, 0, 1_000, 5_000]),
            outages: pick("outage", [0, 0, 5_000, 20_000]),
            in_vault: coin("custody", 500_000),
            chain_clock: coin("clock", 250_000),
            lag: dice.choice("settings", "lag", [0, 0, 2, -2]),
            pending_pool: coin("pending", 500_000),
            block_room,
            subscriptions: pick("subscriptions", [1, 2, 4, 12]),
            emissions: pick("emissions", [0, 5, 15, 40]).min(most_emissions),
            chaos_millis: 1_000 * dice.between("settings", "chaos", 60..=240),
        }
    }
}
