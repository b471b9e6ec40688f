//! Who others are: fetches and keeps the keys of agents, of registered issuers and of SPIFFE trust domains, and verifies
//! what they signed.
//!
//! Whose keys count is for the registry to say, never for what a client sends: a token is looked into only to choose
//! among what an admin registered. Keys are fetched at registered URLs, or at the one that a registered issuer's
//! discovery document names; by https, from checked addresses, without redirects, within [`FETCH_TIMEOUT`] and
//! [`MAX_DOCUMENT`].

mod fetch;
mod keep;
mod source;

use std::sync::Arc;

use hallpass_verify::{ForeignAlgorithm, ForeignClaims, ForeignToken, Refusal, ScopeSet, Seconds};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::model::{Agent, TrustDomain, TrustedIssuer};
use crate::outbound::Resolve;
use crate::registry::Registry;
use crate::world::World;

pub use fetch::{FETCH_TIMEOUT, MAX_DOCUMENT};
pub use keep::{BETWEEN_UNKNOWN, STALE_AT_MOST};

use fetch::Fetcher;
use keep::Keeper;
use source::Source;

/// Why somebody's token does not count: a stable code for the audit log. The sender is told none of them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untrusted(pub &'static str);

impl Untrusted {
    /// Nobody registered its issuer (for this).
    pub const WRONG_ISSUER: Self = Self("assertion_wrong_issuer");
    /// Its issuer's keys cannot be had now.
    pub const UNAVAILABLE: Self = Self("issuer_keys_unavailable");
}

impl From<Refusal> for Untrusted {
    fn from(refusal: Refusal) -> Self {
        Self(match refusal {
            Refusal::WrongType => "assertion_wrong_type",
            Refusal::WrongAlgorithm => "assertion_wrong_algorithm",
            Refusal::UnknownKey => "assertion_unknown_key",
            Refusal::BadSignature => "assertion_bad_signature",
            Refusal::WrongIssuer => return Self::WRONG_ISSUER,
            Refusal::WrongAudience => "assertion_wrong_audience",
            Refusal::Expired => "assertion_expired",
            Refusal::NotYetValid => "assertion_not_yet_valid",
            _ => "assertion_malformed",
        })
    }
}

/// A person's token of a registered issuer, verified, to be exchanged (RFC 8693 §2.1).
#[derive(Debug, Clone)]
pub struct ForeignSubject {
    /// The registered issuer's name.
    pub issuer_name: Arc<str>,
    /// `sub`.
    pub sub: String,
    /// `aud`; one of the issuer's `subject_audiences` is among them.
    pub audience: Vec<String>,
    /// `scope`, where the token has one.
    pub scope: Option<ScopeSet>,
    /// `exp`.
    pub exp: Seconds,
    /// `iat`.
    pub iat: Option<Seconds>,
    /// `jti`.
    pub jti: Option<String>,
    /// `may_act` (RFC 8693 §4.4), as it stands there.
    pub may_act: Option<Value>,
}

/// Knows who others are.
pub struct Trust {
    leeway: Seconds,
    world: World,
    registry: Arc<Registry>,
    keeper: Keeper,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// `leeway`: by how much the clocks of others may be ahead.
    pub fn new(leeway: Seconds, world: World, registry: Arc<Registry>, resolver: Arc<dyn Resolve>) -> Self {
        let keeper = Keeper::new(world.clone(), Fetcher { resolver });
        Self { leeway, world, registry, keeper }
    }

    /// What an agent signed with a key that is registered for its method number `n` (`private_key_jwt`).
    pub async fn of_agent(
        &self,
        agent: &Arc<Agent>,
        n: usize,
        token: &ForeignToken<'_>,
        algorithms: &[ForeignAlgorithm],
    ) -> Result<ForeignClaims, Untrusted> {
        self.verify(&Source::Agent(agent.clone(), n), token, algorithms).await
    }

    /// What a registered issuer signed. Its `iss` is the registered one, exactly.
    pub async fn of_issuer(
        &self,
        issuer: &Arc<TrustedIssuer>,
        token: &ForeignToken<'_>,
    ) -> Result<ForeignClaims, Untrusted> {
        if token.claimed_issuer() != Some(&*issuer.issuer) {
            return Err(Refusal::WrongIssuer.into());
        }
        // An access token, an ID token or a workload's own; not, say, a logout token (RFC 8725 §3.11).
        if !matches!(token.typ().as_deref(), None | Some("jwt" | "at+jwt")) {
            return Err(Refusal::WrongType.into());
        }
        self.verify(&Source::Issuer(issuer.clone()), token, &ForeignAlgorithm::ALL).await
    }

    /// A JWT-SVID of a registered trust domain (SPIFFE JWT-SVID §3). `sub` is for the caller to compare.
    pub async fn of_domain(
        &self,
        domain: &Arc<TrustDomain>,
        token: &ForeignToken<'_>,
    ) -> Result<ForeignClaims, Untrusted> {
        // §2.3: `JWT` or `JOSE`, where it is set.
        if !matches!(token.typ().as_deref(), None | Some("jwt" | "jose")) {
            return Err(Refusal::WrongType.into());
        }
        self.verify(&Source::Domain(domain.clone()), token, &ForeignAlgorithm::ALL).await
    }

    /// The X.509 authorities of a trust domain, of which its X.509-SVIDs are verified.
    ///
    /// # Errors
    /// Its bundle cannot be had.
    pub async fn x509_authorities(
        &self,
        domain: &Arc<TrustDomain>,
    ) -> Result<Arc<[CertificateDer<'static>]>, Untrusted> {
        Ok(self.keeper.current(&Source::Domain(domain.clone())).await?.found.certificates.clone())
    }

    /// A person's ID or access token of an issuer that has `subject_audiences` (RFC 8693 §2.1).
    ///
    /// # Errors
    /// It is not good for an exchange here; the code is for the audit log.
    pub async fn subject(&self, token: &str, now: Seconds) -> Result<ForeignSubject, Untrusted> {
        let token = ForeignToken::parse(token)?;
        let definitions = self.registry.definitions();
        let of_people = definitions.issuers().filter(|issuer| !issuer.subject_audiences.is_empty());
        // Two registrations of one issuer may differ in their audiences.
        let mut refusal = Untrusted::WRONG_ISSUER;
        for issuer in of_people.filter(|issuer| token.claimed_issuer() == Some(&*issuer.issuer)) {
            match self.subject_of(issuer, &token, now).await {
                Ok(subject) => return Ok(subject),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    async fn subject_of(
        &self,
        issuer: &Arc<TrustedIssuer>,
        token: &ForeignToken<'_>,
        now: Seconds,
    ) -> Result<ForeignSubject, Untrusted> {
        let claims = self.of_issuer(issuer, token).await?;
        let exp = claims.check_times(now, self.leeway)?;
        let audience = claims.audience();
        if !audience.iter().any(|one| issuer.subject_audiences.iter().any(|wanted| wanted == one)) {
            return Err(Refusal::WrongAudience.into());
        }
        let scope = match claims.get("scope") {
            None => None,
            // Okta and others write an array.
            Some(Value::Array(all)) => {
                let all: Option<Vec<_>> = all.iter().map(Value::as_str).collect();
                Some(all.ok_or(Refusal::Malformed)?.join(" "))
            }
            Some(scope) => Some(scope.as_str().ok_or(Refusal::Malformed)?.to_owned()),
        };
        let scope = scope.filter(|scope| !scope.is_empty());
        Ok(ForeignSubject {
            issuer_name: issuer.name.as_str().into(),
            sub: claims.text("sub").filter(|sub| !sub.is_empty()).ok_or(Refusal::Malformed)?.to_owned(),
            audience: audience.into_iter().map(str::to_owned).collect(),
            scope: scope.map(|scope| ScopeSet::parse(&scope)).transpose().map_err(|_| Refusal::Malformed)?,
            exp,
            iat: claims.time("iat")?,
            jti: claims.text("jti").map(str::to_owned),
            may_act: claims.get("may_act").cloned(),
        })
    }

    /// What is due: bundles are polled, so that no request waits for one; what is not registered any more is forgotten.
    /// Called now and then.
    pub fn poll(&self) {
        let definitions = self.registry.definitions();
        let polled = definitions.trust_domains().filter(|domain| domain.bundle_endpoint.is_some());
        self.keeper.poll(polled.cloned().map(Source::Domain), &self.registry);
    }

    /// By how much the clocks of others may be ahead.
    pub fn leeway(&self) -> Seconds {
        self.leeway
    }

    /// Now, in seconds.
    pub fn now(&self) -> Seconds {
        self.world.now() / 1000
    }

    async fn verify(
        &self,
        source: &Source,
        token: &ForeignToken<'_>,
        algorithms: &[ForeignAlgorithm],
    ) -> Result<ForeignClaims, Untrusted> {
        let kept = self.keeper.current(source).await?;
        match token.verify(&kept.found.keys, algorithms) {
            // Perhaps the key is new.
            Err(Refusal::UnknownKey) => {
                let newer = self.keeper.newer(source, kept).await;
                Ok(token.verify(&newer.found.keys, algorithms)?)
            }
            outcome => Ok(outcome?),
        }
    }
}
