//! The writer: many waiting callers, one transaction, one fsync, and each answered when it is durable.
//!
//! This file takes from the queue and decides when to write; [`commit`] writes; [`end`] knows where the chain ends.

mod commit;
mod end;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::chain::Draft;
use crate::audit::error::{LedgerError, away};
use crate::audit::in_doubt::InDoubt;
use crate::audit::intent::IntentNumber;
use crate::audit::settings::{LedgerSettings, Priority};
use crate::model::{Change, Event, EventKind, Guard, Head};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::Store;
use crate::world::{Millis, World, monotonic};

/// How long after a failure the database is tried again. Until it takes a record, everybody is refused at once: each of
/// them would wait in vain for as long as a database that is away takes to say nothing.
const RETRY: Duration = Duration::from_millis(500);

/// How long coalesced records wait for an urgent one, to be written with it. A commit that holds nothing else makes the next
/// intent wait until its fsync is over.
const LINGER: Duration = Duration::from_millis(5);

/// Nobody would gain by it if they waited when nothing urgent has come for so long.
const NO_MORE_URGENT: Duration = Duration::from_millis(100);

/// More records than this are worth a commit of their own.
const MOST_LINGERING: usize = 32;

type Reply = oneshot::Sender<Result<(), LedgerError>>;

/// What somebody wants written.
pub(super) struct Entry {
    guards: Vec<Guard>,
    drafts: Vec<Draft>,
    changes: Vec<Change>,
    tie: Option<Tie>,
    /// Nobody waits for an outcome.
    pub(super) reply: Option<Reply>,
    priority: Priority,
    /// In the order in which the writer took them, from 1.
    number: u64,
}

/// What binds an outcome to its intent.
pub(super) enum Tie {
    /// This is the intent: its number is to be known.
    Intent(IntentNumber),
    /// This is the outcome of that intent.
    OutcomeOf(IntentNumber),
}

/// What the door sends.
pub(super) enum Message {
    Entry(Entry),
    Checkpoint(oneshot::Sender<Result<String, LedgerError>>),
    Close(oneshot::Sender<()>),
}

/// The database does not take records, as far as is known.
struct Away {
    since: Instant,
    /// When it is tried again.
    next_try: Instant,
    /// When the log last said so.
    said: Instant,
}

/// The one that writes.
pub(super) struct Writer {
    settings: LedgerSettings,
    store: Store,
    registry: Arc<Registry>,
    world: World,
    mac_key: SecretBytes,
    healthy: Arc<AtomicBool>,
    /// The last number, for followers.
    committed: watch::Sender<i64>,
    /// `None` after a failure: where the chain ends is then asked of the database.
    head: Option<Head>,
    /// The end that was last known for certain. Commits in doubt were to begin behind it.
    last: Head,
    in_doubt: InDoubt,
    /// What is still to be written, in order. Between two rounds only what is not urgent waits here.
    pending: VecDeque<Entry>,
    /// When what waits is written at the latest, if all of it waits for an urgent record.
    linger_until: Option<Instant>,
    /// When something urgent last came.
    last_urgent: Option<Instant>,
    /// Before then, nothing is written for coalesced ones alone that somebody waits for.
    not_before: Option<Instant>,
    away: Option<Away>,
    /// How many entries were ever taken from the queue.
    taken: u64,
    last_checkpoint: (i64, Millis),
}

impl Writer {
    #[allow(clippy::too_many_arguments, reason = "called once, by the door")]
    pub(super) fn new(
        settings: LedgerSettings,
        store: Store,
        registry: Arc<Registry>,
        world: World,
        head: Head,
        mac_key: SecretBytes,
        healthy: Arc<AtomicBool>,
        committed: watch::Sender<i64>,
    ) -> Self {
        let last_checkpoint = (head.seq, world.now());
        Self {
            settings,
            store,
            registry,
            world,
            mac_key,
            healthy,
            committed,
            head: Some(head),
            last: head,
            in_doubt: InDoubt::default(),
            pending: VecDeque::new(),
            linger_until: None,
            last_urgent: None,
            not_before: None,
            away: None,
            taken: 0,
            last_checkpoint,
        }
    }

    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
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
            match Draft::new(&event) {
                Ok(draft) => self.take(Entry::new(Vec::new(), vec![draft], Vec::new(), None, Priority::WithOthers)),
                Err(error) => tracing::error!(%error, "a record cannot be written as JSON"),
            }
        }
        false
    }

    /// Whether there are only a few records, none of them urgent, which can wait a moment longer.
    fn may_linger(&mut self) -> bool {
        let few = !self.pending.is_empty() && self.pending.len() <= MOST_LINGERING;
        if !few
            || self.away.is_some()
            || self.head.is_none()
            || self.pending.iter().any(|entry| entry.priority == Priority::Now)
        {
            return false;
        }
        let now = monotonic();
        let until = self.linger_until.get_or_insert(now + LINGER);
        if self.pending.iter().any(Entry::is_waited_for) {
            // The first one is not kept waiting, only those who follow close behind.
            let no_more_urgent = self.last_urgent.is_none_or(|last| now >= last + NO_MORE_URGENT);
            *until = self.not_before.filter(|_| !no_more_urgent).unwrap_or(now).min(*until);
        }
        now < *until
    }

    /// Writes what waits. If that is for coalesced ones alone that somebody waits for, the next such has to wait.
    async fn write_round(&mut self) {
        self.linger_until = None;
        let unhurried = self.pending.iter().any(Entry::is_waited_for)
            && self.pending.iter().all(|entry| entry.priority == Priority::WithOthers);
        self.write_pending().await;
        if unhurried {
            // From its end: on a slow disk, too, there is a pause between two of these.
            self.not_before = Some(monotonic() + LINGER);
        }
    }

    fn take(&mut self, mut entry: Entry) {
        self.taken += 1;
        entry.number = self.taken;
        if entry.priority == Priority::Now {
            self.last_urgent = Some(monotonic());
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
}

impl Entry {
    pub(super) fn new(
        guards: Vec<Guard>,
        drafts: Vec<Draft>,
        changes: Vec<Change>,
        tie: Option<Tie>,
        priority: Priority,
    ) -> Self {
        Self { guards, drafts, changes, tie, reply: None, priority, number: 0 }
    }

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
