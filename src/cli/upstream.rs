//! `hallpass upstream …`.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::client::segment;
use crate::cli::definition::{Noun, Show, shown};
use crate::cli::{Context, Failure, Outcome};

/// Upstreams: APIs behind the broker. They are declared by 'hallpass apply'.
#[derive(Debug, Subcommand)]
pub(super) enum Upstream {
    /// All upstreams
    List,
    /// One upstream, as it was declared
    Show(Show),
    /// Remove an upstream: calls to it are refused from now on
    Remove {
        /// Its name
        name: String,
    },
    /// Look it up, connect and verify its TLS, from where the broker is; sends no request
    Test {
        /// Its name
        name: String,
    },
}

const NOUN: Noun =
    Noun { one: "upstream", path: "upstreams", section: "upstreams", columns: &[], filled_in: &["ca_pem"] };

impl Upstream {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let of = |name: &str, verb: &str| format!("/admin/v1/upstreams/{}{verb}", segment(name));
        match self {
            Self::List => {
                let answer = client.get("/admin/v1/upstreams").await?;
                context.output.show(&answer, |output, answer| {
                    let columns = ["name", "base_url", "credential", "credential_stored", "operations"];
                    output.table(&answer["upstreams"], &columns, "no upstreams yet: 'hallpass apply --help'");
                });
            }
            Self::Show(show) => {
                let answer = client.get(&of(&show.name, "")).await?;
                shown(context, &NOUN, answer, show.form)?;
            }
            Self::Remove { name } => {
                let answer = client.delete(&of(&name, "")).await?;
                context.output.show(&answer, |output, _| output.line(&format!("{name} is removed")));
            }
            Self::Test { name } => {
                let answer = client.post(&of(&name, "/test"), &json!({})).await?;
                context.output.show(&answer, |output, answer| {
                    if answer["reachable"].as_bool() == Some(true) {
                        output.line(&format!("{name} is reachable ({} ms)", answer["milliseconds"]));
                    }
                });
                if answer.get("reachable").and_then(Value::as_bool) != Some(true) {
                    let why = answer.get("why").and_then(Value::as_str).unwrap_or_default();
                    return Err(Failure::Failed(format!("{name} is not reachable: {why}")));
                }
            }
        }
        Ok(())
    }
}
