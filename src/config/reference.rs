//! The settings as a list, for the reference in `docs/settings.md`.

use super::keys::{KEYS, Kind};

/// One setting, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `table.name`, or `name` at the top of the file.
    pub path: &'static str,
    /// The environment variable that sets it.
    pub variable: String,
    /// Its value where nothing is set, as the file writes it; none: it has no value then.
    pub default: Option<String>,
    /// An example, where there is no default.
    pub example: Option<String>,
    /// Which values it may have, where these are few or have limits.
    pub limits: Option<String>,
    /// What it means.
    pub about: &'static str,
}

/// Every setting, in the order of the file.
pub fn settings() -> Vec<Setting> {
    let setting = |key: &super::keys::Key| {
        let (default, example) = match &key.kind {
            Kind::Text { default: Some(default), .. } | Kind::Choice { default, .. } => (Some(quoted(default)), None),
            Kind::Text { default: None, example } => (None, Some(quoted(example))),
            Kind::Integer { default, .. } => (Some(default.to_string()), None),
            Kind::Boolean { default } => (Some(default.to_string()), None),
            Kind::Command { example } => (None, Some((*example).to_owned())),
        };
        Setting { path: key.path, variable: key.variable(), default, example, limits: key.limits(), about: key.about }
    };
    KEYS.iter().map(setting).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
