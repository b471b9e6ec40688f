//! A gateway's verifier: JWKS + revocation list + bound, failing closed.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    Claims, Dpop, DpopRefusal, DpopRequest, DpopSettings, KeySet, KeySetError, Possession, Refusal, RevocationList,
    Seconds, TokenVerifier,
};

/// How a gateway verifies.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The broker's issuer identifier, exactly as in its metadata.
    pub issuer: String,
    /// What this gateway is called in `aud`.
    pub audience: String,
    /// How old, in seconds, the revocation list may be; the list's own `max_age` can only shorten it.
    pub max_list_age: Seconds,
    /// How far clocks may differ, in seconds.
    pub leeway: Seconds,
    /// How many verified tokens are remembered.
    pub remembered: usize,
    /// How proofs of possession are checked.
    pub dpop: DpopSettings,
}

impl GatewaySettings {
    /// The defaults: lists up to 30 s old, 5 s of clock difference, 10,000 tokens remembered.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            max_list_age: 30,
            leeway: 5,
            remembered: 10_000,
            dpop: DpopSettings::default(),
        }
    }
}

/// Verifies tokens at a gateway. It does no I/O: the embedding program fetches `/.well-known/jwks.json` and
/// `/revocations` and hands them in.
#[derive(Debug)]
pub struct Gateway {
    settings: GatewaySettings,
    verifier: TokenVerifier,
    dpop: Dpop,
    trust: RwLock<Trust>,
}

#[derive(Debug, Default, Clone)]
struct Trust {
    keys: Arc<KeySet>,
    list: Option<Arc<RevocationList>>,
}

impl Gateway {
    /// A gateway that has heard of no keys and no list yet, and so refuses everything.
    pub fn new(settings: GatewaySettings) -> Self {
        let verifier = TokenVerifier::new(settings.issuer.clone(), settings.leeway, settings.remembered);
        let dpop = Dpop::new(settings.dpop.clone());
        Self { settings, verifier, dpop, trust: RwLock::default() }
    }

    /// Takes a new JWKS document. On an error the old keys stay.
    pub fn set_jwks(&self, json: &str) -> Result<(), KeySetError> {
        let keys = Arc::new(KeySet::from_json(json)?);
        self.trust.write().unwrap_or_else(PoisonError::into_inner).keys = keys;
        Ok(())
    }

    /// Takes a new signed revocation list. On an error the old one stays, and ages. A list older than the one at hand
    /// is refused: a replayed list would bring revoked tokens back. So is one signed by a key that was revoked.
    pub fn set_revocations(&self, jwt: &str, now: Seconds) -> Result<(), Refusal> {
        let keys = self.trust().keys;
        let list = RevocationList::verify(jwt, &keys, &self.settings.issuer, self.settings.leeway, now)?;
        let mut trust = self.trust.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &trust.list {
            list.may_replace(held)?;
        }
        trust.list = Some(Arc::new(list));
        Ok(())
    }

    /// Verifies one token that came as `Authorization: Bearer` and nothing else; one that is bound to a key is refused.
    pub fn verify(&self, token: &str, now: Seconds) -> Result<Claims, Refusal> {
        self.verify_with(token, &Possession::NONE, now)
    }

    /// Verifies one token, and that the caller proved to hold the key that it is bound to, if it is.
    pub fn verify_with(&self, token: &str, possession: &Possession, now: Seconds) -> Result<Claims, Refusal> {
        let trust = self.trust();
        let list = trust.list.as_ref().ok_or(Refusal::ListStale)?;
        let revoked = list.fresh(self.settings.max_list_age, now)?;
        self.verifier.verify(token, &trust.keys, revoked, |aud| aud == self.settings.audience, possession, now)
    }

    /// Verifies one token that came as `Authorization: DPoP`, and the proof that came with it, for this one request
    /// (RFC 9449 §7.1); a token that is bound to no such key is refused.
    pub fn verify_dpop(&self, token: &str, request: &DpopRequest<'_>, now: Seconds) -> Result<Claims, DpopRefusal> {
        let trust = self.trust();
        let list = trust.list.as_ref().ok_or(Refusal::ListStale)?;
        let revoked = list.fresh(self.settings.max_list_age, now)?;
        let audience = |aud: &str| aud == self.settings.audience;
        self.verifier.verify_dpop(token, (&trust.keys, revoked), audience, &self.dpop, request, now)
    }

    /// The nonce for the `DPoP-Nonce` header of an answer, where the settings have nonces (RFC 9449 §9).
    pub fn dpop_nonce(&self, now: Seconds) -> Option<String> {
        self.dpop.nonce(now)
    }

    fn trust(&self) -> Trust {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
