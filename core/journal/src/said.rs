//! What applications and feeds said last.

use crate::{
    error::{JournalError, Result},
    events::{Occurred, Taken, take_all},
    store::Journal,
    values::{Reader, signed, write},
};
use alloy_primitives::{B256, Bytes, keccak256};
use cryptlet_types::{
    CryptletId, Subject, UnixSeconds,
    event::{Message, Observation},
};
use sqlx::Row;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// It was not known; what became of each event, in the order given.
    New(Vec<Taken>),
    /// It was known. Nothing changed.
    Known,
    /// The application used the same id for another message. Nothing changed.
    Conflict,
}

/// What an answer is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenAnswer {
    /// Who answered.
    pub cryptlet: CryptletId,
    /// Hash of what was asked, and by whom.
    pub request: B256,
    /// First second of the window.
    pub from: UnixSeconds,
    /// First second after the window.
    pub until: UnixSeconds,
}

impl Journal {
    /// Takes over a message and the events that it causes, in one transaction, unless it is known.
    ///
    /// # Errors
    /// As [`Journal::record_events`].
    pub async fn record_message(
        &self,
        message: &Message,
        events: &[Occurred],
    ) -> Result<MessageOutcome> {
        let digest = digest(message).to_string();
        let mut tx = self.write().await?;
        let row = sqlx::query("SELECT digest FROM message WHERE application = ? AND id = ?")
            .bind(&message.application)
            .bind(&message.id)
            .fetch_optional(tx.conn())
            .await?;
        if let Some(row) = row {
            tx.commit().await?;
            return Ok(match row.try_get::<&str, _>("digest")? == digest {
                true => MessageOutcome::Known,
                false => MessageOutcome::Conflict,
            });
        }
        sqlx::query(
            "INSERT INTO message (application, id, received, digest, value) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&message.application)
        .bind(&message.id)
        .bind(signed("message.at", message.at)?)
        .bind(digest)
        .bind(write("message", message)?)
        .execute(tx.conn())
        .await?;
        let taken = take_all(&mut tx, None, events).await?;
        tx.commit().await?;
        Ok(MessageOutcome::New(taken))
    }

    /// Forgets messages that were received before `before`: the same id is a new message from then on, whose events are
    /// known all the same. Returns how many.
    ///
    /// # Errors
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn prune_messages(&self, before: UnixSeconds) -> Result<u64> {
        let before = signed("before", before)?;
        let mut tx = self.write().await?;
        let done = sqlx::query("DELETE FROM message WHERE received < ?")
            .bind(before)
            .execute(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Takes over a feed's value, the events that it causes, and what the host keeps for the triggers that watch the
    /// feed, in one transaction. A value that is older than the feed's last one does not replace it.
    ///
    /// # Errors
    /// As [`Journal::record_events`], or [`JournalError::UnknownSubscription`] for a state of nobody's.
    pub async fn record_observation(
        &self,
        observation: &Observation,
        events: &[Occurred],
        states: &[(Subject, String)],
    ) -> Result<Vec<Taken>> {
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO feed (id, at, value) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at, value = excluded.value WHERE excluded.at >= at")
            .bind(observation.feed.to_string())
            .bind(signed("observation.at", observation.at)?)
            .bind(write("feed", observation)?)
            .execute(tx.conn())
            .await?;
        let taken = take_all(&mut tx, None, events).await?;
        for (subject, state) in states {
            let done = sqlx::query("UPDATE subscription SET state = ? WHERE subject = ?")
                .bind(state)
                .bind(subject.to_string())
                .execute(tx.conn())
                .await?;
            if done.rows_affected() == 0 {
                return Err(JournalError::UnknownSubscription(*subject));
            }
        }
        tx.commit().await?;
        Ok(taken)
    }

    /// The answer that was given in a window, if one was.
    ///
    /// # Errors
    /// [`JournalError::OutOfRange`], [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn answer(&self, place: &FrozenAnswer) -> Result<Option<Bytes>> {
        let mut db = self.read().await?;
        let row = sqlx::query("SELECT request, value FROM answer WHERE cryptlet = ? AND request = ? AND start = ? AND until = ?")
            .bind(place.cryptlet.to_string())
            .bind(place.request.to_string())
            .bind(signed("answer.from", place.from)?)
            .bind(signed("answer.until", place.until)?)
            .fetch_optional(db.conn())
            .await?;
        row.map(|row| Reader::new("answer", "request", &row)?.parsed("value"))
            .transpose()
    }

    /// Keeps the answer of a window, and says which one is kept: the first one stays. Answers whose windows were over before
    /// this one began are forgotten.
    ///
    /// # Errors
    /// [`JournalError::OutOfRange`], [`JournalError::Corrupt`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn freeze_answer(&self, place: &FrozenAnswer, answer: &Bytes) -> Result<Bytes> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM answer WHERE until <= ?")
            .bind(signed("answer.from", place.from)?)
            .execute(tx.conn())
            .await?;
        let row = sqlx::query("INSERT INTO answer (cryptlet, request, start, until, value) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value RETURNING request, value")
            .bind(place.cryptlet.to_string())
            .bind(place.request.to_string())
            .bind(signed("answer.from", place.from)?)
            .bind(signed("answer.until", place.until)?)
            .bind(answer.to_string())
            .fetch_one(tx.conn())
            .await?;
        let kept = Reader::new("answer", "request", &row)?.parsed("value")?;
        tx.commit().await?;
        Ok(kept)
    }

    /// The last value of every feed.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn feeds(&self) -> Result<Vec<Observation>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT id, value FROM feed ORDER BY id")
            .fetch_all(db.conn())
            .await?;
        rows.iter()
            .map(|row| {
                let reader = Reader::new("feed", "id", row)?;
                let observation: Observation = reader.json("value")?;
                reader.same_id(observation.feed)?;
                Ok(observation)
            })
            .collect()
    }
}

/// Of what the application said; when it was received is the host's word.
fn digest(message: &Message) -> B256 {
    let parts = [keccak256(message.kind.as_bytes()), keccak256(&message.data)];
    keccak256(parts.concat())
}
