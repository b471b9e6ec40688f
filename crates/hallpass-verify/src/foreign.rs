//! JWTs that others signed: client assertions, tokens of registered issuers, SVIDs.
//!
//! Their JWKS may leave `alg` out (RFC 7517 §4.4), so the rule is another one than for our own tokens: the header's `alg`
//! must be in the list that the reader brings for this purpose, AND fit the type of the key, AND be the key's own `alg`
//! where it has one. `none` and HS* have no name here, so no list can hold them (RFC 8725 §3.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use crate::Refusal;
use crate::jwk::may_verify;

mod claims;

pub use claims::ForeignClaims;

/// Longer ones are refused unread. Kubernetes and cloud identities put more into a token than we do into ours.
pub const MAX_FOREIGN_BYTES: usize = 16 * 1024;

/// Keys of one set that are read; the rest is passed over.
pub const MAX_FOREIGN_KEYS: usize = 64;

/// Keys that are tried where the header names none. Each try is a signature verification that the sender causes.
const MAX_TRIES: usize = 4;

/// How others may sign (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForeignAlgorithm {
    /// Ed25519; `Ed25519` is RFC 9864's name for the same.
    EdDsa,
    /// ECDSA, P-256, SHA-256, r‖s.
    Es256,
    /// ECDSA, P-384, SHA-384, r‖s.
    Es384,
    /// RSASSA-PSS, SHA-256.
    Ps256,
    /// RSASSA-PKCS1-v1_5, SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
}

impl ForeignAlgorithm {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::EdDsa, Self::Es256, Self::Es384, Self::Ps256, Self::Rs256, Self::Rs512];

    /// As `alg` says it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDsa),
            _ => Self::ALL.into_iter().find(|one| one.as_str() == name),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
        }
    }
}

/// What a key may be published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// `use` is `sig`, or left out (RFC 7517 §4.2).
    Signature,
    /// `use` is `jwt-svid`, always written (SPIFFE Trust Domain and Bundle §4.2.2).
    JwtSvid,
}

/// Why a key of a JWKS verifies nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// RFC 7517 §4.2.
    #[error("its 'use' is not one for verifying signatures")]
    Use,
    /// RFC 7517 §4.3.
    #[error("its 'key_ops' do not allow 'verify', or allow what does not go with it")]
    Operations,
    /// It is, or holds, a private or a shared key.
    #[error("it holds a private or a shared key")]
    Private,
    /// RFC 7517 §4.4.
    #[error("its 'alg' is not one that is accepted here")]
    UnknownAlgorithm,
    /// RFC 7518 §3.1: ES256 goes with P-256, ES384 with P-384, EdDSA with Ed25519, PS and RS with RSA.
    #[error("its 'alg' is not one for its 'kty' and 'crv'")]
    AlgorithmOfAnotherKind,
    /// RFC 7518 §6.
    #[error("its 'kty' and 'crv' are not of a kind that is accepted here")]
    Kind,
    /// RFC 7518 §6.
    #[error("a member of it is missing, or has another length than its kind of key has")]
    Malformed,
}

/// Members that only a private or a shared key has (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "k", "p", "q", "dp", "dq", "qi", "oth"];

/// The public keys of somebody else.
#[derive(Debug, Clone, Default)]
pub struct ForeignKeys {
    keys: Vec<ForeignKey>,
}

#[derive(Debug, Clone)]
struct ForeignKey {
    kid: Option<String>,
    algorithm: Option<ForeignAlgorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "Ed25519",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::Rsa { .. } => "RSA",
        })
    }
}

impl ForeignKeys {
    /// Reads a JWKS (RFC 7517 §5). Keys of other kinds, for other uses, or with a private half in them are passed over.
    /// None: it is no JWKS at all.
    pub fn from_value(jwks: &Value, wanted: KeyUse) -> Option<Self> {
        let keys = jwks.get("keys")?.as_array()?;
        let keys = keys.iter().filter_map(|key| ForeignKey::read(key.as_object()?, wanted).ok());
        Some(Self { keys: keys.take(MAX_FOREIGN_KEYS).collect() })
    }

    /// Why the keys of a JWKS are passed over, by their place in it; empty: all are read. For whoever registers the set:
    /// a key that is never used is otherwise noticed when a signature is refused.
    pub fn problems(jwks: &Value, wanted: KeyUse) -> Vec<(usize, KeyProblem)> {
        let keys = jwks.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let problem = |key: &Value| match key.as_object() {
            Some(key) => ForeignKey::read(key, wanted).err(),
            None => Some(KeyProblem::Malformed),
        };
        keys.iter().enumerate().filter_map(|(n, key)| Some((n, problem(key)?))).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Those that may have signed this.
    fn candidates(&self, kid: Option<&str>, algorithm: ForeignAlgorithm) -> Result<Vec<&ForeignKey>, Refusal> {
        // A key without a name may be the one that the header names; a header without a name may mean any.
        let may_be = |key: &&ForeignKey| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid;
        let is_named = kid.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == kid);
        let fitting = self.keys.iter().filter(may_be).filter(|key| key.fits(algorithm));
        let fitting: Vec<_> = fitting.take(MAX_TRIES).collect();
        match fitting.is_empty() {
            false => Ok(fitting),
            true if is_named => Err(Refusal::WrongAlgorithm),
            true => Err(Refusal::UnknownKey),
        }
    }
}

impl ForeignKey {
    /// The key, or why it verifies nothing. A key that cannot be read is passed over like one of an unknown kind
    /// (RFC 7517 §5): the others still count.
    fn read(key: &Map<String, Value>, wanted: KeyUse) -> Result<Self, KeyProblem> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        // What is there and no text is not "left out".
        let meant_for = match key.get("use") {
            None => None,
            Some(name) => Some(name.as_str().ok_or(KeyProblem::Use)?),
        };
        match (wanted, meant_for) {
            (KeyUse::Signature, None | Some("sig")) | (KeyUse::JwtSvid, Some("jwt-svid")) => {}
            (_, _) => return Err(KeyProblem::Use),
        }
        if let Some(ops) = key.get("key_ops") {
            let ops = ops.as_array().and_then(|ops| ops.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
            if !ops.is_some_and(|ops| may_verify(&ops)) {
                return Err(KeyProblem::Operations);
            }
        }
        if PRIVATE_MEMBERS.iter().any(|private| key.contains_key(*private)) {
            return Err(KeyProblem::Private);
        }
        let algorithm = match key.get("alg") {
            None => None,
            Some(name) => Some(name.as_str().and_then(ForeignAlgorithm::parse).ok_or(KeyProblem::UnknownAlgorithm)?),
        };
        // What is no base64url is a key with parts missing: told below.
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            // SEC 1 §2.3.3: uncompressed.
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let rsa = || {
            let n = bytes("n").filter(|n| (256..=1025).contains(&n.len()))?;
            Some(Material::Rsa { n, e: bytes("e").filter(|e| (1..=8).contains(&e.len()))? })
        };
        let material = match (text("kty"), key.get("crv").map(Value::as_str)) {
            (Some("OKP"), Some(Some("Ed25519"))) => bytes("x").filter(|x| x.len() == 32).map(Material::Ed25519),
            (Some("EC"), Some(Some("P-256"))) => point(32).map(Material::P256),
            (Some("EC"), Some(Some("P-384"))) => point(48).map(Material::P384),
            // An RSA key has no curve: what says that it has one contradicts itself.
            (Some("RSA"), None) => rsa(),
            _ => return Err(KeyProblem::Kind),
        };
        let material = material.ok_or(KeyProblem::Malformed)?;
        let key = Self { kid: text("kid").map(str::to_owned), algorithm, material };
        // RFC 7518 §3.4, RFC 8037 §3.1: each curve has its algorithm.
        match algorithm.is_none_or(|algorithm| key.fits(algorithm)) {
            true => Ok(key),
            false => Err(KeyProblem::AlgorithmOfAnotherKind),
        }
    }

    /// Whether a signature of this algorithm may be this key's.
    fn fits(&self, algorithm: ForeignAlgorithm) -> bool {
        use ForeignAlgorithm::{EdDsa, Es256, Es384, Ps256, Rs256, Rs512};
        self.algorithm.is_none_or(|own| own == algorithm)
            && matches!(
                (&self.material, algorithm),
                (Material::Ed25519(_), EdDsa)
                    | (Material::P256(_), Es256)
                    | (Material::P384(_), Es384)
                    | (Material::Rsa { .. }, Ps256 | Rs256 | Rs512)
            )
    }

    fn verify(&self, algorithm: ForeignAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match (&self.material, algorithm) {
            (Material::Ed25519(x), ForeignAlgorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, x).verify(message, signature)
            }
            (Material::P256(point), ForeignAlgorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::P384(point), ForeignAlgorithm::Es384) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            (Material::Rsa { n, e }, algorithm) => {
                let parameters: &RsaParameters = match algorithm {
                    ForeignAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    ForeignAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    ForeignAlgorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            _ => return false,
        };
        outcome.is_ok()
    }
}

/// Somebody else's JWT, of which nothing is known but its form. What it says may be looked at to find out whose keys to
/// verify it with, and for nothing else.
pub struct ForeignToken<'a> {
    message: &'a str,
    signature: Vec<u8>,
    algorithm: ForeignAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    claims: Map<String, Value>,
}

impl fmt::Debug for ForeignToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignToken").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl<'a> ForeignToken<'a> {
    /// Checks the form and the header (RFC 7515 §5.2); trusts none of it.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_FOREIGN_BYTES {
            return Err(Refusal::Malformed);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
        let header = object(header)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
        let algorithm = ForeignAlgorithm::parse(name).ok_or(Refusal::WrongAlgorithm)?;
        // RFC 7515 §4.1.11: an extension that must be understood and is not. A header that brings its own key, or says
        // where to fetch it, is an attempt to choose whom we trust (RFC 8725 §3.10).
        if ["crit", "b64", "jwk", "jku", "x5u", "x5c"].iter().any(|name| header.contains_key(*name)) {
            return Err(Refusal::Malformed);
        }
        let text_of = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::Malformed),
        };
        Ok(Self {
            message,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?,
            algorithm,
            kid: text_of("kid")?,
            typ: text_of("typ")?,
            claims: object(claims)?,
        })
    }

    /// What is signed. One message can have several good signatures (beside ECDSA's `r‖s` there is `r‖n−s`, which anybody
    /// makes of it), so whoever must know a token again goes by this, and not by its whole text.
    pub fn signed(&self) -> &'a str {
        self.message
    }

    /// `typ`, in lower case and without `application/` (RFC 7515 §4.1.9).
    pub fn typ(&self) -> Option<String> {
        let typ = self.typ.as_deref()?.to_ascii_lowercase();
        Some(typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ))
    }

    /// `iss`, as the sender claims.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// `sub`, as the sender claims.
    pub fn claimed_subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(Value::as_str)
    }

    /// Verifies the signature by one of these keys, with one of these algorithms. A set that is older than a rotation
    /// answers [`Refusal::UnknownKey`]; ask again with a newer one.
    pub fn verify(&self, keys: &ForeignKeys, algorithms: &[ForeignAlgorithm]) -> Result<ForeignClaims, Refusal> {
        if !algorithms.contains(&self.algorithm) {
            return Err(Refusal::WrongAlgorithm);
        }
        let candidates = keys.candidates(self.kid.as_deref(), self.algorithm)?;
        let is_signed =
            candidates.iter().any(|key| key.verify(self.algorithm, self.message.as_bytes(), &self.signature));
        // Without a name, the key may be one that this set does not hold yet.
        let is_named = |key: &&ForeignKey| key.kid.is_some() && key.kid == self.kid;
        match is_signed {
            true => Ok(ForeignClaims(self.claims.clone())),
            false if candidates.iter().any(is_named) => Err(Refusal::BadSignature),
            false => Err(Refusal::UnknownKey),
        }
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests;
