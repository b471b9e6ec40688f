//! One number that changes whenever a right may have ended: running calls compare it before each piece of a body, and
//! those that wait are woken (P3).

use tokio::sync::watch;

use crate::model::{Agent, Change};
use crate::policy;

/// Counts what may have ended somebody's right to a call.
#[derive(Debug)]
pub struct Rights(watch::Sender<u64>);

impl Rights {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(1))
    }

    /// To be compared: while it is the same, every right that held holds, but for the time.
    pub fn version(&self) -> u64 {
        *self.0.borrow()
    }

    /// Changes of the number.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    pub(super) fn changed(&self) {
        self.0.send_modify(|version| *version += 1);
    }
}

/// Whether a change may end the right of a call that is in flight. What only adds (a new agent, a session, a version of a
/// credential) does not: thousands of running streams are not woken for each of a thousand registrations. A kind of
/// change that nobody thought of here counts.
pub(super) fn may_end(change: &Change, agent_before: Option<&Agent>) -> bool {
    match change {
        Change::PutAgent(agent) => {
            agent_before.is_some_and(|before| before.status != agent.status || before.roles != agent.roles)
        }
        Change::PutDefinition { kind, .. } | Change::RemoveDefinition { kind, .. } => policy::grants(*kind),
        Change::PutSession(_)
        | Change::AddSecret { .. }
        | Change::AddCredentialVersion { .. }
        | Change::Rewrap(_)
        | Change::Prune { .. }
        | Change::PutKey(_)
        | Change::PutBrokerSecret { .. } => false,
        _ => true,
    }
}
