//! Where somebody's keys come from: a registered URL, a registered issuer's discovery document, a bundle.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_verify::{ForeignKeys, KeyUse};
use http::StatusCode;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::model::{Agent, AuthMethod, TrustDomain, TrustedIssuer};
use crate::policy::is_as_safe;
use crate::registry::Registry;
use crate::trust::fetch::{FetchError, Fetcher, Reach};

/// Seconds for which keys are good without asking again, where their server does not say.
const FRESH: i64 = 300;

/// Within these bounds a server may say otherwise: more often would be its load on us, more seldom would keep a key that
/// it took back.
const FRESH_AT_LEAST: i64 = 60;
const FRESH_AT_MOST: i64 = 3_600;

/// Certificates of one bundle that are kept.
const MAX_CERTIFICATES: usize = 64;

/// Whose keys.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Those of one method of an agent.
    Agent(Arc<Agent>, usize),
    /// Those of an issuer.
    Issuer(Arc<TrustedIssuer>),
    /// Those of a trust domain.
    Domain(Arc<TrustDomain>),
}

/// What was found there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) keys: ForeignKeys,
    /// A trust domain's X.509 authorities.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    /// For how many seconds it is fresh; none: as long as the definition is the same.
    pub(super) fresh: Option<i64>,
}

impl Source {
    /// What it is kept under.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Agent(agent, n) => format!("agent/{}/{n}", agent.id),
            Self::Issuer(issuer) => format!("issuer/{}", issuer.name),
            Self::Domain(domain) => format!("domain/{}", domain.name),
        }
    }

    /// Whether it says the same: what was fetched under another definition is not used under this one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Agent(a, n), Self::Agent(b, m)) => {
                n == m && (Arc::ptr_eq(a, b) || a.identity.methods.get(*n) == b.identity.methods.get(*m))
            }
            (Self::Issuer(a), Self::Issuer(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Domain(a), Self::Domain(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }

    /// Whether it is still registered as it stands here.
    pub(super) fn is_registered(&self, registry: &Registry) -> bool {
        let now = match self {
            Self::Agent(agent, n) => registry.agent(&agent.id).map(|agent| Self::Agent(agent, *n)),
            Self::Issuer(issuer) => registry.definitions().issuer(&issuer.name).cloned().map(Self::Issuer),
            Self::Domain(domain) => registry.definitions().trust_domain(&domain.name).cloned().map(Self::Domain),
        };
        now.is_some_and(|now| self.is_same(&now))
    }

    /// Reads the keys where they are.
    pub(super) async fn find(&self, fetcher: &Fetcher) -> Result<Found, String> {
        match self {
            Self::Agent(agent, n) => match agent.identity.methods.get(*n) {
                Some(AuthMethod::PrivateKeyJwt { jwks: Some(jwks), .. }) => found(jwks, None),
                Some(AuthMethod::PrivateKeyJwt { jwks_uri: Some(uri), allow_private, .. }) => {
                    jwks(fetcher, uri, Reach { ca_pem: None, allow_private: *allow_private }).await
                }
                _ => Err("this method has no keys".into()),
            },
            Self::Issuer(issuer) => {
                let reach = Reach { ca_pem: issuer.ca_pem.as_deref(), allow_private: issuer.allow_private };
                match &issuer.jwks_uri {
                    // Declared before that was refused.
                    Some(uri) if !is_as_safe(uri, &issuer.issuer) => {
                        Err(format!("{uri}: it is no https URL, and the issuer is one"))
                    }
                    Some(uri) => jwks(fetcher, uri, reach).await,
                    None => jwks(fetcher, &discover(fetcher, &issuer.issuer, reach).await?, reach).await,
                }
            }
            Self::Domain(domain) => {
                let reach = Reach { ca_pem: domain.ca_pem.as_deref(), allow_private: domain.allow_private };
                match (&domain.bundle, &domain.bundle_endpoint) {
                    (Some(text), _) => Ok(Found { fresh: None, ..bundle(text.as_bytes())? }),
                    (None, Some(endpoint)) => {
                        let document =
                            fetcher.get(endpoint, reach).await.map_err(|error| fetch_failure(endpoint, &error))?;
                        bundle(&document.body)
                    }
                    (None, None) => Err("the trust domain has no bundle".into()),
                }
            }
        }
    }
}

fn fetch_failure(url: &str, error: &FetchError) -> String {
    format!("{url}: {error}")
}

fn found(jwks: &Value, fresh: Option<i64>) -> Result<Found, String> {
    let keys = ForeignKeys::from_value(jwks, KeyUse::Signature).ok_or("not a JWKS (RFC 7517 section 5)")?;
    Ok(Found { keys, certificates: Arc::default(), fresh })
}

async fn jwks(fetcher: &Fetcher, uri: &str, reach: Reach<'_>) -> Result<Found, String> {
    let document = fetcher.get(uri, reach).await.map_err(|error| fetch_failure(uri, &error))?;
    let jwks: Value = serde_json::from_slice(&document.body).map_err(|error| format!("{uri}: {error}"))?;
    found(&jwks, Some(document.max_age.unwrap_or(FRESH).clamp(FRESH_AT_LEAST, FRESH_AT_MOST)))
}

/// The part of OpenID Connect Discovery §3 and RFC 8414 §2 that matters here. Not by the `openidconnect` crate: its type
/// demands an `authorization_endpoint`, which the documents of Kubernetes and of GitHub Actions do not have.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// `jwks_uri` of an issuer: OpenID Connect Discovery §4, else RFC 8414 §3.
async fn discover(fetcher: &Fetcher, issuer: &str, reach: Reach<'_>) -> Result<String, String> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let document = match fetcher.get(&url, reach).await {
        Err(FetchError::Status(StatusCode::NOT_FOUND)) => {
            let mut url = Url::parse(issuer).map_err(|error| error.to_string())?;
            let path = format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/'));
            url.set_path(&path);
            fetcher.get(url.as_str(), reach).await.map_err(|error| fetch_failure(url.as_str(), &error))?
        }
        answer => answer.map_err(|error| fetch_failure(&url, &error))?,
    };
    let discovery: Discovery = serde_json::from_slice(&document.body).map_err(|error| format!("{url}: {error}"))?;
    // OpenID Connect Discovery §4.3, RFC 8414 §3.3: exactly. Otherwise one issuer could pass for another (mix-up).
    if discovery.issuer != issuer {
        return Err(format!("{url}: it names another issuer, '{}'", discovery.issuer.escape_debug()));
    }
    // An issuer that is known by its certificate must not have its keys read from whoever answers in the clear.
    if !is_as_safe(&discovery.jwks_uri, issuer) {
        return Err(format!("{url}: its jwks_uri is no https URL, and the issuer is one"));
    }
    Ok(discovery.jwks_uri)
}

/// SPIFFE Trust Domain and Bundle §4.
fn bundle(text: &[u8]) -> Result<Found, String> {
    let bundle: Value = serde_json::from_slice(text).map_err(|error| format!("the bundle is no JSON: {error}"))?;
    let keys = ForeignKeys::from_value(&bundle, KeyUse::JwtSvid).ok_or("the bundle is no JWKS")?;
    let all = bundle.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let certificates = all.iter().filter(|key| key.get("use").is_some_and(|what| what == "x509-svid"));
    let certificates = certificates.filter_map(|key| key.get("x5c")?.as_array()?.first()?.as_str());
    let certificates = certificates.filter_map(|text| STANDARD.decode(text).ok().map(CertificateDer::from));
    let hint = bundle.get("spiffe_refresh_hint").and_then(Value::as_i64).unwrap_or(FRESH);
    Ok(Found {
        keys,
        certificates: certificates.take(MAX_CERTIFICATES).collect(),
        fresh: Some(hint.clamp(FRESH_AT_LEAST, FRESH_AT_MOST)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_by_use_and_its_hint_is_kept_within_bounds() {
        let text = r#"{"keys":[
            {"kty":"EC","crv":"P-256","use":"jwt-svid","kid":"a",
             "x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
            {"kty":"EC","crv":"P-256","use":"x509-svid","x5c":["AAECAw=="]},
            {"kty":"EC","crv":"P-256","use":"other","x5c":["AAECAw=="]}],"spiffe_refresh_hint":1}"#;
        let found = bundle(text.as_bytes()).unwrap();
        assert_eq!((found.keys.len(), found.certificates.len(), found.fresh), (1, 1, Some(FRESH_AT_LEAST)));
        let found = bundle(br#"{"keys":[],"spiffe_refresh_hint":999999999}"#).unwrap();
        assert_eq!(found.fresh, Some(FRESH_AT_MOST));
        assert!(bundle(b"{}").is_err() && bundle(b"").is_err());
    }
}
