//! What was measured: on the terminal, and as a page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::stats::Series;

/// The generated part of the page lies between these two lines; what stands around it is somebody's own writing.
const BEGIN: &str = "<!-- bench/run writes from here -->";
const END: &str = "<!-- to here; what follows is written by hand -->";

/// Whether a figure has to be large or small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

/// A promise and what became of it.
#[derive(Debug)]
struct Line {
    what: String,
    measured: String,
    to_reach: String,
    reached: &'static str,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    figures: Vec<[String; 7]>,
    others: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Report {
    /// A figure that has something to reach: median, and the spread over the rounds.
    pub(crate) fn judge(
        &mut self,
        what: impl Into<String>,
        measured: &Series,
        unit: &str,
        digits: usize,
        bound: Bound,
    ) {
        let median = measured.median();
        let (sign, limit, reached) = match bound {
            Bound::AtLeast(limit) => ("≥", limit, median >= limit),
            Bound::AtMost(limit) => ("≤", limit, median <= limit),
        };
        let shown = |value: f64| grouped(value, digits);
        let spread = format!(" ({} … {})", shown(measured.min()), shown(measured.max()));
        let line = Line {
            what: what.into(),
            measured: format!("{}{unit}{}", shown(median), if measured.min() < measured.max() { &spread } else { "" }),
            to_reach: format!("{sign} {}{unit}", shown(limit)),
            reached: if reached { "reached" } else { "**not reached**" },
        };
        println!("  {}: {}, to reach {}: {}", line.what, line.measured, line.to_reach, line.reached);
        self.lines.push(line);
    }

    /// A figure that could not be measured here.
    pub(crate) fn missing(&mut self, what: impl Into<String>, why: &str) {
        let what = what.into();
        println!("  NOT MEASURED: {what}: {why}");
        self.lines.push(Line { what, measured: format!("not measured: {why}"), to_reach: "".into(), reached: "?" });
    }

    /// Plain figures of one contestant under one load.
    pub(crate) fn figure(
        &mut self,
        test: &str,
        contestant: &str,
        connections: usize,
        measured: &[crate::load::Measured],
    ) {
        let median = |pick: fn(&crate::load::Measured) -> f64| measured.iter().map(pick).collect::<Series>().median();
        self.figures.push([
            test.to_owned(),
            contestant.to_owned(),
            connections.to_string(),
            grouped(median(|one| one.per_cpu_second), 0),
            grouped(median(|one| one.per_second), 0),
            grouped(median(|one| one.median_us), 0),
            grouped(median(|one| one.p99_us), 0),
        ]);
    }

    /// Any other plain figure.
    pub(crate) fn other(&mut self, what: impl Into<String>, value: impl Into<String>) {
        let (what, value) = (what.into(), value.into());
        println!("  {what}: {value}");
        self.others.push((what, value));
    }

    /// Something that a reader of the figures has to know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("  NOTE: {text}");
        self.notes.push(text);
    }

    /// The generated part.
    fn markdown(&self, command: &str, commit: &str, machine: &[(String, String)]) -> String {
        let mut text = String::from("| what | measured | to reach | |\n|---|---|---|---|\n");
        for line in &self.lines {
            _ = writeln!(text, "| {} | {} | {} | {} |", line.what, line.measured, line.to_reach, line.reached);
        }
        text.push('\n');
        for note in &self.notes {
            _ = writeln!(text, "- {note}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        _ = writeln!(
            text,
            "## To repeat it\n\n```console\n$ {command}\n```\n\nat commit `{commit}`, on this machine:\n"
        );
        _ = writeln!(text, "| | |\n|---|---|");
        for (name, value) in machine {
            _ = writeln!(text, "| {name} | {value} |");
        }
        text.push_str("\n## The plain figures\n\nMedians over the rounds. Worth nothing on another machine.\n\n");
        text.push_str("| test | contestant | connections | requests per CPU second | requests per second | median latency, µs | 99th percentile, µs |\n|---|---|--:|--:|--:|--:|--:|\n");
        for figure in &self.figures {
            _ = writeln!(text, "| {} |", figure.join(" | "));
        }
        text.push_str("\n| | |\n|---|--:|\n");
        for (what, value) in &self.others {
            _ = writeln!(text, "| {what} | {value} |");
        }
        text
    }

    /// Prints the table, ratios first.
    pub(crate) fn print(&self, command: &str, commit: &str, machine: &[(String, String)]) {
        println!("\n{}", self.markdown(command, commit, machine));
    }

    /// Puts the generated part into the page, between its marks.
    pub(crate) fn write(&self, page: &Path, command: &str, commit: &str, machine: &[(String, String)]) -> Result<()> {
        let old = std::fs::read_to_string(page).with_context(|| format!("{} cannot be read", page.display()))?;
        let (before, rest) = old.split_once(BEGIN).context("the page has lost the mark at which figures begin")?;
        let (_, after) = rest.split_once(END).context("the page has lost the mark at which figures end")?;
        let new = format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.markdown(command, commit, machine));
        std::fs::write(page, new)?;
        Ok(())
    }
}

/// A number with thousands set apart.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    if rest.is_empty() { out } else { format!("{out}.{rest}") }
}
