//! One broker to a database. A second one would not hear of the first one's revocations.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use crate::store::{PATIENCE, Pool, Result, Store, StoreError};
use crate::world::monotonic;

/// "hallpass" in the key space of PostgreSQL's advisory locks.
const LOCK_KEY: i64 = 0x6861_6c6c_7061_7373;

/// Held while serving; let go of when dropped or when the process dies, however it dies.
#[derive(Debug)]
pub enum ServeLock {
    /// The operating system's lock on `DATABASE.lock`.
    File(File),
    /// A session-level advisory lock on a connection of its own.
    Advisory(Box<PgConnection>),
}

/// How long the one before may take to let go: PostgreSQL notices the end of a process a moment after it, and a service that
/// is restarted quickly must not fail for that.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried.
const LOCK_TRY: Duration = Duration::from_millis(100);

impl Store {
    /// Takes the lock, or says who has it. Waits for up to 5 seconds for one who is about to let go.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process goes on to hold it.
    pub async fn lock(&self) -> Result<ServeLock> {
        let begun = monotonic();
        let mut is_said = false;
        loop {
            match self.try_lock().await {
                Err(StoreError::Locked(_)) if begun.elapsed() < LOCK_PATIENCE => {
                    if !is_said {
                        is_said = true;
                        tracing::info!(
                            seconds = LOCK_PATIENCE.as_secs(),
                            "another process holds the lock of this database; waiting for it to let go"
                        );
                    }
                    tokio::time::sleep(LOCK_TRY).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_lock(&self) -> Result<ServeLock> {
        match (&self.pool, &self.sqlite_file) {
            (Pool::Sqlite { .. }, Some(path)) => {
                let mut name = path.clone().into_os_string();
                name.push(".lock");
                let open = File::options().create(true).append(true).mode(0o600).open(&name);
                let file = open.map_err(|error| StoreError::Open(format!("{}: {error}", name.to_string_lossy())))?;
                match file.try_lock() {
                    Ok(()) => Ok(ServeLock::File(file)),
                    Err(_) => Err(StoreError::Locked(name.to_string_lossy().into_owned())),
                }
            }
            (Pool::Sqlite { .. }, None) => Err(StoreError::Open("a SQLite database without a file".into())),
            (Pool::Postgres(pool), _) => {
                let taken = async {
                    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
                    let sql = "SELECT pg_try_advisory_lock($1)";
                    let row = sqlx::query(sql).bind(LOCK_KEY).fetch_one(&mut connection).await?;
                    Ok((row.try_get::<bool, _>(0)?, connection))
                };
                match tokio::time::timeout(PATIENCE, taken).await {
                    Err(_) => Err(StoreError::Timeout),
                    Ok(Err(error)) => Err(error),
                    Ok(Ok((true, connection))) => Ok(ServeLock::Advisory(Box::new(connection))),
                    Ok(Ok((false, _))) => Err(StoreError::Locked("advisory lock in PostgreSQL".into())),
                }
            }
        }
    }
}

/// Closing the file would do, were it the only handle: a child that was forked meanwhile holds another one until it
/// runs its own program, and would keep the database locked for that moment.
impl Drop for ServeLock {
    fn drop(&mut self) {
        if let Self::File(file) = self
            && let Err(error) = file.unlock()
        {
            tracing::debug!(%error, "the database's lock goes with its file");
        }
    }
}

impl ServeLock {
    /// Whether the lock is still held. PostgreSQL lets go of it when its connection breaks, for example by a restart.
    pub async fn is_held(&mut self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Advisory(connection) => connection.ping().await.is_ok(),
        }
    }
}
