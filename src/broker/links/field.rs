//! Reading `Link` (RFC 8288 §3) and `Refresh`. Strictly: what is not understood is left out.

use std::borrow::Cow;

/// The list of a `Link` header, with each target as `url` gives it. A link whose target it does not give is left out;
/// `None` if none is left. What comes behind something malformed is left out, too: where it would go on, nobody knows.
pub(super) fn links<'a>(value: &'a [u8], url: impl Fn(&'a [u8]) -> Option<Cow<'a, [u8]>>) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::with_capacity(value.len() + 64);
    let mut rest = value;
    loop {
        // RFC 9110 §5.6.1.2: empty elements of a list count for nothing.
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        let Some((link, after)) = link(rest) else { break };
        if let Some(written) = link.written(&url) {
            if !kept.is_empty() {
                kept.extend_from_slice(b", ");
            }
            kept.extend_from_slice(&written);
        }
        rest = after;
    }
    (!kept.is_empty()).then_some(kept)
}

/// `"<" URI-Reference ">" *( ";" link-param )`
struct Link<'a> {
    target: &'a [u8],
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a [u8],
    /// With its quotes, if it has some.
    value: Option<&'a [u8]>,
}

impl<'a> Link<'a> {
    fn written(&self, url: &impl Fn(&'a [u8]) -> Option<Cow<'a, [u8]>>) -> Option<Vec<u8>> {
        let mut out = [b"<", &*url(self.target)?, b">"].concat();
        for Parameter { name, value } in &self.parameters {
            match value {
                // §3.2: the context of the link. Clients that do not know it follow the link all the same.
                Some(anchor) if name.eq_ignore_ascii_case(b"anchor") => {
                    if is_disguised_link(anchor) {
                        return None;
                    }
                    out.extend_from_slice(b"; anchor=\"");
                    out.extend_from_slice(&url(unquoted(anchor))?);
                    out.push(b'"');
                }
                // Many a client looks for `<…>; rel=…` by a regular expression, in quotes as well.
                Some(value) if is_disguised_link(value) => {}
                value => {
                    out.extend_from_slice(b"; ");
                    out.extend_from_slice(name);
                    if let Some(value) = value {
                        out.push(b'=');
                        out.extend_from_slice(value);
                    }
                }
            }
        }
        Some(out)
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn is_disguised_link(value: &[u8]) -> bool {
    value.contains(&b'<')
        && (value.contains(&b':') || value.contains(&b'\\') || value.windows(2).any(|two| two == b"//"))
}

/// The first link of a list, and what follows its comma.
fn link(text: &[u8]) -> Option<(Link<'_>, &[u8])> {
    let inside = text.strip_prefix(b"<")?;
    let (target, mut rest) = split_at(inside, |byte| byte == b'>')?;
    rest = rest.get(1..)?;
    if target.iter().any(|byte| matches!(byte, b'<' | b'"' | b'\t')) {
        return None;
    }
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            None => return Some((Link { target, parameters }, rest)),
            Some((b',', after)) => return Some((Link { target, parameters }, after)),
            Some((b';', after)) => {
                let after = after.trim_ascii_start();
                if after.first().is_some_and(|byte| matches!(byte, b';' | b',')) || after.is_empty() {
                    rest = after;
                    continue;
                }
                let (parameter, after) = parameter(after)?;
                parameters.push(parameter);
                rest = after;
            }
            Some(_) => return None,
        }
    }
}

/// `token BWS [ "=" BWS ( token / quoted-string ) ]`
fn parameter(text: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let end = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"=") else {
        return Some((Parameter { name, value: None }, rest));
    };
    let rest = rest.trim_ascii_start();
    let end = if rest.first() == Some(&b'"') {
        end_of_quotes(rest)?
    } else {
        // `type=text/html` is no token, and in use.
        rest.iter().position(|byte| matches!(byte, b',' | b';' | b' ' | b'\t')).unwrap_or(rest.len())
    };
    let (value, rest) = rest.split_at_checked(end)?;
    let is_quoted = value.first() == Some(&b'"');
    if !is_quoted && (value.is_empty() || value.iter().any(|byte| matches!(byte, b'"' | b'<' | b'>' | b'\\'))) {
        return None;
    }
    Some((Parameter { name, value: Some(value) }, rest))
}

/// How long the quoted string is that `text` begins with (RFC 9110 §5.6.4).
fn end_of_quotes(text: &[u8]) -> Option<usize> {
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next()?,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn split_at(text: &[u8], is_end: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(text.iter().position(|byte| is_end(*byte))?)
}

/// What a `Refresh` header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refresh<'a> {
    /// Ask again.
    Itself,
    /// Go there.
    To { seconds: &'a [u8], url: &'a [u8] },
}

/// `seconds [ ( ";" / "," ) [ "url" "=" ] URL ]`, the URL in quotes or not. No RFC describes it; HTML does, under "shared
/// declarative refresh steps".
pub(super) fn refresh(value: &[u8]) -> Option<Refresh<'_>> {
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(value.len());
    let (seconds, rest) = value.split_at_checked(end)?;
    if !seconds.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let Some((b';' | b',', rest)) = rest.split_first() else {
        return rest.is_empty().then_some(Refresh::Itself);
    };
    let rest = rest.trim_ascii_start();
    if rest.is_empty() {
        return Some(Refresh::Itself);
    }
    let named = rest.get(..3).filter(|name| name.eq_ignore_ascii_case(b"url")).and_then(|_| rest.get(3..));
    let url = named.and_then(|rest| rest.trim_ascii_start().strip_prefix(b"=")).unwrap_or(rest).trim_ascii_start();
    let url = match url.split_first() {
        Some((quote @ (b'"' | b'\''), quoted)) => {
            let (url, rest) = split_at(quoted, |byte| byte == *quote)?;
            // Behind the quotes: something that nobody knows the meaning of.
            (rest.len() == 1).then_some(url)?
        }
        _ => url,
    };
    (!url.is_empty()).then_some(Refresh::To { seconds, url })
}
