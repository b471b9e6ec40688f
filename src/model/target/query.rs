//! The query of a target: what may be in it, the parameter that carries a token or a secret, what records show of it.

use std::mem;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use zeroize::Zeroizing;

use super::{Target, TargetError, hex_pair, is_pchar};

/// The longest query that is accepted, in bytes.
pub(super) const MAX_QUERY: usize = 16 * 1024;

/// Everything but the unreserved characters of RFC 3986 §2.3: an injected value can never end its own parameter.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest name of a parameter that is taken for one in records.
const MAX_NAME: usize = 100;

/// Path and query with `name=value` appended, both percent-encoded.
pub fn append_parameter(path_and_query: &str, name: &str, value: &[u8]) -> Zeroizing<String> {
    // Large enough for everything encoded: a String that grows leaves the secret behind in the memory that it gives up.
    let room = path_and_query.len() + 3 * (name.len() + value.len()) + 2;
    let mut whole = Zeroizing::new(String::with_capacity(room));
    whole.push_str(path_and_query);
    match path_and_query.split_once('?') {
        None => whole.push('?'),
        Some((_, "")) => {}
        Some(_) => whole.push('&'),
    }
    whole.extend(percent_encode(name.as_bytes(), STRICT));
    whole.push('=');
    whole.extend(percent_encode(value, STRICT));
    whole
}

impl Target {
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

    /// Path and query for a record: names of parameters stay, and of each value is left what `shown` makes of it, decoded.
    ///
    /// A piece that does not look like a name (a search for an address without any name, `?ada@example.com`) is a value.
    pub fn with_values(&self, shown: impl Fn(&[u8]) -> String) -> String {
        let (path, query) = self.parts();
        let mut out = path.to_owned();
        let Some(query) = query else { return out };
        out.push('?');
        for (n, piece) in query.split('&').enumerate() {
            if n > 0 {
                out.push('&');
            }
            let (before, value) = match piece.split_once('=') {
                Some((name, value)) if looks_like_a_name(name) => (piece.get(..=name.len()).unwrap_or(name), value),
                None if looks_like_a_name(piece) => (piece, ""),
                _ => ("", piece),
            };
            out.push_str(before);
            if !value.is_empty() {
                out.push_str(&shown(&form_bytes(value).collect::<Vec<u8>>()));
            }
        }
        out
    }
}

/// The query is not ours to interpret, but it must not end the request line, the header or the target.
pub(super) fn check(query: &str) -> Result<(), TargetError> {
    if query.len() > MAX_QUERY {
        return Err(TargetError::QueryTooLong);
    }
    let mut bytes = query.bytes().enumerate();
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'%' => {
                // NUL ends strings (CWE-158). Line ends are data: queries of several lines are sent so (GraphQL, PromQL).
                if hex_pair(&mut bytes).ok_or(TargetError::PercentEncoding)? == b'\0' {
                    return Err(TargetError::ControlCharacter);
                }
            }
            b'#' => return Err(TargetError::Delimiter),
            byte if byte.is_ascii_control() => return Err(TargetError::ControlCharacter),
            b'/' | b'?' | b';' => {}
            // Beyond RFC 3986 §3.4: what the URL Standard's query percent-encode set leaves as it is, so that fetch, httpx
            // and half of all SDKs (`expand[]=`) send it so.
            b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`' | b'\\' => {}
            byte if is_pchar(byte) => {}
            _ => return Err(TargetError::ForbiddenCharacter),
        }
    }
    Ok(())
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

fn looks_like_a_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.$:[]".contains(&byte);
    text.len() <= MAX_NAME && percent_decode_str(text).all(plain)
}
