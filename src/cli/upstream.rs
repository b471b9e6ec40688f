//! `hallpass upstream …`.

use clap::Subcommand;

use crate::cli::catalog::Catalog;
use crate::cli::client::segment;
use crate::cli::definition::{Show, shown};
use crate::cli::{Context, Failure, Outcome};
use crate::manage::Removed;
use crate::manage::upstreams::{UpstreamList, UpstreamTested};
use crate::model;

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
    /// Ready definitions of well-known APIs, to be applied by 'hallpass apply --from-catalog'; needs no broker
    Catalog(Catalog),
    /// Look it up, connect and verify its TLS, from where the broker is; sends no request
    Test {
        /// Its name
        name: String,
    },
}

impl Upstream {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        if let Self::Catalog(catalog) = self {
            return catalog.run(context);
        }
        let client = context.client()?;
        let of = |name: &str, verb: &str| format!("/admin/v1/upstreams/{}{verb}", segment(name));
        match self {
            Self::List => {
                let answer: UpstreamList = client.get("/admin/v1/upstreams").await?;
                context.output.show(&answer, |output, answer| {
                    let columns = ["name", "base_url", "credential", "credential_stored", "operations"];
                    output.table(&answer.upstreams, &columns, "no upstreams yet: 'hallpass apply --help'");
                });
            }
            Self::Show(show) => {
                let answer: model::Upstream = client.get(&of(&show.name, "")).await?;
                shown(context, "upstreams", &["ca_pem"], &answer, show.form)?;
            }
            Self::Remove { name } => {
                let answer: Removed = client.delete(&of(&name, "")).await?;
                context.output.show(&answer, |output, _| output.line(&format!("{name} is removed")));
            }
            Self::Catalog(catalog) => catalog.run(context)?,
            Self::Test { name } => {
                let answer: UpstreamTested = client.act(&of(&name, "/test")).await?;
                context.output.show(&answer, |output, answer| {
                    if let (true, Some(millis)) = (answer.reachable, answer.milliseconds) {
                        output.line(&format!("{name} is reachable ({millis} ms)"));
                    }
                });
                if !answer.reachable {
                    let why = answer.why.unwrap_or_default();
                    return Err(Failure::Failed(format!("{name} is not reachable: {why}")));
                }
            }
        }
        Ok(())
    }
}
