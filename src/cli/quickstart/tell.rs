//! The narrator: a story for people, one JSON line per step for programs.

use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value, json};

use crate::cli::{Failure, Output};

const BOLD: &str = "1";
const GREEN: &str = "32";
const DIM: &str = "2";

/// Tells the steps as they happen, and holds what a step's JSON line will say until the step is over.
pub(super) struct Teller {
    output: Output,
    colour: bool,
    steps: usize,
    step: Option<&'static str>,
    facts: Map<String, Value>,
    held: Vec<String>,
}

impl Teller {
    pub(super) fn new(output: Output) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = !output.json && !plain && io::stdout().is_terminal();
        Self { output, colour, steps: 0, step: None, facts: Map::new(), held: Vec::new() }
    }

    /// Where it tells to.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// The next step begins.
    pub(super) fn step(&mut self, name: &'static str, title: &str) {
        self.end();
        self.steps += 1;
        self.step = Some(name);
        self.human(|teller| format!("\n{}", teller.paint(BOLD, &format!("{}. {title}", teller.steps))));
    }

    /// A sentence of the story.
    pub(super) fn say(&self, text: &str) {
        self.human(|teller| format!("   {}", teller.paint(DIM, text)));
    }

    /// Something that turned out.
    pub(super) fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match &value {
            Value::Object(parts) => {
                let width = parts.keys().map(String::len).max().unwrap_or(0);
                let mut label = name;
                for (part, value) in parts {
                    self.human(|_| format!("   {label:<13} {part:<width$}  {}", plain(value)));
                    label = "";
                }
            }
            other => self.human(|_| format!("   {name:<13} {}", plain(other))),
        }
        self.facts.insert(name.replace(' ', "_"), value);
    }

    /// Lines as they are.
    pub(super) fn lines(&mut self, name: &'static str, lines: Vec<String>) {
        for line in &lines {
            self.human(|_| format!("   {line}"));
        }
        self.keep(name, lines.into());
    }

    /// A check of the story. `got` must be `expected`, or the story ends here.
    pub(super) fn check<T: PartialEq + serde::Serialize>(
        &mut self,
        what: &str,
        got: T,
        expected: T,
    ) -> Result<(), Failure> {
        if got == expected {
            self.human(|teller| format!("   {} {what}", teller.paint(GREEN, "ok")));
            self.held.push(what.to_owned());
            return Ok(());
        }
        let (expected, got) = (json!(expected), json!(got));
        if self.output.json {
            let failed = json!({ "what": what, "expected": expected, "got": got });
            self.output
                .line(&json!({ "step": self.step, "ok": false, "held": self.held, "failed": failed }).to_string());
        }
        Err(Failure::Failed(format!(
            "step {} ({}) did not hold: {what}: expected {expected}, got {got}",
            self.steps,
            self.step.unwrap_or_default()
        )))
    }

    /// The step that was told is over, and held.
    pub(super) fn end(&mut self) {
        let facts = std::mem::take(&mut self.facts);
        let held = std::mem::take(&mut self.held);
        if let Some(step) = self.step.take().filter(|_| self.output.json) {
            self.output.line(&json!({ "step": step, "ok": true, "held": held, "facts": facts }).to_string());
        }
    }

    /// Something for programs only.
    pub(super) fn keep(&mut self, name: &'static str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    /// A line for people only.
    pub(super) fn line(&self, text: &str) {
        self.human(|_| text.to_owned());
    }

    /// A headline for people only.
    pub(super) fn headline(&self, text: &str) {
        self.human(|teller| teller.paint(BOLD, text));
    }

    fn human(&self, line: impl FnOnce(&Self) -> String) {
        if !self.output.json {
            self.output.painted(&line(self));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_ends_the_story_and_says_why() {
        let mut teller = Teller::new(Output::new(false));
        teller.step("call", "A call");
        teller.check("the answer is 200", 200, 200).unwrap();
        let Err(Failure::Failed(why)) = teller.check("the answer is 200", 401, 200) else { panic!("it held") };
        assert_eq!(why, "step 1 (call) did not hold: the answer is 200: expected 200, got 401");
    }
}
