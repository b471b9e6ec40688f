//! How an agent may prove who it is, besides its client secrets; and on whose behalf it acts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallpass_verify::{Actor, Audience, ScopeSet, SubjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{Declared, NamedFile, public};
use crate::world::Millis;

/// What an agent may prove itself with, besides the client secrets that it may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its methods. Each is enough; one that was presented and failed ends the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<AuthMethod>,
    /// Whether each token must be bound to a key (mTLS or DPoP).
    #[serde(default, skip_serializing_if = "is_false")]
    pub require_bound: bool,
    /// Names of agents that it may act for (RFC 8693): whose tokens it may exchange. Its own it always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_act_for: Vec<String>,
    /// Names of registered issuers whose people it may act for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_act_for_people_of: Vec<String>,
    /// Certificates that this broker issued to it before then count no more. The broker sets it when the agent is
    /// stopped; it cannot be declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_after: Option<Millis>,
}

impl Identity {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Leaves nothing of its key sets but public keys. One that holds a private key is refused before; here it would be
    /// left without any key.
    pub fn keep_public(&mut self) {
        for method in &mut self.methods {
            if let AuthMethod::PrivateKeyJwt { jwks: Some(jwks), .. } | AuthMethod::SelfSignedTlsClientAuth { jwks } =
                method
            {
                *jwks = public::key_set(jwks).unwrap_or_else(|_| serde_json::json!({ "keys": [] }));
            }
        }
    }
}

/// One way to prove who it is. Nothing that the client sends chooses whom we trust: all of that stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthMethod {
    /// A signed assertion (RFC 7523 §2.2, OpenID Connect Core §9). Exactly one of the two.
    PrivateKeyJwt {
        /// Its public keys (RFC 7517 §5).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>)]
        jwks: Option<serde_json::Value>,
        /// Where its public keys are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks_uri: Option<String>,
        /// Whether `jwks_uri` may lead to loopback and private addresses.
        #[serde(default, skip_serializing_if = "is_false")]
        allow_private: bool,
    },
    /// A certificate of one of the CAs in `tls.client_ca_file` (RFC 8705 §2.1). Exactly one of the five (§2.1.2).
    TlsClientAuth {
        /// The subject's distinguished name (RFC 4514).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject_dn: Option<String>,
        /// A dNSName.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_dns: Option<String>,
        /// A uniformResourceIdentifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_uri: Option<String>,
        /// An iPAddress.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_ip: Option<String>,
        /// An rfc822Name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_email: Option<String>,
    },
    /// A certificate that is registered itself, whoever issued it (RFC 8705 §2.2).
    SelfSignedTlsClientAuth {
        /// Keys whose first `x5c` is a certificate (RFC 7517 §4.7).
        #[schema(value_type = Object)]
        jwks: serde_json::Value,
    },
    /// An X.509-SVID or JWT-SVID of a registered trust domain.
    Spiffe {
        /// `spiffe://trust-domain/path`.
        id: String,
    },
    /// A token of a registered OpenID Connect issuer: Kubernetes service accounts, CI jobs, cloud identities.
    Federated {
        /// The registered issuer's name.
        issuer: String,
        /// What its `aud` must hold; the broker's own issuer identifier when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
        /// What its claims must be, each exactly; `kubernetes.io/namespace` reaches inside by slashes. `sub` or another
        /// claim that names the workload must be among them.
        claims: BTreeMap<String, String>,
    },
}

impl AuthMethod {
    /// As the metadata, the settings and the audit log call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
            Self::TlsClientAuth { .. } => "tls_client_auth",
            Self::SelfSignedTlsClientAuth { .. } => "self_signed_tls_client_auth",
            Self::Spiffe { .. } => "spiffe",
            Self::Federated { .. } => "federated",
        }
    }
}

/// An issuer of foreign tokens that an admin registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedIssuer {
    /// What trust entries call it.
    pub name: String,
    /// Its issuer identifier, exactly as `iss` says.
    pub issuer: String,
    /// Where its keys are, instead of asking its discovery document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// A CA file, beside the document, to trust for it instead of the public CAs; `apply` reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// What `apply` found in `ca_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Whether loopback and private addresses may be dialled for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_private: bool,
    /// Audiences that a person's token may carry to be exchanged (RFC 8693); none: people of this issuer do not
    /// delegate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_audiences: Vec<String>,
}

/// A SPIFFE trust domain that an admin registered. Exactly one source of its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustDomain {
    /// The trust domain, without `spiffe://`.
    pub name: String,
    /// A bundle in the SPIFFE format (a JWKS), beside the document; `apply` reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_file: Option<String>,
    /// What `apply` found in `bundle_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The bundle endpoint (`https_web` profile), which is polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_endpoint: Option<String>,
    /// A CA file, beside the document, to trust for the bundle endpoint instead of the public CAs; `apply` reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// What `apply` found in `ca_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Whether loopback and private addresses may be dialled for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_private: bool,
}

impl Declared for TrustedIssuer {
    fn name(&self) -> &str {
        &self.name
    }

    fn files(&mut self) -> Vec<NamedFile<'_>> {
        vec![NamedFile::ca(&self.ca_file, &mut self.ca_pem)]
    }
}

impl Declared for TrustDomain {
    fn name(&self) -> &str {
        &self.name
    }

    fn files(&mut self) -> Vec<NamedFile<'_>> {
        vec![NamedFile::ca(&self.ca_file, &mut self.ca_pem), NamedFile::bundle(&self.bundle_file, &mut self.bundle)]
    }
}

/// On whose behalf a session acts, and how far at most (RFC 8693). Made by token exchange, never changed: no later token
/// of the session goes beyond what its first token was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// `sub` of the session's tokens: the person, or the agent at the root.
    pub subject: Arc<str>,
    /// The registered issuer that vouched for the person; none: the subject is an agent of this broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// That issuer's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<Arc<str>>,
    /// Client ids of those who act, the newest (the session's own agent) first. None: an agent's own narrower session.
    pub actors: Vec<Arc<str>>,
    /// What the exchange granted.
    pub scope: ScopeSet,
    /// For whom the exchange granted it.
    pub audience: Audience,
    /// `jti` of the subject token, if it was one of ours: taking that back ends this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
}

impl Delegation {
    /// `act`, nested (RFC 8693 §4.1).
    pub fn act(&self) -> Option<Actor> {
        Actor::chain(self.actors.iter().map(AsRef::as_ref))
    }

    /// `sub_id` of a person (RFC 9493 §3.2.3).
    pub fn sub_id(&self) -> Option<SubjectId> {
        let iss = self.iss.as_ref()?.to_string();
        Some(SubjectId { iss, sub: self.subject.to_string() })
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
