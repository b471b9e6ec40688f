//! Where one URL of an upstream leads.

use std::borrow::Cow;

use percent_encoding::percent_encode_byte;
use url::{Host, Url};

use crate::model::Target;
use crate::policy::{BaseUrl, CompiledPlacement, CompiledUpstream, Slot};

/// What a URL is resolved against, and what one below the upstream's base becomes.
pub(super) struct Place {
    /// What was asked, at the upstream.
    from: Url,
    base: BaseUrl,
    /// The broker's address for this upstream, without a slash at its end.
    address: String,
    parsed_address: Url,
    /// The query parameters that carry secrets: they are not for the agent, whatever their values.
    secret_parameters: Vec<String>,
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads<'a> {
    /// Below the upstream's base: this is its address at the broker.
    Here(String),
    /// To somebody else.
    Elsewhere(Cow<'a, [u8]>),
    /// Nobody knows, or to the broker itself, which is not for an upstream to say.
    Nowhere,
}

impl Place {
    /// `None` if the addresses are no URLs: a definition and a configuration that were checked have none of these.
    pub(super) fn new(
        upstream: &CompiledUpstream,
        asked: &Target,
        issuer: &str,
        public_host: Option<&str>,
    ) -> Option<Self> {
        let base = upstream.base().clone();
        let from = format!("{}://{}{}{}", scheme(&base), base.authority, base.prefix, asked.path_and_query());
        let address = public_host.map_or_else(|| format!("{issuer}/exchange/{}", upstream.name()), str::to_owned);
        let secret = |placement: &CompiledPlacement| match placement.slot() {
            Slot::Parameter(name) => Some(name.to_owned()),
            Slot::Header(_) => None,
        };
        let secret_parameters = upstream.placements().iter().filter_map(secret).collect();
        let (from, parsed_address) = (Url::parse(&from).ok()?, Url::parse(&address).ok()?);
        Some(Self { from, base, address, parsed_address, secret_parameters })
    }

    /// Where this URL leads, absolute or relative to what was asked (RFC 3986 §5.2).
    pub(super) fn of<'a>(&self, written: &'a [u8]) -> Leads<'a> {
        let Some(text) = readable(written) else { return Leads::Nowhere };
        let Ok(url) = self.from.join(&text) else { return Leads::Nowhere };
        let authority = authority(&text);
        if let Some(rest) = self.below_base(&url).filter(|_| !authority.is_some_and(|one| one.contains('@'))) {
            return Leads::Here(format!("{}{rest}", self.address));
        }
        if self.is_ours(&url) {
            // The client would take its token along. Where to, is not for an upstream to say.
            return Leads::Nowhere;
        }
        // A path alone would be one of the broker's to whoever reads it there: it is written out, with its host.
        let keeps_scheme = !text.starts_with("//") || self.parsed_address.scheme() == self.from.scheme();
        let as_it_came = authority.is_some_and(is_plain) && keeps_scheme;
        Leads::Elsewhere(match as_it_came {
            true => Cow::Borrowed(written.trim_ascii()),
            false => Cow::Owned(String::from(url).into_bytes()),
        })
    }

    /// What stands behind the base in a URL that is below it: compared as parsed, by scheme, host, port and whole segments
    /// of the path, which is read as one in a request (P8).
    fn below_base(&self, url: &Url) -> Option<String> {
        let same = url.scheme() == scheme(&self.base)
            && is_host(url, &self.base.host)
            && url.port_or_known_default() == Some(self.base.port)
            && url.username().is_empty()
            && url.password().is_none();
        if !same {
            return None;
        }
        // What no request may have for a path is passed on as it is: the request for it gets the reason.
        let canonical = Target::parse(url.path(), None);
        let path = canonical.as_ref().map_or(url.path(), Target::path);
        let rest = path.strip_prefix(&*self.base.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let mut rest = rest.to_owned();
        if let Some(query) = url.query().and_then(|query| self.without_secret(query)) {
            rest.push('?');
            rest.push_str(&query);
        }
        if let Some(fragment) = url.fragment() {
            rest.push('#');
            rest.push_str(fragment);
        }
        Some(rest)
    }

    /// The query without the parameters that carry secrets: an upstream that repeats what it was asked repeats it.
    fn without_secret<'a>(&self, query: &'a str) -> Option<Cow<'a, str>> {
        if self.secret_parameters.is_empty() {
            return Some(Cow::Borrowed(query));
        }
        let is_secret = |piece: &str| {
            let mut names = piece.split(';').flat_map(|one| url::form_urlencoded::parse(one.as_bytes()));
            names.any(|(name, _)| self.secret_parameters.iter().any(|secret| name.eq_ignore_ascii_case(secret)))
        };
        let kept: Vec<&str> = query.split('&').filter(|piece| !is_secret(piece)).collect();
        (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
    }

    /// Whether a client that came to our address sends the token there, too. HTTP libraries resend `Authorization` to
    /// the same origin; Go's does to any port of the same host, and to the names below it. At an IP address the port counts
    /// nevertheless: there the other ports are other programs, to which redirects lead for good reasons.
    fn is_ours(&self, url: &Url) -> bool {
        let ours = &self.parsed_address;
        match (ours.host(), url.host()) {
            (Some(Host::Domain(ours)), Some(Host::Domain(name))) => {
                let (ours, name) = (without_dot(ours), without_dot(name));
                name.strip_suffix(ours).is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            _ => ours.origin() == url.origin(),
        }
    }
}

fn scheme(base: &BaseUrl) -> &'static str {
    if base.tls { "https" } else { "http" }
}

/// Names are in lower case after parsing. A dot at the end is the same name (RFC 1034 §3.1).
fn is_host(url: &Url, host: &str) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => without_dot(name) == without_dot(host),
        Some(Host::Ipv4(ip)) => ip.to_string() == host,
        Some(Host::Ipv6(ip)) => ip.to_string() == host,
        None => false,
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// The URL as text, each byte beyond ASCII as `%HH`; `None` if some client reads another URL in it than the parser here.
/// WHATWG URL §4.4 drops tabs and takes `\` for `/`, `https:x` and `https:///x` for `https://x`; RFC 3986 does not.
fn readable(written: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(written.len());
    for byte in written.trim_ascii() {
        match byte {
            byte if byte.is_ascii_control() => return None,
            byte if byte.is_ascii() => text.push(char::from(*byte)),
            byte => text.push_str(percent_encode_byte(*byte)),
        }
    }
    let after_scheme = match text.split_once(':') {
        Some((scheme, rest)) if ["http", "https"].iter().any(|one| scheme.eq_ignore_ascii_case(one)) => {
            Some(rest.strip_prefix("//")?)
        }
        _ => text.strip_prefix("//"),
    };
    let is_slash = |text: &str| text.starts_with(['/', '\\']);
    let strange = match after_scheme {
        Some(authority) => is_slash(authority) || authority.is_empty(),
        None => text.starts_with('\\') || text.starts_with("/\\"),
    };
    let before_query = text.split(['?', '#']).next().unwrap_or_default();
    (!strange && !before_query.contains('\\')).then_some(text)
}

/// The authority of an absolute URL with one, or of a network-path reference (RFC 3986 §4.2), as it is written.
fn authority(text: &str) -> Option<&str> {
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
            rest.strip_prefix("//")
        }
        _ => text.strip_prefix("//"),
    };
    rest.and_then(|rest| rest.split(['/', '?', '#']).next())
}

/// Whether every client reads the same host in this authority.
fn is_plain(authority: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]@".contains(&byte);
    !authority.is_empty()
        && authority.bytes().all(is_plain)
        && authority.bytes().filter(|byte| *byte == b'@').count() < 2
}
