//! How many connections there may be: to one place, and in all.

use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::outbound::pool::lock;

/// How many connections all pools may have together.
pub struct ConnectionLimits {
    all: Arc<Semaphore>,
    pools: Mutex<Vec<Weak<dyn Shed>>>,
}

/// Gives up an idle connection for another pool.
pub(super) trait Shed: Send + Sync {
    /// Closes one idle connection; whether there was one.
    fn shed(&self) -> bool;
}

impl std::fmt::Debug for ConnectionLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionLimits").field("left", &self.all.available_permits()).finish_non_exhaustive()
    }
}

impl ConnectionLimits {
    /// `most`: connections of all pools at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(most)), pools: Mutex::default() })
    }

    pub(super) fn join(&self, pool: Weak<dyn Shed>) {
        let mut pools = lock(&self.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Closes one idle connection of any pool.
    fn shed(&self) {
        // Not under the lock: to drop a pool takes it, and so may the last owner of one that is upgraded here.
        let pools: Vec<_> = lock(&self.pools).iter().filter_map(Weak::upgrade).collect();
        _ = pools.iter().any(|pool| pool.shed());
    }
}

/// What one pool may have.
pub(super) struct Room {
    own: Arc<Semaphore>,
    limits: Arc<ConnectionLimits>,
}

/// One connection's share; it is given back when the connection has ended.
pub(super) struct Permits {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(most: usize, limits: Arc<ConnectionLimits>) -> Self {
        Self { own: Arc::new(Semaphore::new(most)), limits }
    }

    /// Room for one more connection. If only the others are in the way, one of their idle connections is closed.
    pub(super) fn take(&self) -> Option<Permits> {
        let own = self.own.clone().try_acquire_owned().ok()?;
        match self.limits.all.clone().try_acquire_owned() {
            Ok(of_all) => Some(Permits { _own: own, _of_all: of_all }),
            Err(_) => {
                self.limits.shed();
                None
            }
        }
    }

    /// Whether nothing is left for others: then no connection is kept for later.
    pub(super) fn is_short(&self) -> bool {
        self.limits.all.available_permits() == 0
    }

    /// Resolves when all pools together have room again. While only this pool is full it does not.
    pub(super) async fn freed_elsewhere(&self) {
        if self.own.available_permits() == 0 {
            return std::future::pending().await;
        }
        drop(self.limits.all.acquire().await);
    }
}

#[cfg(test)]
impl ConnectionLimits {
    pub(super) fn left(&self) -> usize {
        self.all.available_permits()
    }
}
