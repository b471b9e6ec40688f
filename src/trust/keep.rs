//! Keeping what was fetched: cached, one fetch at a time, and not more often than it must be.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::registry::Registry;
use crate::trust::Untrusted;
use crate::trust::fetch::Fetcher;
use crate::trust::source::{Found, Source};
use crate::world::{Millis, World};

/// For how long keys are used after their issuer stopped to answer. Longer than most outages; a key that was taken back
/// during one is trusted no longer than this.
pub const STALE_AT_MOST: Millis = 24 * 3_600_000;

/// After a fetch that failed, nobody waits for another one before this.
const AFTER_FAILURE: Millis = 10_000;

/// A `kid` that the set does not hold, which any stranger can send, has the set fetched again at most this often.
pub const BETWEEN_UNKNOWN: Millis = 60_000;

/// What is kept of one source.
#[derive(Debug)]
struct Entry {
    source: Source,
    kept: ArcSwapOption<Kept>,
    /// Held by the one who fetches; the others wait for it and find what it found.
    turn: Mutex<Turn>,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) found: Found,
    fetched: Millis,
}

impl Kept {
    fn is_fresh(&self, now: Millis) -> bool {
        self.found.fresh.is_none_or(|seconds| now - self.fetched < seconds * 1000)
    }
}

#[derive(Debug, Default)]
struct Turn {
    /// When it was last tried and failed.
    failed: Option<Millis>,
    /// When it was last fetched for an unknown `kid`.
    forced: Option<Millis>,
}

impl Turn {
    fn must_wait(&self, reason: Reason, now: Millis) -> bool {
        let within = |last: Option<Millis>, gap| last.is_some_and(|last| now - last < gap);
        within(self.failed, AFTER_FAILURE) || (reason == Reason::UnknownKey && within(self.forced, BETWEEN_UNKNOWN))
    }
}

/// Why something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NotFresh,
    UnknownKey,
}

/// All that is kept. Bounded by what admins registered: see [`Keeper::poll`].
#[derive(Clone)]
pub(super) struct Keeper {
    world: World,
    fetcher: Fetcher,
    entries: Arc<DashMap<String, Arc<Entry>>>,
}

impl Keeper {
    pub(super) fn new(world: World, fetcher: Fetcher) -> Self {
        Self { world, fetcher, entries: Arc::default() }
    }

    /// What is known of a source now.
    pub(super) async fn current(&self, source: &Source) -> Result<Arc<Kept>, Untrusted> {
        let entry = self.entry(source);
        let now = self.world.now();
        let kept = entry.kept.load_full();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return Ok(kept.clone());
        }
        self.refresh(&entry, kept.map(|kept| kept.fetched), Reason::NotFresh).await;
        let kept = entry.kept.load_full().filter(|kept| self.world.now() - kept.fetched < STALE_AT_MOST);
        kept.ok_or(Untrusted::UNAVAILABLE)
    }

    /// What is known after looking again, because `seen` did not hold the key; `seen` again if it is too early.
    pub(super) async fn newer(&self, source: &Source, seen: Arc<Kept>) -> Arc<Kept> {
        if seen.found.fresh.is_none() {
            return seen;
        }
        let entry = self.entry(source);
        self.refresh(&entry, Some(seen.fetched), Reason::UnknownKey).await;
        entry.kept.load_full().unwrap_or(seen)
    }

    /// Fetches what is not fresh, without anybody waiting for it, and forgets what is not registered any more.
    pub(super) fn poll(&self, due: impl IntoIterator<Item = Source>, registry: &Registry) {
        self.entries.retain(|_, entry| entry.source.is_registered(registry));
        for source in due {
            let entry = self.entry(&source);
            let kept = entry.kept.load_full();
            if !kept.as_ref().is_some_and(|kept| kept.is_fresh(self.world.now())) && entry.turn.try_lock().is_ok() {
                let keeper = self.clone();
                tokio::spawn(async move {
                    keeper.fetch(entry, kept.map(|kept| kept.fetched), Reason::NotFresh).await;
                });
            }
        }
    }

    fn entry(&self, source: &Source) -> Arc<Entry> {
        let fresh = || {
            Arc::new(Entry { source: source.clone(), kept: ArcSwapOption::empty(), turn: Mutex::new(Turn::default()) })
        };
        let name = source.name();
        if let Some(entry) = self.entries.get(&name)
            && entry.source.is_same(source)
        {
            return entry.clone();
        }
        let mut place = self.entries.entry(name).or_insert_with(fresh);
        if !place.source.is_same(source) {
            *place = fresh();
        }
        place.clone()
    }

    /// Waits for a fetch, unless it is too early for one. It goes on when whoever asked for it hangs up: the next one
    /// finds its fruit, and nobody can start fetches by coming and going.
    async fn refresh(&self, entry: &Arc<Entry>, seen: Option<Millis>, reason: Reason) {
        if entry.turn.try_lock().is_ok_and(|turn| turn.must_wait(reason, self.world.now())) {
            return;
        }
        let (keeper, entry) = (self.clone(), entry.clone());
        if tokio::spawn(async move { keeper.fetch(entry, seen, reason).await }).await.is_err() {
            tracing::error!("fetching keys panicked");
        }
    }

    async fn fetch(&self, entry: Arc<Entry>, seen: Option<Millis>, reason: Reason) {
        let mut turn = entry.turn.lock().await;
        let now = self.world.now();
        // Somebody else fetched it while we waited for our turn.
        let is_newer = |kept: &Arc<Kept>| seen.is_none_or(|seen| kept.fetched > seen);
        if entry.kept.load().as_ref().is_some_and(is_newer) || turn.must_wait(reason, now) {
            return;
        }
        if reason == Reason::UnknownKey {
            turn.forced = Some(now);
        }
        match entry.source.find(&self.fetcher).await {
            Ok(found) => {
                turn.failed = None;
                // Later than anything seen before, so that those who wait can tell.
                let fetched = now.max(seen.map_or(now, |seen| seen.saturating_add(1)));
                entry.kept.store(Some(Arc::new(Kept { found, fetched })));
                metrics::counter!("hallpass_trust_fetches_total", "outcome" => "ok").increment(1);
            }
            Err(problem) => {
                turn.failed = Some(self.world.now());
                metrics::counter!("hallpass_trust_fetches_total", "outcome" => "failed").increment(1);
                tracing::warn!(source = entry.source.name(), problem, "keys could not be fetched");
            }
        }
    }
}
