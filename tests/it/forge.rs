//! Tokens that the broker would not mint, for tests of what it and the verify crate refuse.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::support::TestBroker;

/// What a good token of this agent says, to be bent by the caller.
pub(crate) fn claims(broker: &TestBroker, client_id: &str, scope: &str) -> Value {
    let now = now(broker);
    json!({
        "iss": broker.running.issuer,
        "sub": client_id,
        "client_id": client_id,
        "aud": format!("{}/exchange", broker.running.issuer),
        "exp": now + 300,
        "iat": now,
        "jti": "tk_forged",
        "scope": scope,
        "sid": "se_forged",
    })
}

/// The broker's time in seconds.
pub(crate) fn now(broker: &TestBroker) -> i64 {
    broker.running.state.world.now() / 1000
}

/// The same claims with one of them changed.
pub(crate) fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

/// Signed by the broker's own active key.
pub(crate) fn by_broker(broker: &TestBroker, typ: &str, claims: &Value) -> String {
    broker.running.state.manager.registry.keys().sign(typ, claims).unwrap()
}

/// Signed by a key of our own that pretends to be the broker's.
pub(crate) fn by_foreign_key(kid: &str, claims: &Value) -> String {
    by_foreign_key_as("at+jwt", kid, claims)
}

/// The same, of another type.
pub(crate) fn by_foreign_key_as(typ: &str, kid: &str, claims: &Value) -> String {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let message = unsigned(&json!({ "typ": typ, "alg": "ES256", "kid": kid }), claims);
    let signature = key.sign(&random, message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64URL.encode(signature))
}

/// `alg: none` (RFC 8725 §2.1), spelled as given, with an empty signature.
pub(crate) fn unsecured(none: &str, kid: &str, claims: &Value) -> String {
    format!("{}.", unsigned(&json!({ "typ": "at+jwt", "alg": none, "kid": kid }), claims))
}

/// HS256 with `secret`, which is public: the algorithm confusion of RFC 8725 §2.1.
pub(crate) fn by_hmac(secret: &[u8], kid: &str, claims: &Value) -> String {
    let message = unsigned(&json!({ "typ": "at+jwt", "alg": "HS256", "kid": kid }), claims);
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", BASE64URL.encode(tag))
}

/// Other claims under the old signature.
pub(crate) fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims = payload(token);
    change(&mut claims);
    format!("{}.{}.{}", parts[0], BASE64URL.encode(claims.to_string()), parts[2])
}

/// The published key of this id, as JSON.
pub(crate) fn published(broker: &TestBroker, kid: &str) -> Value {
    let jwks: Value = serde_json::from_str(broker.running.state.manager.registry.keys().jwks()).unwrap();
    jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone()
}

/// What a token or list says, unverified.
pub(crate) fn payload(token: &str) -> Value {
    part(token, 1)
}

/// A token's header, unverified.
pub(crate) fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&BASE64URL.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()))
}
