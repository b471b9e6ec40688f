//! Nothing verifies but what the broker signed: RFC 7515, RFC 8725.

use std::sync::LazyLock;

use hallpass_verify::{KeySet, REVOCATIONS_TYP, RevocationSet, TokenVerifier, Unverified};
use serde_json::Value;

use crate::fixtures::{AUDIENCE, CLAIMS, EXPIRED, ISSUED, ISSUER, KEYS, LIST, TOKENS, assemble, signed_part};

static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| TokenVerifier::new(ISSUER, 5, 1000));
static FORGETFUL: LazyLock<TokenVerifier> = LazyLock::new(|| TokenVerifier::new(ISSUER, 5, 0));

/// A token's text, or one to be put together from its parts (see [`assemble`]), or a JWKS.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.trim_start().starts_with("{\"keys\"") {
        return key_set(text);
    }
    let token = assemble(text);
    let genuine = TOKENS.iter().any(|(_, genuine)| signed_part(genuine) == signed_part(&token));

    let (keys, none) = (&*KEYS, RevocationSet::default());
    let verify = |verifier: &TokenVerifier, aud: &str, now| {
        verifier.verify(&token, keys, &none, |one| one == aud, &hallpass_verify::Possession::NONE, now)
    };
    let verdict = verify(&VERIFIER, AUDIENCE, ISSUED);
    if let Ok(claims) = &verdict {
        assert!(genuine, "a token that nobody signed is good");
        assert_eq!(**claims, **CLAIMS);
    }
    assert!(verify(&VERIFIER, AUDIENCE, EXPIRED).is_err(), "an expired token is good");
    assert!(verify(&VERIFIER, "https://elsewhere.example", ISSUED).is_err(), "another's token is good");
    assert_eq!(VERIFIER.identify(&token, keys).is_ok(), verdict.is_ok());
    let unremembered = verify(&FORGETFUL, AUDIENCE, ISSUED);
    assert_eq!(verdict.map(drop), unremembered.map(drop), "memory changes the verdict");

    // Below the access token's own checks: the signature and the type.
    for (typ, good) in [("at+jwt", genuine), (REVOCATIONS_TYP, signed_part(&token) == signed_part(LIST))] {
        let payload = Unverified::parse(&token, typ).and_then(|unverified| unverified.verify::<Value>(keys));
        assert!(payload.is_err() || good, "a JWS that nobody signed is good");
    }
}

/// Whatever a JWKS holds, a key verifies only under its own id, and nothing panics.
fn key_set(json: &str) {
    let Ok(keys) = KeySet::from_json(json) else { return };
    for (name, token) in TOKENS {
        let outcome = TokenVerifier::new(ISSUER, 5, 0).identify(token, &keys);
        assert!(outcome.is_err() || keys.contains(&format!("key-{name}")));
    }
}
