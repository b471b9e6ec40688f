//! How a call ended: recorded once, whatever way it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use crate::audit::{IntentNumber, Ledger};
use crate::broker::BodyError;
use crate::broker::admit::Place;
use crate::model::{CallFacts, Event};

/// Counts and digests a body as it passes.
pub(super) struct Meter {
    bytes: u64,
    /// Of what has passed; most requests have no body, and are not digested.
    digest: Option<Context>,
    moved: Instant,
    broken: Option<BodyError>,
}

/// SHA-256 of nothing.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Meter {
    fn new() -> Self {
        Self { bytes: 0, digest: None, moved: crate::world::monotonic(), broken: None }
    }

    pub(super) fn pass(&mut self, piece: &[u8]) -> u64 {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.digest.get_or_insert_with(|| Context::new(&SHA256)).update(piece);
        self.moved = crate::world::monotonic();
        self.bytes
    }
}

/// A meter that the body and the outcome share.
#[derive(Clone)]
pub(super) struct SharedMeter(Arc<Mutex<Meter>>);

impl SharedMeter {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Meter::new())))
    }

    /// Counts a piece; gives the bytes so far.
    pub(super) fn pass(&self, piece: &[u8]) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pass(piece)
    }

    /// Notes why the body broke off. HTTP/2 tells the sender of a request only that its stream was reset.
    pub(super) fn broke_off(&self, error: BodyError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).broken = Some(error);
    }

    /// Why the body broke off, if it did.
    pub(super) fn broken(&self) -> Option<BodyError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).broken
    }

    /// When the last piece passed.
    pub(super) fn moved(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).moved
    }

    fn read(&self) -> (u64, String) {
        let meter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = meter.digest.clone();
        (meter.bytes, digest.map_or_else(|| OF_NOTHING.to_owned(), |digest| HEXLOWER.encode(digest.finish().as_ref())))
    }
}

/// The record of a call's end. If nobody finishes it (the agent went away, the task was dropped) it says so itself.
pub(super) struct Outcome {
    ledger: Ledger,
    intent: IntentNumber,
    event: Option<Event>,
    started: Instant,
    status: Option<u16>,
    redactions: u64,
    pub(super) request: SharedMeter,
    pub(super) response: SharedMeter,
    stopping: Arc<AtomicBool>,
    seconds: metrics::Histogram,
    _place: Place,
}

impl Outcome {
    pub(super) fn new(
        ledger: Ledger,
        intent: IntentNumber,
        event: Event,
        started: Instant,
        place: Place,
        stopping: Arc<AtomicBool>,
        seconds: metrics::Histogram,
    ) -> Self {
        Self {
            ledger,
            intent,
            event: Some(event),
            started,
            status: None,
            redactions: 0,
            request: SharedMeter::new(),
            response: SharedMeter::new(),
            stopping,
            seconds,
            _place: place,
        }
    }

    pub(super) fn answered(&mut self, status: http::StatusCode) {
        self.status = Some(status.as_u16());
    }

    pub(super) fn redacted(&mut self, times: u64) {
        self.redactions = times;
    }

    /// There is no intent, so there is no outcome either.
    pub(super) fn never_began(mut self) {
        self.event = None;
    }

    /// Records the end; `reason` is `completed` or what went wrong.
    pub(super) fn finish(mut self, reason: &str) {
        self.record(reason);
    }

    /// It ended before its time: the agent went away, or the broker did.
    pub(super) fn abandon(&mut self) {
        let cut = self.stopping.load(Ordering::Relaxed);
        self.record(if cut { "broker_stopped" } else { "agent_went_away" });
    }

    fn record(&mut self, reason: &str) {
        let Some(mut event) = self.event.take() else { return };
        let (request_bytes, request_sha256) = self.request.read();
        let (response_bytes, response_sha256) = self.response.read();
        let took = self.started.elapsed();
        event.reason = Some(reason.into());
        event.call = Some(CallFacts {
            status: self.status,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            request_bytes,
            request_sha256,
            response_bytes,
            response_sha256,
            redactions: self.redactions,
        });
        self.seconds.record(took.as_secs_f64());
        self.ledger.outcome_of(self.intent.clone(), &event);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.abandon();
    }
}
