//! What comes in: subscriptions from the chain, events of their triggers.

use crate::{
    error::{JournalError, Result},
    store::{Journal, Write},
    values::{Reader, signed, write},
};
use alloy_primitives::B256;
use cryptlet_types::{Event, EventId, Subject, Subscription, UnixSeconds, bounded::clip};
use sqlx::{Row, sqlite::SqliteRow};

/// How far a chain has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Number of the last block that was read.
    pub number: u64,
    /// Its hash: a reorg shows when the chain has another one under this number.
    pub hash: B256,
}

/// What the delegate's logs said about one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// A contract subscribed.
    Added(Subscription),
    /// A contract unsubscribed. Final: a delegate never uses a subject again.
    Ended(Subject),
    /// A contract subscribed to something that this host cannot serve.
    Refused {
        /// The subscription.
        subject: Subject,
        /// Why not, for people.
        reason: String,
    },
}

/// A subscription that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveSubscription {
    /// What was asked for.
    pub subscription: Subscription,
    /// Everything that was due up to and including this second is in the journal. Starts one second before `since`.
    pub fired_until: UnixSeconds,
}

impl Journal {
    /// How far the chain called `name` has been read, if it ever was.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn cursor(&self, name: &str) -> Result<Option<Cursor>> {
        let mut db = self.read().await?;
        let row = sqlx::query("SELECT name, number, hash FROM cursor WHERE name = ?")
            .bind(name)
            .fetch_optional(db.conn())
            .await?;
        row.map(|row| {
            let reader = Reader::new("cursor", "name", &row)?;
            Ok(Cursor {
                number: reader.unsigned("number")?,
                hash: reader.parsed("hash")?,
            })
        })
        .transpose()
    }

    /// Moves the cursor and takes over what was found up to it, in one transaction. Applying the same
    /// changes again changes nothing.
    ///
    /// # Errors
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn apply_subscriptions(
        &self,
        name: &str,
        cursor: Cursor,
        changes: &[SubscriptionChange],
    ) -> Result<()> {
        let number = signed("cursor.number", cursor.number)?;
        let mut tx = self.write().await?;
        for change in changes {
            match change {
                SubscriptionChange::Added(subscription) => add(&mut tx, subscription).await?,
                SubscriptionChange::Ended(subject) => end(&mut tx, *subject).await?,
                SubscriptionChange::Refused { subject, reason } => {
                    refuse(&mut tx, *subject, reason).await?;
                }
            }
        }
        sqlx::query("INSERT INTO cursor (name, number, hash) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET number = excluded.number, hash = excluded.hash")
            .bind(name)
            .bind(number)
            .bind(cursor.hash.to_string())
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// Subscriptions that are to be served, ordered by subject.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn subscriptions(&self) -> Result<Vec<ActiveSubscription>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT subject, value, fired_until FROM subscription WHERE status = 'active' ORDER BY subject")
            .fetch_all(db.conn())
            .await?;
        rows.iter().map(active).collect()
    }

    /// As [`Journal::subscriptions`], but only those behind `after`, and at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn subscriptions_after(
        &self,
        after: Option<Subject>,
        limit: u32,
    ) -> Result<Vec<ActiveSubscription>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT subject, value, fired_until FROM subscription WHERE status = 'active' AND subject > ? ORDER BY subject LIMIT ?")
            .bind(after.map_or_else(String::new, |after| after.to_string()))
            .bind(limit)
            .fetch_all(db.conn())
            .await?;
        rows.iter().map(active).collect()
    }

    /// Takes over an event and moves its subscription's `fired_until` to its due, in one transaction.
    /// Returns whether it was new: false for an event that is known, and for one of a subscription that
    /// has ended or was refused, which is not recorded.
    ///
    /// # Errors
    /// [`JournalError::UnknownSubscription`], [`JournalError::OutOfRange`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn record_event(&self, event: &Event) -> Result<bool> {
        let due = signed("event.due", event.trigger.due())?;
        let value = write("event", event)?;
        let mut tx = self.write().await?;
        let row = sqlx::query("UPDATE subscription SET fired_until = max(fired_until, ?) WHERE subject = ? RETURNING status")
            .bind(due)
            .bind(event.subject.to_string())
            .fetch_optional(tx.conn())
            .await?
            .ok_or(JournalError::UnknownSubscription(event.subject))?;
        if row.try_get::<String, _>("status")? != "active" {
            tx.commit().await?;
            return Ok(false);
        }
        let done = sqlx::query("INSERT INTO event (id, subject, due, status, value) VALUES (?, ?, ?, 'new', ?) ON CONFLICT (id) DO NOTHING")
            .bind(event.id.to_string())
            .bind(event.subject.to_string())
            .bind(due)
            .bind(value)
            .execute(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Events that have neither become a job nor been refused, ordered by subject and due.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn unrouted_events(&self) -> Result<Vec<Event>> {
        let mut db = self.read().await?;
        let rows =
            sqlx::query("SELECT id, value FROM event WHERE status = 'new' ORDER BY subject, due")
                .fetch_all(db.conn())
                .await?;
        rows.iter().map(event_of).collect()
    }

    /// Settles an event that will not become a job: no cryptlet is registered, or policy says no.
    /// Refusing it again changes nothing.
    ///
    /// # Errors
    /// [`JournalError::UnknownEvent`], [`JournalError::EventSettled`] if it has become a job,
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn refuse_event(&self, id: EventId, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        match event_status(&mut tx, id).await?.as_str() {
            "new" => settle_event(&mut tx, id, "refused", Some(clip(reason))).await?,
            "refused" => {}
            other => {
                return Err(JournalError::EventSettled {
                    event: id,
                    is: other.to_owned(),
                });
            }
        }
        tx.commit().await
    }
}

fn active(row: &SqliteRow) -> Result<ActiveSubscription> {
    let reader = Reader::new("subscription", "subject", row)?;
    let subscription: Subscription = reader.json("value")?;
    reader.same_id(subscription.subject)?;
    Ok(ActiveSubscription {
        subscription,
        fired_until: reader.unsigned("fired_until")?,
    })
}

fn event_of(row: &SqliteRow) -> Result<Event> {
    let reader = Reader::new("event", "id", row)?;
    let event: Event = reader.json("value")?;
    reader.same_id(event.id)?;
    Ok(event)
}

/// `new`, `routed` or `refused`.
pub(crate) async fn event_status(tx: &mut Write<'_>, id: EventId) -> Result<String> {
    let row = sqlx::query("SELECT status FROM event WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?
        .ok_or(JournalError::UnknownEvent(id))?;
    Ok(row.try_get("status")?)
}

pub(crate) async fn settle_event(
    tx: &mut Write<'_>,
    id: EventId,
    status: &'static str,
    reason: Option<String>,
) -> Result<()> {
    sqlx::query("UPDATE event SET status = ?, reason = ? WHERE id = ?")
        .bind(status)
        .bind(reason)
        .bind(id.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// An ended subscription stays ended; one that an older version refused is served from now on; a reorg
/// may have put an active one into another block, with another `since`.
async fn add(tx: &mut Write<'_>, subscription: &Subscription) -> Result<()> {
    // What is due in the very second of `since` has not fired yet.
    let fired_until = signed("subscription.since", subscription.since.saturating_sub(1))?;
    sqlx::query("INSERT INTO subscription (subject, status, value, fired_until) VALUES (?, 'active', ?, ?) ON CONFLICT (subject) DO UPDATE SET status = 'active', value = excluded.value, reason = NULL, fired_until = max(fired_until, excluded.fired_until) WHERE status <> 'ended'")
        .bind(subscription.subject.to_string())
        .bind(write("subscription", subscription)?)
        .bind(fired_until)
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn end(tx: &mut Write<'_>, subject: Subject) -> Result<()> {
    sqlx::query("INSERT INTO subscription (subject, status, fired_until) VALUES (?, 'ended', 0) ON CONFLICT (subject) DO UPDATE SET status = 'ended'")
        .bind(subject.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn refuse(tx: &mut Write<'_>, subject: Subject, reason: &str) -> Result<()> {
    sqlx::query("INSERT INTO subscription (subject, status, reason, fired_until) VALUES (?, 'refused', ?, 0) ON CONFLICT (subject) DO UPDATE SET status = 'refused', reason = excluded.reason WHERE status <> 'ended'")
        .bind(subject.to_string())
        .bind(clip(reason))
        .execute(tx.conn())
        .await?;
    Ok(())
}
