//! Why there is no token, without a word of HTTP.

use hallpass_verify::ProofRefusal;

use crate::audit::LedgerError;
use crate::issue::authenticate::ASSERTION_REPLAYED;
use crate::model::{AgentStatus, OnceOnly};

/// Why there is no token: RFC 6749 §5.2, RFC 8707 §2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Malformed.
    InvalidRequest(String),
    /// Not authenticated. Never says which half was wrong.
    InvalidClient,
    /// An assertion whose signature is good, and that is not good for another reason, which its sender is told. To the
    /// client it is [`Self::InvalidClient`].
    BadAssertion(&'static str),
    /// The agent proved who it is, and is suspended or revoked. To the client it is [`Self::InvalidClient`], or
    /// [`Self::InvalidGrant`] where the assertion was the grant (RFC 7521 §4.1.1).
    Stopped {
        /// What it is.
        status: AgentStatus,
        /// Whether the assertion was the grant.
        by_grant: bool,
    },
    /// The agent has as many sessions as it may have, and none is like the one that it asks for: there is room after so
    /// many seconds.
    TooManySessions(i64),
    /// So many assertions are in use that this one cannot be remembered: one more may be used when some have ended.
    AssertionsFull,
    /// Too many secrets were wrong: none is looked at for so many seconds. To the client it is [`Self::InvalidClient`]
    /// with a `Retry-After`.
    Slowed(i64),
    /// Authenticated, but not allowed to do this.
    UnauthorizedClient(String),
    /// The session is not one that this agent can continue.
    InvalidGrant(String),
    /// Another grant than those in the metadata.
    UnsupportedGrantType,
    /// More than the roles give, or nothing.
    InvalidScope(String),
    /// An unknown audience (RFC 8707 §2).
    InvalidTarget(String),
    /// The DPoP proof is not good, or holds no nonce of ours (RFC 9449 §5, §8).
    Proof(ProofRefusal),
    /// The log cannot be written, so nothing is issued.
    Unavailable,
    /// Ours to mend.
    Internal(String),
}

impl TokenError {
    /// The `error` code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::Stopped { by_grant: true, .. } => "invalid_grant",
            Self::InvalidClient | Self::BadAssertion(_) | Self::Slowed(_) | Self::Stopped { .. } => "invalid_client",
            Self::UnauthorizedClient(_) => "unauthorized_client",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::Proof(ProofRefusal::TooMany) => "temporarily_unavailable",
            Self::Proof(refusal) => refusal.code(),
            Self::Unavailable | Self::AssertionsFull | Self::TooManySessions(_) => "temporarily_unavailable",
            Self::Internal(_) => "server_error",
        }
    }

    /// A code that tells apart what OAuth has one `error` for; for programs, and the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Stopped { status: AgentStatus::Suspended, .. } => "agent_suspended",
            Self::Stopped { .. } => "agent_revoked",
            Self::TooManySessions(_) => "too_many_sessions",
            other => other.code(),
        }
    }

    /// What the caller is told beside the code.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::InvalidRequest(text)
            | Self::UnauthorizedClient(text)
            | Self::InvalidGrant(text)
            | Self::InvalidScope(text)
            | Self::InvalidTarget(text) => Some(text),
            Self::InvalidClient
            | Self::BadAssertion(_)
            | Self::Stopped { .. }
            | Self::TooManySessions(_)
            | Self::AssertionsFull
            | Self::Slowed(_)
            | Self::UnsupportedGrantType
            | Self::Proof(_)
            | Self::Unavailable
            | Self::Internal(_) => None,
        }
    }
}

impl From<LedgerError> for TokenError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Spent(OnceOnly::Assertion) => Self::BadAssertion(ASSERTION_REPLAYED),
            LedgerError::Spent(OnceOnly::Proof) => Self::Proof(ProofRefusal::Replayed),
            LedgerError::Busy | LedgerError::Unavailable(_) | LedgerError::Refused(_) => Self::Unavailable,
        }
    }
}
