//! Whom the broker trusts to say who an agent is: checks what an admin declares about it.

use std::net::IpAddr;

use hallpass_verify::{ForeignKeys, KeyUse};
use url::Url;

use crate::model::public;
use crate::model::{AuthMethod, DistinguishedName, Identity, check_name};
use crate::policy::address::strange_in_host;
use crate::policy::{Known, Mistake};

/// Checks what an agent may prove itself with.
pub fn check_identity(at: &str, identity: &Identity, known: &Known, mistakes: &mut Vec<Mistake>) {
    for (n, name) in identity.may_act_for.iter().enumerate() {
        // Whether there is such an agent is not asked: it may be declared later. Until then nobody is acted for.
        if let Err(problem) = check_name("agent", name) {
            let at = format!("{at}.may_act_for[{n}]");
            mistakes.push(Mistake { at, problem, fix: "write the name of an agent".into() });
        }
    }
    for (n, name) in identity.may_act_for_people_of.iter().enumerate() {
        if !known.issuers.contains(name) {
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
                if let Some(problem) = jwks.as_ref().and_then(|jwks| jwks_problem(jwks).or_else(|| unused_keys(jwks))) {
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
                        if !known.trust_domains.contains(domain) {
                            let problem = format!("there is no trust domain '{}'", domain.escape_debug());
                            wrong("id", problem, "declare it under trust_domains");
                        }
                    }
                    _ => wrong("id", "it is no SPIFFE ID of a workload".into(), "write spiffe://trust-domain/path"),
                }
            }
            AuthMethod::Federated { issuer, claims, .. } => {
                if !known.issuers.contains(issuer) {
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
        url.domain().is_none_or(|name| strange_in_host(name).is_none())
            && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// Whether what `url` leads to is protected as well as `issuer` is: an issuer that is known by its certificate does not
/// have its keys fetched from whoever answers on a plain connection, on this machine or on a private network either.
pub fn is_as_safe(url: &str, issuer: &str) -> bool {
    let is_https = |text: &str| Url::parse(text).is_ok_and(|url| url.scheme() == "https");
    is_https(url) || !is_https(issuer)
}

pub(super) fn check_url(at: &str, text: &str, mistakes: &mut Vec<Mistake>) {
    if !is_fetchable(text) {
        mistakes.push(Mistake {
            at: at.to_owned(),
            problem: format!("'{}' is no https URL of a host that can be called", text.escape_debug()),
            fix: "write for example https://issuer.example.com, without user, password and fragment".into(),
        });
    }
}

/// SPIFFE ID §2.1.
pub(super) fn is_trust_domain(name: &str) -> bool {
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

/// A private key here is a private key in a file, a diff, a database in the clear: told, not kept.
fn jwks_problem(jwks: &serde_json::Value) -> Option<String> {
    public::key_set(jwks).err().map(|error| error.problem.to_owned())
}

/// Why none of these keys would ever verify a signature. Some may be for other things (RFC 7517 §5).
fn unused_keys(jwks: &serde_json::Value) -> Option<String> {
    let count = jwks.get("keys").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    let problems = ForeignKeys::problems(jwks, KeyUse::Signature);
    let (n, problem) = problems.first().filter(|_| problems.len() == count)?;
    Some(format!("it holds no key that verifies signatures: of keys[{n}], {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{parse_manifest, validate_manifest};

    const KEYS: &str = "{ keys: [{ kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] }";

    fn known() -> Known {
        Known { issuers: ["ci".to_owned()].into(), trust_domains: ["prod".to_owned()].into(), ..Known::default() }
    }

    /// The fields that have mistakes.
    fn wrong(yaml: &str) -> String {
        let manifest = parse_manifest(yaml).unwrap_or_else(|mistake| panic!("{mistake}\n{yaml}"));
        let mistakes = validate_manifest(&manifest, &known()).err().unwrap_or_default();
        mistakes.into_iter().map(|one| one.at).collect::<Vec<_>>().join(" ")
    }

    /// The same for one method of an agent, which is `it`.
    fn method(yaml: &str) -> String {
        let at = wrong(&format!("agents: [{{ name: a, roles: [], identity: {{ methods: [{{ {yaml} }}] }} }}]"));
        at.replace("agents[0].identity.methods[0]", "it")
    }

    #[test]
    fn an_issuer_is_somebody_in_particular() {
        let at = |url: &str| wrong(&format!("issuers: [{{ name: a, issuer: \"{url}\" }}]"));
        for good in [
            "https://a.example",
            "https://a.example:8443/path?tenant=1",
            "http://localhost:9",
            "http://127.0.0.1:9",
            "http://[::1]:9",
        ] {
            assert_eq!(at(good), "", "{good}");
        }
        for bad in [
            "a.example",
            "http://a.example",
            "http://localhost.example",
            "http://192.0.2.7",
            "http://[2001:db8::7]",
            "ftp://localhost",
            "data:,x",
            "https://a.example#x",
            "https://user@a.example",
            "https://:secret@a.example",
            "https://{tenant}.a.example",
        ] {
            assert_eq!(at(bad), "issuers[0].issuer", "{bad}");
        }
        let uri = "issuers: [{ name: a, issuer: 'https://a.example', jwks_uri: 'http://a.example/jwks' }]";
        assert_eq!(wrong(uri), "issuers[0].jwks_uri");
        assert_eq!(wrong("issuers: [{ name: A, issuer: 'https://a.example' }]"), "issuers[0].name");
        let one = "{ name: a, issuer: 'https://a.example' }";
        assert_eq!(wrong(&format!("issuers: [{one}, {one}]")), "issuers[1].name");
        assert_eq!(wrong(&format!("issuers: [{one}, {}]", one.replace("name: a", "name: b"))), "");
    }

    #[test]
    fn a_trust_domain_has_a_good_name_and_one_source() {
        let at = |name: &str| wrong(&format!("trust_domains: [{{ name: '{name}', bundle_file: x }}]"));
        for good in ["prod.example.com", "a-b_c.9", "a", &"a".repeat(255)] {
            assert_eq!(at(good), "", "{good}");
        }
        for bad in ["", "Prod", "prod/x", "spiffe://prod", "a:1", "a b", "ä", &"a".repeat(256)] {
            assert_eq!(at(bad), "trust_domains[0].name", "{bad}");
        }
        assert_eq!(wrong("trust_domains: [{ name: a }]"), "trust_domains[0]");
        let endpoint =
            |more: &str, url: &str| wrong(&format!("trust_domains: [{{ name: a, {more} bundle_endpoint: '{url}' }}]"));
        assert_eq!(endpoint("", "https://a.example/bundle"), "");
        assert_eq!(endpoint("bundle_file: x,", "https://a.example/bundle"), "trust_domains[0]");
        assert_eq!(endpoint("", "http://a.example/bundle"), "trust_domains[0].bundle_endpoint");
        let one = "{ name: a, bundle_file: x }";
        assert_eq!(wrong(&format!("trust_domains: [{one}, {one}]")), "trust_domains[1].name");
    }

    #[test]
    fn keys_come_from_one_source_and_are_public() {
        let jwt = |jwks: &str| method(&format!("method: private_key_jwt, jwks: {jwks}"));
        assert_eq!(jwt(KEYS), "");
        assert_eq!(method("method: private_key_jwt, jwks_uri: 'https://a.example/jwks'"), "");
        assert_eq!(method("method: private_key_jwt, jwks_uri: 'http://a.example/jwks'"), "it.jwks_uri");
        assert_eq!(method("method: private_key_jwt"), "it");
        assert_eq!(method(&format!("method: private_key_jwt, jwks: {KEYS}, jwks_uri: 'https://a.example'")), "it");
        for bad in ["{}", "[]", "{ keys: 7 }", "{ keys: [] }"] {
            assert_eq!(jwt(bad), "it.jwks", "{bad}");
        }
        for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert_eq!(jwt(&KEYS.replace("x: ", &format!("{member}: "))), "it.jwks", "{member}");
            let second = KEYS.replace("[{", &format!("[{{ kty: EC }}, {{ {member}: AA,"));
            assert_eq!(method(&format!("method: self_signed_tls_client_auth, jwks: {second}")), "it.jwks", "{member}");
        }
        assert_eq!(method(&format!("method: self_signed_tls_client_auth, jwks: {KEYS}")), "");
    }

    #[test]
    fn rfc7517_s4_keys_that_verify_nothing_are_told_at_once() {
        let jwt = |jwks: &str| method(&format!("method: private_key_jwt, jwks: {jwks}"));
        for (more, is_good) in [
            ("use: sig, key_ops: [verify], alg: EdDSA", true),
            ("use: enc", false),
            ("key_ops: [sign]", false),
            ("key_ops: [verify, deriveKey]", false),
            ("alg: ES256", false),
            ("alg: ECDH-ES", false),
        ] {
            let keys = KEYS.replace("kty: OKP", &format!("kty: OKP, {more}"));
            assert_eq!(jwt(&keys), if is_good { "" } else { "it.jwks" }, "{more}");
            // One that is used beside it is enough.
            let both = keys.replace("[{", &format!("[{}, {{", &KEYS["{ keys: [".len()..KEYS.len() - 3]));
            assert_eq!(jwt(&both), "", "{more}");
        }
    }

    #[test]
    fn an_https_issuers_keys_come_by_https() {
        let at = |issuer: &str, uri: &str| {
            wrong(&format!("issuers: [{{ name: a, issuer: '{issuer}', jwks_uri: '{uri}', allow_private: true }}]"))
        };
        assert_eq!(at("https://a.example", "https://keys.a.example/jwks"), "");
        assert_eq!(at("http://localhost:9", "http://127.0.0.1:9/jwks"), "");
        assert_eq!(at("http://localhost:9", "https://a.example/jwks"), "");
        for uri in ["http://localhost:9/jwks", "http://127.0.0.1/jwks", "http://[::1]/jwks", "HTTP://localhost/jwks"] {
            assert_eq!(at("https://a.example", uri), "issuers[0].jwks_uri", "{uri}");
        }
    }

    #[test]
    fn who_may_be_acted_for_is_named_and_people_come_from_a_registered_issuer() {
        let at = |yaml: &str| wrong(&format!("agents: [{{ name: a, roles: [], identity: {{ {yaml} }} }}]"));
        assert_eq!(at("may_act_for: [later-declared], may_act_for_people_of: [ci]"), "");
        assert_eq!(at("may_act_for: [a, No Name]"), "agents[0].identity.may_act_for[1]");
        assert_eq!(at("may_act_for_people_of: [ci, cj]"), "agents[0].identity.may_act_for_people_of[1]");
        assert_eq!(at("certificates_after: 1"), "agents[0].identity.certificates_after");
    }

    #[test]
    fn a_certificate_of_a_ca_is_known_by_exactly_one_name() {
        let at = |names: &str| method(&format!("method: tls_client_auth{names}"));
        for good in [", subject_dn: CN=a", ", san_dns: a", ", san_uri: 'a:b'", ", san_ip: '::1'", ", san_email: a@b"] {
            assert_eq!(at(good), "", "{good}");
        }
        assert_eq!(at(", san_ip: 192.0.2.7"), "");
        assert_eq!(at(", san_ip: 192.0.2"), "it.san_ip");
        for bad in ["", ", san_dns: ''", ", san_dns: a, san_email: a@b"] {
            assert_eq!(at(bad), "it", "{bad}");
        }
        // A name that is none is told beside.
        assert_eq!(at(", san_dns: a, subject_dn: ''"), "it it.subject_dn");
    }

    #[test]
    fn a_workload_is_one_of_a_registered_trust_domain_or_issuer() {
        let at = |id: &str| method(&format!("method: spiffe, id: '{id}'"));
        for good in ["spiffe://prod/a", "spiffe://prod/ns/A.b-c_9/x", &format!("spiffe://prod/{}", "a".repeat(1500))] {
            assert_eq!(at(good), "", "{good}");
        }
        for bad in [
            "prod/a",
            "https://prod/a",
            "spiffe://prod",
            "spiffe://prod/",
            "spiffe://prod/a/",
            "spiffe://prod//a",
            "spiffe://prod/./a",
            "spiffe://prod/../a",
            "spiffe://prod/a%20b",
            "spiffe://prod/a?x",
            "spiffe:///a",
            "spiffe://Prod/a",
            "spiffe://test/a",
            &format!("spiffe://prod/{}", "a".repeat(1501)),
        ] {
            assert_eq!(at(bad), "it.id", "{bad}");
        }
        let at = |issuer: &str, claims: &str| method(&format!("method: federated, issuer: {issuer}, claims: {claims}"));
        assert_eq!(at("ci", "{ sub: bot }"), "");
        assert_eq!(at("cj", "{ sub: bot }"), "it.issuer");
        for bad in ["{}", "{ sub: '' }", "{ '': bot }", "{ sub: bot, ref: '' }"] {
            assert_eq!(at("ci", bad), "it.claims", "{bad}");
        }
        let declared = "issuers: [{ name: new, issuer: 'https://a.example' }]\n\
             trust_domains: [{ name: new, bundle_file: x }]\n\
             agents: [{ name: a, roles: [], identity: { methods: [\
             { method: federated, issuer: new, claims: { sub: bot } }, { method: spiffe, id: 'spiffe://new/a' }] } }]";
        assert_eq!(wrong(declared), "");
    }
}
