//! What a token says, and the proof that it was checked.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Confirmation, ScopeSet, Seconds, SpentProof};

/// Deeper chains of actors are refused unread. The broker's own cap (`delegation.max_depth`) is below this.
pub const MAX_ACTORS: usize = 16;

/// `aud`: one text or an array of them (RFC 7519 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Audience(pub Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Audience {
    fn from(wire: OneOrMany) -> Self {
        match wire {
            OneOrMany::One(one) => Self(vec![one]),
            OneOrMany::Many(many) => Self(many),
        }
    }
}

impl From<Audience> for OneOrMany {
    fn from(audience: Audience) -> Self {
        let mut many = audience.0;
        match (many.pop(), many.is_empty()) {
            (Some(one), true) => Self::One(one),
            (Some(last), false) => {
                many.push(last);
                Self::Many(many)
            }
            (None, _) => Self::Many(many),
        }
    }
}

impl Audience {
    /// Whether `wanted` is one of them.
    pub fn contains(&self, wanted: &str) -> bool {
        self.0.iter().any(|one| one == wanted)
    }
}

/// The claims of an access token as they travel (RFC 9068 §2.2, plus `sid`). Says nothing about their truth:
/// that is what [`Claims`] is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Who issued it.
    pub iss: String,
    /// Whom it is about: the agent itself, for client credentials.
    pub sub: String,
    /// The agent (OAuth client) that holds it.
    pub client_id: String,
    /// For whom it is meant.
    pub aud: Audience,
    /// When it dies.
    pub exp: Seconds,
    /// When it was issued.
    pub iat: Seconds,
    /// Its own id.
    pub jti: String,
    /// What it may do.
    pub scope: ScopeSet,
    /// The session that it belongs to.
    pub sid: String,
    /// The keys that the bearer must prove to hold (RFC 7800).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Who acts for `sub` (RFC 8693 §4.1): the agent itself outermost, those through whom it came inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// Who calls the subject `sub` (RFC 9493 §3.2.3): there for people, whom another issuer vouches for. People of two
    /// issuers may have the same `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_id: Option<SubjectId>,
}

/// A subject by its issuer and that issuer's name for it (RFC 9493 §3.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename = "iss_sub")]
pub struct SubjectId {
    /// The issuer identifier.
    pub iss: String,
    /// What it calls the subject.
    pub sub: String,
}

/// One actor, and the one before it (RFC 8693 §4.1). Only the outermost may be looked at to decide anything; the others
/// say through whom it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The actor's client id.
    pub sub: String,
    /// Who acted before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

impl Actor {
    /// From client ids, the newest first; `None` of none.
    pub fn chain<'a>(newest_first: impl DoubleEndedIterator<Item = &'a str>) -> Option<Self> {
        newest_first.rev().fold(None, |inner, sub| Some(Self { sub: sub.to_owned(), act: inner.map(Box::new) }))
    }

    /// The client ids, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self), |actor| actor.act.as_deref()).map(|actor| actor.sub.as_str())
    }
}

/// A token's claims after its signature, type and issuer were verified. Only [`crate::TokenVerifier`] builds one.
#[derive(Debug, Clone)]
pub struct Claims {
    inner: Arc<Inner>,
    proof: Option<SpentProof>,
}

#[derive(Debug)]
struct Inner {
    token: AccessToken,
    kid: String,
}

impl Claims {
    pub(crate) fn verified(token: AccessToken, kid: String) -> Self {
        Self { inner: Arc::new(Inner { token, kid }), proof: None }
    }

    /// Of a token that came with this proof.
    pub(crate) fn proven(self, proof: SpentProof) -> Self {
        Self { proof: Some(proof), ..self }
    }

    /// The id of the key that signed it.
    pub fn kid(&self) -> &str {
        &self.inner.kid
    }

    /// The proof that was spent for this request, where the token came as `Authorization: DPoP`.
    pub fn proof(&self) -> Option<&SpentProof> {
        self.proof.as_ref()
    }
}

impl Deref for Claims {
    type Target = AccessToken;

    fn deref(&self) -> &AccessToken {
        &self.inner.token
    }
}
