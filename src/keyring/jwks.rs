//! Public halves: what the world sees of a signing key, at `/.well-known/jwks.json`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::signing::Algorithm;
use crate::error::{Error, Result};

/// A public key as a JWK (RFC 7517), named by its own thumbprint.
///
/// Not `Deserialize`: [`PublicJwk::parse`] is the way in, and it checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PublicJwk(Jwk);

impl PublicJwk {
    /// From ring's `0x04 ‖ x ‖ y` (SEC 1 §2.3.3).
    pub(super) fn p256(point: &[u8]) -> Result<Self> {
        let xy = point.strip_prefix(&[4]).and_then(|xy| xy.split_at_checked(32));
        let (x, y) = xy.ok_or_else(|| malformed("the point is not uncompressed"))?;
        Self::name(Algorithm::Es256, Public::Ec { crv: EcCurve::P256, x: BASE64URL.encode(x), y: BASE64URL.encode(y) })
    }

    /// From the 32 bytes of an Ed25519 public key (RFC 8037 §2).
    pub(super) fn ed25519(key: &[u8]) -> Result<Self> {
        Self::name(Algorithm::EdDsa, Public::Okp { crv: OkpCurve::Ed25519, x: BASE64URL.encode(key) })
    }

    /// From big-endian numbers without leading zeroes (RFC 7518 §6.3.1).
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self> {
        Self::name(Algorithm::Rs256, Public::Rsa { n: BASE64URL.encode(n), e: BASE64URL.encode(e) })
    }

    /// Reads back [`PublicJwk::to_json`]'s form, from the database.
    ///
    /// The key must be what its name says. That catches a mix-up, not an attacker: one who adds a row of their own to
    /// the database would have tokens accepted that they signed themselves. Against that, keep it sealed as
    /// `vault::Purpose::VerifyKey`.
    pub fn parse(json: &str) -> Result<Self> {
        let jwk: Jwk = serde_json::from_str(json).map_err(malformed)?;
        if jwk.public.thumbprint() != jwk.kid {
            return Err(malformed("the kid is not the key's thumbprint"));
        }
        Self::name(jwk.alg, jwk.public)
    }

    /// The JWK as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(malformed)
    }

    /// The key's name: its thumbprint.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The one algorithm that it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.0.alg
    }

    fn name(alg: Algorithm, public: Public) -> Result<Self> {
        public.check(alg)?;
        Ok(Self(Jwk { kid: public.thumbprint(), alg, usage: Usage::Sig, public }))
    }
}

/// The JWK set of these keys (RFC 7517 §5), in their order.
pub(super) fn to_jwks<'a>(keys: impl Iterator<Item = &'a PublicJwk>) -> Result<String> {
    #[derive(Serialize)]
    struct Set<'a> {
        keys: Vec<&'a PublicJwk>,
    }
    serde_json::to_string(&Set { keys: keys.collect() }).map_err(malformed)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Jwk {
    #[serde(flatten)]
    public: Public,
    kid: String,
    alg: Algorithm,
    #[serde(rename = "use")]
    usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
enum Public {
    #[serde(rename = "EC")]
    Ec { crv: EcCurve, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: OkpCurve, x: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum EcCurve {
    #[serde(rename = "P-256")]
    P256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum OkpCurve {
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Usage {
    Sig,
}

impl Public {
    /// `base64url(SHA-256(the required members, in lexicographic order, without white space))`, RFC 7638 §3.
    fn thumbprint(&self) -> String {
        // The values are base64url, so they need no escaping; a text that is not is refused by `check`.
        let canonical = match self {
            Self::Ec { x, y, .. } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
            Self::Okp { x, .. } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Self::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        BASE64URL.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    /// Whether the members have the lengths that the algorithm asks for; RFC 7518 §3.3: RSA has 2048 bits at least.
    fn check(&self, alg: Algorithm) -> Result<()> {
        let len = |text: &str| BASE64URL.decode(text).map(|bytes| bytes.len()).map_err(malformed);
        let fits = match (self, alg) {
            (Self::Ec { x, y, .. }, Algorithm::Es256) => len(x)? == 32 && len(y)? == 32,
            (Self::Okp { x, .. }, Algorithm::EdDsa) => len(x)? == 32,
            (Self::Rsa { n, e }, Algorithm::Rs256) => len(n)? >= 256 && (1..=8).contains(&len(e)?),
            _ => false,
        };
        if fits { Ok(()) } else { Err(malformed("the key does not fit its algorithm")) }
    }
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::internal(format_args!("a signing key's public half is malformed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7638 §3.1.
    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX\
                         jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAta\
                         Sqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPks\
                         INHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    /// RFC 8037 appendix A.3.
    const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn rfc7638_s3_1_thumbprint() {
        let n = BASE64URL.decode(RSA_N).unwrap();
        let jwk = PublicJwk::rsa(&n, &[1, 0, 1]).unwrap();
        assert_eq!(jwk.kid(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn rfc8037_a3_thumbprint() {
        let jwk = PublicJwk::ed25519(&BASE64URL.decode(ED_X).unwrap()).unwrap();
        assert_eq!(jwk.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            jwk.to_json().unwrap(),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED_X}","kid":"{}","alg":"EdDSA","use":"sig"}}"#, jwk.kid())
        );
        assert_eq!(PublicJwk::parse(&jwk.to_json().unwrap()).unwrap(), jwk);
    }

    #[test]
    fn a_swapped_or_misfit_public_key_is_refused() {
        let json = PublicJwk::ed25519(&[7; 32]).unwrap().to_json().unwrap();
        let other = BASE64URL.encode([8; 32]);
        let own = BASE64URL.encode([7; 32]);
        let private = json.replace(r#""use""#, r#""d":"AAAA","use""#);
        assert!(PublicJwk::parse(&json).is_ok());
        assert!(!PublicJwk::parse(&private).unwrap().to_json().unwrap().contains("\"d\""));
        for bad in [
            json.replace(&own, &other),
            json.replace("EdDSA", "ES256"),
            json.replace("EdDSA", "HS256"),
            json.replace("\"sig\"", "\"enc\""),
            json.replace("Ed25519", "X25519"),
            "{}".into(),
        ] {
            assert!(PublicJwk::parse(&bad).is_err(), "{bad}");
        }
        assert!(PublicJwk::ed25519(&[7; 31]).is_err());
        assert!(PublicJwk::p256(&[2; 33]).is_err());
        assert!(PublicJwk::p256(&[4; 64]).is_err());
        assert!(PublicJwk::rsa(&[255; 128], &[1, 0, 1]).is_err());
    }
}
