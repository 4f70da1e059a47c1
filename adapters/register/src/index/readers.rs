//! Connections for readers.

use cryptlet_journal::{Connection, at_once};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Either, Execute, Executor, Sqlite, SqlitePool,
    sqlite::{SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections for readers, or in a simulation the one that answers at once.
#[derive(Debug)]
pub(super) enum Readers {
    Pool(SqlitePool),
    AtOnce(Mutex<Connection>),
}

type Step = sqlx::Result<Either<SqliteQueryResult, SqliteRow>>;

fn locked(one: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    one.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'c> Executor<'c> for &'c Readers {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        match self {
            Readers::Pool(pool) => pool.fetch_many(query),
            Readers::AtOnce(one) => stream::once(async move {
                let mut one = locked(one);
                let steps: Vec<Step> = at_once((&mut *one).fetch_many(query).collect());
                stream::iter(steps)
            })
            .flatten()
            .boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, sqlx::Result<Option<SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        match self {
            Readers::Pool(pool) => pool.fetch_optional(query),
            Readers::AtOnce(one) => {
                Box::pin(async move { at_once((&mut *locked(one)).fetch_optional(query)) })
            }
        }
    }

    fn prepare_with<'e>(
        self,
        sql: sqlx::SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<SqliteStatement>>
    where
        'c: 'e,
    {
        match self {
            Readers::Pool(pool) => pool.prepare_with(sql, parameters),
            Readers::AtOnce(one) => {
                Box::pin(async move { at_once((&mut *locked(one)).prepare_with(sql, parameters)) })
            }
        }
    }
}
