//! What a caller may have meant whose method and path no operation has. Told to callers with a good token, and only of
//! operations that their scopes reach: what else an upstream can do is not theirs to know.

use std::collections::BTreeSet;

use crate::model::Operation;
use crate::policy::CompiledUpstream;

/// Longer paths are compared by their segments only: an edit distance takes time by the product of the lengths.
const MAX_COMPARED: usize = 128;

/// Operations that are compared by edit distance, at most.
const MAX_OPERATIONS: usize = 200;

/// How alike two texts are to be called near, of 1.
const NEAR: f64 = 0.5;

/// What to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hint {
    /// One sentence: what is wrong, and what to write.
    pub sentence: String,
    /// The methods that the path takes, if that is what was wrong.
    pub allow: Vec<String>,
}

/// One upstream as a caller sees it.
pub struct View<'a, F> {
    upstream: &'a CompiledUpstream,
    may: F,
}

impl<F> std::fmt::Debug for View<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("upstream", self.upstream.name()).finish_non_exhaustive()
    }
}

impl<'a, F: Fn(&str) -> bool> View<'a, F> {
    /// `may` says whether the caller has a scope, in full.
    pub fn new(upstream: &'a CompiledUpstream, may: F) -> Self {
        Self { upstream, may }
    }

    /// Whether there is anything that the caller may call.
    pub fn is_reached(&self) -> bool {
        self.operations().next().is_some()
    }

    /// What the caller may call.
    fn operations(&self) -> impl Iterator<Item = &'a Operation> {
        let (upstream, may) = (self.upstream, &self.may);
        let name = &upstream.definition().name;
        upstream.definition().operations.iter().filter(move |one| may(&format!("{name}:{}", one.scope)))
    }

    /// The methods that this path takes.
    pub fn methods(&self, path: &str) -> Vec<String> {
        let mut named: BTreeSet<&str> =
            self.operations().flat_map(|one| one.methods.iter().map(String::as_str)).collect();
        if named.contains("GET") {
            // RFC 9110 §9.3.2: it comes with GET.
            named.insert("HEAD");
        }
        let takes = |method: &&str| self.upstream.operation(method, path).is_some_and(|one| (self.may)(&one.scope));
        named.into_iter().filter(takes).map(str::to_owned).collect()
    }

    /// Whether an operation takes this path by more than its placeholders.
    pub fn takes_by_name(&self, path: &str) -> bool {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        self.operations().any(|one| fits(&template(one), &segments)) && !self.methods(path).is_empty()
    }

    /// The path as it is called at the broker.
    pub fn address(&self, path: &str) -> String {
        format!("/exchange/{}{path}", self.upstream.name())
    }

    /// What is wrong with a method and a path that no operation has.
    pub fn hint(&self, method: &str, path: &str) -> Hint {
        self.wrong_method(method, path).or_else(|| self.wrong_path(path).map(say)).unwrap_or_else(|| {
            let nearest = self.nearest(method, path).map(|one| format!("; the nearest is {one}")).unwrap_or_default();
            say(format!(
                "no operation of this upstream has this method and path{nearest}; ask the admin to add it if it should"
            ))
        })
    }

    fn wrong_method(&self, method: &str, path: &str) -> Option<Hint> {
        let allow = self.methods(path);
        if allow.is_empty() {
            return None;
        }
        let sentence = if allow.iter().any(|one| one == method) {
            // Matched as written, and another operation, or none, once decoded.
            "the path reads as another one once its escapes are decoded; write it without escapes that it does not need"
                .to_owned()
        } else if let Some(one) = allow.iter().find(|one| one.eq_ignore_ascii_case(method)) {
            format!("methods are in upper case; send {one}")
        } else {
            format!(
                "this path takes {}, and not {method}; send one of these, or ask the admin to add the operation",
                allow.join(", ")
            )
        };
        Some(Hint { sentence, allow })
    }

    fn wrong_path(&self, path: &str) -> Option<String> {
        let is_path = |path: &str| !self.methods(path).is_empty();
        let address = |path: &str| self.address(path);
        let bare = path.trim_end_matches('/');
        let slashed = format!("{path}/");
        if bare.len() < path.len() && is_path(if bare.is_empty() { "/" } else { bare }) {
            return Some(format!("the path ends with a slash, and the operation's does not; write {}", address(bare)));
        }
        if is_path(&slashed) {
            return Some(format!("the operation's path ends with a slash; write {}", address(&slashed)));
        }
        let segments: Vec<&str> = bare.split('/').skip(1).collect();
        for at in 1..segments.len() {
            let (before, rest) = segments.split_at_checked(at)?;
            if self.operations().any(|one| fits(&template(one), rest)) {
                let (before, rest) = (format!("/{}", before.join("/")), format!("/{}", rest.join("/")));
                return Some(format!("'{before}' is too much in the path; write {}", address(&rest)));
            }
        }
        for operation in self.operations() {
            let template = template(operation);
            for at in 1..template.len() {
                let (before, rest) = template.split_at_checked(at)?;
                if before.iter().all(|one| !one.starts_with('{')) && fits(rest, &segments) {
                    let before = format!("/{}", before.join("/"));
                    let whole = format!("{before}{bare}");
                    return Some(format!("'{before}' is missing in the path; write {}", address(&whole)));
                }
            }
            if template.len() == segments.len() || template.last().is_some_and(|last| last.starts_with("{*")) {
                let filled = filled(&template, &segments);
                if filled != bare && filled.eq_ignore_ascii_case(bare) {
                    return Some(format!("the case of letters counts in a path; write {}", address(&filled)));
                }
            }
        }
        None
    }

    /// The operation whose method and path are most alike.
    fn nearest(&self, method: &str, path: &str) -> Option<String> {
        if path.len() > MAX_COMPARED {
            return None;
        }
        let segments: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).collect();
        let said = |one: &Operation, has_method: bool| {
            let methods = if has_method { method.to_owned() } else { one.methods.join(", ") };
            format!("{methods} {}", self.address(one.path.as_str()))
        };
        let takes = |one: &Operation| one.methods.iter().any(|one| one == method);
        if segments.is_empty() {
            // The upstream's name alone: where its paths begin.
            let first = self.operations().min_by_key(|one| (!takes(one), template(one).len()));
            return first.map(|one| said(one, takes(one)));
        }
        let mut best: Option<(f64, String)> = None;
        for operation in self.operations().take(MAX_OPERATIONS) {
            let (written, asked) = literals(&template(operation), &segments);
            if written.len() > MAX_COMPARED {
                continue;
            }
            let near = strsim::normalized_levenshtein(&written, &asked);
            let has_method = takes(operation);
            // Among paths that are as near, the one that takes the method.
            let score = if has_method { near + 0.05 } else { near };
            if near >= NEAR && best.as_ref().is_none_or(|(there, _)| score > *there) {
                best = Some((score, said(operation, has_method)));
            }
        }
        best.map(|(_, text)| text)
    }
}

/// The name that is most alike, if any is near.
pub fn nearest_name<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let asked = asked.to_ascii_lowercase();
    if asked.len() > MAX_COMPARED {
        return None;
    }
    let near = names.map(|name| (strsim::normalized_levenshtein(&asked, &name.to_ascii_lowercase()), name));
    near.filter(|(near, _)| *near >= NEAR).max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
}

fn say(sentence: String) -> Hint {
    Hint { sentence, allow: Vec::new() }
}

fn template(operation: &Operation) -> Vec<&str> {
    operation.path.as_str().split('/').skip(1).collect()
}

/// Whether a path fits a template, or the end of one, of which at least one segment is more than a placeholder: by
/// placeholders alone everything would fit.
fn fits(template: &[&str], path: &[&str]) -> bool {
    let mut has_literal = false;
    for (at, one) in template.iter().enumerate() {
        if one.starts_with("{*") {
            return has_literal && path.len() > at;
        }
        let Some(segment) = path.get(at) else { return false };
        if one.starts_with('{') {
            if segment.is_empty() {
                return false;
            }
        } else if one == segment {
            has_literal = true;
        } else {
            return false;
        }
    }
    has_literal && template.len() == path.len()
}

/// A template with the path's own segments in place of the placeholders.
fn filled(template: &[&str], path: &[&str]) -> String {
    let mut text = String::new();
    for (at, one) in template.iter().enumerate() {
        if one.starts_with("{*") {
            let rest = path.get(at..).filter(|rest| !rest.is_empty());
            return text + "/" + &rest.map_or_else(|| (*one).to_owned(), |rest| rest.join("/"));
        }
        let own = path.get(at).filter(|_| one.starts_with('{'));
        text.push('/');
        text.push_str(own.unwrap_or(one));
    }
    text
}

/// What of a template and of a path is to be alike: without what fills a placeholder, and without case.
fn literals(template: &[&str], path: &[&str]) -> (String, String) {
    let (mut written, mut asked) = (String::new(), String::new());
    let add = |text: &mut String, segment: &str| {
        text.push('/');
        text.push_str(&segment.to_ascii_lowercase());
    };
    let mut longer = path.len();
    for (at, one) in template.iter().enumerate() {
        let own = path.get(at);
        if one.starts_with("{*") && own.is_some() {
            longer = at;
        }
        if !one.starts_with('{') || own.is_none() {
            add(&mut written, one);
            own.into_iter().for_each(|own| add(&mut asked, own));
        }
    }
    path.iter().take(longer).skip(template.len()).for_each(|own| add(&mut asked, own));
    (written, asked)
}

#[cfg(test)]
mod tests;
