//! `hallpass session …`.

use clap::Subcommand;
use serde_json::json;

use crate::cli::client::segment;
use crate::cli::{Context, Outcome};

/// Sessions: bounded runs of agents.
#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// The sessions that have not ended
    List {
        /// Of this agent only
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
    },
    /// One session
    Show {
        /// Its id (`sid`)
        id: String,
    },
    /// End a session: every token in it is refused from now on
    Revoke {
        /// Its id (`sid`)
        id: String,
        /// For the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Session {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self {
            Self::List { agent } => {
                let query = agent.map(|name| format!("?agent={}", segment(&name))).unwrap_or_default();
                let answer = client.get(&format!("/admin/v1/sessions{query}")).await?;
                context.output.show(&answer, |output, answer| {
                    let columns = ["id", "agent", "created_at", "expires_at", "revoked_at", "task", "purpose"];
                    output.table(&answer["sessions"], &columns, "no sessions");
                });
            }
            Self::Show { id } => {
                let answer = client.get(&format!("/admin/v1/sessions/{}", segment(&id))).await?;
                context.output.show(&answer, |output, answer| output.fields(answer));
            }
            Self::Revoke { id, reason } => {
                let path = format!("/admin/v1/sessions/{}/revoke", segment(&id));
                let answer = client.post(&path, &json!({ "reason": reason })).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{id} is over; its tokens are refused from now on"))
                });
            }
        }
        Ok(())
    }
}
