//! Taking over what the chain says, and taking it back.

use super::{
    Cursor, Index, PolicySet, Write, changes, corrupt, decode, encode, names, read, signed,
};
use crate::{RegisterError, Result};
use alloy_primitives::Address;
use cryptlet_journal::Connection;
use cryptlet_types::{
    CryptletId, Sha256Digest, UnixSeconds,
    bounded::clip,
    register::{Board, CryptletRecord, PolicyRecord, RegisterChange},
};
use sqlx::Row;
use std::collections::{HashMap, HashSet};

/// Cursors that are kept, newest first: how far a reorganisation may reach without reading the chain anew.
const CURSORS: i64 = 1024;

impl Index {
    /// Takes over the changes up to `cursor`, in their order, in one transaction.
    ///
    /// `at` is the moment as of which the register is known by this: the time of the cursor's block, or of asking
    /// where that block is the chain's head. The last cursor may be applied again without changes: it is still the
    /// head, and only `at` moves.
    ///
    /// # Errors
    /// [`RegisterError::NotNext`] if the block does not follow the last one, [`RegisterError::Foreign`] if the
    /// changes cannot be our register's, [`RegisterError::Full`], [`RegisterError::Database`]. Then nothing changed.
    pub async fn apply(
        &self,
        cursor: Cursor,
        changes: &[RegisterChange],
        at: UnixSeconds,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        check_next(&mut tx, cursor, changes).await?;
        let mut draft = Draft::default();
        for change in changes {
            draft.take(&mut tx, cursor.number, change).await?;
        }
        draft.store(&mut tx).await?;
        sqlx::query("INSERT INTO cursor (number, hash, at) VALUES (?, ?, ?) ON CONFLICT (number) DO UPDATE SET at = excluded.at")
            .bind(signed(cursor.number)?)
            .bind(cursor.hash.to_string())
            .bind(signed(at)?)
            .execute(tx.conn())
            .await?;
        sqlx::query("DELETE FROM cursor WHERE number <= (SELECT number FROM cursor ORDER BY number DESC LIMIT 1 OFFSET ?)")
            .bind(CURSORS)
            .execute(tx.conn())
            .await?;
        if changes.is_empty() {
            return tx.commit().await;
        }
        self.commit(tx).await
    }

    /// Makes a transaction durable that has changed what is said of cryptlets.
    async fn commit(&self, tx: Write<'_>) -> Result<()> {
        self.recent.close();
        tx.commit().await?;
        self.recent.open();
        Ok(())
    }

    /// Goes back to one of its [`cursors`](Index::cursors), or to nothing: everything that was read after it is
    /// forgotten, in one transaction.
    ///
    /// # Errors
    /// [`RegisterError::UnknownCursor`], [`RegisterError::Full`], [`RegisterError::Database`].
    pub async fn rewind(&self, to: Option<Cursor>) -> Result<()> {
        let mut tx = self.write().await?;
        let last = match to {
            Some(cursor) => known_cursor(&mut tx, cursor).await?,
            None => -1,
        };
        let touched = sqlx::query("SELECT DISTINCT cryptlet FROM change WHERE block > ?")
            .bind(last)
            .fetch_all(tx.conn())
            .await?;
        for table in [
            "DELETE FROM change WHERE block > ?",
            "DELETE FROM cursor WHERE number > ?",
        ] {
            sqlx::query(table).bind(last).execute(tx.conn()).await?;
        }
        for row in touched {
            match row.try_get::<Option<String>, _>(0)? {
                Some(cryptlet) => rebuild_cryptlet(&mut tx, &cryptlet).await?,
                None => rebuild_rest(&mut tx).await?,
            }
        }
        self.commit(tx).await
    }

    /// Remembers what a manifest says of its cryptlet, so that those who run it now are found by these words. Text
    /// of strangers: clipped.
    ///
    /// # Errors
    /// [`RegisterError::Full`], [`RegisterError::Database`].
    pub async fn describe(&self, manifest: Sha256Digest, description: &str) -> Result<()> {
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO description (manifest, text) VALUES (?, ?) ON CONFLICT (manifest) DO UPDATE SET text = excluded.text")
            .bind(manifest.to_string())
            .bind(clip(description))
            .execute(tx.conn())
            .await?;
        let rows = sqlx::query(
            "SELECT number, value FROM cryptlet WHERE manifest = ? AND name IS NOT NULL",
        )
        .bind(manifest.to_string())
        .fetch_all(tx.conn())
        .await?;
        for row in rows {
            let record: CryptletRecord = decode("cryptlet", row.try_get("value")?)?;
            make_findable(tx.conn(), row.try_get("number")?, &record).await?;
        }
        self.commit(tx).await
    }
}

async fn check_next(tx: &mut Write<'_>, cursor: Cursor, changes: &[RegisterChange]) -> Result<()> {
    let Some(last) = read::last_cursor(tx.conn()).await? else {
        return Ok(());
    };
    let again = cursor.number == last.block && cursor.hash == last.hash && changes.is_empty();
    if cursor.number > last.block || again {
        return Ok(());
    }
    Err(RegisterError::NotNext {
        found: cursor.number,
        last: last.block,
    })
}

async fn known_cursor(tx: &mut Write<'_>, cursor: Cursor) -> Result<i64> {
    let number = signed(cursor.number)?;
    let row = sqlx::query("SELECT number FROM cursor WHERE number = ? AND hash = ?")
        .bind(number)
        .bind(cursor.hash.to_string())
        .fetch_optional(tx.conn())
        .await?;
    row.map(|_| number)
        .ok_or(RegisterError::UnknownCursor(cursor.number))
}

/// The cryptlets that a run of changes touches, before they are written.
#[derive(Default)]
struct Draft {
    /// In the order in which they were touched first: of two names that look alike the earlier one stands.
    order: Vec<CryptletId>,
    touched: HashSet<CryptletId>,
    records: HashMap<CryptletId, CryptletRecord>,
    /// Owners of tokens that were minted: the log of the registration comes right after the token's.
    minted: HashMap<CryptletId, Address>,
}

impl Draft {
    async fn take(
        &mut self,
        tx: &mut Write<'_>,
        block: u64,
        change: &RegisterChange,
    ) -> Result<()> {
        let change = changes::clipped(change);
        match changes::subject(&change) {
            None => change_rest(tx.conn(), &change).await?,
            Some(cryptlet) => {
                let record = self.record(tx.conn(), cryptlet).await?;
                if let (None, RegisterChange::Transferred { owner, .. }) = (&record, &change) {
                    self.minted.insert(cryptlet, *owner);
                    return Ok(());
                }
                if matches!(change, RegisterChange::Registered { .. }) {
                    self.minted.remove(&cryptlet);
                }
                let record = changes::advance(record, &change).map_err(RegisterError::Foreign)?;
                self.records.insert(cryptlet, record);
            }
        }
        sqlx::query("INSERT INTO change (block, cryptlet, value) VALUES (?, ?, ?)")
            .bind(signed(block)?)
            .bind(changes::subject(&change).map(|cryptlet| cryptlet.to_string()))
            .bind(encode("change", &change)?)
            .execute(tx.conn())
            .await?;
        Ok(())
    }

    /// The record so far. It is taken out: what comes of it is put back.
    async fn record(
        &mut self,
        conn: &mut Connection,
        cryptlet: CryptletId,
    ) -> Result<Option<CryptletRecord>> {
        if let Some(record) = self.records.remove(&cryptlet) {
            return Ok(Some(record));
        }
        if self.touched.insert(cryptlet) {
            self.order.push(cryptlet);
        }
        let row = sqlx::query("SELECT value FROM cryptlet WHERE id = ?")
            .bind(cryptlet.to_string())
            .fetch_optional(conn)
            .await?;
        row.map(|row| decode("cryptlet", row.try_get("value")?))
            .transpose()
    }

    async fn store(self, tx: &mut Write<'_>) -> Result<()> {
        if let Some(cryptlet) = self.minted.keys().next() {
            let reason = format!("cryptlet {cryptlet} has an owner and was not registered");
            return Err(RegisterError::Foreign(reason));
        }
        for cryptlet in &self.order {
            if let Some(record) = self.records.get(cryptlet) {
                store_record(tx.conn(), record).await?;
            }
        }
        Ok(())
    }
}

/// Writes what is known of a cryptlet, and makes it findable.
async fn store_record(conn: &mut Connection, record: &CryptletRecord) -> Result<()> {
    let manifest = record.current().map(|version| version.manifest.to_string());
    let value = encode("cryptlet", record)?;
    let known = sqlx::query(
        "UPDATE cryptlet SET value = ?, manifest = ? WHERE id = ? RETURNING number, name",
    )
    .bind(&value)
    .bind(&manifest)
    .bind(record.cryptlet.to_string())
    .fetch_optional(&mut *conn)
    .await?;
    let row = match known {
        Some(row) => row,
        None => {
            let flaw = flaw(conn, record).await?;
            let name = flaw.is_none().then_some(&record.name);
            sqlx::query("INSERT INTO cryptlet (id, name, skeleton, flaw, manifest, value) VALUES (?, ?, ?, ?, ?, ?) RETURNING number, name")
                .bind(record.cryptlet.to_string())
                .bind(name)
                .bind(name.map(|name| names::skeleton(name)))
                .bind(flaw)
                .bind(&manifest)
                .bind(&value)
                .fetch_one(&mut *conn)
                .await?
        }
    };
    if row.try_get::<Option<String>, _>("name")?.is_some() {
        make_findable(conn, row.try_get("number")?, record).await?;
    }
    Ok(())
}

/// What is wrong with the name of a cryptlet that is new.
async fn flaw(conn: &mut Connection, record: &CryptletRecord) -> Result<Option<String>> {
    if let Some(flaw) = names::flaw(record.cryptlet, record.publisher, &record.name) {
        return Ok(Some(flaw));
    }
    let taken = sqlx::query("SELECT name FROM cryptlet WHERE skeleton = ?")
        .bind(names::skeleton(&record.name))
        .fetch_optional(conn)
        .await?;
    taken
        .map(|row| {
            let earlier: String = row.try_get("name")?;
            Ok(format!("name: looks like {earlier}, which was there first"))
        })
        .transpose()
}

async fn make_findable(conn: &mut Connection, number: i64, record: &CryptletRecord) -> Result<()> {
    sqlx::query("DELETE FROM found WHERE rowid = ?")
        .bind(number)
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT INTO found (rowid, name, publisher, description) VALUES (?1, ?2, ?3, (SELECT text FROM description WHERE manifest = ?4))")
        .bind(number)
        .bind(&record.name)
        .bind(record.publisher.to_string())
        .bind(record.current().map(|version| version.manifest.to_string()))
        .execute(conn)
        .await?;
    Ok(())
}

/// A change about hosts, policy or board.
async fn change_rest(conn: &mut Connection, change: &RegisterChange) -> Result<()> {
    match change {
        RegisterChange::HostRegistered { host } => {
            sqlx::query("INSERT INTO host (id, value) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value")
                .bind(host.host.to_string())
                .bind(encode("host", host)?)
                .execute(conn)
                .await?;
        }
        RegisterChange::HostRemoved { host } => {
            let removed = sqlx::query("DELETE FROM host WHERE id = ?")
                .bind(host.to_string())
                .execute(conn)
                .await?;
            if removed.rows_affected() == 0 {
                let reason = format!("host {host} was removed and never registered");
                return Err(RegisterError::Foreign(reason));
            }
        }
        RegisterChange::PolicySet { policy } => set_policy(conn, policy).await?,
        RegisterChange::AdministratorsSet { board } => set(conn, "board", board).await?,
        _ => return Err(corrupt("change", "a change without a cryptlet")),
    }
    Ok(())
}

async fn set_policy(conn: &mut Connection, policy: &PolicyRecord) -> Result<()> {
    let before: Option<PolicySet> = read::setting(&mut *conn, "policy").await?;
    if let Some(before) = before.filter(|before| policy.epoch <= before.record.epoch) {
        let (found, last) = (policy.epoch, before.record.epoch);
        let reason = format!("policy of epoch {found} follows epoch {last}");
        return Err(RegisterError::Foreign(reason));
    }
    let board: Option<Board> = read::setting(&mut *conn, "board").await?;
    let set_by = PolicySet {
        record: policy.clone(),
        board: board.unwrap_or_default(),
    };
    set(conn, "policy", &set_by).await
}

async fn set<T: serde::Serialize>(
    conn: &mut Connection,
    name: &'static str,
    value: &T,
) -> Result<()> {
    sqlx::query("INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
        .bind(name)
        .bind(encode("setting", value)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds up again the changes of a cryptlet that stay; it is gone if its registration is.
async fn rebuild_cryptlet(tx: &mut Write<'_>, cryptlet: &str) -> Result<()> {
    let rows = sqlx::query("SELECT value FROM change WHERE cryptlet = ? ORDER BY number")
        .bind(cryptlet)
        .fetch_all(tx.conn())
        .await?;
    let mut record = None;
    for row in rows {
        let change: RegisterChange = decode("change", row.try_get("value")?)?;
        let next = changes::advance(record, &change);
        record = Some(next.map_err(|reason| corrupt("change", reason))?);
    }
    if let Some(record) = record {
        return store_record(tx.conn(), &record).await;
    }
    for gone in [
        "DELETE FROM found WHERE rowid = (SELECT number FROM cryptlet WHERE id = ?)",
        "DELETE FROM cryptlet WHERE id = ?",
    ] {
        sqlx::query(gone).bind(cryptlet).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Adds up again the changes about hosts, policy and board that stay.
async fn rebuild_rest(tx: &mut Write<'_>) -> Result<()> {
    for empty in ["DELETE FROM host", "DELETE FROM setting"] {
        sqlx::query(empty).execute(tx.conn()).await?;
    }
    let rows = sqlx::query("SELECT value FROM change WHERE cryptlet IS NULL ORDER BY number")
        .fetch_all(tx.conn())
        .await?;
    for row in rows {
        let change: RegisterChange = decode("change", row.try_get("value")?)?;
        change_rest(tx.conn(), &change).await?;
    }
    Ok(())
}
