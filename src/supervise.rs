//! Supervision of the broker's own tasks, and the phases in which it stops.
//!
//! A task that panics is gone, and the runtime tells nobody. Without its audit writer a broker would refuse everything and
//! still look alive. So [`Supervisor::spawn`] starts each task that the broker needs, and sees how it ends.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the broker is doing. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes connections.
    Serving,
    /// It takes no more connections. Calls in flight may finish.
    Draining,
    /// It ends calls in flight.
    Aborting,
}

/// Why an essential task ended although nobody had asked for its end.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The task's name, for operators.
    pub part: &'static str,
    /// The reason, in one sentence, for the log.
    pub why: Arc<str>,
}

/// Watches the tasks of one broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<State>);

#[derive(Debug)]
struct State {
    phase: watch::Sender<Phase>,
    failure: watch::Sender<Option<Failure>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Of a broker that starts to serve.
    pub fn new() -> Self {
        Self(Arc::new(State { phase: watch::Sender::new(Phase::Serving), failure: watch::Sender::new(None) }))
    }

    /// What the broker is doing.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Follows [`Self::phase`].
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Goes forward to this phase.
    pub fn enter(&self, phase: Phase) {
        self.0.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    /// The first failure, if there was one.
    pub fn failure(&self) -> Option<Failure> {
        self.0.failure.borrow().clone()
    }

    /// Resolves when an essential task has failed.
    pub async fn until_failure(&self) -> Failure {
        let mut failure = self.0.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                // Not while `self` is here, which holds the sender.
                return std::future::pending().await;
            }
        }
    }

    /// Spawns an essential task: one without which the broker must not go on. It returns `Ok` when its end was asked for.
    /// `Err` and a panic are failures, and the broker begins to drain.
    pub fn spawn<F>(&self, part: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let supervisor = self.clone();
        tokio::spawn(async move {
            match tokio::spawn(task).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => supervisor.fail(part, &why),
                // If it was no panic, the runtime shuts down, and everything with it.
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        supervisor.fail(part, &format!("it panicked: {}", panic_text(panic.as_ref())));
                    }
                }
            }
        })
    }

    /// Spawns a task without which the broker is slower or says less, but keeps its promises: if it panics, the log says so,
    /// and the broker goes on.
    pub fn spawn_optional<F>(&self, part: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            if let Err(error) = tokio::spawn(task).await
                && let Ok(panic) = error.try_into_panic()
            {
                let why = panic_text(panic.as_ref());
                tracing::error!(part, why, "a part of the broker panicked; it goes on without until it is restarted");
            }
        })
    }

    fn fail(&self, part: &'static str, why: &str) {
        tracing::error!(part, why, "a part of the broker is lost, and it cannot go on without; it stops");
        self.0.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| Failure { part, why: why.into() });
            is_first
        });
        self.enter(Phase::Draining);
    }
}

/// The message of a panic, if it is a text.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_gives_up_is_a_failure_and_the_broker_drains() {
        let supervisor = Supervisor::new();
        supervisor.spawn("one", async { Ok(()) }).await.unwrap();
        assert!(supervisor.failure().is_none() && supervisor.phase() == Phase::Serving, "its end was asked for");
        let number = 7;
        supervisor.spawn("two", async move { panic!("number {number}") }).await.unwrap();
        supervisor.spawn("three", async { Err("had enough".to_owned()) }).await.unwrap();
        let failure = supervisor.until_failure().await;
        assert_eq!((failure.part, &*failure.why), ("two", "it panicked: number 7"), "the first one counts");
        assert_eq!(supervisor.phase(), Phase::Draining);
        let supervisor = Supervisor::new();
        supervisor.spawn_optional("four", async { panic!("no matter") }).await.unwrap();
        assert!(supervisor.failure().is_none() && supervisor.phase() == Phase::Serving, "it goes on without");
        supervisor.spawn("three", async { Err("had enough".to_owned()) }).await.unwrap();
        assert_eq!(&*supervisor.until_failure().await.why, "had enough");
    }

    #[tokio::test]
    async fn phases_go_forward_only() {
        let supervisor = Supervisor::new();
        supervisor.enter(Phase::Aborting);
        supervisor.enter(Phase::Draining);
        assert_eq!((supervisor.phase(), *supervisor.phases().borrow()), (Phase::Aborting, Phase::Aborting));
    }
}
