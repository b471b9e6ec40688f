//! `hallpass audit …`.

mod filter;
mod search;
mod verify;

use std::collections::VecDeque;
use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;

use crate::app::open_store;
use crate::cli::output::rfc3339;
use crate::cli::records::Records;
use crate::cli::{Context, Failure, Outcome, Place};
use crate::manage::audit::Checkpoint;
use crate::store::Access;
use crate::world::Millis;
use filter::Filter;
use search::Search;
use verify::Verify;

pub(super) use verify::{open_head_key, public_keys};

/// How often `tail -f` looks for more.
const FOLLOW: Duration = Duration::from_millis(250);

/// The audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// The last records; with a filter, the last that fit
    Tail {
        /// Keep printing new records
        #[arg(short = 'f', long)]
        follow: bool,
        /// How many records [default: 20; with --since, all]
        #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
        lines: Option<i64>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Records as JSON lines, byte for byte as they were hashed
    Export {
        #[command(flatten)]
        filter: Filter,
    },
    /// Find records by what is in them, the oldest first; quick in a long log, too
    Search(Search),
    /// Prove that nothing was edited, removed, reordered, inserted or cut off
    Verify(Verify),
    /// Print the signed end of the log; keep it where nobody with access to the database can change it
    Checkpoint,
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        if matches!(self, Self::Checkpoint) {
            let answer: Checkpoint = context.client()?.act("/admin/v1/audit/checkpoint").await?;
            context.output.show(&answer, |output, answer| output.line(&answer.checkpoint));
            return Ok(());
        }
        if let Self::Verify(verify) = self {
            return verify.run(context).await;
        }
        let records = match context.place()? {
            Place::Here(config) => Records::Database(open_store(&config, Access::ReadOnly).await?),
            Place::Elsewhere(client) => Records::Broker(client),
        };
        let outcome = match self {
            Self::Tail { follow, lines, filter } => {
                // Who says since when wants all of it.
                let lines = lines.unwrap_or(if filter.since.is_some() { i64::MAX } else { 20 });
                tail(context, &records, &filter, lines, follow).await
            }
            Self::Export { filter } => export(context, &records, &filter).await,
            Self::Search(search) => search.run(context, &records).await,
            Self::Verify(_) | Self::Checkpoint => Ok(()),
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
    subject: Option<String>,
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
    #[serde(default)]
    client: Option<String>,
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
        // On whose behalf, where that is not the agent itself.
        if let Some(subject) = self.subject.as_deref().filter(|subject| Some(*subject) != self.agent.as_deref()) {
            line.push_str(&format!(" for {subject}"));
        }
        if let Some(status) = self.status {
            line.push_str(&format!(" {status}"));
        }
        if let Some(reason) = &self.reason {
            line.push_str(&format!(" ({reason})"));
        }
        if let Some(client) = &self.client {
            line.push_str(&format!(" from {client}"));
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

async fn tail(context: &Context, records: &Records, filter: &Filter, lines: i64, follow: bool) -> Outcome {
    let mut places = records.nodes().await?;
    for (node, after) in &mut places {
        if filter.is_open() {
            *after = after.saturating_sub(lines).max(0);
        } else {
            *after = last_that_fit(context, records, node, filter, lines).await?;
        }
    }
    loop {
        for (node, after) in &mut places {
            loop {
                let page = records.page(node, *after).await?;
                let Some((last, _)) = page.last() else { break };
                *after = *last;
                page.iter().filter(|(_, body)| filter.wants(body)).for_each(|(_, body)| print(context, body));
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

/// Prints the last `lines` records that fit; the number of the last record that was looked at.
async fn last_that_fit(
    context: &Context,
    records: &Records,
    node: &str,
    filter: &Filter,
    lines: i64,
) -> Result<i64, Failure> {
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut kept: VecDeque<String> = VecDeque::new();
    let mut after = 0;
    loop {
        let page = records.page(node, after).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, body) in page {
            if filter.wants(&body) {
                kept.push_back(body);
                if kept.len() > lines {
                    kept.pop_front();
                }
            }
        }
    }
    kept.iter().for_each(|body| print(context, body));
    Ok(after)
}

async fn export(context: &Context, records: &Records, filter: &Filter) -> Outcome {
    for (node, _) in records.nodes().await? {
        let mut after = 0;
        loop {
            let page = records.page(&node, after).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            page.iter().filter(|(_, body)| filter.wants(body)).for_each(|(_, body)| context.output.exact(body));
            if context.output.broken().is_some() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
