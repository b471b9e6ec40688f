//! What is granted: never more than the roles give, never a scope of another audience (P2).

use hallpass_verify::{Audience, ScopeSet};
use url::Url;

use crate::issue::{Authenticated, Issuer, TokenError, TokenRequest};
use crate::model::Delegation;

/// More audiences than this in one token are a mistake.
const MAX_RESOURCES: usize = 8;

/// What a token will say.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) audience: Audience,
    pub(super) scope: ScopeSet,
}

/// How far a grant goes at most, besides what the agent's roles give.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ceiling<'a> {
    pub(super) scope: Option<&'a ScopeSet>,
    pub(super) audience: Option<&'a Audience>,
}

impl<'a> Ceiling<'a> {
    /// Of a session that acts on behalf of somebody; none: an agent's own.
    pub(super) fn of(delegation: Option<&'a Delegation>) -> Self {
        Self { scope: delegation.map(|one| &one.scope), audience: delegation.map(|one| &one.audience) }
    }
}

/// Which scopes an audience takes: those whose first half is …
enum Reach {
    /// … any upstream, or `hallpass` itself.
    Exchange,
    /// … this one.
    Api(String),
}

impl Issuer {
    /// What was asked for, if the roles give it and the ceiling lets it through; all of that where nothing was named.
    pub(super) fn narrow(
        &self,
        agent: &Authenticated,
        request: &TokenRequest,
        ceiling: Ceiling<'_>,
    ) -> Result<Grant, TokenError> {
        let resources: Vec<String> = request.resources.iter().map(|one| self.by_its_path(one)).collect();
        let (audience, reaches) = match ceiling.audience {
            None => self.audience(&resources)?,
            Some(most) if resources.is_empty() => self.audience(&most.0)?,
            Some(most) => {
                if !resources.iter().all(|one| self.covers(most, one)) {
                    let text = "this resource is beyond what the subject token was for; a token is exchanged for the \
                                same resource or for an upstream below it";
                    return Err(TokenError::InvalidTarget(text.into()));
                }
                self.audience(&resources)?
            }
        };
        let definitions = self.registry.definitions();
        let reachable = self.scopes_of(agent).filter(|scope| {
            let api = scope.split_once(':').map_or(scope, |(api, _)| api);
            reaches.iter().any(|reach| match reach {
                Reach::Exchange => api == "hallpass" || definitions.upstream(api).is_some(),
                Reach::Api(name) => api == name,
            })
        });
        let reachable = match ceiling.scope {
            None => reachable,
            Some(most) => reachable.intersection(most),
        };
        let scope = match &request.scope {
            None => reachable,
            Some(text) => {
                let asked = ScopeSet::parse(text).map_err(|error| TokenError::InvalidScope(error.to_string()))?;
                if !asked.is_subset(&reachable) {
                    return Err(TokenError::InvalidScope(
                        "a scope was asked for that this agent's roles, or the token that it acts with, do not give for this \
                         resource"
                            .into(),
                    ));
                }
                asked
            }
        };
        if scope.is_empty() {
            let text = match ceiling.scope {
                None => "this agent's roles give no scope for this resource",
                Some(_) => {
                    "this agent's roles and the token that it acts with have no scope for this resource in common"
                }
            };
            return Err(TokenError::InvalidScope(text.into()));
        }
        Ok(Grant { audience, scope })
    }

    /// Whether a token for `most` is good for `resource` too: all that the exchange endpoint takes, each upstream takes.
    fn covers(&self, most: &Audience, resource: &str) -> bool {
        let exchange = self.exchange_audience();
        let is_upstream = resource.strip_prefix(&exchange).is_some_and(|rest| rest.starts_with('/'));
        most.contains(resource) || (is_upstream && most.contains(&exchange))
    }

    /// An upstream's own host name is its path at the exchange endpoint by another name: a client asks for a token for
    /// the URL that it calls (RFC 8707 §2), and the audience has one spelling.
    fn by_its_path(&self, resource: &str) -> String {
        let definitions = self.registry.definitions();
        let named = || {
            let (issuer, url) = (Url::parse(&self.issuer).ok()?, Url::parse(resource).ok()?);
            let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            let is_plain = url.username().is_empty() && url.password().is_none() && url.scheme() == issuer.scheme();
            let host = url.host_str().filter(|_| is_origin && is_plain)?;
            let (upstream, _) = definitions.at_public_host(&issuer, host, url.port())?;
            Some(format!("{}/{}", self.exchange_audience(), upstream.name()))
        };
        definitions.has_public_hosts().then(named).flatten().unwrap_or_else(|| resource.to_owned())
    }

    /// `resource` → `aud` (RFC 8707 §2).
    fn audience(&self, resources: &[String]) -> Result<(Audience, Vec<Reach>), TokenError> {
        let exchange = self.exchange_audience();
        if resources.is_empty() {
            return Ok((Audience(vec![exchange]), vec![Reach::Exchange]));
        }
        if resources.len() > MAX_RESOURCES {
            return Err(TokenError::InvalidTarget(format!("at most {MAX_RESOURCES} resources go into one token")));
        }
        let definitions = self.registry.definitions();
        let mut audience: Vec<String> = Vec::new();
        let mut reaches = Vec::new();
        for resource in resources {
            if audience.contains(resource) {
                continue;
            }
            let below = resource.strip_prefix(&exchange);
            let reach = match below {
                Some("") => Some(Reach::Exchange),
                Some(rest) => rest
                    .strip_prefix('/')
                    .filter(|name| definitions.upstream(name).is_some())
                    .map(|name| Reach::Api(name.to_owned())),
                None => definitions
                    .resources()
                    .find(|one| one.audience == *resource)
                    .map(|one| Reach::Api(one.name.clone())),
            };
            let unknown =
                || TokenError::InvalidTarget("this resource is not known here; see the upstreams and resources".into());
            reaches.push(reach.ok_or_else(unknown)?);
            audience.push(resource.clone());
        }
        // Whoever gets a token can send it on to its other audiences. So a token for somebody else's API is for that API
        // alone: it must not work at the exchange endpoint, nor at a third party's.
        let foreign = audience.iter().filter(|one| !one.starts_with(&exchange)).count();
        if foreign > 1 || (foreign == 1 && audience.len() > 1) {
            return Err(TokenError::InvalidTarget(
                "a token for an API behind a gateway is for that API alone; ask for a token for each".into(),
            ));
        }
        Ok((Audience(audience), reaches))
    }
}
