//! Values in and out of columns, strictly.

use crate::{
    error::{JournalError, Result},
    store::Write,
};
use cryptlet_types::{
    JobState,
    region::{decode, encode},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Decode, QueryBuilder, Row, Sqlite, Type, query_builder::Separated, sqlite::SqliteRow};
use std::str::FromStr;

/// The JSON text of a value for `table`.
pub(crate) fn write<T: Serialize>(table: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| JournalError::Unwritable {
        table,
        reason: error.to_string(),
    })
}

/// The CBOR of a value for `table`.
pub(crate) fn pack<T: Serialize>(table: &'static str, value: &T) -> Result<Vec<u8>> {
    encode(value).map_err(|error| JournalError::Unwritable {
        table,
        reason: error.to_string(),
    })
}

/// SQLite orders by signed 64-bit integers.
pub(crate) fn signed(field: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| JournalError::OutOfRange { field, value })
}

/// The values of one row that is being written.
pub(crate) type Values<'q> = Separated<'q, Sqlite, &'static str>;

/// Most rows of one statement, of up to 32 values: SQLite takes 32,766 values.
const ROWS: usize = 1_000;

/// An insertion of many rows by few statements.
pub(crate) struct Insert {
    /// Up to the columns.
    pub(crate) head: &'static str,
    /// What comes after the values.
    pub(crate) tail: &'static str,
}

impl Insert {
    /// Inserts the rows, in their order. Returns what the statement returns.
    pub(crate) async fn rows<T>(
        &self,
        tx: &mut Write<'_>,
        rows: Vec<T>,
        mut bind: impl FnMut(Values<'_>, T),
    ) -> Result<Vec<SqliteRow>> {
        let mut told = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let batch: Vec<_> = rows.by_ref().take(ROWS).collect();
            // Batches are of all sizes; the cache is for statements that come again.
            let comes_again = batch.len() == 1;
            let mut query = QueryBuilder::<Sqlite>::new(self.head);
            query.push_values(batch, &mut bind);
            query.push(self.tail);
            let query = query.build().persistent(comes_again);
            told.extend(query.fetch_all(tx.conn()).await?);
        }
        Ok(told)
    }
}

/// One row that is being read: knows what to say when it is not what it must be.
pub(crate) struct Reader<'r> {
    pub(crate) table: &'static str,
    pub(crate) id: String,
    pub(crate) row: &'r SqliteRow,
}

impl<'r> Reader<'r> {
    /// A row of `table` whose key is in the column `key`.
    pub(crate) fn new(table: &'static str, key: &str, row: &'r SqliteRow) -> Result<Self> {
        let unnamed = Self {
            table,
            id: "?".into(),
            row,
        };
        let id = unnamed.column(key)?;
        Ok(Self { id, ..unnamed })
    }

    /// The error for this row.
    pub(crate) fn corrupt(&self, reason: impl ToString) -> JournalError {
        JournalError::Corrupt {
            table: self.table,
            id: self.id.clone(),
            reason: reason.to_string(),
        }
    }

    /// A column as SQLite has it.
    pub(crate) fn column<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &str) -> Result<T> {
        self.row
            .try_get(column)
            .map_err(|error| self.corrupt(error))
    }

    /// A column that holds a number that is never negative.
    pub(crate) fn unsigned<T: TryFrom<i64>>(&self, column: &str) -> Result<T> {
        let number: i64 = self.column(column)?;
        T::try_from(number).map_err(|_| self.corrupt(format!("{column}: {number} is out of range")))
    }

    /// A column that holds text of a type.
    pub(crate) fn parsed<T: FromStr<Err: ToString>>(&self, column: &str) -> Result<T> {
        let text: String = self.column(column)?;
        text.parse()
            .map_err(|error: T::Err| self.corrupt(format!("{column}: {}", error.to_string())))
    }

    /// A column that holds JSON of a type.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        let text: String = self.column(column)?;
        self.decode(column, &text)
    }

    /// A column that holds JSON of a type, or nothing.
    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<String> = self.column(column)?;
        text.map(|text| self.decode(column, &text)).transpose()
    }

    /// A column that holds CBOR of a type.
    pub(crate) fn packed<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        let bytes: &[u8] = self.column(column)?;
        decode(bytes).map_err(|error| self.corrupt(format!("{column}: {error}")))
    }

    /// The column `state`.
    pub(crate) fn state(&self) -> Result<JobState> {
        let word: String = self.column("state")?;
        JobState::parse(&word).ok_or_else(|| self.corrupt(format!("state: {word:?} is no state")))
    }

    /// Refuses a row whose key and value tell different ids.
    pub(crate) fn same_id(&self, id: impl ToString) -> Result<()> {
        let id = id.to_string();
        if id == self.id {
            Ok(())
        } else {
            Err(self.corrupt(format!("the value is of {id}")))
        }
    }

    fn decode<T: DeserializeOwned>(&self, column: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.corrupt(format!("{column}: {error}")))
    }
}
