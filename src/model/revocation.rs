//! Revocations: what was taken back, and until when that must be remembered.

use std::sync::Arc;

use hallpass_verify::{RevocationEntry, Seconds};

use crate::world::Millis;

/// What a revocation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationKind {
    /// One token, by `jti`.
    Token,
    /// One session, by `sid`.
    Session,
    /// All of an agent's tokens issued before a cut.
    Agent,
    /// All that a key signed.
    Key,
}

impl RevocationKind {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Key => "key",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Token, Self::Session, Self::Agent, Self::Key].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One revocation.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// What it is about.
    pub kind: RevocationKind,
    /// The id of the token, session, agent or key.
    pub subject: Arc<str>,
    /// For an agent: tokens with `iat` below this are refused.
    pub cut: Seconds,
    /// When the last token that it could concern is dead.
    pub keep_until: Millis,
    /// When it was made.
    pub created_at: Millis,
    /// Why; for people.
    pub reason: String,
}

impl Revocation {
    /// Its line on the list.
    pub fn entry(&self) -> RevocationEntry {
        let subject = self.subject.to_string();
        match self.kind {
            RevocationKind::Token => RevocationEntry::Token { jti: subject },
            RevocationKind::Session => RevocationEntry::Session { sid: subject },
            RevocationKind::Agent => RevocationEntry::Agent { client_id: subject, before: self.cut },
            RevocationKind::Key => RevocationEntry::Key { kid: subject },
        }
    }
}
