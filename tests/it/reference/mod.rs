//! The reference pages under `docs/` are made from the program. A page that says something else fails here;
//! `HALLPASS_UPDATE_DOCS=1 cargo test --test it reference` writes all of them.

mod audit_records;
mod cli;
mod errors;
mod metrics;
mod settings;
mod source;
mod types;
mod yaml;

use std::path::Path;

/// What each page begins with, below its headline.
const MADE: &str =
    "<!-- Made from the program by `HALLPASS_UPDATE_DOCS=1 cargo test --test it reference`; do not edit. -->";

/// Fails where the page is not `text`, or writes it, if it is told to.
fn page_is(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("HALLPASS_UPDATE_DOCS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if there == text {
        return;
    }
    let (mut page, mut program) = (there.lines(), text.lines());
    let (n, page, program) = (1..)
        .map(|n| (n, page.next(), program.next()))
        .find(|(_, page, program)| page != program || page.is_none())
        .unwrap();
    panic!(
        "docs/{name} is behind the program, from line {n} on:\n  page:    {page:?}\n  program: {program:?}\n\
         Run: HALLPASS_UPDATE_DOCS=1 cargo test --test it reference"
    );
}

/// A row of a table; `|` in a cell would end it.
fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The head of a table.
fn head(cells: &[&str]) -> String {
    format!("{}|{}\n", row(cells), "---|".repeat(cells.len()))
}

/// In backquotes.
fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// As a sentence: a capital letter, a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let Some(first) = letters.next() else { return String::new() };
    // The name of a setting or a member is written as it is.
    let is_name =
        text.split_whitespace().next().is_some_and(|word| word.trim_end_matches(['.', ',', ':']).contains(['_', '.']));
    let text = if is_name { text.trim().to_owned() } else { format!("{}{}", first.to_uppercase(), letters.as_str()) };
    if text.ends_with(['.', ':', '?', '!', '`']) && !text.ends_with('`') { text } else { format!("{text}.") }
}
