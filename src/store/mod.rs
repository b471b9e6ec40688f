//! All SQL, written once for SQLite and PostgreSQL.
//!
//! The broker changes things in one place only: [`Store::commit`], one transaction with the audit records that tell of the
//! changes in it. Besides it only migrations, the log's signed checkpoints and its search index are written. Everything else here
//! reads.

mod audit;
mod commit;
mod epoch;
mod guard;
mod index;
mod load;
mod lock;
mod migrate;
mod old_records;
mod plain;
mod sqlite;
mod statement;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, SqlitePool};

pub use audit::{AuditPage, SignedHead, Span, StoredCheckpoint};
pub use commit::{Batch, MakeTail, Part, Tail, Verdict};
pub use index::IndexedRun;
pub use load::{Everything, StoredDefinition};
pub use lock::ServeLock;
pub use old_records::OldRecord;
use sqlite::Writer;

/// Expands one body for both engines.
macro_rules! on_db {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.pool {
            $crate::store::Pool::Sqlite { pool: $pool, .. } => $body,
            $crate::store::Pool::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on_db;

/// How long a statement waits for a lock of SQLite before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long anybody waits for a connection to PostgreSQL. One that does not come by then mostly does not come at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Rows that SQLite's thread reads ahead of us: a whole page of the audit log, so that the two threads wait for each
/// other once a page and not once in 50 rows.
const ROWS_AHEAD: usize = 4096;

/// How long a whole commit to SQLite may take.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// The same to PostgreSQL. A connection whose other end is gone without a word would keep it for ever.
const REMOTE_COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A rule of the schema refused it; asking again will not help.
    #[error("the database refused a row: {}", plain::plain(.0))]
    Constraint(sqlx::Error),
    /// Two transactions were in each other's way, and this one was given up: it can be tried again.
    #[error("the database gave up a transaction for another one: {}", plain::plain(.0))]
    Conflict(sqlx::Error),
    /// Locked, full, gone: it may be back.
    #[error("the database is not available: {}", plain::plain(.0))]
    Unavailable(sqlx::Error),
    /// No answer came in time; a commit may have gone through, or may yet.
    #[error("the database does not answer in time; is it overloaded, stopped or locked?")]
    Timeout,
    /// What lies in the database is not what was put there.
    #[error("the database holds what Hallpass did not write: {0}")]
    Corrupt(String),
    /// The database was made by an older version, and is only looked at.
    #[error(
        "the database has the layout of an older version of Hallpass (migration {0}). Start the broker of this version \
         with it once, which brings it up to date, or use the version that wrote it"
    )]
    Older(i64),
    /// The database was made by a newer version.
    #[error(
        "the database has migration {0}, which this version of Hallpass does not know: it was written by a newer \
         version. Start that version, or restore the backup that was taken before the upgrade"
    )]
    Newer(i64),
    /// The migrations could not be run.
    #[error("the database could not be migrated: {0}")]
    Migrate(String),
    /// Another broker serves this database.
    #[error(
        "another hallpass process already serves this database ({0}). Stop that one first: two brokers on one \
         database would not hear of each other's revocations"
    )]
    Locked(String),
    /// The URL or the path is wrong.
    #[error("{0}")]
    Open(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(db) if is_conflict(db.as_ref()) => Self::Conflict(error),
            sqlx::Error::Database(db) if is_about_the_row(db.as_ref()) => Self::Constraint(error),
            sqlx::Error::Encode(_) => Self::Constraint(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error),
        }
    }
}

/// PostgreSQL: serialization failure, deadlock.
fn is_conflict(error: &dyn sqlx::error::DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

/// Whether the values are at fault: then they will be the next time too.
fn is_about_the_row(error: &dyn sqlx::error::DatabaseError) -> bool {
    if !matches!(error.kind(), sqlx::error::ErrorKind::Other) {
        return true;
    }
    // PostgreSQL: class 22, data exception, such as NUL in a text; class 54, such as a key too long for its index.
    // SQLSTATEs have five characters; SQLite's codes are shorter numbers.
    error.code().is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("54")))
}

/// Shorthand.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// The pool reads (and keeps checkpoints); [`Store::commit`] has a connection of its own.
    Sqlite {
        pool: SqlitePool,
        writer: Arc<Writer>,
    },
    Postgres(PgPool),
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    sqlite_file: Option<PathBuf>,
}

/// How to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Make it if it is not there (`hallpass init`).
    Create,
    /// It must be there.
    Serve,
    /// Only look (`hallpass audit verify`).
    ReadOnly,
}

impl Store {
    /// Opens `url`: `sqlite:PATH` or `postgres://…`. Messages never show the URL, which may hold a password.
    pub async fn open(url: &str, max_connections: u32, access: Access) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Self::open_sqlite(Path::new(path), max_connections, access).await;
        }
        let is_wrong = |_| {
            let text = "database.url is no PostgreSQL URL; write postgres://USER@HOST/NAME, and for a socket \
                        postgres://USER@%2Fvar%2Frun%2Fpostgresql/NAME or postgres:///NAME?host=/var/run/postgresql";
            StoreError::Open(text.into())
        };
        let options = PgConnectOptions::from_str(url).map_err(is_wrong)?.application_name("hallpass");
        let local =
            matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1") || options.get_host().starts_with('/');
        if !local && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa) {
            tracing::warn!(
                "the connection to PostgreSQL is not authenticated by TLS; add sslmode=verify-full to database.url"
            );
        }
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(CONNECT_PATIENCE)
            .connect_lazy_with(options.clone());
        // Not by the pool, which tries until its time is over and then says nothing but that.
        match tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await {
            Err(_) => return Err(StoreError::Timeout),
            Ok(connection) => connection?.close().await?,
        }
        Ok(Self { pool: Pool::Postgres(pool), sqlite_file: None })
    }

    async fn open_sqlite(path: &Path, max_connections: u32, access: Access) -> Result<Self> {
        let is_there = path.try_exists().map_err(|error| {
            let path = path.display();
            StoreError::Open(format!("it cannot be told whether there is a database at {path}: {error}; give the broker's user access to each folder on the way"))
        })?;
        if access != Access::Create && !is_there {
            return Err(StoreError::Open(format!(
                "there is no database at {}; run 'hallpass init', or mend database.url",
                path.display()
            )));
        }
        if access == Access::Create {
            private_file(path)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(access == Access::Create)
            .read_only(access == Access::ReadOnly)
            .busy_timeout(PATIENCE)
            .foreign_keys(true)
            .row_buffer_size(ROWS_AHEAD)
            // FULL: an acknowledged record survives the power being cut, not only a kill (P9).
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", sqlite::MOST_PAGES.to_string())
            .pragma("journal_size_limit", sqlite::MOST_KEPT.to_string());
        let options = if access == Access::ReadOnly { options } else { options.journal_mode(SqliteJournalMode::Wal) };
        let pool = SqlitePoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await?;
        let writer = Arc::new(Writer::new(options));
        Ok(Self { pool: Pool::Sqlite { pool, writer }, sqlite_file: Some(path.to_owned()) })
    }

    /// `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        match self.pool {
            Pool::Sqlite { .. } => "sqlite",
            Pool::Postgres(_) => "postgres",
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        on_db!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(drop)).map_err(StoreError::from)
    }

    /// Leaves nothing in the database's files of what was deleted or overwritten in `definitions`. SQLite: the whole file
    /// is written anew, which takes its size in time and in free disk, and the write-ahead log is emptied. PostgreSQL: the
    /// table is; its write-ahead log and its archive are the server's matter.
    ///
    /// # Errors
    /// The database is away, full, or read by another process all the time.
    pub(crate) async fn wipe_deleted_definitions(&self) -> Result<()> {
        match &self.pool {
            Pool::Sqlite { pool, .. } => {
                let mut connection = pool.acquire().await?;
                sqlx::query("VACUUM").execute(&mut *connection).await?;
                let (is_busy, _, _): (i64, i64, i64) =
                    sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
                match is_busy {
                    0 => Ok(()),
                    _ => {
                        Err(StoreError::Open("another process reads the database, so its log cannot be emptied".into()))
                    }
                }
            }
            Pool::Postgres(pool) => {
                sqlx::query("VACUUM FULL definitions").execute(pool).await?;
                Ok(())
            }
        }
    }

    /// Waits for what is in flight and closes all connections.
    pub async fn close(&self) {
        if let Pool::Sqlite { writer, .. } = &self.pool {
            writer.close().await;
        }
        on_db!(self, pool => pool.close().await);
    }
}

/// Makes the file with mode 0600 before SQLite would make it with the umask's.
fn private_file(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| StoreError::Open(format!("the database file {} cannot be made: {error}", path.display())))
}
