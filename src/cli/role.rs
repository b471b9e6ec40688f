//! `hallpass role …`.

use clap::Subcommand;

use crate::cli::client::segment;
use crate::cli::{Context, Outcome};

/// Roles: named sets of scopes. They are declared by 'hallpass apply'.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// All roles
    List,
    /// One role
    Show {
        /// Its name
        name: String,
    },
}

impl Role {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self {
            Self::List => {
                let answer = client.get("/admin/v1/roles").await?;
                context.output.show(&answer, |output, answer| {
                    output.table(
                        &answer["roles"],
                        &["name", "scopes", "agents"],
                        "no roles yet: 'hallpass apply --help'",
                    );
                });
            }
            Self::Show { name } => {
                let answer = client.get(&format!("/admin/v1/roles/{}", segment(&name))).await?;
                context.output.show(&answer, |output, answer| output.fields(answer));
            }
        }
        Ok(())
    }
}
