//! Searching the log: the runs of records that may hold what is looked for, by the index; and record by record what the index
//! does not hold yet.

use crate::audit::find::first_after;
use crate::audit::index::{Field, Searched, Term, may_hold};
use crate::model::{AuditRow, Segment};
use crate::store::{IndexedRun, Result, Store};
use crate::world::Millis;

/// Records that one page gives, at most.
const MOST_FOUND: usize = 1_000;

/// Records that one page reads, at most, before it says how far it is: about 60 MB. Whoever asks over the network then asks on.
const MOST_READ: i64 = 100_000;

/// Runs whose filters are read at once.
const RUNS: i64 = 1_024;

/// Records not indexed that are read at once.
const PAGE: i64 = 4_096;

/// What is looked for. All of it has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// From this time on, unix milliseconds.
    pub since: Option<Millis>,
    /// Before this time, unix milliseconds.
    pub until: Option<Millis>,
    /// Client id or name.
    pub agent: Option<String>,
    /// Session id.
    pub session: Option<String>,
    /// Upstream.
    pub upstream: Option<String>,
    /// Id of the operation.
    pub operation: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// A stable code.
    pub reason: Option<String>,
    /// Request id.
    pub request: Option<String>,
}

impl Query {
    fn wanted(&self) -> Vec<(Field, &str)> {
        [
            (Field::Agent, &self.agent),
            (Field::Session, &self.session),
            (Field::Upstream, &self.upstream),
            (Field::Operation, &self.operation),
            (Field::Decision, &self.decision),
            (Field::Reason, &self.reason),
            (Field::Request, &self.request),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, value.as_deref()?)))
        .collect()
    }
}

/// A part of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Records, in order.
    pub records: Vec<AuditRow>,
    /// Where to go on, if there may be more: behind this record.
    pub next: Option<i64>,
}

/// Records of a node behind record `after` that fit.
///
/// # Errors
/// The database cannot be read.
pub async fn search(store: &Store, node: &str, after: i64, query: &Query) -> Result<Found> {
    let mut search = Search {
        store,
        node,
        query,
        needles: Needles::new(query),
        found: Vec::new(),
        position: after,
        may_read: MOST_READ,
    };
    if let Some(since) = query.since {
        search.position = after.max(first_after(store, node, since).await?);
    }
    let is_over = search.by_index().await? || search.one_by_one(i64::MAX).await?;
    let next = (!is_over).then_some(search.position);
    Ok(Found { records: search.found, next })
}

struct Search<'a> {
    store: &'a Store,
    node: &'a str,
    query: &'a Query,
    needles: Needles<'a>,
    found: Vec<AuditRow>,
    /// All up to this record was looked at.
    position: i64,
    /// So many records more may be read.
    may_read: i64,
}

impl Search<'_> {
    fn is_full(&self) -> bool {
        self.found.len() >= MOST_FOUND || self.may_read <= 0
    }

    /// Whether the end was found: what comes is too late.
    async fn by_index(&mut self) -> Result<bool> {
        let terms: Vec<Term> = self.query.wanted().iter().map(|(field, value)| Term::new(*field, value)).collect();
        loop {
            let runs = self.store.indexed_runs(self.node, self.position, RUNS).await?;
            if runs.is_empty() {
                return Ok(false);
            }
            for run in runs {
                if self.is_full() {
                    return Ok(false);
                }
                // Runs that were lost must not hide their records.
                if self.one_by_one(run.first).await? {
                    return Ok(true);
                }
                if self.is_full() {
                    return Ok(false);
                }
                if self.query.until.is_some_and(|until| run.first_at >= until) {
                    return Ok(true);
                }
                if terms.iter().all(|term| may_hold(&run.filter, *term)) {
                    self.read(&run).await?;
                }
                self.position = run.last.max(self.position.saturating_add(1));
            }
        }
    }

    async fn read(&mut self, run: &IndexedRun) -> Result<()> {
        let length = (run.last - run.first).saturating_add(1);
        let segments = self.store.segments(self.node, run.first.saturating_sub(1), length).await?;
        self.may_read -= length;
        for segment in segments.iter().filter(|segment| segment.first <= run.last) {
            self.look_through(segment);
        }
        Ok(())
    }

    /// Records before record `before` that the index does not hold. Whether the end was found, as in [`Self::by_index`].
    async fn one_by_one(&mut self, before: i64) -> Result<bool> {
        loop {
            let left = before.saturating_sub(self.position).saturating_sub(1);
            if left <= 0 || self.is_full() {
                return Ok(false);
            }
            let segments = self.store.segments(self.node, self.position, PAGE.min(left)).await?;
            if segments.is_empty() {
                return Ok(true);
            }
            for segment in segments {
                if self.query.until.is_some_and(|until| segment.first_at >= until) {
                    return Ok(true);
                }
                // These numbers are missing in the log, too, which is for `audit verify` to name.
                if segment.first >= before {
                    self.position = before.saturating_sub(1);
                    break;
                }
                self.look_through(&segment);
                self.may_read -= (segment.last - segment.first).saturating_add(1).max(1);
                self.position = segment.last.max(self.position.saturating_add(1));
            }
        }
    }

    fn look_through(&mut self, segment: &Segment) {
        for (seq, record) in (segment.first..).zip(segment.records()) {
            if seq > self.position && self.needles.fit(record, self.query) {
                let body = String::from_utf8_lossy(record).into_owned();
                self.found.push(AuditRow { seq, body });
            }
        }
    }
}

/// What has to be in a record, as text: most are told from what is looked for without being parsed.
struct Needles<'a> {
    wanted: Vec<(Field, &'a str)>,
    /// Of the values that stand in JSON as they are.
    texts: Vec<memchr::memmem::Finder<'a>>,
}

impl<'a> Needles<'a> {
    fn new(query: &'a Query) -> Self {
        let wanted = query.wanted();
        let is_plain = |text: &&str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        };
        let texts = wanted.iter().map(|(_, value)| *value).filter(is_plain).map(memchr::memmem::Finder::new).collect();
        Self { wanted, texts }
    }

    fn fit(&self, record: &[u8], query: &Query) -> bool {
        if self.texts.iter().any(|text| text.find(record).is_none()) {
            return false;
        }
        let Some(searched) = Searched::of(record) else { return false };
        query.since.is_none_or(|since| searched.at >= since)
            && query.until.is_none_or(|until| searched.at < until)
            && self.wanted.iter().all(|wanted| searched.fields().any(|there| there == *wanted))
    }
}
