//! `hallpass role …`, `resource …`, `issuer …`, `trust-domain …`: what `apply` declares, and nothing more to it.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::client::segment;
use crate::cli::output::json;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::definitions::{DefinitionRemoved, Noun};
use crate::model::{Resource, Role, TrustDomain, TrustedIssuer};

/// List, show, remove.
#[derive(Debug, Subcommand)]
pub(super) enum Definition {
    /// All of them
    List,
    /// One, as it was declared
    Show(Show),
    /// Remove one: nobody has it any more from now on
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Its name
    pub(super) name: String,
    /// As a document that 'hallpass apply' takes (yaml), or as JSON
    #[arg(short = 'o', long = "output", value_name = "FORM")]
    pub(super) form: Option<Form>,
}

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A document for `apply`.
    Yaml,
    /// As `--json`.
    Json,
}

/// How a noun is shown.
pub(super) trait Shown: Noun {
    /// The table's columns.
    const COLUMNS: &'static [&'static str];
    /// What `apply` fills in, and takes from nobody.
    const FILLED_IN: &'static [&'static str];
}

impl Shown for Role {
    const COLUMNS: &'static [&'static str] = &["name", "scopes", "agents"];
    const FILLED_IN: &'static [&'static str] = &["agents"];
}

impl Shown for Resource {
    const COLUMNS: &'static [&'static str] = &["name", "audience", "scopes"];
    const FILLED_IN: &'static [&'static str] = &[];
}

impl Shown for TrustedIssuer {
    const COLUMNS: &'static [&'static str] = &["name", "issuer", "jwks_uri"];
    const FILLED_IN: &'static [&'static str] = &["ca_pem"];
}

impl Shown for TrustDomain {
    const COLUMNS: &'static [&'static str] = &["name", "bundle_file", "bundle_endpoint"];
    const FILLED_IN: &'static [&'static str] = &["ca_pem", "bundle"];
}

impl Definition {
    pub(super) async fn run<N: Shown>(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let path = format!("/admin/v1/{}s", N::COMMAND);
        match self {
            Self::List => {
                let answer: N::List = client.get(&path).await?;
                context.output.show(&answer, |_, _| {});
                if !context.output.json {
                    let empty = format!("no {} yet: 'hallpass apply --help'", N::SECTION.replace('_', " "));
                    let all: Vec<N::View> = answer.into();
                    context.output.table(&all, N::COLUMNS, &empty);
                }
                Ok(())
            }
            Self::Show(show) => {
                let answer: N::View = client.get(&format!("{path}/{}", segment(&show.name))).await?;
                shown(context, N::SECTION, N::FILLED_IN, &answer, show.form)
            }
            Self::Remove { name } => {
                let answer: DefinitionRemoved = client.delete(&format!("{path}/{}", segment(&name))).await?;
                context.output.show(&answer, |output, answer| {
                    output.line(&format!("{} {name} is removed", N::ONE));
                    if !answer.taken_from.is_empty() {
                        output.line(&format!("it was taken from: {}", answer.taken_from.join(", ")));
                    }
                });
                Ok(())
            }
        }
    }
}

/// One definition, in the form that was asked for. `section`: of a document. `filled_in`: what `apply` takes from nobody.
pub(super) fn shown<T: Serialize>(
    context: &Context,
    section: &str,
    filled_in: &[&str],
    answer: &T,
    form: Option<Form>,
) -> Outcome {
    match form {
        Some(Form::Yaml) => {
            let mut declared = json(answer);
            if let Some(object) = declared.as_object_mut() {
                filled_in.iter().for_each(|field| _ = object.remove(*field));
            }
            let document = BTreeMap::from([(section, [declared])]);
            let yaml = serde_saphyr::to_string(&document).map_err(|error| Failure::Failed(error.to_string()))?;
            context.output.line(yaml.trim_end());
        }
        Some(Form::Json) => context.output.line(&json(answer).to_string()),
        None => context.output.show(answer, |output, answer| output.fields(answer)),
    }
    Ok(())
}
