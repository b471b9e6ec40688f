//! The door to the audit log: what is to be recorded is handed to the writer, and each caller is answered when it is durable.
//!
//! All that the broker changes goes through here, so that a change and the record that tells of it are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::chain::Draft;
use crate::audit::error::{LedgerError, away, stopped};
use crate::audit::index::Indexer;
use crate::audit::intent::{Intent, IntentNumber, Recorded};
use crate::audit::settings::{LedgerSettings, Priority};
use crate::audit::writer::{Entry, Message, Tie, Writer};
use crate::model::{Change, Event, Guard, Head};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::Store;
use crate::supervise::Supervisor;
use crate::world::World;

/// The door to the writer.
#[derive(Clone)]
pub struct Ledger {
    entries: mpsc::Sender<Message>,
    healthy: Arc<AtomicBool>,
    committed: watch::Receiver<i64>,
    indexed: watch::Receiver<i64>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl Ledger {
    /// Starts the writer on the current runtime. `head` is the end of the chain; `mac_key` signs the new ends.
    pub fn start(
        settings: LedgerSettings,
        store: Store,
        registry: Arc<Registry>,
        world: World,
        head: Head,
        mac_key: SecretBytes,
        supervisor: &Supervisor,
    ) -> Self {
        let (entries, waiting) = mpsc::channel(settings.max_waiting);
        let healthy = Arc::new(AtomicBool::new(true));
        let (committed, seen) = watch::channel(head.seq);
        let indexer = Indexer::new(store.clone(), settings.node.clone(), seen.clone());
        let indexed = indexer.indexed();
        // Searches find everything without it, only more slowly: the broker goes on if it is lost.
        supervisor.spawn_optional("audit index", indexer.run());
        let writer = Writer::new(settings, store, registry, world, head, mac_key, healthy.clone(), committed);
        supervisor.spawn("audit writer", async move {
            writer.run(waiting).await;
            // It was closed, or nobody is left who could send.
            Ok(())
        });
        Self { entries, healthy, committed: seen, indexed }
    }

    /// Whether the last write of a record went through. If not, everybody is refused until the writer, which tries again by
    /// itself, has written one.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// The number of this node's last record, as it is committed. A follower waits for it to change and then reads the
    /// segments behind the last one that it has seen ([`Store::segments`]): it never sits in the writer's queue.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.committed.clone()
    }

    /// How many of this node's records are not in the search index yet. Searches look at those one by one.
    pub fn index_lag(&self) -> i64 {
        self.committed.borrow().saturating_sub(*self.indexed.borrow()).max(0)
    }

    /// Commits changes and the events that tell of them. When it returns, both are durable and the registry shows them.
    pub async fn commit(&self, events: Vec<Event>, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.commit_if(Vec::new(), events, changes).await
    }

    /// As [`Self::commit`], if all guards hold.
    ///
    /// # Errors
    /// [`LedgerError::Spent`]: nothing was changed or recorded.
    pub async fn commit_if(
        &self,
        guards: Vec<Guard>,
        events: Vec<Event>,
        changes: Vec<Change>,
    ) -> Result<(), LedgerError> {
        self.write(Entry::new(guards, drafts(&events)?, changes, None, Priority::Now)).await
    }

    /// Records what is about to be done, if all guards hold, and gives the proof that lets it be done. `number` is set
    /// once the record is durable.
    pub async fn intent<T: Intent>(
        &self,
        about: T,
        with: T::With<'_>,
        guards: Vec<Guard>,
        number: &IntentNumber,
        priority: Priority,
    ) -> Result<Recorded<T>, LedgerError> {
        let drafts = drafts(&[about.record(with)])?;
        let tie = Some(Tie::Intent(number.clone()));
        self.write(Entry::new(guards, drafts, Vec::new(), tie, priority)).await?;
        Ok(Recorded::new(about, number))
    }

    /// Records that something was refused. Anybody can cause as many as they like, and only who is refused waits for it.
    pub async fn refusal(&self, event: Event) -> Result<(), LedgerError> {
        self.refusal_spending(event, Vec::new()).await
    }

    /// As [`Self::refusal`], of a request that has spent something all the same. It is recorded whether or not that was
    /// spent before.
    pub async fn refusal_spending(&self, event: Event, guards: Vec<Guard>) -> Result<(), LedgerError> {
        let entry = |guards| {
            Ok(Entry::new(guards, drafts(std::slice::from_ref(&event))?, Vec::new(), None, Priority::WithOthers))
        };
        match self.write(entry(guards)?).await {
            Err(LedgerError::Spent(_)) => self.write(entry(Vec::new())?).await,
            outcome => outcome,
        }
    }

    async fn write(&self, mut entry: Entry) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        entry.reply = Some(reply);
        self.ask(Message::Entry(entry))?;
        answer.await.map_err(|_| stopped())?
    }

    fn ask(&self, message: Message) -> Result<(), LedgerError> {
        if !self.is_healthy() {
            return Err(away());
        }
        self.entries.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })
    }

    /// Records something that nobody waits for; while the database is away it is kept and tried again.
    pub fn outcome(&self, event: &Event) {
        self.send(event, None);
    }

    /// Records how what was intended ended. Nobody waits; while the database is away it is kept and tried again.
    pub fn outcome_of(&self, intent: IntentNumber, event: &Event) {
        self.send(event, Some(Tie::OutcomeOf(intent)));
    }

    fn send(&self, event: &Event, tie: Option<Tie>) {
        let drafts = match drafts(std::slice::from_ref(event)) {
            Ok(drafts) => drafts,
            Err(error) => return tracing::error!(%error, "an outcome could not be recorded"),
        };
        let message = Message::Entry(Entry::new(Vec::new(), drafts, Vec::new(), tie, Priority::WithOthers));
        match self.entries.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => {
                tracing::error!("an outcome could not be recorded: the writer has stopped");
            }
            // The queue is full of callers: wait for a place beside them, outside of the call's path.
            Err(mpsc::error::TrySendError::Full(message)) => {
                let entries = self.entries.clone();
                tokio::spawn(async move {
                    if entries.send(message).await.is_err() {
                        tracing::error!("an outcome could not be recorded: the writer has stopped");
                    }
                });
            }
        }
    }

    /// A checkpoint of the chain's end, signed and stored.
    pub async fn checkpoint(&self) -> Result<String, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Checkpoint(reply))?;
        answer.await.map_err(|_| stopped())?
    }

    /// Writes what waits, signs a last checkpoint and stops.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.entries.send(Message::Close(reply)).await.is_ok() && answer.await.is_err() {
            tracing::error!("the audit writer stopped before it had written everything");
        }
        // It ends once the writer has, and must not use the database after that is closed.
        let mut indexed = self.indexed.clone();
        while indexed.changed().await.is_ok() {}
    }
}

/// Made by whoever wants them recorded: the writer is one for all.
fn drafts(events: &[Event]) -> Result<Vec<Draft>, LedgerError> {
    let drafts = events.iter().map(Draft::new).collect::<Result<_, _>>();
    drafts.map_err(|error| LedgerError::Refused(format!("it cannot be written as JSON: {error}")))
}
