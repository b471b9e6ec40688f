//! When keys change. Pure: records and a time in, steps out.
//!
//! A token signed a second before a rotation must verify until it dies, and a verifier must have seen a key before
//! its first token. So a key is published ahead of its use, and stays published after it.

use super::{Algorithm, KeyRecord, KeyState};
use crate::error::{Error, Result};
use crate::world::Millis;

/// Three rounds settle everything; the bound is for a `generate` that gives two keys one name.
const MAX_ROUNDS: usize = 8;

/// How keys rotate. All nodes of a broker must have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What new keys sign with.
    pub algorithm: Algorithm,
    /// How long a key signs.
    pub rotate_every_ms: Millis,
    /// How long a key is published before it signs: as long as verifiers keep a JWKS.
    pub publish_ahead_ms: Millis,
    /// How long a key is published after it signed: the longest token's life, the clocks' skew, and the time until
    /// the last node has heard of the rotation.
    pub retire_after_ms: Millis,
}

impl Policy {
    /// Refuses a policy under which tokens would outlive their key or keys would not be published in time.
    pub fn check(&self, longest_token_ms: Millis, skew_ms: Millis) -> Result<()> {
        let needed = longest_token_ms.saturating_add(skew_ms);
        if self.retire_after_ms < needed {
            return Err(Error::invalid(
                "key_policy",
                format!("signing keys must stay published for {needed} ms after their last token; raise retire_after"),
            ));
        }
        if self.publish_ahead_ms < 0 || self.rotate_every_ms <= 0 || self.publish_ahead_ms > self.rotate_every_ms {
            return Err(Error::invalid("key_policy", "publish_ahead must be between 0 and rotate_every"));
        }
        Ok(())
    }
}

/// One change to the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a key and publish it as next.
    Generate(Algorithm),
    /// Next becomes active.
    Activate(String),
    /// Active becomes retiring; its private half is destroyed now, not at the end.
    Retire {
        /// Which key.
        kid: String,
        /// When its last token is dead.
        gone_at: Millis,
    },
    /// Leaves the JWKS: its last token is dead, or it never signed one.
    Forget(String),
    /// Leaves the JWKS although its tokens are alive: they are refused from now on.
    Revoke(String),
}

/// What is due at `now`. Nothing is, most of the time.
///
/// There is always one next key ready, and the active one is replaced when it is older than `rotate_every`, provided
/// that next has been published for `publish_ahead`. Apply the steps and ask again until none is left, in one
/// transaction: [`settle`] does that.
pub fn plan(records: &[KeyRecord], now: Millis, policy: &Policy) -> Vec<Step> {
    let mut steps: Vec<Step> = in_state(records, KeyState::Retiring)
        .filter(|key| key.gone_at.is_some_and(|gone_at| gone_at <= now))
        .map(|key| Step::Forget(key.kid.clone()))
        .collect();

    // Two nodes that act at the same moment may leave one too many. All pick the same survivor.
    let active = current(records);
    steps.extend(
        in_state(records, KeyState::Active).filter(|key| Some(*key) != active).map(|key| retire(key, now, policy)),
    );

    // After a change of the algorithm in the configuration, a next key of the old one has no future. Without an active
    // key it has: it is published, which counts more.
    let next = upcoming(records, policy).filter(|key| active.is_none() || key.algorithm == policy.algorithm);
    steps.extend(
        in_state(records, KeyState::Next).filter(|key| Some(*key) != next).map(|key| Step::Forget(key.kid.clone())),
    );

    match (active, next) {
        (Some(old), Some(new)) => {
            let signs_since = old.activated_at.unwrap_or(old.created_at);
            let is_due = signs_since.saturating_add(policy.rotate_every_ms.max(1)) <= now;
            if is_due && ready_at(new, policy) <= now {
                steps.extend(replace(old, Some(new), now, policy));
            }
        }
        // Nobody signs: publishing ahead would only prolong that.
        (None, Some(new)) => steps.extend([Step::Activate(new.kid.clone()), Step::Generate(policy.algorithm)]),
        (_, None) => steps.push(Step::Generate(policy.algorithm)),
    }
    steps
}

/// Rotation at an admin's word, before its time: apply with [`settle`].
///
/// It does not wait for `publish_ahead`; ask [`next_ready_at`] and warn, because verifiers that keep an older JWKS
/// and do not look again at an unknown `kid` will refuse the new key's tokens until they do.
pub fn rotate_now(records: &[KeyRecord], now: Millis, policy: &Policy) -> Vec<Step> {
    match current(records) {
        Some(old) => replace(old, upcoming(records, policy), now, policy).collect(),
        None => Vec::new(), // `plan` will see to it
    }
}

/// The emergency: `kid` is compromised and goes at once, with all its tokens. Apply with [`settle`].
///
/// If it was active, next takes over. Whoever stole one private key may have stolen next as well: revoke that first.
pub fn retire_now(records: &[KeyRecord], kid: &str, policy: &Policy) -> Result<Vec<Step>> {
    let key = records
        .iter()
        .find(|key| key.kid == kid)
        .ok_or_else(|| Error::not_found("key_not_found", "no signing key has this kid; see `hallpass key list`"))?;
    if !key.is_published() {
        return Err(Error::conflict("key_gone", "this signing key is gone already: none of its tokens is accepted"));
    }
    let mut steps = vec![Step::Revoke(kid.to_owned())];
    if key.state == KeyState::Active
        && let Some(next) = upcoming(records, policy)
    {
        steps.push(Step::Activate(next.kid.clone()));
    }
    Ok(steps)
}

/// When the next key will have been published for `publish_ahead`; `None` if there is no next key.
pub fn next_ready_at(records: &[KeyRecord], policy: &Policy) -> Option<Millis> {
    upcoming(records, policy).map(|key| ready_at(key, policy))
}

/// Applies `steps`, then whatever [`plan`] finds due, until nothing is: exactly one key is active afterwards.
///
/// `generate` makes a key of the algorithm, keeps its halves for the store and returns its kid. The store then writes
/// all records and new keys, and deletes the private halves that are no longer needed, in one transaction.
pub fn settle<E>(
    mut records: Vec<KeyRecord>,
    mut steps: Vec<Step>,
    now: Millis,
    policy: &Policy,
    mut generate: impl FnMut(Algorithm) -> Result<String, E>,
) -> Result<Vec<KeyRecord>, E> {
    for _ in 0..MAX_ROUNDS {
        for step in steps {
            apply(&mut records, step, now, &mut generate)?;
        }
        steps = plan(&records, now, policy);
        if steps.is_empty() {
            break;
        }
    }
    Ok(records)
}

fn apply<E>(
    records: &mut Vec<KeyRecord>,
    step: Step,
    now: Millis,
    generate: &mut impl FnMut(Algorithm) -> Result<String, E>,
) -> Result<(), E> {
    match step {
        Step::Generate(algorithm) => records.push(KeyRecord::new(generate(algorithm)?, algorithm, now)),
        Step::Activate(kid) => change(records, &kid, |key| {
            key.state = KeyState::Active;
            key.activated_at = Some(now);
        }),
        Step::Retire { kid, gone_at } => change(records, &kid, |key| {
            key.state = KeyState::Retiring;
            key.retiring_at = Some(now);
            key.gone_at = Some(gone_at);
        }),
        Step::Forget(kid) => change(records, &kid, |key| {
            key.state = KeyState::Gone;
            key.gone_at = Some(now);
        }),
        Step::Revoke(kid) => change(records, &kid, |key| {
            key.state = KeyState::Gone;
            key.gone_at = Some(now);
            key.revoked = true;
        }),
    }
    Ok(())
}

fn change(records: &mut [KeyRecord], kid: &str, how: impl FnOnce(&mut KeyRecord)) {
    if let Some(key) = records.iter_mut().find(|key| key.kid == kid) {
        how(key);
    }
}

fn in_state(records: &[KeyRecord], state: KeyState) -> impl Iterator<Item = &KeyRecord> {
    records.iter().filter(move |key| key.state == state && !key.revoked)
}

/// The active key: of several, the last to become it.
fn current(records: &[KeyRecord]) -> Option<&KeyRecord> {
    in_state(records, KeyState::Active).max_by_key(|key| (key.activated_at, &key.kid))
}

/// The next key: of several, one of the configured algorithm, and the one that has been published longest.
fn upcoming<'a>(records: &'a [KeyRecord], policy: &Policy) -> Option<&'a KeyRecord> {
    in_state(records, KeyState::Next).min_by_key(|key| (key.algorithm != policy.algorithm, key.created_at, &key.kid))
}

fn ready_at(next: &KeyRecord, policy: &Policy) -> Millis {
    next.created_at.saturating_add(policy.publish_ahead_ms)
}

fn retire(key: &KeyRecord, now: Millis, policy: &Policy) -> Step {
    Step::Retire { kid: key.kid.clone(), gone_at: now.saturating_add(policy.retire_after_ms) }
}

/// The old key goes before the new one comes, so that a store may insist on one active key at a time.
fn replace(old: &KeyRecord, new: Option<&KeyRecord>, now: Millis, policy: &Policy) -> impl Iterator<Item = Step> {
    let activate = new.map(|key| Step::Activate(key.kid.clone()));
    [Some(retire(old, now, policy)), activate, Some(Step::Generate(policy.algorithm))].into_iter().flatten()
}
