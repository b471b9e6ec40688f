//! Audit records: who did what, whether it was allowed, and why.

use std::net::IpAddr;
use std::sync::Arc;

use hallpass_verify::AccessToken;
use serde::{Serialize, Serializer};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum EventKind {
    /// A token was issued.
    #[serde(rename = "token.issued")]
    TokenIssued,
    /// A token was asked for and refused.
    #[serde(rename = "token.refused")]
    TokenRefused,
    /// A brokered call is about to be made. Durable before the secret leaves.
    #[serde(rename = "call.intent")]
    CallIntent,
    /// How a brokered call ended.
    #[serde(rename = "call.outcome")]
    CallOutcome,
    /// A brokered call was refused.
    #[serde(rename = "call.refused")]
    CallRefused,
    /// Something was revoked.
    #[serde(rename = "revocation")]
    Revocation,
    /// An admin changed something.
    #[serde(rename = "admin")]
    Admin,
    /// The broker itself: started, rotated a key by schedule.
    #[serde(rename = "broker")]
    Broker,
}

/// What an audit record says; absent fields are left out. Never holds a secret: `target` is the agent's own canonical
/// target, from which a query parameter that carried its token was taken out, before anything is injected.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// `allow` or `deny`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    /// Why, as a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The agent's client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// The agent's name at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<Arc<str>>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// The session that it hangs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Arc<str>>,
    /// On whose behalf: the token's `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// Who vouches for the subject, if another issuer does: its identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_issuer: Option<Arc<str>>,
    /// Through whom: the client ids of those who acted before the agent (`act`), the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<Vec<Arc<str>>>,
    /// The thumbprint of the key that the token is bound to: `jkt:…` or `x5t#S256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<Arc<str>>,
    /// How the agent proved who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_of_client: Option<&'static str>,
    /// The token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
    /// Scopes of a token that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Audiences of a token that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Vec<String>>,
    /// What the agent said it is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Arc<str>>,
    /// What the agent said it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Arc<str>>,
    /// The upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// The operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Arc<str>>,
    /// The credential and version that is injected, `name@version`; a list where the call takes several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialLabels>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
    /// The canonical path and query below the base URL, without secrets; of values in the query what the upstream's
    /// definition lets be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Arc<str>>,
    /// The path decoded, where an encoded slash is in it: what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_decoded: Option<Arc<str>>,
    /// For the outcome of a call.
    #[serde(flatten)]
    pub call: Option<CallFacts>,
    /// Who the admin was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Arc<str>>,
    /// What an admin did, or what the broker did by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Arc<str>>,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Arc<str>>,
    /// What was there before an admin changed it: of a change, the fields that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<serde_json::Value>>,
    /// What is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<serde_json::Value>>,
    /// The request id that the caller saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Arc<str>>,
    /// The address that the request came from: behind a listed proxy the one that it names. None on the admin socket,
    /// where `admin` names the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// The credentials of a call: one text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialLabels {
    /// `name@version`
    One(Arc<str>),
    /// Each `name@version`.
    Several(Vec<Arc<str>>),
}

impl Serialize for CredentialLabels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(label) => label.serialize(serializer),
            Self::Several(labels) => labels.serialize(serializer),
        }
    }
}

impl CredentialLabels {
    /// Of labels that differ; `None` if there is none.
    pub fn new(mut labels: Vec<Arc<str>>) -> Option<Self> {
        match labels.len() {
            0 => None,
            1 => labels.pop().map(Self::One),
            _ => Some(Self::Several(labels)),
        }
    }
}

/// The request that a record tells of.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its id, which the caller sees as well.
    pub request: Arc<str>,
    /// The address that it came from, if it came over the network.
    pub client: Option<IpAddr>,
}

/// How a brokered call went. Sizes and digests are of the bodies as they left us: the request's as the upstream got
/// it, the answer's as the agent got it, redacted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CallFacts {
    /// The upstream's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From intent to the end of the answer.
    pub duration_us: u64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// SHA-256 of the request's body, hex.
    pub request_sha256: String,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// SHA-256 of the answer's body, hex.
    pub response_sha256: String,
    /// How often an echoed secret was replaced.
    #[serde(skip_serializing_if = "is_zero")]
    pub redactions: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// Fills in which request it is about.
    pub fn came_by(&mut self, origin: &Origin) {
        self.request = Some(origin.request.clone());
        self.client = origin.client;
    }

    /// Takes out what an outcome does not repeat: it refers to its intent by number. Who called what stays, for whoever
    /// looks for it.
    pub fn into_outcome(self) -> Self {
        Self { token: None, bound_to: None, task: None, purpose: None, target_decoded: None, ..self }
    }

    /// Fills in whose token it is about: on whose behalf, through whom, bound to what.
    pub fn about(&mut self, token: &AccessToken) {
        self.subject = Some(token.sub.as_str().into());
        self.subject_issuer = token.sub_id.as_ref().map(|id| id.iss.as_str().into());
        // The outermost actor is the agent itself.
        let through = token.act.as_ref().map(|act| act.ids().skip(1).map(Arc::from).collect::<Vec<_>>());
        self.through = through.filter(|ids| !ids.is_empty());
        let cnf = token.cnf.as_ref();
        let key = cnf.and_then(|cnf| cnf.jkt.as_ref()).map(|jkt| format!("jkt:{}", jkt.as_str()));
        let certificate = || cnf.and_then(|cnf| cnf.x5t_s256.as_ref()).map(|x5t| format!("x5t#S256:{}", x5t.as_str()));
        self.bound_to = key.or_else(certificate).map(Arc::from);
    }

    /// An event with nothing but its kind.
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            decision: None,
            reason: None,
            agent: None,
            agent_name: None,
            session: None,
            parent: None,
            subject: None,
            subject_issuer: None,
            through: None,
            bound_to: None,
            method_of_client: None,
            token: None,
            scope: None,
            audience: None,
            task: None,
            purpose: None,
            upstream: None,
            operation: None,
            credential: None,
            method: None,
            target: None,
            target_decoded: None,
            call: None,
            admin: None,
            action: None,
            object: None,
            before: None,
            after: None,
            request: None,
            client: None,
        }
    }
}

/// A record, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts from 1 on each node.
    pub seq: i64,
    /// JSON, byte for byte as it was hashed.
    pub body: String,
}

/// The end of a node's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last record; 0 when there is none.
    pub seq: i64,
    /// Its hash; zeroes when there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// Before the first record.
    pub const EMPTY: Self = Self { seq: 0, hash: [0; 32] };
}
