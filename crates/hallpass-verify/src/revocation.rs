//! The revocation list: what has been taken back and could still matter.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{Claims, KeySet, Refusal, Seconds, Unverified};

/// `typ` of the signed list.
pub const REVOCATIONS_TYP: &str = "hallpass-revocations+jwt";

/// Lists above this size are refused: a gateway must not be fed to death.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// What a token was revoked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokedBy {
    /// Its own id.
    Token,
    /// Its session.
    Session,
    /// Everything of its agent issued before some time: the agent was suspended or revoked, or has taken back its tokens.
    /// The list does not say which.
    Agent,
    /// The key that signed it.
    Key,
}

/// One line of the list. Opaque ids only: who subscribes learns no names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RevocationEntry {
    /// One token.
    Token {
        /// Its id.
        jti: String,
    },
    /// One session, with every token in it.
    Session {
        /// Its id.
        sid: String,
    },
    /// Everything of one agent that was issued before a time.
    Agent {
        /// The agent.
        client_id: String,
        /// Tokens with `iat` below this are refused.
        before: Seconds,
    },
    /// Everything that one key signed.
    Key {
        /// Its id.
        kid: String,
    },
}

/// The claims of the signed list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevocationClaims {
    /// The broker.
    pub iss: String,
    /// When the list was true.
    pub iat: Seconds,
    /// The epoch of the broker's database: each revocation raises it, and it never falls.
    pub version: u64,
    /// For how many seconds after `iat` the list may be relied on.
    pub max_age: Seconds,
    /// What is revoked.
    pub revoked: Vec<RevocationEntry>,
}

/// "Everything of this agent issued before."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentCut {
    /// Tokens with `iat` below this are refused.
    pub before: Seconds,
}

/// Revocations, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct RevocationSet {
    tokens: HashSet<String>,
    sessions: HashSet<String>,
    agents: HashMap<String, AgentCut>,
    keys: HashSet<String>,
}

impl RevocationSet {
    /// Adds a line. Of two cuts for one agent the later one counts.
    pub fn insert(&mut self, entry: RevocationEntry) {
        match entry {
            RevocationEntry::Token { jti } => _ = self.tokens.insert(jti),
            RevocationEntry::Session { sid } => _ = self.sessions.insert(sid),
            RevocationEntry::Key { kid } => _ = self.keys.insert(kid),
            RevocationEntry::Agent { client_id, before } => {
                let cut = self.agents.entry(client_id).or_insert(AgentCut { before });
                cut.before = cut.before.max(before);
            }
        }
    }

    /// What revokes this token, if anything does.
    pub fn find(&self, claims: &Claims) -> Option<RevokedBy> {
        if self.tokens.contains(&claims.jti) {
            return Some(RevokedBy::Token);
        }
        if self.sessions.contains(&claims.sid) {
            return Some(RevokedBy::Session);
        }
        if self.agents.get(&claims.client_id).is_some_and(|cut| claims.iat < cut.before) {
            return Some(RevokedBy::Agent);
        }
        self.has_key(claims.kid()).then_some(RevokedBy::Key)
    }

    /// Whether the token of this id is revoked by itself.
    pub fn has_token(&self, jti: &str) -> bool {
        self.tokens.contains(jti)
    }

    /// Whether everything that this key signed is revoked.
    pub fn has_key(&self, kid: &str) -> bool {
        self.keys.contains(kid)
    }

    /// The cut for an agent, if there is one.
    pub fn agent_cut(&self, client_id: &str) -> Option<AgentCut> {
        self.agents.get(client_id).copied()
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.sessions.len() + self.agents.len() + self.keys.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<RevocationEntry> for RevocationSet {
    fn from_iter<I: IntoIterator<Item = RevocationEntry>>(entries: I) -> Self {
        let mut set = Self::default();
        for entry in entries {
            set.insert(entry);
        }
        set
    }
}

/// A list whose signature was verified.
#[derive(Debug)]
pub struct RevocationList {
    pub(crate) set: RevocationSet,
    pub(crate) issued_at: Seconds,
    pub(crate) max_age: Seconds,
    pub(crate) version: u64,
    pub(crate) kid: String,
}

impl RevocationList {
    /// Verifies a signed list (the body of `GET /revocations`) of `issuer`.
    ///
    /// # Errors
    /// As for a token; a list from the future is [`Refusal::NotYetValid`], because its age could not be told.
    pub fn verify(jwt: &str, keys: &KeySet, issuer: &str, leeway: Seconds, now: Seconds) -> Result<Self, Refusal> {
        let (claims, kid) =
            Unverified::parse_sized(jwt, REVOCATIONS_TYP, MAX_LIST_BYTES)?.verify::<RevocationClaims>(keys)?;
        if claims.iss != issuer {
            return Err(Refusal::WrongIssuer);
        }
        if claims.iat > now.saturating_add(leeway) {
            return Err(Refusal::NotYetValid);
        }
        Ok(Self {
            set: claims.revoked.into_iter().collect(),
            issued_at: claims.iat,
            max_age: claims.max_age,
            version: claims.version,
            kid,
        })
    }

    /// The revocations, unless the list is older than its own bound and `bound`.
    pub fn fresh(&self, bound: Seconds, now: Seconds) -> Result<&RevocationSet, Refusal> {
        let age = now.saturating_sub(self.issued_at);
        if age > bound.min(self.max_age) { Err(Refusal::ListStale) } else { Ok(&self.set) }
    }

    /// Whether this list may take the place of `held`.
    ///
    /// # Errors
    /// It is of a lower epoch, whenever it was signed: a replayed list, or a younger list of a broker that lags behind
    /// another one, would bring revoked tokens back. Or it is older within one epoch. Or a key signed it that `held`
    /// revokes: whoever stole that key would bring its tokens back.
    pub fn may_replace(&self, held: &Self) -> Result<(), Refusal> {
        if held.set.has_key(&self.kid) {
            return Err(Refusal::Revoked(RevokedBy::Key));
        }
        if (held.version, held.issued_at) > (self.version, self.issued_at) {
            return Err(Refusal::ListStale);
        }
        Ok(())
    }

    /// When the list was true.
    pub fn issued_at(&self) -> Seconds {
        self.issued_at
    }

    /// The epoch of the broker's database: a higher one holds all that a lower one does.
    pub fn version(&self) -> u64 {
        self.version
    }
}
