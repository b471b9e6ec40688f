//! The issuer: one spelling, and no http where somebody could listen.

use std::net::SocketAddr;

use url::{Host, Url};

use super::mistake::{Place, shown};
use super::read::Reader;
use super::{Listen, Overrides, derived_issuer};

/// The configured issuer; if there is none, checks that it can be derived from the listener.
pub(super) fn issuer(reader: &mut Reader, listen: Option<&Listen>, overrides: Overrides) -> Option<String> {
    let example = "for example \"https://hallpass.example.com\"";
    let Some(text) = reader.text("issuer") else {
        if let Some(listen) = listen.filter(|_| !reader.is_given("issuer")) {
            derivable(reader, listen.public, overrides, example);
        }
        return None;
    };
    let wrong = match Url::parse(&text) {
        Err(_) => Some((format!("{} is no URL", shown(&text)), format!("write one, {example}"))),
        Ok(url) => issuer_mistake(&text, &url, reader.boolean("insecure_http")),
    };
    if let Some((problem, fix)) = wrong {
        reader.mistake("issuer", problem, fix);
    }
    Some(text.to_string())
}

fn issuer_mistake(text: &str, url: &Url, insecure_http: bool) -> Option<(String, String)> {
    let problem = if !matches!(url.scheme(), "http" | "https") {
        "the URL is neither https nor http"
    } else if !url.username().is_empty() || url.password().is_some() {
        "the URL holds a user name or password"
    } else if url.query().is_some() {
        "the URL has a query"
    } else if url.fragment().is_some() {
        "the URL has a fragment"
    } else if text.ends_with('/') {
        "the URL ends with a slash"
    } else {
        // Issuers are compared byte for byte (RFC 8414 section 3.3), so there must be one spelling.
        let canonical = url.as_str().trim_end_matches('/');
        return match (canonical == text, insecure_http || url.scheme() == "https" || is_loopback(url)) {
            (false, _) => {
                Some((format!("{} is not its plain spelling", shown(text)), format!("write {}", shown(canonical))))
            }
            (true, false) => Some(("the URL is http and its host is not loopback".to_owned(), INSECURE.to_owned())),
            (true, true) => None,
        };
    };
    Some((
        problem.to_owned(),
        "write https://HOST[:PORT][/PATH], for example \"https://hallpass.example.com\"".to_owned(),
    ))
}

const INSECURE: &str = "write an https URL, or set insecure_http = true where the network can be trusted";

/// What is derived from the listener's address is held to the same rules as what is written.
fn derivable(reader: &mut Reader, public: SocketAddr, overrides: Overrides, example: &str) {
    let at = if overrides.listen.is_some() { Place::Argument("--listen") } else { reader.place("listen.public") };
    let tls = reader.is_given("tls.cert_file") || reader.is_given("tls.key_file");
    let scoped = matches!(public, SocketAddr::V6(v6) if v6.scope_id() != 0);
    if public.ip().to_canonical().is_unspecified() || scoped {
        let problem = format!("is missing, and cannot be derived from the listener {public}");
        reader.mistake_at("issuer", at, problem, format!("set it to the URL that agents use, {example}"));
    } else if !tls && !reader.boolean("insecure_http") && !public.ip().to_canonical().is_loopback() {
        let problem = format!("would be {}, which is http and not loopback", derived_issuer(false, public));
        let fix = "set an https issuer, or [tls], or insecure_http = true where the network can be trusted";
        reader.mistake_at("issuer", at, problem, fix);
    }
}

/// Whether a URL is of this very machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}
