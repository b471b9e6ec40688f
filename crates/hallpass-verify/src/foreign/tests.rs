//! Claims and keys of others, read; and their tokens, verified. `testdata/make.py` made the genuine ones, and forgot the
//! private keys.

use super::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use ForeignAlgorithm::{EdDsa, Es256, Es384, Ps256, Rs256, Rs512};

const JWKS: &str = include_str!("../../testdata/foreign/jwks.json");
const GENUINE: [(ForeignAlgorithm, &str, &str); 6] = [
    (EdDsa, "ed", include_str!("../../testdata/foreign/eddsa.jwt")),
    (Es256, "p256", include_str!("../../testdata/foreign/es256.jwt")),
    (Es384, "p384", include_str!("../../testdata/foreign/es384.jwt")),
    (Ps256, "rsa", include_str!("../../testdata/foreign/ps256.jwt")),
    (Rs256, "rsa", include_str!("../../testdata/foreign/rs256.jwt")),
    (Rs512, "rsa", include_str!("../../testdata/foreign/rs512.jwt")),
];

/// Keys of somebody else, as they are published.
fn keys(keys: &[Value]) -> ForeignKeys {
    ForeignKeys::from_value(&json!({ "keys": keys }), KeyUse::Signature).unwrap()
}

fn genuine() -> Vec<Value> {
    let jwks: Value = serde_json::from_str(JWKS).unwrap();
    jwks["keys"].as_array().unwrap().clone()
}

/// One who signs with Ed25519.
struct Other(Ed25519KeyPair);

impl Other {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()).as_ref()))
    }

    /// A token with this `kid` in its header, or none, verified by these keys.
    fn verified(&self, kid: Option<&str>, by: &[Value]) -> Result<(), Refusal> {
        let mut header = json!({ "alg": "EdDSA" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let text = self.sign(&header, &json!({}));
        ForeignToken::parse(&text).unwrap().verify(&keys(by), &[EdDsa]).map(drop)
    }
}

#[test]
fn each_way_to_sign_is_told_from_the_others() {
    for (algorithm, kid, text) in GENUINE {
        let token = ForeignToken::parse(text).unwrap();
        assert_eq!(ForeignAlgorithm::parse(algorithm.as_str()), Some(algorithm));
        let claims = token.verify(&keys(&genuine()), &[algorithm]).unwrap();
        assert_eq!((claims.text("iss"), claims.text("sub")), (Some("https://idp.example"), Some("somebody")));
        assert_eq!((claims.text("aud"), claims.get("sub")), (None, Some(&json!("somebody"))));
        let others: Vec<_> = ForeignAlgorithm::ALL.into_iter().filter(|one| *one != algorithm).collect();
        assert_eq!(token.verify(&keys(&genuine()), &others).unwrap_err(), Refusal::WrongAlgorithm);

        // Its own `alg`, where the key has one; and not another one of the same key type (RFC 8725 §3.1).
        let with = |name: &str, value: &str| {
            let mut all = genuine();
            all.iter_mut().filter(|key| key["kid"] == kid).for_each(|key| key[name] = value.into());
            token.verify(&keys(&all), &[algorithm]).map(drop)
        };
        assert_eq!(with("alg", algorithm.as_str()), Ok(()));
        if kid == "rsa" {
            for other in [Ps256, Rs256, Rs512].into_iter().filter(|one| *one != algorithm) {
                assert_eq!(with("alg", other.as_str()), Err(Refusal::WrongAlgorithm));
                let key = ForeignKeys::from_value(&json!({ "keys": genuine() }), KeyUse::Signature).unwrap();
                let forged = ForeignToken { algorithm: other, ..ForeignToken::parse(text).unwrap() };
                assert_eq!(
                    forged.verify(&key, &[other]).unwrap_err(),
                    Refusal::BadSignature,
                    "{algorithm:?} {other:?}"
                );
            }
        }

        let (message, signature) = text.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let broken = format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let broken = ForeignToken::parse(&broken).unwrap().verify(&keys(&genuine()), &[algorithm]);
        assert_eq!(broken.unwrap_err(), Refusal::BadSignature);
    }
    // RFC 9864 §2.2
    assert_eq!(ForeignAlgorithm::parse("Ed25519"), Some(EdDsa));
    for bad in ["none", "HS256", "ES256K", "eddsa", ""] {
        assert_eq!(ForeignAlgorithm::parse(bad), None);
    }
}

#[test]
fn a_key_is_chosen_by_its_name_and_else_tried() {
    let (one, other) = (Other::new(1), Other::new(2));
    let two = [one.jwk(Some("one")), other.jwk(Some("other"))];
    assert_eq!(one.verified(Some("one"), &two), Ok(()));
    assert_eq!(one.verified(Some("other"), &two), Err(Refusal::BadSignature), "the key that is named, and no other");
    assert_eq!(one.verified(Some("newer"), &two), Err(Refusal::UnknownKey), "there may be a newer set");
    assert_eq!(other.verified(None, &two), Ok(()));
    assert_eq!(Other::new(3).verified(None, &two), Err(Refusal::UnknownKey));

    let nameless = [one.jwk(None), other.jwk(None)];
    assert_eq!(other.verified(Some("other"), &nameless), Ok(()));
    assert_eq!(other.verified(None, &nameless), Ok(()));
    assert_eq!(Other::new(3).verified(None, &nameless), Err(Refusal::UnknownKey));
    assert_eq!(Other::new(3).verified(Some("third"), &nameless), Err(Refusal::UnknownKey));

    let [p256, mut p256_nameless] = [genuine().remove(1), genuine().remove(1)];
    p256_nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(one.verified(Some("p256"), &[p256]), Err(Refusal::WrongAlgorithm), "named, and of another kind");
    assert_eq!(one.verified(None, &[p256_nameless.clone()]), Err(Refusal::UnknownKey));
    assert_eq!(one.verified(Some("p256"), &[p256_nameless]), Err(Refusal::UnknownKey));
    assert_eq!(one.verified(None, &[]), Err(Refusal::UnknownKey));
}

#[test]
fn so_many_keys_are_tried_and_no_more() {
    let all: Vec<Value> = (1..=5).map(|seed| Other::new(seed).jwk(None)).collect();
    assert_eq!(Other::new(4).verified(None, &all), Ok(()));
    assert_eq!(Other::new(5).verified(None, &all), Err(Refusal::UnknownKey), "each try is work that a stranger causes");
    let crowd: Vec<Value> = (0..=64).map(|seed| Other::new(seed).jwk(None)).collect();
    assert_eq!((keys(&crowd[1..]).len(), keys(&crowd).len()), (64, 64));
    assert!(keys(&[]).is_empty() && !keys(&crowd).is_empty());
}

#[test]
fn a_token_is_read_before_it_is_trusted() {
    let other = Other::new(1);
    let header = |name: &str, value: Value| {
        let mut header = json!({ "alg": "EdDSA" });
        header[name] = value;
        other.sign(&header, &json!({ "iss": "i", "sub": "s" }))
    };
    let plain = header("typ", "application/AT+jwt".into());
    let token = ForeignToken::parse(&plain).unwrap();
    assert_eq!((token.claimed_issuer(), token.claimed_subject()), (Some("i"), Some("s")));
    assert_eq!(token.typ().as_deref(), Some("at+jwt"));
    assert_eq!(token.signed(), plain.rsplit_once('.').unwrap().0);
    let bare = other.sign(&json!({ "alg": "EdDSA" }), &json!({ "iss": 7 }));
    let token = ForeignToken::parse(&bare).unwrap();
    assert_eq!((token.typ(), token.claimed_issuer(), token.claimed_subject()), (None, None, None));

    // RFC 8725 §3.10: nobody brings the key by which they are to be trusted.
    for name in ["crit", "b64", "jwk", "jku", "x5u", "x5c"] {
        assert_eq!(ForeignToken::parse(&header(name, json!("x"))).unwrap_err(), Refusal::Malformed, "{name}");
    }
    for (name, value) in [("kid", json!(7)), ("typ", json!(["JWT"])), ("alg", json!(null))] {
        assert_eq!(ForeignToken::parse(&header(name, value)).unwrap_err(), Refusal::Malformed, "{name}");
    }
    assert_eq!(ForeignToken::parse(&header("alg", "none".into())).unwrap_err(), Refusal::WrongAlgorithm);
    for bad in ["", ".", "..", "a.b", "e30.e30.", "e30.W10.AA", "W10.e30.AA"] {
        assert_eq!(ForeignToken::parse(bad).unwrap_err(), Refusal::Malformed, "{bad:?}");
    }
}

#[test]
fn a_token_of_16_kib_is_read_and_a_longer_one_is_not() {
    // The signature is looked at last, so it may be as long as it takes.
    let begin = Other::new(1).sign(&json!({ "alg": "EdDSA" }), &json!({}));
    let with = |len: usize| format!("{begin}{}", "A".repeat(len - begin.len()));
    assert_eq!(with(16 * 1024).len() % 4, 0);
    assert!(ForeignToken::parse(&with(16 * 1024)).is_ok());
    for len in 16 * 1024 + 1..16 * 1024 + 5 {
        assert_eq!(ForeignToken::parse(&with(len)).unwrap_err(), Refusal::Malformed);
    }
}

#[test]
fn rfc7519_s4_1_3_an_audience_is_a_text_or_texts() {
    let of = |aud: Value| {
        let claims = claims(json!({ "aud": aud }));
        claims.audience().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(json!("a")), ["a"]);
    assert_eq!(of(json!(["a", "b"])), ["a", "b"]);
    for bad in [json!(["a", 7]), json!(7), json!(null), json!({ "a": "b" }), json!([])] {
        assert!(of(bad).is_empty());
    }
    assert!(claims(json!({})).audience().is_empty());
}

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
        ("use", json!(7)),
        ("use", Value::Null),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("key_ops", json!("verify")),
        ("key_ops", json!(["verify", 7])),
        ("key_ops", json!(["verify", "verify"])),
        ("key_ops", json!(["verify", "wrapKey"])),
        ("dp", json!("AA")),
        ("oth", json!([])),
        ("alg", json!(7)),
        ("crv", json!("P-256")),
        ("crv", json!(7)),
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
    assert_eq!(count(with("key_ops", json!(["sign", "verify"])), KeyUse::Signature), 1);
    assert!(ForeignKeys::from_value(&json!([]), KeyUse::Signature).is_none());
    // RFC 7518 §3.4, §6.3: each curve has its algorithm, and an RSA key has no curve.
    for (kid, name, value, is_good) in [
        ("p256", "alg", "ES256", true),
        ("p256", "alg", "ES384", false),
        ("p384", "alg", "ES384", true),
        ("p384", "alg", "ES256", false),
        ("p384", "crv", "P-256", false),
        ("rsa", "alg", "PS256", true),
        ("rsa", "alg", "ES256", false),
        ("rsa", "alg", "RSA-OAEP", false),
        ("rsa", "crv", "P-256", false),
    ] {
        let mut key = genuine().into_iter().find(|key| key["kid"] == kid).unwrap();
        key[name] = value.into();
        let jwks = json!({ "keys": [good.clone(), key] });
        let read = ForeignKeys::from_value(&jwks, KeyUse::Signature).unwrap().len();
        assert_eq!(read, 1 + usize::from(is_good), "{kid} {name} {value}");
        let problems = ForeignKeys::problems(&jwks, KeyUse::Signature);
        assert_eq!(problems.iter().map(|(n, _)| *n).collect::<Vec<_>>(), vec![1; usize::from(!is_good)]);
    }
    // A point of which one half is short is none (RFC 7518 §6.2.1.2).
    for (kid, at) in [("p256", "x"), ("p256", "y"), ("p384", "x"), ("p384", "y")] {
        let mut key = genuine().into_iter().find(|key| key["kid"] == kid).unwrap();
        assert_eq!(count(key.clone(), KeyUse::Signature), 1);
        key[at] = URL_SAFE_NO_PAD.encode([7; 31]).into();
        assert_eq!(count(key, KeyUse::Signature), 0, "{kid} {at}");
    }
}
