//! Revocations: asked on every call, listed for gateways, heard by calls in flight.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hallpass_verify::{AgentCut, Claims, RevocationEntry, RevocationSet, RevokedBy, Seconds};
use tokio::sync::watch;

use crate::model::{Revocation, RevocationKind, subject_key};
use crate::world::Millis;

/// What is revoked, and a counter of this process's changes that long polls and running calls wait for.
#[derive(Debug)]
pub struct Revoked {
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

/// The revocation list, to be signed.
#[derive(Debug)]
pub struct List {
    /// Up to which change of this process it goes: see [`Revoked::version`].
    pub version: u64,
    /// Its version for gateways.
    pub epoch: i64,
    /// Its lines.
    pub entries: Vec<RevocationEntry>,
}

#[derive(Debug, Default)]
struct State {
    /// The version of the list: a number of the database that never falls.
    epoch: i64,
    set: RevocationSet,
    all: BTreeMap<(&'static str, Arc<str>), Revocation>,
}

impl Revoked {
    pub(super) fn new(revocations: Vec<Revocation>, epoch: i64) -> Self {
        let revoked = Self { state: RwLock::default(), version: watch::Sender::new(1) };
        revoked.insert(revocations, Some(epoch));
        revoked
    }

    /// Adds them, and the epoch that they raised the list to, at once: who reads the list sees both or neither.
    pub(super) fn insert(&self, revocations: Vec<Revocation>, epoch: Option<i64>) {
        if revocations.is_empty() && epoch.is_none() {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for revocation in revocations {
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
        }
        state.epoch = epoch.map_or(state.epoch, |epoch| epoch.max(state.epoch));
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

    /// Counts the changes that this process has seen; not the list's version, which is [`List::epoch`].
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// The list of now.
    pub fn list(&self) -> List {
        // The count first: a change in between makes the list newer than it says, never older.
        let version = self.version();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        List { version, epoch: state.epoch, entries: state.all.values().filter_map(Revocation::entry).collect() }
    }

    /// Changes of the version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
