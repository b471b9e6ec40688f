//! The documents hold what they show: links lead somewhere, and what a reader is told to type works.
//!
//! What a fenced block is, its language says; CONTRIBUTING.md ("Documents") has the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::readme::{check_tools, tests_there_are, walk};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document, taken apart.
pub(crate) struct Page {
    /// Its path in the repository.
    pub(crate) name: String,
    anchors: BTreeSet<String>,
    links: Vec<String>,
    /// Language and text of each fenced block, with the headline that it stands under.
    pub(crate) blocks: Vec<Block>,
    /// The test that runs its `sh` and `bash` blocks, where it says one: `<!-- sh: NAME -->`.
    runner: Option<String>,
}

pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn of(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let mut page = Self {
            name: name.to_owned(),
            anchors: BTreeSet::new(),
            links: Vec::new(),
            blocks: Vec::new(),
            runner: None,
        };
        let (mut heading, mut block): (Option<String>, Option<Block>) = (None, None);
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => "indented".to_owned(),
                    };
                    block = Some(Block { language, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&part);
                    }
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::Html(part) | Event::InlineHtml(part) => {
                    let runner = part.split_once("<!-- sh: ").and_then(|(_, rest)| rest.split_once(" -->"));
                    page.runner = runner.map(|(name, _)| name.to_owned()).or(page.runner);
                }
                _ => {}
            }
        }
        page
    }

    /// As the web pages of a repository make anchors of headlines.
    fn add_anchor(&mut self, heading: &str) {
        let keep = |letter: char| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => Some(letter),
            _ => None,
        };
        let anchor: String = heading.to_lowercase().chars().filter_map(keep).collect();
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|one| !self.anchors.contains(one)).unwrap();
        self.anchors.insert(free);
    }

    /// All lines of the blocks of one language, in order.
    pub(crate) fn script(&self, language: &str) -> String {
        self.blocks.iter().filter(|block| block.language == language).map(|block| block.text.as_str()).collect()
    }
}

/// Every document of this repository.
pub(crate) fn pages() -> Vec<Page> {
    let mut names = Vec::new();
    collect(root(), &mut names);
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    names.iter().map(|path| Page::of(&name(path))).collect()
}

fn collect(folder: &Path, names: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                collect(&path, names);
            }
        } else if name.ends_with(".md") {
            names.push(path);
        }
    }
}

fn assert_none(mistakes: &[String]) {
    assert!(
        mistakes.is_empty(),
        "{}",
        mistakes.iter().fold(String::new(), |mut all, one| {
            writeln!(all, "\n{one}").unwrap();
            all
        })
    );
}

#[test]
fn no_link_is_dead() {
    let pages = pages();
    let by_name: BTreeMap<&str, &Page> = pages.iter().map(|page| (page.name.as_str(), page)).collect();
    let mut dead = Vec::new();
    let mut looked_at = 0;
    for page in &pages {
        for link in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            looked_at += 1;
            let (path, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.name.clone() } else { beside(&page.name, path) };
            if !root().join(&target).exists() {
                dead.push(format!("{}: {link} leads to {target}, which is not there", page.name));
                continue;
            }
            let Some(anchor) = anchor else { continue };
            match by_name.get(target.as_str()) {
                Some(other) if other.anchors.contains(anchor) => {}
                Some(_) => dead.push(format!("{}: {link}: no headline of {target} makes this anchor", page.name)),
                None => dead.push(format!("{}: {link}: {target} is no document with anchors", page.name)),
            }
        }
    }
    assert!(looked_at > 100, "{looked_at}");
    assert_none(&dead);
}

/// A path as it is written in a document, from the root of the repository.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A document that no other one leads to is found by nobody.
#[test]
fn every_page_is_linked_from_the_index() {
    let pages_there = pages();
    let indexes = pages_there.iter().filter(|page| page.name.starts_with("docs/") && page.name.ends_with("/README.md"));
    let linked: BTreeSet<String> =
        indexes.flat_map(|index| index.links.iter().map(|link| beside(&index.name, link))).collect();
    let lost: Vec<String> = pages_there
        .iter()
        .map(|page| &page.name)
        .filter(|name| name.starts_with("docs/") && *name != "docs/README.md" && !linked.contains(*name))
        .map(|name| format!("{name} is not linked from docs/README.md, nor from the README.md of its folder"))
        .collect();
    assert_none(&lost);
}

#[test]
fn every_block_says_what_it_is() {
    const KNOWN: [&str; 12] =
        ["sh", "bash", "console", "text", "yaml", "toml", "json", "python", "js", "ts", "rust", "ini"];
    let mut unknown = Vec::new();
    for page in pages() {
        for block in page.blocks.iter().filter(|block| !KNOWN.contains(&block.language.as_str())) {
            unknown.push(format!(
                "{}: a block is '{}', and not one of {KNOWN:?}:\n{}",
                page.name, block.language, block.text
            ));
        }
    }
    assert_none(&unknown);
}

/// A page that has its own test names it; `bash` blocks are for those alone.
#[test]
fn every_named_runner_is_a_test() {
    let mut there = BTreeSet::new();
    tests_there_are(&root().join("tests"), &mut there);
    let mut mistakes = Vec::new();
    for page in pages() {
        match &page.runner {
            Some(runner) if !there.contains(runner) => {
                mistakes.push(format!("{}: there is no test {runner}", page.name));
            }
            None if !page.script("bash").is_empty() => mistakes.push(format!(
                "{}: a bash block is run by a test of its own: name it by <!-- sh: TEST -->, or write an sh block",
                page.name
            )),
            None if !page.script("sh").is_empty() && !is_run(&page.name) => {
                mistakes.push(format!("{}: sh blocks are run on the pages of docs/ alone: write console", page.name));
            }
            _ => {}
        }
    }
    assert_none(&mistakes);
}

/// The tutorial up to one of its headlines, for what goes on from there.
pub(crate) fn tutorial_until(headline: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let (before, _) = text.split_once(&format!("\n## {headline}\n")).unwrap();
    crate::readme::blocks(before, "sh")
}

/// Elsewhere (`deploy/`) are commands for root, which no test may run.
fn is_run(name: &str) -> bool {
    name == "README.md" || name.starts_with("docs/")
}

/// The `sh` blocks of each page, in order, in the folder and the shell in which the tutorial stands before its end.
#[test]
fn every_sh_block_works_as_shown() {
    if !check_tools(&["bash", "curl", "python3"]) {
        return;
    }
    let begin = tutorial_until("The end");
    let pages: Vec<Page> = pages().into_iter().filter(|page| page.runner.is_none() && is_run(&page.name)).collect();
    let scripts: Vec<(&str, String)> =
        pages.iter().map(|page| (page.name.as_str(), page.script("sh"))).filter(|(_, text)| !text.is_empty()).collect();
    assert!(scripts.len() > 2, "{scripts:?}");
    for (name, script) in scripts {
        println!("{name}");
        let said = walk(&format!("{begin}\n{script}"));
        assert!(!said.contains("sk-live-of-the-crm"), "{name} showed the secret:\n{said}");
    }
}

/// What needs a person, another machine or root is not run: its commands must exist, and their options.
#[test]
fn every_command_that_is_shown_exists() {
    let mut mistakes = Vec::new();
    let mut looked_at = 0;
    for page in pages() {
        for line in page.script("console").lines() {
            let Some(line) = line.strip_prefix("$ ").or(line.strip_prefix("# ")) else { continue };
            // Two blanks and a # begin a remark.
            let line = line.split("  #").next().unwrap();
            for words in commands(line) {
                looked_at += 1;
                if let Err(error) = hallpass::cli::command().try_get_matches_from(&words)
                    && error.use_stderr()
                {
                    mistakes.push(format!("{}: {line}\n{error}", page.name));
                }
            }
            for word in line.split_whitespace().map(|word| word.trim_start_matches('"')) {
                let is_ours = ["deploy/", ".ci/", "docs/", "bench/run", "tests/", "examples/"];
                if is_ours.iter().any(|begin| word.starts_with(begin)) && !root().join(word).exists() {
                    mistakes.push(format!("{}: {line}\n{word} is not there", page.name));
                }
            }
        }
    }
    assert!(looked_at >= 8, "{looked_at}");
    assert_none(&mistakes);
}

/// The words of each `hallpass …` in a line, wherever it stands.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.replace("cargo run --release -- ", "hallpass ").replace("cargo run -- ", "hallpass ");
    let mut words: Vec<String> = Vec::new();
    let mut quote = None;
    let mut word: Option<String> = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if letter == open => quote = None,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '>' | '<' | '(' | ')') => {
                words.extend(word.take());
                words.push(letter.to_string());
            }
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    let ends = |word: &String| ["|", ";", ">", "<", "(", ")", "&&", "||", "&"].contains(&word.as_str());
    let mut found = Vec::new();
    for (n, word) in words.iter().enumerate() {
        // After an option it is a user's or an image's name.
        let is_name = n > 0 && (words[n - 1].starts_with('-') && words[n - 1] != "--");
        let next = words.get(n + 1);
        if word == "hallpass" && !is_name && next.is_some_and(|next| next != "--" && next != "hallpass" && !ends(next))
        {
            found.push(words[n..].iter().take_while(|word| !ends(word)).cloned().collect());
        }
    }
    found
}

/// Documents for `hallpass apply` and settings, as far as a page shows whole ones.
#[test]
fn every_definition_that_is_shown_can_be_read() {
    const PARTS: [&str; 6] = ["upstreams:", "resources:", "roles:", "issuers:", "trust_domains:", "agents:"];
    let settings: BTreeSet<&str> = hallpass::config::settings().iter().map(|setting| setting.path).collect();
    let mut mistakes = Vec::new();
    for page in pages() {
        for block in &page.blocks {
            let is_document = block.text.lines().any(|line| PARTS.iter().any(|part| line.starts_with(part)));
            if block.language == "yaml"
                && is_document
                && let Err(mistake) = hallpass::policy::parse_manifest(&block.text)
                // A page may show a part of a definition.
                && !mistake.problem.contains("missing field")
            {
                mistakes.push(format!("{}: {mistake}\n{}", page.name, block.text));
            }
            if block.language == "toml" {
                match block.text.parse::<toml::Table>() {
                    Ok(table) => {
                        for (name, value) in table {
                            let keys: Vec<String> = match value {
                                toml::Value::Table(inner) => inner.keys().map(|key| format!("{name}.{key}")).collect(),
                                _ => vec![name],
                            };
                            let unknown = keys.iter().filter(|key| !settings.contains(key.as_str()));
                            mistakes.extend(unknown.map(|key| format!("{}: there is no setting {key}", page.name)));
                        }
                    }
                    Err(error) => mistakes.push(format!("{}: {error}\n{}", page.name, block.text)),
                }
            }
        }
    }
    assert_none(&mistakes);
}
