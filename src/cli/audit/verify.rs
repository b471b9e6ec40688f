//! `hallpass audit verify`: in the database, in an exported file, or at a broker elsewhere.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use hallpass_verify::KeySet;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::app::{open_broker_secret, open_store, open_vault};
use crate::audit::{
    Checkpoint, Fault, HEAD_SECRET, Link, LogReader, Report, Verification, verify_checkpoint, verify_node,
};
use crate::cli::client::AdminClient;
use crate::cli::output::progress_is_seen;
use crate::cli::records::{Records, unreadable};
use crate::cli::{Context, Failure, Outcome, Place, https};
use crate::config::{Config, Overrides};
use crate::error::Error;
use crate::secret::SecretBytes;
use crate::store::{Access, Store};
use crate::world::monotonic;

/// A longer line is no record.
const LONGEST_RECORD: usize = 16 * 1024 * 1024;

/// What is verified, and with what.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// An exported log ('hallpass audit export'; - for standard input): needs neither the database nor the broker
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The broker's public keys, to check signed checkpoints with: a file, or an https URL (ISSUER/.well-known/jwks.json)
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// A checkpoint that was kept elsewhere: proves that the log still extends it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

impl Verify {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let started = monotonic();
        let given = match &self.jwks {
            Some(place) => Some(read_jwks(place).await?),
            None => None,
        };
        if let Some(file) = &self.file {
            if self.checkpoint.is_some() && given.is_none() {
                let text = "a checkpoint is checked with the broker's public keys; give them by --jwks FILE|URL";
                return Err(Failure::Usage(text.into()));
            }
            let keys = given.map_or_else(no_keys, Ok)?;
            let kept = self.kept(&keys)?;
            return show(context, exported(file, &keys, kept.as_ref())?, kept.as_ref(), started);
        }
        match context.place()? {
            Place::Elsewhere(client) => self.at_a_broker(context, client, given, started).await,
            Place::Here(_) => {
                // The whole of it, with the key of its end: where the database is, or on a copy.
                let config = context.load(Overrides::default())?;
                let store = open_store(&config, Access::ReadOnly).await?;
                let outcome = self.in_the_database(context, &config, &store, given, started).await;
                store.close().await;
                outcome
            }
        }
    }

    fn kept(&self, keys: &KeySet) -> Result<Option<Checkpoint>, Failure> {
        self.checkpoint.as_ref().map(|file| read_checkpoint(file, keys)).transpose()
    }

    async fn in_the_database(
        &self,
        context: &Context,
        config: &Config,
        store: &Store,
        given: Option<KeySet>,
        started: Instant,
    ) -> Outcome {
        let keys = match given {
            Some(keys) => keys,
            None => public_keys(store).await?,
        };
        let kept = self.kept(&keys)?;
        let mac_key = head_key(context, config, store).await;
        let mut all = Vec::new();
        for node in store.audit_nodes().await.map_err(unreadable)? {
            let bar = progress(&node);
            let with = Verification { mac_key: mac_key.as_ref(), kept: kept.as_ref() };
            let outcome = verify_node(store, &node, &keys, with, |done, total| {
                bar.set_length(u64::try_from(total).unwrap_or(0));
                bar.set_position(u64::try_from(done).unwrap_or(0));
            });
            let outcome = outcome.await.map_err(unreadable)?;
            bar.finish_and_clear();
            all.push((node, outcome));
        }
        show(context, all, kept.as_ref(), started)
    }

    /// By what the broker sends: all records, its public keys and its stored checkpoints.
    async fn at_a_broker(
        &self,
        context: &Context,
        client: AdminClient,
        given: Option<KeySet>,
        started: Instant,
    ) -> Outcome {
        let keys = match given {
            Some(keys) => keys,
            None => key_set(&client.get::<Value>("/admin/v1/audit/keys").await?)?,
        };
        let kept = self.kept(&keys)?;
        let records = Records::Broker(client);
        let mut all = Vec::new();
        for (node, last) in records.nodes().await? {
            let stored = records.checkpoints(&node).await?;
            let bar = progress(&node);
            bar.set_length(u64::try_from(last).unwrap_or(0));
            let outcome = read_all(&records, &node, LogReader::new(&node, &stored, &keys, kept.as_ref()), &bar).await?;
            bar.finish_and_clear();
            let outcome = outcome.and_then(|report| match report.records < last {
                true => {
                    let problem = format!("the tail was cut off: the broker said that the log ends at {last}");
                    Err(Fault { seq: report.records + 1, problem })
                }
                false => Ok(report),
            });
            all.push((node, outcome));
        }
        show(context, all, kept.as_ref(), started)
    }
}

type Outcomes = Vec<(String, Result<Report, Fault>)>;

async fn read_all(
    records: &Records,
    node: &str,
    mut reader: LogReader,
    bar: &ProgressBar,
) -> Result<Result<Report, Fault>, Failure> {
    let mut after = 0;
    loop {
        let page = records.page(node, after).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, body) in &page {
            if let Err(fault) = reader.record(body) {
                return Ok(Err(fault));
            }
        }
        bar.set_position(u64::try_from(after).unwrap_or(0));
    }
    Ok(reader.finish())
}

/// Of each node whose records are in the file. An export of a part of the log begins later than record 1; one that was
/// filtered by agent, session, upstream or decision has gaps, which are told as missing records.
fn exported(file: &Path, keys: &KeySet, kept: Option<&Checkpoint>) -> Result<Outcomes, Failure> {
    let shown = file.display();
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{shown} cannot be read: {error}"));
    let mut lines: Box<dyn std::io::BufRead> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(file).map_err(|error| failed(&error))?))
    };
    let mut readers: BTreeMap<String, LogReader> = BTreeMap::new();
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut lines, LONGEST_RECORD as u64);
        if limited.read_until(b'\n', &mut line).map_err(|error| failed(&error))? == 0 {
            break;
        }
        number += 1;
        let no_record = || Failure::Failed(format!("line {number} of {shown} is no audit record"));
        let body = std::str::from_utf8(&line).map_err(|_| no_record())?;
        // The export ends each record by a line end; nothing else of the bytes is touched.
        let body = body.strip_suffix('\n').unwrap_or(body);
        if body.is_empty() {
            continue;
        }
        let node = serde_json::from_str::<Link<'_>>(body).map_err(|_| no_record())?.node.into_owned();
        let reader = readers.entry(node).or_insert_with_key(|node| LogReader::new(node, &[], keys, kept));
        if let Err(fault) = reader.record(body) {
            let node =
                serde_json::from_str::<Link<'_>>(body).map_or_else(|_| String::new(), |link| link.node.into_owned());
            return Ok(vec![(node, Err(fault))]);
        }
    }
    Ok(readers.into_iter().map(|(node, reader)| (node, reader.finish())).collect())
}

/// Says what was found; the first fault is the command's failure.
fn show(context: &Context, all: Outcomes, kept: Option<&Checkpoint>, started: Instant) -> Outcome {
    if all.is_empty() {
        return Err(Failure::Failed(
            "the audit log is empty, although every broker begins it with a record: it was removed".into(),
        ));
    }
    if let Some(kept) = kept.filter(|kept| all.iter().all(|(node, _)| *node != kept.node)) {
        return Err(Failure::Failed(format!(
            "the checkpoint is of node '{}', of which there is no log here",
            kept.node
        )));
    }
    let mut reports = Vec::new();
    for (node, outcome) in all {
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
    let nodes: Vec<_> = reports
        .iter()
        .map(|(node, report)| {
            json!({ "node": node, "first": report.from, "records": report.records, "head": report.head,
                    "checkpoints": report.checkpoints, "end_authenticated": report.end_authenticated })
        })
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    let rate = (records as f64 / seconds.max(1e-6)) as u64;
    let answer = json!({ "ok": true, "records": records, "records_per_second": rate, "nodes": nodes });
    context.output.show(&answer, |output, _| {
        for (node, report) in &reports {
            output.line(&format!(
                "{node}: {} records are whole, {} signed checkpoints agree; head {}",
                report.records, report.checkpoints, report.head
            ));
            if report.from > 1 {
                output.line(&format!("  it begins at record {}; what was before it was not looked at", report.from));
            }
            if !report.end_authenticated {
                output.line("  the key of its end is not at hand, so the end was checked against checkpoints only");
            }
        }
        if let Some(kept) = kept {
            output.line(&format!("the log extends the checkpoint at record {}", kept.seq));
        }
        output.line(&format!("{records} records in {seconds:.2} s, {rate} records/s"));
    });
    Ok(())
}

fn no_keys() -> Result<KeySet, Failure> {
    key_set(&json!({ "keys": [] }))
}

fn key_set(jwks: &Value) -> Result<KeySet, Failure> {
    KeySet::from_json(&jwks.to_string()).map_err(|error| Failure::Failed(error.to_string()))
}

/// The JWKS of a file or an https URL.
async fn read_jwks(place: &str) -> Result<KeySet, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{place} is no JWKS: {error}"));
    let text = if place.starts_with("https://") {
        let answer = https::client(None, None)?.get(place).send().await.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| failed(&error))?.text().await.map_err(|error| failed(&error))?
    } else {
        std::fs::read_to_string(place).map_err(|error| failed(&error))?
    };
    KeySet::from_json(&text).map_err(|error| failed(&error))
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
pub(in crate::cli) async fn public_keys(store: &Store) -> Result<KeySet, Failure> {
    let rows = store.signing_keys().await.map_err(unreadable)?;
    let keys: Vec<Value> = rows.iter().filter_map(|row| serde_json::from_str(&row.public_jwk).ok()).collect();
    key_set(&json!({ "keys": keys }))
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
pub(in crate::cli) async fn open_head_key(config: &Config, store: &Store) -> Result<SecretBytes, Error> {
    let (vault, _, _) = open_vault(config)?;
    let secrets = store.broker_secrets().await.map_err(Error::internal)?;
    let sealed = secrets.get(HEAD_SECRET).ok_or_else(|| Error::internal("no audit head key in the database"))?;
    open_broker_secret(HEAD_SECRET, sealed, &vault)
}
