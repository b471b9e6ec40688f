//! Hostile targets, piece by piece, each with what must become of it.

use proptest::prelude::*;

/// What the upstream of the grammar may be asked. The role gives all but `admin`.
pub(super) const OPERATIONS: &str = r#"      - { id: open, methods: [GET], path: "/open/{*rest}", scope: open }
      - { id: item, methods: [GET], path: "/v1/items/{id}", scope: open }
      - { id: purge, methods: [GET], path: "/v1/items/all:purge", scope: admin }
      - { id: admin, methods: [GET], path: "/admin/{*rest}", scope: admin }
"#;

pub(super) const SCOPES: &str = "\"crm:open\"";

/// A piece is harmless, with the form in which it must be checked and sent, or is refused, with the reasons that there
/// may be. The empty reason is the HTTP parser's: what it cannot read gets a 400 before any handler, and has no code.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Sent(&'static str),
    Refused(&'static [&'static str]),
}

use Fate::{Refused, Sent};

type Piece = (&'static [u8], Fate);

const DOT: Fate = Refused(&["target_dot_segment"]);
const TWICE: Fate = Refused(&["target_double_encoding"]);
const BACKSLASH: Fate = Refused(&["target_backslash"]);
const CONTROL: Fate = Refused(&["target_control_character"]);
const UTF8: Fate = Refused(&["target_not_utf8"]);
const LOOKALIKE: Fate = Refused(&["target_lookalike"]);
const PERCENT: Fate = Refused(&["target_percent_encoding"]);
const PARAMETER: Fate = Refused(&["target_path_parameter"]);
const FORBIDDEN: Fate = Refused(&["target_forbidden_character"]);
const EMPTY: Fate = Refused(&["target_empty_segment"]);
const NO_HTTP: Fate = Refused(&[""]);
/// Whether the parser or the path check is first to refuse it is its own matter.
const EITHER: Fate = Refused(&["", "target_forbidden_character"]);

/// Segments that mean the same to everybody.
const HARMLESS: &[Piece] = &[
    (b"a", Sent("a")),
    (b"7", Sent("7")),
    (b"open", Sent("open")),
    (b"admin", Sent("admin")),
    (b"%61dmin", Sent("admin")),
    (b"ADMIN", Sent("ADMIN")),
    (b"v1", Sent("v1")),
    (b"items", Sent("items")),
    (b"it%65ms", Sent("items")),
    (b"all:purge", Sent("all:purge")),
    (b"all%3Apurge", Sent("all%3Apurge")),
    (b"all%3apurge", Sent("all%3Apurge")),
    (b"%7euser%2Dx", Sent("~user-x")),
    (b"a%20b", Sent("a%20b")),
    (b"caf%c3%a9", Sent("caf%C3%A9")),
    (b"%F0%9f%98%80", Sent("%F0%9F%98%80")),
    (b"100%25", Sent("100%25")),
    (b"%25zz", Sent("%25zz")),
    (b"%25.", Sent("%25.")),
    (b"..a", Sent("..a")),
    (b"a..", Sent("a..")),
    (b".a%2e", Sent(".a.")),
    (b"*", Sent("*")),
    (b"(1)", Sent("(1)")),
    (b"a+b,c=d&e@f!$'", Sent("a+b,c=d&e@f!$'")),
    (b"%3b%3F%23%5B", Sent("%3B%3F%23%5B")),
    (b"http:", Sent("http:")),
    (b"a|b", Sent("a|b")),
    (b"a^b", Sent("a^b")),
    (b"[1]", Sent("[1]")),
    (b"%2f", Sent("%2f")),
    (b"a%2Fb", Sent("a%2Fb")),
    (b"%2F%2F", Sent("%2F%2F")),
    (b"..a%2f%61dmin", Sent("..a%2fadmin")),
];

/// Segments that somebody reads in another way.
const HOSTILE: &[Piece] = &[
    (b".", DOT),
    (b"..", DOT),
    (b"...", DOT),
    (b"%2e", DOT),
    (b"%2E%2e", DOT),
    (b".%2E", DOT),
    (b"%2e%2e%2e", DOT),
    (b"..%20", DOT),
    (b"%20..", DOT),
    (b"..;", DOT),
    (b"..;x=1", DOT),
    (b"%2e%2e;", DOT),
    (b"..%3bx", DOT),
    (b".%c2%ad.", DOT),
    (b"%e2%80%8b..", DOT),
    (b"..%ef%bb%bf", DOT),
    (b"%252e%252e", TWICE),
    (b"%25%32%65", TWICE),
    (b"%2525%32e", TWICE),
    (b"%252f", TWICE),
    (b"a%255cb", TWICE),
    (b"%25u002e", TWICE),
    (b"..%2f..%2fadmin", DOT),
    (b"a%2f%2e%2E", DOT),
    (b"%2F.", DOT),
    (b"a%2F..%3bx%2fb", DOT),
    (b"a%2F%252e", TWICE),
    (b"a%2f..%5cb", BACKSLASH),
    (b"\\", BACKSLASH),
    (b"..\\admin", BACKSLASH),
    (b"%5c", BACKSLASH),
    (b"..%5C..", BACKSLASH),
    (b"%00", CONTROL),
    (b"a%00.png", CONTROL),
    (b"%0a", CONTROL),
    (b"a%0d%0aX-Evil:%201", CONTROL),
    (b"%09", CONTROL),
    (b"%7F", CONTROL),
    (b"%c2%85", CONTROL),
    (b"%E2%80%A8", CONTROL),
    (b"%c0%ae%c0%ae", UTF8),
    (b"%e0%80%ae", UTF8),
    (b"%C0%AFadmin", UTF8),
    (b"%f8%80%80%80%ae", UTF8),
    (b"%ff", UTF8),
    (b"%ed%a0%80", UTF8),
    (b"%ef%bc%8f", LOOKALIKE),
    (b"%ef%bc%8e%ef%bc%8e", LOOKALIKE),
    (b"%E2%88%95admin", LOOKALIKE),
    (b"%ef%bc%85", LOOKALIKE),
    (b"%", PERCENT),
    (b"%2", PERCENT),
    (b"%zz", PERCENT),
    (b"%u002e", PERCENT),
    (b"% 2e", NO_HTTP),
    (b"%+2e", PERCENT),
    (b";", PARAMETER),
    (b"a;b=c", PARAMETER),
    (b"admin;jsessionid=1", PARAMETER),
    (b"\"a\"", FORBIDDEN),
    (b"{id}", FORBIDDEN),
    (b"<a>", EITHER),
    (b"`a`", EITHER),
    (b"\xc3\xa9", EITHER),
    (b"\xff\xfe", EITHER),
    (b"\xc0\xae\xc0\xae", EITHER),
    (b"a b", NO_HTTP),
    (b"a\tb", NO_HTTP),
    (b"a\x00b", NO_HTTP),
    (b"a\x0bb", NO_HTTP),
    (b"a\x7fb", Refused(&["", "target_control_character"])),
    (b"a\rb", NO_HTTP),
    (b"", EMPTY),
];

/// Pieces of a query; it is not ours to interpret, so what is good travels exactly as it is.
const QUERY: &[Piece] = &[
    (b"a=1", Sent("a=1")),
    (b"a=2", Sent("a=2")),
    (b"A=3", Sent("A=3")),
    (b"%61=4", Sent("%61=4")),
    (b"a=%7e%2f..%2F", Sent("a=%7e%2f..%2F")),
    (b"q=/../admin?x", Sent("q=/../admin?x")),
    (b"expand[]=b", Sent("expand[]=b")),
    (b"a;b=c", Sent("a;b=c")),
    (b"", Sent("")),
    (b"=", Sent("=")),
    (b"a=%e9%ff", Sent("a=%e9%ff")),
    (b"a=b+c%20d", Sent("a=b+c%20d")),
    (b"a=%252e", Sent("a=%252e")),
    (b"a=%00", CONTROL),
    (b"a=%0d%0aSet-Cookie:%20x", Sent("a=%0d%0aSet-Cookie:%20x")),
    (b"a=%0A%09", Sent("a=%0A%09")),
    (b"a=\\..\\", Sent("a=\\..\\")),
    (b"a={b}", Sent("a={b}")),
    (b"a=b|c^d`e", Sent("a=b|c^d`e")),
    (b"a=%", PERCENT),
    (b"a=%u0041", PERCENT),
    (b"a=\"b\"", EITHER),
    (b"a=<b>", EITHER),
    (b"a=\xc3\xa9", EITHER),
    (b"a=b c", NO_HTTP),
    (b"a=b\tc", NO_HTTP),
];

/// A target below the upstream's name, and what its pieces say must become of it.
#[derive(Debug, Clone)]
pub(super) struct HostileTarget {
    pub(super) raw: Vec<u8>,
    /// `None` as soon as one piece must be refused.
    segments: Vec<&'static str>,
    query: Option<Vec<&'static str>>,
    reasons: Vec<&'static str>,
}

/// What must become of a whole target.
#[derive(Debug)]
pub(super) enum Wanted {
    Sent { operation: &'static str, canonical: String },
    Refused(Vec<&'static str>),
}

/// Below which there is something to be allowed, something to be denied, and nothing.
const STARTS: &[&[&str]] = &[&["open"], &["v1", "items"], &["admin"], &[]];

/// Mostly one hostile piece among harmless ones, below a path that would be allowed.
pub(super) fn target() -> impl Strategy<Value = HostileTarget> {
    let harmless = || prop::sample::select(HARMLESS);
    let segment = prop_oneof![5 => harmless(), 2 => prop::sample::select(HOSTILE), 1 => Just(very_long())];
    let start = prop::sample::select(STARTS);
    let query = prop::option::weighted(0.4, prop::collection::vec(prop::sample::select(QUERY), 1..4));
    let fragment = prop::option::weighted(0.05, Just(&b"#../admin"[..]));
    (start, prop::collection::vec(segment, 0..4), any::<bool>(), query, fragment).prop_map(
        |(start, segments, slash, query, fragment)| {
            let start = start.iter().map(|one| (one.as_bytes(), Sent(one)));
            let last = slash.then_some((&b""[..], Sent("")));
            put_together(start.chain(segments).chain(last), query.as_deref(), fragment)
        },
    )
}

/// Above the limit of a path by itself.
fn very_long() -> Piece {
    static LONG: [u8; 4097] = [b'x'; 4097];
    (&LONG, Refused(&["target_path_too_long"]))
}

fn put_together(
    segments: impl Iterator<Item = Piece>,
    query: Option<&[Piece]>,
    fragment: Option<&[u8]>,
) -> HostileTarget {
    let mut target = HostileTarget { raw: Vec::new(), segments: Vec::new(), query: None, reasons: Vec::new() };
    let segments: Vec<Piece> = segments.collect();
    for (at, (raw, fate)) in segments.iter().enumerate() {
        target.raw.push(b'/');
        target.raw.extend_from_slice(raw);
        match fate {
            // An empty one at the end is a trailing slash.
            Refused(_) if raw.is_empty() && at + 1 == segments.len() => target.segments.push(""),
            Refused(reasons) => target.reasons.extend_from_slice(reasons),
            Sent(canonical) => target.segments.push(canonical),
        }
    }
    if let Some(pieces) = query {
        target.raw.push(b'?');
        let mut canonical = Vec::new();
        for (at, (raw, fate)) in pieces.iter().enumerate() {
            if at > 0 {
                target.raw.push(b'&');
            }
            target.raw.extend_from_slice(raw);
            match fate {
                Refused(reasons) => target.reasons.extend_from_slice(reasons),
                Sent(piece) => canonical.push(*piece),
            }
        }
        target.query = Some(canonical);
    }
    // The HTTP parser drops a fragment, as a browser would before it sends; what is before it is what was asked for.
    target.raw.extend_from_slice(fragment.unwrap_or_default());
    target
}

/// What must become of it, by this file's own reading of [`OPERATIONS`].
pub(super) fn wanted(target: &HostileTarget) -> Wanted {
    if !target.reasons.is_empty() {
        return Wanted::Refused(target.reasons.clone());
    }
    let path = format!("/{}", target.segments.join("/"));
    let operation = match target.segments[..] {
        ["open", _, ..] => "open",
        ["v1", "items", "all:purge"] => return Wanted::Refused(vec!["insufficient_scope"]),
        // An item as it is written, and another operation to an upstream that decodes it.
        ["v1", "items", "all%3Apurge"] => return Wanted::Refused(vec!["operation_not_allowed"]),
        // One segment, and its upstream may take an encoded slash for the end of it.
        ["v1", "items", id] if id.to_ascii_lowercase().contains("%2f") => {
            return Wanted::Refused(vec!["target_encoded_slash"]);
        }
        ["v1", "items", id] if !id.is_empty() => "item",
        ["admin", _, ..] => return Wanted::Refused(vec!["insufficient_scope"]),
        _ => return Wanted::Refused(vec!["operation_not_allowed"]),
    };
    let query = target.query.as_ref().map(|pieces| format!("?{}", pieces.join("&"))).unwrap_or_default();
    Wanted::Sent { operation, canonical: path + &query }
}
