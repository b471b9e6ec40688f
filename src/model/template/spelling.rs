//! Templates as other programs write them: `/v1/*`, `/v1/:id`, `/v1/<id>`, `{id:int}`. Taken as they stand, most of them
//! are literals that no request fits, and the operation would deny everything without a word.

/// The template that was probably meant, if this is none and there is one.
pub(super) fn respelled(text: &str) -> Option<String> {
    let mut path = text.trim();
    // `GET /v1/x`
    if let Some((method, rest)) = path.split_once(' ')
        && method.bytes().all(|byte| byte.is_ascii_alphabetic())
    {
        path = rest.trim_start();
    }
    // `https://host/v1/x`
    if let Some((_, rest)) = path.split_once("://") {
        path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    }
    // A query; but `:id?` and `{id?}` are segments that may be left out.
    let query = path.match_indices('?').map(|(at, _)| at).find(|at| {
        let before = path.get(..*at).unwrap_or_default();
        let segment = before.rsplit('/').next().unwrap_or_default();
        let ends = path.get(at + 1..).is_none_or(|after| after.is_empty() || after.starts_with(['/', '}']));
        !(ends && segment.starts_with([':', '{']))
    });
    let path = query.and_then(|at| path.get(..at)).unwrap_or(path);
    let path = path.split('#').next().unwrap_or_default();
    let ends_with_slash = path.ends_with('/');
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut right = String::new();
    for (n, segment) in segments.iter().enumerate() {
        right.push('/');
        match respelled_segment(segment, n + 1 == segments.len()) {
            Some(segment) => right.push_str(&segment),
            None => right.push_str(segment),
        }
    }
    if right.is_empty() || (ends_with_slash && !right.contains("{*")) {
        right.push('/');
    }
    let good = right != text && super::check(&right).is_ok() && suspicious(&right).is_none();
    good.then_some(right)
}

/// What is wrong with a template that is one, but whose literals look like another program's placeholders, and how to
/// write it.
pub fn misspelled(text: &str) -> Option<(String, String)> {
    let segment = suspicious(text)?;
    let problem = format!("{segment:?} in {text:?} is read as it stands, so no other path would fit");
    let fix = match respelled(text) {
        Some(right) => format!("write {right:?}"),
        None => "write {name} for one whole segment, {*rest} for all that follows".to_owned(),
    };
    let as_it_stands: Vec<String> = ["*", ":", "[", "]", "^", "|"]
        .into_iter()
        .filter(|mark| segment.contains(mark))
        .map(|mark| format!("%{:02X}", mark.bytes().next().unwrap_or_default()))
        .collect();
    Some((problem, format!("{fix} (if you mean the character itself, write it as {})", as_it_stands.join(", "))))
}

/// The first literal that looks like a pattern.
fn suspicious(text: &str) -> Option<&str> {
    text.split('/').filter(|segment| !segment.starts_with('{')).find(|segment| {
        segment.starts_with([':', '*']) || segment.ends_with('*') || segment.contains(['[', ']', '^', '|'])
    })
}

fn respelled_segment(segment: &str, last: bool) -> Option<String> {
    let rest = |name: &str| {
        let name = named(name, "rest");
        Some(if last { format!("{{*{name}}}") } else { format!("{{{name}}}") })
    };
    let one = |name: &str| Some(format!("{{{}}}", named(name, "id")));
    // Globs and regular expressions that stand for anything.
    if matches!(segment, "*" | "**" | "***" | "..." | ".*" | ".+" | "(.*)" | "(.+)" | "[^/]+" | "[^/]*" | "([^/]+)") {
        return if segment.contains('[') || (segment == "*" && !last) { one("") } else { rest("") };
    }
    let inside = |open: &str, close: &str| segment.strip_prefix(open).and_then(|text| text.strip_suffix(close));
    // Express, Rails, Gin: `:id`, `:id?`, `:id(\\d+)`, `:path*`, `*path`.
    if let Some(name) = segment.strip_prefix(':') {
        let bare = name.split(['(', '?']).next().unwrap_or_default();
        return if name.ends_with(['*', '+']) { rest(bare) } else { one(bare) };
    }
    if let Some(name) = segment.strip_prefix('*') {
        return is_word(name).then(|| rest(name)).flatten();
    }
    // Flask, Django: `<id>`, `<int:id>`, `<path:rest>`.
    if let Some(inner) = inside("<", ">") {
        return match inner.split_once(':') {
            Some(("path", name)) => rest(name),
            Some((_, name)) => one(name),
            None => one(inner),
        };
    }
    // Next.js: `[id]`, `[...rest]`, `[[...rest]]`.
    if let Some(inner) = inside("[", "]") {
        let inner = inner.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(inner);
        return match inner.strip_prefix("...") {
            Some(name) => rest(name),
            None => one(inner),
        };
    }
    // Everybody else: `{id:int}`, `{rest:path}`, `{rest...}`, `{+rest}`, `{name=**}`, `{{id}}`, `${id}`.
    let braced = segment.trim_start_matches(['$', '#']);
    let inner = braced.strip_prefix('{').and_then(|text| text.strip_suffix('}'))?;
    let inner = inner.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(inner);
    let inner = inner.trim();
    if inner.contains(['{', '}']) {
        return None;
    }
    let name = inner.trim_start_matches(['*', '+', '/', '.', '#', '?', '&']);
    let end = name.find([':', '=', '?', '*', '.', ' ', '|', '<']).unwrap_or(name.len());
    let (name, kind) = name.split_at_checked(end)?;
    let kind = kind.trim_start_matches([':', '=', ' ']);
    if inner.starts_with(['*', '+'])
        || ["*", "...", ".*", ".+"].iter().any(|any| kind.starts_with(any))
        || matches!(kind, "path" | "rest" | "any")
    {
        return rest(name);
    }
    one(name)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A name that a placeholder may have.
fn named(text: &str, default: &str) -> String {
    let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if text.is_empty() {
        return default.to_owned();
    }
    let clean: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.starts_with(|first: char| first.is_ascii_digit()) { format!("_{clean}") } else { clean }
}
