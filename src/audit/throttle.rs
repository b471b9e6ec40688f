//! Refusals that somebody can cause in a loop: some are recorded, the rest are counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::world::Millis;

/// Refusals of one sort that are recorded per minute.
pub const RECORDED_A_MINUTE: u32 = 60;

/// Sorts that are counted one by one at the same time; those beyond share a count.
const MAX_WATCHED: usize = 4096;

const MINUTE: Millis = 60_000;

/// Says which refusals are recorded. Each record is a row that is kept for ever, and waits in the queue in which agents
/// wait for their tokens and calls: whoever can cause refusals for nothing must not be able to fill either.
#[derive(Debug, Default)]
pub struct Throttle {
    sorts: Mutex<HashMap<String, Sort>>,
}

/// What was recorded of one sort within a minute.
#[derive(Debug)]
struct Sort {
    since: Millis,
    recorded: u32,
    left_out: u64,
}

impl Throttle {
    /// Whether this refusal is recorded, and how many of its sort were not since the last one that was.
    pub fn may_record(&self, sort: &str, now: Millis) -> Option<u64> {
        let mut sorts = self.sorts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sort = sort;
        if !sorts.contains_key(sort) && sorts.len() >= MAX_WATCHED {
            sorts.retain(|_, one| now - one.since < MINUTE);
            if sorts.len() >= MAX_WATCHED {
                sort = "others";
            }
        }
        let fresh = || Sort { since: now, recorded: 0, left_out: 0 };
        let one = sorts.entry(sort.to_owned()).or_insert_with(fresh);
        if now - one.since >= MINUTE {
            (one.since, one.recorded) = (now, 0);
        }
        if one.recorded >= RECORDED_A_MINUTE {
            one.left_out += 1;
            return None;
        }
        one.recorded += 1;
        Some(std::mem::take(&mut one.left_out))
    }
}

/// `(+N more)`: what a record says of those that were left out before it.
pub fn omitted_note(left_out: u64) -> Option<String> {
    (left_out > 0).then(|| format!("(+{left_out} more)"))
}
