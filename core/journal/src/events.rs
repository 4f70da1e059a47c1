//! Events: what occurred, whence, and what became of it.

use crate::{
    error::{JournalError, Result},
    jobs,
    store::{Journal, Write},
    subscriptions::{Standing, standing},
    values::{Reader, signed, write},
};
use cryptlet_types::{Event, EventId, Job, Trigger, bounded::clip};
use sqlx::{Row, sqlite::SqliteRow};

/// What an event leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// A job.
    Job(Box<Job>),
    /// Nothing: no cryptlet is registered, or policy says no.
    Refused {
        /// The event.
        event: EventId,
        /// Why, for people.
        reason: String,
    },
}

impl Routed {
    /// The event that it is about.
    #[must_use]
    pub fn event(&self) -> EventId {
        match self {
            Self::Job(job) => job.event.id,
            Self::Refused { event, .. } => *event,
        }
    }

    /// The event's status from then on, and the reason.
    fn status(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Job(_) => ("routed", None),
            Self::Refused { reason, .. } => ("refused", Some(clip(reason))),
        }
    }
}

/// An event, and what it leads to if that is known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurred {
    /// The event.
    pub event: Event,
    /// What it leads to; none to have it wait ([`Journal::unrouted_events`]) for [`Journal::settle_events`].
    pub routed: Option<Routed>,
}

impl From<Event> for Occurred {
    /// One that waits to be routed.
    fn from(event: Event) -> Self {
        let routed = None;
        Self { event, routed }
    }
}

impl From<Job> for Occurred {
    /// One that has become a job.
    fn from(job: Job) -> Self {
        Self {
            event: job.event.clone(),
            routed: Some(Routed::Job(Box::new(job))),
        }
    }
}

/// What became of an event that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether it was new.
    pub how: How,
    /// Number of the job that there is to do now and was not before.
    pub job: Option<u64>,
}

/// Whether an event was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was not known.
    New,
    /// It was known; if it waited to be routed and came with its job, the job is new.
    Known,
    /// A reorganisation had taken it back, and it occurred again, perhaps in another block. If it came without its
    /// job, it waits to be routed again.
    Revived,
    /// Not recorded: its subscription has ended, was refused, has vanished or is paused.
    Unserved,
}

impl Journal {
    /// Takes over events that no block holds (moments, messages, values), in one transaction, and moves their
    /// subscriptions' `fired_until` to their due where they are of the clock. Events of a block belong to
    /// [`Journal::apply`]: those recorded here no reorganisation takes back.
    ///
    /// # Errors
    /// [`JournalError::UnknownSubscription`], [`JournalError::OtherEvent`], [`JournalError::OtherJob`],
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_events(&self, events: &[Occurred]) -> Result<Vec<Taken>> {
        let mut tx = self.write().await?;
        let taken = take_all(&mut tx, events).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Settles events that waited, in one transaction. Returns the number of each job that there is to do now and was
    /// not before. What was settled in the same way before, or was taken back meanwhile, changes nothing.
    ///
    /// # Errors
    /// [`JournalError::UnknownEvent`], [`JournalError::EventSettled`] if it was settled the other way,
    /// [`JournalError::OtherJob`], [`JournalError::OutOfRange`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn settle_events(&self, routed: &[Routed]) -> Result<Vec<Option<u64>>> {
        let mut tx = self.write().await?;
        let mut jobs = Vec::new();
        for routed in routed {
            jobs.push(settle(&mut tx, routed).await?);
        }
        tx.commit().await?;
        Ok(jobs)
    }

    /// Events that have neither become a job nor been refused, ordered by subject and due.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn unrouted_events(&self) -> Result<Vec<Event>> {
        let mut db = self.read().await?;
        let rows = sqlx::query(
            "SELECT id, value FROM event WHERE status = 'new' ORDER BY subject, due, number",
        )
        .fetch_all(db.conn())
        .await?;
        rows.iter().map(event_of).collect()
    }
}

pub(crate) fn event_of(row: &SqliteRow) -> Result<Event> {
    let reader = Reader::new("event", "id", row)?;
    let event: Event = reader.json("value")?;
    reader.same_id(event.id)?;
    Ok(event)
}

/// Takes over events that no block holds.
pub(crate) async fn take_all(tx: &mut Write<'_>, events: &[Occurred]) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for occurred in events {
        taken.push(take(tx, None, occurred).await?);
    }
    Ok(taken)
}

/// Takes over one event, and what it leads to. `cursor` is the name under which its block was read.
pub(crate) async fn take(
    tx: &mut Write<'_>,
    cursor: Option<&str>,
    occurred: &Occurred,
) -> Result<Taken> {
    let Occurred { event, routed } = occurred;
    if let Some(found) = routed.as_ref().map(Routed::event)
        && found != event.id
    {
        let event = event.id;
        return Err(JournalError::OtherEvent { event, found });
    }
    if !serve(tx, event).await? {
        let how = How::Unserved;
        return Ok(Taken { how, job: None });
    }
    let place = place(cursor, event)?;
    let (how, waits) = match insert(tx, event, place).await? {
        true => (How::New, true),
        false => known(tx, event, place).await?,
    };
    let job = match routed {
        Some(routed) if waits => settle(tx, routed).await?,
        _ => None,
    };
    Ok(Taken { how, job })
}

/// Whether the event is wanted; if it is of the clock, everything until then has fired.
async fn serve(tx: &mut Write<'_>, event: &Event) -> Result<bool> {
    if let Trigger::Clock { due } = event.trigger {
        let done = sqlx::query("UPDATE subscription SET fired_until = max(fired_until, ?) WHERE subject = ? AND status = 'active' AND paused = 0")
            .bind(signed("event.due", due)?)
            .bind(event.subject.to_string())
            .execute(tx.conn())
            .await?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
    }
    Ok(match standing(tx, event.subject).await? {
        Standing::Served => true,
        // A computation that was begun is not lost; its delivery waits.
        Standing::Paused => matches!(event.trigger, Trigger::Step(_)),
        Standing::Gone => false,
    })
}

/// The cursor and the block that can take the event back.
fn place<'c>(cursor: Option<&'c str>, event: &Event) -> Result<Option<(&'c str, i64)>> {
    let block = match &event.trigger {
        Trigger::Log(log) => log.block,
        Trigger::Block(block) => block.number,
        _ => return Ok(None),
    };
    let block = signed("event.block", block)?;
    Ok(cursor.map(|cursor| (cursor, block)))
}

/// Returns whether the event was new.
async fn insert(tx: &mut Write<'_>, event: &Event, place: Option<(&str, i64)>) -> Result<bool> {
    let done = sqlx::query("INSERT INTO event (id, subject, due, kind, cursor, block, status, value) VALUES (?, ?, ?, ?, ?, ?, 'new', ?) ON CONFLICT (id) DO NOTHING")
        .bind(event.id.to_string())
        .bind(event.subject.to_string())
        .bind(signed("event.due", event.trigger.due())?)
        .bind(event.trigger.name())
        .bind(place.map(|place| place.0))
        .bind(place.map(|place| place.1))
        .bind(write("event", event)?)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What a known event is now, and whether it waits to be routed. One that had been taken back has occurred after all:
/// where it stands now is what counts. A job that came to its end meanwhile stays as it is.
async fn known(
    tx: &mut Write<'_>,
    event: &Event,
    place: Option<(&str, i64)>,
) -> Result<(How, bool)> {
    let status = status(tx, event.id).await?;
    if status != "withdrawn" {
        return Ok((How::Known, status == "new"));
    }
    let row = sqlx::query("UPDATE event SET status = CASE WHEN EXISTS (SELECT 1 FROM job WHERE job.event = event.number AND job.state <> 'withdrawn') THEN 'routed' ELSE 'new' END, due = ?, cursor = ?, block = ?, value = ? WHERE id = ? RETURNING status = 'new' AS waits")
        .bind(signed("event.due", event.trigger.due())?)
        .bind(place.map(|place| place.0))
        .bind(place.map(|place| place.1))
        .bind(write("event", event)?)
        .bind(event.id.to_string())
        .fetch_one(tx.conn())
        .await?;
    Ok((How::Revived, row.try_get("waits")?))
}

/// `new`, `routed`, `refused` or `withdrawn`.
async fn status(tx: &mut Write<'_>, id: EventId) -> Result<String> {
    let row = sqlx::query("SELECT status FROM event WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?
        .ok_or(JournalError::UnknownEvent(id))?;
    Ok(row.try_get("status")?)
}

/// Settles an event. Returns the number of the job, if there is one to do now that was not there before.
async fn settle(tx: &mut Write<'_>, routed: &Routed) -> Result<Option<u64>> {
    let (wanted, reason) = routed.status();
    let id = routed.event();
    let row = sqlx::query(
        "UPDATE event SET status = ?, reason = ? WHERE id = ? AND status = 'new' RETURNING number",
    )
    .bind(wanted)
    .bind(reason)
    .bind(id.to_string())
    .fetch_optional(tx.conn())
    .await?;
    if let Some(row) = row {
        return match routed {
            Routed::Job(job) => jobs::make(tx, job, row.try_get("number")?).await.map(Some),
            Routed::Refused { .. } => Ok(None),
        };
    }
    let is = status(tx, id).await?;
    if is == wanted || is == "withdrawn" {
        return Ok(None);
    }
    Err(JournalError::EventSettled { event: id, is })
}
