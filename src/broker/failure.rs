//! Why there is no answer of the upstream: as the agent is told, and as the log keeps it.

use std::sync::Arc;

use hallpass_verify::{ProofRefusal, Refusal};

use crate::error::Error;
use crate::model::Event;
use crate::policy::Hint;

/// Why there is no answer of the upstream.
#[derive(Debug)]
pub enum CallError {
    /// The token is not good (any more).
    Token(Refusal),
    /// The proof that came with it was used before.
    ProofReplayed,
    /// A scope is missing (RFC 6750 §3.1).
    MissingScope(Arc<str>),
    /// The upstream takes only tokens that are bound to a key.
    NotBound,
    /// No operation has this method and path (P8); what the caller may have meant.
    NoOperation(Hint),
    /// Everything else.
    Other(Error),
}

impl CallError {
    /// A stable code for the audit log.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Token(refusal) => refusal.code(),
            Self::ProofReplayed => ProofRefusal::Replayed.reason(),
            Self::MissingScope(_) => "insufficient_scope",
            Self::NotBound => "token_binding_required",
            Self::NoOperation(_) => "operation_not_allowed",
            Self::Other(error) => error.code,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Why a call that was not recorded yet is not made.
pub(super) struct Denied {
    pub(super) error: CallError,
    /// What of it is recorded.
    pub(super) record: Option<Record>,
}

/// What is recorded of a refusal.
pub(super) struct Record {
    pub(super) event: Box<Event>,
    pub(super) reason: &'static str,
    pub(super) often: Often,
}

/// How much of what agents can cause as often as they like is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Often {
    /// Each.
    Each,
    /// [`crate::audit::RECORDED_A_MINUTE`] of each agent and reason. The next record says how many were left out.
    Sampled,
    /// The same, and nobody waits for it: whoever has too many calls in flight may well have them waiting for the same disk.
    SampledUnwaited,
}

impl Denied {
    /// Nothing is recorded of it.
    pub(super) fn unrecorded(error: impl Into<CallError>) -> Self {
        Self { error: error.into(), record: None }
    }

    /// Each is recorded, under the error's own code.
    pub(super) fn of(event: Event, error: impl Into<CallError>) -> Self {
        let error = error.into();
        let record = Record { event: Box::new(event), reason: error.code(), often: Often::Each };
        Self { error, record: Some(record) }
    }

    /// Not each is recorded.
    pub(super) fn often(mut self, often: Often) -> Self {
        if let Some(record) = &mut self.record {
            record.often = often;
        }
        self
    }
}

/// Why a call that is recorded has no answer.
pub(super) struct Failure {
    /// What its outcome says.
    pub(super) reason: &'static str,
    /// What the agent is told.
    pub(super) error: CallError,
}

impl<E: Into<CallError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { reason: error.code(), error }
    }
}
