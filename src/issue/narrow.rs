//! What is granted: never more than the roles give, never a scope of another audience (P2).

use hallpass_verify::{Audience, ScopeSet};
use url::Url;

use crate::issue::{Authenticated, Issuer, TokenError, TokenRequest};
use crate::model::Delegation;
use crate::policy::canonical_uri;
use crate::registry::Definitions;

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
        let by_path: Vec<String> = request.resources.iter().map(|one| self.by_its_path(one)).collect();
        let resources = self.registered(&by_path)?;
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
        let given = self.scopes_of(agent);
        let reachable = given.filter(|scope| {
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
                    return Err(TokenError::InvalidScope(refused(&asked, &reachable, &given)));
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

    /// What was asked for, spelled as it is registered: whoever compares `aud` compares text (RFC 9068 §4), and a client's
    /// URL library may write `https://orders.example.com/` for `https://orders.example.com` (RFC 3986 §6.2.3).
    fn registered(&self, resources: &[String]) -> Result<Vec<String>, TokenError> {
        if resources.len() > MAX_RESOURCES {
            return Err(TokenError::InvalidTarget(format!("at most {MAX_RESOURCES} resources go into one token")));
        }
        let definitions = self.registry.definitions();
        let spelled = |resource: &String| match self.reach(&definitions, resource) {
            Some(_) => Some(resource.clone()),
            None => self.other_spelling(&definitions, resource),
        };
        resources.iter().map(|resource| spelled(resource).ok_or_else(unknown)).collect()
    }

    fn other_spelling(&self, definitions: &Definitions, resource: &str) -> Option<String> {
        let exchange = self.exchange_audience();
        let (asked, own) = (canonical_uri(resource)?, canonical_uri(&exchange)?);
        if let Some(below) = asked.strip_prefix(&own) {
            return Some(format!("{exchange}{below}")).filter(|one| self.reach(definitions, one).is_some());
        }
        let mut fitting = definitions.resources().filter(|one| canonical_uri(&one.audience).as_ref() == Some(&asked));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(one.audience.clone()),
            _ => None,
        }
    }

    /// Which scopes this very audience takes; none: it is not known here.
    fn reach(&self, definitions: &Definitions, resource: &str) -> Option<Reach> {
        match resource.strip_prefix(&self.exchange_audience()) {
            Some("") => Some(Reach::Exchange),
            Some(rest) => {
                let name = rest.strip_prefix('/').filter(|name| definitions.upstream(name).is_some())?;
                Some(Reach::Api(name.to_owned()))
            }
            None => {
                let one = definitions.resources().find(|one| one.audience == *resource)?;
                Some(Reach::Api(one.name.clone()))
            }
        }
    }

    /// `resource` → `aud` (RFC 8707 §2).
    fn audience(&self, resources: &[String]) -> Result<(Audience, Vec<Reach>), TokenError> {
        let exchange = self.exchange_audience();
        if resources.is_empty() {
            return Ok((Audience(vec![exchange]), vec![Reach::Exchange]));
        }
        let definitions = self.registry.definitions();
        let mut audience: Vec<String> = Vec::new();
        let mut reaches = Vec::new();
        for resource in resources {
            if audience.contains(resource) {
                continue;
            }
            reaches.push(self.reach(&definitions, resource).ok_or_else(unknown)?);
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

fn unknown() -> TokenError {
    TokenError::InvalidTarget("this resource or audience is not known here; see the upstreams and resources".into())
}

/// Scopes that are named in a refusal, at most, and how much of each.
const NAMED: usize = 10;
const NAME_LENGTH: usize = 80;

/// Which scopes are refused, and what to do. They are what the client sent, and RFC 6749 §3.3 lets no strange character
/// into them.
fn refused(asked: &ScopeSet, reachable: &ScopeSet, given: &ScopeSet) -> String {
    let all: Vec<&str> = asked.iter().filter(|scope| !reachable.contains(scope)).collect();
    let mut names: Vec<&str> = all.iter().take(NAMED).map(|scope| scope.get(..NAME_LENGTH).unwrap_or(scope)).collect();
    if all.len() > NAMED {
        names.push("and more");
    }
    let separator =
        all.iter().find_map(|scope| [",", ";", "|", "+", "%20"].into_iter().find(|one| scope.contains(one)));
    let why = match separator {
        Some(separator) => format!("scopes are separated by single spaces, not by '{separator}'"),
        None if all.iter().all(|scope| given.contains(scope)) => {
            "this agent's roles give them, but not for this resource, or not to the token that it acts with: name the API \
             that they are for by resource"
                .to_owned()
        }
        None => "this agent's roles, or the token that it acts with, do not give them for this resource".to_owned(),
    };
    format!("scope refused: {}; {why}", names.join(" "))
}
