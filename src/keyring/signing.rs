//! One signing key: made, read back, and put to work on a token.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jwks::PublicJwk;
use crate::error::{Error, Result};
use crate::secret::SecretBytes;
use crate::world::Entropy;

const RSA_BITS: usize = 2048;
const ACCESS_TOKEN_TYP: &str = "at+jwt";

/// What tokens are signed with; `none` and HS* do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, RFC 7518 §3.4: every library verifies it, and it is ring's cheapest signature.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519, RFC 8037 §3.1.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, RFC 7518 §3.3: for verifiers that know nothing else.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// Its JOSE name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// Whether one signature takes so long (half a millisecond) that it would hold up an async thread.
    pub fn is_slow(self) -> bool {
        self == Self::Rs256
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::Es256, Self::EdDsa, Self::Rs256].into_iter().find(|a| a.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

/// The text names no algorithm that tokens are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown signing algorithm; use ES256, EdDSA or RS256")]
pub struct UnknownAlgorithm;

/// A private key, parsed once and ready to sign: parsing costs more than the signature.
pub struct SigningKey {
    private: Private,
    public: PublicJwk,
    access_token_header: String,
}

enum Private {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl SigningKey {
    /// A new key, and its private half as PKCS#8 (RFC 5958) to be sealed and stored.
    ///
    /// RS256 takes up to seconds: off the async threads.
    pub fn generate(algorithm: Algorithm, entropy: &dyn Entropy) -> Result<(SecretBytes, Self)> {
        let pkcs8 = match algorithm {
            // ring's document is on the stack and not wiped; the copy that stays is.
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &ring_random())
                    .map(|document| SecretBytes::new(document.as_ref().to_vec()))
                    .map_err(Error::internal)?
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&ring_random())
                .map(|document| SecretBytes::new(document.as_ref().to_vec()))
                .map_err(Error::internal)?,
            Algorithm::Rs256 => generate_rsa(entropy)?,
        };
        let key = Self::from_pkcs8(algorithm, &pkcs8)?;
        Ok((pkcs8, key))
    }

    /// Reads a private key back; ring checks that its two halves belong together.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &SecretBytes) -> Result<Self> {
        let pkcs8 = pkcs8.expose();
        let (private, public) = match algorithm {
            Algorithm::Es256 => {
                let scheme = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = EcdsaKeyPair::from_pkcs8(scheme, pkcs8, &ring_random()).map_err(rejected)?;
                let public = PublicJwk::p256(key.public_key().as_ref())?;
                (Private::Es256(key), public)
            }
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(rejected)?;
                let public = PublicJwk::ed25519(key.public_key().as_ref())?;
                (Private::EdDsa(key), public)
            }
            Algorithm::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(pkcs8).map_err(rejected)?;
                let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                let public = PublicJwk::rsa(&parts.n, &parts.e)?;
                (Private::Rs256(Box::new(key)), public)
            }
        };
        let access_token_header = header(ACCESS_TOKEN_TYP, &public)?;
        Ok(Self { private, public, access_token_header })
    }

    /// The key's name in token headers and in the JWKS.
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Its public half.
    pub fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// Whether [`SigningKey::sign`] must run off the async threads: an RS256 signature takes half a millisecond.
    pub fn is_slow(&self) -> bool {
        self.algorithm().is_slow()
    }

    /// `base64url({"typ","alg","kid"}) ‖ "." ‖ base64url(claims) ‖ "." ‖ base64url(signature)`, RFC 7515 §3.1.
    ///
    /// `typ` keeps one kind of token from being taken for another (RFC 8725 §3.11): `at+jwt` for access tokens.
    /// Run it off the async threads if [`SigningKey::is_slow`].
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String> {
        let claims = serde_json::to_vec(claims).map_err(Error::internal)?;
        let other_header;
        let header = if typ == ACCESS_TOKEN_TYP {
            &self.access_token_header
        } else {
            other_header = header(typ, &self.public)?;
            &other_header
        };
        // One allocation: base64 is 4/3 of the claims, and the longest signature (RSA) is 342 characters.
        let mut token = String::with_capacity(header.len() + claims.len().div_ceil(3) * 4 + 344);
        token.push_str(header);
        token.push('.');
        BASE64URL.encode_string(&claims, &mut token);
        let signature = self.private.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {}, redacted)", self.algorithm(), self.kid())
    }
}

impl Private {
    /// ES256 signatures are `r ‖ s` of fixed length (RFC 7518 §3.4), not ASN.1.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Es256(key) => {
                let signature = key.sign(&ring_random(), message).map_err(Error::internal)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::EdDsa(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let scheme = &signature::RSA_PKCS1_SHA256;
                key.sign(scheme, &ring_random(), message, &mut signature).map_err(Error::internal)?;
                Ok(signature)
            }
        }
    }
}

fn header(typ: &str, public: &PublicJwk) -> Result<String> {
    #[derive(Serialize)]
    struct Header<'a> {
        typ: &'a str,
        alg: Algorithm,
        kid: &'a str,
    }
    let header = Header { typ, alg: public.algorithm(), kid: public.kid() };
    Ok(BASE64URL.encode(serde_json::to_vec(&header).map_err(Error::internal)?))
}

/// A random RSA key, by the `rsa` crate, because ring does not make any.
///
/// RUSTSEC-2023-0071 concerns that crate's private-key operations, whose timing leaks. It does none here: it only
/// looks for the primes, and ring signs.
fn generate_rsa(entropy: &dyn Entropy) -> Result<SecretBytes> {
    let key = rsa::RsaPrivateKey::new(&mut RsaRandom(entropy), RSA_BITS).map_err(Error::internal)?;
    let document = key.to_pkcs8_der().map_err(Error::internal)?;
    Ok(SecretBytes::new(document.as_bytes().to_vec())) // `key` and `document` wipe themselves
}

/// Our randomness in the form that the `rsa` crate asks for.
struct RsaRandom<'a>(&'a dyn Entropy);

impl rsa::rand_core::RngCore for RsaRandom<'_> {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for RsaRandom<'_> {}

/// ring makes keys and ECDSA nonces from its own source only: its trait is sealed, `Entropy` cannot stand in for it.
#[allow(clippy::disallowed_methods, reason = "ring takes no other source than its own")]
fn ring_random() -> SystemRandom {
    SystemRandom::new()
}

fn rejected(why: ring::error::KeyRejected) -> Error {
    Error::internal(format_args!("a signing key's private half was refused: {why}"))
}
