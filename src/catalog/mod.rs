//! Ready definitions of well-known APIs, and of the OAuth providers behind them: the files of `catalog/`, embedded at build
//! and parsed when somebody asks for one. Pure.

mod entry;
mod fill;
mod provider;
#[cfg(test)]
mod tests;

pub use entry::{Choice, Document, Entry, Head, Need, TestCall, Variable};
pub use provider::{Account, AccountFrom, ClientAuth, DefaultScopes, Oddity, Pkce, Provider, Refresh, Rotates};

// What build.rs found: `UPSTREAMS` and `PROVIDERS`.
include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// Why the catalog does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// There is no such entry.
    #[error("the catalog has no '{0}'; 'hallpass upstream catalog' lists what it has")]
    NoEntry(String),
    /// There is no such provider.
    #[error("the catalog has no provider '{0}'")]
    NoProvider(String),
    /// The entry takes what this version does not have yet.
    #[error("{title} cannot be applied by this version: it takes {what}, which is not there yet")]
    Waits {
        /// The entry's title.
        title: String,
        /// What it waits for, for people.
        what: String,
    },
    /// A value is missing, or is none that its variable may have. One sentence.
    #[error("{0}")]
    Value(String),
    /// A file of the catalog is malformed. The tests read every one, so that nobody should see this.
    #[error("the catalog's file {file} is malformed: {problem}; please report it")]
    Malformed {
        /// Its name.
        file: String,
        /// What the reader says.
        problem: String,
    },
}

impl Mistake {
    fn malformed(file: &str, problem: &impl ToString) -> Self {
        Self::Malformed { file: file.to_owned(), problem: problem.to_string() }
    }
}

/// The names of all entries, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    UPSTREAMS.iter().map(|(name, _)| *name)
}

/// An entry by its name.
///
/// # Errors
/// There is none.
pub fn entry(name: &str) -> Result<Entry, Mistake> {
    let (name, text) = find(UPSTREAMS, name).ok_or_else(|| Mistake::NoEntry(name.to_owned()))?;
    Entry::parse(name, text)
}

/// The entries that have every word in their name, title, sentence or provider, without regard to case; all of them where
/// there is no word.
///
/// # Errors
/// A file is malformed.
pub fn search(words: &str) -> Result<Vec<Entry>, Mistake> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut found = Vec::new();
    for (name, text) in UPSTREAMS {
        let entry = Entry::parse(name, text)?;
        let Head { title, about, provider, .. } = &entry.head;
        let all = format!("{name} {title} {about} {}", provider.as_deref().unwrap_or_default()).to_lowercase();
        if words.iter().all(|word| all.contains(word)) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The names of all providers, sorted.
pub fn provider_names() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|(name, _)| *name)
}

/// A provider by its name.
///
/// # Errors
/// There is none.
pub fn provider(name: &str) -> Result<Provider, Mistake> {
    let (name, text) = find(PROVIDERS, name).ok_or_else(|| Mistake::NoProvider(name.to_owned()))?;
    serde_saphyr::from_str(text).map_err(|error| Mistake::malformed(name, &error))
}

fn find(all: &[(&'static str, &'static str)], name: &str) -> Option<(&'static str, &'static str)> {
    let at = all.binary_search_by_key(&name, |(name, _)| name).ok()?;
    all.get(at).copied()
}
