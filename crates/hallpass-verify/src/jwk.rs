//! Public keys that travel with what they sign (RFC 7517, RFC 8037), and their thumbprints (RFC 7638).
//!
//! Such a key proves nothing by itself: it counts only where its thumbprint is what somebody is bound to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::KeyThumbprint;

/// A signature algorithm that a key may be used with. `none` and HMAC are not here, so they cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// ECDSA on P-256 with SHA-256, r‖s (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1; `Ed25519` is its name in RFC 9864 §2.2).
    EdDsa,
    /// RSASSA-PSS with SHA-256 (RFC 7518 §3.5).
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256,
}

impl Algorithm {
    /// By the name that stands in `alg`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "PS256" => Some(Self::Ps256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

/// A key as it is written. Members that only a private or a shared key has are named, so that they can be refused.
#[derive(Debug, Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
    alg: Option<String>,
    #[serde(rename = "use")]
    meant_for: Option<String>,
    key_ops: Option<Vec<String>>,
}

/// Whether a key with these `key_ops` verifies signatures. Each stands there once, and none beside it that is of another
/// kind of use (RFC 7517 §4.3): a key that also decrypts can be made to answer for what it never meant to sign.
pub(crate) fn may_verify(ops: &[impl AsRef<str>]) -> bool {
    const OTHERS: [&str; 6] = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];
    let names = || ops.iter().map(AsRef::as_ref);
    let once = names().enumerate().all(|(n, op)| names().skip(n + 1).all(|other| other != op));
    once && names().any(|op| op == "verify") && names().all(|op| !OTHERS.contains(&op))
}

/// A public key, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    P256 { x: [u8; 32], y: [u8; 32] },
    Ed25519([u8; 32]),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Jwk {
    /// Whether its own `alg` (RFC 7517 §4.4), if it has one, is this one.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.alg.as_deref().is_none_or(|own| Algorithm::named(own) == Some(algorithm))
    }

    /// The public key; `None` if there is a private member, if it is meant for something else than verifying
    /// (RFC 7517 §4.2, §4.3), or if it is no key that we verify with.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        let is_for_signatures = self.meant_for.as_deref().is_none_or(|name| name == "sig");
        if !is_for_signatures || !self.key_ops.as_deref().is_none_or(may_verify) {
            return None;
        }
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        if private.iter().any(|member| member.is_some()) {
            return None;
        }
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => Some(PublicKey::P256 { x: coordinate(&self.x)?, y: coordinate(&self.y)? }),
            ("OKP", Some("Ed25519")) => Some(PublicKey::Ed25519(coordinate(&self.x)?)),
            ("RSA", None) => Some(PublicKey::Rsa { n: integer(&self.n)?, e: integer(&self.e)? }),
            _ => None,
        }
    }
}

fn decode(member: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member.as_deref()?).ok()
}

fn coordinate(member: &Option<String>) -> Option<[u8; 32]> {
    decode(member)?.try_into().ok()
}

/// Base64urlUInt (RFC 7518 §2): no zero in front, so that a key has one spelling and one thumbprint.
fn integer(member: &Option<String>) -> Option<Vec<u8>> {
    decode(member).filter(|bytes| bytes.first().is_some_and(|first| *first != 0))
}

impl PublicKey {
    /// base64url(SHA-256(the required members, in lexicographic order, without white space)) (RFC 7638 §3).
    pub(crate) fn thumbprint(&self) -> KeyThumbprint {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let canonical = match self {
            Self::P256 { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y)),
            Self::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(x)),
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
        };
        KeyThumbprint::of_digest(digest(&SHA256, canonical.as_bytes()).as_ref())
    }

    /// Whether a key of this type is used with `algorithm`.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::P256 { .. }, Algorithm::Es256)
                | (Self::Ed25519(_), Algorithm::EdDsa)
                | (Self::Rsa { .. }, Algorithm::Ps256 | Algorithm::Rs256)
        )
    }

    /// Whether `signature` is this key's over `message`. RSA keys below 2048 or above 8192 bits sign nothing.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match (self, algorithm) {
            (Self::P256 { x, y }, Algorithm::Es256) => {
                let point: Vec<u8> = [&[4], x.as_slice(), y.as_slice()].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Self::Ed25519(x), Algorithm::EdDsa) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature),
            (Self::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            (Self::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            _ => return false,
        };
        outcome.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(json: &str) -> Option<PublicKey> {
        serde_json::from_str::<Jwk>(json).ok()?.public()
    }

    #[test]
    fn rfc7638_s3_1_the_thumbprint_of_the_example() {
        let jwk = r#"{"kty":"RSA","alg":"RS256","kid":"2011-04-29","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;
        let thumbprint = key(jwk).unwrap().thumbprint();
        assert_eq!(thumbprint.as_str(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn rfc8037_a3_the_thumbprint_of_an_ed25519_key() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(key(jwk).unwrap().thumbprint().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_private_or_shared_key_is_no_public_key() {
        let public = r#""kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA""#;
        assert!(key(&format!("{{{public}}}")).is_some());
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert_eq!(key(&format!(r#"{{{public},"{private}":"AA"}}"#)), None, "{private}");
        }
        assert_eq!(key(r#"{"kty":"oct","k":"AA"}"#), None);
    }

    #[test]
    fn rfc7517_s4_2_and_4_3_a_key_is_used_for_what_it_is_meant_for() {
        let with = |more: &str| {
            key(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",{more}}}"#))
        };
        // As Web Crypto exports it.
        for good in [r#""use":"sig""#, r#""key_ops":["verify"],"ext":true"#, r#""key_ops":["sign","verify"]"#] {
            assert!(with(good).is_some(), "{good}");
        }
        for bad in [
            r#""use":"enc""#,
            r#""use":"""#,
            r#""use":7"#,
            r#""key_ops":[]"#,
            r#""key_ops":["sign"]"#,
            r#""key_ops":["encrypt"]"#,
            r#""key_ops":["verify","encrypt"]"#,
            r#""key_ops":["verify","verify"]"#,
            r#""key_ops":"verify""#,
            r#""use":"sig","key_ops":["deriveKey"]"#,
        ] {
            assert_eq!(with(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc7517_s4_a_member_that_is_there_twice_is_refused() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","x":"AA"}"#;
        assert_eq!(key(jwk), None);
    }

    #[test]
    fn rfc7518_s2_an_integer_has_one_spelling() {
        assert!(key(r#"{"kty":"RSA","n":"0vx7","e":"AQAB"}"#).is_some());
        assert_eq!(key(r#"{"kty":"RSA","n":"ANL8ew","e":"AQAB"}"#), None);
        assert_eq!(key(r#"{"kty":"RSA","n":"0vx7","e":""}"#), None);
    }
}
