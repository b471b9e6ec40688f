//! The right that a call goes on under, asked again for as long as it runs (P3). What ends the right ends the call: what is
//! taken back by an admin, and the session's end. The token's own end does not: it was good when the call began, and the
//! session bounds what grows out of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hallpass_verify::{Refusal, RevokedBy};

use crate::broker::CallError;
use crate::error::Error;
use crate::model::Credential;
use crate::policy::{self, CompiledUpstream, Denial, Permit};
use crate::registry::Registry;
use crate::world::{Millis, World};

/// What ended a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The token, its session, its agent or its key was revoked.
    Revoked(RevokedBy),
    /// The session came to its end.
    Session,
    /// The agent was suspended, or is gone.
    Agent,
    /// The agent's roles no longer give the scope.
    Scope,
    /// The upstream was removed, leads elsewhere, takes another credential, or does not allow this call any more.
    Upstream,
    /// The credential was revoked or removed.
    Credential,
}

impl Ended {
    /// A stable code for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Revoked(_) => "revoked_midway",
            Self::Session => "session_ended_midway",
            Self::Agent => "agent_stopped_midway",
            Self::Scope => "scope_withdrawn_midway",
            Self::Upstream => "upstream_changed_midway",
            Self::Credential => "credential_withdrawn_midway",
        }
    }
}

/// Under what a call was allowed.
pub(super) struct Right {
    permit: Permit,
    credential: Option<Arc<Credential>>,
    ends_at: Millis,
    watched: Watched,
}

/// What a right is asked of.
pub(super) struct Watched {
    /// The version of all rights, taken before this one was found good for the first time.
    pub(super) since: u64,
    pub(super) registry: Arc<Registry>,
    pub(super) world: World,
}

impl Right {
    pub(super) fn new(permit: Permit, credential: Option<Arc<Credential>>, watched: Watched) -> Self {
        let ends_at = session_end(&permit, &watched.registry);
        Self { permit, credential, ends_at, watched }
    }

    /// The upstream, as it was defined when the call was allowed.
    pub(super) fn upstream(&self) -> &CompiledUpstream {
        self.permit.upstream()
    }

    /// What ended it, if anything did. Asks for everything: see [`Watch`] for what is asked before each piece.
    pub(super) fn ended(&self) -> Option<Ended> {
        let claims = self.permit.claims();
        if let Some(by) = self.watched.registry.revoked().find(claims) {
            return Some(Ended::Revoked(by));
        }
        if self.is_over() {
            return Some(Ended::Session);
        }
        let Some(agent) = self.watched.registry.agent(&claims.client_id) else { return Some(Ended::Agent) };
        let definitions = self.watched.registry.definitions();
        let Some(upstream) = definitions.upstream(self.permit.upstream().name()) else { return Some(Ended::Upstream) };
        // The whole decision once more, so that whatever it comes to ask holds for calls in flight, too.
        let gives = |scope: &str| definitions.gives(&agent, scope);
        let target = self.permit.target().clone();
        if let Err((denial, _)) = policy::decide(claims, &agent, gives, upstream, self.permit.method(), target) {
            return Some(match denial {
                Denial::AgentNotActive => Ended::Agent,
                Denial::MissingScope(_) => Ended::Scope,
                _ => Ended::Upstream,
            });
        }
        if !leads_to_the_same(self.permit.upstream(), upstream) {
            return Some(Ended::Upstream);
        }
        // Removed and put again under its name it is another credential.
        let is_gone = |used: &Arc<Credential>| {
            let now = self.watched.registry.credential(&used.name);
            now.is_none_or(|now| now.id != used.id || now.revoked_at.is_some())
        };
        self.credential.as_ref().is_some_and(is_gone).then_some(Ended::Credential)
    }

    /// Whether the session has come to its end.
    pub(super) fn is_over(&self) -> bool {
        let now = self.watched.world.now();
        // Asked once more of the registry: what a session was made longer by counts.
        now >= self.ends_at && now >= session_end(&self.permit, &self.watched.registry)
    }

    /// How long the session has to go; at least a moment, so that nobody waits in circles.
    pub(super) fn time_left(&self) -> Duration {
        let left = session_end(&self.permit, &self.watched.registry).saturating_sub(self.watched.world.now());
        Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1))
    }

    /// Resolves when something that an admin does ends it.
    pub(super) async fn withdrawn(&self) -> Ended {
        let mut changes = self.watched.registry.rights().subscribe();
        let mut seen = self.watched.since;
        loop {
            let version = *changes.borrow_and_update();
            if version != seen {
                seen = version;
                if let Some(ended) = self.ended() {
                    return ended;
                }
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves when it ends, by an admin or by the time.
    pub(super) async fn over(&self) -> Ended {
        let withdrawn = self.withdrawn();
        tokio::pin!(withdrawn);
        loop {
            match tokio::time::timeout(self.time_left(), &mut withdrawn).await {
                Ok(ended) => return ended,
                Err(_) if self.is_over() => return Ended::Session,
                Err(_) => {}
            }
        }
    }

    /// What the agent is told whose call has had no answer yet.
    pub(super) fn error(&self, ended: Ended) -> CallError {
        let upstream = self.permit.upstream().name();
        match ended {
            Ended::Revoked(by) => CallError::Token(Refusal::Revoked(by)),
            Ended::Session => CallError::Token(Refusal::Expired),
            Ended::Agent => CallError::Token(Refusal::Revoked(RevokedBy::Agent)),
            Ended::Scope => CallError::MissingScope(self.permit.operation().scope.clone()),
            Ended::Upstream => Error::forbidden(
                "upstream_changed_midway",
                format!("upstream '{upstream}' was changed or removed while the call was in flight; ask the admin"),
            )
            .into(),
            Ended::Credential => Error::forbidden(
                "credential_revoked",
                format!("the credential of upstream '{upstream}' was revoked or removed while the call was in flight"),
            )
            .into(),
        }
    }
}

/// When the session of a call ends. One that nobody knows any more gives no more time than the token itself.
fn session_end(permit: &Permit, registry: &Registry) -> Millis {
    let claims = permit.claims();
    registry.session(&claims.sid).map_or(claims.exp.saturating_mul(1000), |session| session.expires_at)
}

/// Whether a definition, as it is now, names the place and the credential that the call went out to and with. Its limits
/// and times are those of the calls that begin.
fn leads_to_the_same(before: &Arc<CompiledUpstream>, now: &Arc<CompiledUpstream>) -> bool {
    if Arc::ptr_eq(before, now) {
        return true;
    }
    let (old, new) = (before.definition(), now.definition());
    before.base() == now.base()
        && (new.allow_private || !old.allow_private)
        && old.ca_pem == new.ca_pem
        && old.inject == new.inject
}

/// A body's eye on the right that it passes under.
pub(super) struct Watch {
    right: Arc<Right>,
    /// The version of all rights that this one was last found good at.
    seen: u64,
    waiting: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
}

impl Watch {
    pub(super) fn new(right: Arc<Right>) -> Self {
        Self { seen: right.watched.since, right, waiting: None }
    }

    /// What has ended the right since this was asked last: asked before every piece, so that neither a stream that never
    /// waits nor a reader that comes back after a long pause outruns it.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let version = self.right.watched.registry.rights().version();
        if version == self.seen {
            return self.right.is_over().then_some(Ended::Session);
        }
        self.seen = version;
        self.right.ended()
    }

    /// Wakes a body that waits when the right ends. Its timer is made only here: most bodies never wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let right = self.right.clone();
            Box::pin(async move { right.over().await })
        });
        waiting.as_mut().poll(cx)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use hallpass_verify::{Claims, KeySet, Possession, RevocationSet, TokenVerifier};

    use super::*;
    use crate::issue::first_keys;
    use crate::keyring::{Algorithm, Policy};
    use crate::model::{Agent, AgentStatus, Change, DefinitionKind, Session, Target};
    use crate::store::{Everything, StoredDefinition};
    use crate::vault::{MasterKey, Vault};

    const TOKEN: &str = include_str!("../../crates/hallpass-verify/testdata/eddsa.jwt");
    const JWKS: &str = include_str!("../../crates/hallpass-verify/testdata/jwks.json");

    fn claims() -> Claims {
        let verifier = TokenVerifier::new("https://broker.example", 5, 1);
        let keys = KeySet::from_json(JWKS).unwrap();
        verifier.verify(TOKEN, &keys, &RevocationSet::default(), |_| true, &Possession::NONE, 1_000_000).unwrap()
    }

    fn upstream(base: &str, more: &str, path: &str) -> StoredDefinition {
        let inject = r#"{ "kind": "bearer", "credential": "k" }"#;
        let operation = r#""id": "list", "methods": ["GET"], "scope": "contacts.read""#;
        let body = format!(
            r#"{{ "name": "crm", "base_url": "{base}", "inject": {inject}, {more} "operations": [{{ {operation}, "path": "{path}" }}] }}"#
        );
        StoredDefinition { kind: DefinitionKind::Upstream, name: "crm".into(), body }
    }

    fn role(scope: &str) -> StoredDefinition {
        let body = format!(r#"{{ "name": "support", "scopes": ["{scope}"] }}"#);
        StoredDefinition { kind: DefinitionKind::Role, name: "support".into(), body }
    }

    fn agent(status: AgentStatus, roles: &[&str]) -> Agent {
        Agent {
            id: claims().client_id.as_str().into(),
            name: "helpdesk".into(),
            status,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            secrets: Vec::new(),
            identity: Default::default(),
            created_at: 0,
        }
    }

    fn session(world: &World, lasts: Millis) -> Session {
        let claims = claims();
        Session {
            id: claims.sid.as_str().into(),
            agent_id: claims.client_id.as_str().into(),
            created_at: 0,
            expires_at: world.now() + lasts,
            task: None,
            purpose: None,
            revoked_at: None,
            parent: None,
            cnf: None,
            delegation: None,
        }
    }

    fn credential(id: &str, revoked_at: Option<Millis>) -> Credential {
        Credential { id: id.into(), name: "k".into(), allow_short: false, created_at: 0, revoked_at, versions: vec![] }
    }

    /// A right to `GET /v1/contacts` of `crm`, in a session that lasts this long; and the registry that it is asked of.
    pub(in crate::broker) fn right(lasts: Millis) -> (Arc<Right>, Arc<Registry>) {
        let world = World::system();
        let vault = Vault::new(MasterKey::generate(world.entropy.as_ref()).unwrap(), Vec::new());
        let long = 1_000_000;
        let policy = Policy {
            algorithm: Algorithm::Es256,
            rotate_every_ms: 1000 * long,
            publish_ahead_ms: long,
            retire_after_ms: long,
        };
        let (_, keys) = first_keys(&policy, &vault, &world).unwrap();
        let everything = Everything {
            agents: vec![agent(AgentStatus::Active, &["support"])],
            definitions: vec![upstream("https://crm.example.com", "", "/v1/contacts"), role("crm:contacts.read")],
            credentials: vec![credential("cr_1", None)],
            sessions: vec![session(&world, lasts)],
            ..Everything::default()
        };
        let registry = Arc::new(Registry::new(everything, keys).unwrap());
        let since = registry.rights().version();
        let (claims, definitions) = (claims(), registry.definitions());
        let agent = registry.agent(&claims.client_id).unwrap();
        let gives = |scope: &str| definitions.gives(&agent, scope);
        let target = Target::parse("/v1/contacts", None).unwrap();
        let permit =
            policy::decide(&claims, &agent, gives, definitions.upstream("crm").unwrap(), "GET", target).unwrap();
        let watched = Watched { since, registry: registry.clone(), world };
        (Arc::new(Right::new(permit, registry.credential("k"), watched)), registry)
    }

    fn put(definition: StoredDefinition) -> Change {
        Change::PutDefinition { kind: definition.kind, name: definition.name, body: definition.body }
    }

    #[tokio::test]
    async fn p3_whatever_ends_the_right_is_heard_and_nothing_else_is() {
        let base = "https://crm.example.com";
        let agent = |status, roles: &[&str]| Change::PutAgent(Arc::new(agent(status, roles)));
        let credential = |id: &str, revoked_at| Change::PutCredential(Arc::new(credential(id, revoked_at)));
        let removed = |kind, name: &str| Change::RemoveDefinition { kind, name: name.into() };
        let gone = || Change::RemoveCredential { id: "cr_1".into(), name: "k".into() };
        let end = |changes: Vec<Change>| async move {
            let (right, registry) = right(3_600_000);
            let mut watch = Watch::new(right.clone());
            assert_eq!((watch.ended(), right.ended()), (None, None));
            let heard = tokio::spawn(async move { right.withdrawn().await });
            tokio::task::yield_now().await;
            registry.apply_all(&changes, None);
            let ended = watch.ended();
            match ended {
                Some(ended) => assert_eq!(heard.await.unwrap(), ended),
                None => {
                    tokio::task::yield_now().await;
                    assert!(!heard.is_finished());
                    heard.abort();
                }
            }
            ended
        };
        for (changes, expected) in [
            (vec![agent(AgentStatus::Suspended, &["support"])], Some(Ended::Agent)),
            (vec![agent(AgentStatus::Active, &[])], Some(Ended::Scope)),
            (vec![put(role("crm:other"))], Some(Ended::Scope)),
            (vec![removed(DefinitionKind::Role, "support")], Some(Ended::Scope)),
            (vec![removed(DefinitionKind::Upstream, "crm")], Some(Ended::Upstream)),
            (vec![put(upstream(base, "", "/v2/contacts"))], Some(Ended::Upstream)),
            (vec![put(upstream("https://other.example.com", "", "/v1/contacts"))], Some(Ended::Upstream)),
            (vec![put(upstream(base, r#""require_bound": true,"#, "/v1/contacts"))], Some(Ended::Upstream)),
            (vec![credential("cr_1", Some(1))], Some(Ended::Credential)),
            (vec![gone()], Some(Ended::Credential)),
            (vec![gone(), credential("cr_2", None)], Some(Ended::Credential)),
            (vec![put(upstream(base, r#""timeouts": { "idle_seconds": 5 },"#, "/v1/contacts"))], None),
            (vec![put(upstream(base, r#""headers": "all","#, "/{*rest}"))], None),
            (vec![agent(AgentStatus::Active, &["support", "other"])], None),
            (vec![credential("cr_1", None)], None),
        ] {
            let what = format!("{changes:?}");
            assert_eq!(end(changes).await, expected, "{what}");
        }
    }

    #[test]
    fn what_only_adds_wakes_nobody() {
        let (right, registry) = right(3_600_000);
        let before = registry.rights().version();
        let newcomer = Agent { id: "ag_new".into(), name: "new".into(), ..agent(AgentStatus::Active, &[]) };
        let newcomer = Arc::new(newcomer);
        registry.apply_all(&[Change::PutAgent(newcomer.clone())], None);
        registry.apply_all(&[Change::PutAgent(newcomer)], None);
        registry.apply_all(&[Change::PutSession(Arc::new(session(&right.watched.world, 1)))], None);
        registry.apply_all(&[Change::Prune { before: 0 }], None);
        assert_eq!(registry.rights().version(), before);
    }

    #[tokio::test]
    async fn p3_a_session_ends_what_waits_in_it_and_a_longer_one_does_not() {
        let (first, registry) = right(300);
        let mut watch = Watch::new(first.clone());
        assert_eq!(watch.ended(), None);
        let begun = crate::world::monotonic();
        assert_eq!(std::future::poll_fn(|cx| watch.poll(cx)).await, Ended::Session);
        assert!((200..2_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert_eq!((watch.ended(), first.ended()), (Some(Ended::Session), Some(Ended::Session)));
        // Made longer meanwhile.
        registry.apply_all(&[Change::PutSession(Arc::new(session(&first.watched.world, 3_600_000)))], None);
        assert_eq!((Watch::new(first.clone()).ended(), first.ended()), (None, None));
        // Forgotten: its token's own end counts, which is long past.
        let (second, registry) = right(0);
        registry.apply_all(&[Change::Prune { before: second.watched.world.now() + 1_000 }], None);
        assert_eq!(second.ended(), Some(Ended::Session));
    }
}
