//! The canonical target of a brokered call: what policy checks is byte for byte what is sent (P8).
//!
//! Two parsers that read one path differently are the attack: the broker sees `/public/..;/admin` and allows `/public`,
//! the upstream serves `/admin`. So nothing here repairs a path. What any common server might read in two ways is
//! refused, and only the two normalisations of RFC 3986 §6.2.2 that no server disagrees about are made: hex digits of
//! `%XX` in upper case (§6.2.2.1), and `%XX` of an unreserved character decoded (§6.2.2.2). An encoded slash alone is
//! neither repaired nor refused: it stays as it came, and the operation says whether it is data there.

mod error;
mod query;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{percent_decode_str, percent_encode_byte};

pub use error::TargetError;
pub use query::append_parameter;

/// The longest path that is accepted, in bytes.
pub(super) const MAX_PATH: usize = 4 * 1024;

/// A canonical path and the query exactly as the agent wrote it (RFC 3986 §3.3, §3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// `path` or `path?query`. The path is empty or begins with `/`, and holds no raw `?`, so the first one ends it.
    whole: String,
    /// Whether an encoded slash is in the path.
    encoded_slash: bool,
}

impl Target {
    /// Reads what follows `/exchange/{upstream}`: a path that is empty or begins with `/`, and the query without its
    /// `?`. The only way to make a `Target`.
    pub fn parse(raw_path: &str, raw_query: Option<&str>) -> Result<Self, TargetError> {
        if raw_path.len() > MAX_PATH {
            return Err(TargetError::PathTooLong);
        }
        let mut whole = String::with_capacity(raw_path.len() + raw_query.map_or(0, str::len) + 2);
        let mut encoded_slash = false;
        if !raw_path.is_empty() {
            let rest = raw_path.strip_prefix('/').ok_or(TargetError::NotAbsolute)?;
            let mut segments = rest.split('/').peekable();
            while let Some(segment) = segments.next() {
                // An empty last segment is a trailing slash, which means something. An empty one inside is `//`, which
                // some servers collapse; in front, `//host` is a network-path reference (RFC 3986 §4.2).
                if segment.is_empty() && segments.peek().is_some() {
                    return Err(TargetError::EmptySegment);
                }
                whole.push('/');
                encoded_slash |= push_segment(segment, &mut whole)?;
            }
        }
        if let Some(query) = raw_query {
            query::check(query)?;
            whole.push('?');
            whole.push_str(query);
        }
        Ok(Self { whole, encoded_slash })
    }

    /// The canonical path; begins with `/`, which also stands for the empty one.
    pub fn path(&self) -> &str {
        match self.parts().0 {
            "" => "/",
            path => path,
        }
    }

    /// Whether nothing follows the upstream's name, not even a slash: what is meant is the base URL itself.
    pub fn is_bare(&self) -> bool {
        self.parts().0.is_empty()
    }

    /// The same with a slash, if it is bare.
    pub fn or_slash(mut self) -> Self {
        if self.is_bare() {
            self.whole.insert(0, '/');
        }
        self
    }

    /// The query without its `?`, byte for byte as it came.
    pub fn query(&self) -> Option<&str> {
        self.parts().1
    }

    /// What is sent behind the base URL: path, empty where the target [is bare](Self::is_bare), and query.
    pub fn path_and_query(&self) -> &str {
        &self.whole
    }

    /// Whether an encoded slash is in the path. Servers disagree whether it parts two segments, so an operation has to
    /// say that it is data.
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// The path as templates are matched with it, never to be sent: for each way in which clients write a character, one
    /// way.
    pub fn match_path(&self) -> Cow<'_, str> {
        match_form(self.path())
    }

    /// The path as a router reads it that decodes before it matches, never to be sent.
    ///
    /// `things%3AbatchDelete` fills a template's `{thing}`, and many an upstream serves it as its operation
    /// `things:batchDelete`: RFC 3986 §2.2 keeps the two apart, routers do not. Where this differs from
    /// [`match_path`](Self::match_path), match both, and refuse when they lead to different operations.
    pub fn decoded_path(&self) -> Cow<'_, str> {
        percent_decode_str(self.path()).decode_utf8_lossy()
    }

    /// [`decoded_path`](Self::decoded_path) of an upstream for which an encoded slash is data: it stays `%2F`.
    pub fn decoded_path_but_slashes(&self) -> Cow<'_, str> {
        if !self.encoded_slash {
            return self.decoded_path();
        }
        let path = self.match_path();
        let pieces = path.split("%2F").map(|piece| percent_decode_str(piece).decode_utf8_lossy());
        Cow::Owned(pieces.collect::<Vec<_>>().join("%2F"))
    }

    fn parts(&self) -> (&str, Option<&str>) {
        match self.whole.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.whole, None),
        }
    }
}

/// Without the query: the agent's token may be in it.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = self.query().map(|query| format!("[{} bytes]", query.len()));
        f.debug_struct("Target").field("path", &self.path()).field("query", &query).finish()
    }
}

/// A canonical path with each character written in one way: an encoded slash in upper case, and what URL libraries send
/// as it is or encoded, encoded.
pub(super) fn match_form(path: &str) -> Cow<'_, str> {
    if !path.contains(is_raw_mark) && !path.contains("%2f") {
        return Cow::Borrowed(path);
    }
    let mut form = String::with_capacity(path.len() + 8);
    for c in path.chars() {
        match u8::try_from(c) {
            Ok(byte) if is_raw_mark(c) => form.push_str(percent_encode_byte(byte)),
            _ => form.push(c),
        }
    }
    Cow::Owned(form.replace("%2f", "%2F"))
}

/// What the URL Standard's path percent-encode set leaves as it is, or left before 2024, beyond RFC 3986 §3.3. No server
/// reads one of them as anything else.
fn is_raw_mark(c: char) -> bool {
    matches!(c, '|' | '^' | '[' | ']')
}

/// Writes one segment in its canonical form, or says why it has none. Gives whether an encoded slash is in it.
fn push_segment(raw: &str, out: &mut String) -> Result<bool, TargetError> {
    let start = out.len();
    let (mut escaped, mut foreign, mut slash) = (false, false, false);
    let mut bytes = raw.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'%' => match hex_pair(&mut bytes).ok_or(TargetError::PercentEncoding)? {
                // As it came, `%2f` or `%2F`: a registry may have signed what it named.
                b'/' => {
                    slash = true;
                    out.push_str(raw.get(at..at + 3).unwrap_or("%2F"));
                }
                b'\\' => return Err(TargetError::Backslash),
                byte if byte.is_ascii_control() => return Err(TargetError::ControlCharacter),
                byte if is_unreserved(byte) => out.push(char::from(byte)),
                byte => {
                    escaped = true;
                    foreign |= !byte.is_ascii();
                    out.push_str(percent_encode_byte(byte));
                }
            },
            // Tomcat and its kin cut `;…` off each segment before they look at the dots: `..;x` is `..`.
            b';' if is_dots(out.get(start..).unwrap_or_default().chars()) => return Err(TargetError::DotSegment),
            b';' => return Err(TargetError::PathParameter),
            b'\\' => return Err(TargetError::Backslash),
            b'?' | b'#' => return Err(TargetError::Delimiter),
            byte if byte.is_ascii_control() => return Err(TargetError::ControlCharacter),
            byte if is_pchar(byte) || is_raw_mark(char::from(byte)) => out.push(char::from(byte)),
            _ => return Err(TargetError::ForbiddenCharacter),
        }
    }
    let segment = out.get(start..).unwrap_or_default();
    if foreign {
        // RFC 3629 §3: an overlong form (`%C0%AE` for a dot) is what a lax decoder turns into what was refused above.
        let text = percent_decode_str(segment).decode_utf8().map_err(|_| TargetError::NotUtf8)?;
        if text.chars().any(is_lookalike) {
            return Err(TargetError::Lookalike);
        }
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(TargetError::ControlCharacter);
        }
        // Each piece between encoded slashes: who decodes them finds a segment there.
        if text.split('/').any(|piece| is_dots(piece.chars())) {
            return Err(TargetError::DotSegment);
        }
    } else {
        let decoded = percent_decode_str(segment).map(char::from);
        let has_dots = if slash {
            decoded.collect::<String>().split('/').any(|piece| is_dots(piece.chars()))
        } else {
            is_dots(decoded)
        };
        if has_dots {
            return Err(TargetError::DotSegment);
        }
    }
    // On the canonical form, since decoding makes new ones: `%25%32%65` is `%252e`.
    if escaped && is_double_encoded(segment) {
        return Err(TargetError::DoubleEncoding);
    }
    Ok(slash)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3 `pchar` without `%`, and without `;`, which has rules of its own.
fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&'..=b',' | b'=' | b':' | b'@')
}

/// The byte that the two hex digits after a `%` mean.
fn hex_pair(bytes: &mut impl Iterator<Item = (usize, u8)>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?.1).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

/// `%25` before what would be an escape again, `%XX` or the `%uXXXX` of IIS: a second decoder behind the first reads
/// it.
fn is_double_encoded(segment: &str) -> bool {
    segment.match_indices("%25").any(|(at, percent)| {
        let mut after = segment.bytes().skip(at + percent.len());
        match (after.next(), after.next()) {
            (Some(first), Some(second)) => {
                (first.is_ascii_hexdigit() || matches!(first, b'u' | b'U')) && second.is_ascii_hexdigit()
            }
            _ => false,
        }
    })
}

/// Whether a decoded segment is a dot segment (RFC 3986 §5.2.4), or one to some server: with a parameter behind it
/// (`..;x`), with spaces that Windows drops (`.. `), with more dots (`...` was two levels up), or with characters that
/// do not show and that HFS+ ignores (CVE-2014-9390).
fn is_dots(chars: impl Iterator<Item = char>) -> bool {
    let mut seen = false;
    for c in chars {
        match c {
            '.' => seen = true,
            ';' => break,
            ' ' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' => {}
            '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => {}
            '\u{e0000}'..='\u{e0fff}' => {}
            _ => return false,
        }
    }
    seen
}

/// A character that some server turns into one which matters in a path.
fn is_lookalike(c: char) -> bool {
    match c {
        // NFKC (UAX #15) makes these `.`, `..` or `...`; something with a `/` in it; `\`; `%`.
        '\u{2024}'..='\u{2026}' | '\u{fe19}' | '\u{fe30}' | '\u{fe52}' | '\u{ff0e}' => true,
        '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}' | '\u{ff0f}' => true,
        '\u{fe68}' | '\u{ff3c}' | '\u{fe6a}' | '\u{ff05}' => true,
        // Slashes and backslashes of mathematics, which best-fit conversion and UTS #39 confuse with ours.
        '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{2216}' | '\u{29f5}' | '\u{29f9}' => true,
        // Yen and won: Windows converts them to `\` on Japanese and Korean code pages (the "WorstFit" attacks).
        '\u{a5}' | '\u{20a9}' => true,
        _ => false,
    }
}
