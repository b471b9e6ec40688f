//! Commits whose answer never came: they may have gone through all the same, or may yet.
//!
//! All of them were to begin with the same record number, so at most one can land; and none can any more once a later
//! commit has taken that number. Which of them did is read from the chain, by the hash at the place where it would end.

use std::collections::VecDeque;

use crate::audit::intent::IntentNumber;
use crate::model::{Change, Head};

/// More are not kept: each new one has met the end of the chain unmoved, so those long before it are not in flight.
const MAX_ATTEMPTS: usize = 1000;

/// A commit without an answer.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The chain's end, if it went through.
    pub(super) would_be: Head,
    /// What it would have changed.
    pub(super) changes: Vec<Change>,
    /// It held every outcome that waited, up to this number.
    pub(super) outcomes_to: u64,
    /// The numbers of the intents in it.
    pub(super) numbers: Vec<(IntentNumber, i64)>,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct InDoubt {
    attempts: VecDeque<Attempt>,
}

impl InDoubt {
    /// One more.
    pub(super) fn add(&mut self, attempt: Attempt) {
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }

    /// None can land any more: their place in the chain is taken.
    pub(super) fn clear(&mut self) {
        self.attempts.clear();
    }

    /// Where to look, now that the chain ends at `head`: the longest first, for one may hold the records of another.
    pub(super) fn places(&self, head: &Head) -> Vec<i64> {
        let mut places: Vec<i64> =
            self.attempts.iter().map(|one| one.would_be.seq).filter(|seq| *seq <= head.seq).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        places.dedup();
        places
    }

    /// Whether one of them would have ended like this.
    pub(super) fn ends_with(&self, end: &Head) -> bool {
        self.attempts.iter().any(|one| one.would_be == *end)
    }

    /// The chain has moved on. `landed` is the end that was found of one of them, if any; that one is given back, and
    /// the others are over.
    pub(super) fn settle(&mut self, landed: Option<&Head>) -> Option<Attempt> {
        let attempts = std::mem::take(&mut self.attempts);
        let landed = landed?;
        attempts.into_iter().find(|one| one.would_be == *landed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64, n: u8) -> Head {
        Head { seq, hash: [n; 32] }
    }

    fn attempt(seq: i64, n: u8, outcomes_to: u64) -> Attempt {
        let changes = vec![Change::Prune { before: i64::from(n) }];
        Attempt { would_be: head(seq, n), changes, outcomes_to, numbers: Vec::new() }
    }

    #[test]
    fn the_one_that_landed_is_given_back_with_its_changes_and_outcomes() {
        let mut doubt = InDoubt::default();
        doubt.add(attempt(3, 1, 2));
        doubt.add(attempt(4, 2, 5));
        assert!(doubt.ends_with(&head(3, 1)) && !doubt.ends_with(&head(3, 2)));
        let landed = doubt.settle(Some(&head(3, 1))).unwrap();
        // Outcomes 3 to 5 came later: they were in the second only, and still wait.
        assert_eq!(landed.outcomes_to, 2);
        assert!(matches!(landed.changes[..], [Change::Prune { before: 1 }]));
        assert!(doubt.places(&head(100, 0)).is_empty(), "the other is over");
    }

    #[test]
    fn when_another_took_their_place_none_had_landed() {
        let mut doubt = InDoubt::default();
        doubt.add(attempt(3, 1, 2));
        assert!(doubt.settle(None).is_none());
        assert!(!doubt.ends_with(&head(3, 1)));
    }

    #[test]
    fn places_are_looked_at_from_the_longest_that_the_chain_reaches() {
        let mut doubt = InDoubt::default();
        for (seq, n) in [(3, 1), (9, 2), (4, 3), (3, 4)] {
            doubt.add(attempt(seq, n, 0));
        }
        assert_eq!(doubt.places(&head(4, 0)), [4, 3]);
        assert_eq!(doubt.places(&head(2, 0)), [0; 0]);
    }

    #[test]
    fn there_is_an_end_to_how_many_are_kept() {
        let mut doubt = InDoubt::default();
        for seq in 0..2 * MAX_ATTEMPTS {
            doubt.add(attempt(i64::try_from(seq).unwrap(), 1, 0));
        }
        assert_eq!(doubt.attempts.len(), MAX_ATTEMPTS);
        assert_eq!(doubt.attempts.back().unwrap().would_be.seq, i64::try_from(2 * MAX_ATTEMPTS - 1).unwrap());
    }
}
