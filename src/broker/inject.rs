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

/// A request with the secret in it: only [`inject`] builds one, and [`super::dial::send`] takes nothing else.
pub(super) struct Injected {
    request: http::Request<Upload>,
    needles: Option<Arc<Needles>>,
}

impl Injected {
    pub(super) fn into_request(self) -> http::Request<Upload> {
        self.request
    }

    /// What to look for in the answer; `None` if the secret is too short to be told from chance.
    pub(super) fn needles(&self) -> &Option<Arc<Needles>> {
        &self.needles
    }
}

/// Builds the upstream's request: from the permit's own target, the agent's stripped headers, and the secret.
pub(super) fn inject(
    recorded: Recorded<Permit>,
    credential: &ChosenCredential,
    vault: &Vault,
    headers: HeaderMap,
    body: StreamBody,
    limits: &BodyLimits,
    outcome: &Outcome,
) -> Result<Injected> {
    let permit = recorded.into_inner();
    let definition = permit.upstream().definition();
    let base = permit.upstream().base();
    let mut secrets: Vec<SecretBytes> = Vec::with_capacity(1);
    let mut secret = None;
    for version in &credential.usable {
        let opened = open(vault, &credential.credential, *version)?;
        if *version == credential.chosen {
            secret = Some(secrets.len());
        }
        secrets.push(opened);
    }
    let secret = secret.and_then(|n| secrets.get(n)).ok_or_else(|| Error::internal("no usable version"))?;

    let header_name = match &definition.inject {
        Injection::Header { name, .. } => Some(HeaderName::from_bytes(name.as_bytes()).map_err(Error::internal)?),
        _ => None,
    };
    let mut headers = head::strip_request(headers, header_name.as_ref(), definition.allow_range);
    let mut path = Zeroizing::new(base.prefix.clone());
    match &definition.inject {
        Injection::Bearer { .. } => {
            headers.insert(AUTHORIZATION, sensitive(&[b"Bearer ", secret.expose()])?);
        }
        Injection::Header { prefix, .. } => {
            let name = header_name.ok_or_else(|| Error::internal("a header injection without a header"))?;
            headers.insert(name, sensitive(&[prefix.as_bytes(), secret.expose()])?);
        }
        Injection::Basic { username, .. } => {
            let mut pair = Zeroizing::new(Vec::with_capacity(username.len() + 1 + secret.len()));
            pair.extend_from_slice(username.as_bytes());
            pair.push(b':');
            pair.extend_from_slice(secret.expose());
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_slice()));
            headers.insert(AUTHORIZATION, sensitive(&[b"Basic ", encoded.as_bytes()])?);
        }
        Injection::Query { .. } => {}
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
            path.push_str(&permit.target().with_query_param(name, secret.expose()));
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
    let upload = Upload::new(body, limits, outcome.request.clone());
    let mut request = http::Request::new(upload);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(Injected { request, needles: needles(&secrets) })
}

fn needles(secrets: &[SecretBytes]) -> Option<Arc<Needles>> {
    let long: Vec<&[u8]> = secrets.iter().map(SecretBytes::expose).filter(|one| one.len() >= MIN_REDACTABLE).collect();
    if long.is_empty() { None } else { Some(Arc::new(Needles::new(&long))) }
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
