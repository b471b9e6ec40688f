//! Whom the broker trusts to say who an agent is: checks what an admin declares about it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use url::Url;

use crate::model::{AuthMethod, DistinguishedName, Identity, check_name};
use crate::policy::manifest::{name_mistake, twice};
use crate::policy::{Known, Manifest, Mistake};

/// Issuers and trust domains that trust entries may name.
#[derive(Debug, Default)]
pub struct Trusted {
    issuers: BTreeSet<String>,
    trust_domains: BTreeSet<String>,
}

impl From<&Known> for Trusted {
    fn from(known: &Known) -> Self {
        Self { issuers: known.issuers.clone(), trust_domains: known.trust_domains.clone() }
    }
}

/// Checks the issuers and trust domains of a document; what trust entries may name then.
pub(super) fn check_trust(manifest: &Manifest, known: &Known, mistakes: &mut Vec<Mistake>) -> Trusted {
    let mut trusted = Trusted::from(known);
    let mut seen = BTreeSet::new();
    for (n, issuer) in manifest.issuers.iter().enumerate() {
        let at = format!("issuers[{n}]");
        if !seen.insert(&issuer.name) {
            mistakes.push(twice(&at, &issuer.name));
        }
        name_mistake(&at, "issuer", &issuer.name, mistakes);
        check_url(&format!("{at}.issuer"), &issuer.issuer, mistakes);
        if let Some(uri) = &issuer.jwks_uri {
            check_url(&format!("{at}.jwks_uri"), uri, mistakes);
        }
        trusted.issuers.insert(issuer.name.clone());
    }
    let mut seen = BTreeSet::new();
    for (n, domain) in manifest.trust_domains.iter().enumerate() {
        let at = format!("trust_domains[{n}]");
        if !seen.insert(&domain.name) {
            mistakes.push(twice(&at, &domain.name));
        }
        if !is_trust_domain(&domain.name) {
            mistakes.push(Mistake {
                at: format!("{at}.name"),
                problem: format!("'{}' is no SPIFFE trust domain", domain.name.escape_debug()),
                fix: "write for example prod.example.com: lower-case letters, digits, '.', '-' and '_'".into(),
            });
        }
        if domain.bundle_file.is_some() == domain.bundle_endpoint.is_some() {
            mistakes.push(Mistake {
                at: at.clone(),
                problem: "a trust domain has one source of its bundle".into(),
                fix: "write either bundle_file or bundle_endpoint".into(),
            });
        }
        if let Some(endpoint) = &domain.bundle_endpoint {
            check_url(&format!("{at}.bundle_endpoint"), endpoint, mistakes);
        }
        trusted.trust_domains.insert(domain.name.clone());
    }
    trusted
}

/// Checks what an agent may prove itself with.
pub fn check_identity(at: &str, identity: &Identity, trusted: &Trusted, mistakes: &mut Vec<Mistake>) {
    for (n, name) in identity.may_act_for.iter().enumerate() {
        // Whether there is such an agent is not asked: it may be declared later. Until then nobody is acted for.
        if let Err(problem) = check_name("agent", name) {
            let at = format!("{at}.may_act_for[{n}]");
            mistakes.push(Mistake { at, problem, fix: "write the name of an agent".into() });
        }
    }
    for (n, name) in identity.may_act_for_people_of.iter().enumerate() {
        if !trusted.issuers.contains(name) {
            let at = format!("{at}.may_act_for_people_of[{n}]");
            let problem = format!("there is no issuer '{}'", name.escape_debug());
            mistakes.push(Mistake { at, problem, fix: "declare it under issuers".into() });
        }
    }
    if identity.certificates_after.is_some() {
        mistakes.push(Mistake {
            at: format!("{at}.certificates_after"),
            problem: "the broker sets it when an agent is stopped".into(),
            fix: "remove it".into(),
        });
    }
    for (n, method) in identity.methods.iter().enumerate() {
        let at = format!("{at}.methods[{n}]");
        let mut wrong = |field: &str, problem: String, fix: &str| {
            let at = if field.is_empty() { at.clone() } else { format!("{at}.{field}") };
            mistakes.push(Mistake { at, problem, fix: fix.to_owned() });
        };
        match method {
            AuthMethod::PrivateKeyJwt { jwks, jwks_uri, .. } => {
                if jwks.is_some() == jwks_uri.is_some() {
                    wrong("", "it takes one source of keys".into(), "write either jwks or jwks_uri");
                }
                if let Some(problem) = jwks.as_ref().and_then(jwks_problem) {
                    wrong("jwks", problem, "write {\"keys\": [...]} with public keys (RFC 7517)");
                }
                if let Some(uri) = jwks_uri {
                    check_url(&format!("{at}.jwks_uri"), uri, mistakes);
                }
            }
            AuthMethod::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email } => {
                let given = [subject_dn, san_dns, san_uri, san_ip, san_email].into_iter().flatten().collect::<Vec<_>>();
                if given.len() != 1 || given.iter().any(|text| text.is_empty()) {
                    let fix = "write exactly one of subject_dn, san_dns, san_uri, san_ip, san_email (RFC 8705)";
                    wrong("", "it takes one name".into(), fix);
                }
                if subject_dn.as_ref().is_some_and(|dn| DistinguishedName::parse(dn).is_none()) {
                    let fix = "write for example CN=bot,O=Example (openssl x509 -noout -subject -nameopt RFC2253)";
                    wrong("subject_dn", "it is no distinguished name of RFC 4514".into(), fix);
                }
                if san_ip.as_ref().is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
                    wrong("san_ip", "it is no IP address".into(), "write for example 192.0.2.7 or 2001:db8::7");
                }
            }
            AuthMethod::SelfSignedTlsClientAuth { jwks } => {
                if let Some(problem) = jwks_problem(jwks) {
                    wrong("jwks", problem, "write {\"keys\": [{…, \"x5c\": [\"BASE64 DER\"]}]} (RFC 8705 section 2.2)");
                }
            }
            AuthMethod::Spiffe { id } => {
                let parts = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
                match parts {
                    Some((domain, path)) if is_trust_domain(domain) && is_spiffe_path(path) => {
                        if !trusted.trust_domains.contains(domain) {
                            let problem = format!("there is no trust domain '{}'", domain.escape_debug());
                            wrong("id", problem, "declare it under trust_domains");
                        }
                    }
                    _ => wrong("id", "it is no SPIFFE ID of a workload".into(), "write spiffe://trust-domain/path"),
                }
            }
            AuthMethod::Federated { issuer, claims, .. } => {
                if !trusted.issuers.contains(issuer) {
                    let problem = format!("there is no issuer '{}'", issuer.escape_debug());
                    wrong("issuer", problem, "declare it under issuers");
                }
                // Without one, every workload of that issuer would be this agent: everybody's CI job, for example.
                if claims.is_empty() || claims.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
                    let fix = "write for example claims: { sub: \"system:serviceaccount:shop:bot\" }";
                    wrong("claims", "it must say whose tokens these are".into(), fix);
                }
            }
        }
    }
}

/// Only https reaches somebody in particular; http to loopback is for trying things out.
pub fn is_fetchable(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

fn check_url(at: &str, text: &str, mistakes: &mut Vec<Mistake>) {
    if !is_fetchable(text) {
        mistakes.push(Mistake {
            at: at.to_owned(),
            problem: format!("'{}' is no https URL", text.escape_debug()),
            fix: "write for example https://issuer.example.com, without user, password and fragment".into(),
        });
    }
}

/// SPIFFE ID §2.1.
fn is_trust_domain(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

/// SPIFFE ID §2.2: segments that are not empty and no dot segments.
fn is_spiffe_path(path: &str) -> bool {
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    path.len() <= 1500 && path.split('/').all(segment)
}

fn jwks_problem(jwks: &serde_json::Value) -> Option<String> {
    let Some(keys) = jwks.get("keys").and_then(serde_json::Value::as_array) else {
        return Some("it is no JWKS".into());
    };
    if keys.is_empty() {
        return Some("it holds no key".into());
    }
    // A private key here is a private key in a file, a diff, a database in the clear: told, not kept.
    let private = keys.iter().any(|key| ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|m| key.get(m).is_some()));
    private.then(|| "it holds a private or symmetric key: consider that key lost".into())
}
