//! SQLite without its thread, for simulations.
//!
//! SQLite works on a thread of its own, so that when a question is answered depends on the machine. A simulation that has to
//! come out the same each time cannot have that: its time stands still while nothing else happens, and what happens first must
//! not be the scheduler's choice. Here the caller's thread waits instead, so that a question is asked and answered within one
//! poll, and no other task and no timer comes in between.

use futures::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Either, Execute, Executor, Sqlite, SqliteConnection,
    sqlite::{SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread until `future` is ready. It must not wait for anything that this thread has to do.
pub fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// A connection that answers when it can, or at once.
#[derive(Debug)]
pub struct Connection {
    inner: SqliteConnection,
    at_once: bool,
}

impl Connection {
    /// A connection whose answers take as long as they take.
    #[must_use]
    pub fn ordinary(inner: SqliteConnection) -> Self {
        Self {
            inner,
            at_once: false,
        }
    }

    /// A connection that answers within one poll, by holding up the thread that asks.
    #[must_use]
    pub fn at_once(inner: SqliteConnection) -> Self {
        Self {
            inner,
            at_once: true,
        }
    }

    /// The connection itself.
    #[must_use]
    pub fn into_inner(self) -> SqliteConnection {
        self.inner
    }
}

/// All items of `answers`, as a stream that is ready.
fn collected<'e, T: Send + 'e>(answers: impl Stream<Item = T>) -> BoxStream<'e, T> {
    let items: Vec<T> = at_once(answers.collect());
    stream::iter(items).boxed()
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let answers = self.inner.fetch_many(query);
        if self.at_once {
            // What is dropped before it is polled must not have been done.
            stream::once(async move { collected(answers) })
                .flatten()
                .boxed()
        } else {
            answers
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
        let answer = self.inner.fetch_optional(query);
        if self.at_once {
            Box::pin(async move { at_once(answer) })
        } else {
            answer
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
        let prepared = self.inner.prepare_with(sql, parameters);
        if self.at_once {
            Box::pin(async move { at_once(prepared) })
        } else {
            prepared
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

    #[test]
    fn every_kind_of_question_is_answered_within_one_poll() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let options = SqliteConnectOptions::new().in_memory(true);
            let mut conn = Connection::at_once(at_once(options.connect()).unwrap());
            let mut once = Context::from_waker(Waker::noop());
            {
                let mut made = pin!(
                    sqlx::raw_sql("CREATE TABLE t (n); INSERT INTO t VALUES (7), (8)")
                        .execute(&mut conn)
                );
                assert!(matches!(made.as_mut().poll(&mut once), Poll::Ready(Ok(_))));
            }
            {
                let mut rows = pin!(sqlx::query("SELECT n FROM t").fetch_all(&mut conn));
                let Poll::Ready(Ok(found)) = rows.as_mut().poll(&mut once) else {
                    panic!("not ready")
                };
                assert_eq!(found.len(), 2);
            }
            let mut row = pin!(sqlx::query("SELECT n FROM t").fetch_optional(&mut conn));
            let Poll::Ready(Ok(Some(found))) = row.as_mut().poll(&mut once) else {
                panic!("not ready")
            };
            assert_eq!(found.try_get::<i64, _>(0).unwrap(), 7);
        });
    }
}
