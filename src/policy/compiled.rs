//! An upstream's definition, checked and ready to be asked.

use std::sync::Arc;

use url::{Host, Url};

use crate::model::{Http2, Target, Upstream};
use crate::policy::address;
use crate::policy::headers::HeaderPass;
use crate::policy::manifest::Mistake;
use crate::policy::placement::{self, CompiledPlacement, Need};
use crate::policy::public_host::{self, PublicHost};
use crate::policy::routes::{Fit, OperationView, Routes};

/// The parts of a base URL that a call is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `host[:port]` as it goes into the `Host` header.
    pub authority: String,
    /// Path before the target, without a slash at its end; mostly empty.
    pub prefix: String,
    /// Whether the base URL itself is at a slash behind the prefix, as it was written. Without a prefix it always is.
    pub ends_with_slash: bool,
}

impl BaseUrl {
    /// A target that says nothing means the base URL, as it was written: `https://h/mcp` is called as `/mcp`.
    pub fn complete(&self, target: Target) -> Target {
        if self.ends_with_slash { target.or_slash() } else { target }
    }
}

/// An upstream with its operations in a router per method.
#[derive(Debug)]
pub struct CompiledUpstream {
    definition: Upstream,
    name: Arc<str>,
    base: BaseUrl,
    headers: HeaderPass,
    placements: Vec<CompiledPlacement>,
    public_hosts: Vec<PublicHost>,
    routes: Routes,
}

impl CompiledUpstream {
    /// Checks a definition whole.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn new(definition: Upstream) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut note =
            |at: String, problem: String, fix: &str| mistakes.push(Mistake { at, problem, fix: fix.to_owned() });
        if let Err(problem) = crate::model::check_name("upstream", &definition.name) {
            note("name".into(), problem, "rename it");
        }
        if definition.name == "hallpass" {
            note("name".into(), "'hallpass' is kept for the built-in scopes".into(), "rename it");
        }
        let base = match parse_base(&definition.base_url) {
            Ok(base) => Some(base),
            Err((problem, fix)) => {
                note("base_url".into(), problem, fix);
                None
            }
        };
        let base_host = base.as_ref().map(|base| base.host.as_str());
        let public_hosts = public_host::check(&definition.public_hosts, base_host, &mut note);
        let placements = placement::compile(&definition.inject, &mut note);
        let headers = HeaderPass::compile(&definition, &placements, &mut note);
        check_schemes(&definition.authorization_schemes, &mut note);
        for (field, seconds) in [
            ("timeouts.connect_seconds", definition.timeouts.connect_seconds),
            ("timeouts.response_seconds", definition.timeouts.response_seconds),
            ("timeouts.idle_seconds", definition.timeouts.idle_seconds),
        ] {
            if seconds.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
                note(field.into(), "out of range".into(), "write 1 to 3600 seconds");
            }
        }
        for (field, bytes) in [
            ("limits.max_request_bytes", definition.limits.max_request_bytes),
            ("limits.max_response_bytes", definition.limits.max_response_bytes),
        ] {
            if bytes == Some(0) {
                note(field.into(), "0 would let nothing through".into(), "write a number of bytes above 0");
            }
        }
        if definition.limits.max_connections == Some(0) {
            note("limits.max_connections".into(), "0 would let nothing through".into(), "write a number above 0");
        }
        if definition.ca_file.is_some() && base.as_ref().is_some_and(|base| !base.tls) {
            note(
                "ca_file".into(),
                "a CA is of no use for an http base_url".into(),
                "write https in base_url or leave ca_file out",
            );
        }
        if definition.http2 == Http2::PriorKnowledge && base.as_ref().is_some_and(|base| base.tls) {
            note(
                "http2".into(),
                "prior_knowledge is for an http base_url; by https the two sides agree in the TLS handshake".into(),
                "write auto, or leave it out",
            );
        }
        let routes = Routes::compile(&definition, &mut note);
        match (base, mistakes.is_empty()) {
            (Some(base), true) => {
                let name = definition.name.as_str().into();
                Ok(Self { name, definition, base, public_hosts, headers, placements, routes })
            }
            _ => Err(mistakes),
        }
    }

    /// As it was declared.
    pub fn definition(&self) -> &Upstream {
        &self.definition
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it is.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Which of the agent's headers it gets, and which it always gets.
    pub fn headers(&self) -> &HeaderPass {
        &self.headers
    }

    /// Where its secrets go, in the order of the definition; none where it takes no secret.
    pub fn placements(&self) -> &[CompiledPlacement] {
        &self.placements
    }

    /// What its placements have to see of a call.
    pub fn need(&self) -> Need {
        self.placements.iter().map(CompiledPlacement::need).max().unwrap_or_default()
    }

    /// Its host names at the public listener.
    pub fn public_hosts(&self) -> &[PublicHost] {
        &self.public_hosts
    }

    /// The operation that has this method and this path, as [`Target::match_path`] writes it, if there is one.
    pub fn operation(&self, method: &str, path: &str) -> Option<&OperationView> {
        self.fit(method, path).map(|fit| fit.operation)
    }

    /// The same, with how it fits.
    pub fn fit(&self, method: &str, path: &str) -> Option<Fit<'_>> {
        self.routes.fit(method, path)
    }

    /// The scopes that its operations take, in full.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.routes.operations().iter().map(|operation| &*operation.scope)
    }
}

fn parse_base(text: &str) -> Result<BaseUrl, (String, &'static str)> {
    const FORM: &str = "write https://host, with a port or a path prefix if there is one";
    let url = Url::parse(text).map_err(|error| (format!("no URL: {error}"), FORM))?;
    let tls = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return Err((format!("scheme '{other}' cannot be called"), FORM)),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "a user name or password in the URL would be stored and shown in the clear".into(),
            "put it with 'hallpass credential put' and write 'inject: {kind: basic, …}'",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("a base URL has no query and no fragment".into(), FORM));
    }
    let host = url.host().ok_or(("there is no host in it".into(), FORM))?;
    let written = address::host_as_written(text).ok_or(("the host in it is not in its usual form".into(), FORM))?;
    address::host_is_canonical(written, &host).map_err(|problem| (problem, "write the host in its usual form"))?;
    if let Host::Ipv4(_) | Host::Ipv6(_) = host {
        let ip = match host {
            Host::Ipv4(ip) => std::net::IpAddr::V4(ip),
            Host::Ipv6(ip) => std::net::IpAddr::V6(ip),
            Host::Domain(_) => return Err((String::new(), FORM)),
        };
        // With `true`: whether private addresses are allowed is asked for every connection, forbidden ones at once.
        if let Err(refusal) = address::check(ip, true) {
            return Err((format!("{ip} may never be called: {refusal}"), "name a host of your own"));
        }
    }
    let prefix = url.path().trim_end_matches('/').to_owned();
    if !prefix.is_empty() {
        let canonical = Target::parse(&prefix, None);
        let raw = text.splitn(4, '/').nth(3).map(|rest| format!("/{}", rest.trim_end_matches('/')));
        if !canonical.is_ok_and(|target| target.path() == prefix && target.decoded_path() == prefix)
            || raw.as_deref() != Some(prefix.as_str())
        {
            return Err((
                "the path in it is not in canonical form".into(),
                "write it without dot segments, double slashes and needless escapes",
            ));
        }
    }
    let port = url.port_or_known_default().ok_or(("there is no port in it".into(), FORM))?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    let host = match host {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    let ends_with_slash = prefix.is_empty() || url.path().ends_with('/');
    Ok(BaseUrl { tls, host, port, authority, prefix, ends_with_slash })
}

fn check_schemes(schemes: &[String], note: &mut impl FnMut(String, String, &str)) {
    for (n, scheme) in schemes.iter().enumerate() {
        let at = format!("authorization_schemes[{n}]");
        let is = |one: &str| scheme.eq_ignore_ascii_case(one);
        let is_twice = schemes.iter().take(n).any(|other| is(other));
        // RFC 9110 §11.1: a scheme is a token, as a header's name is.
        if http::HeaderName::from_bytes(scheme.as_bytes()).is_err() {
            let problem = format!("'{}' is no scheme", scheme.escape_debug());
            note(at, problem, "write the one word that stands before the key, for example token");
        } else if is("bearer") || is("dpop") || is("basic") {
            note(at, format!("'{scheme}' is always taken"), "leave it out");
        } else if is("digest") || is("negotiate") || is("ntlm") || is("aws4-hmac-sha256") {
            note(at, format!("what follows '{scheme}' is no key but computed from one"), "leave it out");
        } else if is_twice {
            note(at, format!("'{scheme}' is there twice (schemes have no case)"), "write it once");
        }
    }
}
