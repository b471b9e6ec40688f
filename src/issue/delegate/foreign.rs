//! People's tokens, which registered issuers vouch for: what is asked of whoever verifies them, and what they may open.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hallpass_verify::{ForeignToken, ScopeSet};
use serde_json::Value;

use crate::issue::delegate::subject::Subject;
use crate::issue::delegate::{TokenType, invalid};
use crate::issue::{Authenticated, Issuer, TokenError};
use crate::trust::Trust;
use crate::world::Millis;

/// A person's token is good for a delegation for so long after it was issued, whatever its `exp`: so long it must be
/// remembered that a person took back what was delegated.
pub const MAX_SUBJECT_AGE: Millis = 24 * 60 * 60 * 1000;

/// By how many seconds another issuer's clock may go before ours.
const FOREIGN_CLOCKS: i64 = 60;

/// A person's token, verified: signature, issuer, `exp`, `nbf`, and that it is of the type that it was said to be.
#[derive(Debug, Clone)]
pub struct ForeignSubject {
    /// The registered issuer, by its name.
    pub issuer: Arc<str>,
    /// `sub`.
    pub sub: String,
    /// `aud`.
    pub aud: Vec<String>,
    /// `scope`, if it has one.
    pub scope: Option<String>,
    /// `exp`, unix seconds.
    pub exp: i64,
    /// `iat`, unix seconds.
    pub iat: i64,
    /// `jti`, if it has one.
    pub jti: Option<String>,
    /// `may_act` (RFC 8693 §4.4), as it stands there.
    pub may_act: Option<Value>,
}

/// Why a foreign token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignRefusal {
    /// Nobody registered its issuer, or it names none.
    UnregisteredIssuer,
    /// It was checked and is no good; one clause that says why, without anything out of the token.
    Refused(&'static str),
    /// Its issuer's keys cannot be had now.
    Unavailable,
}

impl From<ForeignRefusal> for TokenError {
    fn from(refusal: ForeignRefusal) -> Self {
        match refusal {
            ForeignRefusal::UnregisteredIssuer => {
                invalid("subject_token: it is from no issuer that is registered for people here")
            }
            ForeignRefusal::Refused(why) => invalid(&format!("subject_token: {why}")),
            ForeignRefusal::Unavailable => Self::Unavailable,
        }
    }
}

/// Verifies people's tokens of registered issuers.
pub trait SubjectTokens: Send + Sync + std::fmt::Debug {
    /// Checks `token` as one of `kind`. Nothing in it chooses whom we trust or which URL is fetched.
    fn verify<'a>(
        &'a self,
        token: &'a str,
        kind: TokenType,
        now: Millis,
    ) -> BoxFuture<'a, Result<ForeignSubject, ForeignRefusal>>;
}

/// The issuers that an admin registered, by their published keys.
#[derive(Debug, Clone)]
pub struct People(pub Arc<Trust>);

impl SubjectTokens for People {
    fn verify<'a>(
        &'a self,
        token: &'a str,
        kind: TokenType,
        now: Millis,
    ) -> BoxFuture<'a, Result<ForeignSubject, ForeignRefusal>> {
        Box::pin(async move {
            let parsed = ForeignToken::parse(token).map_err(|_| ForeignRefusal::Refused("it is no signed JWT"))?;
            // RFC 9068 §5: what says that it is an access token is no ID token.
            if kind == TokenType::IdToken && parsed.typ().is_some_and(|typ| typ.ends_with("at+jwt")) {
                return Err(ForeignRefusal::Refused("it is an access token; send its type"));
            }
            let person = self.0.subject(token, now / 1000).await.map_err(|untrusted| match untrusted.0 {
                "assertion_wrong_issuer" => ForeignRefusal::UnregisteredIssuer,
                "issuer_keys_unavailable" => ForeignRefusal::Unavailable,
                code => ForeignRefusal::Refused(code),
            })?;
            Ok(ForeignSubject {
                issuer: person.issuer_name,
                sub: person.sub,
                aud: person.audience,
                scope: person.scope.map(|scope| scope.to_string()),
                exp: person.exp,
                // Without it nobody can say whether its person has taken back what it delegates.
                iat: person.iat.ok_or(ForeignRefusal::Refused("it has no iat"))?,
                jti: person.jti,
                may_act: person.may_act,
            })
        })
    }
}

impl Issuer {
    /// What a person's token lets this agent do.
    pub(super) fn person(
        &self,
        agent: &Authenticated,
        person: ForeignSubject,
        now: Millis,
    ) -> Result<Subject, TokenError> {
        let definitions = self.registry.definitions();
        let issuer = definitions.issuer(&person.issuer).ok_or(ForeignRefusal::UnregisteredIssuer)?;
        if issuer.subject_audiences.is_empty() {
            return Err(ForeignRefusal::UnregisteredIssuer.into());
        }
        if !person.aud.iter().any(|aud| issuer.subject_audiences.contains(aud)) {
            return Err(invalid("subject_token: the token is meant for another audience"));
        }
        if !agent.agent().identity.may_act_for_people_of.iter().any(|name| *name == *issuer.name) {
            return Err(invalid(
                "this agent may not act for people of this issuer; the admin allows it by identity.may_act_for_people_of",
            ));
        }
        if let Some(may_act) = &person.may_act
            && !names(may_act, &agent.agent().id, &self.issuer)
        {
            return Err(invalid("subject_token: its may_act names another actor"));
        }
        // A person must not be taken for an agent by whoever looks at `sub` alone (RFC 9068 §5).
        let plain = |sub: &str| (1..=255).contains(&sub.len()) && !sub.chars().any(char::is_control);
        if !plain(&person.sub) || person.sub.starts_with("ag_") {
            return Err(invalid("subject_token: its sub is no name of a person"));
        }
        let seconds = now / 1000;
        if person.exp <= seconds {
            return Err(invalid("subject_token: the token has expired"));
        }
        if person.iat > seconds + FOREIGN_CLOCKS {
            return Err(invalid("subject_token: the token was issued in the future"));
        }
        if seconds.saturating_sub(person.iat) > MAX_SUBJECT_AGE / 1000 {
            return Err(invalid("subject_token: it was issued more than a day ago; get a fresh one"));
        }
        let cut = self.registry.revoked().subject_cut(Some(&issuer.name), &person.sub);
        // A clock before ours dates a token later than the cut that came after it.
        if cut.is_some_and(|cut| person.iat < cut.saturating_add(FOREIGN_CLOCKS)) {
            return Err(invalid("subject_token: this person's delegations were taken back after it was issued"));
        }
        let scope = person.scope.as_deref().and_then(|scope| self.named_here(scope));
        Ok(Subject {
            sub: person.sub.into(),
            issuer: Some(issuer.name.as_str().into()),
            iss: Some(issuer.issuer.as_str().into()),
            actors: vec![agent.agent().id.clone()],
            scope,
            audience: None,
            ends: person.exp.saturating_mul(1000),
            parent: None,
            depth: 1,
            token: None,
        })
    }

    /// Those of another issuer's scopes that begin with the name of an API of ours: a token that names any is held to
    /// those. One that names none (`openid profile`) says nothing about our APIs.
    fn named_here(&self, scope: &str) -> Option<ScopeSet> {
        let definitions = self.registry.definitions();
        let is_ours =
            |api: &str| api == "hallpass" || definitions.upstream(api).is_some() || definitions.resource(api).is_some();
        let ours = scope.split(' ').filter(|one| one.split_once(':').is_some_and(|(api, _)| is_ours(api)));
        let ours: ScopeSet = ours.map(str::to_owned).collect();
        (!ours.is_empty()).then_some(ours)
    }
}

/// Whether `may_act` (RFC 8693 §4.4) names this agent. What it says in words of another issuer, or in none that we know,
/// does not.
fn names(may_act: &Value, client_id: &str, issuer: &str) -> bool {
    let is = |name: &str, wanted: &str| may_act.get(name).map(|value| value.as_str() == Some(wanted));
    let named = [is("sub", client_id), is("client_id", client_id)];
    named.iter().any(Option::is_some) && named.iter().flatten().all(|is| *is) && is("iss", issuer) != Some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::names;

    #[test]
    fn rfc8693_s4_4_may_act_names_this_agent_or_another() {
        let ours = |may_act| names(&may_act, "ag_1", "https://hallpass.example.com");
        assert!(ours(json!({ "sub": "ag_1" })));
        assert!(ours(json!({ "client_id": "ag_1" })));
        assert!(ours(json!({ "sub": "ag_1", "iss": "https://hallpass.example.com" })));
        for other in [
            json!({ "sub": "ag_2" }),
            json!({ "sub": "ag_1", "client_id": "ag_2" }),
            json!({ "sub": "ag_1", "iss": "https://idp.example.com" }),
            json!({ "sub": ["ag_1"] }),
            json!({ "email": "ag_1" }),
            json!({}),
            json!("ag_1"),
            json!(null),
            json!([{ "sub": "ag_1" }]),
        ] {
            assert!(!ours(other.clone()), "{other}");
        }
    }
}
