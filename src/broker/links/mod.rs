//! Links in an answer lead back to the broker.
//!
//! An upstream knows only its own address, and writes it into `Link`, `Location` and their kin. A client that follows
//! such a URL goes past the broker, and hands its token to the upstream (SDKs that page), or to whomever the upstream
//! names (HTTP libraries resend `X-Api-Key` after a redirect to another host). So a URL below the upstream's `base_url` is
//! written with the broker's address for this upstream, and a foreign one is left out where the token came in such a
//! header. Where it came in `Authorization` a foreign URL is left, as downloads from other hosts need it: curl, requests,
//! httpx and fetch hold that header back, urllib and `wget --header` do not (`docs/clients.md` says so).

mod field;
mod place;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::broker::scrub::Needles;
use crate::model::Target;
use crate::policy::{CompiledUpstream, Permit};
use place::{Leads, Place};

/// How the caller came here: what the links of its answer depend on.
#[derive(Debug, Clone)]
pub struct Reached {
    /// `scheme://host[:port]` of the upstream's own host name at the public listener, if the call came by one.
    pub public_host: Option<Arc<str>>,
    /// Whether the token came in `Authorization` and nowhere else, which many clients do not resend to another host.
    pub by_authorization: bool,
}

/// What the links in one call's answer are resolved against, and what they become.
pub(super) struct Links {
    upstream: Arc<CompiledUpstream>,
    asked: Target,
    issuer: Arc<str>,
    reached: Reached,
}

/// What a header holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// One URL that clients follow, or resolve others against.
    Url,
    /// A list of them (RFC 8288).
    Links,
    /// Seconds, and a URL.
    Refresh,
    /// URLs in a form that is not read here, or a file that a proxy in front of the broker would send: it goes.
    Unread,
    /// Something else. If all of it is a URL below the upstream's base, that is rewritten, too.
    Other,
}

/// Which header holds what. `Operation-Location` and `Azure-AsyncOperation` are polled by Azure's SDKs,
/// `X-Goog-Upload-URL` is where Google's SDKs send the parts of an upload.
fn holds(name: &HeaderName) -> Holds {
    match name.as_str() {
        "location"
        | "content-location"
        | "operation-location"
        | "azure-asyncoperation"
        | "x-goog-upload-url"
        | "x-goog-upload-control-url"
        | "sourcemap"
        | "x-sourcemap" => Holds::Url,
        "link" => Holds::Links,
        "refresh" => Holds::Refresh,
        // RFC 2068 §19.6.2.5 and §14.11 (both obsolete), RFC 2110 §4, RFC 9652.
        "uri" | "base" | "content-base" | "link-template" => Holds::Unread,
        // nginx, Apache, lighttpd and Perlbal: an answer with one of these makes them send another file or URL instead.
        "x-accel-redirect" | "x-sendfile" | "x-lighttpd-send-file" | "x-reproxy-url" | "x-reproxy-file" => {
            Holds::Unread
        }
        _ => Holds::Other,
    }
}

/// An origin and no link: `Access-Control-Allow-Origin` and its kin.
fn is_origin(name: &HeaderName) -> bool {
    matches!(name.as_str(), "access-control-allow-origin" | "timing-allow-origin" | "origin")
}

/// Whether a value begins as an absolute URL that an HTTP client could follow.
fn is_http(value: &[u8]) -> bool {
    let begins = |scheme: &[u8]| value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    begins(b"http:") || begins(b"https:")
}

impl Links {
    pub(super) fn new(permit: &Permit, issuer: &Arc<str>, reached: Reached) -> Self {
        let (upstream, asked) = (permit.upstream().clone(), permit.target().clone());
        Self { upstream, asked, issuer: issuer.clone(), reached }
    }

    /// Rewrites the links of a stripped and scrubbed head. Gives how often the secret had to be taken out once more:
    /// parsing puts together what was apart, and that may be the secret.
    pub(super) fn rewrite(&self, headers: HeaderMap, needles: Option<&Needles>) -> (HeaderMap, u64) {
        let is_meant = |(name, value): (&HeaderName, &HeaderValue)| match holds(name) {
            Holds::Other => is_http(value.as_bytes()) && !is_origin(name),
            _ => true,
        };
        if !headers.iter().any(is_meant) {
            return (headers, 0);
        }
        let place = Place::new(&self.upstream, &self.asked, &self.issuer, self.reached.public_host.as_deref());
        let mut kept = HeaderMap::with_capacity(headers.len());
        let (mut current, mut redactions) = (None, 0);
        for (name, value) in headers {
            current = name.or(current);
            let Some(name) = &current else { continue };
            let written = match &place {
                Some(place) => self.written(place, name, value.as_bytes()),
                // Nothing to resolve against: then no link is understood.
                None if holds(name) == Holds::Other => Some(Cow::Borrowed(value.as_bytes())),
                None => None,
            };
            let Some(written) = written else {
                tracing::debug!(%name, "a header of the upstream was left out: its link leads elsewhere, or nowhere");
                continue;
            };
            match written {
                Cow::Borrowed(_) => _ = kept.append(name.clone(), value),
                Cow::Owned(text) if needles.is_some_and(|needles| needles.scrub_value(&text).is_some()) => {
                    redactions += 1;
                }
                Cow::Owned(text) => {
                    if let Ok(value) = HeaderValue::from_bytes(&text) {
                        kept.append(name.clone(), value);
                    }
                }
            }
        }
        (kept, redactions)
    }

    /// A header's value as the agent gets it; `None`: not at all.
    fn written<'a>(&self, place: &Place, name: &HeaderName, value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match holds(name) {
            Holds::Url => self.url(place, value),
            Holds::Links => field::links(value, |url| self.url(place, url)).map(Cow::Owned),
            Holds::Refresh => match field::refresh(value)? {
                field::Refresh::Itself => Some(Cow::Borrowed(value)),
                field::Refresh::To { seconds, url } => Some(match self.url(place, url)? {
                    Cow::Borrowed(_) => Cow::Borrowed(value),
                    Cow::Owned(url) => Cow::Owned([seconds, b"; url=", &url].concat()),
                }),
            },
            Holds::Unread => None,
            // More than one URL, or text behind it: not to be taken apart by guessing.
            Holds::Other if !is_http(value) || is_origin(name) || value.iter().any(u8::is_ascii_whitespace) => {
                Some(Cow::Borrowed(value))
            }
            Holds::Other => Some(match place.of(value) {
                Leads::Here(url) => Cow::Owned(url.into_bytes()),
                Leads::Elsewhere(_) | Leads::Nowhere => Cow::Borrowed(value),
            }),
        }
    }

    /// A URL as the agent gets it; `None`: not at all.
    fn url<'a>(&self, place: &Place, url: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match place.of(url) {
            Leads::Here(url) => Some(Cow::Owned(url.into_bytes())),
            Leads::Elsewhere(url) => self.reached.by_authorization.then_some(url),
            Leads::Nowhere => None,
        }
    }
}

/// Takes out what has no business in trailers (RFC 9110 §6.5.1), where it would not be rewritten.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let named: Vec<_> = trailers.keys().filter(|name| holds(name) != Holds::Other).cloned().collect();
    for name in named {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests;
