//! The subject token, if it is one of ours: whether this agent may act with it, and how far it goes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_verify::{Audience, Claims, Refusal, ScopeSet};
use serde::Deserialize;

use crate::issue::delegate::{TokenType, invalid};
use crate::issue::narrow::Ceiling;
use crate::issue::{Authenticated, Caller, Issuer, TokenError};
use crate::world::Millis;

/// On whose behalf, and how far at most.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) sub: Arc<str>,
    /// The registered issuer of a person, and its identifier.
    pub(super) issuer: Option<Arc<str>>,
    pub(super) iss: Option<Arc<str>>,
    /// Newest first, the agent that asks among them.
    pub(super) actors: Vec<Arc<str>>,
    pub(super) scope: Option<ScopeSet>,
    pub(super) audience: Option<Audience>,
    pub(super) ends: Millis,
    pub(super) parent: Option<Arc<str>>,
    /// Exchanges from the root down, this one counted.
    pub(super) depth: usize,
    pub(super) token: Option<Arc<str>>,
}

impl Subject {
    pub(super) fn ceiling(&self) -> Ceiling<'_> {
        Ceiling { scope: self.scope.as_ref(), audience: self.audience.as_ref() }
    }
}

impl Issuer {
    /// Whether a token says that it is ours. Nothing is trusted by that: it only chooses who checks it.
    pub(super) fn is_own(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct Iss {
            iss: String,
        }
        let payload = token.split('.').nth(1).filter(|payload| payload.len() <= hallpass_verify::MAX_TOKEN_BYTES);
        let payload = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let iss = payload.and_then(|payload| serde_json::from_slice::<Iss>(&payload).ok());
        iss.is_some_and(|payload| payload.iss == *self.issuer)
    }

    /// Whether the caller of this request holds the keys that a token of its own is bound to. A proof of another key
    /// beside a token that is bound to none, or to a certificate, is for the token to come.
    pub(super) fn held(&self, claims: &Claims, caller: &Caller) -> Result<(), Refusal> {
        let Some(cnf) = &claims.cnf else { return Ok(()) };
        let proved = caller.confirmation().unwrap_or_default();
        let holds_certificate = cnf.x5t_s256.is_none() || cnf.x5t_s256 == proved.x5t_s256;
        let holds_key = cnf.jkt.is_none() || cnf.jkt == proved.jkt;
        if holds_certificate && holds_key { Ok(()) } else { Err(Refusal::Bound) }
    }

    /// What a token of ours lets this agent do. Its own it may always make narrower; another agent's only where the
    /// admin has declared that it acts for that one.
    pub(super) fn own_subject(
        &self,
        agent: &Authenticated,
        caller: &Caller,
        token: &str,
        kind: TokenType,
    ) -> Result<Subject, TokenError> {
        let refused = |refusal: Refusal| invalid(&format!("subject_token: {refusal}"));
        if kind == TokenType::IdToken {
            return Err(invalid("subject_token: this broker issues no ID tokens; send its type"));
        }
        let own = agent.agent();
        let claims = self.introspect(token).map_err(refused)?;
        let is_own = *claims.client_id == *own.id;
        if is_own {
            self.held(&claims, caller).map_err(refused)?;
        } else {
            let holder = self.registry.agent(&claims.client_id);
            let allowed = |name: &str| own.identity.may_act_for.iter().any(|one| one == name);
            if !holder.is_some_and(|holder| allowed(&holder.name)) {
                return Err(invalid(
                    "this agent may not act for the agent that the token was issued to; the admin allows it by \
                     identity.may_act_for",
                ));
            }
            // The holder's key is not this agent's to prove. But what hangs under a bound session must not be less.
            if claims.cnf.is_some() && caller.confirmation().is_none() {
                return Err(invalid(
                    "the subject token is bound to a key, so what it is exchanged for must be: send a DPoP proof, or \
                     use a client certificate",
                ));
            }
        }
        // A parent that is missing (a database that was put back, a forgery) fails closed.
        let parent = self.registry.session(&claims.sid).filter(|session| *session.agent_id == *claims.client_id);
        let over = || invalid("subject_token: its session is over");
        let parent = parent.filter(|session| !self.registry.is_cut_off(session)).ok_or_else(over)?;
        let line = self.registry.lineage(&parent).ok_or_else(over)?;
        let above = parent.delegation.as_deref();
        let issuer = above.and_then(|above| above.issuer.clone());
        let cut = self.registry.revoked().subject_cut(issuer.as_deref(), &claims.sub);
        if cut.is_some_and(|cut| claims.iat < cut) {
            return Err(invalid("subject_token: what its subject delegated was taken back after it was issued"));
        }
        let mut actors = above.map(|above| above.actors.clone()).unwrap_or_default();
        if !is_own {
            actors.insert(0, own.id.clone());
        }
        Ok(Subject {
            sub: claims.sub.as_str().into(),
            iss: above.and_then(|above| above.iss.clone()),
            // A person stands above the root session: that first exchange counts.
            depth: line.len() + usize::from(issuer.is_some()),
            issuer,
            actors,
            scope: Some(claims.scope.clone()),
            audience: Some(claims.aud.clone()),
            ends: claims.exp.saturating_mul(1000).min(parent.expires_at),
            parent: Some(parent.id.clone()),
            token: Some(claims.jti.as_str().into()),
        })
    }
}
