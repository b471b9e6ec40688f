//! Demonstrating proof of possession: DPoP (RFC 9449). No I/O; time is an argument.
//!
//! ```text
//! DPoP header ─ Dpop::check ─► Proof ─ Proof::spend ─► ProvenKey     (only this builds one)
//! ```
//! Two steps, because a proof is spent only once its sender is known: strangers must not fill the memory of what was
//! spent. [`crate::TokenVerifier::verify_dpop`] and [`crate::Gateway::verify_dpop`] do all of it in one call.

mod nonce;
mod replay;
mod target;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256, digest};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::jwk::{Algorithm, Jwk};
use crate::{CertificateThumbprint, KeyThumbprint, Refusal, Seconds};

pub use nonce::DpopNonces;
use replay::{ReplayCache, Spent};

/// `dpop_signing_alg_values_supported` (RFC 9449 §5.1), and `algs` in a challenge (§7.1).
pub const DPOP_ALGORITHMS: &[&str] = &["ES256", "EdDSA", "Ed25519", "PS256", "RS256"];

/// Longer proofs are refused unread; one by an RSA key of 8192 bits has about 4 KiB.
const MAX_PROOF_BYTES: usize = 8 * 1024;

/// Longer `jti`s are refused.
const MAX_JTI_BYTES: usize = 256;

/// `typ` of a proof (RFC 9449 §4.2).
const PROOF_TYP: &str = "dpop+jwt";

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefusal {
    /// No `DPoP` header where a proof is needed.
    #[error("there is no proof: send a DPoP header")]
    Missing,
    /// Two headers: which one would count, nobody knows.
    #[error("there is more than one DPoP header: send one")]
    Several,
    /// No JWS in compact form, too long, or a claim is missing or of the wrong form.
    #[error("the DPoP proof is malformed")]
    Malformed,
    /// A JWT of another kind.
    #[error("the DPoP proof's typ is not dpop+jwt")]
    WrongType,
    /// `none`, HMAC, or an algorithm that the key is not for.
    #[error("the DPoP proof's algorithm is not accepted, or is not one for its key")]
    WrongAlgorithm,
    /// No `jwk`, a private one, one of a kind that is not accepted, or one that is meant for something else.
    #[error("the DPoP proof's jwk is not a public key, of an accepted kind, that is meant for signatures")]
    BadKey,
    /// The signature does not fit.
    #[error("the DPoP proof's signature is wrong")]
    BadSignature,
    /// `htm` is another method.
    #[error("the DPoP proof's htm is not this request's method")]
    WrongMethod,
    /// `htu` is another URL.
    #[error("the DPoP proof's htu is not this request's URL")]
    WrongUrl,
    /// `iat` is too far from now.
    #[error("the DPoP proof's iat is too old or in the future")]
    WrongTime,
    /// `ath` is not the digest of the token that came with it.
    #[error("the DPoP proof's ath is not the hash of this access token")]
    WrongToken,
    /// `nonce` is missing or not one that was handed out lately; or the proof is older than the memory of those spent.
    #[error("the DPoP proof needs the nonce in the DPoP-Nonce header of this answer")]
    UseNonce,
    /// It was used before.
    #[error("the DPoP proof was used before: make a new one for each request")]
    Replayed,
    /// So many proofs are in use that this one cannot be remembered.
    #[error("too many DPoP proofs are in use: try again in a moment")]
    TooMany,
}

impl ProofRefusal {
    /// The error code of RFC 9449 §5, §7.1, §8 and §9.
    pub fn code(self) -> &'static str {
        match self {
            Self::UseNonce => "use_dpop_nonce",
            _ => "invalid_dpop_proof",
        }
    }

    /// A stable name for logs, where [`Self::code`] puts many reasons into one.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "dpop_missing",
            Self::Several => "dpop_several",
            Self::Malformed => "dpop_malformed",
            Self::WrongType => "dpop_wrong_type",
            Self::WrongAlgorithm => "dpop_wrong_algorithm",
            Self::BadKey => "dpop_bad_key",
            Self::BadSignature => "dpop_bad_signature",
            Self::WrongMethod => "dpop_wrong_method",
            Self::WrongUrl => "dpop_wrong_url",
            Self::WrongTime => "dpop_wrong_time",
            Self::WrongToken => "dpop_wrong_token",
            Self::UseNonce => "dpop_use_nonce",
            Self::Replayed => "dpop_replayed",
            Self::TooMany => "dpop_too_many",
        }
    }
}

/// Why a call with a token and a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DpopRefusal {
    /// For the token.
    #[error(transparent)]
    Token(#[from] Refusal),
    /// For the proof.
    #[error(transparent)]
    Proof(#[from] ProofRefusal),
}

impl DpopRefusal {
    /// A stable code for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Token(refusal) => refusal.code(),
            Self::Proof(refusal) => refusal.code(),
        }
    }

    /// A stable name for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Token(refusal) => refusal.code(),
            Self::Proof(refusal) => refusal.reason(),
        }
    }
}

/// How proofs are checked.
#[derive(Debug, Clone)]
pub struct DpopSettings {
    /// How old a proof may be, in seconds.
    pub window: Seconds,
    /// By how many seconds a proof may be in the future: clocks differ.
    pub leeway: Seconds,
    /// How many used proofs are remembered, at most. Full, further proofs are refused: none is forgotten early.
    pub remembered: usize,
    /// Since when they are remembered. An older proof may have been used before, so its sender is asked for a new one.
    pub since: Seconds,
    /// The nonces that a proof must hold one of; none: a nonce is neither needed nor looked at.
    pub nonces: Option<DpopNonces>,
}

impl Default for DpopSettings {
    /// Proofs up to 60 s old, 5 s of clock difference, a million remembered, no nonces.
    fn default() -> Self {
        Self { window: 60, leeway: 5, remembered: 1_000_000, since: Seconds::MIN, nonces: None }
    }
}

/// A request as it came: what a proof must be for.
#[derive(Debug, Clone)]
pub struct DpopRequest<'a> {
    /// The values of all its `DPoP` headers; more than one is refused (RFC 9449 §4.3).
    pub proofs: &'a [&'a str],
    /// Its method.
    pub method: &'a str,
    /// Its URL as clients write it, scheme and host included: from the configuration, never from a `Host` header.
    pub url: &'a str,
    /// The client certificate of its connection, if there was one.
    pub certificate: Option<CertificateThumbprint>,
}

/// Checks proofs, and remembers those that were used.
#[derive(Debug)]
pub struct Dpop {
    settings: DpopSettings,
    replay: Arc<ReplayCache>,
}

/// A proof whose signature and claims are good, and that is not spent yet.
#[derive(Debug, Clone)]
pub struct Proof {
    key: KeyThumbprint,
    name: [u8; 16],
    end: Seconds,
    replay: Arc<ReplayCache>,
}

/// What to remember of a proof that was spent, for whoever keeps that beyond this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpentProof {
    /// Half a SHA-256 of its key and its `jti`.
    pub digest: [u8; 16],
    /// From then on it is refused as too old, unix seconds.
    pub ends: Seconds,
}

/// The key of a proof that was spent: for this request its holder is at the other end. Only [`Proof::spend`] builds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey(KeyThumbprint);

impl ProvenKey {
    /// Its thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &KeyThumbprint {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of(key: KeyThumbprint) -> Self {
        Self(key)
    }
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
    jwk: Option<Jwk>,
    // The key is the one in `jwk`: a header that points to another is an attempt to have us fetch or trust it. A `kid`
    // points nowhere by itself, and is not looked at.
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    // RFC 7515 §4.1.11: an extension that must be understood, and is not.
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ProofClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: serde_json::Number,
    ath: Option<String>,
    nonce: Option<String>,
}

impl Dpop {
    /// One for each process: what it remembers is what makes a proof good for one request.
    pub fn new(settings: DpopSettings) -> Self {
        let replay = Arc::new(ReplayCache::new(settings.remembered));
        Self { settings, replay }
    }

    /// The nonce to hand out with an answer, where nonces are asked for (RFC 9449 §8.2).
    pub fn nonce(&self, now: Seconds) -> Option<String> {
        self.settings.nonces.as_ref().map(|nonces| nonces.current(now))
    }

    /// How many used proofs are remembered now.
    pub fn remembered(&self) -> usize {
        self.replay.held()
    }

    /// The checks of RFC 9449 §4.3 but for replay, which [`Proof::spend`] makes. `token` is the access token that came
    /// with the proof, if one did.
    pub fn check(&self, request: &DpopRequest<'_>, token: Option<&str>, now: Seconds) -> Result<Proof, ProofRefusal> {
        self.check_of(request, token, None, now).map_err(|refusal| match refusal {
            DpopRefusal::Proof(refusal) => refusal,
            DpopRefusal::Token(_) => ProofRefusal::BadKey,
        })
    }

    /// As [`Self::check`]; a key other than `holder` is refused before its signature is looked at. What costs least
    /// comes first.
    pub(crate) fn check_of(
        &self,
        request: &DpopRequest<'_>,
        token: Option<&str>,
        holder: Option<&KeyThumbprint>,
        now: Seconds,
    ) -> Result<Proof, DpopRefusal> {
        let text = match request.proofs {
            [] => return Err(ProofRefusal::Missing.into()),
            [one] => *one,
            _ => return Err(ProofRefusal::Several.into()),
        };
        if text.len() > MAX_PROOF_BYTES {
            return Err(ProofRefusal::Malformed.into());
        }
        let (message, signature) = text.rsplit_once('.').ok_or(ProofRefusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(ProofRefusal::Malformed)?;
        let (algorithm, jwk) = read_header(&decode(header)?)?;
        let claims: ProofClaims = serde_json::from_slice(&decode(claims)?).map_err(|_| ProofRefusal::Malformed)?;
        let signature = decode(signature)?;

        let issued = self.check_claims(&claims, request, token, now)?;
        let key = jwk.public().ok_or(ProofRefusal::BadKey)?;
        if !key.is_for(algorithm) || !jwk.allows(algorithm) {
            return Err(ProofRefusal::WrongAlgorithm.into());
        }
        let thumbprint = key.thumbprint();
        if holder.is_some_and(|holder| *holder != thumbprint) {
            return Err(Refusal::Bound.into());
        }
        if !key.verifies(algorithm, message.as_bytes(), &signature) {
            return Err(ProofRefusal::BadSignature.into());
        }
        let name = name_of(&thumbprint, &claims.jti);
        let end = issued.saturating_add(self.settings.window);
        Ok(Proof { key: thumbprint, name, end, replay: self.replay.clone() })
    }

    /// `iat`, if all claims are as they should be.
    fn check_claims(
        &self,
        claims: &ProofClaims,
        request: &DpopRequest<'_>,
        token: Option<&str>,
        now: Seconds,
    ) -> Result<Seconds, ProofRefusal> {
        if claims.jti.is_empty() || claims.jti.len() > MAX_JTI_BYTES {
            return Err(ProofRefusal::Malformed);
        }
        if claims.htm != request.method {
            return Err(ProofRefusal::WrongMethod);
        }
        let wanted = target::canonical(request.url);
        if wanted.is_none() || target::canonical(&claims.htu) != wanted {
            return Err(ProofRefusal::WrongUrl);
        }
        if let Some(token) = token {
            let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
            if claims.ath.as_deref() != Some(hash.as_str()) {
                return Err(ProofRefusal::WrongToken);
            }
        }
        if let Some(nonces) = &self.settings.nonces
            && !claims.nonce.as_deref().is_some_and(|nonce| nonces.accepts(nonce, now))
        {
            return Err(ProofRefusal::UseNonce);
        }
        let issued = seconds(&claims.iat).ok_or(ProofRefusal::Malformed)?;
        if issued > now.saturating_add(self.settings.leeway) || issued < now.saturating_sub(self.settings.window) {
            return Err(ProofRefusal::WrongTime);
        }
        // Whoever listened before this process began could replay it here: it is not known what was spent then.
        if issued < self.settings.since {
            return Err(ProofRefusal::UseNonce);
        }
        Ok(issued)
    }
}

impl Proof {
    /// The key that signed it.
    pub fn key(&self) -> &KeyThumbprint {
        &self.key
    }

    /// What to remember of it beyond this process, once it is spent.
    pub fn spent(&self) -> SpentProof {
        SpentProof { digest: self.name, ends: self.end.saturating_add(1) }
    }

    /// Uses it up, for the request that it came with.
    ///
    /// # Errors
    /// [`ProofRefusal::Replayed`] the second time; [`ProofRefusal::TooMany`] if it could not be remembered.
    pub fn spend(&self, now: Seconds) -> Result<ProvenKey, ProofRefusal> {
        match self.replay.spend(&self.name, self.end, now) {
            Spent::Now => Ok(ProvenKey(self.key.clone())),
            Spent::Before => Err(ProofRefusal::Replayed),
            Spent::NoRoom => Err(ProofRefusal::TooMany),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, ProofRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofRefusal::Malformed)
}

fn read_header(json: &[u8]) -> Result<(Algorithm, Jwk), ProofRefusal> {
    let header: Header = serde_json::from_slice(json).map_err(|_| ProofRefusal::Malformed)?;
    if !header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case(PROOF_TYP)) {
        return Err(ProofRefusal::WrongType);
    }
    let algorithm = Algorithm::named(&header.alg).ok_or(ProofRefusal::WrongAlgorithm)?;
    let elsewhere = [&header.jku, &header.x5u, &header.x5c];
    if elsewhere.iter().any(|member| member.is_some()) {
        return Err(ProofRefusal::BadKey);
    }
    if header.crit.is_some() {
        return Err(ProofRefusal::Malformed);
    }
    Ok((algorithm, header.jwk.ok_or(ProofRefusal::BadKey)?))
}

/// NumericDate (RFC 7519 §2) may have a fraction.
fn seconds(number: &serde_json::Number) -> Option<Seconds> {
    #[allow(clippy::cast_possible_truncation, reason = "`as` saturates, and what is that far off is refused")]
    number.as_i64().or_else(|| number.as_f64().map(|number| number.floor() as Seconds))
}

/// SHA-256(jkt ‖ 0 ‖ jti): a thumbprint has no zero byte in it.
fn name_of(key: &KeyThumbprint, jti: &str) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    context.update(key.as_str().as_bytes());
    context.update(&[0]);
    context.update(jti.as_bytes());
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
