//! From chain and clock to events: what is due, once each, in order, and nothing lost while nobody watched.
//!
//! - [`calendar`]: markets' open days and hours, by data
//! - [`schedule`]: when something is due by a wall clock, a calendar, an interval
//! - [`clock`]: what time it is, injected: the system's, a chain's, or one that a test or replay moves
//! - [`subscriptions`]: all of them, of every kind, made for a million; pure. Its parts: [`agenda`] (by the clock), [`threshold`]
//!   (by a feed's value), [`logs`] (by a chain's logs and blocks), [`applications`] (by a message)
//! - [`clock_watch`]: agenda and clock together: waits, then yields events
//! - [`log_watch`]: a contract's logs from a cursor to the head; [`subscription_watch`]: the delegate's,
//!   [`register_watch`]: the register's
//!
//! Nothing here remembers across a restart. The host's journal keeps the cursor and, for each subscription, the
//! last moment for which an event was written; both are handed in again, and what was missed is caught up one by
//! one. An event seen twice has the same id (see [`cryptlet_types::Event`]), so repeating is harmless, skipping is not.

pub mod agenda;
pub mod applications;
pub mod calendar;
pub mod chain_watch;
pub mod clock;
pub mod clock_watch;
mod groups;
pub mod log_watch;
pub mod logs;
pub mod register_watch;
mod roster;
pub mod schedule;
pub mod subscription_watch;
pub mod subscriptions;
pub mod threshold;
mod zone;

pub use agenda::{Agenda, next_due};
pub use applications::Applications;
pub use calendar::{Calendar, CalendarError, Calendars};
pub use chain_watch::{ChainWatch, SharedFilter};
pub use clock::{ChainClock, Clock, ManualClock, SystemClock};
pub use clock_watch::ClockWatch;
pub use log_watch::{Advance, Cursor, WatchError};
pub use logs::{BlockMatcher, LogFilter, LogMatcher, number_equal_logs};
pub use register_watch::RegisterWatch;
pub use schedule::{End, Schedule, ScheduleError};
pub use subscription_watch::SubscriptionWatch;
pub use subscriptions::{AddError, Restored, Subscriptions};
pub use threshold::{FeedDue, Last, State, Thresholds};
