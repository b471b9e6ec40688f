//! Guards: conditional statements that run first in a transaction and cannot raise.
//!
//! Each takes its row or finds that it is taken; the rows that come back say which took theirs. The guards of one kind go
//! in one statement, sorted by key: two nodes take their rows in the same order, so neither waits for the other in a circle.

use std::collections::BTreeMap;

use crate::model::{Guard, OnceOnly};
use crate::store::commit::{Part, Verdict};
use crate::store::statement::{MOST_ROWS, Statement, Value, rows_of};
use crate::world::Millis;

type Key = (OnceOnly, [u8; 16]);

/// The guards of a commit. Of two that want one row, the first part gets it.
#[derive(Debug, Default)]
pub(super) struct Guards<'a> {
    wanted: BTreeMap<Key, (usize, &'a Guard)>,
}

impl<'a> Guards<'a> {
    /// Of all parts. A part that wants what one before it wants is given up at once.
    pub(super) fn of(parts: &[Part<'a>], verdicts: &mut [Verdict]) -> Self {
        let mut wanted = BTreeMap::new();
        for ((n, part), verdict) in parts.iter().enumerate().zip(verdicts) {
            for guard in part.guards {
                let (owner, _) = *wanted.entry(guard.key()).or_insert((n, guard));
                if owner != n {
                    *verdict = Verdict::Spent(guard.key().0);
                }
            }
        }
        Self { wanted }
    }

    /// The statements, in the order of their keys. Each gives back the digests of the rows that were taken.
    pub(super) fn statements(&self, now: Millis) -> Vec<(OnceOnly, Statement)> {
        let mut all: Vec<(OnceOnly, Statement)> = Vec::new();
        for kind in OnceOnly::ALL {
            let of_kind: Vec<&Guard> =
                self.wanted.iter().filter(|((one, _), _)| *one == kind).map(|(_, (_, guard))| *guard).collect();
            let mut left = of_kind.as_slice();
            // By powers of two: a few texts for the statement caches, and not one for each number.
            while let Some(power) = left.len().checked_ilog2() {
                let (some, rest) = left.split_at((1 << power).min(MOST_ROWS));
                all.push((kind, statement(kind, some, now)));
                left = rest;
            }
        }
        all
    }

    /// Whose row was not taken drops out.
    pub(super) fn settle(self, taken: &[(OnceOnly, Vec<u8>)], verdicts: &mut [Verdict]) {
        let taken: std::collections::BTreeSet<(OnceOnly, &[u8])> =
            taken.iter().map(|(kind, digest)| (*kind, digest.as_slice())).collect();
        for ((kind, digest), (owner, _)) in self.wanted {
            if !taken.contains(&(kind, digest.as_slice()))
                && let Some(verdict) = verdicts.get_mut(owner)
            {
                *verdict = Verdict::Spent(kind);
            }
        }
    }
}

/// One row where there is none, or where one stands that has ended.
fn statement(kind: OnceOnly, guards: &[&Guard], now: Millis) -> Statement {
    let mut values = Vec::with_capacity(guards.len() * 3 + 1);
    for guard in guards {
        match guard {
            Guard::Assertion(used) => values.extend([
                Value::Bytes(used.digest.to_vec()),
                Value::Text(used.agent_id.to_string()),
                Value::Int(used.expires_at),
            ]),
            Guard::Proof(used) => values.extend([Value::Bytes(used.digest.to_vec()), Value::Int(used.expires_at)]),
        }
    }
    values.push(Value::Int(now));
    let (head, width, ours) = match kind {
        OnceOnly::Assertion => (
            "INSERT INTO used_assertions (digest, agent_id, expires_at)",
            3,
            "agent_id = excluded.agent_id, expires_at = excluded.expires_at WHERE used_assertions.expires_at",
        ),
        OnceOnly::Proof => (
            "INSERT INTO used_proofs (digest, expires_at)",
            2,
            "expires_at = excluded.expires_at WHERE used_proofs.expires_at",
        ),
    };
    let mut sql = rows_of(head, width, guards.len());
    sql.push_str(" ON CONFLICT (digest) DO UPDATE SET ");
    sql.push_str(ours);
    sql.push_str(&format!(" <= ${} RETURNING digest", guards.len() * width + 1));
    Statement { sql: sql.into(), values }
}

/// The statements of one part's guards, one for each.
pub(super) fn of_one(guards: &[Guard], now: Millis) -> Vec<(OnceOnly, Statement)> {
    let mut sorted: Vec<&Guard> = guards.iter().collect();
    sorted.sort_by_key(|guard| guard.key());
    let kinds = sorted.into_iter().map(|guard| (guard.key().0, guard));
    kinds.map(|(kind, guard)| (kind, statement(kind, &[guard], now))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UsedProof;

    fn proof(n: u8) -> Guard {
        Guard::Proof(UsedProof { digest: [n; 16], expires_at: 5 })
    }

    #[test]
    fn of_two_that_want_one_row_the_first_gets_it() {
        let (one, two, three) = ([proof(1)], [proof(1)], [proof(2)]);
        let parts = [&one, &two, &three].map(|guards| Part { guards, changes: &[] });
        let mut verdicts = vec![Verdict::Goes; 3];
        let guards = Guards::of(&parts, &mut verdicts);
        assert_eq!(verdicts, [Verdict::Goes, Verdict::Spent(OnceOnly::Proof), Verdict::Goes]);
        let statements = guards.statements(7);
        assert_eq!(statements.len(), 1);
        assert!(statements[0].1.sql.ends_with(
            "VALUES ($1, $2), ($3, $4) ON CONFLICT (digest) DO UPDATE SET \
             expires_at = excluded.expires_at WHERE used_proofs.expires_at <= $5 RETURNING digest"
        ));
        guards.settle(&[(OnceOnly::Proof, vec![1; 16])], &mut verdicts);
        assert_eq!(verdicts, [Verdict::Goes, Verdict::Spent(OnceOnly::Proof), Verdict::Spent(OnceOnly::Proof)]);
    }

    #[test]
    fn rows_are_taken_in_the_order_of_their_keys() {
        let all = [proof(9), proof(3)];
        let parts = [Part { guards: &all, changes: &[] }];
        let statements = Guards::of(&parts, &mut [Verdict::Goes]).statements(0);
        let first = statements[0].1.values.first();
        assert!(matches!(first, Some(Value::Bytes(bytes)) if bytes[0] == 3), "{first:?}");
    }
}
