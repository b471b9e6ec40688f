//! Writing what waits: in batches, each one transaction.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::audit::chain::{FRONT, SegmentBuilder};
use crate::audit::error::{LedgerError, away};
use crate::audit::head_mac;
use crate::audit::in_doubt::Attempt;
use crate::audit::intent::IntentNumber;
use crate::audit::writer::end::{count_revocations, in_time};
use crate::audit::writer::{Away, Entry, RETRY, Tie, Writer};
use crate::model::{Change, Head};
use crate::secret::SecretBytes;
use crate::store::{Batch, Part, StoreError, Tail, Verdict};
use crate::world::{Millis, monotonic};

/// While it stays away, the log says so this often.
const REMIND: Duration = Duration::from_secs(60);

/// How often in a row another writer may be ahead of us before we give up for now.
const MAX_OVERTAKEN: usize = 3;

/// Outcomes kept in memory while the database is away. Calls need an intent, so no more calls end than had begun.
const MAX_PENDING: usize = 100_000;

/// Why the database refused a batch.
enum Refusal {
    /// The chain had moved on: on its new end, the batch may fit.
    Overtaken,
    /// A row of it contradicts what is there.
    Row,
}

/// What a transaction was to write, once it was known which entries go.
struct Built {
    /// Where the chain then ends.
    end: Head,
    verdicts: Vec<Verdict>,
    /// The numbers of the intents in it.
    numbers: Vec<(IntentNumber, i64)>,
    records: i64,
}

impl Writer {
    /// Writes what waits, in batches, and answers everybody in it. Where the chain ends is known before a batch is
    /// taken, so that what a commit in doubt has written after all is not written again.
    pub(super) async fn write_pending(&mut self) {
        // After a batch was refused: the one whose row is at fault drops out, and its neighbours are committed together.
        let mut one_by_one = false;
        let mut overtaken = 0;
        while !self.pending.is_empty() {
            let head = match self.known_head().await {
                Ok(head) => head,
                Err(error) => return self.give_up(&error),
            };
            let count = self.settings.max_batch.max(1).min(self.pending.len());
            match self.try_commit(head, count, one_by_one).await {
                Ok(verdicts) => {
                    one_by_one = false;
                    overtaken = 0;
                    for (entry, verdict) in self.pending.drain(..count).zip(verdicts) {
                        entry.answer(answer_to(verdict));
                    }
                }
                Err(StoreError::Constraint(error)) => match self.why_refused(head).await {
                    Ok(Refusal::Overtaken) if overtaken < MAX_OVERTAKEN => overtaken += 1,
                    Ok(Refusal::Row) if !one_by_one => one_by_one = true,
                    Ok(_) => return self.give_up(&StoreError::Constraint(error)),
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
    pub(super) fn is_back(&mut self) {
        if let Some(away) = self.away.take() {
            let seconds = away.since.elapsed().as_secs();
            tracing::info!(seconds, "the audit log can be written again; nothing is refused for it any more");
        }
        self.healthy.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuse_waiting(&mut self) {
        let (wait, keep): (VecDeque<_>, VecDeque<_>) = self.pending.drain(..).partition(|entry| entry.reply.is_some());
        for entry in wait {
            entry.answer(Err(away()));
        }
        self.pending = keep;
    }

    /// Commits the first `count` of what waits, behind `head`; what became of each.
    async fn try_commit(&mut self, head: Head, count: usize, one_by_one: bool) -> Result<Vec<Verdict>, StoreError> {
        let now = self.world.now();
        let mut built = None;
        let outcome = {
            let entries: Vec<&Entry> = self.pending.iter().take(count).collect();
            let parts: Vec<Part<'_>> =
                entries.iter().map(|entry| Part { guards: &entry.guards, changes: &entry.changes }).collect();
            let (node, mac_key) = (self.settings.node.as_str(), &self.mac_key);
            let mut tail = |verdicts: &[Verdict]| {
                let (tail, made) = build(&entries, verdicts, node, head, now, mac_key)?;
                built = Some(made);
                Ok(tail)
            };
            self.store.commit(&Batch { node, now, parts: &parts, one_by_one }, &mut tail).await
        };
        let (epoch, failed) = match outcome {
            Ok(epoch) => (epoch, None),
            Err(error) => (None, Some(error)),
        };
        // Where it was not even known what to write, nothing was written.
        let Some(built) = built else {
            return Err(failed.unwrap_or_else(|| StoreError::Corrupt("a commit that wrote nothing".into())));
        };
        let going =
            || self.pending.iter().take(count).zip(&built.verdicts).filter(|(_, verdict)| **verdict == Verdict::Goes);
        let changes: Vec<Change> = going().flat_map(|(entry, _)| entry.changes.iter().cloned()).collect();
        match failed {
            None => {
                self.registry.apply_all(&changes, epoch);
                count_revocations(&changes);
                for (number, seq) in &built.numbers {
                    number.set(*seq);
                }
                self.is_at(built.end);
                if built.records > 0 {
                    // Ours now has the place in the chain that they would have taken.
                    self.in_doubt.clear();
                    // A commit without a record may find room where a record does not.
                    self.is_back();
                }
                metrics::counter!("hallpass_audit_records_total").increment(u64::try_from(built.records).unwrap_or(0));
                metrics::counter!("hallpass_audit_commits_total").increment(1);
                Ok(built.verdicts)
            }
            Some(error @ (StoreError::Constraint(_) | StoreError::Conflict(_))) => Err(error),
            Some(error) => {
                let outcomes_to =
                    going().filter(|(entry, _)| entry.reply.is_none()).map(|(entry, _)| entry.number).max();
                self.in_doubt.add(Attempt {
                    would_be: built.end,
                    changes,
                    outcomes_to: outcomes_to.unwrap_or(0),
                    numbers: built.numbers,
                });
                self.head = None;
                Err(error)
            }
        }
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
}

/// The records of those that go, in order, and the chain's end after them.
fn build(
    entries: &[&Entry],
    verdicts: &[Verdict],
    node: &str,
    head: Head,
    now: Millis,
    mac_key: &SecretBytes,
) -> Result<(Tail, Built), StoreError> {
    let unwritable = |error: std::io::Error| StoreError::Corrupt(error.to_string());
    let mut segment = SegmentBuilder::new(node, head, now);
    let drafts = entries.iter().flat_map(|entry| &entry.drafts);
    segment.reserve(drafts.map(|draft| draft.len() + FRONT).sum());
    let mut numbers: Vec<(IntentNumber, i64)> = Vec::new();
    for (entry, verdict) in entries.iter().zip(verdicts) {
        if *verdict != Verdict::Goes {
            continue;
        }
        let intent = match &entry.tie {
            Some(Tie::OutcomeOf(intent)) => {
                let beside = || numbers.iter().find(|(one, _)| one.is(intent)).map(|(_, number)| *number);
                // Its intent was refused, and whoever wanted it was not there to hear of it: there was no call.
                let Some(number) = intent.get().or_else(beside) else { continue };
                Some(number)
            }
            Some(Tie::Intent(_)) | None => None,
        };
        for draft in &entry.drafts {
            let number = segment.push(draft, intent).map_err(unwritable)?;
            if let Some(Tie::Intent(tie)) = &entry.tie {
                numbers.push((tie.clone(), number));
            }
        }
    }
    let end = segment.head();
    let tail = Tail { segment: segment.finish(), head: end, mac: head_mac(mac_key, node, &end) };
    Ok((tail, Built { end, verdicts: verdicts.to_vec(), numbers, records: end.seq - head.seq }))
}

fn answer_to(verdict: Verdict) -> Result<(), LedgerError> {
    match verdict {
        Verdict::Goes => Ok(()),
        Verdict::Spent(what) => Err(LedgerError::Spent(what)),
        Verdict::Refused(error) => {
            tracing::error!(%error, "the database refused a change");
            Err(LedgerError::Refused("it contradicts what is there".into()))
        }
    }
}
