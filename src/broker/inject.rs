//! Putting the secret into the call. The one place that opens a credential, and only for a call whose intent is
//! durable: it takes a [`Recorded`] permit.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use zeroize::Zeroizing;

use crate::audit::Recorded;
use crate::broker::body::{BodyLimits, Upload};
use crate::broker::outcome::Outcome;
use crate::broker::right::{Right, Watched};
use crate::broker::scrub::Needles;
use crate::broker::{StreamBody, head};
use crate::error::{Error, Result};
use crate::model::{Credential, Injection};
use crate::policy::Permit;
use crate::secret::SecretBytes;
use crate::vault::{Label, Purpose, Sealed, Vault};
use crate::world::Millis;

/// Below this length a secret cannot be told from chance in an answer; `credential put --allow-short` accepts that.
pub const MIN_REDACTABLE: usize = 8;

/// A credential, the version of it that is injected, and all versions that are still good and so must be redacted.
#[derive(Debug)]
pub(super) struct ChosenCredential {
    credential: Arc<Credential>,
    chosen: u32,
    usable: Vec<u32>,
}

impl ChosenCredential {
    pub(super) fn new(credential: Arc<Credential>, pinned: Option<u32>, now: Millis) -> Option<Self> {
        let usable: Vec<u32> = credential.usable(now).map(|version| version.version).collect();
        let chosen = match pinned {
            Some(version) => usable.iter().copied().find(|one| *one == version)?,
            None => usable.last().copied()?,
        };
        Some(Self { credential, chosen, usable })
    }

    /// Whether this very version is still the one to take.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.chosen == other.chosen && self.credential.name == other.credential.name
    }

    /// `name@version`, for the record.
    pub(super) fn label(&self) -> Arc<str> {
        format!("{}@{}", self.credential.name, self.chosen).into()
    }
}

/// What of the agent's request may travel on, stripped of what must not.
pub(super) struct Outgoing {
    pub(super) headers: HeaderMap,
    pub(super) body: StreamBody,
}

/// A request with the secret in it: only [`inject`] builds one, and [`super::dial::send`] takes nothing else.
pub(super) struct Injected {
    request: http::Request<Upload>,
    needles: Option<Arc<Needles>>,
    right: Arc<Right>,
}

impl Injected {
    pub(super) fn into_request(self) -> http::Request<Upload> {
        self.request
    }

    /// What the call goes on under, once it is sent.
    pub(super) fn right(&self) -> &Arc<Right> {
        &self.right
    }

    /// What to look for in the answer; `None` if the secret is too short to be told from chance.
    pub(super) fn needles(&self) -> &Option<Arc<Needles>> {
        &self.needles
    }
}

/// Builds the upstream's request: from the permit's own target, the agent's stripped headers, and the secret.
pub(super) fn inject(
    recorded: Recorded<Permit>,
    credential: Option<&ChosenCredential>,
    vault: &Vault,
    outgoing: Outgoing,
    limits: &BodyLimits,
    outcome: &Outcome,
    watched: Watched,
) -> Result<Injected> {
    let permit = recorded.into_inner();
    let Outgoing { headers, body } = outgoing;
    let upstream = permit.upstream().clone();
    let (definition, base) = (upstream.definition(), upstream.base());
    let mut secrets: Vec<SecretBytes> = Vec::with_capacity(1);
    let mut chosen = None;
    if let Some(credential) = credential {
        for version in &credential.usable {
            let opened = open(vault, &credential.credential, *version)?;
            if *version == credential.chosen {
                chosen = Some(secrets.len());
            }
            secrets.push(opened);
        }
    }
    let secret = || chosen.and_then(|n| secrets.get(n)).ok_or_else(|| Error::internal("no usable version"));

    let header_name = match &definition.inject {
        Injection::Header { name, .. } => Some(HeaderName::from_bytes(name.as_bytes()).map_err(Error::internal)?),
        _ => None,
    };
    let (mut headers, unlisted) = head::strip_request(headers, upstream.headers());
    if !unlisted.is_empty() {
        metrics::counter!("hallpass_request_headers_dropped_total").increment(unlisted.len() as u64);
        // Their names: a value may be a secret of the agent's.
        tracing::debug!(upstream = &**upstream.name(), headers = ?unlisted, "not on the upstream's list of headers");
    }
    let mut path = Zeroizing::new(base.prefix.clone());
    match &definition.inject {
        Injection::Bearer { .. } => {
            headers.insert(AUTHORIZATION, sensitive(&[b"Bearer ", secret()?.expose()])?);
        }
        Injection::Header { prefix, .. } => {
            let name = header_name.ok_or_else(|| Error::internal("a header injection without a header"))?;
            headers.insert(name, sensitive(&[prefix.as_bytes(), secret()?.expose()])?);
        }
        Injection::Basic { username, .. } => {
            let secret = secret()?;
            let mut pair = Zeroizing::new(Vec::with_capacity(username.len() + 1 + secret.len()));
            pair.extend_from_slice(username.as_bytes());
            pair.push(b':');
            pair.extend_from_slice(secret.expose());
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_slice()));
            headers.insert(AUTHORIZATION, sensitive(&[b"Basic ", encoded.as_bytes()])?);
        }
        Injection::Query { .. } | Injection::None {} => {}
    }
    match &definition.inject {
        Injection::Query { name, .. } => {
            if permit.target().query_has(name) {
                // The agent's own parameter beside ours: which one the upstream would take, nobody knows.
                return Err(Error::invalid(
                    "parameter_not_allowed",
                    format!("the query parameter '{name}' carries this upstream's secret; leave it out"),
                ));
            }
            path.push_str(&permit.target().with_query_param(name, secret()?.expose()));
        }
        _ => path.push_str(permit.target().path_and_query()),
    }
    headers.insert(HOST, HeaderValue::from_str(&base.authority).map_err(Error::internal)?);

    let uri = Uri::builder()
        .scheme(if base.tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(base.authority.as_str())
        .path_and_query(PathAndQuery::try_from(path.as_str()).map_err(|_| Error::internal("the target is no path"))?)
        .build()
        .map_err(|_| Error::internal("the target is no URI"))?;
    let method = http::Method::from_bytes(permit.method().as_bytes()).map_err(Error::internal)?;
    let right = Arc::new(Right::new(permit, credential.map(|one| one.credential.clone()), watched));
    let upload = Upload::new(body, limits, outcome.request.clone(), right.clone());
    let mut request = http::Request::new(upload);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(Injected { request, needles: needles(&secrets), right })
}

fn needles(secrets: &[SecretBytes]) -> Option<Arc<Needles>> {
    let long: Vec<&[u8]> = secrets.iter().map(SecretBytes::expose).filter(|one| one.len() >= MIN_REDACTABLE).collect();
    if long.is_empty() { None } else { Some(Arc::new(Needles::of_stored(&long, MIN_REDACTABLE))) }
}

fn open(vault: &Vault, credential: &Credential, version: u32) -> Result<SecretBytes> {
    let missing = || Error::internal("the version is gone");
    let stored = credential.versions.iter().find(|one| one.version == version).ok_or_else(missing)?;
    let sealed =
        Sealed { wrapped_key: stored.sealed.wrapped_key.clone(), ciphertext: stored.sealed.ciphertext.clone() };
    let label = Label { purpose: Purpose::Credential, id: &credential.id, version };
    Ok(vault.open(label, &sealed)?)
}

/// A header value that HTTP libraries print as "Sensitive" and do not put into compression tables.
fn sensitive(parts: &[&[u8]]) -> Result<HeaderValue> {
    let joined = Zeroizing::new(parts.concat());
    let mut value = HeaderValue::from_bytes(&joined).map_err(|_| {
        Error::unavailable(
            "credential_unusable",
            "the stored credential has characters that no header can carry; put it again",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CredentialVersion, SealedColumns};
    use crate::vault::MasterKey;
    use crate::world::SystemEntropy;

    const NOW: Millis = 1_000;

    fn vault() -> Vault {
        Vault::new(MasterKey::generate(&SystemEntropy).unwrap(), Vec::new())
    }

    /// Version by version: the secret and when it ends.
    fn credential(vault: &Vault, name: &str, versions: &[(&str, Option<Millis>)]) -> Arc<Credential> {
        let id: Arc<str> = format!("cr_{name}").into();
        let version = |(version, (secret, expires_at)): (u32, &(&str, Option<Millis>))| {
            let label = Label { purpose: Purpose::Credential, id: &id, version };
            let sealed = vault.seal(&SystemEntropy, label, &SecretBytes::new(secret.as_bytes().to_vec())).unwrap();
            let sealed = SealedColumns { wrapped_key: sealed.wrapped_key, ciphertext: sealed.ciphertext };
            CredentialVersion { version, sealed, created_at: 0, expires_at: *expires_at }
        };
        let versions = (1..).zip(versions).map(version).collect();
        Arc::new(Credential {
            id: id.clone(),
            name: name.into(),
            allow_short: false,
            created_at: 0,
            revoked_at: None,
            versions,
        })
    }

    #[test]
    fn the_newest_version_is_chosen_or_the_pinned_one_while_it_is_good() {
        let key = credential(&vault(), "key", &[("old", Some(NOW)), ("pinned", Some(NOW + 1)), ("new", None)]);
        let chosen = |pinned| ChosenCredential::new(key.clone(), pinned, NOW).map(|one| one.label().to_string());
        assert_eq!(chosen(None).as_deref(), Some("key@3"));
        assert_eq!(chosen(Some(2)).as_deref(), Some("key@2"));
        assert_eq!((chosen(Some(1)), chosen(Some(4))), (None, None), "a pin never falls back to another version");
        assert_eq!(ChosenCredential::new(key.clone(), None, NOW).unwrap().usable, [2, 3], "what may be echoed still");
        assert!(ChosenCredential::new(credential(&vault(), "key", &[]), None, NOW).is_none());
    }

    #[test]
    fn the_same_choice_is_the_same_version_of_the_same_name() {
        let vault = vault();
        let (one, other) = (
            credential(&vault, "one", &[("a", None), ("b", None)]),
            credential(&vault, "other", &[("a", None), ("b", None)]),
        );
        let chosen = |credential: &Arc<Credential>, version| {
            ChosenCredential::new(credential.clone(), Some(version), NOW).unwrap()
        };
        let first = chosen(&one, 1);
        assert!(first.is_same(&chosen(&one, 1)));
        assert!(!first.is_same(&chosen(&one, 2)) && !first.is_same(&chosen(&other, 1)));
        assert!(!first.is_same(&chosen(&other, 2)));
    }

    #[test]
    fn each_version_opens_as_itself() {
        let vault = vault();
        let key = credential(&vault, "key", &[("first", Some(NOW)), ("second", None)]);
        let opened = |version| open(&vault, &key, version).map(|secret| secret.expose().to_vec());
        assert_eq!((opened(1).unwrap(), opened(2).unwrap()), (b"first".to_vec(), b"second".to_vec()));
        assert!(opened(3).is_err());
    }

    #[test]
    fn p1_secrets_of_8_bytes_are_looked_for_and_shorter_ones_are_not() {
        let found = |secrets: &[&str], answer: &str| {
            let secrets: Vec<_> = secrets.iter().map(|one| SecretBytes::new(one.as_bytes().to_vec())).collect();
            needles(&secrets).map(|needles| needles.scrub_value(answer.as_bytes()).is_some())
        };
        assert_eq!(found(&["8-bytes!"], "it is 8-bytes!"), Some(true));
        assert_eq!(found(&["7-bytes"], "it is 7-bytes"), None);
        assert_eq!(found(&["7-bytes", "8-bytes!"], "it is 7-bytes"), Some(false));
        assert_eq!(found(&["an older one", "8-bytes!"], "it is an older one"), Some(true));
    }

    #[test]
    fn a_header_value_is_sensitive_and_holds_nothing_that_ends_it() {
        let value = sensitive(&[b"Bearer ", b"caf\xc3\xa9"]).unwrap();
        assert_eq!((value.as_bytes(), value.is_sensitive()), (&b"Bearer caf\xc3\xa9"[..], true));
        for bad in [&b"a\r\nx-admin: 1"[..], b"a\n", b"\0"] {
            assert_eq!(sensitive(&[b"Bearer ", bad]).unwrap_err().code, "credential_unusable");
        }
    }
}
