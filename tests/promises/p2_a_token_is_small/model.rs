//! What must come out, kept as sets of strings; and the random definitions and steps.

use std::collections::BTreeSet;

use hallpass::world::Millis;
use proptest::prelude::*;
use serde_json::Value;

const AGENTS: usize = 3;
const ROLES: usize = 3;
/// The first [`UPSTREAMS`] are brokered, the others are behind gateways.
pub(super) const APIS: [&str; 5] = ["crm", "wiki", "erp", "orders", "bills"];
pub(super) const UPSTREAMS: usize = 3;
pub(super) const SCOPES: [&str; 3] = ["read", "write", "admin"];
/// Where the agent asks for no end.
const SESSION: i64 = 3600;
const SESSION_MAX: i64 = 24 * 3600;
/// How far ahead a token's `iat` may be: `tokens.leeway_seconds`.
const LEEWAY: i64 = 5;

/// (API, scope).
type Scope = (usize, usize);

/// `crm-7:read` in case 7.
pub(super) fn scope(case: usize, api: usize, scope: usize) -> String {
    format!("{}-{case}:{}", APIS[api], SCOPES[scope])
}

/// Which scopes each role gives, and which roles each agent has.
#[derive(Debug, Clone)]
pub(super) struct Definitions {
    pub(super) roles: Vec<BTreeSet<Scope>>,
    pub(super) agents: Vec<BTreeSet<usize>>,
}

/// A resource as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Exchange,
    Api(usize),
    /// Somebody's URL, or one that only looks like ours.
    Unknown(&'static str),
}

/// A token request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) agent: usize,
    scope: Option<BTreeSet<Scope>>,
    /// A scope that nobody has.
    foreign_scope: Option<&'static str>,
    resources: Vec<Resource>,
    /// One of the sessions so far, of whomever; or one that there never was.
    session: Option<usize>,
    /// Asked by the agent whose session it is, whoever was to ask.
    by_its_owner: bool,
    unknown_session: bool,
    session_expires_in: Option<i64>,
    /// Parameters by which a client might hope for more.
    hopeful: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Token(Ask),
    /// Of its own scopes, if there is one to be called, the one at `own`; else this one.
    Call {
        token: usize,
        own: Option<usize>,
        api: usize,
        scope: usize,
    },
    Wait(i64),
    Role {
        role: usize,
        scopes: BTreeSet<Scope>,
    },
    Roles {
        agent: usize,
        roles: BTreeSet<usize>,
    },
    Agent {
        agent: usize,
        verb: &'static str,
    },
    RevokeToken {
        token: usize,
        by: usize,
    },
    RevokeSession(usize),
}

fn scopes(range: std::ops::Range<usize>) -> impl Strategy<Value = BTreeSet<Scope>> {
    prop::collection::btree_set((0..APIS.len(), 0..SCOPES.len()), range)
}

pub(super) fn definitions() -> impl Strategy<Value = Definitions> {
    let roles = prop::collection::vec(scopes(1..8), ROLES);
    let agents = prop::collection::vec(prop::collection::btree_set(0..ROLES, 0..3), AGENTS);
    (roles, agents).prop_map(|(roles, agents)| Definitions { roles, agents })
}

fn ask() -> impl Strategy<Value = Ask> {
    let foreign = vec!["crm:read", "*", "hallpass:introspect", "nowhere:read", "crm-0", "CRM-0:read"];
    let resource = prop_oneof![
        4 => Just(Resource::Exchange),
        8 => (0..APIS.len()).prop_map(Resource::Api),
        1 => prop::sample::select(vec!["https://evil.example", "{issuer}/exchange/nowhere", "{issuer}/exchange/", "{issuer}"])
            .prop_map(Resource::Unknown),
    ];
    let life = prop::sample::select(vec![
        1,
        2,
        30,
        60,
        299,
        300,
        301,
        900,
        901,
        3600,
        SESSION_MAX,
        SESSION_MAX + 1,
        0,
        -5,
        i64::MAX,
    ]);
    let hopeful = prop::sample::select(vec![
        ("expires_in", "86400"),
        ("exp", "9999999999"),
        ("lifetime", "86400"),
        ("audience", "https://evil.example"),
        ("aud", "https://evil.example"),
        ("sid", "se_mine"),
        ("client", "other"),
        ("roles", "role0-0"),
        ("sub", "admin"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("iat", "0"),
    ]);
    (
        0..AGENTS,
        prop::option::weighted(0.5, scopes(1..4)),
        prop::option::weighted(0.05, prop::sample::select(foreign)),
        prop_oneof![3 => Just(Vec::new()), 3 => resource.clone().prop_map(|one| vec![one]), 1 => prop::collection::vec(resource, 2..4)],
        prop::option::weighted(0.45, (0..64_usize, prop::bool::weighted(0.7))),
        prop::bool::weighted(0.03),
        prop::option::weighted(0.3, life),
        prop::option::weighted(0.3, hopeful),
    )
        .prop_map(|(agent, scope, foreign_scope, resources, session, unknown_session, session_expires_in, hopeful)| {
            let (session, by_its_owner) = (session.map(|(at, _)| at), session.is_some_and(|(_, owner)| owner));
            Ask {
                agent,
                scope,
                foreign_scope,
                resources,
                session,
                by_its_owner,
                unknown_session,
                session_expires_in,
                hopeful,
            }
        })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => ask().prop_map(Step::Token),
        10 => (0..64_usize, prop::option::weighted(0.7, 0..64_usize), 0..UPSTREAMS, 0..SCOPES.len())
            .prop_map(|(token, own, api, scope)| Step::Call { token, own, api, scope }),
        4 => prop::sample::select(vec![1, 2, 29, 150, 299, 300, 600, 3600]).prop_map(Step::Wait),
        2 => (0..ROLES, scopes(1..8)).prop_map(|(role, scopes)| Step::Role { role, scopes }),
        2 => (0..AGENTS, prop::collection::btree_set(0..ROLES, 0..3)).prop_map(|(agent, roles)| Step::Roles { agent, roles }),
        2 => (0..AGENTS, prop::sample::select(vec!["suspend", "resume", "resume", "resume"])).prop_map(|(agent, verb)| Step::Agent { agent, verb }),
        2 => (0..64_usize, 0..AGENTS).prop_map(|(token, by)| Step::RevokeToken { token, by }),
        2 => (0..64_usize).prop_map(Step::RevokeSession),
    ];
    prop::collection::vec(step, 10..36)
}

#[derive(Debug, Clone)]
pub(super) struct KnownSession {
    pub(super) sid: String,
    pub(super) agent: usize,
    pub(super) end: Millis,
    revoked: bool,
}

/// What must come of a request.
#[derive(Debug)]
pub(super) enum Expected {
    /// With one of these; which check is first is not promised.
    Refused(Vec<&'static str>),
    Token {
        audience: Vec<String>,
        scope: BTreeSet<String>,
        session: Option<KnownSession>,
    },
}

pub(super) struct Model {
    case: usize,
    issuer: String,
    pub(super) definitions: Definitions,
    stopped: [bool; AGENTS],
    pub(super) sessions: Vec<KnownSession>,
    /// Tokens (`jti`) that were taken back, or cut off with their agent.
    dead: BTreeSet<String>,
}

impl Model {
    pub(super) fn new(case: usize, issuer: String, definitions: Definitions) -> Self {
        Self { case, issuer, definitions, stopped: [false; AGENTS], sessions: Vec::new(), dead: BTreeSet::new() }
    }

    fn given(&self, agent: usize) -> BTreeSet<Scope> {
        self.definitions.agents[agent].iter().flat_map(|role| self.definitions.roles[*role].iter().copied()).collect()
    }

    fn resource(&self, resource: Resource) -> String {
        match resource {
            Resource::Exchange => format!("{}/exchange", self.issuer),
            Resource::Api(api) if api < UPSTREAMS => format!("{}/exchange/{}-{}", self.issuer, APIS[api], self.case),
            Resource::Api(api) => format!("https://{}-{}.example", APIS[api], self.case),
            Resource::Unknown(text) => text.replace("{issuer}", &self.issuer),
        }
    }

    fn session(&self, ask: &Ask) -> Option<&KnownSession> {
        self.sessions.get(ask.session?.checked_rem(self.sessions.len())?)
    }

    /// The upstream's scopes that a token names.
    pub(super) fn callable(&self, claims: &Value) -> Vec<Scope> {
        let named: Vec<&str> = claims["scope"].as_str().unwrap().split(' ').collect();
        let all = (0..UPSTREAMS).flat_map(|api| (0..SCOPES.len()).map(move |name| (api, name)));
        all.filter(|(api, name)| named.contains(&scope(self.case, *api, *name).as_str())).collect()
    }

    /// The request with the agent that is to send it.
    pub(super) fn asked_by(&self, ask: &Ask) -> Ask {
        let owner = self.session(ask).filter(|_| ask.by_its_owner).map(|session| session.agent);
        Ask { agent: owner.unwrap_or(ask.agent), ..ask.clone() }
    }

    /// The parameters of the request.
    pub(super) fn form(&self, ask: &Ask) -> Vec<(&'static str, String)> {
        let mut form = Vec::new();
        let mut scopes: Vec<String> =
            ask.scope.iter().flatten().map(|(api, name)| scope(self.case, *api, *name)).collect();
        scopes.extend(ask.foreign_scope.map(str::to_owned));
        if !scopes.is_empty() {
            form.push(("scope", scopes.join(" ")));
        }
        form.extend(ask.resources.iter().map(|one| ("resource", self.resource(*one))));
        if ask.unknown_session {
            form.push(("session_id", "se_nobodys".to_owned()));
        } else if let Some(session) = self.session(ask) {
            form.push(("session_id", session.sid.clone()));
        }
        form.extend(ask.session_expires_in.map(|life| ("session_expires_in", life.to_string())));
        form.extend(ask.hopeful.map(|(name, value)| (name, value.to_owned())));
        form
    }

    pub(super) fn expected(&self, ask: &Ask, now: Millis) -> Expected {
        if self.stopped[ask.agent] {
            return Expected::Refused(vec!["invalid_client"]);
        }
        let mut errors = Vec::new();
        let mut resources: Vec<Resource> = Vec::new();
        for one in &ask.resources {
            if !resources.contains(one) {
                resources.push(*one);
            }
        }
        let unknown = resources.iter().any(|one| matches!(one, Resource::Unknown(_)));
        let apart = resources.iter().any(|one| matches!(one, Resource::Api(api) if *api >= UPSTREAMS));
        // Like a resource, and unknown.
        let elsewhere = ask.hopeful.is_some_and(|(name, _)| name == "audience");
        if unknown || elsewhere || (apart && resources.len() > 1) {
            errors.push("invalid_target");
        }
        let reaches = |api: usize| {
            let exchange = resources.is_empty() || resources.contains(&Resource::Exchange);
            exchange && api < UPSTREAMS || resources.contains(&Resource::Api(api))
        };
        let reachable: BTreeSet<Scope> = self.given(ask.agent).into_iter().filter(|(api, _)| reaches(*api)).collect();
        let scope_asked = ask.scope.is_some() || ask.foreign_scope.is_some();
        let asked = ask.scope.clone().unwrap_or_default();
        let granted = if scope_asked { asked } else { reachable.clone() };
        if ask.foreign_scope.is_some() || granted.is_empty() || !granted.is_subset(&reachable) {
            errors.push("invalid_scope");
        }
        let session = self.session(ask).filter(|_| !ask.unknown_session);
        let continues = ask.unknown_session || session.is_some();
        let life_is_good = ask.session_expires_in.is_none_or(|life| (1..=SESSION_MAX).contains(&life));
        if ask.session_expires_in.is_some() && continues || !life_is_good {
            errors.push("invalid_request");
        }
        let good = |one: &KnownSession| one.agent == ask.agent && !one.revoked && one.end / 1000 > now / 1000;
        if continues && !session.is_some_and(good) {
            errors.push("invalid_grant");
        }
        if !errors.is_empty() {
            return Expected::Refused(errors);
        }
        let resources = if resources.is_empty() { vec![Resource::Exchange] } else { resources };
        Expected::Token {
            audience: resources.into_iter().map(|one| self.resource(one)).collect(),
            scope: granted.into_iter().map(|(api, name)| scope(self.case, api, name)).collect(),
            session: session.cloned(),
        }
    }

    /// A session that the broker made; its end.
    pub(super) fn begin_session(&mut self, ask: &Ask, sid: &str, now: Millis) -> Result<Millis, TestCaseError> {
        prop_assert!(self.sessions.iter().all(|one| one.sid != sid), "a new session has the id of another");
        let end = now + ask.session_expires_in.unwrap_or(SESSION) * 1000;
        self.sessions.push(KnownSession { sid: sid.to_owned(), agent: ask.agent, end, revoked: false });
        Ok(end)
    }

    /// Whether the token is in force.
    pub(super) fn is_good(&self, claims: &Value, agent: usize, now: Millis) -> bool {
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        let sid = claims["sid"].as_str().unwrap();
        let session = self.sessions.iter().find(|one| one.sid == sid).unwrap();
        let now = now / 1000;
        let in_time = now < exp && iat <= now + LEEWAY;
        in_time && !self.stopped[agent] && !session.revoked && !self.dead.contains(claims["jti"].as_str().unwrap())
    }

    /// Whether the token makes this call: in force, for this audience, with this scope in it and in the roles of now.
    pub(super) fn may_call(&self, claims: &Value, agent: usize, api: usize, name: usize, now: Millis) -> bool {
        let audiences = [self.resource(Resource::Exchange), self.resource(Resource::Api(api))];
        let aud = match &claims["aud"] {
            Value::Array(many) => many.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        };
        let wanted = scope(self.case, api, name);
        self.is_good(claims, agent, now)
            && aud.iter().any(|one| audiences.contains(one))
            && claims["scope"].as_str().unwrap().split(' ').any(|one| one == wanted)
            && self.given(agent).contains(&(api, name))
    }

    /// Suspends or resumes; whether that is possible. What was out until then is dead for good.
    pub(super) fn change_agent(&mut self, agent: usize, verb: &str, out: &[String]) -> bool {
        self.stopped[agent] = verb == "suspend";
        if self.stopped[agent] {
            self.dead.extend(out.iter().cloned());
        }
        true
    }

    /// Takes a token back, if it is this agent's and the agent can authenticate.
    pub(super) fn revoke_token(&mut self, jti: &str, owner: usize, by: usize) -> bool {
        let may = owner == by && !self.stopped[by];
        if may {
            self.dead.insert(jti.to_owned());
        }
        may
    }

    /// The session to be revoked.
    pub(super) fn revoke_session(&mut self, at: usize) -> Option<String> {
        let at = at.checked_rem(self.sessions.len())?;
        let session = &mut self.sessions[at];
        session.revoked = true;
        Some(session.sid.clone())
    }
}
