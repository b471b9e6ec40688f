//! Who asks: the holder of a token that is good here, now.

use hallpass_verify::{
    CertificateThumbprint, Claims, Dpop, DpopRefusal, DpopRequest, Possession, ProofRefusal, Refusal,
};
use http::{HeaderMap, Method};

use crate::broker::agent_token::{self, AgentToken, Found};
use crate::broker::failure::{Often, Record};
use crate::broker::record::count_refusal;
use crate::broker::{Broker, Refused};
use crate::error::Error;
use crate::model::Origin;
use crate::model::authorization::proofs;

impl Broker {
    /// Whose good token a request carries that asks for no call, if it carries one; the token is taken out of the headers. Nothing
    /// is recorded: nothing was asked for that anybody could refuse.
    pub fn whose(
        &self,
        headers: &mut HeaderMap,
        method: &Method,
        url: &str,
        certificate: Option<CertificateThumbprint>,
        dpop: &Dpop,
    ) -> Option<Claims> {
        let ours = |text: &str| self.is_claimed(text);
        let Ok(Found::Token(token)) = agent_token::take(headers, None, None, ours) else { return None };
        let request = DpopRequest { proofs: &proofs(headers), method: method.as_str(), url, certificate };
        self.holder(&token, None, dpop, &request).ok()
    }

    /// Whose token this is, if it is good for one upstream (or, without one, for any).
    pub(super) fn holder(
        &self,
        token: &AgentToken,
        upstream: Option<&str>,
        dpop: &Dpop,
        request: &DpopRequest<'_>,
    ) -> Result<Claims, DpopRefusal> {
        if token.by_proof() {
            return self.authenticate_by_proof(&token.text, upstream, dpop, request);
        }
        let possession = Possession { certificate: request.certificate.clone(), proof: None };
        self.authenticate(&token.text, upstream, &possession).map_err(DpopRefusal::Token)
    }

    /// Tokens of ours that differ. A bad one among them is what is told: whoever renews it sends two that are alike again.
    pub(super) async fn differ(
        &self,
        tokens: &[AgentToken],
        known: Option<&str>,
        name: &str,
        origin: &Origin,
    ) -> Refused {
        for token in tokens {
            if let Some(refusal) = self.refusal_of(&token.text, known) {
                self.token_refused(&token.text, DpopRefusal::Token(refusal), name, origin).await;
                return Refused::Token { refusal, place: Some(token.place.to_string()) };
            }
        }
        let places: Vec<String> = tokens.iter().map(|token| token.place.to_string()).collect();
        let text = format!("there are tokens that differ, in {}; send one of them", places.join(" and "));
        Refused::Ambiguous(Error::invalid("token_twice", text))
    }

    /// Verifies an agent's token for one upstream (or, without one, for any). Every check but the signature is made
    /// anew each time.
    fn authenticate(&self, token: &str, upstream: Option<&str>, possession: &Possession) -> Result<Claims, Refusal> {
        let keys = self.registry.keys();
        let now = self.world.now() / 1000;
        let audience = |aud: &str| self.is_for(aud, upstream);
        self.registry
            .revoked()
            .with_set(|set| self.verifier.verify(token, keys.verifying(), set, audience, possession, now))
            .map_err(|refusal| self.registry.exactly(&self.verifier, token, refusal))
    }

    /// As [`Self::authenticate`], of a token that came with a DPoP proof (RFC 9449 §7.1): the proof is for this very
    /// request, by the key that the token is bound to, and was not used before.
    fn authenticate_by_proof(
        &self,
        token: &str,
        upstream: Option<&str>,
        dpop: &Dpop,
        request: &DpopRequest<'_>,
    ) -> Result<Claims, DpopRefusal> {
        let keys = self.registry.keys();
        let now = self.world.now() / 1000;
        let audience = |aud: &str| self.is_for(aud, upstream);
        self.registry
            .revoked()
            .with_set(|set| self.verifier.verify_dpop(token, (keys.verifying(), set), audience, dpop, request, now))
            .map_err(|refusal| self.registry.exactly_by_proof(&self.verifier, token, refusal))
    }

    /// Whether a text says of itself, unproven, that it is a token of ours.
    pub(super) fn is_claimed(&self, text: &str) -> bool {
        self.verifier.is_claimed(text)
    }

    /// What is wrong with a token, whoever holds it: as [`Self::authenticate`], but it lets nobody in.
    fn refusal_of(&self, token: &str, upstream: Option<&str>) -> Option<Refusal> {
        let (keys, now) = (self.registry.keys(), self.world.now() / 1000);
        let audience = |aud: &str| self.is_for(aud, upstream);
        let revoked = self.registry.revoked();
        revoked.with_set(|set| self.verifier.inspect(token, keys.verifying(), set, audience, now)).err()
    }

    /// Whether this audience is the exchange endpoint, as a whole or for this upstream (or, without one, for any).
    fn is_for(&self, audience: &str, upstream: Option<&str>) -> bool {
        let rest = audience.strip_prefix(&*self.issuer).and_then(|rest| rest.strip_prefix("/exchange"));
        rest.is_some_and(|rest| {
            rest.is_empty() || upstream.is_none() || rest.strip_prefix('/').is_some_and(|name| Some(name) == upstream)
        })
    }

    /// Records that a token was refused at the door, if it can be told whose it was (revoked, expired …). Tokens that
    /// nobody signed are counted only: a stranger must not be able to fill the log. Nor must whoever kept a dead token:
    /// of these refusals some are recorded and the rest counted. One whose proof lacks our nonce is counted only, too: each
    /// agent begins that way (RFC 9449 §9).
    pub(super) async fn token_refused(&self, token: &str, refusal: DpopRefusal, upstream: &str, origin: &Origin) {
        let keys = self.registry.keys();
        let nonce_only = refusal == DpopRefusal::Proof(ProofRefusal::UseNonce);
        let claims = self.verifier.identify(token, keys.verifying()).ok().filter(|_| !nonce_only);
        let Some(claims) = claims else {
            count_refusal(refusal.reason());
            return;
        };
        let agent = self.registry.agent(&claims.client_id);
        let mut event = self.event_of(&claims, agent.as_deref(), origin);
        event.upstream = Some(upstream.into());
        self.refused(Record { event: Box::new(event), reason: refusal.reason(), often: Often::Sampled }).await;
    }
}
