//! Who asks: client authentication (RFC 6749 §2.3). One method per request; one that was presented and failed ends the
//! attempt, whatever else the agent could have proved itself with.

mod certificate;
mod secret;

use std::net::IpAddr;
use std::sync::Arc;

use hallpass_verify::{CertificateThumbprint, Confirmation, KeyThumbprint};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::issue::Issuer;
use crate::model::{Agent, AgentStatus};
use crate::world::Millis;

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
            Self::Assertion { id, .. } => id.as_deref(),
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
    /// The key of a DPoP proof that was verified for this request (RFC 9449 §5).
    pub proof: Option<KeyThumbprint>,
}

impl Caller {
    /// The keys that the caller proved to hold, which a session that it opens is bound to (RFC 8705 §3, RFC 9449 §5).
    pub fn confirmation(&self) -> Option<Confirmation> {
        let certificate = self.certificates.as_ref().and_then(|chain| chain.first());
        let x5t_s256 = certificate.map(|certificate| CertificateThumbprint::of_der(certificate));
        let cnf = Confirmation { x5t_s256, jkt: self.proof.clone() };
        (cnf != Confirmation::default()).then_some(cnf)
    }
}

/// The proof that an agent proved who it is, and is active. Only [`Issuer::authenticate`] builds one.
#[derive(Debug, Clone)]
pub struct Authenticated {
    agent: Arc<Agent>,
    method: &'static str,
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
}

impl Issuer {
    /// Checks what was presented.
    ///
    /// # Errors
    /// A reason for the audit log. The caller is told none of them apart: whoever guesses must not learn which
    /// client ids there are.
    pub(super) async fn authenticate(&self, caller: &Caller, now: Millis) -> Result<Authenticated, &'static str> {
        let (agent, method) = match &caller.presented {
            Presented::Nothing => return Err("no_client_authentication"),
            Presented::Secret { id, secret } => (self.by_secret(id, secret, now)?, "client_secret"),
            Presented::Assertion { .. } => return Err("client_assertion_not_accepted"),
            Presented::Certificate { id } => {
                self.by_certificate(id, caller.certificates.as_deref().unwrap_or_default(), now)?
            }
        };
        match agent.status {
            AgentStatus::Active => Ok(Authenticated { agent, method }),
            AgentStatus::Suspended => Err("agent_suspended"),
            AgentStatus::Revoked => Err("agent_revoked"),
        }
    }
}
