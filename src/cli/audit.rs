//! `hallpass audit …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hallpass_verify::KeySet;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::{open_broker_secret, open_store, open_vault};
use crate::audit::{Checkpoint, HEAD_SECRET, Verification, verify_checkpoint, verify_node};
use crate::cli::output::{progress_is_seen, rfc3339};
use crate::cli::records::{Records, unreadable};
use crate::cli::{Context, Failure, Outcome, Place};
use crate::config::{Config, Overrides};
use crate::error::Error;
use crate::secret::SecretBytes;
use crate::store::{Access, Store};
use crate::world::{Millis, monotonic};

/// How often `tail -f` looks for more.
const FOLLOW: Duration = Duration::from_millis(250);

/// The audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// The last records
    Tail {
        /// Go on as more come
        #[arg(short = 'f', long)]
        follow: bool,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
        lines: i64,
    },
    /// Records as JSON lines, byte for byte as they were hashed
    Export(Export),
    /// Prove that nothing was edited, removed, reordered, inserted or cut off
    Verify {
        /// A checkpoint that was kept elsewhere: proves that the log still extends it
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Print the signed end of the log, to be kept where nobody of the database can reach it
    Checkpoint,
}

/// Which records.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// From this time on (RFC 3339, or unix milliseconds)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Millis>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Millis>,
    /// Of this agent (name or client id)
    #[arg(long)]
    agent: Option<String>,
    /// Of this session
    #[arg(long)]
    session: Option<String>,
}

fn parse_time(text: &str) -> Result<Millis, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "write a time as 2026-01-31T09:00:00Z".to_owned())?;
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| "this time is too far away".to_owned())
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        if matches!(self, Self::Checkpoint) {
            let answer = context.client()?.post("/admin/v1/audit/checkpoint", &json!({})).await?;
            context
                .output
                .show(&answer, |output, answer| output.line(answer["checkpoint"].as_str().unwrap_or_default()));
            return Ok(());
        }
        if let Self::Verify { checkpoint } = self {
            if context.config.is_none() && context.remote.server.is_some() {
                let text = "the log is verified where its database is, or on a copy of that; run it there, or give --config FILE";
                return Err(Failure::Usage(text.into()));
            }
            // The whole of it, with the key of its end: where the database is, or on a copy.
            let config = context.load(Overrides::default())?;
            let store = open_store(&config, Access::ReadOnly).await?;
            let outcome = verify(context, &config, &store, checkpoint).await;
            store.close().await;
            return outcome;
        }
        let records = match context.place()? {
            Place::Here(config) => Records::Database(open_store(&config, Access::ReadOnly).await?),
            Place::Elsewhere(client) => Records::Broker(client),
        };
        let outcome = match self {
            Self::Tail { follow, lines } => tail(context, &records, lines, follow).await,
            Self::Export(export) => export.run(context, &records).await,
            Self::Verify { .. } | Self::Checkpoint => Ok(()),
        };
        records.close().await;
        outcome
    }
}

/// What people want to see of a record.
#[derive(Debug, Deserialize)]
struct Seen {
    at: Millis,
    seq: i64,
    kind: String,
    #[serde(default)]
    decision: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    agent_name: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    admin: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    upstream: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    status: Option<u16>,
}

impl Seen {
    fn line(&self) -> String {
        let mut line = format!("{} {:>6}  {:13}", rfc3339(self.at), self.seq, self.kind);
        let who = self.admin.as_deref().or(self.agent_name.as_deref());
        let what = [
            who,
            self.decision.as_deref(),
            self.action.as_deref(),
            self.upstream.as_deref(),
            self.method.as_deref(),
            self.target.as_deref(),
            self.object.as_deref(),
            self.scope.as_deref(),
        ];
        for part in what.into_iter().flatten() {
            line.push(' ');
            line.push_str(part);
        }
        if let Some(status) = self.status {
            line.push_str(&format!(" {status}"));
        }
        if let Some(reason) = &self.reason {
            line.push_str(&format!(" ({reason})"));
        }
        line
    }
}

/// A record as people read it; `None` if it is no record.
pub(super) fn for_people(body: &str) -> Option<String> {
    serde_json::from_str::<Seen>(body).ok().map(|seen| seen.line())
}

fn print(context: &Context, body: &str) {
    match for_people(body) {
        Some(line) if !context.output.json => context.output.line(&line),
        _ => context.output.line(body),
    }
}

async fn tail(context: &Context, records: &Records, lines: i64, follow: bool) -> Outcome {
    let mut places = records.nodes().await?;
    for (_, after) in &mut places {
        *after = after.saturating_sub(lines).max(0);
    }
    loop {
        for (node, after) in &mut places {
            loop {
                let page = records.page(node, *after).await?;
                let Some((last, _)) = page.last() else { break };
                *after = *last;
                page.iter().for_each(|(_, body)| print(context, body));
                if context.output.broken().is_some() {
                    return Ok(());
                }
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

impl Export {
    async fn run(self, context: &Context, records: &Records) -> Outcome {
        for (node, _) in records.nodes().await? {
            let mut after = 0;
            loop {
                let page = records.page(&node, after).await?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                page.iter().filter(|(_, body)| self.wants(body)).for_each(|(_, body)| context.output.exact(body));
                if context.output.broken().is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn wants(&self, body: &str) -> bool {
        if self.since.is_none() && self.until.is_none() && self.agent.is_none() && self.session.is_none() {
            return true;
        }
        // A record that cannot be read is not hidden: it is what somebody looks for.
        let Ok(seen) = serde_json::from_str::<Seen>(body) else { return true };
        self.since.is_none_or(|since| seen.at >= since)
            && self.until.is_none_or(|until| seen.at < until)
            && self
                .agent
                .as_ref()
                .is_none_or(|agent| seen.agent.as_ref() == Some(agent) || seen.agent_name.as_ref() == Some(agent))
            && self.session.as_ref().is_none_or(|session| seen.session.as_ref() == Some(session))
    }
}

async fn verify(context: &Context, config: &Config, store: &Store, kept: Option<PathBuf>) -> Outcome {
    let keys = public_keys(store).await?;
    let kept = match &kept {
        None => None,
        Some(file) => Some(read_checkpoint(file, &keys)?),
    };
    let mac_key = head_key(context, config, store).await;
    let nodes = store.audit_nodes().await.map_err(unreadable)?;
    if nodes.is_empty() {
        return Err(Failure::Failed(
            "the audit log is empty, although every broker begins it with a record: it was removed".into(),
        ));
    }
    if let Some(kept) = kept.as_ref().filter(|kept| !nodes.contains(&kept.node)) {
        return Err(Failure::Failed(format!(
            "the checkpoint is of node '{}', of which there is no log here",
            kept.node
        )));
    }
    let started = monotonic();
    let mut reports = Vec::new();
    for node in &nodes {
        let bar = progress(node);
        let with = Verification { mac_key: mac_key.as_ref(), kept: kept.as_ref() };
        let outcome = verify_node(store, node, &keys, with, |done, total| {
            bar.set_length(u64::try_from(total).unwrap_or(0));
            bar.set_position(u64::try_from(done).unwrap_or(0));
        });
        let outcome = outcome.await.map_err(unreadable)?;
        bar.finish_and_clear();
        match outcome {
            Ok(report) => reports.push((node, report)),
            Err(fault) => {
                context.output.show(
                    &json!({ "ok": false, "node": node, "first_bad": fault.seq, "problem": fault.problem }),
                    |_, _| {},
                );
                return Err(Failure::Failed(format!(
                    "the audit log of node '{node}' is not whole: record {}: {}",
                    fault.seq, fault.problem
                )));
            }
        }
    }
    let records: i64 = reports.iter().map(|(_, report)| report.records).sum();
    let seconds = started.elapsed().as_secs_f64();
    let rate = (records as f64 / seconds.max(1e-6)) as u64;
    let nodes: Vec<_> = reports
        .iter()
        .map(|(node, report)| {
            json!({ "node": node, "records": report.records, "head": report.head,
                    "checkpoints": report.checkpoints, "end_authenticated": report.end_authenticated })
        })
        .collect();
    let answer = json!({ "ok": true, "records": records, "records_per_second": rate, "nodes": nodes });
    context.output.show(&answer, |output, _| {
        for (node, report) in &reports {
            output.line(&format!(
                "{node}: {} records are whole, {} signed checkpoints agree; head {}",
                report.records, report.checkpoints, report.head
            ));
            if !report.end_authenticated {
                output.line("  the master key is not at hand, so the end was checked against checkpoints only");
            }
        }
        if let Some(kept) = &kept {
            output.line(&format!("the log extends the checkpoint at record {}", kept.seq));
        }
        output.line(&format!("{records} records in {seconds:.2} s, {rate} records/s"));
    });
    Ok(())
}

fn progress(node: &str) -> ProgressBar {
    if !progress_is_seen() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{prefix} {bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar.set_prefix(node.to_owned());
    bar
}

/// Every public key that this broker has had.
pub(super) async fn public_keys(store: &Store) -> Result<KeySet, Failure> {
    let rows = store.signing_keys().await.map_err(unreadable)?;
    let keys: Vec<serde_json::Value> =
        rows.iter().filter_map(|row| serde_json::from_str(&row.public_jwk).ok()).collect();
    KeySet::from_json(&json!({ "keys": keys }).to_string()).map_err(|error| Failure::Failed(error.to_string()))
}

fn read_checkpoint(file: &PathBuf, keys: &KeySet) -> Result<Checkpoint, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", file.display())))?;
    verify_checkpoint(&text, keys).map_err(|error| {
        Failure::Failed(format!(
            "{}: {error}; either it is no checkpoint of this broker, or the database was exchanged for another",
            file.display()
        ))
    })
}

/// The key of the chain's end, where the master key can be read; an auditor with a copy of the database has none.
async fn head_key(context: &Context, config: &Config, store: &Store) -> Option<SecretBytes> {
    match open_head_key(config, store).await {
        Ok(key) => Some(key),
        Err(error) => {
            context.output.note(&format!("note: {error}"));
            None
        }
    }
}

/// The key of the chain's end.
pub(super) async fn open_head_key(config: &Config, store: &Store) -> Result<SecretBytes, Error> {
    let (vault, _, _) = open_vault(config)?;
    let secrets = store.broker_secrets().await.map_err(Error::internal)?;
    let sealed = secrets.get(HEAD_SECRET).ok_or_else(|| Error::internal("no audit head key in the database"))?;
    open_broker_secret(HEAD_SECRET, sealed, &vault)
}
