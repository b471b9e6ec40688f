//! What may stand around a key in a stored value: white space, quotes, brackets, a scheme word, a name, a remark.

use zeroize::Zeroizing;

/// The first word, where what follows it begins a comment: `key # of production`, `key (prod)`, `key -- mine`.
pub fn before_remark(whole: &[u8]) -> Option<&[u8]> {
    let begins = [&b"#"[..], b"(", b"[", b"//", b";", b"--", b"- ", b"<-", b"=>", b"/*"];
    let rest = without_first_word(whole)?;
    let word = whole.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    begins.iter().any(|one| rest.starts_with(one)).then_some(word)
}

/// Whether it stands in a pair of brackets or braces, or between stars.
pub fn is_enclosed(whole: &[u8]) -> bool {
    [(b'(', b')'), (b'[', b']'), (b'{', b'}'), (b'*', b'*')]
        .iter()
        .any(|(open, close)| whole.len() > 2 && whole.first() == Some(open) && whole.last() == Some(close))
}

/// Without the punctuation that stands at its ends: a full stop, Markdown's stars, the padding of base64.
pub(super) fn without_punctuation(whole: &[u8]) -> &[u8] {
    let of_the_ends = |byte: u8| byte.is_ascii_punctuation() || byte.is_ascii_whitespace();
    let start = whole.iter().position(|byte| !of_the_ends(*byte)).unwrap_or(whole.len());
    without_end(whole.get(start..).unwrap_or_default(), of_the_ends)
}

pub(super) fn without_end(whole: &[u8], of_the_end: impl Fn(u8) -> bool) -> &[u8] {
    let end = whole.iter().rposition(|byte| !of_the_end(*byte)).map_or(0, |last| last.saturating_add(1));
    whole.get(..end).unwrap_or_default()
}

/// Without what cannot be seen at both ends: HTTP strips blanks and tabs (RFC 9110 §5.5), parsers more than that.
pub fn trim(mut whole: &[u8]) -> &[u8] {
    while let Some((_, bytes)) = first_character(whole).filter(|(one, _)| is_invisible(*one)) {
        whole = whole.get(bytes.len()..).unwrap_or_default();
    }
    while let Some((_, bytes)) = last_character(whole).filter(|(one, _)| is_invisible(*one)) {
        whole = whole.get(..whole.len().saturating_sub(bytes.len())).unwrap_or_default();
    }
    whole
}

/// Without quotes and angle brackets at its ends.
pub fn unquote(whole: &[u8]) -> &[u8] {
    let mut inner = trim(whole);
    if let Some((_, bytes)) = first_character(inner).filter(|(one, _)| is_quote(*one)) {
        inner = inner.get(bytes.len()..).unwrap_or_default();
    }
    // A comma or a semicolon behind the quote is the list's or the shell's.
    let end = inner.strip_suffix(b",").or(inner.strip_suffix(b";")).unwrap_or(inner);
    match last_character(end).filter(|(one, _)| is_quote(*one)) {
        Some((_, bytes)) => trim(end.get(..end.len().saturating_sub(bytes.len())).unwrap_or_default()),
        None => trim(inner),
    }
}

/// What comes behind the first word, which may be a scheme (RFC 9110 §11.4).
pub fn without_first_word(whole: &[u8]) -> Option<&[u8]> {
    let whole = trim(whole);
    let mut at = 0_usize;
    for (character, bytes) in characters(whole) {
        if is_invisible(character) {
            return Some(trim(whole.get(at..)?));
        }
        at = at.saturating_add(bytes.len());
    }
    None
}

/// What comes behind `NAME=`, `export NAME=`, `$env:NAME = ` or `Name: `. A base64 text that ends in `=` has no name.
pub fn without_name(whole: &[u8]) -> Option<&[u8]> {
    let whole = trim(whole);
    let end = whole.iter().position(|byte| *byte == b'=').or_else(|| {
        let colon = whole.iter().position(|byte| *byte == b':')?;
        whole.get(colon.saturating_add(1)).is_some_and(|next| next.is_ascii_whitespace()).then_some(colon)
    })?;
    let (name, rest) = whole.split_at(end);
    let of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.$: \"'[]".contains(byte);
    let rest = trim(rest.get(1..)?);
    let names = name.iter().any(u8::is_ascii_alphabetic) && name.iter().all(of_a_name);
    (names && rest.iter().any(|byte| *byte != b'=')).then_some(rest)
}

/// Each quoted pair (RFC 9110 §5.6.4) as what it stands for.
pub(super) fn without_backslashes(whole: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(whole.len()));
    let mut rest = whole.iter();
    while let Some(byte) = rest.next() {
        out.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    out
}

/// White space, control characters and what Unicode calls default ignorable: nobody sees that they are there.
pub fn is_invisible(one: char) -> bool {
    one.is_whitespace()
        || one.is_control()
        || matches!(one,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// What people and programs put around a text: straight, typographic, of Markdown; and angle brackets.
pub fn is_quote(one: char) -> bool {
    matches!(
        one,
        '"' | '\'' | '`' | '<' | '>' | '\u{ab}' | '\u{b4}' | '\u{bb}' | '\u{2018}'
            ..='\u{201f}' | '\u{2039}' | '\u{203a}'
    )
}

/// The characters of `bytes`, each with its bytes; what is no UTF-8 is taken byte by byte for Latin-1.
pub fn characters(mut bytes: &[u8]) -> impl Iterator<Item = (char, &[u8])> {
    std::iter::from_fn(move || {
        let next = first_character(bytes)?;
        bytes = bytes.get(next.1.len()..).unwrap_or_default();
        Some(next)
    })
}

pub(super) fn first_character(bytes: &[u8]) -> Option<(char, &[u8])> {
    let first = *bytes.first()?;
    let whole = super::first_char(bytes).filter(|_| !first.is_ascii());
    let character = whole.unwrap_or(char::from(first));
    Some((character, bytes.get(..whole.map_or(1, char::len_utf8))?))
}

/// The last character of `bytes`, with its bytes.
pub fn last_character(bytes: &[u8]) -> Option<(char, &[u8])> {
    let tail = |len: usize| bytes.get(bytes.len().checked_sub(len)?..);
    let of_several_bytes = (2..=4).filter_map(tail).find_map(|tail| {
        let (character, read) = first_character(tail)?;
        (read.len() == tail.len()).then_some((character, tail))
    });
    of_several_bytes.or_else(|| first_character(tail(1)?))
}
