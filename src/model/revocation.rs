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
    /// All that a subject (a person, mostly) delegated before a cut.
    Subject,
}

impl RevocationKind {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Subject => "subject",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Token, Self::Session, Self::Agent, Self::Key, Self::Subject]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// One revocation.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// What it is about.
    pub kind: RevocationKind,
    /// The id of the token, session, agent or key; for a subject see [`subject_key`].
    pub subject: Arc<str>,
    /// For an agent or a subject: tokens with `iat` below this are refused.
    pub cut: Seconds,
    /// When the last token that it could concern is dead.
    pub keep_until: Millis,
    /// When it was made.
    pub created_at: Millis,
    /// Why; for people.
    pub reason: String,
}

impl Revocation {
    /// Its line on the list. A subject has none: the list is public and tells nobody's name, and gateways need none,
    /// because each session of the subject has its own.
    pub fn entry(&self) -> Option<RevocationEntry> {
        let subject = self.subject.to_string();
        Some(match self.kind {
            RevocationKind::Token => RevocationEntry::Token { jti: subject },
            RevocationKind::Session => RevocationEntry::Session { sid: subject },
            RevocationKind::Agent => RevocationEntry::Agent { client_id: subject, before: self.cut },
            RevocationKind::Key => RevocationEntry::Key { kid: subject },
            RevocationKind::Subject => return None,
        })
    }
}

/// Whose delegation a [`RevocationKind::Subject`] takes back: a subject and the registered issuer (by name) that vouches
/// for it. `None`: that subject whoever vouches for it.
pub fn subject_key(issuer: Option<&str>, subject: &str) -> String {
    // No issuer's name holds a space or a star.
    format!("{} {subject}", issuer.unwrap_or("*"))
}
