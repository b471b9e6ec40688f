//! `hallpass upstream catalog`, and what `hallpass apply` takes from there.

use clap::Args;
use serde::Serialize;

use crate::catalog::{self, Choice, Document, Entry, Mistake};
use crate::cli::client::AdminClient;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::upstreams::UpstreamList;
use crate::model::check_name;
use crate::policy::nearest_name;

/// Ready definitions of well-known APIs.
#[derive(Debug, Args)]
pub(super) struct Catalog {
    /// Only those that have every one of these words in their name, title, description or provider
    #[arg(conflicts_with = "show")]
    search: Vec<String>,
    /// One of them, as a document that 'hallpass apply' takes once its variables are replaced
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    title: String,
    about: String,
    operations: usize,
    /// What it takes that this version does not have.
    needs: Vec<catalog::Need>,
    provider: Option<String>,
    variables: Vec<catalog::Variable>,
}

#[derive(Debug, Serialize)]
struct Found {
    catalog: Vec<Row>,
}

impl Catalog {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if let Some(name) = self.show {
            let entry = entry(&name)?;
            context.output.show(&entry, |output, entry| output.line(entry.shown().trim_end()));
            return Ok(());
        }
        let row = |entry: Entry| Row {
            name: entry.name,
            operations: entry.operations(),
            needs: entry.lacks(),
            title: entry.head.title,
            about: entry.head.about,
            provider: entry.head.provider,
            variables: entry.head.variables,
        };
        let found = Found { catalog: catalog::search(&self.search.join(" "))?.into_iter().map(row).collect() };
        context.output.show(&found, |output, Found { catalog }| {
            let columns = ["name", "title", "operations", "needs", "provider"];
            output.table(catalog, &columns, "nothing in the catalog has all of these words");
            if catalog.iter().any(|row| !row.needs.is_empty()) {
                output.line("");
                output.line("NEEDS: this version cannot place such a key yet, so the entry cannot be applied.");
            }
        });
        Ok(())
    }
}

impl From<Mistake> for Failure {
    fn from(mistake: Mistake) -> Self {
        match mistake {
            Mistake::Value(why) => Self::Usage(why),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// An entry, or which one may be meant.
fn entry(name: &str) -> Result<Entry, Failure> {
    catalog::entry(name).map_err(|mistake| {
        let meant = nearest_name(name, catalog::names()).filter(|_| matches!(mistake, Mistake::NoEntry(_)));
        match meant {
            Some(meant) => Failure::Failed(format!("{mistake}; did you mean '{meant}'?")),
            None => mistake.into(),
        }
    })
}

/// What is applied from the catalog. With a document, none of this is taken.
#[derive(Debug, Args)]
pub(super) struct FromCatalog {
    /// A ready definition, instead of a document: 'hallpass upstream catalog' lists them
    #[arg(long, value_name = "NAME")]
    pub(super) from_catalog: Option<String>,
    /// The value of a variable of the ready definition; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, conflicts_with = "file")]
    set: Vec<(String, String)>,
    /// Call its upstream so, and its roles accordingly: for a second account of the same API
    #[arg(long, conflicts_with = "file")]
    name: Option<String>,
    /// Take this credential instead of the one that the definition names
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    credential: Option<String>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is written NAME=VALUE".into()),
    }
}

impl FromCatalog {
    /// The entry of this name and the document that is made of it.
    pub(super) fn document(&self, name: &str) -> Result<(Entry, Document), Failure> {
        let mut choice = Choice { name: self.name.clone(), credential: self.credential.clone(), ..Choice::default() };
        for (variable, value) in &self.set {
            if choice.values.insert(variable.clone(), value.clone()).is_some() {
                return Err(Failure::Usage(format!("--set {variable} stands twice")));
            }
        }
        if let Some(name) = &self.name {
            check_name("upstream", name).map_err(Failure::Usage)?;
        }
        let entry = entry(name)?;
        let document = entry.document(&choice)?;
        Ok((entry, document))
    }
}

/// The commands that come next: which credentials are still to be put, and which roles there are for an agent.
pub(super) async fn tell_next(context: &Context, client: &AdminClient, entry: &Entry, document: &Document) -> Outcome {
    let there: UpstreamList = client.get("/admin/v1/upstreams").await?;
    let ours = there.upstreams.into_iter().filter(|one| document.upstreams.contains(&one.name));
    let mut missing: Vec<String> =
        ours.filter(|one| one.credential_stored == Some(false)).filter_map(|one| one.credential).collect();
    missing.sort();
    missing.dedup();
    for name in missing {
        context.output.line(&format!("next: hallpass credential put {name}"));
        context.output.line(&format!("      {}", entry.key_hint()));
    }
    if !document.roles.is_empty() {
        context.output.line(&format!("roles for agents: {}", document.roles.join(", ")));
    }
    Ok(())
}
