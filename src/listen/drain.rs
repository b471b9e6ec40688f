//! The end of a listener: connections finish what they are doing, within a limit.

use std::fmt;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::task::JoinSet;

use crate::supervise::{Phase, Supervisor};

/// Connections that are still open when no more are taken.
pub struct OpenConnections {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl fmt::Debug for OpenConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenConnections").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl OpenConnections {
    pub(super) fn new(graceful: GracefulShutdown, tasks: JoinSet<()>) -> Self {
        Self { graceful, tasks }
    }

    /// Waits at most `patience` for connections to finish what they are doing, or until the broker begins to abort. Then ends
    /// those that are left; `before_cut` is called first, if there are any.
    pub async fn drain(self, patience: Duration, supervisor: &Supervisor, before_cut: impl FnOnce()) {
        let Self { graceful, mut tasks } = self;
        let mut phases = supervisor.phases();
        let cut = tokio::select! {
            drained = tokio::time::timeout(patience, graceful.shutdown()) => {
                drained.is_err().then_some("connections were still busy after listen.drain_seconds; they are cut")
            }
            _ = phases.wait_for(|phase| *phase == Phase::Aborting) => {
                Some("connections that were still busy are cut, as a second signal asked for")
            }
        };
        if let Some(text) = cut {
            tracing::warn!("{text}");
            before_cut();
        }
        tasks.shutdown().await;
    }

    /// Ends them all after at most `patience`, and says nothing of it.
    pub async fn close(self, patience: Duration) {
        let Self { graceful, mut tasks } = self;
        if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
            tracing::debug!("somebody stays connected; that is cut");
        }
        tasks.shutdown().await;
    }
}
