//! Filling a broker's database: through the broker's own ledger, so that every row and every link of the chain is one
//! that it might have written in years of service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use hallpass::app::{Surroundings, start};
use hallpass::audit::Ledger;
use hallpass::config::{Overrides, load};
use hallpass::model::{Agent, AgentStatus, CallFacts, Change, Event, EventKind, Session, StoredSecret};
use hallpass::secret::{ClientSecret, client_secret_digest, random_id};
use tokio::task::JoinSet;

/// How much there is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    /// Agents, each with a secret.
    pub(crate) agents: usize,
    /// Live sessions, of these agents in turn.
    pub(crate) sessions: usize,
    /// Audit records, at least.
    pub(crate) records: usize,
}

/// An agent's credentials.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `client_id`.
    pub(crate) id: String,
    /// `client_secret`.
    pub(crate) secret: String,
}

/// Changes or records handed to the ledger at once: few enough for one statement, enough to make the fsync cheap.
const AT_ONCE: usize = 1000;

/// How many such bundles wait at the same time.
const WAITING: usize = 8;

/// Fills the database of `config` while nobody serves it. Returns the agents.
pub(crate) fn fill(config: &Path, contents: Contents) -> Result<Vec<Client>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let overrides = Overrides { listen: Some(([127, 0, 0, 1], 0).into()) };
        let config =
            load(Some(config), std::iter::empty(), overrides).map_err(|mistakes| anyhow!("settings: {mistakes:?}"))?;
        let running = start(config, Surroundings::default()).await.map_err(|error| anyhow!("{error:?}"))?;
        let state = &running.state;
        let (now, entropy) = (state.world.now(), state.world.entropy.as_ref());

        let mut clients = Vec::with_capacity(contents.agents);
        let mut changes = Vec::with_capacity(contents.agents + contents.sessions);
        for n in 0..contents.agents {
            let secret = ClientSecret::generate(entropy);
            let id = random_id("ag_", entropy);
            let digest = client_secret_digest(&state.client_secret_key, &id, secret.expose());
            changes.push(Change::PutAgent(Arc::new(Agent {
                id: id.as_str().into(),
                name: format!("agent-{n}").into(),
                status: AgentStatus::Active,
                roles: vec!["support".into()],
                secrets: vec![StoredSecret { digest, created_at: now, expires_at: None }],
                identity: Default::default(),
                created_at: now,
            })));
            clients.push(Client { id, secret: secret.expose().to_owned() });
        }
        let day = Duration::from_secs(86_000).as_millis() as i64;
        for n in 0..contents.sessions {
            let client = &clients[n % clients.len()];
            changes.push(Change::PutSession(Arc::new(Session {
                id: random_id("se_", entropy).into(),
                agent_id: client.id.as_str().into(),
                created_at: now,
                expires_at: now + day,
                task: Some("answer the customer's question".into()),
                purpose: Some("support".into()),
                revoked_at: None,
                parent: None,
                cnf: None,
                delegation: None,
            })));
        }
        let bundles = changes.chunks(AT_ONCE).map(|some| (vec![admin_event()], some.to_vec()));
        commit_all(&state.ledger, bundles).await?;

        let bundles = (0..contents.records).step_by(AT_ONCE).map(|first| {
            let end = (first + AT_ONCE).min(contents.records);
            let of_record = |n: usize| call_event(&clients[n / 2 % clients.len()].id, n);
            ((first..end).map(of_record).collect(), Vec::new())
        });
        commit_all(&state.ledger, bundles).await?;
        running.stop().await;
        Ok(clients)
    })
}

async fn commit_all(ledger: &Ledger, bundles: impl Iterator<Item = (Vec<Event>, Vec<Change>)>) -> Result<()> {
    let mut waiting = JoinSet::new();
    for (events, changes) in bundles {
        if waiting.len() == WAITING {
            waiting.join_next().await.context("nothing waits")???;
        }
        let ledger = ledger.clone();
        waiting.spawn(async move { ledger.commit(events, changes).await });
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(())
}

fn admin_event() -> Event {
    let mut event = Event::new(EventKind::Admin);
    event.admin = Some("uid:0".into());
    event.action = Some("bench fill".into());
    event
}

/// The records of a brokered call: the intent, and then the outcome.
fn call_event(agent: &str, n: usize) -> Event {
    let is_outcome = n % 2 == 1;
    let mut event = Event::new(if is_outcome { EventKind::CallOutcome } else { EventKind::CallIntent });
    event.decision = Some("allow");
    event.agent = Some(agent.into());
    event.agent_name = Some(format!("agent-{}", n / 2).into());
    event.session = Some(format!("se_{:026}", n / 2).into());
    event.token = Some(format!("tk_{:026}", n / 2).into());
    event.request = Some(format!("rq_{:026}", n / 2).into());
    event.upstream = Some("crm".into());
    event.operation = Some("get-contact".into());
    if is_outcome {
        event.call = Some(CallFacts {
            status: Some(200),
            duration_us: 1_234,
            request_bytes: 0,
            request_sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
            response_bytes: 1024,
            response_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            redactions: 0,
        });
    } else {
        event.credential = Some("crm-key@1".into());
        event.method = Some("GET".into());
        event.target = Some(format!("/v1/contacts/{n}").into());
    }
    event
}
