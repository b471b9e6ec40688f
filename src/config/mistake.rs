//! What is wrong with a setting, where it was written, and what to write instead.

use std::fmt;

/// One mistake in the settings. It never holds a secret: it is made to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, `listen.public`; empty where the mistake is not in one setting.
    pub key: String,
    /// Where it was written.
    pub at: Place,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// Where a setting was written. Ordered as mistakes are listed: the file from its top, the environment, the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File {
        /// The file as it was named to us.
        name: String,
        /// Its line, from 1.
        line: usize,
        /// The column, from 1, of a syntax error.
        column: Option<usize>,
    },
    /// The file as such.
    WholeFile(String),
    /// In the environment variable of this name.
    Variable(String),
    /// In this argument of the command line.
    Argument(&'static str),
    /// Nowhere: what is wrong is that it is not there, or a default.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column: Some(column) } => write!(f, "{name} line {line} column {column}"),
            Self::File { name, line, column: None } => write!(f, "{name} line {line}"),
            Self::WholeFile(name) | Self::Variable(name) => f.write_str(name),
            Self::Argument(name) => f.write_str(name),
            Self::Nowhere => f.write_str("not set"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.at) {
            ("", at) => write!(f, "{at}: ")?,
            (key, at) => write!(f, "{key} ({at}): ")?,
        }
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

impl std::error::Error for Mistake {}

/// `text` as a mistake may show it: in quotes, on one line, cut short. What holds an `@` may be a URL with a password
/// and is not shown.
pub(super) fn shown(text: &str) -> String {
    if text.contains('@') {
        return "the value".to_owned();
    }
    let mut out = String::from("'");
    out.extend(text.chars().take(80).flat_map(char::escape_debug));
    out.push_str(if text.chars().nth(80).is_some() { "…'" } else { "'" });
    out
}

/// A key or the name of a variable as it may be shown: as it is if it is plain, else not at all, since a value that
/// was put in a name's place may be a secret.
pub(super) fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.len() <= 80 && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        "(a name not shown)".to_owned()
    }
}
