//! A token is small: 5 minutes by default, 15 at most, for one agent, one session, named audiences and explicit
//! scopes, and never more than the agent's roles give.
//!
//! Random definitions, and random sequences of requests, changes and revocations against a whole broker, beside a model
//! that keeps sets of strings. What the model does not give must not come out, and what it gives must.

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hallpass::app::Surroundings;
use hallpass::world::{Clock, Entropy, Millis, SystemEntropy, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use self::model::{APIS, Definitions, Expected, Model, SCOPES, Step, definitions, steps};
use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::{Engine, TestBroker, Upstream};

/// The longest life that there may be, in seconds.
const FIFTEEN_MINUTES: i64 = 900;

/// A clock that stands still until it is turned, so that the model knows each second exactly.
struct StandingClock(AtomicI64);

impl Clock for StandingClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}

/// One broker for all cases; the names of each case are its own.
struct Scene {
    broker: TestBroker,
    clock: Arc<StandingClock>,
    upstream: Upstream,
    inspector: TestAgent,
}

impl Scene {
    async fn new(lifetime: &str) -> Self {
        let real = hallpass::world::SystemClock::new().now();
        let clock = Arc::new(StandingClock(AtomicI64::new(real)));
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let world = World { clock: clock.clone(), entropy };
        let surroundings = Surroundings { world: Some(world), ..Surroundings::default() };
        let settings = [("HALLPASS_TOKENS__LIFETIME_SECONDS", lifetime)];
        let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &settings).await.unwrap();
        let upstream = Upstream::start(|_| crate::support::upstream::text(http::StatusCode::OK, "ok")).await;
        broker.apply(r#"roles: [ { name: inspector, scopes: ["hallpass:introspect"] } ]"#).await;
        broker.put_credential("key", "sk-live-of-promise-2").await;
        let inspector = broker.register("inspector", &["inspector"]).await;
        Self { broker, clock, upstream, inspector }
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Declares a case's upstreams, resources, roles and agents; their names end in the number of the case.
    async fn declare(&self, case: usize, definitions: &Definitions) -> Vec<TestAgent> {
        let mut text = String::from("upstreams:\n");
        for api in &APIS[..model::UPSTREAMS] {
            text += &format!(
                "  - name: {api}-{case}\n    base_url: {}\n    allow_private: true\n    inject: {{ kind: header, name: \
                 X-Api-Key, credential: key }}\n    operations:\n",
                self.upstream.url()
            );
            for scope in SCOPES {
                text += &format!("      - {{ id: {scope}, methods: [GET], path: /{scope}, scope: {scope} }}\n");
            }
        }
        text += "resources:\n";
        for api in &APIS[model::UPSTREAMS..] {
            let scopes = SCOPES.join(", ");
            text += &format!(
                "  - {{ name: {api}-{case}, audience: \"https://{api}-{case}.example\", scopes: [{scopes}] }}\n"
            );
        }
        text += &roles(case, definitions.roles.iter().enumerate());
        self.broker.apply(&text).await;
        let mut agents = Vec::new();
        for (n, held) in definitions.agents.iter().enumerate() {
            let names: Vec<String> = held.iter().map(|role| format!("role{role}-{case}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            agents.push(self.broker.register(&format!("agent{n}-{case}"), &names).await);
        }
        agents
    }

    /// Whether anybody who asks is told that the token is good.
    async fn is_active(&self, token: &str) -> bool {
        let request = self.broker.http.post(self.broker.url("/oauth2/introspect")).form(&[("token", token)]);
        let request = request.basic_auth(&self.inspector.client_id, Some(&self.inspector.client_secret));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["active"].as_bool().unwrap()
    }
}

fn roles<'a>(
    case: usize,
    roles: impl Iterator<Item = (usize, &'a std::collections::BTreeSet<(usize, usize)>)>,
) -> String {
    let mut text = String::from("roles:\n");
    for (n, scopes) in roles {
        let scopes: Vec<String> =
            scopes.iter().map(|(api, scope)| format!("\"{}\"", model::scope(case, *api, *scope))).collect();
        text += &format!("  - {{ name: role{n}-{case}, scopes: [{}] }}\n", scopes.join(", "));
    }
    text
}

#[test]
fn no_sequence_of_requests_gains_scope_audience_or_time() {
    sequences("300", 40);
}

/// The longest life that can be set: still no token outlives fifteen minutes, or its session.
#[test]
fn also_with_the_longest_life_that_can_be_set() {
    sequences("900", 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_above_fifteen_minutes_cannot_be_set() {
    let mut binary = crate::support::Binary::init(None);
    binary.set("HALLPASS_TOKENS__LIFETIME_SECONDS", "901");
    let output = binary.run(&["serve", "--listen", "127.0.0.1:0"], "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("tokens.lifetime_seconds"), "{output:?}");
}

fn sequences(lifetime: &str, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scene = runtime.block_on(Scene::new(lifetime));
    let life = lifetime.parse().unwrap();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&(definitions(), steps()), |(definitions, steps)| {
        let case = number.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(run(&scene, life, case, definitions, steps))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A token that is out, with what was true when it was made.
#[derive(Debug)]
struct Out {
    text: String,
    claims: Value,
    agent: usize,
}

async fn run(
    scene: &Scene,
    life: i64,
    case: usize,
    definitions: Definitions,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let agents = scene.declare(case, &definitions).await;
    let issuer = scene.broker.running.issuer.clone();
    let mut model = Model::new(case, issuer.clone(), definitions);
    let mut out: Vec<Out> = Vec::new();
    for step in steps {
        let now = scene.now();
        match &step {
            Step::Token(ask) => {
                let ask = &model.asked_by(ask);
                let form = model.form(ask);
                let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (status, answer) = scene.broker.token_request(&agents[ask.agent], &form).await;
                let expected = model.expected(ask, now);
                match expected {
                    Expected::Refused(errors) => {
                        let error = answer["error"].as_str().unwrap_or_default();
                        prop_assert!(
                            status >= 400 && errors.contains(&error),
                            "{:?}: {} {}",
                            errors,
                            form_text(&form),
                            answer
                        );
                    }
                    Expected::Token { audience, scope, session } => {
                        prop_assert_eq!(status, 200, "{} {}", form_text(&form), answer);
                        let text = answer["access_token"].as_str().unwrap().to_owned();
                        let claims = forge::payload(&text);
                        let said: std::collections::BTreeSet<String> =
                            claims["scope"].as_str().unwrap().split(' ').map(str::to_owned).collect();
                        prop_assert_eq!(&said, &scope, "{}", form_text(&form));
                        let aud: Vec<String> = match &claims["aud"] {
                            Value::String(one) => vec![one.clone()],
                            many => serde_json::from_value(many.clone()).unwrap(),
                        };
                        prop_assert_eq!(&aud, &audience);
                        prop_assert_eq!(&claims["client_id"], &json!(agents[ask.agent].client_id));
                        prop_assert_eq!(&claims["sub"], &claims["client_id"]);
                        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
                        prop_assert!(iat >= now / 1000, "dated back: {}", claims);
                        prop_assert!(exp - iat <= FIFTEEN_MINUTES.min(life), "{}", claims);
                        let sid = claims["sid"].as_str().unwrap().to_owned();
                        // The session's end is what was agreed when it began, whatever was asked since.
                        let end = match session {
                            Some(known) => {
                                prop_assert_eq!(&known.sid, &sid);
                                prop_assert_eq!(known.agent, ask.agent);
                                known.end
                            }
                            None => model.begin_session(ask, &sid, now)?,
                        };
                        prop_assert!(exp * 1000 <= end, "{} outlives its session's end {}", claims, end);
                        prop_assert_eq!(
                            exp,
                            (now / 1000 + life).min(end / 1000),
                            "not shorter than it must be: {}",
                            claims
                        );
                        prop_assert!(answer["expires_in"].as_i64().unwrap() <= exp - now / 1000);
                        prop_assert!(answer["session_expires_in"].as_i64().unwrap() <= (end - now) / 1000);
                        out.push(Out { text, claims, agent: ask.agent });
                    }
                }
            }
            Step::Call { token, own, api, scope } => {
                let Some(token) = pick(&out, *token) else { continue };
                let callable = model.callable(&token.claims);
                let own = own.and_then(|at| callable.get(at.checked_rem(callable.len())?));
                let (api, scope) = own.copied().unwrap_or((*api, *scope));
                let path = format!("/{}-{case}/{}", APIS[api], SCOPES[scope]);
                let seen = scene.upstream.seen().len();
                let answer = scene.broker.call(Method::GET, &path, &token.text).send().await.unwrap();
                let may = model.may_call(&token.claims, token.agent, api, scope, now);
                let status = answer.status().as_u16();
                prop_assert_eq!(status == 200, may, "{} {} {}", path, status, token.claims);
                prop_assert_eq!(scene.upstream.seen().len() - seen, usize::from(may));
            }
            Step::Wait(seconds) => _ = scene.clock.0.fetch_add(seconds * 1000, Ordering::SeqCst),
            Step::Role { role, scopes } => {
                scene.broker.apply(&roles(case, std::iter::once((*role, scopes)))).await;
                model.definitions.roles[*role] = scopes.clone();
            }
            Step::Roles { agent, roles } => {
                let names: Vec<String> = roles.iter().map(|role| format!("role{role}-{case}")).collect();
                let text = format!("agents: [ {{ name: agent{agent}-{case}, roles: [{}] }} ]", names.join(", "));
                scene.broker.apply(&text).await;
                model.definitions.agents[*agent] = roles.clone();
            }
            Step::Agent { agent, verb } => {
                let path = format!("/admin/v1/agents/agent{agent}-{case}/{verb}");
                let (status, answer) = scene.broker.admin("POST", &path, Value::Null).await;
                prop_assert_eq!(status == 200, model.change_agent(*agent, verb, &out_ids(&out, *agent)), "{}", answer);
                // A cut ends with the second; until then nothing is minted, and a standing clock would never get there.
                scene.clock.0.fetch_add(1000, Ordering::SeqCst);
            }
            Step::RevokeToken { token, by } => {
                let Some(token) = pick(&out, *token) else { continue };
                let request =
                    scene.broker.http.post(scene.broker.url("/oauth2/revoke")).form(&[("token", &token.text)]);
                let request = request.basic_auth(&agents[*by].client_id, Some(&agents[*by].client_secret));
                let status = request.send().await.unwrap().status().as_u16();
                let jti = token.claims["jti"].as_str().unwrap();
                prop_assert_eq!(status == 200, model.revoke_token(jti, token.agent, *by));
            }
            Step::RevokeSession(session) => {
                let Some(sid) = model.revoke_session(*session) else { continue };
                let path = format!("/admin/v1/sessions/{sid}/revoke");
                let (status, answer) = scene.broker.admin("POST", &path, Value::Null).await;
                // One that is long over is not kept.
                prop_assert!(status == 200 || status == 404, "{}", answer);
            }
        }
        // One token, any, is as good as the model says after every step; all of them at the end.
        if let Some(one) = out.len().checked_sub(1).and_then(|last| out.get(now as usize % (last + 1))) {
            good_as_the_model_says(scene, &model, one).await?;
        }
    }
    for one in &out {
        good_as_the_model_says(scene, &model, one).await?;
    }
    // What a session was given at its beginning is what it has still.
    for session in &model.sessions {
        let (status, shown) =
            scene.broker.admin("GET", &format!("/admin/v1/sessions/{}", session.sid), Value::Null).await;
        if status == 200 {
            prop_assert_eq!(shown["expires_at"].as_i64().unwrap(), session.end, "{}", shown);
        }
    }
    Ok(())
}

async fn good_as_the_model_says(scene: &Scene, model: &Model, token: &Out) -> Result<(), TestCaseError> {
    let good = model.is_good(&token.claims, token.agent, scene.now());
    prop_assert_eq!(scene.is_active(&token.text).await, good, "{} at {}", token.claims, scene.now() / 1000);
    Ok(())
}

fn pick(out: &[Out], at: usize) -> Option<&Out> {
    out.get(at.checked_rem(out.len())?)
}

fn out_ids(out: &[Out], agent: usize) -> Vec<String> {
    let own = out.iter().filter(|one| one.agent == agent);
    own.map(|one| one.claims["jti"].as_str().unwrap().to_owned()).collect()
}

fn form_text(form: &[(&str, &str)]) -> String {
    form.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}
