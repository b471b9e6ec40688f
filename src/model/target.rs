//! The canonical target of a brokered call: what policy checks is byte for byte what is sent (P8).
//!
//! Two parsers that read one path differently are the attack: the broker sees `/public/..;/admin` and allows `/public`,
//! the upstream serves `/admin`. So nothing here repairs a path. What any common server might read in two ways is
//! refused, and only the two normalisations of RFC 3986 §6.2.2 that no server disagrees about are made: hex digits of
//! `%XX` in upper case (§6.2.2.1), and `%XX` of an unreserved character decoded (§6.2.2.2).

use std::borrow::Cow;
use std::fmt;
use std::mem;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, percent_encode_byte};
use zeroize::Zeroizing;

/// The longest path that is accepted, in bytes.
pub(super) const MAX_PATH: usize = 4 * 1024;
/// The longest query that is accepted, in bytes.
const MAX_QUERY: usize = 16 * 1024;

/// Everything but the unreserved characters of RFC 3986 §2.3: an injected value can never end its own parameter.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A canonical path, beginning with `/`, and the query exactly as the agent wrote it (RFC 3986 §3.3, §3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// `path` or `path?query`. The path holds no raw `?`, so the first one ends it.
    whole: String,
}

impl Target {
    /// Reads what follows `/exchange/{upstream}`: a path that is empty (which means `/`) or begins with `/`, and the
    /// query without its `?`. The only way to make a `Target`.
    pub fn parse(raw_path: &str, raw_query: Option<&str>) -> Result<Self, TargetError> {
        if raw_path.len() > MAX_PATH {
            return Err(TargetError::PathTooLong);
        }
        let rest = match raw_path.strip_prefix('/') {
            Some(rest) => rest,
            None if raw_path.is_empty() => "",
            None => return Err(TargetError::NotAbsolute),
        };
        let mut whole = String::with_capacity(raw_path.len() + raw_query.map_or(0, str::len) + 2);
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            // An empty last segment is a trailing slash, which means something. An empty one inside is `//`, which some
            // servers collapse; in front, `//host` is a network-path reference (RFC 3986 §4.2).
            if segment.is_empty() && segments.peek().is_some() {
                return Err(TargetError::EmptySegment);
            }
            whole.push('/');
            push_segment(segment, &mut whole)?;
        }
        if let Some(query) = raw_query {
            check_query(query)?;
            whole.push('?');
            whole.push_str(query);
        }
        Ok(Self { whole })
    }

    /// The canonical path; begins with `/`.
    pub fn path(&self) -> &str {
        self.parts().0
    }

    /// The query without its `?`, byte for byte as it came.
    pub fn query(&self) -> Option<&str> {
        self.parts().1
    }

    /// The request target in origin form (RFC 9112 §3.2.1): what goes on the wire.
    pub fn path_and_query(&self) -> &str {
        &self.whole
    }

    /// The path as a router reads it that decodes before it matches, never to be sent.
    ///
    /// `things%3AbatchDelete` fills a template's `{thing}`, and many an upstream serves it as its operation
    /// `things:batchDelete`: RFC 3986 §2.2 keeps the two apart, routers do not. Where this differs from
    /// [`path`](Self::path), match both, and refuse when they lead to different operations.
    pub fn decoded_path(&self) -> Cow<'_, str> {
        percent_decode_str(self.path()).decode_utf8_lossy()
    }

    /// Whether some server would find a parameter of this name in the query: names are compared decoded, `+` as a
    /// space, ASCII case ignored, and the query is split at `&` and at `;`, since some servers split at both.
    pub fn query_has(&self, name: &str) -> bool {
        self.query().is_some_and(|query| query.split(['&', ';']).any(|piece| is_named(piece, name)))
    }

    /// Takes the parameter of this name out of the query and gives its decoded value: how an agent's token arrives
    /// where the upstream's own key would have gone. Everything else stays as it is.
    ///
    /// A second parameter of that name is refused, since servers disagree whether the first or the last one counts, and
    /// so is one beside a `;`, where they disagree what it is.
    pub fn take_query(&mut self, name: &str) -> Result<Option<String>, TargetError> {
        let (path, Some(query)) = self.parts() else {
            return Ok(None);
        };
        match query.split(['&', ';']).filter(|piece| is_named(piece, name)).count() {
            0 => return Ok(None),
            1 => {}
            _ => return Err(TargetError::RepeatedParameter),
        }
        let Some(found) = query.split('&').find(|piece| is_named(piece, name)).filter(|piece| !piece.contains(';'))
        else {
            return Err(TargetError::SemicolonParameter);
        };
        let value = found.split_once('=').map_or("", |(_, value)| value);
        let value = String::from_utf8(form_bytes(value).collect()).map_err(|_| TargetError::NotUtf8)?;

        let mut rest = String::with_capacity(self.whole.len());
        rest.push_str(path);
        let mut separator = '?';
        for piece in query.split('&').filter(|piece| !is_named(piece, name)) {
            rest.push(separator);
            rest.push_str(piece);
            separator = '&';
        }
        // The old text holds the agent's token.
        drop(Zeroizing::new(mem::replace(&mut self.whole, rest)));
        Ok(Some(value))
    }

    /// The request target with `name=value` appended, both percent-encoded; `self` never holds the secret.
    pub fn with_query_param(&self, name: &str, value: &[u8]) -> Zeroizing<String> {
        // Large enough for everything encoded: a String that grows leaves the secret behind in the memory that it gives
        // up.
        let room = self.whole.len() + 3 * (name.len() + value.len()) + 2;
        let mut whole = Zeroizing::new(String::with_capacity(room));
        whole.push_str(&self.whole);
        match self.query() {
            None => whole.push('?'),
            Some("") => {}
            Some(_) => whole.push('&'),
        }
        whole.extend(percent_encode(name.as_bytes(), STRICT));
        whole.push('=');
        whole.extend(percent_encode(value, STRICT));
        whole
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

/// Writes one segment in its canonical form, or says why it has none.
fn push_segment(raw: &str, out: &mut String) -> Result<(), TargetError> {
    let start = out.len();
    let (mut escaped, mut foreign) = (false, false);
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match hex_pair(&mut bytes).ok_or(TargetError::PercentEncoding)? {
                b'/' => return Err(TargetError::EncodedSlash),
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
            byte if is_pchar(byte) => out.push(char::from(byte)),
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
        if is_dots(text.chars()) {
            return Err(TargetError::DotSegment);
        }
    } else if is_dots(percent_decode_str(segment).map(char::from)) {
        return Err(TargetError::DotSegment);
    }
    // On the canonical form, since decoding makes new ones: `%25%32%65` is `%252e`.
    if escaped && is_double_encoded(segment) {
        return Err(TargetError::DoubleEncoding);
    }
    Ok(())
}

/// The query is not ours to interpret, but it must not end the request line, the header or the target.
fn check_query(query: &str) -> Result<(), TargetError> {
    if query.len() > MAX_QUERY {
        return Err(TargetError::QueryTooLong);
    }
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match hex_pair(&mut bytes).ok_or(TargetError::PercentEncoding)? {
                // CR and LF split requests and log lines, NUL ends strings (CWE-93, CWE-158).
                b'\0' | b'\r' | b'\n' => return Err(TargetError::ControlCharacter),
                _ => {}
            },
            b'#' => return Err(TargetError::Delimiter),
            b'\\' => return Err(TargetError::Backslash),
            byte if byte.is_ascii_control() => return Err(TargetError::ControlCharacter),
            // Brackets go beyond RFC 3986 §3.4, but `expand[]=` is how half of all SDKs write a list.
            b'/' | b'?' | b';' | b'[' | b']' => {}
            byte if is_pchar(byte) => {}
            _ => return Err(TargetError::ForbiddenCharacter),
        }
    }
    Ok(())
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
fn hex_pair(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
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

/// `application/x-www-form-urlencoded` decoding of one name or value: `+` is a space.
fn form_bytes(text: &str) -> impl Iterator<Item = u8> {
    text.split('+')
        .enumerate()
        .flat_map(|(n, part)| (n > 0).then_some(b' ').into_iter().chain(percent_decode_str(part)))
}

fn is_named(piece: &str, name: &str) -> bool {
    let written = piece.split_once('=').map_or(piece, |(name, _)| name);
    form_bytes(written).map(|byte| byte.to_ascii_lowercase()).eq(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

macro_rules! target_errors {
    ($($name:ident $code:literal $sentence:literal)*) => {
        /// Why a target is refused; never repeats what was sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TargetError {$(#[doc = concat!("Says: ", $sentence, ".")] $name,)*}

        impl TargetError {
            /// A stable code that programs may match on.
            pub fn code(self) -> &'static str {
                match self {$(Self::$name => $code,)*}
            }
        }

        /// One sentence for the caller: what was wrong and what to do.
        impl fmt::Display for TargetError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {$(Self::$name => $sentence,)*})
            }
        }
    };
}

target_errors! {
    NotAbsolute "target_not_absolute"
        "the path does not begin with a slash; put one in front"
    PathTooLong "target_path_too_long"
        "the path is longer than 4096 bytes; shorten it or move data into the body"
    QueryTooLong "target_query_too_long"
        "the query is longer than 16384 bytes; shorten it or move data into the body"
    DotSegment "target_dot_segment"
        "the path has a dot segment (plain, encoded or in disguise); send the path resolved"
    EmptySegment "target_empty_segment"
        "the path has an empty segment (two slashes in a row); send one slash"
    PathParameter "target_path_parameter"
        "the path has a semicolon, which some servers cut off; leave it out or write %3B"
    Backslash "target_backslash"
        "there is a backslash, which some servers read as a slash; use slashes (in a query, %5C)"
    EncodedSlash "target_encoded_slash"
        "the path has an encoded slash, which some servers decode; name the resource without it"
    ControlCharacter "target_control_character"
        "there is a control character, raw or percent-encoded; remove it"
    ForbiddenCharacter "target_forbidden_character"
        "there is a character that a URL may not have as it is; percent-encode it as UTF-8"
    Delimiter "target_delimiter"
        "there is a bare ? or # where it does not belong; percent-encode it if it is data, drop it if not"
    PercentEncoding "target_percent_encoding"
        "there is a % without two hex digits behind it; write a literal percent sign as %25"
    DoubleEncoding "target_double_encoding"
        "the path is percent-encoded twice; encode it once"
    NotUtf8 "target_not_utf8"
        "the percent-encoded bytes are not valid UTF-8; encode the text as UTF-8"
    Lookalike "target_lookalike"
        "the path has a character that some servers turn into a dot, slash, backslash or percent sign; remove it"
    RepeatedParameter "target_repeated_parameter"
        "the query parameter that carries the token is there more than once; send it once"
    SemicolonParameter "target_semicolon_parameter"
        "the query parameter that carries the token stands beside a semicolon; separate parameters with &"
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_and_normalised() {
        for (name, input, expected) in [
            ("empty is root", "", "/"),
            ("root", "/", "/"),
            ("plain", "/v1/contacts/42", "/v1/contacts/42"),
            ("trailing slash kept", "/v1/contacts/", "/v1/contacts/"),
            ("no trailing slash made", "/v1/contacts", "/v1/contacts"),
            ("all unreserved", "/AZaz09-._~", "/AZaz09-._~"),
            ("sub-delims, colon, at", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"),
            ("dots within names", "/a.b/.well-known/..a/a../a...b/file.", "/a.b/.well-known/..a/a../a...b/file."),
            ("case of letters kept", "/V1/Contacts", "/V1/Contacts"),
            ("hex upper-cased", "/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
            ("unreserved decoded", "/%61%7e%2D%5f%30/x%2ey", "/a~-_0/x.y"),
            ("reserved stays encoded", "/a%40b%3Ac%2Bd%3F%23%3B%26%3D", "/a%40b%3Ac%2Bd%3F%23%3B%26%3D"),
            ("forbidden stays encoded", "/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D", "/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
            ("percent sign as data", "/100%25", "/100%25"),
            ("percent sign before text", "/100%25-of/5%25x0/%25u/%25a", "/100%25-of/5%25x0/%25u/%25a"),
            ("matrix data encoded", "/a%3bb", "/a%3Bb"),
            (
                "emoji, Persian with a joiner",
                "/%F0%9F%91%8D/%D9%85%DB%8C%E2%80%8C",
                "/%F0%9F%91%8D/%D9%85%DB%8C%E2%80%8C",
            ),
            ("Japanese question mark", "/%EF%BC%9F", "/%EF%BC%9F"),
            ("longest", &format!("/{}", "a".repeat(MAX_PATH - 1)), &format!("/{}", "a".repeat(MAX_PATH - 1))),
        ] {
            let target = Target::parse(input, None).unwrap_or_else(|why| panic!("{name}: {}", why.code()));
            assert_eq!((target.path(), target.query(), target.path_and_query()), (expected, None, expected), "{name}");
        }
    }

    #[test]
    fn hostile_paths() {
        for (name, input, code) in [
            ("no slash", "a", "target_not_absolute"),
            ("no slash, dots", "../a", "target_not_absolute"),
            ("absolute form", "http://evil/", "target_not_absolute"),
            ("asterisk form", "*", "target_not_absolute"),
            ("userinfo glued on", "@evil/x", "target_not_absolute"),
            ("port glued on", ":80/x", "target_not_absolute"),
            ("too long", &format!("/{}", "a".repeat(MAX_PATH)), "target_path_too_long"),
            ("dot", "/.", "target_dot_segment"),
            ("dot inside", "/a/./b", "target_dot_segment"),
            ("dots", "/..", "target_dot_segment"),
            ("dots inside", "/a/../b", "target_dot_segment"),
            ("dots last", "/a/..", "target_dot_segment"),
            ("dots and slash last", "/a/../", "target_dot_segment"),
            ("dot encoded", "/%2e", "target_dot_segment"),
            ("dots encoded", "/a/%2e%2e/b", "target_dot_segment"),
            ("dots encoded, upper", "/a/%2E%2E/b", "target_dot_segment"),
            ("half encoded", "/a/.%2e/b", "target_dot_segment"),
            ("other half", "/a/%2E./b", "target_dot_segment"),
            ("Tomcat parameter", "/a/..;/b", "target_dot_segment"),
            ("Tomcat parameter named", "/a/..;x=y/b", "target_dot_segment"),
            ("Tomcat parameter, one dot", "/a/.;/b", "target_dot_segment"),
            ("Tomcat, encoded dots", "/a/%2e%2e;/b", "target_dot_segment"),
            ("encoded semicolon", "/a/..%3bx/b", "target_dot_segment"),
            ("encoded semicolon, upper", "/a/.%2e%3B/b", "target_dot_segment"),
            ("Windows trailing space", "/a/..%20/b", "target_dot_segment"),
            ("leading space", "/a/%20../b", "target_dot_segment"),
            ("Windows dots", "/a/.../b", "target_dot_segment"),
            ("many dots", "/a/...../b", "target_dot_segment"),
            ("dots and zero width space", "/a/.%E2%80%8B./b", "target_dot_segment"),
            ("dots and zero width joiner", "/a/..%E2%80%8D/b", "target_dot_segment"),
            ("dots and byte order mark", "/a/%EF%BB%BF../b", "target_dot_segment"),
            ("dots and soft hyphen", "/a/.%C2%AD./b", "target_dot_segment"),
            ("dots, invisible, semicolon", "/a/..%E2%80%8B%3Bx/b", "target_dot_segment"),
            ("dots and tag character", "/a/..%F3%A0%81%81/b", "target_dot_segment"),
            ("bare parameter", "/a;x/b", "target_path_parameter"),
            ("session parameter", "/a;jsessionid=1", "target_path_parameter"),
            ("empty parameter", "/a;", "target_path_parameter"),
            ("only a parameter", "/;/admin", "target_path_parameter"),
            ("network path", "//evil/x", "target_empty_segment"),
            ("only slashes", "//", "target_empty_segment"),
            ("double inside", "/a//b", "target_empty_segment"),
            ("double at the end", "/a//", "target_empty_segment"),
            ("triple", "///", "target_empty_segment"),
            ("backslash", "/a\\b", "target_backslash"),
            ("backslash dots", "/..\\a", "target_backslash"),
            ("backslash host", "/\\evil", "target_backslash"),
            ("encoded backslash", "/a%5cb", "target_backslash"),
            ("encoded backslash, upper", "/a%5Cb", "target_backslash"),
            ("encoded backslash dots", "/..%5c..%5c", "target_backslash"),
            ("encoded slash", "/a%2fb", "target_encoded_slash"),
            ("encoded slash, upper", "/a%2Fb", "target_encoded_slash"),
            ("encoded slash dots", "/..%2f..%2f", "target_encoded_slash"),
            ("all encoded", "/%2e%2e%2f", "target_encoded_slash"),
            ("NUL", "/a%00", "target_control_character"),
            ("NUL before suffix", "/a%00.json", "target_control_character"),
            ("tab", "/a%09b", "target_control_character"),
            ("dots and tab", "/..%09/", "target_control_character"),
            ("line feed", "/a%0ab", "target_control_character"),
            ("CR LF header", "/a%0d%0aX-Evil:1", "target_control_character"),
            ("last control", "/a%1f", "target_control_character"),
            ("delete", "/a%7f", "target_control_character"),
            ("C1 next line", "/a%C2%85", "target_control_character"),
            ("C1 first", "/a%C2%80", "target_control_character"),
            ("line separator", "/a%E2%80%A8", "target_control_character"),
            ("paragraph separator", "/a%E2%80%A9", "target_control_character"),
            ("raw NUL", "/a\0", "target_control_character"),
            ("raw tab", "/a\tb", "target_control_character"),
            ("raw tab in dots", "/.\t.", "target_control_character"),
            ("raw line feed", "/a\nb", "target_control_character"),
            ("raw CR LF", "/a HTTP/1.1\r\n", "target_forbidden_character"),
            ("raw CR", "/a\r", "target_control_character"),
            ("raw delete", "/a\x7f", "target_control_character"),
            ("raw space", "/a b", "target_forbidden_character"),
            ("raw quote", "/a\"b", "target_forbidden_character"),
            ("raw less", "/a<b", "target_forbidden_character"),
            ("raw more", "/a>b", "target_forbidden_character"),
            ("raw caret", "/a^b", "target_forbidden_character"),
            ("raw grave", "/a`b", "target_forbidden_character"),
            ("raw brace", "/{id}", "target_forbidden_character"),
            ("raw pipe", "/a|b", "target_forbidden_character"),
            ("raw closing brace", "/a}", "target_forbidden_character"),
            ("raw bracket", "/a[0]", "target_forbidden_character"),
            ("raw closing bracket", "/a]", "target_forbidden_character"),
            ("raw UTF-8", "/café", "target_forbidden_character"),
            ("raw fullwidth dots", "/．．/a", "target_forbidden_character"),
            ("raw fullwidth slash", "/a／b", "target_forbidden_character"),
            ("raw byte order mark", "/\u{feff}a", "target_forbidden_character"),
            ("raw question mark", "/a?b", "target_delimiter"),
            ("raw hash", "/a#b", "target_delimiter"),
            ("dots behind hash", "/a#/../b", "target_delimiter"),
            ("lone percent", "/%", "target_percent_encoding"),
            ("percent at the end", "/100%", "target_percent_encoding"),
            ("one digit", "/a%2", "target_percent_encoding"),
            ("one digit, then segment", "/a%2/b", "target_percent_encoding"),
            ("no digits", "/%zz", "target_percent_encoding"),
            ("second is none", "/%2g", "target_percent_encoding"),
            ("sign for a digit", "/%+1", "target_percent_encoding"),
            ("space for a digit", "/% 1", "target_percent_encoding"),
            ("IIS form", "/%u002e%u002e", "target_percent_encoding"),
            ("percent percent", "/%%32%65", "target_percent_encoding"),
            ("half an escape escaped", "/%2%35", "target_percent_encoding"),
            ("fullwidth digits", "/%２ｅ", "target_percent_encoding"),
            ("escape across segments", "/%/2e", "target_percent_encoding"),
            ("double dots", "/%252e%252e/a", "target_double_encoding"),
            ("double slash", "/a%252fb", "target_double_encoding"),
            ("double slash, upper", "/a%252Fb", "target_double_encoding"),
            ("double backslash", "/a%255cb", "target_double_encoding"),
            ("double NUL", "/a%2500", "target_double_encoding"),
            ("triple", "/a%25252e", "target_double_encoding"),
            ("double of anything", "/a%2541", "target_double_encoding"),
            ("digits escaped too", "/%25%32%65%25%32%65", "target_double_encoding"),
            ("first digit escaped", "/%25%32e", "target_double_encoding"),
            ("second digit escaped", "/%252%65", "target_double_encoding"),
            ("IIS form double", "/%25u002e", "target_double_encoding"),
            ("IIS form double, escaped", "/%25%75002e", "target_double_encoding"),
            ("second percent", "/%25%252e", "target_double_encoding"),
            ("overlong dot", "/%c0%ae%c0%ae/a", "target_not_utf8"),
            ("overlong slash", "/a%c0%afb", "target_not_utf8"),
            ("overlong slash, 3 bytes", "/a%e0%80%afb", "target_not_utf8"),
            ("overlong dot, 4 bytes", "/%f0%80%80%ae", "target_not_utf8"),
            ("overlong backslash", "/a%c1%9cb", "target_not_utf8"),
            ("overlong NUL", "/a%c0%80", "target_not_utf8"),
            ("Latin-1", "/caf%e9", "target_not_utf8"),
            ("lone continuation", "/%80", "target_not_utf8"),
            ("cut off", "/%e2%80", "target_not_utf8"),
            ("across segments", "/%c3/%a9", "target_not_utf8"),
            ("surrogate", "/%ed%a0%80", "target_not_utf8"),
            ("beyond Unicode", "/%f4%90%80%80", "target_not_utf8"),
            ("dots with a bad byte", "/..%ff", "target_not_utf8"),
            ("fullwidth full stop", "/%EF%BC%8E%EF%BC%8E/a", "target_lookalike"),
            ("fullwidth solidus", "/..%EF%BC%8Fa", "target_lookalike"),
            ("fullwidth reverse solidus", "/a%ef%bc%bcb", "target_lookalike"),
            ("fullwidth percent", "/%EF%BC%852e", "target_lookalike"),
            ("one dot leader", "/%E2%80%A4%E2%80%A4/a", "target_lookalike"),
            ("two dot leader", "/%E2%80%A5/a", "target_lookalike"),
            ("ellipsis", "/a%E2%80%A6", "target_lookalike"),
            ("small full stop", "/%EF%B9%92", "target_lookalike"),
            ("small reverse solidus", "/%EF%B9%A8", "target_lookalike"),
            ("small percent", "/%EF%B9%AA", "target_lookalike"),
            ("vertical ellipsis form", "/%EF%B8%99", "target_lookalike"),
            ("vertical two dots", "/%EF%B8%B0", "target_lookalike"),
            ("account of", "/%E2%84%80", "target_lookalike"),
            ("care of", "/%E2%84%85", "target_lookalike"),
            ("division slash", "/a%E2%88%95b", "target_lookalike"),
            ("fraction slash", "/a%E2%81%84b", "target_lookalike"),
            ("big solidus", "/a%E2%A7%B8b", "target_lookalike"),
            ("big reverse solidus", "/a%E2%A7%B9b", "target_lookalike"),
            ("set minus", "/a%E2%88%96b", "target_lookalike"),
            ("reverse solidus operator", "/a%E2%A7%B5b", "target_lookalike"),
            ("yen", "/..%C2%A5a", "target_lookalike"),
            ("won", "/..%E2%82%A9a", "target_lookalike"),
        ] {
            let found = Target::parse(input, None);
            assert_eq!(found.map_err(TargetError::code), Err(code), "{name}: {input:?}");
        }
        for byte in (0..=0x1f).chain([0x7f]) {
            for input in [format!("/a%{byte:02x}b"), format!("/a{}b", char::from(byte))] {
                assert_eq!(Target::parse(&input, None), Err(TargetError::ControlCharacter), "{input:?}");
            }
        }
    }

    #[test]
    fn queries() {
        for query in [
            "",
            "a",
            "a=b",
            "a=b&c=d",
            "&&",
            "=",
            "a=b;c=d",
            "x=/?:@!$'()*+,",
            "expand[]=a&f[b][c]=d",
            "%2f%2e%2E%5c%25%32%65%252f",
            "%ff",
            "%09%1b",
            "a=../..//",
            "%7e%41%c3%a9",
            &"a".repeat(MAX_QUERY),
        ] {
            let target = Target::parse("/x", Some(query)).unwrap_or_else(|why| panic!("{query}: {why}"));
            assert_eq!(target.query(), Some(query));
            assert_eq!(target.path_and_query(), format!("/x?{query}"));
            assert_eq!(target.path(), "/x");
        }
        for (name, query, code) in [
            ("too long", &*"a".repeat(MAX_QUERY + 1), "target_query_too_long"),
            ("hash", "a#b", "target_delimiter"),
            ("space", "a b", "target_forbidden_character"),
            ("request line", "a HTTP/1.1", "target_forbidden_character"),
            ("double quote", "a=\"b\"", "target_forbidden_character"),
            ("angle", "<script>", "target_forbidden_character"),
            ("closing angle", ">", "target_forbidden_character"),
            ("caret", "a^", "target_forbidden_character"),
            ("grave", "`", "target_forbidden_character"),
            ("brace", "{", "target_forbidden_character"),
            ("closing brace", "}", "target_forbidden_character"),
            ("pipe", "a|b", "target_forbidden_character"),
            ("UTF-8", "a=é", "target_forbidden_character"),
            ("fullwidth ampersand", "a＆b", "target_forbidden_character"),
            ("backslash", "a\\b", "target_backslash"),
            ("NUL raw", "\0", "target_control_character"),
            ("CR LF raw", "a\r\nX: y", "target_control_character"),
            ("tab raw", "a\tb", "target_control_character"),
            ("delete raw", "\x7f", "target_control_character"),
            ("NUL", "a=%00", "target_control_character"),
            ("CR", "a=%0d", "target_control_character"),
            ("LF", "a=%0A", "target_control_character"),
            ("lone percent", "100%", "target_percent_encoding"),
            ("bad digits", "%zz", "target_percent_encoding"),
            ("IIS form", "%u0041", "target_percent_encoding"),
            ("escape across parameters", "%2&f", "target_percent_encoding"),
        ] {
            let found = Target::parse("/x", Some(query));
            assert_eq!(found.map_err(TargetError::code), Err(code), "{name}");
        }
    }

    #[test]
    fn finds_parameters_as_any_server_would() {
        let has = |query| Target::parse("/", Some(query)).expect(query).query_has("api key");
        for query in [
            "api+key=1",
            "api%20key=1",
            "a=b&api+key",
            "a=b;api+key=1",
            "API+KEY=1",
            "%61pi%20Key=1",
            "a&;&api+key=",
            "api+key=1=2",
            "a=b;api%20key&c",
        ] {
            assert!(has(query), "{query}");
        }
        for query in [
            "",
            "a=api+key",
            "api%2bkey=1",
            "api+key2=1",
            "xapi+key=1",
            "api+key%3d1",
            "api%2520key=1",
            "a%26api+key=1",
            "api+key[]=1",
        ] {
            assert!(!has(query), "{query}");
        }
        assert!(!Target::parse("/api+key=1", None).expect("path").query_has("api key"));
    }

    #[test]
    fn takes_the_token() {
        for (query, value, rest) in [
            ("key=t", Some("t"), "/x"),
            ("key=t&a=%2f", Some("t"), "/x?a=%2f"),
            ("a=1&key=t", Some("t"), "/x?a=1"),
            ("a=1&KEY=t&b", Some("t"), "/x?a=1&b"),
            ("a=1&%6bey=%74+%2B%3d=&b", Some("t +=="), "/x?a=1&b"),
            ("key", Some(""), "/x"),
            ("key=", Some(""), "/x"),
            ("key=t&", Some("t"), "/x?"),
            ("&key=t&&", Some("t"), "/x?&&"),
            ("a=b;c&key=t", Some("t"), "/x?a=b;c"),
            ("key=%C3%A9", Some("é"), "/x"),
            ("keys=1&a=key", None, "/x?keys=1&a=key"),
            ("", None, "/x?"),
        ] {
            let mut target = Target::parse("/x", Some(query)).expect(query);
            assert_eq!(
                target.take_query("key").map(|value| value.map(|value| value.to_string())),
                Ok(value.map(str::to_owned)),
                "{query}"
            );
            assert_eq!(target.path_and_query(), rest, "{query}");
            assert!(!target.query_has("key"), "{query}");
        }
        for (query, code) in [
            ("key=1&key=2", "target_repeated_parameter"),
            ("key=1&KEY=2", "target_repeated_parameter"),
            ("key=1&a;k%65y=2", "target_repeated_parameter"),
            ("key=1;key=2", "target_repeated_parameter"),
            ("a=1;key=2", "target_semicolon_parameter"),
            ("key=1;a=2", "target_semicolon_parameter"),
            ("key;a=2", "target_semicolon_parameter"),
            (";key=2", "target_semicolon_parameter"),
            ("key=%ff", "target_not_utf8"),
        ] {
            let mut target = Target::parse("/x", Some(query)).expect(query);
            let before = target.clone();
            assert_eq!(target.take_query("key").map_err(TargetError::code), Err(code), "{query}");
            assert_eq!(target, before, "{query}");
        }
        assert_eq!(Target::parse("/key=1", None).expect("path").take_query("key"), Ok(None));
    }

    #[test]
    fn appends_a_secret() {
        for (query, expected) in [
            (None, "/x?k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
            (Some(""), "/x?k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
            (Some("a=1"), "/x?a=1&k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
        ] {
            let target = Target::parse("/x", query).expect("good");
            let whole = target.with_query_param("k[]", b"\0a&b=c +#\xc3\xa9\xff-._~");
            assert_eq!(*whole, expected);
            assert_eq!(target.query(), query);
        }
        let target = Target::parse("/x", None).expect("good");
        let whole = target.with_query_param("&&&", &[b'&'; 1000]);
        assert_eq!(whole.capacity(), target.path_and_query().len() + 3 * 1003 + 2, "it never grew");
    }

    #[test]
    fn decoded_path_shows_what_lax_routers_match() {
        let target = |raw| Target::parse(raw, None).expect(raw);
        assert_eq!(target("/things%3AbatchDelete").decoded_path(), "/things:batchDelete");
        assert!(matches!(target("/things/1").decoded_path(), Cow::Borrowed("/things/1")));
    }

    #[test]
    fn debug_and_errors_hold_no_token() {
        let target = Target::parse("/x", Some("key=hunter2")).expect("good");
        assert_eq!(format!("{target:?}"), r#"Target { path: "/x", query: Some("[11 bytes]") }"#);
        assert_eq!(TargetError::DotSegment.code(), "target_dot_segment");
        assert!(TargetError::PathTooLong.to_string().contains(&MAX_PATH.to_string()));
        assert!(TargetError::QueryTooLong.to_string().contains(&MAX_QUERY.to_string()));
    }

    /// Pieces that attacks are made of, so that random paths come near the edges.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-Z0-9._~!$&'()*+,=:@-]{1,4}",
            4 => Just("/".to_owned()),
            4 => "%[0-9a-fA-F]{2}",
            2 => prop::sample::select(vec![
                "%25", "%", ".", "..", "%2e", "%2E", "%2f", "%5c", ";", "%3b", "\\", "?", "#", "%32", "%65", "%c3%a9",
                "%c0%ae",
                "%e2%80%8b", "%ef%bc%8e", "%20", " ", "é", "\u{ff0f}", "%00", "u002e", "{", "&", "=", "key", "+",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn check(path: &str, query: Option<&str>) -> Result<(), TestCaseError> {
        let Ok(target) = Target::parse(path, query) else {
            return Ok(());
        };
        prop_assert_eq!(&Target::parse(target.path(), target.query()), &Ok(target.clone()));
        prop_assert_eq!(target.query(), query);
        prop_assert!(target.path().starts_with('/') && !target.path().contains("//"));
        prop_assert!(target.path_and_query().bytes().all(|byte| byte.is_ascii_graphic()));
        let refused = ['\\', ';', '?', '#', '"', '<', '>', '^', '`', '{', '|', '}', '[', ']'];
        prop_assert_eq!(target.path().find(refused), None);
        let lower = target.path().to_lowercase();
        for escape in ["%2f", "%5c", "%00", "%0a", "%0d", "%7f", "%2e", "%41", "%7e"] {
            prop_assert!(!lower.contains(escape), "{}", escape);
        }
        // Once and twice decoded, by this and by a lax decoder, no dot segment and no new slash come out.
        let decoded = target.decoded_path().into_owned();
        prop_assert_eq!(decoded.contains('\u{fffd}'), lower.contains("%ef%bf%bd"));
        let twice = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
        for text in [&decoded, &twice] {
            prop_assert_eq!(text.split('/').count(), target.path().split('/').count());
            for segment in text.split(['/', '\\']) {
                let bare = segment.split(';').next().unwrap_or_default();
                prop_assert!(!matches!(bare.trim(), "." | ".."), "{}", segment);
            }
        }
        // The http and url crates, that carry it, read it as it is.
        let url = url::Url::parse(&format!("http://h{}", target.path_and_query())).expect("a URL");
        prop_assert_eq!(url.path(), target.path());
        let sent: http::uri::PathAndQuery = target.path_and_query().parse().expect("a request target");
        prop_assert_eq!(sent.as_str(), target.path_and_query());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics(path in any::<String>(), query in any::<Option<String>>()) {
            check(&path, query.as_deref())?;
            check(&format!("/{path}"), None)?;
        }

        #[test]
        fn canonical_is_canonical(path in hostile(), query in prop::option::of(hostile())) {
            check(&format!("/{path}"), query.as_deref())?;
        }

        #[test]
        fn a_taken_parameter_is_gone(query in hostile()) {
            let Ok(mut target) = Target::parse("/x", Some(&query)) else { return Ok(()) };
            if let Ok(taken) = target.take_query("key") {
                prop_assert!(!target.query_has("key"));
                prop_assert_eq!(taken.is_none(), target.query() == Some(&query));
                check(target.path(), target.query())?;
            }
        }

        #[test]
        fn an_appended_value_comes_back(
            query in prop::option::of(hostile()), name in "[a-z\\[\\]&= ]{1,8}", value in any::<String>(),
        ) {
            let Ok(target) = Target::parse("/x", query.as_deref()) else { return Ok(()) };
            let whole = target.with_query_param(&name, value.as_bytes());
            let url = url::Url::parse(&format!("http://h{}", *whole)).expect("a URL");
            let last = url.query_pairs().last().expect("a parameter");
            prop_assert_eq!((&*last.0, &*last.1), (&*name, &*value));
        }
    }
}
