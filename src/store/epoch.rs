//! The epoch of the revocation list: a number of the database that never falls.
//!
//! epoch' = max(epoch + 1, unix milliseconds of the database)
//!
//! A gateway never replaces a list by one of a lower epoch. So the number must not fall when a database is restored or
//! fails over: by the clock in it, the first raise is above all that was handed out before.

use sqlx::{Executor, FromRow as _};

use crate::store::{Pool, Result, Store};

const RAISE_SQLITE: &str = "UPDATE epochs SET value = MAX(value + 1, \
     CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) WHERE name = 'revocations' RETURNING value";

const RAISE_POSTGRES: &str = "UPDATE epochs SET value = GREATEST(value + 1, \
     CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)) WHERE name = 'revocations' RETURNING value";

/// Raises the epoch on a connection of SQLite, inside of its transaction.
pub(super) async fn raise_sqlite(connection: impl Executor<'_, Database = sqlx::Sqlite>) -> sqlx::Result<i64> {
    let row = sqlx::query(RAISE_SQLITE).fetch_one(connection).await?;
    <(i64,)>::from_row(&row).map(|(value,)| value)
}

/// As [`raise_sqlite`], on PostgreSQL. The row stays locked until the transaction ends: revocations of several nodes come
/// one after the other, and a list of a higher epoch holds all that a lower one does.
pub(super) async fn raise_postgres(connection: impl Executor<'_, Database = sqlx::Postgres>) -> sqlx::Result<i64> {
    let row = sqlx::query(RAISE_POSTGRES).fetch_one(connection).await?;
    <(i64,)>::from_row(&row).map(|(value,)| value)
}

impl Store {
    /// Raises the epoch, before anything is served: a database that was restored or failed over has an older one.
    pub async fn raise_epoch(&self) -> Result<i64> {
        Ok(match &self.pool {
            Pool::Sqlite { pool, .. } => raise_sqlite(pool).await?,
            Pool::Postgres(pool) => raise_postgres(pool).await?,
        })
    }

    /// The epoch as it stands.
    pub async fn epoch(&self) -> Result<i64> {
        let sql = "SELECT value FROM epochs WHERE name = 'revocations'";
        let (value,): (i64,) = crate::store::on_db!(self, pool => sqlx::query_as(sql).fetch_one(pool).await)?;
        Ok(value)
    }
}
