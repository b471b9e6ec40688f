//! The house has floors, and imports go downward only. This reads the sources and fails on an edge that is not listed.
//!
//! Code under `#[cfg(test)]` is left out, and so are `main.rs` and `lib.rs`: the first starts `app`, the second is the
//! map.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests: a panic is how they fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the ground up. A room may use every room on a lower floor.
const FLOORS: &[&[&str]] = &[
    &["hallpass_verify"],
    &["world", "error", "secret", "model", "supervise", "yield_queue"],
    &["policy", "vault", "keyring", "config", "catalog"],
    // Transport: `outbound` dials, `listen` accepts. Neither knows what it carries.
    &["store", "outbound", "listen"],
    &["audit", "registry"],
    &["trust", "credential"],
    &["issue", "broker"],
    &["manage"],
    &["http", "cli"],
    &["app"],
];

/// What is allowed beside that: `(room, may use)`. None of these pairs makes a circle.
const ALSO: &[(&str, &str)] = &[
    ("error", "world"),
    ("secret", "world"),
    ("secret", "error"),
    ("model", "world"),
    ("model", "error"),
    ("model", "secret"),
    ("yield_queue", "supervise"), // its task is an essential one
    // The ledger shows a change to the registry once it is durable, before anybody is answered (P3, P9).
    ("audit", "registry"),
    ("cli", "app"), // `serve` and `quickstart` start it
];

/// What is forbidden although it goes downward.
const NEVER: &[(&str, &str)] = &[("app", "cli")];

/// What only these rooms may name: crates, and what opens an upstream's secret. `credential` opens one for what is recorded;
/// whoever else named these could open one for anything (P4).
const CONFINED: &[(&str, &[&str])] = &[
    ("axum", &["http", "app"]),
    ("sqlx", &["store"]),
    ("MayOpenCredentials", &["vault", "credential"]),
    ("open_credential", &["vault", "credential"]),
];

/// Rooms that stay pure, and the words that would end it.
const PURE: &[&str] = &["policy", "vault", "keyring", "config", "catalog"];
const IMPURE: &[&str] = &["async", "await", "sqlx", "axum", "hyper"];

#[test]
fn imports_go_downward_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut house = House::default();
    for (dir, verify) in [("src", false), ("crates/hallpass-verify/src", true)] {
        for file in rust_files(&root.join(dir)) {
            let inside = file.strip_prefix(root.join(dir)).expect("below the folder");
            let source = fs::read_to_string(&file).expect("a readable source");
            house.read(&Path::new(dir).join(inside), &modules(inside, verify), &source);
        }
    }
    assert!(house.edges > 0, "no import was found at all: this test has gone blind");
    let wrong = house.wrong();
    assert!(wrong.is_empty(), "\n{}\nThe tables are at the top of {}\n", wrong.join("\n"), file!());
}

/// What was read so far.
#[derive(Default)]
struct House {
    edges: usize,
    /// `(module path, complaint)`
    found: Vec<(Vec<String>, String)>,
    /// Modules that exist under `#[cfg(test)]` only.
    tests: BTreeSet<Vec<String>>,
}

impl House {
    fn read(&mut self, file: &Path, path: &[String], source: &str) {
        let Some(room) = path.first().filter(|room| !["main", "lib"].contains(&room.as_str())) else { return };
        let mut complain = |line: usize, what: String| {
            self.found.push((path.to_vec(), format!("{}:{line}: {what}", file.display())));
        };
        if floor(room).is_none() {
            complain(1, format!("`{room}` is not on the map: give it a floor in FLOORS"));
            return;
        }
        let mut reader = Reader { tokens: tokens(source), path: path.to_vec(), seen: Vec::new(), tests: Vec::new() };
        reader.read();
        for (line, word, is_path) in reader.seen {
            let edge = word == "hallpass_verify" || (is_path && room != "hallpass_verify");
            if edge && word != *room {
                self.edges += 1;
                if let Some(why) = forbidden(room, &word) {
                    complain(line, why);
                }
            }
            if is_path {
                continue;
            }
            if let Some((_, rooms)) =
                CONFINED.iter().find(|(name, rooms)| *name == word && !rooms.contains(&room.as_str()))
            {
                complain(line, format!("`{word}` may be named in {} only, not in `{room}`", rooms.join(", ")));
            }
            if PURE.contains(&room.as_str()) && IMPURE.contains(&word.as_str()) {
                complain(line, format!("`{room}` is pure: no async, no SQL, no HTTP, so no `{word}`"));
            }
        }
        self.tests.extend(reader.tests);
    }

    /// All complaints, without those about files that are test modules.
    fn wrong(self) -> Vec<String> {
        let test_only = |path: &[String]| self.tests.iter().any(|test| path.starts_with(test));
        self.found.iter().filter(|(path, _)| !test_only(path)).map(|(_, what)| what.clone()).collect()
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Why `from` may not use `to`, if it may not.
fn forbidden(from: &str, to: &str) -> Option<String> {
    if to == "*" {
        return Some(format!("`{from}` imports the crate root as a whole, which hides what it uses: name the rooms"));
    }
    let (Some(low), Some(high)) = (floor(to), floor(from)) else {
        return Some(format!("`{to}` is not a room: name the room that it lives in, or give it a floor in FLOORS"));
    };
    if NEVER.contains(&(from, to)) {
        return Some(format!("`{from}` must never use `{to}` (NEVER)"));
    }
    if low < high || ALSO.contains(&(from, to)) {
        return None;
    }
    let place = if low == high { "the same floor, and the pair is not listed in ALSO" } else { "a higher floor" };
    Some(format!("`{from}` may not use `{to}`: imports go downward only, and `{to}` is on {place}"))
}

/// `broker/dial.rs` → `broker`, `dial`; everything in the verify crate is one room.
fn modules(inside: &Path, verify: bool) -> Vec<String> {
    let mut path: Vec<String> =
        inside.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    path.pop_if(|last| last == "mod" || (verify && last == "lib"));
    if verify {
        path.insert(0, "hallpass_verify".into());
    }
    path
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a source folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|ext| ext == "rs") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

/// Walks over the tokens of one file.
struct Reader {
    tokens: Vec<(usize, String)>,
    /// Where we are, inline modules included.
    path: Vec<String>,
    /// `(line, word, whether it is the first segment of a path from the crate root)`
    seen: Vec<(usize, String, bool)>,
    tests: Vec<Vec<String>>,
}

impl Reader {
    fn at(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |(_, text)| text)
    }

    fn read(&mut self) {
        let (mut i, mut depth, mut inline) = (0, 0_usize, Vec::new());
        while i < self.tokens.len() {
            if let Some(after) = self.skip_test_item(i) {
                i = after;
                continue;
            }
            let (line, text) = self.tokens.get(i).cloned().expect("inside");
            match text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.pop_if(|opened| *opened == depth).is_some() {
                        self.path.pop();
                    }
                }
                "mod" if self.at(i + 2) == "{" => {
                    self.path.push(self.at(i + 1).to_owned());
                    inline.push(depth);
                }
                "crate" | "super" | "self" if i == 0 || self.at(i - 1) != "::" => self.follow(i, self.path.clone()),
                _ => self.seen.push((line, text, false)),
            }
            i += 1;
        }
    }

    /// Follows a path or a tree of `use` from where it is `within`, and notes the rooms that it reaches.
    fn follow(&mut self, mut i: usize, mut within: Vec<String>) {
        loop {
            let (line, text) = self.tokens.get(i).cloned().unwrap_or_default();
            match text.as_str() {
                "crate" => within.clear(),
                "super" => drop(within.pop()),
                "self" => {}
                "{" => {
                    let (mut depth, mut j) = (1, i + 1);
                    self.follow(j, within.clone());
                    while depth > 0 && j < self.tokens.len() {
                        match self.at(j) {
                            "{" => depth += 1,
                            "}" => depth -= 1,
                            "," if depth == 1 => self.follow(j + 1, within.clone()),
                            _ => {}
                        }
                        j += 1;
                    }
                    return;
                }
                _ => {
                    if within.is_empty() && text != "}" {
                        self.seen.push((line, text, true));
                    }
                    return;
                }
            }
            if self.at(i + 1) != "::" {
                let whole = self.at(i + 1) == "as" || (text == "self" && matches!(self.at(i + 1), "," | "}"));
                if within.is_empty() && whole {
                    self.seen.push((line, "*".into(), true));
                }
                return;
            }
            i += 2;
        }
    }

    /// If a `#[cfg(test)]` module or import starts here: where it ends.
    fn skip_test_item(&mut self, start: usize) -> Option<usize> {
        let is = |i: usize, words: &[&str]| words.iter().enumerate().all(|(n, word)| self.at(i + n) == *word);
        if !is(start, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            return None;
        }
        let mut i = start + 7;
        while is(i, &["#", "["]) {
            i = self.closing(i + 1) + 1;
        }
        if self.at(i) == "pub" {
            i += 1;
            if self.at(i) == "(" {
                i = self.closing(i) + 1;
            }
        }
        match self.at(i) {
            "use" => (i..self.tokens.len()).find(|end| self.at(*end) == ";"),
            "mod" if self.at(i + 2) == "{" => Some(self.closing(i + 2) + 1),
            "mod" => {
                let mut path = self.path.clone();
                path.push(self.at(i + 1).to_owned());
                self.tests.push(path);
                Some(i + 3)
            }
            _ => None,
        }
    }

    /// The bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for i in open..self.tokens.len() {
            match self.at(i) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return i;
            }
        }
        self.tokens.len()
    }
}

/// Words, `::` and single signs with their lines; no comments, no literals.
fn tokens(source: &str) -> Vec<(usize, String)> {
    let (mut out, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r').map(|after| after.trim_start_matches('#'));
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(after) = raw.filter(|after| word <= 2 && after.starts_with('"')) {
            let hashes = rest.len() - after.len() - rest.find(['#', '"']).unwrap_or(0);
            let head = rest.len() - after.len() + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            rest.get(head..).and_then(|body| body.find(&end)).map_or(rest.len(), |at| head + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            // A lifetime has no closing quote after its first letter.
            let mut after = rest.chars().skip(1);
            if after.next() == Some('\\') || after.next() == Some('\'') { quoted(rest, '\'') } else { 1 }
        } else if word > 0 {
            out.push((line, rest.get(..word).unwrap_or_default().to_owned()));
            word
        } else if rest.starts_with("::") {
            out.push((line, "::".to_owned()));
            2
        } else {
            if !first.is_whitespace() {
                out.push((line, first.to_string()));
            }
            first.len_utf8()
        };
        let (eaten, left) = rest.split_at(len);
        line += eaten.matches('\n').count();
        rest = left;
    }
    out
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut i) = (0_usize, 0);
    while let Some(rest) = text.get(i..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        i += step;
        if depth == 0 {
            break;
        }
    }
    i
}

/// What this test says about a made-up file.
fn complaints(file: &str, source: &str) -> Vec<String> {
    let inside = Path::new(file).strip_prefix("src").expect("below src");
    let mut house = House::default();
    house.read(Path::new(file), &modules(inside, false), source);
    house.wrong()
}

#[test]
fn a_forbidden_edge_is_caught_however_it_is_written() {
    let said = complaints("src/issue/mint.rs", "//! Doc.\nuse std::fmt;\nuse crate::broker::call;\n");
    assert_eq!(said.len(), 1, "{said:?}");
    let want = "src/issue/mint.rs:3: `issue` may not use `broker`: imports go downward only, and `broker` is on the same floor";
    assert!(said.iter().all(|line| line.starts_with(want)), "{said:?}");

    for source in [
        "use crate::{\n    model::Agent,\n    broker::{call, dial},\n};",
        "use super::super::broker;",
        "use super::{super::broker::call, narrow};",
        "mod inner { use super::super::super::broker::call; }",
        "fn f() { let x = 'a'; let c = '\"'; let s = \"{\"; crate::broker::call(r#\"\"#, x) }",
        "#[cfg(test)]\nmod tests { fn t() {} }\nfn f() { crate::broker::call() }",
        "use crate::*;",
        "use crate as house;",
        "use crate::{self as house};",
        "use crate::nowhere::Thing;",
        "fn f() { sqlx::query(\"SELECT 1\") }",
        "use axum::Router;",
    ] {
        assert_eq!(complaints("src/issue/mint.rs", source).len(), 1, "{source}");
    }
}

#[test]
fn each_rule_has_an_edge_that_breaks_it() {
    for (file, source) in [
        ("src/world.rs", "use crate::error::Error;"),
        ("src/error.rs", "use crate::http::reply;"),
        ("src/vault/mod.rs", "use crate::store::Db;"),
        ("src/registry/mod.rs", "use crate::audit::Log;"),
        ("src/broker/dial.rs", "use crate::issue::mint;"),
        ("src/http/admin/table.rs", "use crate::cli::agent;"),
        ("src/manage/agents.rs", "use crate::http::reply;"),
        ("src/manage/agents.rs", "use axum::Json;"),
        ("src/http/routes.rs", "use crate::app::App;"),
        ("src/cli/status.rs", "use crate::http::reply;"),
        ("src/app/mod.rs", "use crate::cli::serve;"),
        ("src/policy/mod.rs", "async fn f() {}"),
        ("src/keyring/mod.rs", "fn f() { g().await }"),
        ("src/config/mod.rs", "use hyper::Uri;"),
        ("src/catalog/mod.rs", "use crate::policy::parse_manifest;"),
        ("src/http/token.rs", "use sqlx::Row;"),
        ("src/broker/mod.rs", "use axum::body::Body;"),
        ("src/listen/protocol.rs", "use axum::Router;"),
        ("src/listen/accept.rs", "use crate::http::routes;"),
        ("src/attic.rs", "fn f() {}"),
        ("src/credential/mod.rs", "use crate::trust::Source;"),
        ("src/credential/mod.rs", "use crate::broker::call;"),
        ("src/trust/mod.rs", "use crate::credential::Chosen;"),
        ("src/broker/inject.rs", "use crate::vault::MayOpenCredentials;"),
        ("src/http/admin/rewrap.rs", "fn f() { vault.open_credential(&leave, id, 1, &sealed) }"),
    ] {
        assert_eq!(complaints(file, source).len(), 1, "{file}: {source}");
    }
}

#[test]
fn an_allowed_edge_is_not_caught() {
    for (file, source) in [
        ("src/secret.rs", "use crate::world::Entropy;"),
        ("src/broker/mod.rs", "use crate::{audit::Recorded, registry, vault};\nuse hallpass_verify::Claims;"),
        (
            "src/broker/mod.rs",
            "mod dial; pub(crate) use self::dial::send; pub(in crate::broker) fn f<'a>(x: &'a str) {}",
        ),
        (
            "src/broker/mod.rs",
            "// use crate::http::x;\n/* crate::cli::y /* nested */ crate::cli::z */ const S: &str = \"crate::http::x\";",
        ),
        (
            "src/broker/mod.rs",
            "#[cfg(test)]\n#[allow(dead_code)]\nmod tests { use crate::http::reply; mod more {} fn f() { crate::cli::x() } }",
        ),
        ("src/broker/mod.rs", "#[cfg(test)]\npub(crate) use crate::http::reply;"),
        ("src/cli/serve.rs", "use crate::app::App;"),
        ("src/broker/inject.rs", "use crate::credential::Draft;"),
        ("src/credential/leave.rs", "use crate::audit::Recorded;\nuse crate::vault::MayOpenCredentials;"),
        ("src/app/mod.rs", "use axum::Router; use crate::http::routes;"),
        ("src/store/mod.rs", "use sqlx::Row; use super::config::Database;"),
        ("src/main.rs", "fn main() { hallpass::cli::main() }"),
    ] {
        assert_eq!(complaints(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn a_file_that_is_a_test_module_is_left_out() {
    let mut house = House::default();
    house.read(Path::new("src/vault/mod.rs"), &["vault".into()], "#[cfg(test)]\nmod tests;");
    house.read(Path::new("src/vault/tests.rs"), &["vault".into(), "tests".into()], "use crate::store::Db;");
    assert_eq!(house.wrong(), Vec::<String>::new());
}
