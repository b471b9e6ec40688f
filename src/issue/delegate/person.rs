//! People's tokens, which registered issuers vouch for, and what they may open.

use hallpass_verify::{ForeignToken, ScopeSet};
use serde_json::Value;

use crate::issue::delegate::subject::Subject;
use crate::issue::delegate::{TokenType, invalid};
use crate::issue::{Authenticated, Issuer, TokenError};
use crate::trust::{ForeignSubject, Untrusted};
use crate::world::Millis;

/// A person's token is good for a delegation for so long after it was issued, whatever its `exp`: so long it must be
/// remembered that a person took back what was delegated.
pub const MAX_SUBJECT_AGE: Millis = 24 * 60 * 60 * 1000;

/// By how many seconds another issuer's clock may go before ours.
const FOREIGN_CLOCKS: i64 = 60;

impl Issuer {
    /// A person's token, verified by the keys that its registered issuer publishes, which may have to be fetched.
    pub(super) async fn verified_person(&self, token: &str, kind: TokenType) -> Result<ForeignSubject, TokenError> {
        let parsed = ForeignToken::parse(token).map_err(|_| invalid("subject_token: it is no signed JWT"))?;
        // RFC 9068 §5: what says that it is an access token is no ID token.
        if kind == TokenType::IdToken && parsed.typ().is_some_and(|typ| typ.ends_with("at+jwt")) {
            return Err(invalid("subject_token: it is an access token; send its type"));
        }
        let verified = self.trust.subject(token, self.world.now() / 1000).await;
        verified.map_err(|untrusted| match untrusted {
            Untrusted::UNAVAILABLE => TokenError::Unavailable,
            Untrusted::WRONG_ISSUER => {
                invalid("subject_token: it is from no issuer that is registered for people here")
            }
            Untrusted(code) => invalid(&format!("subject_token: {}", why(code))),
        })
    }

    /// What a person's token lets this agent do.
    pub(super) fn person(
        &self,
        agent: &Authenticated,
        person: ForeignSubject,
        now: Millis,
    ) -> Result<Subject, TokenError> {
        let definitions = self.registry.definitions();
        // Removed while its keys were fetched?
        let gone = || invalid("subject_token: it is from no issuer that is registered for people here");
        let issuer = definitions.issuer(&person.issuer_name).ok_or_else(gone)?;
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
        // Without it nobody can say whether its person has taken back what it delegates.
        let iat = person.iat.ok_or_else(|| invalid("subject_token: it does not say when it was issued (iat)"))?;
        if seconds.saturating_sub(iat) > MAX_SUBJECT_AGE / 1000 {
            return Err(invalid("subject_token: it was issued more than a day ago; get a fresh one"));
        }
        let cut = self.registry.revoked().subject_cut(Some(&issuer.name), &person.sub);
        // A clock before ours dates a token later than the cut that came after it.
        if cut.is_some_and(|cut| iat < cut.saturating_add(FOREIGN_CLOCKS)) {
            return Err(invalid("subject_token: this person's delegations were taken back after it was issued"));
        }
        let scope = person.scope.and_then(|scope| self.named_here(scope));
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
    fn named_here(&self, scope: ScopeSet) -> Option<ScopeSet> {
        let definitions = self.registry.definitions();
        let is_ours =
            |api: &str| api == "hallpass" || definitions.upstream(api).is_some() || definitions.resource(api).is_some();
        let ours = scope.filter(|one| one.split_once(':').is_some_and(|(api, _)| is_ours(api)));
        (!ours.is_empty()).then_some(ours)
    }
}

/// A code of the audit log, for whoever holds the token.
fn why(code: &str) -> &'static str {
    match code {
        "assertion_wrong_audience" => "the token is meant for another audience",
        "assertion_expired" => "the token has expired; get a fresh one",
        "assertion_not_yet_valid" => "the token was issued in the future: a clock is wrong",
        "assertion_unknown_key" => "its issuer does not publish the key that signed it",
        "assertion_bad_signature" => "its signature is wrong",
        "assertion_wrong_algorithm" => "it is signed by an algorithm that is not taken here",
        _ => "it is malformed",
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
