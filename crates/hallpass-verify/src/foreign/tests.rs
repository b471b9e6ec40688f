//! Claims and keys of others, read.

use super::*;
use serde_json::json;

fn claims(value: Value) -> ForeignClaims {
    ForeignClaims(value.as_object().unwrap().clone())
}

#[test]
fn claims_are_found_inside_and_compared_as_text() {
    let claims = claims(json!({
        "sub": "s", "n": 7, "yes": true, "groups": ["a", "b"], "https://x.example/team": "t",
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "bot" } },
    }));
    for (path, value) in [
        ("sub", "s"),
        ("n", "7"),
        ("yes", "true"),
        ("groups", "b"),
        ("https://x.example/team", "t"),
        ("kubernetes.io/namespace", "shop"),
        ("kubernetes.io/serviceaccount/name", "bot"),
    ] {
        assert!(claims.matches(path, value), "{path}");
        assert!(!claims.matches(path, "other"), "{path}");
    }
    for path in ["kubernetes.io", "kubernetes.io/serviceaccount", "kubernetes.io/x", "", "/", "n/7", "groups/a"] {
        assert!(!claims.matches(path, "bot"), "{path}");
    }
    assert!(!claims.matches("sub", "S"));
}

#[test]
fn rfc7519_s2_a_time_may_have_a_fraction_and_nothing_else() {
    assert_eq!(claims(json!({ "exp": 10.9 })).time("exp"), Ok(Some(10)));
    assert_eq!(claims(json!({})).time("exp"), Ok(None));
    for bad in [json!("10"), json!(-1), json!(1e300), json!(null), json!([1]), json!(true)] {
        assert_eq!(claims(json!({ "exp": bad })).time("exp"), Err(Refusal::Malformed));
    }
}

#[test]
fn times_are_held_to_with_leeway_at_the_start_only() {
    let at = |value: Value| claims(value).check_times(1000, 5);
    assert_eq!(at(json!({ "exp": 1001, "iat": 1005, "nbf": 1005 })), Ok(1001));
    assert_eq!(at(json!({ "exp": 1000 })), Err(Refusal::Expired));
    assert_eq!(at(json!({ "exp": 2000, "iat": 1006 })), Err(Refusal::NotYetValid));
    assert_eq!(at(json!({ "exp": 2000, "nbf": 1006 })), Err(Refusal::NotYetValid));
    assert_eq!(at(json!({ "iat": 1 })), Err(Refusal::Malformed));
}

#[test]
fn keys_of_other_kinds_and_uses_are_passed_over() {
    let x = URL_SAFE_NO_PAD.encode([7; 32]);
    let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "a" });
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let count = |key: Value, wanted| ForeignKeys::from_value(&json!({ "keys": [key] }), wanted).unwrap().len();
    assert_eq!(count(good.clone(), KeyUse::Signature), 1);
    assert_eq!(count(with("use", "sig".into()), KeyUse::Signature), 1);
    assert_eq!(count(with("use", "jwt-svid".into()), KeyUse::JwtSvid), 1);
    assert_eq!(count(good.clone(), KeyUse::JwtSvid), 0);
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!("jwt-svid")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("d", json!("AA")),
        ("k", json!("AA")),
        ("kty", json!("oct")),
        ("x", json!("AA")),
        ("crv", json!("X25519")),
    ] {
        assert_eq!(count(with(name, value.clone()), KeyUse::Signature), 0, "{name} {value}");
    }
    assert!(ForeignKeys::from_value(&json!([]), KeyUse::Signature).is_none());
}
