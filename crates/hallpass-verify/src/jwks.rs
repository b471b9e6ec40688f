//! The issuer's public keys, parsed once (RFC 7517).

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::jwk::may_verify;

/// A JWKS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWKS.
    #[error("not a JWKS (RFC 7517 §5): {0}")]
    Malformed(String),
}

/// Public keys by `kid`. Each key verifies with the one algorithm that it was published for: the token's header
/// never chooses (RFC 8725 §3.1), so an RSA key cannot be taken for an HMAC secret.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: HashMap<String, Key>,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) decoding: DecodingKey,
    pub(crate) algorithm: Algorithm,
    pub(crate) validation: Validation,
}

impl KeySet {
    /// Reads a JWKS document. A key without `kid`, of a kind that Hallpass does not sign with, or meant for something
    /// else than verifying, is passed over, as RFC 7517 §5 asks.
    pub fn from_json(json: &str) -> Result<Self, KeySetError> {
        crate::install_crypto();
        let set: JwkSet = serde_json::from_str(json).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let algorithm = match jwk.common.key_algorithm {
                Some(KeyAlgorithm::ES256) => Algorithm::ES256,
                Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
                Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                _ => continue,
            };
            let (Some(kid), Ok(decoding)) = (jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk)) else { continue };
            if !is_of_its_kind(jwk, algorithm) || !verifies(jwk) {
                continue;
            }
            keys.insert(kid, Key { decoding, algorithm, validation: signature_only(algorithm) });
        }
        Ok(Self { keys })
    }

    /// Whether a key of this id is trusted.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }
}

/// Whether this is the kind of key, and the curve, that the algorithm is for (RFC 7518 §3.1, §3.4, RFC 8037 §3.1).
fn is_of_its_kind(jwk: &Jwk, algorithm: Algorithm) -> bool {
    match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        _ => false,
    }
}

/// Whether it is meant for verifying signatures (RFC 7517 §4.2, §4.3).
fn verifies(jwk: &Jwk) -> bool {
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|name| *name == PublicKeyUse::Signature);
    let name = |op: &KeyOperations| match op {
        KeyOperations::Other(name) => name.clone(),
        op => serde_json::to_value(op).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default(),
    };
    let ops = jwk.common.key_operations.as_ref();
    is_for_signatures && ops.is_none_or(|ops| may_verify(&ops.iter().map(name).collect::<Vec<_>>()))
}

/// `jsonwebtoken` would read the system's clock; times, issuer and audience are checked by us, with time as an argument.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}
