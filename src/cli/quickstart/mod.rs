//! `hallpass quickstart`: everything that Hallpass does, live, on a throw-away broker and a demo API. Each step is
//! checked as it is told, and the first one that does not hold ends the story with exit code 1.

mod demo;
mod play;
mod stage;
mod tell;
mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hallpass_verify::{AccessToken, KeySet, Unverified};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::app::seal_process;
use crate::audit::{Verification, verify_node};
use crate::cli::records::unreadable;
use crate::cli::{Context, Failure, Outcome, audit};
use crate::manage::Reason;
use crate::manage::agents::{AgentView, Register, Registered};
use crate::manage::apply::{Applied, Apply};
use crate::manage::credentials::{CredentialStored, PutCredential};
use crate::world::monotonic;
use stage::Stage;
use tell::Teller;
use wire::{Wire, trace_of};

/// See it work: a throw-away broker, a demo API, one agent.
#[derive(Debug, Args)]
pub(super) struct Quickstart {
    /// End after the story, with exit code 0 only if every step held
    #[arg(long)]
    once: bool,
}

/// What the admin declares. The demo API is on loopback, so the definition must say that this is meant.
const MANIFEST: &str = "
upstreams:
  - name: crm
    base_url: BASE_URL
    allow_private: true
    inject: { kind: header, name: X-Api-Key, credential: crm-key }
    operations:
      - { id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }
      - { id: add-contact, methods: [POST], path: /v1/contacts, scope: contacts.write }
roles: [ { name: reader, scopes: [\"crm:contacts.read\"] } ]
";

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

impl Quickstart {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        seal_process();
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut teller = Teller::new(context.output.clone());
        let mut played = false;
        let stage = tokio::select! {
            stage = Stage::set(!self.once) => stage?,
            _ = term.recv() => return Err(early()),
            _ = interrupt.recv() => return Err(early()),
        };
        let outcome = tokio::select! {
            outcome = self.play(&stage, &mut teller, &mut played) => outcome,
            _ = term.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        stage.strike().await;
        outcome.and_then(|()| if played { Ok(()) } else { Err(early()) })
    }

    async fn play(&self, stage: &Stage, teller: &mut Teller, played: &mut bool) -> Outcome {
        Story { stage, teller, agent: Wire::to(stage.running.public) }.tell().await?;
        // Nobody plays who cannot see how.
        let ends = self.once || teller.output().broken().is_some();
        if !ends {
            play::on(stage, teller).await?;
        }
        *played = true;
        if ends { Ok(()) } else { std::future::pending().await }
    }
}

fn early() -> Failure {
    Failure::Failed("stopped before the story was over".into())
}

/// The story so far.
struct Story<'a> {
    stage: &'a Stage,
    teller: &'a mut Teller,
    agent: Wire,
}

impl Story<'_> {
    async fn tell(&mut self) -> Outcome {
        self.teller.headline("Hallpass quickstart: an agent calls an API whose key it never sees.");
        self.the_setting().await?;
        let basic = self.the_admin().await?;
        let token = self.a_token(&basic).await?;
        let bearer = format!("Bearer {token}");
        self.a_call(&bearer).await?;
        self.what_it_may_not(&bearer).await?;
        self.the_end_of_the_agent(&bearer, &basic).await?;
        self.the_trail().await?;
        self.teller.end();
        Ok(())
    }

    async fn the_setting(&mut self) -> Outcome {
        self.teller.step("stage", "A throw-away broker on SQLite, and an API that demands a secret key");
        self.teller.fact("broker", self.stage.running.issuer.clone());
        self.teller.fact("demo API", self.stage.demo.url());
        let refused = Wire::to(self.stage.demo.address()).send("GET", "/v1/contacts", &[], "").await?;
        self.teller.check("without its key the API answers 401", refused.status, 401)
    }

    /// Gives what the agent authenticates with.
    async fn the_admin(&mut self) -> Result<String, Failure> {
        self.teller.step("admin", "The admin describes the API, stores its key, and registers an agent");
        let admin = &self.stage.admin;
        let document = MANIFEST.replace("BASE_URL", &self.stage.demo.url());
        let applied: Applied = admin.post("/admin/v1/apply", &Apply { document, ..Apply::default() }).await?;
        self.teller.check("upstream 'crm' and role 'reader' are declared", applied.changes.len(), 2)?;
        let value_base64 = Zeroizing::new(STANDARD.encode(self.stage.demo.key().expose()));
        let put = PutCredential { value_base64, ..PutCredential::default() };
        let stored: CredentialStored = admin.post("/admin/v1/credentials/crm-key", &put).await?;
        self.teller.check("the API's key is in the vault as 'crm-key', version 1", stored.version, 1)?;
        let new = Register { name: "helpdesk".into(), roles: vec!["reader".into()], ..Register::default() };
        let agent: Registered = admin.post("/admin/v1/agents", &new).await?;
        let (id, secret) = agent.client();
        self.teller.fact("agent", format!("helpdesk, client id {id}"));
        self.teller.check("the agent got a secret of its own", secret.starts_with("hp_cs_"), true)?;
        Ok(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
    }

    async fn a_token(&mut self, basic: &str) -> Result<String, Failure> {
        self.teller.step("token", "The agent asks for a token");
        let issuer = self.stage.running.issuer.as_str();
        let grant = "grant_type=client_credentials";
        let answer = self.agent.send("POST", "/oauth2/token", &[("authorization", basic), FORM], grant).await?;
        self.teller.check("POST /oauth2/token answers 200", answer.status, 200)?;
        let token = answer.text_at("/access_token").unwrap_or_default().to_owned();
        let keys = self.agent.send("GET", "/.well-known/jwks.json", &[], "").await?;
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("the token does not verify: {error}"));
        let keys = KeySet::from_json(&keys.text).map_err(|error| failed(&error))?;
        let unverified = Unverified::parse(&token, "at+jwt").map_err(|error| failed(&error))?;
        let (claims, _) = unverified.verify::<AccessToken>(&keys).map_err(|error| failed(&error))?;
        self.teller.fact("claims", serde_json::to_value(&claims).map_err(|error| failed(&error))?);
        self.teller.check("the published keys verify it, and it is from this broker", claims.iss.as_str(), issuer)?;
        self.teller.check("it is for the broker only", claims.aud.0, vec![format!("{issuer}/exchange")])?;
        self.teller.check("it has one scope", claims.scope.to_string(), "crm:contacts.read".to_owned())?;
        self.teller.check("it lives for 300 seconds", claims.exp - claims.iat, 300)?;
        self.teller.check(
            "it names the agent, and one session",
            claims.sub == claims.client_id && !claims.sid.is_empty(),
            true,
        )?;
        Ok(token)
    }

    async fn a_call(&mut self, bearer: &str) -> Outcome {
        self.teller.step("call", "The agent calls the API through the broker");
        let before = self.stage.demo.calls();
        let answer = self.agent.send("GET", "/exchange/crm/v1/contacts", &[("authorization", bearer)], "").await?;
        self.teller.check("GET /exchange/crm/v1/contacts answers 200", answer.status, 200)?;
        self.teller.check("the API was called once", self.stage.demo.calls() - before, 1)?;
        self.teller.check("the API confirms: it saw its real key", self.stage.demo.saw_the_key(), true)?;
        self.teller
            .say("The API is careless and repeats the key, plain, in base64, in hex and in a header. The agent reads:");
        self.teller.fact("contacts", answer.body.pointer("/contacts").cloned());
        self.teller.fact("debug", answer.body.pointer("/debug").cloned());
        let shown = answer.text_at("/debug/your_key");
        self.teller.check("where the key was, something else is", shown, Some("[redacted by hallpass]"))?;
        self.teller.check(
            "in all that the agent received, the key is in no form",
            self.leak(self.agent.received()),
            None,
        )
    }

    async fn what_it_may_not(&mut self, bearer: &str) -> Outcome {
        self.teller.step("refused", "The agent asks for what it may not");
        let before = self.stage.demo.calls();
        for (method, path, code) in [
            ("POST", "/exchange/crm/v1/contacts", "insufficient_scope"),
            ("DELETE", "/exchange/crm/v1/contacts/1", "operation_not_allowed"),
        ] {
            let answer = self.agent.send(method, path, &[("authorization", bearer)], "").await?;
            let got = format!("{} {}", answer.status, answer.code());
            self.teller.check(&format!("{method} {path} answers 403 {code}"), got, format!("403 {code}"))?;
            self.teller.say(answer.text_at("/detail").unwrap_or_default());
        }
        self.teller.check("the API heard nothing of it", self.stage.demo.calls(), before)
    }

    async fn the_end_of_the_agent(&mut self, bearer: &str, basic: &str) -> Outcome {
        self.teller.step("revoked", "The admin revokes the agent");
        let before = self.stage.demo.calls();
        let started = monotonic();
        let reason = Reason { reason: Some("quickstart".into()) };
        let _: AgentView = self.stage.admin.post("/admin/v1/agents/helpdesk/revoke", &reason).await?;
        let answer = self.agent.send("GET", "/exchange/crm/v1/contacts", &[("authorization", bearer)], "").await?;
        let millis = (started.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let got = format!("{} {}", answer.status, answer.code());
        self.teller.check("the next call answers 401 agent_revoked", got, "401 agent_revoked".to_owned())?;
        self.teller.fact("milliseconds", millis);
        self.teller.say("From the admin's command to the agent's refusal, both over their sockets.");
        let grant = "grant_type=client_credentials";
        let again = self.agent.send("POST", "/oauth2/token", &[("authorization", basic), FORM], grant).await?;
        self.teller.check("and there is no new token: 401", again.status, 401)?;
        self.teller.check("the API heard nothing of it", self.stage.demo.calls(), before)
    }

    async fn the_trail(&mut self) -> Outcome {
        self.teller.step("audit", "The auditor reads the trail, and proves that it is whole");
        let records = self.records().await?;
        self.teller.lines("records", records.iter().filter_map(|record| audit::for_people(record)).collect());
        let parsed: Vec<Value> = records.iter().filter_map(|record| serde_json::from_str(record).ok()).collect();
        let count = |kind: &str| parsed.iter().filter(|record| record["kind"] == kind).count();
        self.teller.check(
            "one call was made, with its intent and its outcome",
            (count("call.intent"), count("call.outcome")),
            (1, 1),
        )?;
        self.teller.check("three calls were refused", count("call.refused"), 3)?;
        self.teller.check("no record holds the key", self.leak(records.concat().as_bytes()), None)?;
        let state = &self.stage.running.state;
        let keys = audit::public_keys(&state.manager.store).await?;
        let mac_key = audit::open_head_key(&state.config, &state.manager.store).await?;
        let with = Verification { mac_key: Some(&mac_key), kept: None };
        let report = verify_node(&state.manager.store, &state.config.node, &keys, with, |_, _| {}).await;
        let report = report.map_err(unreadable)?.map_err(|fault| {
            Failure::Failed(format!("the audit log is not whole: record {}: {}", fault.seq, fault.problem))
        })?;
        self.teller.fact("head", report.head);
        let whole = i64::try_from(records.len()).unwrap_or(i64::MAX);
        self.teller.check(
            &format!("{whole} records, each with the hash of the one before: whole"),
            report.records,
            whole,
        )?;
        self.teller.check("the chain's end carries the broker's own MAC", report.end_authenticated, true)
    }

    /// All records, once the call's outcome is among them: it follows the answer.
    async fn records(&self) -> Result<Vec<String>, Failure> {
        let state = &self.stage.running.state;
        let mut patience = 200;
        loop {
            let page = state.manager.store.audit_page(&state.config.node, 0, 1000).await.map_err(unreadable)?;
            if patience == 0 || page.iter().any(|row| row.body.contains("\"call.outcome\"")) {
                return Ok(page.into_iter().map(|row| row.body).collect());
            }
            patience -= 1;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn leak(&self, bytes: &[u8]) -> Option<&'static str> {
        trace_of(self.stage.demo.key().expose(), bytes)
    }
}
