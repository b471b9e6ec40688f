//! From a token's text to verified claims: RFC 7515, RFC 9068 §4, RFC 8725.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{
    AccessToken, Claims, Dpop, DpopRefusal, DpopRequest, KeySet, MAX_ACTORS, Possession, RevocationSet, RevokedBy,
    Seconds, possession,
};

/// Longer tokens are refused unread: parsing must cost the sender more than us.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// `typ` of an access token (RFC 9068 §2.1).
const ACCESS_TOKEN_TYP: &str = "at+jwt";

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a JWS in compact form, too long, or its claims are not those of an access token.
    #[error("the token is malformed")]
    Malformed,
    /// A JWT of another kind (RFC 9068 §5: no cross-JWT confusion).
    #[error("the token is not an access token")]
    WrongType,
    /// Not one of the algorithms, or not the one that the key was published for (`none`, HS256 with a public key …).
    #[error("the token's algorithm is not accepted")]
    WrongAlgorithm,
    /// The key is not, or no longer, in the JWKS.
    #[error("the token's signing key is unknown")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Another issuer.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// Meant for somebody else.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Issued in the future: a clock is wrong.
    #[error("the token was issued in the future")]
    NotYetValid,
    /// It is bound to a key, and the caller did not prove to hold that key.
    #[error("the token is bound to a key that the caller did not prove to hold")]
    Bound,
    /// It came with a proof of possession, and is bound to no such key.
    #[error("the token is not bound to the key of the proof that came with it")]
    NotBound,
    /// Taken back.
    #[error("the token was revoked")]
    Revoked(RevokedBy),
    /// Its agent is suspended. Only the broker knows; for a gateway it is [`Self::Revoked`].
    #[error("the token's agent is suspended")]
    Suspended,
    /// The revocation list is older than the bound: fail closed.
    #[error("the revocation list is older than its bound")]
    ListStale,
}

impl Refusal {
    /// A stable code for logs and programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::WrongType => "token_wrong_type",
            Self::WrongAlgorithm => "token_wrong_algorithm",
            Self::UnknownKey => "token_unknown_key",
            Self::BadSignature => "token_bad_signature",
            Self::WrongIssuer => "token_wrong_issuer",
            Self::WrongAudience => "token_wrong_audience",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Bound => "token_bound",
            Self::NotBound => "token_not_bound",
            Self::Revoked(RevokedBy::Token) => "token_revoked",
            Self::Revoked(RevokedBy::Session) => "session_revoked",
            Self::Revoked(RevokedBy::Agent) => "agent_revoked",
            Self::Revoked(RevokedBy::Key) => "key_revoked",
            Self::Suspended => "agent_suspended",
            Self::ListStale => "revocation_list_stale",
        }
    }
}

/// A token of which nothing is known but its form.
#[derive(Debug)]
pub struct Unverified<'a> {
    text: &'a str,
    header: Header,
    kid: String,
}

impl<'a> Unverified<'a> {
    /// Checks the form, the type and the header; trusts none of it.
    pub fn parse(text: &'a str, typ: &str) -> Result<Self, Refusal> {
        Self::parse_sized(text, typ, MAX_TOKEN_BYTES)
    }

    pub(crate) fn parse_sized(text: &'a str, typ: &str, limit: usize) -> Result<Self, Refusal> {
        if text.len() > limit || text.bytes().filter(|b| *b == b'.').count() != 2 {
            return Err(Refusal::Malformed);
        }
        let header = jsonwebtoken::decode_header(text).map_err(|error| match error.kind() {
            // An algorithm that the library has no name for (`none` among them) fails as unknown JSON.
            jsonwebtoken::errors::ErrorKind::Json(error) if error.is_data() => Refusal::WrongAlgorithm,
            _ => Refusal::Malformed,
        })?;
        if !header.typ.as_deref().is_some_and(|given| is_type(given, typ)) {
            return Err(Refusal::WrongType);
        }
        // RFC 7515 §4.1.11: an extension that must be understood and is not. A header that brings its own key is an
        // attempt to have us verify with it (RFC 8725 §3.10): nobody honest sends one.
        if header.crit.is_some()
            || header.jwk.is_some()
            || header.jku.is_some()
            || header.x5u.is_some()
            || header.x5c.is_some()
        {
            return Err(Refusal::Malformed);
        }
        let kid = header.kid.clone().ok_or(Refusal::UnknownKey)?;
        Ok(Self { text, header, kid })
    }

    /// Verifies the signature with the key that `kid` names in `keys`, by that key's own algorithm.
    pub fn verify<T: DeserializeOwned>(self, keys: &KeySet) -> Result<(T, String), Refusal> {
        let key = keys.get(&self.kid).ok_or(Refusal::UnknownKey)?;
        if self.header.alg != key.algorithm {
            return Err(Refusal::WrongAlgorithm);
        }
        match jsonwebtoken::decode::<T>(self.text, &key.decoding, &key.validation) {
            Ok(data) => Ok((data.claims, self.kid)),
            Err(error) => Err(match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => Refusal::BadSignature,
                jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => Refusal::WrongAlgorithm,
                _ => Refusal::Malformed,
            }),
        }
    }
}

/// What a header or a payload says that tells a token of ours from anything else.
#[derive(Deserialize)]
struct Claimed {
    typ: Option<String>,
    iss: Option<String>,
}

/// RFC 7515 §4.1.9: `application/` in front may be left out, and case does not matter.
fn is_type(given: &str, wanted: &str) -> bool {
    let short = given.split_once('/').filter(|(main, _)| main.eq_ignore_ascii_case("application"));
    short.map_or(given, |(_, short)| short).eq_ignore_ascii_case(wanted)
}

/// Verifies access tokens of one issuer and remembers, by digest, those that it has verified.
#[derive(Debug)]
pub struct TokenVerifier {
    issuer: String,
    leeway: Seconds,
    seen: Cache<[u8; 32], Claims>,
}

impl TokenVerifier {
    /// For tokens of `issuer`; clocks may differ by `leeway`; at most `remembered` verified tokens are kept.
    pub fn new(issuer: impl Into<String>, leeway: Seconds, remembered: usize) -> Self {
        crate::install_crypto();
        Self { issuer: issuer.into(), leeway, seen: Cache::new(remembered) }
    }

    /// The whole check (RFC 9068 §4): form, type, algorithm, key, signature, issuer, audience, times, revocation, and
    /// whether the caller proved to hold the key that the token is bound to (RFC 8705 §3, RFC 9449 §7.1).
    ///
    /// A token seen before skips the signature, and nothing else: whether its key is still trusted, whether it is
    /// still alive and whether it was revoked is asked every time.
    pub fn verify(
        &self,
        text: &str,
        keys: &KeySet,
        revoked: &RevocationSet,
        audience: impl Fn(&str) -> bool,
        possession: &Possession,
        now: Seconds,
    ) -> Result<Claims, Refusal> {
        let claims = self.inspect(text, keys, revoked, audience, now)?;
        possession::check(claims.cnf.as_ref(), possession)?;
        Ok(claims)
    }

    /// As [`Self::verify`], for a token that came as `Authorization: DPoP` (RFC 9449 §7.1): checks the proof that came
    /// with it, that its key is the one that the token is bound to, and that it was not used before. A proof is spent
    /// only with a good token of its own, so that strangers cannot fill the memory of what was spent.
    pub fn verify_dpop(
        &self,
        text: &str,
        (keys, revoked): (&KeySet, &RevocationSet),
        audience: impl Fn(&str) -> bool,
        dpop: &Dpop,
        request: &DpopRequest<'_>,
        now: Seconds,
    ) -> Result<Claims, DpopRefusal> {
        let claims = self.inspect(text, keys, revoked, audience, now)?;
        let jkt = claims.cnf.as_ref().and_then(|cnf| cnf.jkt.as_ref()).ok_or(Refusal::NotBound)?;
        let proof = dpop.check_of(request, Some(text), Some(jkt), now)?;
        let spent = proof.spent();
        let possession = Possession { certificate: request.certificate.clone(), proof: Some(proof.spend(now)?) };
        possession::check(claims.cnf.as_ref(), &possession)?;
        Ok(claims.proven(spent))
    }

    /// As [`Self::verify`], but whether the caller holds the key that the token is bound to is not asked. For
    /// introspection (RFC 7662), whose caller is not the holder and is told `cnf`; never to let anybody in.
    pub fn inspect(
        &self,
        text: &str,
        keys: &KeySet,
        revoked: &RevocationSet,
        audience: impl Fn(&str) -> bool,
        now: Seconds,
    ) -> Result<Claims, Refusal> {
        let claims = self.authentic(text, keys)?;
        if let Some(by) = revoked.find(&claims) {
            return Err(Refusal::Revoked(by));
        }
        if !keys.contains(claims.kid()) {
            return Err(Refusal::UnknownKey);
        }
        // A token is never good at or after its end: leeway is for the start only, so that clocks that differ
        // cannot lengthen a life.
        if now >= claims.exp {
            return Err(Refusal::Expired);
        }
        if claims.iat > now.saturating_add(self.leeway.max(1)) {
            return Err(Refusal::NotYetValid);
        }
        if !claims.aud.0.iter().any(|one| audience(one)) {
            return Err(Refusal::WrongAudience);
        }
        Ok(claims)
    }

    /// Whether a text says of itself, unproven, that it is an access token of this issuer. It tells a token from a
    /// placeholder beside it, and nothing else; never to let anybody in.
    pub fn is_claimed(&self, text: &str) -> bool {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let read = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Claimed>(&bytes).ok()
        };
        text.len() <= MAX_TOKEN_BYTES
            && read(header).and_then(|header| header.typ).is_some_and(|typ| is_type(&typ, ACCESS_TOKEN_TYP))
            && read(payload).and_then(|payload| payload.iss).is_some_and(|iss| iss == self.issuer)
    }

    /// Whose token it is, dead or revoked ones too: signature, type and issuer only. For the record of a refusal and
    /// for taking a token back; never to let anybody in.
    pub fn identify(&self, text: &str, keys: &KeySet) -> Result<Claims, Refusal> {
        self.authentic(text, keys)
    }

    /// Signature, type and issuer; from memory where it was asked before.
    fn authentic(&self, text: &str, keys: &KeySet) -> Result<Claims, Refusal> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Malformed);
        }
        let mut name = [0_u8; 32];
        name.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        if let Some(claims) = self.seen.get(&name) {
            return Ok(claims);
        }
        let (token, kid) = Unverified::parse(text, ACCESS_TOKEN_TYP)?.verify::<AccessToken>(keys)?;
        if token.iss != self.issuer {
            return Err(Refusal::WrongIssuer);
        }
        if token.act.as_ref().is_some_and(|act| act.ids().count() > MAX_ACTORS) {
            return Err(Refusal::Malformed);
        }
        let claims = Claims::verified(token, kid);
        self.seen.insert(name, claims.clone());
        Ok(claims)
    }
}
