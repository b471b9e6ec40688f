//! The document of `hallpass apply`: refused with a reason, or whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hallpass::model::{Manifest, Upstream};
use hallpass::policy::{CompiledUpstream, Known, address, parse_manifest, validate_manifest};

/// YAML.
pub fn run(data: &[u8]) {
    let Ok(yaml) = std::str::from_utf8(data) else { return };
    let manifest = match parse_manifest(yaml) {
        Ok(manifest) => manifest,
        Err(mistake) => return assert!(!mistake.to_string().is_empty()),
    };
    // The definitions are stored as JSON and read back at every start.
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest, "it changes on its way to the database");

    if let Err(mistakes) = validate_manifest(&manifest, &Known::default()) {
        return assert!(!mistakes.is_empty());
    }
    // What was found good compiles at every start.
    let compile = |upstream: &Upstream| CompiledUpstream::new(upstream.clone()).unwrap();
    let compiled: Vec<_> = manifest.upstreams.iter().map(compile).collect();
    let mut names = BTreeSet::new();
    for upstream in &compiled {
        assert!(names.insert(upstream.name().clone()), "one name, two upstreams");
        let again = serde_json::to_string(upstream.definition()).unwrap();
        let again = CompiledUpstream::new(serde_json::from_str::<Upstream>(&again).unwrap()).unwrap();
        assert_eq!(again.base(), upstream.base());
        check(upstream);
    }
    for role in &manifest.roles {
        for scope in &role.scopes {
            assert_eq!(hallpass_verify::ScopeSet::parse(scope).unwrap().to_string(), *scope);
        }
    }
}

fn check(upstream: &CompiledUpstream) {
    let base = upstream.base();
    // The host that is dialled is the one that another URL parser sees, and that a reader of the document sees.
    let uri: http::Uri = upstream.definition().base_url.parse().expect("a URI");
    let host = uri.host().expect("a host").trim_start_matches('[').trim_end_matches(']');
    assert!(host.eq_ignore_ascii_case(&base.host) || host.parse::<IpAddr>().ok() == base.host.parse().ok());
    assert_eq!(uri.port_u16().unwrap_or(if base.tls { 443 } else { 80 }), base.port);
    assert_eq!(uri.path().trim_end_matches('/'), base.prefix);
    assert!(!uri.authority().expect("an authority").as_str().contains('@') && uri.query().is_none());
    if let Ok(ip) = base.host.parse::<IpAddr>() {
        assert!(address::check(ip, true).is_ok(), "{ip} is never dialled");
    }
    http::HeaderValue::from_str(&base.authority).expect("it goes into Host");

    // Each operation can be called, and is the one that its own path leads to.
    for (operation, scope) in upstream.definition().operations.iter().zip(upstream.scopes()) {
        assert!(hallpass_verify::ScopeSet::is_token(scope) && scope.starts_with(&**upstream.name()));
        let path: Vec<_> =
            operation.path.as_str().split('/').map(|part| if part.starts_with('{') { "%20x" } else { part }).collect();
        for method in &operation.methods {
            http::Method::from_bytes(method.as_bytes()).expect("a method");
            assert!(!matches!(method.as_str(), "CONNECT" | "TRACE"));
            assert!(upstream.operation(method, &path.join("/")).is_some(), "{}", operation.path);
        }
    }
}
