//! Intents: what is about to be done, recorded before it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::Event;

/// Something that may be done only once its record is durable (P4: no record, no call). The ledger asks the thing itself
/// for its record, so that a proof cannot be of one thing and the record of another.
pub trait Intent {
    /// What a record of it says besides, of what the thing itself does not know.
    type With<'a>;

    /// Its record.
    fn record(&self, with: Self::With<'_>) -> Event;
}

/// The proof that the record of this very `T` is durable. Only the ledger builds one.
#[derive(Debug)]
pub struct Recorded<T> {
    about: T,
    number: i64,
}

impl<T> Recorded<T> {
    pub(super) fn new(about: T, number: &IntentNumber) -> Self {
        Self { about, number: number.get().unwrap_or(0) }
    }

    /// What was recorded.
    pub fn get(&self) -> &T {
        &self.about
    }

    /// What was recorded.
    pub fn into_inner(self) -> T {
        self.about
    }

    /// The number of its record, in this node's chain.
    pub fn number(&self) -> i64 {
        self.number
    }
}

/// The number of an intent, for its outcome to refer to. Whoever may go away before the intent is durable makes it first
/// and shares it with what records the outcome: that is dropped in the log if the intent never came to be in it.
#[derive(Debug, Clone, Default)]
pub struct IntentNumber(Arc<AtomicI64>);

impl IntentNumber {
    /// The number, once the intent is durable.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Acquire)).filter(|number| *number > 0)
    }

    pub(super) fn set(&self, number: i64) {
        self.0.store(number, Ordering::Release);
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
