//! The schedules of a broker that serves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::reload::Reload;
use crate::manage::Manager;
use crate::model::Change;
use crate::store::{ServeLock, StoreError};
use crate::supervise::{Phase, Supervisor};

/// How often schedules are looked at: key rotation, forgetting what cannot matter any more, the database lock.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Schedules: key rotation, renewed certificates, pruning, and whether the database is still ours alone.
pub(super) async fn keep(
    supervisor: Supervisor,
    manager: Arc<Manager>,
    metrics: PrometheusHandle,
    mut lock: ServeLock,
    reload: Arc<Mutex<Reload>>,
) -> Result<(), String> {
    let mut phases = supervisor.phases();
    let mut last_prune = manager.world.now();
    let mut lock_is_lost = false;
    loop {
        if tokio::time::timeout(TICK, phases.wait_for(|phase| *phase != Phase::Serving)).await.is_ok() {
            return Ok(());
        }
        reload.lock().unwrap_or_else(PoisonError::into_inner).tick();
        let held = tokio::time::timeout(TICK * 2, lock.is_held()).await.unwrap_or(false);
        if !held {
            match manager.store.lock().await {
                Ok(again) => {
                    lock = again;
                    lock_is_lost = false;
                    tracing::info!("the database's lock is held again");
                }
                // PostgreSQL stood still: the lock was ours all the time.
                Err(StoreError::Locked(_)) if tokio::time::timeout(TICK * 2, lock.is_held()).await.unwrap_or(false) => {
                }
                Err(error @ StoreError::Locked(_)) => {
                    // Its revocations would not be heard here: better no broker than a deaf one (P3).
                    return Err(format!("another broker took the database over: {error}"));
                }
                Err(error) => {
                    if !lock_is_lost {
                        tracing::error!(%error, "the database's lock is lost and cannot be taken again yet");
                    }
                    lock_is_lost = true;
                }
            }
        }
        // What histograms have gathered is folded here; without it they grow with every call until somebody asks.
        metrics.run_upkeep();
        if let Err(error) = manager.keys.tick().await {
            tracing::error!(%error, "the scheduled key rotation failed; it is tried again");
        }
        manager.issuer.tick();
        let now = manager.world.now();
        if now - last_prune > 60_000 {
            last_prune = now;
            if let Err(error) = manager.ledger.commit(Vec::new(), vec![Change::Prune { before: now }]).await {
                tracing::warn!(%error, "what has ended could not be pruned; it is tried again");
            }
        }
    }
}
