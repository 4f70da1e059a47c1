//! Events: what occurred, whence, and what became of it.

use crate::{
    error::{JournalError, Result},
    jobs,
    store::{Journal, Write},
    subscriptions::{Standing, standings},
    values::{Insert, Reader, Values, signed, write},
};
use cryptlet_types::{Event, EventId, Job, Subject, Trigger, bounded::clip};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use std::collections::{BTreeSet, HashMap};

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
        let mut tx = self.write_behind().await?;
        let taken = take_all(&mut tx, None, events).await?;
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
        let mut tx = self.write_behind().await?;
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

/// Takes over events, and what they lead to. `cursor` is the name under which their block was read. What is new goes in
/// by few statements for all, in the order given; the rest, which is rare, one by one.
pub(crate) async fn take_all(
    tx: &mut Write<'_>,
    cursor: Option<&str>,
    events: &[Occurred],
) -> Result<Vec<Taken>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    for Occurred { event, routed } in events {
        if let Some(found) = routed.as_ref().map(Routed::event)
            && found != event.id
        {
            let event = event.id;
            return Err(JournalError::OtherEvent { event, found });
        }
    }
    let served = serve(tx, events).await?;
    let served: Vec<_> = events.iter().zip(served).collect();
    let mut numbers = insert_events(tx, cursor, &served).await?;
    let mut taken = Vec::new();
    let mut jobs = Vec::new();
    for (occurred, wanted) in served {
        let Occurred { event, routed } = occurred;
        let (how, job) = match numbers.remove(&event.id) {
            _ if !wanted => (How::Unserved, None),
            Some(number) => {
                if let Some(Routed::Job(job)) = routed {
                    jobs.push((taken.len(), &**job, number));
                }
                (How::New, None)
            }
            None => {
                make_all(tx, &mut jobs, &mut taken).await?;
                known(tx, cursor, occurred).await?
            }
        };
        taken.push(Taken { how, job });
    }
    make_all(tx, &mut jobs, &mut taken).await?;
    Ok(taken)
}

/// Makes the jobs of new events, and says so at their places.
async fn make_all(
    tx: &mut Write<'_>,
    jobs: &mut Vec<(usize, &Job, i64)>,
    taken: &mut [Taken],
) -> Result<()> {
    let wanted: Vec<_> = jobs.iter().map(|(_, job, event)| (*job, *event)).collect();
    let numbers = jobs::make_all(tx, &wanted).await?;
    for ((place, ..), number) in jobs.drain(..).zip(numbers) {
        if let Some(taken) = taken.get_mut(place) {
            taken.job = Some(number);
        }
    }
    Ok(())
}

/// One moment of the clock, in the JSON that the statement reads.
#[derive(Serialize)]
struct Moment {
    subject: Subject,
    due: i64,
}

/// Whether each event is wanted; of those of the clock, everything until then has fired.
async fn serve(tx: &mut Write<'_>, events: &[Occurred]) -> Result<Vec<bool>> {
    let mut moments = Vec::new();
    for Occurred { event, .. } in events {
        if let Trigger::Clock { due } = event.trigger {
            let (subject, due) = (event.subject, signed("event.due", due)?);
            moments.push(Moment { subject, due });
        }
    }
    if !moments.is_empty() {
        sqlx::query("UPDATE subscription SET fired_until = max(fired_until, m.due) FROM (SELECT value ->> 'subject' AS subject, max(value ->> 'due') AS due FROM json_each(?) GROUP BY 1) AS m WHERE subscription.subject = m.subject AND status = 'active' AND paused = 0")
            .bind(write("event", &moments)?)
            .execute(tx.conn())
            .await?;
    }
    let subjects: BTreeSet<_> = events.iter().map(|of| of.event.subject).collect();
    let standings = standings(tx, &subjects).await?;
    let wanted = events.iter().map(|Occurred { event, .. }| {
        let standing = standings.get(&event.subject);
        match standing.ok_or(JournalError::UnknownSubscription(event.subject))? {
            Standing::Served => Ok(true),
            // A computation that was begun is not lost; its delivery waits.
            Standing::Paused => Ok(matches!(event.trigger, Trigger::Step(_))),
            Standing::Gone => Ok(false),
        }
    });
    wanted.collect()
}

/// Inserts the events that are wanted and not known, settled as they come. Returns their numbers.
async fn insert_events(
    tx: &mut Write<'_>,
    cursor: Option<&str>,
    events: &[(&Occurred, bool)],
) -> Result<HashMap<EventId, i64>> {
    let mut rows = Vec::new();
    for (Occurred { event, routed }, _) in events.iter().filter(|(_, wanted)| *wanted) {
        let (status, reason) = routed.as_ref().map_or(("new", None), Routed::status);
        let due = signed("event.due", event.trigger.due())?;
        let (place, value) = (place(cursor, event)?, write("event", event)?);
        rows.push((event, due, place, status, reason, value));
    }
    let insert = Insert {
        head: "INSERT INTO event (id, subject, due, kind, cursor, block, status, reason, value) ",
        tail: " ON CONFLICT (id) DO NOTHING RETURNING id, number",
    };
    let bind = |mut row: Values<'_>, (event, due, place, status, reason, value): Row<'_>| {
        row.push_bind(event.id.to_string())
            .push_bind(event.subject.to_string())
            .push_bind(due)
            .push_bind(event.trigger.name())
            .push_bind(place.map(|place| place.0.to_owned()))
            .push_bind(place.map(|place| place.1))
            .push_bind(status)
            .push_bind(reason)
            .push_bind(value);
    };
    let mut numbers = HashMap::new();
    for row in insert.rows(tx, rows, bind).await? {
        let reader = Reader::new("event", "id", &row)?;
        numbers.insert(reader.parsed("id")?, reader.column("number")?);
    }
    Ok(numbers)
}

type Row<'e> = (
    &'e Event,
    i64,
    Option<(&'e str, i64)>,
    &'static str,
    Option<String>,
    String,
);

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

/// What a known event is now, and the number of its job if that is to be done now. One that had been taken back has
/// occurred after all: where it stands now is what counts. A job that came to its end meanwhile stays as it is.
async fn known(
    tx: &mut Write<'_>,
    cursor: Option<&str>,
    occurred: &Occurred,
) -> Result<(How, Option<u64>)> {
    let Occurred { event, routed } = occurred;
    let (how, waits) = match status(tx, event.id).await?.as_str() {
        "withdrawn" => (How::Revived, revive(tx, cursor, event).await?),
        status => (How::Known, status == "new"),
    };
    match routed {
        Some(routed) if waits => Ok((how, settle(tx, routed).await?)),
        _ => Ok((how, None)),
    }
}

/// Returns whether the event waits to be routed again.
async fn revive(tx: &mut Write<'_>, cursor: Option<&str>, event: &Event) -> Result<bool> {
    let place = place(cursor, event)?;
    let row = sqlx::query("UPDATE event SET status = CASE WHEN EXISTS (SELECT 1 FROM job WHERE job.event = event.number AND job.state <> 'withdrawn') THEN 'routed' ELSE 'new' END, due = ?, cursor = ?, block = ?, value = ? WHERE id = ? RETURNING status = 'new' AS waits")
        .bind(signed("event.due", event.trigger.due())?)
        .bind(place.map(|place| place.0))
        .bind(place.map(|place| place.1))
        .bind(write("event", event)?)
        .bind(event.id.to_string())
        .fetch_one(tx.conn())
        .await?;
    Ok(row.try_get("waits")?)
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
