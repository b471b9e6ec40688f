//! Revocations: asked on every call, listed for gateways, heard by calls under way.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hallpass_verify::{AgentCut, Claims, RevocationEntry, RevocationSet, RevokedBy, Seconds};
use tokio::sync::watch;

use crate::model::{Revocation, RevocationKind, subject_key};
use crate::world::Millis;

/// What is revoked, and a counter of changes that long polls and running calls wait for.
#[derive(Debug)]
pub struct Revoked {
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    set: RevocationSet,
    all: BTreeMap<(&'static str, Arc<str>), Revocation>,
}

impl Revoked {
    pub(super) fn new(revocations: Vec<Revocation>) -> Self {
        let revoked = Self { state: RwLock::default(), version: watch::Sender::new(1) };
        for one in revocations {
            revoked.insert(one);
        }
        revoked
    }

    pub(super) fn insert(&self, revocation: Revocation) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = revocation.entry() {
            state.set.insert(entry);
        }
        let key = (revocation.kind.as_str(), revocation.subject.clone());
        let merged = match state.all.remove(&key) {
            Some(there) => Revocation {
                cut: there.cut.max(revocation.cut),
                keep_until: there.keep_until.max(revocation.keep_until),
                ..revocation
            },
            None => revocation,
        };
        state.all.insert(key, merged);
        drop(state);
        self.version.send_modify(|version| *version += 1);
    }

    /// Forgets what cannot matter any more.
    pub(super) fn prune(&self, before: Millis) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let there = state.all.len();
        state.all.retain(|_, revocation| revocation.keep_until >= before);
        if state.all.len() == there {
            return;
        }
        state.set = state.all.values().filter_map(Revocation::entry).collect();
        drop(state);
        self.version.send_modify(|version| *version += 1);
    }

    /// What revokes this token, if anything does.
    pub fn find(&self, claims: &Claims) -> Option<RevokedBy> {
        self.with_set(|set| set.find(claims))
    }

    /// Asks the set; the lock is held for the time of `ask` only.
    pub fn with_set<T>(&self, ask: impl FnOnce(&RevocationSet) -> T) -> T {
        ask(&self.state.read().unwrap_or_else(PoisonError::into_inner).set)
    }

    /// The cut for an agent's tokens: a new token must not seem to be issued before it.
    pub fn agent_cut(&self, agent_id: &str) -> Option<AgentCut> {
        self.with_set(|set| set.agent_cut(agent_id))
    }

    /// The cut for what a subject delegates: its tokens with `iat` below this open no session any more.
    pub fn subject_cut(&self, issuer: Option<&str>, subject: &str) -> Option<Seconds> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let cut = |key: String| state.all.get(&(RevocationKind::Subject.as_str(), key.into())).map(|one| one.cut);
        let of_issuer = issuer.and_then(|issuer| cut(subject_key(Some(issuer), subject)));
        of_issuer.max(cut(subject_key(None, subject)))
    }

    /// Counts the changes.
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// The lines of the list, and the version that they are.
    pub fn entries(&self) -> (u64, Vec<RevocationEntry>) {
        // The version first: a change in between makes the list newer than it says, never older.
        let version = self.version();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (version, state.all.values().filter_map(Revocation::entry).collect())
    }

    /// Changes of the version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
