//! Bringing the schema up to date.

use sqlx::migrate::{MigrateError, Migrator};

use crate::store::{Result, Store, StoreError, on_db};

/// The migration that last changed how the audit log is laid out.
const AUDIT_LAYOUT: i64 = 7;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

impl Store {
    /// Runs what is missing. PostgreSQL: under sqlx's advisory lock. SQLite: under the caller's [`crate::store::ServeLock`].
    ///
    /// # Errors
    /// [`StoreError::Newer`] where the database knows a migration that this binary does not.
    pub async fn migrate(&self) -> Result<()> {
        let outcome = on_db!(self, pool => MIGRATIONS.run(pool).await);
        outcome.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer(version),
            MigrateError::VersionMismatch(version) => StoreError::Migrate(format!(
                "migration {version} was applied in another form than this version of Hallpass carries"
            )),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                StoreError::Migrate(crate::store::plain::plain(&error))
            }
            other => StoreError::Migrate(other.to_string()),
        })
    }

    /// For whoever only looks: whether the audit log is laid out as this version reads it.
    ///
    /// # Errors
    /// [`StoreError::Older`] where it is not.
    pub async fn check_layout(&self) -> Result<()> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
        let (version,): (i64,) = on_db!(self, pool => sqlx::query_as(sql).fetch_one(pool).await)?;
        if version < AUDIT_LAYOUT || self.has_old_records().await? {
            return Err(StoreError::Older(version));
        }
        Ok(())
    }
}
