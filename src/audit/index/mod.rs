//! The search index: for each run of records, which values stand in them. A search reads the runs that may hold what it looks
//! for, and nothing else.
//!
//! It is made from the committed records by a task of its own ([`Indexer`]), behind the commits and in batches, so that no
//! commit waits for it. What it does not hold yet is searched record by record. It says only where to look: what is shown
//! comes from the records.

mod filter;
mod indexer;
mod terms;

pub(super) use filter::may_hold;
pub use indexer::Indexer;
pub(super) use terms::{Field, Searched, Term};
