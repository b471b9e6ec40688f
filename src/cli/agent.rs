//! `hallpass agent …`.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::client::segment;
use crate::cli::output::time;
use crate::cli::{Context, Outcome};

/// Agents: who may ask for tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Agent {
    /// Register an agent; prints its client id and, once, its secret
    Register {
        /// Its name
        name: String,
        /// A role; repeatable
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Its tokens must be bound to a key (DPoP or a client certificate)
        #[arg(long)]
        require_bound: bool,
    },
    /// All agents
    List,
    /// One agent
    Show {
        /// Name or client id
        name: String,
    },
    /// Stop an agent until it is resumed: its tokens are refused from now on
    Suspend {
        /// Name or client id
        name: String,
        /// For the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a suspended agent ask for new tokens again
    Resume {
        /// Name or client id
        name: String,
    },
    /// Stop an agent for good
    Revoke {
        /// Name or client id
        name: String,
        /// For the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Give it a new secret, printed once; the old one stays valid for a while
    RotateSecret {
        /// Name or client id
        name: String,
        /// For how many seconds the old secret stays valid [default: tokens.secret_grace_seconds]
        #[arg(long, value_name = "SECONDS")]
        grace: Option<i64>,
    },
}

impl Agent {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let of = |name: &str, verb: &str| format!("/admin/v1/agents/{}{verb}", segment(name));
        match self {
            Self::Register { name, roles, require_bound } => {
                let body = json!({ "name": name, "roles": roles, "identity": { "require_bound": require_bound } });
                let answer = client.post("/admin/v1/agents", &body).await?;
                context.output.show(&answer, secret);
            }
            Self::List => {
                let answer = client.get("/admin/v1/agents").await?;
                context.output.show(&answer, |output, answer| {
                    let columns = ["name", "client_id", "status", "roles", "created_at"];
                    output.table(
                        &answer["agents"],
                        &columns,
                        "no agents yet: 'hallpass agent register NAME --role ROLE'",
                    );
                });
            }
            Self::Show { name } => {
                let answer = client.get(&of(&name, "")).await?;
                context.output.show(&answer, |output, answer| output.fields(answer));
            }
            Self::Suspend { name, reason } => {
                let answer = client.post(&of(&name, "/suspend"), &json!({ "reason": reason })).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{name} is suspended; its tokens are refused from now on"))
                });
            }
            Self::Resume { name } => {
                let answer = client.post(&of(&name, "/resume"), &json!({})).await?;
                context.output.show(&answer, |output, _| output.line(&format!("{name} may ask for new tokens")));
            }
            Self::Revoke { name, reason } => {
                let answer = client.post(&of(&name, "/revoke"), &json!({ "reason": reason })).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{name} is revoked for good; its tokens are refused from now on"))
                });
            }
            Self::RotateSecret { name, grace } => {
                let answer = client.post(&of(&name, "/rotate-secret"), &json!({ "grace_seconds": grace })).await?;
                context.output.show(&answer, |output, answer| {
                    secret(output, answer);
                    output.line(&format!("the old secret is valid until {}", time(&answer["old_secret_valid_until"])));
                });
            }
        }
        Ok(())
    }
}

fn secret(output: &crate::cli::Output, answer: &Value) {
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    output.line(&format!("client_id      {}", text("client_id")));
    output.line(&format!("client_secret  {}  (shown once; Hallpass keeps only a digest)", text("client_secret")));
}
