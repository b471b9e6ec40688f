use hallpass_verify::{Claims, KeySet, Possession, RevocationSet, TokenVerifier};

use super::*;
use crate::issue::first_keys;
use crate::keyring::{Algorithm, Policy};
use crate::model::{
    Agent, AgentStatus, Change, Credential, CredentialVersion, DefinitionKind, Sealed, Session, Target,
};
use crate::policy;
use crate::store::{Everything, StoredDefinition};
use crate::vault::{MasterKey, Vault};

const TOKEN: &str = include_str!("../../../crates/hallpass-verify/testdata/eddsa.jwt");
const JWKS: &str = include_str!("../../../crates/hallpass-verify/testdata/jwks.json");

fn claims() -> Arc<Claims> {
    let verifier = TokenVerifier::new("https://broker.example", 5, 1);
    let keys = KeySet::from_json(JWKS).unwrap();
    Arc::new(verifier.verify(TOKEN, &keys, &RevocationSet::default(), |_| true, &Possession::NONE, 1_000_000).unwrap())
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
    let sealed = Sealed { wrapped_key: Vec::new(), ciphertext: Vec::new() };
    let version = CredentialVersion { version: 1, sealed, created_at: 0, expires_at: None };
    let versions = vec![version];
    Credential { id: id.into(), name: "k".into(), allow_short: false, created_at: 0, revoked_at, versions }
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
    let upstream = definitions.upstream("crm").unwrap();
    let candidate = policy::classify(upstream.clone(), "GET".into(), target);
    let permit = policy::decide(&claims, &agent, gives, candidate).unwrap();
    let chosen = Chosen::for_call(upstream, &registry, world.now()).unwrap();
    let watched = Watched { since, registry: registry.clone(), world };
    (Arc::new(Right::new(permit, chosen, watched)), registry)
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
