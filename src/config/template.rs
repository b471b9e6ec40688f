//! The commented `hallpass.toml` that `hallpass init` writes, made from the same table that the reader follows.

use super::keys::{KEYS, Key, Kind};

const HEAD: &str = "\
# Settings of Hallpass. A line that begins with # and no space is a setting at its default: take the # away and
# change the value. \"e.g.\" marks a setting that has no default. Paths are relative to this file's directory.
#
# The environment wins over this file: HALLPASS_ISSUER is issuer, HALLPASS_LISTEN__PUBLIC is public in [listen].
# A setting that is misspelled or out of its range keeps the broker from starting; every mistake is listed at once.
";

/// The text of a new `hallpass.toml`: every setting, commented, at its default, and `database.url` in force if given.
pub fn template(database_url: Option<&str>) -> String {
    let mut out = HEAD.to_owned();
    let mut current = "";
    for key in KEYS {
        let (table, name) = key.split();
        if table != current {
            current = table;
            out.push_str(&format!("\n[{table}]"));
        }
        out.push_str(&format!("\n# {}{}.\n", key.about, range(key)));
        match (database_url, key.path) {
            (Some(url), "database.url") => out.push_str(&format!("{name} = {}\n", quoted(url))),
            _ => out.push_str(&setting(key, name)),
        }
    }
    out
}

fn range(key: &Key) -> String {
    key.limits().map(|limits| format!(" ({limits})")).unwrap_or_default()
}

fn setting(key: &Key, name: &str) -> String {
    match &key.kind {
        Kind::Text { default: Some(default), .. } | Kind::Choice { default, .. } => {
            format!("#{name} = {}\n", quoted(default))
        }
        Kind::Text { default: None, example, .. } => format!("# e.g. {name} = {}\n", quoted(example)),
        Kind::Integer { default, .. } => format!("#{name} = {default}\n"),
        Kind::Boolean { default } => format!("#{name} = {default}\n"),
        Kind::Command { example } => format!("# e.g. {name} = {example}\n"),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
