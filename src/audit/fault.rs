//! What is wrong with a log.

/// What is wrong, and from which record on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first bad record.
    pub seq: i64,
    /// What is wrong with it.
    pub problem: String,
}
