//! Walks the file's tables and the environment along the table of keys, and keeps what has the right form.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::check::{Found, Value, check};
use super::keys::{self, KEYS, Key, Kind, VARIABLE_PREFIX};
use super::links::is_service_link;
use super::mistake::{Mistake, Place, plain};

/// More is no settings file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What was given, and what was wrong with it.
pub(super) struct Reader {
    given: BTreeMap<&'static str, (Value, Place)>,
    /// Keys that have a mistake already: comparing them with others would only repeat it.
    spoiled: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
    /// Variables of the environment that bear our prefix and are like none of our settings.
    not_ours: Vec<String>,
    base: PathBuf,
    parsed: bool,
}

impl Reader {
    /// Reads the file, then the environment over it.
    pub(super) fn new(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Self {
        let base = file.and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let mut reader = Self {
            given: BTreeMap::new(),
            spoiled: BTreeSet::new(),
            mistakes: Vec::new(),
            not_ours: Vec::new(),
            base,
            parsed: true,
        };
        if let Some(path) = file {
            reader.read_file(path);
        }
        reader.read_environment(env);
        reader
    }

    /// Whether the file could be read; if not, what it lacks says nothing.
    pub(super) fn parsed(&self) -> bool {
        self.parsed
    }

    /// Every mistake, in the order of the file.
    pub(super) fn take_not_ours(&mut self) -> Vec<String> {
        std::mem::take(&mut self.not_ours)
    }

    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by(|a, b| a.at.cmp(&b.at));
        self.mistakes
    }

    /// `path` seen from the directory of the settings file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Whether somebody set `path`, rightly or not.
    pub(super) fn is_given(&self, path: &'static str) -> bool {
        self.given.contains_key(path) || self.spoiled.contains(path)
    }

    /// Where `path` was set.
    pub(super) fn place(&self, path: &'static str) -> Place {
        self.given.get(path).map_or(Place::Nowhere, |(_, place)| place.clone())
    }

    /// The text at `path`, or its default.
    pub(super) fn text(&self, path: &'static str) -> Option<Zeroizing<String>> {
        match (self.given.get(path), keys::find(path).map(|key| &key.kind)) {
            (Some((Value::Text(text), _)), _) => Some(text.clone()),
            (None, Some(Kind::Text { default: Some(default), .. } | Kind::Choice { default, .. })) => {
                Some(Zeroizing::new((*default).to_owned()))
            }
            _ => None,
        }
    }

    /// The number at `path`, or its default.
    pub(super) fn integer(&self, path: &'static str) -> u64 {
        match (self.given.get(path), keys::find(path).map(|key| &key.kind)) {
            (Some((Value::Integer(number), _)), _) => *number,
            (_, Some(Kind::Integer { default, .. })) => *default,
            _ => 0,
        }
    }

    /// The switch at `path`, or its default.
    pub(super) fn boolean(&self, path: &'static str) -> bool {
        match (self.given.get(path), keys::find(path).map(|key| &key.kind)) {
            (Some((Value::Boolean(value), _)), _) => *value,
            (_, Some(Kind::Boolean { default })) => *default,
            _ => false,
        }
    }

    /// The command at `path`.
    pub(super) fn command(&self, path: &'static str) -> Option<&[String]> {
        match self.given.get(path) {
            Some((Value::Command(argv), _)) => Some(argv),
            _ => None,
        }
    }

    /// Notes what is wrong with the value at `path`.
    pub(super) fn mistake(&mut self, path: &'static str, problem: impl Into<String>, fix: impl Into<String>) {
        self.mistake_at(path, self.place(path), problem, fix);
    }

    /// Notes what is wrong with the value at `path`, which came from `at`.
    pub(super) fn mistake_at(
        &mut self,
        path: &'static str,
        at: Place,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.spoiled.insert(path);
        self.mistakes.push(Mistake { key: path.to_owned(), at, problem: problem.into(), fix: fix.into() });
    }

    /// Notes that `path` does not go together with `other`, unless one of them is wrong by itself. The place is that of
    /// whichever was set.
    pub(super) fn mismatch(&mut self, path: &'static str, other: &'static str, problem: String, fix: String) {
        if self.spoiled.contains(path) || self.spoiled.contains(other) {
            return;
        }
        let at = if self.is_given(path) { self.place(path) } else { self.place(other) };
        self.mistake_at(path, at, problem, fix);
    }

    fn read_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let mut bytes = Zeroizing::new(Vec::new());
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        let wrong = match read {
            Err(error) => Some((
                format!("cannot be read ({error})"),
                "write it with `hallpass init`, or name another with --config",
            )),
            Ok(size) if size as u64 > MAX_FILE_BYTES => {
                Some(("is larger than 1 MiB".to_owned(), "name the settings file, which is a few KiB"))
            }
            Ok(_) => None,
        };
        if let Some((problem, fix)) = wrong {
            self.parsed = false;
            let at = Place::WholeFile(name);
            return self.mistakes.push(Mistake { key: String::new(), at, problem, fix: fix.to_owned() });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.read_text(&name, text),
            Err(error) => {
                self.parsed = false;
                let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
                let at = Place::File { name, line, column: None };
                let (problem, fix) = ("is not UTF-8".to_owned(), "save the file as UTF-8".to_owned());
                self.mistakes.push(Mistake { key: String::new(), at, problem, fix });
            }
        }
    }

    fn read_text(&mut self, name: &str, text: &str) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut seen = BTreeSet::new();
        for error in errors {
            self.parsed = false;
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            // What follows an error on its line is mostly its echo.
            if seen.insert(line) {
                let at = Place::File { name: name.to_owned(), line, column: Some(column) };
                // Only the parser's message, not its excerpt: the line may hold a password.
                let problem = format!("is no TOML ({})", error.message().replace('\n', " "));
                let fix = "write NAME = VALUE, texts in double quotes".to_owned();
                self.mistakes.push(Mistake { key: String::new(), at, problem, fix });
            }
        }
        if !self.parsed {
            return;
        }
        let place = |offset: usize| Place::File { name: name.to_owned(), line: position(text, offset).0, column: None };
        for (key, value) in root.get_ref() {
            let top: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Table(table) if keys::is_table(top) => self.read_table(top, table, &place),
                _ if keys::is_table(top) => self.mistakes.push(Mistake {
                    key: top.to_owned(),
                    at: place(key.span().start),
                    problem: "is a table, not a value".to_owned(),
                    fix: format!("write [{top}] on a line of its own, and its settings below"),
                }),
                found => self.take_or_unknown("", top, found, place(key.span().start)),
            }
        }
    }

    fn read_table(&mut self, top: &str, table: &DeTable<'_>, place: &impl Fn(usize) -> Place) {
        for (key, value) in table {
            let key: &Spanned<_> = key;
            self.take_or_unknown(top, key.get_ref(), value.get_ref(), place(key.span().start));
        }
    }

    /// At the top of the file a name with a dot was quoted: `"listen.public"` is not `public` in `[listen]`.
    fn take_or_unknown(&mut self, table: &str, name: &str, found: &DeValue<'_>, at: Place) {
        let path = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
        let path = path.as_str();
        let quoted_dot = name.contains('.');
        if let Some(key) = keys::find(path).filter(|_| !quoted_dot) {
            return self.take(key, &Found::Toml(found), at);
        }
        let is_table = matches!(found, DeValue::Table(_)) && table.is_empty();
        let meant = if is_table { keys::closest_table(path).map(|table| format!("[{table}]")) } else { None };
        let meant = meant.or_else(|| keys::closest(path).map(str::to_owned));
        self.unknown(plain(path), at, if is_table { "table" } else { "setting" }, meant);
    }

    fn unknown(&mut self, key: String, at: Place, what: &str, meant: Option<String>) {
        let problem = format!("there is no such {what}");
        let fix = match meant {
            Some(meant) => format!("did you mean {meant}? else remove it"),
            None => "remove it".to_owned(),
        };
        self.mistakes.push(Mistake { key, at, problem, fix });
    }

    fn read_environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        let ours = env.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
        // What the command line takes is no setting of the broker.
        const OF_COMMANDS: [&str; 8] = [
            "HALLPASS_CONFIG",
            "HALLPASS_SERVER",
            "HALLPASS_SERVER_CA",
            "HALLPASS_ADMIN_CERT",
            "HALLPASS_ADMIN_KEY",
            "HALLPASS_CREDENTIALS",
            "HALLPASS_CLIENT_ID",
            "HALLPASS_CLIENT_SECRET",
        ];
        let ours =
            ours.filter(|(name, _)| !OF_COMMANDS.contains(&name.as_str()) && !name.starts_with("HALLPASS_TEST_"));
        let ours: BTreeMap<String, Zeroizing<String>> = ours.map(|(name, value)| (name, value.into())).collect();
        let mut unknown = Vec::new();
        for (name, value) in &ours {
            match KEYS.iter().find(|key| key.variable() == *name) {
                Some(key) => self.take(key, &Found::Variable(value), Place::Variable(name.clone())),
                None if is_service_link(name, value) => {}
                None => unknown.push(name),
            }
        }
        // The master key's own variable may well bear our prefix; without the file we do not know its name.
        if !self.parsed {
            return;
        }
        let master_key = self.text("vault.master_key_env").unwrap_or_default();
        for name in unknown.into_iter().filter(|name| **name != *master_key) {
            let path = name.trim_start_matches(VARIABLE_PREFIX).to_ascii_lowercase().replace("__", ".");
            let meant = match path.as_str() {
                // What other programs call it.
                "port" | "host" | "addr" | "address" | "bind" | "listen" => Some("listen.public"),
                _ => keys::closest(&path).or_else(|| keys::begins_like(&path)),
            };
            let meant = meant.and_then(keys::find).map(Key::variable);
            let fix = match meant {
                Some(meant) => format!("did you mean {meant}? else remove it"),
                // Like a setting of ours, in a table that we do not have: a slip.
                None if path.contains('.') || path.is_empty() => {
                    format!("remove it, or rename it if it is not for Hallpass: {VARIABLE_PREFIX} begins our settings")
                }
                // An image's version, a link of Docker's, a deployment's own variable.
                None => {
                    self.not_ours.push(plain(name));
                    continue;
                }
            };
            self.mistakes.push(Mistake {
                key: String::new(),
                at: Place::Variable(plain(name)),
                problem: "there is no such setting".to_owned(),
                fix,
            });
        }
    }

    fn take(&mut self, key: &'static Key, found: &Found<'_>, at: Place) {
        match check(key, found) {
            Ok(value) => {
                self.given.insert(key.path, (value, at));
            }
            Err(problem) => self.mistake_at(key.path, at, problem, key.fix()),
        }
    }
}

/// Line and column, from 1, of a byte.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.get(start..).unwrap_or_default().chars().count() + 1)
}
