//! The signatures that Hallpass tokens may carry, by ring: `jsonwebtoken` brings no ring backend of its own.
//!
//! ES256 = ECDSA on P-256 with SHA-256, r‖s (RFC 7518 §3.4); EdDSA = Ed25519 (RFC 8037 §3.1);
//! RS256 = RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3). `none` and HMAC are not here, so they cannot be asked for.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

/// Makes ring the backend of `jsonwebtoken` in this process. Calling it again does nothing; a backend that the
/// embedding program installed before stays.
pub fn install_crypto() {
    // An error only says that one is installed already.
    _ = PROVIDER.install_default();
}

/// Hallpass signs with parsed keys that it keeps (`keyring`), never through here.
fn signer_factory(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.kind()) {
        (Algorithm::ES256 | Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => {
            Ok(Box::new(Point { algorithm: *algorithm, bytes: bytes.clone() }))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Ok(Box::new(Rsa { n: n.clone(), e: e.clone() }))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Point {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl signature::Verifier<Vec<u8>> for Point {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let outcome = match self.algorithm {
            Algorithm::ES256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bytes).verify(message, signature)
            }
            Algorithm::EdDSA => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature),
            _ => return Err(signature::Error::new()),
        };
        outcome.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Point {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Rsa {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl signature::Verifier<Vec<u8>> for Rsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        RsaPublicKeyComponents { n: &self.n, e: &self.e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
