//! The writer: many waiting callers, one transaction, one fsync, and each answered when it is durable.
//!
//! All that the broker changes goes through here, so that a change and the record that tells of it are one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::audit::in_doubt::{Attempt, InDoubt};
use crate::audit::{CHECKPOINT_TYP, Checkpoint, chain, head_is_authentic, head_mac};
use crate::model::{AuditRow, Change, Event, EventKind, Head};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::{Batch, Store, StoreError, StoredCheckpoint};
use crate::supervise::Supervisor;
use crate::world::{Millis, World, monotonic};

/// How long after a failure the database is tried again. Until it takes a record, everybody is refused at once: each of
/// them would wait in vain for as long as a database that is away takes to say nothing.
const RETRY: Duration = Duration::from_millis(500);

/// While it stays away, the log says so this often.
const REMIND: Duration = Duration::from_secs(60);

/// How long records that are in no haste wait for one that is, to be written with it. A commit that holds nothing else makes
/// the next intent wait until its fsync is over.
const LINGER: Duration = Duration::from_millis(5);

/// Nobody would gain by it if they waited when nothing that is in haste has come for so long.
const HASTE_IS_OVER: Duration = Duration::from_millis(100);

/// More records than this are worth a commit of their own.
const MOST_LINGERING: usize = 32;

/// How long the database may take to say where the chain ends.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// How often in a row another writer may be ahead of us before we give up for now.
const MAX_OVERTAKEN: usize = 3;

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

/// How soon a record has to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// At once.
    Now,
    /// Where there are many of them, they can wait a few milliseconds, to be written together or with one that is in haste:
    /// that one then does not wait for a commit of theirs first.
    WithOthers,
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
    /// Nobody waits for an outcome.
    reply: Option<Reply>,
    haste: Haste,
    /// In the order in which the writer took them, from 1.
    number: u64,
}

/// Why the database refused a batch.
enum Refusal {
    /// The chain had moved on: on its new end, the batch may fit.
    Overtaken,
    /// A row of it contradicts what is there.
    Row,
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
        supervisor: &Supervisor,
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
            last: head,
            in_doubt: InDoubt::default(),
            pending: VecDeque::new(),
            linger_until: None,
            last_hasty: None,
            not_before: None,
            away: None,
            taken: 0,
            last_checkpoint,
        };
        supervisor.spawn("audit writer", async move {
            writer.run(waiting).await;
            // It was closed, or nobody is left who could send.
            Ok(())
        });
        Self { entries, healthy }
    }

    /// Whether the last write of a record went through. If not, everybody is refused until the writer, which tries again by
    /// itself, has written one.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Commits changes and the events that tell of them. When it returns, both are durable and the registry shows them.
    pub async fn commit(&self, events: Vec<Event>, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.write(events, changes, Haste::Now).await
    }

    /// Records what is about to be done, and gives the proof that lets it be done.
    pub async fn intent<T>(&self, event: Event, about: T, haste: Haste) -> Result<Recorded<T>, LedgerError> {
        self.write(vec![event], Vec::new(), haste).await?;
        Ok(Recorded(about))
    }

    /// Records that something was refused. Anybody can cause as many as they like, and only who is refused waits for it.
    pub async fn refusal(&self, event: Event) -> Result<(), LedgerError> {
        self.refusal_with(event, Vec::new()).await
    }

    /// As [`Self::refusal`], of a request that has changed something all the same.
    pub async fn refusal_with(&self, event: Event, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.write(vec![event], changes, Haste::WithOthers).await
    }

    async fn write(&self, events: Vec<Event>, changes: Vec<Change>, haste: Haste) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let entry = Entry { events, changes, reply: Some(reply), haste, number: 0 };
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

    /// Records how it ended. Nobody waits; while the database is away it is kept and tried again.
    pub fn outcome(&self, event: Event) {
        let haste = Haste::WithOthers;
        let message = Message::Entry(Entry { events: vec![event], changes: Vec::new(), reply: None, haste, number: 0 });
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
    }
}

/// The database does not take records, as far as is known.
struct Away {
    since: Instant,
    /// When it is tried again.
    next_try: Instant,
    /// When the log last said so.
    said: Instant,
}

fn away() -> LedgerError {
    LedgerError::Unavailable("the database is not available".into())
}

fn stopped() -> LedgerError {
    LedgerError::Unavailable("the writer has stopped".into())
}

struct Writer {
    settings: LedgerSettings,
    store: Store,
    registry: Arc<Registry>,
    world: World,
    mac_key: SecretBytes,
    healthy: Arc<AtomicBool>,
    /// `None` after a failure: where the chain ends is then asked of the database.
    head: Option<Head>,
    /// The end that was last known for certain. Commits in doubt were to begin behind it.
    last: Head,
    in_doubt: InDoubt,
    /// What is still to be written, in order. Between two rounds only what is in no haste waits here.
    pending: VecDeque<Entry>,
    /// When what waits is written at the latest, if all of it waits for a record that is in haste.
    linger_until: Option<Instant>,
    /// When something that is in haste last came.
    last_hasty: Option<Instant>,
    /// Before then, nothing is written for the sake of somebody alone who is in no haste.
    not_before: Option<Instant>,
    away: Option<Away>,
    /// How many entries were ever taken from the queue.
    taken: u64,
    last_checkpoint: (i64, Millis),
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
        loop {
            let wait = if let Some(away) = &self.away {
                away.next_try.saturating_duration_since(monotonic())
            } else if self.pending.is_empty() {
                Duration::from_millis(u64::try_from(self.settings.checkpoint_after_ms).unwrap_or(60_000))
            } else {
                self.linger_until.map_or(RETRY, |until| until.saturating_duration_since(monotonic()))
            };
            let mut next = match tokio::time::timeout(wait, waiting.recv()).await {
                Ok(Some(message)) => Some(message),
                Ok(None) => return self.write_pending().await,
                Err(_) => None,
            };
            let mut special = None;
            let mut took = 0;
            while let Some(message) = next.take() {
                match message {
                    Message::Entry(entry) => self.take(entry),
                    other => special = Some(other),
                }
                took += 1;
                if took < self.settings.max_batch && special.is_none() {
                    // Nothing waits, or nobody is left who could send: that is seen at the next look.
                    next = waiting.try_recv().ok();
                }
            }
            if self.is_away_still() {
                self.refuse_waiting();
                match special {
                    Some(Message::Checkpoint(reply)) => _ = reply.send(Err(away())).is_ok(),
                    Some(close @ Message::Close(_)) => return self.close(close, &mut waiting).await,
                    Some(Message::Entry(_)) | None => {}
                }
                continue;
            }
            if special.is_none() && self.may_linger() {
                continue;
            }
            self.write_round().await;
            match special {
                Some(Message::Checkpoint(reply)) => {
                    let outcome = self.checkpoint().await;
                    if reply.send(outcome).is_err() {
                        tracing::debug!("nobody waits for the checkpoint any more");
                    }
                }
                Some(close @ Message::Close(_)) => return self.close(close, &mut waiting).await,
                Some(Message::Entry(_)) | None => self.checkpoint_if_due().await,
            }
        }
    }

    async fn close(&mut self, message: Message, waiting: &mut mpsc::Receiver<Message>) {
        self.flush(waiting).await;
        if let Message::Close(reply) = message
            && reply.send(()).is_err()
        {
            tracing::debug!("nobody waits for the audit writer to close");
        }
    }

    /// Whether the database is away and it is too early to try it again. When it is time, there is a record to try with: on
    /// a full disk there is often room for less.
    fn is_away_still(&mut self) -> bool {
        match &self.away {
            None => return false,
            Some(away) if monotonic() < away.next_try => return true,
            Some(_) => {}
        }
        self.refuse_waiting();
        if self.pending.is_empty() {
            let mut event = Event::new(EventKind::Broker);
            event.action = Some("audit log writable again".into());
            let haste = Haste::WithOthers;
            self.take(Entry { events: vec![event], changes: Vec::new(), reply: None, haste, number: 0 });
        }
        false
    }

    /// Whether there are only a few records, none of them in haste, which can wait a moment longer.
    fn may_linger(&mut self) -> bool {
        let few = !self.pending.is_empty() && self.pending.len() <= MOST_LINGERING;
        if !few
            || self.away.is_some()
            || self.head.is_none()
            || self.pending.iter().any(|entry| entry.haste == Haste::Now)
        {
            return false;
        }
        let now = monotonic();
        let until = self.linger_until.get_or_insert(now + LINGER);
        if self.pending.iter().any(Entry::is_waited_for) {
            // The first one is not kept waiting, only those who follow close behind.
            let haste_is_over = self.last_hasty.is_none_or(|last| now >= last + HASTE_IS_OVER);
            *until = self.not_before.filter(|_| !haste_is_over).unwrap_or(now).min(*until);
        }
        now < *until
    }

    /// Writes what waits. If that is for somebody's sake alone who is in no haste, the next such has to wait.
    async fn write_round(&mut self) {
        self.linger_until = None;
        let unhurried = self.pending.iter().any(Entry::is_waited_for)
            && self.pending.iter().all(|entry| entry.haste == Haste::WithOthers);
        self.write_pending().await;
        if unhurried {
            // From its end: on a slow disk, too, there is a pause between two of these.
            self.not_before = Some(monotonic() + LINGER);
        }
    }

    fn take(&mut self, mut entry: Entry) {
        self.taken += 1;
        entry.number = self.taken;
        if entry.haste == Haste::Now {
            self.last_hasty = Some(monotonic());
        }
        self.pending.push_back(entry);
    }

    /// Writes what is still in the queue; for a database that does not take it, four tries are enough.
    async fn flush(&mut self, waiting: &mut mpsc::Receiver<Message>) {
        waiting.close();
        while let Ok(message) = waiting.try_recv() {
            if let Message::Entry(entry) = message {
                self.take(entry);
            }
        }
        for _ in 0..4 {
            self.write_pending().await;
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

    /// Writes what waits, in batches, and answers everybody in it. Where the chain ends is known before a batch is
    /// taken, so that what a commit in doubt has written after all is not written again.
    async fn write_pending(&mut self) {
        // One bad row must not take the others down: so many of the next are written each for itself.
        let mut alone = 0_usize;
        let mut overtaken = 0;
        while !self.pending.is_empty() {
            let head = match self.known_head().await {
                Ok(head) => head,
                Err(error) => return self.give_up(&error),
            };
            let count = if alone > 0 { 1 } else { self.settings.max_batch.max(1) }.min(self.pending.len());
            if count == 0 {
                return;
            }
            match self.try_commit(head, count).await {
                Ok(()) => {
                    alone = alone.saturating_sub(1);
                    overtaken = 0;
                    for entry in self.pending.drain(..count) {
                        entry.answer(Ok(()));
                    }
                }
                Err(StoreError::Constraint(error)) => match self.why_refused(head).await {
                    Ok(Refusal::Overtaken) if overtaken < MAX_OVERTAKEN => overtaken += 1,
                    Ok(Refusal::Overtaken) => return self.give_up(&StoreError::Constraint(error)),
                    Ok(Refusal::Row) if count == 1 => {
                        alone = alone.saturating_sub(1);
                        if let Some(entry) = self.pending.pop_front() {
                            let lost = entry.reply.is_none();
                            tracing::error!(%error, outcome_lost = lost, "the database refused a change");
                            entry.answer(Err(LedgerError::Refused("it contradicts what is there".into())));
                        }
                    }
                    Ok(Refusal::Row) => alone = count,
                    Err(error) => return self.give_up(&error),
                },
                Err(error) => return self.give_up(&error),
            }
        }
    }

    /// For now nothing can be written: who waits is told so, and outcomes wait on.
    fn give_up(&mut self, error: &StoreError) {
        self.healthy.store(false, Ordering::Relaxed);
        metrics::counter!("hallpass_audit_write_failures_total").increment(1);
        let now = monotonic();
        let away = self.away.get_or_insert(Away { since: now, next_try: now, said: now });
        let is_first = away.since == now;
        if is_first || now >= away.said + REMIND {
            away.said = now;
            let (waiting, seconds) = (self.pending.len(), (now - away.since).as_secs());
            tracing::error!(%error, waiting, seconds, "the audit log cannot be written; refusing until it can again");
        }
        // Where only the connection broke, the next one does.
        away.next_try = if is_first { now } else { now + RETRY };
        self.refuse_waiting();
        while self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
            tracing::error!("an outcome is lost: too many wait for the database");
        }
    }

    /// A record went through.
    fn is_back(&mut self) {
        if let Some(away) = self.away.take() {
            let seconds = away.since.elapsed().as_secs();
            tracing::info!(seconds, "the audit log can be written again; nothing is refused for it any more");
        }
        self.healthy.store(true, Ordering::Relaxed);
    }

    fn refuse_waiting(&mut self) {
        let (wait, keep): (VecDeque<_>, VecDeque<_>) = self.pending.drain(..).partition(|entry| entry.reply.is_some());
        for entry in wait {
            entry.answer(Err(away()));
        }
        self.pending = keep;
    }

    /// Commits the first `count` of what waits, behind `head`.
    async fn try_commit(&mut self, mut head: Head, count: usize) -> Result<(), StoreError> {
        let now = self.world.now();
        let mut rows: Vec<AuditRow> = Vec::with_capacity(count);
        let mut changes = Vec::new();
        let mut outcomes_to = 0;
        for entry in self.pending.iter().take(count) {
            for event in &entry.events {
                let row = chain::append(&head, &self.settings.node, now, event)
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?;
                head = Head { seq: row.seq, hash: row.hash };
                rows.push(row);
            }
            changes.extend(entry.changes.iter().cloned());
            if entry.reply.is_none() {
                outcomes_to = entry.number;
            }
        }
        let mac = head_mac(&self.mac_key, &self.settings.node, &head);
        let batch = Batch { node: &self.settings.node, now, changes: &changes, rows: &rows, head, mac };
        let outcome = self.store.commit(batch).await;
        match &outcome {
            Ok(epoch) => {
                self.registry.apply_all(&changes, *epoch);
                count_revocations(&changes);
                self.is_at(head);
                if !rows.is_empty() {
                    // Ours now has the place in the chain that they would have taken.
                    self.in_doubt.clear();
                    // A commit without a record may find room where a record does not.
                    self.is_back();
                }
                metrics::counter!("hallpass_audit_records_total").increment(rows.len() as u64);
                metrics::counter!("hallpass_audit_commits_total").increment(1);
            }
            Err(StoreError::Constraint(_)) => {}
            Err(_) => {
                self.head = None;
                self.in_doubt.add(Attempt { would_be: head, changes, outcomes_to });
            }
        }
        outcome.map(drop)
    }

    /// Whether the chain was at fault or a row. A COMMIT that we had given up may land late, and take our place.
    async fn why_refused(&mut self, head: Head) -> Result<Refusal, StoreError> {
        self.head = None;
        let beyond = in_time(self.store.audit_page(&self.settings.node, head.seq, 1)).await?;
        if self.known_head().await? != head {
            return Ok(Refusal::Overtaken);
        }
        match beyond.first() {
            None => Ok(Refusal::Row),
            Some(row) => Err(StoreError::Corrupt(format!(
                "audit record {} lies behind the chain's end, {}: somebody other than Hallpass put it there",
                row.seq, head.seq
            ))),
        }
    }

    /// The chain's end. After a failure it is read again: a commit whose answer was lost may have gone through, and
    /// then its changes are shown to the registry now (a revocation must not be in the database only).
    async fn known_head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let node = &self.settings.node;
        let head = match in_time(self.store.audit_head(node)).await? {
            None => Head::EMPTY,
            Some(signed) if head_is_authentic(&self.mac_key, node, &signed.head, &signed.mac) => signed.head,
            Some(signed) => {
                return Err(StoreError::Corrupt(format!(
                    "the MAC of the audit chain's end, {}, does not fit: somebody altered it",
                    signed.head.seq
                )));
            }
        };
        let last = self.last;
        if head.seq < last.seq || (head.seq == last.seq && head.hash != last.hash) {
            return Err(StoreError::Corrupt(format!(
                "the audit chain ends at {} but was at {} before: records are gone (if that is a backup you restored, \
                 restart Hallpass)",
                head.seq, last.seq
            )));
        }
        // While it has not moved, a commit in doubt may still land: it stays in doubt.
        if head != last {
            self.settle(&head).await?;
        }
        self.is_at(head);
        Ok(head)
    }

    /// The chain has moved without our knowing: by a commit of ours, or by another writer?
    async fn settle(&mut self, head: &Head) -> Result<(), StoreError> {
        let mut landed = None;
        for seq in self.in_doubt.places(head) {
            let rows = in_time(self.store.audit_page(&self.settings.node, seq - 1, 1)).await?;
            let end = rows.first().map(|row| Head { seq: row.seq, hash: row.hash });
            landed = end.filter(|end| self.in_doubt.ends_with(end));
            if landed.is_some() {
                break;
            }
        }
        // Whatever a commit of ours raised the epoch to, it is this by now: nobody else writes this database.
        let epoch = in_time(self.store.epoch()).await?;
        let Some(attempt) = self.in_doubt.settle(landed.as_ref()) else {
            tracing::error!(seq = head.seq, was = self.last.seq, "another process writes this node's audit chain");
            return Ok(());
        };
        tracing::warn!(seq = attempt.would_be.seq, "a commit that was given up had gone through");
        // Only the outcomes that were in it: later ones wait on.
        self.pending.retain(|entry| entry.reply.is_some() || entry.number > attempt.outcomes_to);
        self.registry.apply_all(&attempt.changes, Some(epoch));
        count_revocations(&attempt.changes);
        self.is_back();
        Ok(())
    }

    fn is_at(&mut self, head: Head) {
        self.head = Some(head);
        self.last = head;
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
        in_time(self.store.put_checkpoint(&stored)).await.map_err(|error| unavailable(&error))?;
        self.last_checkpoint = (head.seq, now);
        Ok(jws)
    }
}

impl Entry {
    fn is_waited_for(&self) -> bool {
        self.reply.is_some()
    }

    fn answer(self, outcome: Result<(), LedgerError>) {
        if let Some(reply) = self.reply {
            // A caller that went away needs no answer; what it asked for stands in the log.
            _ = reply.send(outcome);
        }
    }
}

/// What is in force, not what was asked for.
fn count_revocations(changes: &[Change]) {
    for change in changes {
        if let Change::PutRevocation(revocation) = change {
            metrics::counter!("hallpass_revocations_total", "kind" => revocation.kind.as_str()).increment(1);
        }
    }
}

/// A reading that is given up after a while.
async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(READ_PATIENCE, reading).await.unwrap_or(Err(StoreError::Timeout))
}
