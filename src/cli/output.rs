//! Printing: JSON for programs, tables for people, colour on a terminal only.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::world::Millis;

/// Where commands print to.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) json: bool,
    /// Why standard output took no more. Once it did not, nothing more is written: a gap would not be seen.
    broken: Arc<OnceLock<io::Error>>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, broken: Arc::default() }
    }

    /// One line to standard output. Whether it could be written is asked at the end: see [`Output::broken`].
    pub(super) fn line(&self, text: &str) {
        self.painted(&harmless(text));
    }

    /// The same for a text that is ours alone, with what colours it.
    pub(super) fn painted(&self, text: &str) {
        if self.broken.get().is_none()
            && let Err(error) = write_line(text)
        {
            // Only this thread writes, so nobody else can have set it.
            _ = self.broken.set(error).is_ok();
        }
    }

    /// One line, for whoever goes on without it. Past the buffer of standard output, which would try it again at the end.
    pub(super) fn try_line(&self, text: &str) -> io::Result<()> {
        let mut stdout = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        stdout.write_all(format!("{}\n", harmless(text)).as_bytes())
    }

    /// Why standard output took no more, if it did not take everything so far.
    pub(super) fn broken(&self) -> Option<&io::Error> {
        if self.broken.get().is_none()
            && let Err(error) = io::stdout().flush()
        {
            _ = self.broken.set(error).is_ok();
        }
        self.broken.get()
    }

    /// The same for what is kept byte for byte, unless somebody looks at it.
    pub(super) fn exact(&self, text: &str) {
        if io::stdout().is_terminal() { self.line(text) } else { self.painted(text) }
    }

    /// One line to standard error.
    pub(super) fn note(&self, text: &str) {
        _ = writeln!(io::stderr().lock(), "{}", harmless(text)).is_ok();
    }

    /// Why it failed.
    pub(super) fn error(&self, text: &str) {
        if self.json {
            self.note(&serde_json::json!({ "error": text }).to_string());
        } else {
            self.note(&format!("hallpass: {text}"));
        }
    }

    /// The whole answer as JSON, or what `human` makes of it.
    pub(super) fn show<T: Serialize>(&self, value: &T, human: impl FnOnce(&Self, &T)) {
        if self.json {
            self.line(&json(value).to_string());
        } else {
            human(self, value);
        }
    }

    /// `name  value`, a line each; what is null is left out.
    pub(super) fn fields(&self, value: &impl Serialize) {
        let value = json(value);
        let Some(object) = value.as_object() else { return self.line(&plain(&value)) };
        let width = object.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let text = if name.ends_with("_at") { time(value) } else { plain(value) };
            self.line(&format!("{name:width$}  {text}"));
        }
    }

    /// A table with these columns; or, if there is nothing in it, `empty`.
    pub(super) fn table<T: Serialize>(&self, rows: &[T], columns: &[&str], empty: &str) {
        if rows.is_empty() {
            return self.line(empty);
        }
        let rows: Vec<Value> = rows.iter().map(json).collect();
        let cell = |row: &Value, column: &str| {
            let value = row.get(column).unwrap_or(&Value::Null);
            if column.ends_with("_at") { time(value) } else { plain(value) }
        };
        let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|column| column.to_uppercase()).collect()];
        lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
        let width =
            |n: usize| lines.iter().filter_map(|line| line.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            self.line(cells.join("  ").trim_end());
        }
    }
}

fn write_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Whether a person looks at standard error, so that progress makes sense.
pub(super) fn progress_is_seen() -> bool {
    io::stderr().is_terminal()
}

/// Asks somebody at a terminal; where there is none, the answer is no.
pub(super) fn confirm(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr().lock(), "{} [y/N] ", harmless(question))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A value for people.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "-".to_owned(),
        Value::Array(all) if all.iter().all(Value::is_string) => {
            all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// As JSON, with its members in alphabetical order.
pub(super) fn json(value: &impl Serialize) -> Value {
    // What fails here has a map whose keys are no texts; no answer has one.
    serde_json::to_value(value).unwrap_or_default()
}

/// Unix milliseconds for people: RFC 3339 in UTC.
fn time(value: &Value) -> String {
    value.as_i64().map_or_else(|| plain(value), rfc3339)
}

/// Unix milliseconds as RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(millis: Millis) -> String {
    let seconds = OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000));
    seconds.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| millis.to_string())
}

/// What a terminal would obey (escape sequences), or what turns the direction of what follows, is written as JSON escapes it:
/// names and complaints may come from another machine, and from whoever could write there.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let one = |c: char| if is_bad(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_came_from_elsewhere() {
        assert_eq!(harmless("a\tb\nÜ 漢"), "a\tb\nÜ 漢");
        assert_eq!(harmless("\u{1b}[2J\u{9b}1m\u{202e}\r"), "\\u001b[2J\\u009b1m\\u202e\\u000d");
        let json = serde_json::json!({ "name": "\u{9b}2J\u{7f}" });
        assert_eq!(serde_json::from_str::<Value>(&harmless(&json.to_string())).unwrap(), json, "JSON stays what it is");
    }
}
