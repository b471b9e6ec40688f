//! Why something is not recorded.

use crate::model::OnceOnly;

/// Why something was not recorded, and so not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Too many wait.
    #[error("too many callers wait for the audit log")]
    Busy,
    /// The database would not take it.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
    /// What it was committed under does not hold: something that is good once was used before.
    #[error("it was used before")]
    Spent(OnceOnly),
    /// A rule of the schema refused it.
    #[error("the database refused the change: {0}")]
    Refused(String),
}

pub(super) fn away() -> LedgerError {
    LedgerError::Unavailable("the database is not available".into())
}

pub(super) fn stopped() -> LedgerError {
    LedgerError::Unavailable("the writer has stopped".into())
}
