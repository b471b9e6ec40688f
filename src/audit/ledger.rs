//! The writer: many waiting callers, one transaction, one fsync, and each answered when it is durable.
//!
//! All that the broker changes goes through here, so that a change and the record that tells of it are one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::audit::{CHECKPOINT_TYP, Checkpoint, chain, head_mac};
use crate::model::{AuditRow, Change, Event, Head};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::{Batch, Store, StoreError, StoredCheckpoint};
use crate::world::{Millis, World};

/// How often a broken database is tried again while outcomes wait.
const RETRY: Duration = Duration::from_millis(500);

/// Outcomes kept in memory while the database is away. Calls need an intent, so no more calls end than had begun.
const MAX_PENDING: usize = 100_000;

/// How the ledger works.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// Whose chain.
    pub node: String,
    /// `iss` of checkpoints.
    pub issuer: String,
    /// Records in one transaction, at most.
    pub max_batch: usize,
    /// Callers that may wait; more are refused at once.
    pub max_waiting: usize,
    /// A signed checkpoint after so many records …
    pub checkpoint_every: i64,
    /// … or after so much time, if there is a new record.
    pub checkpoint_after_ms: Millis,
}

/// Why something was not recorded, and so not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Too many wait.
    #[error("too many callers wait for the audit log")]
    Busy,
    /// The database would not take it.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
    /// A rule of the schema refused it.
    #[error("the database refused the change: {0}")]
    Refused(String),
}

/// The proof that the record of `T` is durable. Only the ledger builds one (P4: no record, no call).
#[derive(Debug)]
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    /// What was recorded.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What was recorded.
    pub fn into_inner(self) -> T {
        self.0
    }
}

type Reply = oneshot::Sender<Result<(), LedgerError>>;

struct Entry {
    events: Vec<Event>,
    changes: Vec<Change>,
    /// Nobody waits for an outcome: it is written as soon as that can be done.
    reply: Option<Reply>,
}

enum Message {
    Entry(Entry),
    Checkpoint(oneshot::Sender<Result<String, LedgerError>>),
    Close(oneshot::Sender<()>),
}

/// The door to the writer.
#[derive(Clone)]
pub struct Ledger {
    entries: mpsc::Sender<Message>,
    healthy: Arc<AtomicBool>,
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
    ) -> Self {
        let (entries, waiting) = mpsc::channel(settings.max_waiting);
        let healthy = Arc::new(AtomicBool::new(true));
        let last_checkpoint = (head.seq, world.now());
        let writer = Writer {
            settings,
            store,
            registry,
            world,
            mac_key,
            healthy: healthy.clone(),
            head: Some(head),
            in_doubt: None,
            pending: VecDeque::new(),
            last_checkpoint,
        };
        tokio::spawn(writer.run(waiting));
        Self { entries, healthy }
    }

    /// Whether the last write went through.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Commits changes and the events that tell of them. When it returns, both are durable and the registry shows them.
    pub async fn commit(&self, events: Vec<Event>, changes: Vec<Change>) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let entry = Entry { events, changes, reply: Some(reply) };
        self.entries.try_send(Message::Entry(entry)).map_err(|_| LedgerError::Busy)?;
        answer.await.map_err(|_| LedgerError::Unavailable("the writer has stopped".into()))?
    }

    /// Records what is about to be done, and gives the proof that lets it be done.
    pub async fn intent<T>(&self, event: Event, about: T) -> Result<Recorded<T>, LedgerError> {
        self.commit(vec![event], Vec::new()).await?;
        Ok(Recorded(about))
    }

    /// Records how it ended. Nobody waits; while the database is away it is kept and tried again.
    pub fn outcome(&self, event: Event) {
        let message = Message::Entry(Entry { events: vec![event], changes: Vec::new(), reply: None });
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
        self.entries.try_send(Message::Checkpoint(reply)).map_err(|_| LedgerError::Busy)?;
        answer.await.map_err(|_| LedgerError::Unavailable("the writer has stopped".into()))?
    }

    /// Writes what waits, signs a last checkpoint and stops.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.entries.send(Message::Close(reply)).await.is_ok() && answer.await.is_err() {
            tracing::error!("the audit writer stopped before it had written everything");
        }
    }
}

struct Writer {
    settings: LedgerSettings,
    store: Store,
    registry: Arc<Registry>,
    world: World,
    mac_key: SecretBytes,
    healthy: Arc<AtomicBool>,
    /// `None` after a failure: whether the commit went through is then asked of the database.
    head: Option<Head>,
    /// What a failed commit would have made of the chain, and its changes: it may have gone through all the same.
    in_doubt: Option<(Head, Vec<Change>)>,
    pending: VecDeque<Entry>,
    last_checkpoint: (i64, Millis),
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
        loop {
            let first = if self.pending.is_empty() {
                let idle = Duration::from_millis(u64::try_from(self.settings.checkpoint_after_ms).unwrap_or(60_000));
                match tokio::time::timeout(idle, waiting.recv()).await {
                    Ok(Some(message)) => Some(message),
                    Ok(None) => return,
                    Err(_) => None,
                }
            } else {
                match tokio::time::timeout(RETRY, waiting.recv()).await {
                    Ok(Some(message)) => Some(message),
                    Ok(None) => return,
                    Err(_) => None,
                }
            };
            // Before anything is written again: did the commit that was given up go through after all?
            if let Err(error) = self.known_head().await {
                tracing::debug!(%error, "the end of the chain cannot be read yet");
            }
            let mut batch: Vec<Entry> = self.pending.drain(..).collect();
            let mut special = None;
            let mut next = first;
            while let Some(message) = next.take() {
                match message {
                    Message::Entry(entry) => batch.push(entry),
                    other => special = Some(other),
                }
                if batch.len() < self.settings.max_batch && special.is_none() {
                    next = waiting.try_recv().ok();
                }
            }
            self.write(batch).await;
            match special {
                Some(Message::Checkpoint(reply)) => {
                    let outcome = self.checkpoint().await;
                    if reply.send(outcome).is_err() {
                        tracing::debug!("nobody waits for the checkpoint any more");
                    }
                }
                Some(Message::Close(reply)) => {
                    self.flush(&mut waiting).await;
                    if reply.send(()).is_err() {
                        tracing::debug!("nobody waits for the audit writer to close");
                    }
                    return;
                }
                Some(Message::Entry(_)) | None => self.checkpoint_if_due().await,
            }
        }
    }

    /// Writes what is still in the queue; for one that will be refused, three tries are enough.
    async fn flush(&mut self, waiting: &mut mpsc::Receiver<Message>) {
        waiting.close();
        let mut rest: Vec<Entry> = self.pending.drain(..).collect();
        while let Ok(message) = waiting.try_recv() {
            if let Message::Entry(entry) = message {
                rest.push(entry);
            }
        }
        self.write(rest).await;
        for _ in 0..3 {
            if self.pending.is_empty() {
                break;
            }
            let again: Vec<Entry> = self.pending.drain(..).collect();
            self.write(again).await;
        }
        if !self.pending.is_empty() {
            tracing::error!(
                lost = self.pending.len(),
                "outcomes of calls are lost: the audit log could not be written"
            );
        }
        if let Err(error) = self.checkpoint().await {
            tracing::warn!(%error, "no last checkpoint");
        }
    }

    /// Writes a batch and answers everybody in it.
    async fn write(&mut self, batch: Vec<Entry>) {
        if batch.is_empty() {
            return;
        }
        match self.try_commit(&batch).await {
            Ok(()) => Self::answer(batch, &Ok(())),
            // One bad row must not take the others down: each for itself.
            Err(StoreError::Constraint(error)) if batch.len() == 1 => {
                tracing::error!(%error, "the database refused a change");
                Self::answer(batch, &Err(LedgerError::Refused("it contradicts what is there".into())));
            }
            Err(StoreError::Constraint(_)) => {
                for entry in batch {
                    Box::pin(self.write(vec![entry])).await;
                }
            }
            Err(error) => {
                self.healthy.store(false, Ordering::Relaxed);
                metrics::counter!("hallpass_audit_write_failures_total").increment(1);
                tracing::error!(%error, waiting = batch.len(), "the audit log cannot be written; refusing");
                let (wait, keep): (Vec<_>, Vec<_>) = batch.into_iter().partition(|entry| entry.reply.is_some());
                Self::answer(wait, &Err(LedgerError::Unavailable("the database is not available".into())));
                self.pending.extend(keep);
                while self.pending.len() > MAX_PENDING {
                    self.pending.pop_front();
                    tracing::error!("an outcome is lost: too many wait for the database");
                }
            }
        }
    }

    fn answer(batch: Vec<Entry>, outcome: &Result<(), LedgerError>) {
        for reply in batch.into_iter().filter_map(|entry| entry.reply) {
            // A caller that went away needs no answer; what it asked for stands in the log.
            _ = reply.send(outcome.clone());
        }
    }

    async fn try_commit(&mut self, batch: &[Entry]) -> Result<(), StoreError> {
        let mut head = self.known_head().await?;
        let now = self.world.now();
        let mut rows: Vec<AuditRow> = Vec::with_capacity(batch.len());
        let mut changes = Vec::new();
        for entry in batch {
            for event in &entry.events {
                let row = chain::append(&head, &self.settings.node, now, event)
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?;
                head = Head { seq: row.seq, hash: row.hash };
                rows.push(row);
            }
            changes.extend(entry.changes.iter().cloned());
        }
        let mac = head_mac(&self.mac_key, &self.settings.node, &head);
        let batch = Batch { node: &self.settings.node, now, changes: &changes, rows: &rows, head, mac };
        let outcome = self.store.commit(batch).await;
        match &outcome {
            Ok(()) => {
                self.apply(&changes);
                self.head = Some(head);
                self.healthy.store(true, Ordering::Relaxed);
                metrics::counter!("hallpass_audit_records_total").increment(rows.len() as u64);
                metrics::counter!("hallpass_audit_commits_total").increment(1);
            }
            Err(StoreError::Constraint(_)) => {}
            Err(_) => {
                self.head = None;
                self.in_doubt = Some((head, changes));
            }
        }
        outcome
    }

    /// The chain's end. After a failure it is read again: a commit whose answer was lost may have gone through, and
    /// then its changes are shown to the registry now (a revocation must not be in the database only).
    async fn known_head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let stored = self.store.audit_head(&self.settings.node).await?;
        let head = stored.map_or(Head::EMPTY, |signed| signed.head);
        if let Some((would_be, changes)) = self.in_doubt.take()
            && would_be == head
        {
            tracing::warn!(seq = head.seq, "a commit that was given up had gone through");
            // Every outcome that waits was in it.
            self.pending.clear();
            self.apply(&changes);
        }
        self.head = Some(head);
        Ok(head)
    }

    fn apply(&self, changes: &[Change]) {
        for change in changes {
            self.registry.apply(change);
        }
    }

    async fn checkpoint_if_due(&mut self) {
        let Some(head) = self.head else { return };
        let (seq, at) = self.last_checkpoint;
        let due = head.seq - seq >= self.settings.checkpoint_every
            || self.world.now() - at >= self.settings.checkpoint_after_ms;
        if head.seq > seq
            && due
            && let Err(error) = self.checkpoint().await
        {
            tracing::warn!(%error, "no checkpoint");
        }
    }

    async fn checkpoint(&mut self) -> Result<String, LedgerError> {
        let unavailable = |error: &dyn std::fmt::Display| LedgerError::Unavailable(error.to_string());
        let head = self.known_head().await.map_err(|error| unavailable(&error))?;
        let now = self.world.now();
        let claims = Checkpoint::new(&self.settings.issuer, &self.settings.node, &head, now);
        let jws = self.registry.keys().sign(CHECKPOINT_TYP, &claims).map_err(|error| unavailable(&error))?;
        let stored = StoredCheckpoint { node: self.settings.node.clone(), seq: head.seq, at: now, jws: jws.clone() };
        self.store.put_checkpoint(&stored).await.map_err(|error| unavailable(&error))?;
        self.last_checkpoint = (head.seq, now);
        Ok(jws)
    }
}
