//! Work for the real program, by several clients at once, that remembers what was acknowledged.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::admin::{Gone, admin};
use super::real::{Client, Real};
use crate::forge::payload;

/// A token that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) jti: String,
    pub(crate) sid: String,
}

impl Token {
    fn of(answer: &Value) -> Self {
        let text = answer["access_token"].as_str().unwrap().to_owned();
        let claim = |name: &str| payload(&text)[name].as_str().unwrap().to_owned();
        Self { jti: claim("jti"), sid: claim("sid"), text }
    }
}

/// What somebody was told is done.
#[derive(Default)]
pub(crate) struct Acknowledged {
    /// Tokens that nobody revoked.
    pub(crate) good: Mutex<Vec<Token>>,
    /// Tokens that were revoked, by themselves, with their session or with their agent.
    pub(crate) revoked: Mutex<Vec<Token>>,
    /// `action` and `object` of each revocation.
    pub(crate) revocations: Mutex<Vec<(&'static str, String)>>,
    /// Agents that were revoked.
    pub(crate) stopped: Mutex<Vec<Client>>,
    /// Targets of calls that were answered with 200.
    pub(crate) calls: Mutex<Vec<String>>,
    /// Values of `crm-key` in the order in which they were put, with the version of those that were acknowledged.
    pub(crate) secrets: Mutex<Vec<(String, Option<i64>)>>,
    /// Tells all names and targets apart, from round to round.
    count: AtomicU64,
}

/// How many of the clients make calls.
pub(crate) const CALLING: usize = 2;

/// How many clients there are.
const CLIENTS: usize = CALLING + 4;

/// What one of them does in one round, at most: an agent may have 10,000 sessions.
const MOST: usize = 60;

/// The broker as it is reached in this round.
#[derive(Clone)]
struct Broker {
    http: reqwest::Client,
    public: String,
    socket: PathBuf,
    agent: Client,
}

impl Acknowledged {
    /// Starts the clients. Each goes on until the broker is gone; an answer that is none of the right ones fails the test.
    pub(crate) fn work(
        self: &std::sync::Arc<Self>,
        real: &Real,
        agent: &Client,
        killed: &std::sync::Arc<AtomicBool>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let broker = Broker {
            http: real.http.clone(),
            public: real.binary.public.clone(),
            socket: real.binary.socket(),
            agent: agent.clone(),
        };
        let client = |n: usize| {
            let (done, broker, killed) = (self.clone(), broker.clone(), killed.clone());
            tokio::spawn(async move {
                for turn in 0..MOST {
                    let outcome = match n {
                        0 => done.revoke_token(&broker).await,
                        1 => done.revoke_session(&broker).await,
                        2 => done.revoke_agent(&broker).await,
                        3 => done.put_credential(&broker).await,
                        _ => done.call(&broker).await,
                    };
                    if let Err(gone) = outcome {
                        // A request that breaks off while the broker lives is a fault.
                        for _ in 0..100 {
                            if killed.load(Ordering::SeqCst) {
                                return;
                            }
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        panic!("client {n}, turn {turn}: {gone}, though nobody killed the broker");
                    }
                }
            })
        };
        (0..CLIENTS).map(client).collect()
    }

    /// How much was acknowledged of each kind: tokens, calls, revocations of tokens, of sessions, of agents, credentials.
    pub(crate) fn counts(&self) -> [usize; 6] {
        let revocations = self.revocations.lock().unwrap();
        let of = |action: &str| revocations.iter().filter(|one| one.0 == action).count();
        let put = self.secrets.lock().unwrap().iter().filter(|one| one.1.is_some()).count();
        let (good, calls) = (self.good.lock().unwrap().len(), self.calls.lock().unwrap().len());
        [good, calls, of("token"), of("session"), of("revoked"), put]
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst)
    }

    async fn token(&self, broker: &Broker, agent: &Client) -> Result<Token, Gone> {
        let request = broker.http.post(format!("{}/oauth2/token", broker.public)).basic_auth(&agent.0, Some(&agent.1));
        let answer = request.form(&[("grant_type", "client_credentials")]).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        assert_eq!(status, 200, "{answer}");
        Ok(Token::of(&answer))
    }

    /// A token, and two calls with it.
    async fn call(&self, broker: &Broker) -> Result<(), Gone> {
        let token = self.token(broker, &broker.agent).await?;
        self.good.lock().unwrap().push(token.clone());
        for _ in 0..2 {
            let target = format!("/any/{}", self.next());
            let url = format!("{}/exchange/crm{target}", broker.public);
            let answer = broker.http.get(url).bearer_auth(&token.text).send().await?;
            let (status, body) = (answer.status().as_u16(), answer.text().await?);
            if status == 200 {
                self.calls.lock().unwrap().push(target);
            } else {
                // Put anew between the intent and the call.
                assert!(status == 503 && body.contains("\"credential_changed\""), "{status}: {body}");
            }
        }
        Ok(())
    }

    async fn revoke_token(&self, broker: &Broker) -> Result<(), Gone> {
        let token = self.token(broker, &broker.agent).await?;
        let request = broker.http.post(format!("{}/oauth2/revoke", broker.public));
        let request = request.basic_auth(&broker.agent.0, Some(&broker.agent.1)).form(&[("token", &token.text)]);
        assert_eq!(request.send().await?.status(), 200);
        self.revoked_now("token", token.jti.clone(), token);
        Ok(())
    }

    async fn revoke_session(&self, broker: &Broker) -> Result<(), Gone> {
        let token = self.token(broker, &broker.agent).await?;
        let path = format!("/admin/v1/sessions/{}/revoke", token.sid);
        let (status, answer) = admin(&broker.socket, "POST", &path, &json!({})).await?;
        assert_eq!(status, 200, "{answer}");
        self.revoked_now("session", token.sid.clone(), token);
        Ok(())
    }

    async fn revoke_agent(&self, broker: &Broker) -> Result<(), Gone> {
        let name = format!("agent-{}", self.next());
        let input = json!({ "name": name, "roles": ["support"] });
        let (status, answer) = admin(&broker.socket, "POST", "/admin/v1/agents", &input).await?;
        assert_eq!(status, 200, "{answer}");
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        let agent = Client(text("client_id"), text("client_secret"));
        let token = self.token(broker, &agent).await?;
        let path = format!("/admin/v1/agents/{name}/revoke");
        let (status, answer) = admin(&broker.socket, "POST", &path, &json!({})).await?;
        assert_eq!(status, 200, "{answer}");
        self.revoked_now("revoked", name, token);
        self.stopped.lock().unwrap().push(agent);
        Ok(())
    }

    fn revoked_now(&self, action: &'static str, object: String, token: Token) {
        self.revoked.lock().unwrap().push(token);
        self.revocations.lock().unwrap().push((action, object));
    }

    /// One client alone does this, so that the values have an order.
    async fn put_credential(&self, broker: &Broker) -> Result<(), Gone> {
        let value = format!("sk-live-canary-{:08}", self.next());
        let input = json!({ "value_base64": STANDARD.encode(&value) });
        self.secrets.lock().unwrap().push((value, None));
        let (status, answer) = admin(&broker.socket, "POST", "/admin/v1/credentials/crm-key", &input).await?;
        assert_eq!(status, 200, "{answer}");
        self.secrets.lock().unwrap().last_mut().unwrap().1 = answer["version"].as_i64();
        // Calls whose credential changes under them are refused: some are to get through.
        tokio::time::sleep(Duration::from_millis(15)).await;
        Ok(())
    }
}
