//! Whether the broker serves, is stopping, or has lost a part without which it must not go on.
//!
//! A task that panics is gone, and the runtime tells nobody: without its audit writer a broker would refuse everything for
//! ever and yet look alive. So each task that the broker needs is spawned by [`Life::vital`], which sees how it ends.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the broker is about. It only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are taken.
    Serving,
    /// No more are taken; calls in flight may finish.
    Draining,
    /// They may not any more.
    Cutting,
}

/// A part that is gone.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Its name, for operators.
    pub part: &'static str,
    /// Why, in one sentence, for the log.
    pub why: Arc<str>,
}

/// One broker's life. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Life(Arc<State>);

#[derive(Debug)]
struct State {
    phase: watch::Sender<Phase>,
    lost: watch::Sender<Option<Lost>>,
}

impl Life {
    /// Of a broker that begins to serve.
    pub fn begin() -> Self {
        Self(Arc::new(State { phase: watch::Sender::new(Phase::Serving), lost: watch::Sender::new(None) }))
    }

    /// What the broker is about.
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

    /// The part that was lost first, if any was.
    pub fn lost(&self) -> Option<Lost> {
        self.0.lost.borrow().clone()
    }

    /// Resolves when a part is lost.
    pub async fn until_lost(&self) -> Lost {
        let mut lost = self.0.lost.subscribe();
        loop {
            if let Some(lost) = lost.borrow_and_update().clone() {
                return lost;
            }
            if lost.changed().await.is_err() {
                // Not while `self` is here, which holds the sender.
                return std::future::pending().await;
            }
        }
    }

    /// Spawns a task without which the broker must not go on. The task returns `Ok` when its end was asked for. By `Err` and
    /// by a panic the part is lost, and the broker begins to drain.
    pub fn vital<F>(&self, part: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let life = self.clone();
        tokio::spawn(async move {
            match tokio::spawn(task).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => life.lose(part, &why),
                // If it was no panic, the runtime shuts down, and everything with it.
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        life.lose(part, &format!("it panicked: {}", panic_text(panic.as_ref())));
                    }
                }
            }
        })
    }

    fn lose(&self, part: &'static str, why: &str) {
        tracing::error!(part, why, "a part of the broker is lost, and it cannot go on without; it stops");
        self.0.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert_with(|| Lost { part, why: why.into() });
            is_first
        });
        self.enter(Phase::Draining);
    }
}

/// What a panic says, as far as it is a text.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_gives_up_is_lost_and_the_broker_drains() {
        let life = Life::begin();
        life.vital("one", async { Ok(()) }).await.unwrap();
        assert!(life.lost().is_none() && life.phase() == Phase::Serving, "its end was asked for");
        let number = 7;
        life.vital("two", async move { panic!("number {number}") }).await.unwrap();
        life.vital("three", async { Err("had enough".to_owned()) }).await.unwrap();
        let lost = life.until_lost().await;
        assert_eq!((lost.part, &*lost.why), ("two", "it panicked: number 7"), "the first one counts");
        assert_eq!(life.phase(), Phase::Draining);
        let life = Life::begin();
        life.vital("three", async { Err("had enough".to_owned()) }).await.unwrap();
        assert_eq!(&*life.until_lost().await.why, "had enough");
    }

    #[tokio::test]
    async fn phases_go_forward_only() {
        let life = Life::begin();
        life.enter(Phase::Cutting);
        life.enter(Phase::Draining);
        assert_eq!((life.phase(), *life.phases().borrow()), (Phase::Cutting, Phase::Cutting));
    }
}
