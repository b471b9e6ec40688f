//! `hallpass session …`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use serde::Serialize;

use crate::cli::client::segment;
use crate::cli::{Context, Outcome};
use crate::manage::Reason;
use crate::manage::sessions::{OfSubject, SessionList, SessionView, SubjectRevoked};

/// Sessions: bounded runs of agents.
#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// The sessions that have not ended
    List {
        /// Only those of this agent
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Show a tree: each session below its parent
        #[arg(long)]
        tree: bool,
    },
    /// One session
    Show {
        /// Its id (`sid`)
        id: String,
    },
    /// End a session and all below it, or all that acts on behalf of somebody: every token in them is refused from now on
    Revoke {
        /// Its id (`sid`)
        #[arg(required_unless_present = "subject", conflicts_with = "subject")]
        id: Option<String>,
        /// Whoever acts on behalf of this subject (`sub`); its earlier tokens open no session any more
        #[arg(long, value_name = "SUB")]
        subject: Option<String>,
        /// The issuer that vouches for the subject, by the name that `apply` gave it
        #[arg(long, value_name = "NAME", requires = "subject")]
        issuer: Option<String>,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Session {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self {
            Self::List { agent, tree } => {
                let query = agent.map(|name| format!("?agent={}", segment(&name))).unwrap_or_default();
                let answer: SessionList = client.get(&format!("/admin/v1/sessions{query}")).await?;
                context.output.show(&answer, |output, answer| {
                    if tree {
                        let columns = ["session", "agent", "subject", "expires_at", "revoked_at", "task"];
                        return output.table(&as_tree(&answer.sessions), &columns, "no sessions");
                    }
                    let columns = ["id", "agent", "created_at", "expires_at", "revoked_at", "task", "purpose"];
                    output.table(&answer.sessions, &columns, "no sessions");
                });
            }
            Self::Show { id } => {
                let answer: SessionView = client.get(&format!("/admin/v1/sessions/{}", segment(&id))).await?;
                context.output.show(&answer, |output, answer| output.fields(answer));
            }
            Self::Revoke { id, subject, issuer, reason } => {
                if let Some(subject) = subject {
                    let body = OfSubject { subject, issuer, reason };
                    let answer: SubjectRevoked = client.post("/admin/v1/subjects/revoke", &body).await?;
                    context.output.show(&answer, |output, answer| {
                        let text = "sessions on behalf of this subject are over; its tokens from before now open none";
                        output.line(&format!("{} {text}", answer.sessions));
                    });
                    return Ok(());
                }
                let id = id.unwrap_or_default();
                let path = format!("/admin/v1/sessions/{}/revoke", segment(&id));
                let answer: SessionView = client.post(&path, &Reason { reason }).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{id} and all below it are over; their tokens are refused from now on"))
                });
            }
        }
        Ok(())
    }
}

/// A session in the tree.
#[derive(Serialize)]
struct Branch<'a> {
    /// Its id, behind what shows where it hangs.
    session: String,
    #[serde(flatten)]
    view: &'a SessionView,
}

/// The sessions in the order of the tree. One whose parent is not among them (of another agent, or over) stands at the left.
fn as_tree(all: &[SessionView]) -> Vec<Branch<'_>> {
    let there: BTreeSet<&str> = all.iter().map(|one| one.id.as_str()).collect();
    let mut below: BTreeMap<&str, Vec<&SessionView>> = BTreeMap::new();
    for one in all {
        let parent = one.parent.as_deref().filter(|parent| there.contains(parent));
        below.entry(parent.unwrap_or_default()).or_default().push(one);
    }
    let under = |id: &str, depth: usize| {
        let sessions = below.get(id).into_iter().flatten().rev();
        sessions.map(|one| (depth, *one)).collect::<Vec<_>>()
    };
    let mut open = under("", 0);
    let mut rows = Vec::with_capacity(all.len());
    while let Some((depth, view)) = open.pop() {
        let branch = if depth == 0 { String::new() } else { format!("{}`- ", "   ".repeat(depth - 1)) };
        rows.push(Branch { session: format!("{branch}{}", view.id), view });
        open.extend(under(&view.id, depth + 1));
    }
    rows
}
