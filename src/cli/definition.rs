//! `hallpass role …`, `resource …`, `issuer …`, `trust-domain …`: what `apply` declares, and nothing more to it.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::client::segment;
use crate::cli::{Context, Failure, Outcome};

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

/// What differs between the nouns.
pub(super) struct Noun {
    /// For people.
    pub(super) one: &'static str,
    /// Below `/admin/v1/`.
    pub(super) path: &'static str,
    /// The section of a document, and the member of the list's answer.
    pub(super) section: &'static str,
    /// The table's columns.
    pub(super) columns: &'static [&'static str],
    /// What `apply` fills in, and takes from nobody.
    pub(super) filled_in: &'static [&'static str],
}

pub(super) const ROLE: Noun = Noun {
    one: "role",
    path: "roles",
    section: "roles",
    columns: &["name", "scopes", "agents"],
    filled_in: &["agents"],
};
pub(super) const RESOURCE: Noun = Noun {
    one: "resource",
    path: "resources",
    section: "resources",
    columns: &["name", "audience", "scopes"],
    filled_in: &[],
};
pub(super) const ISSUER: Noun = Noun {
    one: "issuer",
    path: "issuers",
    section: "issuers",
    columns: &["name", "issuer", "jwks_uri"],
    filled_in: &["ca_pem"],
};
pub(super) const TRUST_DOMAIN: Noun = Noun {
    one: "trust domain",
    path: "trust-domains",
    section: "trust_domains",
    columns: &["name", "bundle_file", "bundle_endpoint"],
    filled_in: &["ca_pem", "bundle"],
};

impl Definition {
    pub(super) async fn run(self, context: &Context, noun: &Noun) -> Outcome {
        let client = context.client()?;
        match self {
            Self::List => {
                let answer = client.get(&format!("/admin/v1/{}", noun.path)).await?;
                context.output.show(&answer, |output, answer| {
                    let empty = format!("no {} yet: 'hallpass apply --help'", noun.section.replace('_', " "));
                    output.table(&answer[noun.section], noun.columns, &empty);
                });
                Ok(())
            }
            Self::Show(show) => {
                let answer = client.get(&format!("/admin/v1/{}/{}", noun.path, segment(&show.name))).await?;
                shown(context, noun, answer, show.form)
            }
            Self::Remove { name } => {
                let answer = client.delete(&format!("/admin/v1/{}/{}", noun.path, segment(&name))).await?;
                context.output.show(&answer, |output, answer| {
                    output.line(&format!("{} {name} is removed", noun.one));
                    let agents = answer["taken_from"].as_array().map(Vec::as_slice).unwrap_or_default();
                    if !agents.is_empty() {
                        let names: Vec<&str> = agents.iter().filter_map(Value::as_str).collect();
                        output.line(&format!("it was taken from: {}", names.join(", ")));
                    }
                });
                Ok(())
            }
        }
    }
}

/// One definition, in the form that was asked for.
pub(super) fn shown(context: &Context, noun: &Noun, mut answer: Value, form: Option<Form>) -> Outcome {
    match form {
        Some(Form::Yaml) => {
            if let Some(object) = answer.as_object_mut() {
                noun.filled_in.iter().for_each(|field| _ = object.remove(*field));
            }
            let document = json!({ noun.section: [answer] });
            let yaml = serde_saphyr::to_string(&document).map_err(|error| Failure::Failed(error.to_string()))?;
            context.output.line(yaml.trim_end());
        }
        Some(Form::Json) => context.output.line(&answer.to_string()),
        None => context.output.show(&answer, |output, answer| output.fields(answer)),
    }
    Ok(())
}
