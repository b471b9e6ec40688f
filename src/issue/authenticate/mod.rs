//! Who asks: client authentication (RFC 6749 §2.3). One method per request; one that was presented and failed ends the
//! attempt, whatever else the agent could have proved itself with.

mod assertion;
mod certificate;
mod federated;
mod guess;
mod replay;
mod secret;
mod spiffe;

use std::net::IpAddr;
use std::sync::Arc;

use hallpass_verify::{CertificateThumbprint, Confirmation, ForeignToken, Proof};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::issue::{Issuer, TokenError};
use crate::model::{Agent, AgentStatus, Guard, UsedAssertion};
use crate::world::Millis;

use assertion::client_message;

pub(super) use assertion::ASSERTION_REPLAYED;
pub(super) use certificate::{MAX_CHAIN, names};
pub(super) use guess::Guesses;
pub(super) use replay::{MAX_REMEMBERED, Replay, Use};

/// `client_assertion_type` of RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `client_assertion_type` of draft-ietf-oauth-spiffe-client-auth.
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// What the client presented. Exactly one method: two in one request are refused before this is built (§2.3).
pub enum Presented {
    /// Nothing.
    Nothing,
    /// `client_secret_basic` or `client_secret_post`.
    Secret {
        /// `client_id`.
        id: String,
        /// `client_secret`.
        secret: Zeroizing<String>,
    },
    /// A signed assertion (RFC 7521 §4.2).
    Assertion {
        /// `client_id`, where it was sent.
        id: Option<String>,
        /// `client_assertion_type`.
        kind: String,
        /// `client_assertion`. Good for one use, and a secret until then.
        assertion: Zeroizing<String>,
    },
    /// A workload's own token as a grant (RFC 7523 §2.1).
    Grant {
        /// `client_id`, where it was sent.
        id: Option<String>,
        /// `assertion`.
        assertion: Zeroizing<String>,
    },
    /// A client certificate on the connection (RFC 8705 §2).
    Certificate {
        /// `client_id`.
        id: String,
    },
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({:?})", self.client_id())
    }
}

impl Presented {
    /// Who it claims to be.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Secret { id, .. } | Self::Certificate { id } => Some(id),
            Self::Assertion { id, .. } | Self::Grant { id, .. } => id.as_deref(),
        }
    }

    /// As [`Self::client_id`]; where it was not sent, what a client's assertion says of itself.
    pub(super) fn claimed_id(&self) -> Option<String> {
        match self {
            Self::Assertion { id: None, assertion, .. } => {
                ForeignToken::parse(assertion).ok()?.claimed_subject().map(str::to_owned)
            }
            other => other.client_id().map(str::to_owned),
        }
    }
}

/// Who knocks: what was presented, and what else is known of the other end.
#[derive(Debug)]
pub struct Caller {
    /// The client authentication.
    pub presented: Presented,
    /// The address of the other end of the connection, or what a trusted proxy says it is.
    pub address: Option<IpAddr>,
    /// The client's certificate chain, its own certificate first. TLS has shown that the client holds the private key,
    /// and nothing else: who issued it, and for whom, is not checked yet.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// The DPoP proof that was verified for this request (RFC 9449 §5). [`Issuer::client`] spends it.
    pub proof: Option<Proof>,
}

impl Caller {
    /// The keys that the caller proved to hold, which a session that it opens is bound to (RFC 8705 §3, RFC 9449 §5).
    pub fn confirmation(&self) -> Option<Confirmation> {
        let certificate = self.certificates.as_ref().and_then(|chain| chain.first());
        let x5t_s256 = certificate.map(|certificate| CertificateThumbprint::of_der(certificate));
        let cnf = Confirmation { x5t_s256, jkt: self.proof.as_ref().map(|proof| proof.key().clone()) };
        (cnf != Confirmation::default()).then_some(cnf)
    }
}

/// The proof that an agent proved who it is, and is active. Only [`Issuer::authenticate`] builds one.
#[derive(Debug, Clone)]
pub struct Authenticated {
    agent: Arc<Agent>,
    method: &'static str,
    spent: Vec<Guard>,
}

impl Authenticated {
    /// The agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// How it proved who it is, by the name that the metadata gives the method.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// What has to be durable before this agent is answered: that its assertion and its proof were used, and not before.
    pub(super) fn spent(&self) -> Vec<Guard> {
        self.spent.clone()
    }

    /// Its proof was spent, too.
    pub(super) fn spending(mut self, proof: &Proof) -> Self {
        self.spent.push(Guard::Proof(proof.spent().into()));
        self
    }

    /// That is durable now.
    pub(super) fn kept(self) -> Self {
        Self { spent: Vec::new(), ..self }
    }
}

/// Why nobody was authenticated.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// For the audit log.
    pub(super) reason: &'static str,
    /// How long the client must wait before its secret is looked at.
    pub(super) wait: Millis,
    /// What the client is told, where it has proved enough to be told something.
    pub(super) told: Option<TokenError>,
}

impl From<&'static str> for Failed {
    fn from(reason: &'static str) -> Self {
        Self { reason, wait: 0, told: None }
    }
}

/// A client's own assertion that did not count.
fn of_assertion(reason: &'static str) -> Failed {
    let told = match reason {
        "assertion_cache_full" => Some(TokenError::AssertionsFull),
        reason => client_message(reason).map(TokenError::BadAssertion),
    };
    Failed { reason, wait: 0, told }
}

impl Issuer {
    /// Checks what was presented.
    ///
    /// # Errors
    /// A reason for the audit log. The caller is told none of them apart until it has proved something: whoever guesses
    /// must not learn which client ids there are.
    pub(super) async fn authenticate(&self, caller: &Caller, now: Millis) -> Result<Authenticated, Failed> {
        let mut spent = Vec::new();
        let (agent, method) = match &caller.presented {
            Presented::Nothing => return Err("no_client_authentication".into()),
            Presented::Secret { id, secret } => {
                self.may_use("client_secret")?;
                (self.by_slowed_secret(id, secret, caller.address, now)?, "client_secret")
            }
            Presented::Assertion { id, kind, assertion } => {
                let (agent, method, assertion) = self.by_assertion(id.as_deref(), kind, assertion, now).await?;
                spent.extend(assertion.map(|used| Guard::Assertion(Arc::new(used))));
                (agent, method)
            }
            Presented::Grant { id, assertion } => {
                self.may_use("federated")?;
                let token = Self::read_assertion(assertion)?;
                let agent = match id {
                    Some(id) => self.by_federation(id, &token, now).await?,
                    None => self.by_own_assertion(&token, now).await?,
                };
                (agent, "federated")
            }
            Presented::Certificate { id } => {
                let chain = caller.certificates.as_deref().unwrap_or_default();
                let (agent, method) = self.by_certificate(id, chain, now).await?;
                self.may_use(method)?;
                (agent, method)
            }
        };
        match agent.status {
            AgentStatus::Active => Ok(Authenticated { agent, method, spent }),
            // It has proved who it is, so it may be told.
            status => {
                let stopped = TokenError::Stopped { status, by_grant: false };
                Err(Failed { reason: stopped.reason(), wait: 0, told: Some(stopped) })
            }
        }
    }

    async fn by_assertion(
        &self,
        id: Option<&str>,
        kind: &str,
        assertion: &str,
        now: Millis,
    ) -> Result<(Arc<Agent>, &'static str, Option<UsedAssertion>), Failed> {
        let token = match kind {
            JWT_BEARER | JWT_SPIFFE => Self::read_assertion(assertion)?,
            _ => return Err("client_assertion_type_unknown".into()),
        };
        if kind == JWT_SPIFFE {
            self.may_use("spiffe")?;
            return Ok((self.by_svid(id, &token, now).await.map_err(of_assertion)?, "spiffe", None));
        }
        match (id, token.claimed_issuer()) {
            // Somebody else's word, about a client that was named: without the name, nobody is.
            (Some(id), Some(issuer)) if issuer != id && token.claimed_subject() != Some(issuer) => {
                self.may_use("federated")?;
                Ok((self.by_federation(id, &token, now).await?, "federated", None))
            }
            _ => {
                self.may_use("private_key_jwt")?;
                let (agent, used) = self.by_private_key(id, &token, now).await.map_err(of_assertion)?;
                Ok((agent, "private_key_jwt", Some(used)))
            }
        }
    }

    /// Whether the operator allows this method at all.
    fn may_use(&self, method: &'static str) -> Result<(), &'static str> {
        if self.settings.client_auth.allows(method) { Ok(()) } else { Err("method_forbidden") }
    }
}
