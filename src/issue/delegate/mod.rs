//! Token exchange (RFC 8693): an agent acts on behalf of somebody, or hands itself a narrower session.
//!
//! Delegation, never impersonation (§1.1): `sub` stays who it was, `act` names who acts. What comes out is what was asked
//! for, cut to what the subject token allows, for whom it was, how long it lives, and to what the agent's own roles give.
//! The session hangs under the subject token's session and ends with it.

mod person;
mod subject;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::issue::mint::{check_bound, check_labels};
use crate::issue::{Authenticated, Caller, IssuedToken, Issuer, TokenError, TokenRequest};
use crate::model::{Delegation, Origin, Session};
use crate::secret::ordered_id;

pub use person::MAX_SUBJECT_AGE;

/// What a token exchange asked for, besides who asked (RFC 8693 §2.1).
pub struct ExchangeRequest {
    /// On whose behalf.
    pub subject_token: Zeroizing<String>,
    /// `subject_token_type`.
    pub subject_token_type: String,
    /// A token of the agent itself, which has authenticated anyway.
    pub actor_token: Option<Zeroizing<String>>,
    /// `actor_token_type`; there exactly when the token is.
    pub actor_token_type: Option<String>,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
    /// The rest; `resources` holds `resource` and `audience`.
    pub token: TokenRequest,
}

impl std::fmt::Debug for ExchangeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExchangeRequest").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Token types (RFC 8693 §3) that are taken or given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// An OAuth access token.
    AccessToken,
    /// A JWT; ours are JWTs.
    Jwt,
    /// An ID token (OpenID Connect Core §2).
    IdToken,
}

impl TokenType {
    /// Its URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::AccessToken, Self::Jwt, Self::IdToken].into_iter().find(|one| one.as_str() == text)
    }
}

impl Issuer {
    /// The whole request. Issued or refused, it is in the audit log before it is answered.
    pub async fn exchange(
        &self,
        caller: &Caller,
        request: &ExchangeRequest,
        origin: &Origin,
    ) -> Result<(IssuedToken, TokenType), TokenError> {
        let agent = self.client(caller, None, origin).await?;
        let outcome = self.delegate(&agent, caller, request, origin).await;
        if let Err(error) = &outcome
            && !matches!(error, TokenError::Unavailable)
        {
            self.refused(&agent, error, Some("exchange"), origin).await;
        }
        outcome
    }

    async fn delegate(
        &self,
        agent: &Authenticated,
        caller: &Caller,
        request: &ExchangeRequest,
        origin: &Origin,
    ) -> Result<(IssuedToken, TokenType), TokenError> {
        let issued_type = match request.requested_token_type.as_deref().map(TokenType::parse) {
            None => TokenType::AccessToken,
            Some(Some(kind @ (TokenType::AccessToken | TokenType::Jwt))) => kind,
            Some(_) => return Err(invalid("requested_token_type is access_token or jwt here (RFC 8693 section 3)")),
        };
        if request.token.session_id.is_some() {
            return Err(invalid("an exchange begins a session; continue it by client_credentials with session_id"));
        }
        let (own, cnf) = (agent.agent(), caller.confirmation());
        check_labels(&request.token)?;
        check_bound(own, cnf.as_ref())?;
        let life = self.session_life(&request.token)?;
        let kind = TokenType::parse(&request.subject_token_type)
            .ok_or_else(|| invalid("subject_token_type is access_token, jwt or id_token here (RFC 8693 section 3)"))?;
        self.check_actor(agent, caller, request)?;
        // Another issuer's keys may have to be fetched: that is not waited for with the tree held.
        let person = match self.is_own(&request.subject_token) {
            true => None,
            false => Some(self.verified_person(&request.subject_token, kind).await?),
        };

        // Nor is a cut: it is waited for before the tree is held.
        self.past_the_cut(own, self.world.now()).await?;

        let _tree = self.tree.read().await;
        let now = self.world.now();
        let subject = match person {
            None => self.own_subject(agent, caller, &request.subject_token, kind)?,
            Some(person) => self.person(agent, person, now)?,
        };
        if subject.depth > self.settings.max_depth {
            return Err(invalid("the chain of delegation would become too deep (delegation.max_depth)"));
        }
        let expires_at = now.saturating_add(life).min(subject.ends);
        // A token that would die within the second it is made in is no token.
        if expires_at / 1000 <= now / 1000 {
            return Err(invalid("subject_token: the token has expired"));
        }
        let grant = self.narrow(agent, &request.token, subject.ceiling())?;
        let delegation = Delegation {
            subject: subject.sub,
            issuer: subject.issuer,
            iss: subject.iss,
            actors: subject.actors,
            scope: grant.scope.clone(),
            audience: grant.audience.clone(),
            token: subject.token,
        };
        let session = Session {
            id: ordered_id("se_", now, self.world.entropy.as_ref()).into(),
            agent_id: own.id.clone(),
            created_at: now,
            expires_at,
            task: request.token.task.as_deref().map(Arc::from),
            purpose: request.token.purpose.as_deref().map(Arc::from),
            revoked_at: None,
            parent: subject.parent,
            cnf,
            delegation: Some(Arc::new(delegation)),
        };
        let plan = self.plan(session, Some(expires_at), now)?;
        let issued = self.mint(agent, grant, plan, &request.token, origin, now).await?;
        Ok((issued, issued_type))
    }

    /// The actor is who authenticated. Whoever sends a token to say so once more must send one of its own.
    fn check_actor(&self, agent: &Authenticated, caller: &Caller, request: &ExchangeRequest) -> Result<(), TokenError> {
        let (token, kind) = match (&request.actor_token, &request.actor_token_type) {
            (None, None) => return Ok(()),
            (Some(token), Some(kind)) => (token, kind),
            // §2.1: required exactly when the token is there.
            (Some(_), None) => return Err(invalid("actor_token comes with actor_token_type")),
            (None, Some(_)) => return Err(invalid("actor_token_type comes with actor_token only")),
        };
        if !matches!(TokenType::parse(kind), Some(TokenType::AccessToken | TokenType::Jwt)) {
            return Err(invalid("actor_token_type is access_token or jwt here (RFC 8693 section 3)"));
        }
        let claims = self.introspect(token).map_err(|refusal| invalid(&format!("actor_token: {refusal}")))?;
        if *claims.client_id != *agent.agent().id {
            return Err(invalid("actor_token: it is another agent's; the actor is the agent that authenticates"));
        }
        self.held(&claims, caller).map_err(|refusal| invalid(&format!("actor_token: {refusal}")))
    }
}

/// §2.2.2: a subject or actor token that is no good, for whatever reason, policy among them, is `invalid_request`.
fn invalid(text: &str) -> TokenError {
    TokenError::InvalidRequest(text.to_owned())
}
