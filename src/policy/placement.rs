//! Placements, checked and taken apart once per definition. What puts a secret there is `credential/placement/`.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};

use crate::model::{Inject, Placement, check_name};

/// Where one secret goes, and which.
#[derive(Debug)]
pub struct CompiledPlacement {
    credential: Arc<str>,
    version: Option<u32>,
    form: Form,
}

/// The kinds of placements. Each has a file in `credential/placement/`.
#[derive(Debug)]
pub enum Form {
    /// `Authorization: Bearer SECRET`
    Bearer(Bearer),
    /// `Name: PrefixSECRET`
    Header(Header),
    /// `Authorization: Basic base64(username:SECRET)`
    Basic(Basic),
    /// `?name=SECRET`
    Query(Query),
}

/// `Authorization: Bearer SECRET`
#[derive(Debug)]
pub struct Bearer;

/// `Name: PrefixSECRET`
#[derive(Debug)]
pub struct Header {
    /// The header.
    pub name: HeaderName,
    /// Put before the secret, as it is.
    pub prefix: String,
}

/// `Authorization: Basic base64(username:SECRET)`
#[derive(Debug)]
pub struct Basic {
    /// The user name.
    pub username: String,
}

/// `?name=SECRET`
#[derive(Debug)]
pub struct Query {
    /// The parameter.
    pub name: String,
}

/// What a placement writes. It is the broker's alone: the agent's own value there does not travel, and its token is taken
/// from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot<'a> {
    /// A header.
    Header(&'a HeaderName),
    /// A parameter of the query. Names of parameters are compared without case: some servers do.
    Parameter(&'a str),
}

impl Slot<'_> {
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Header(one), Self::Header(other)) => one == other,
            (Self::Parameter(one), Self::Parameter(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

/// What must be at hand of a call before its request can be built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Method, target and headers. The body streams.
    #[default]
    Head,
    /// The whole body, as well: what is signed, or said of the body in the head, has to be known before the head goes out.
    Body,
}

impl CompiledPlacement {
    /// The name of the credential.
    pub fn credential(&self) -> &Arc<str> {
        &self.credential
    }

    /// The version that it is pinned to, if it is.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Which kind it is.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// What it writes.
    pub fn slot(&self) -> Slot<'_> {
        match &self.form {
            Form::Bearer(_) | Form::Basic(_) => Slot::Header(&AUTHORIZATION),
            Form::Header(header) => Slot::Header(&header.name),
            Form::Query(query) => Slot::Parameter(&query.name),
        }
    }

    /// What it has to see.
    pub fn need(&self) -> Need {
        match &self.form {
            Form::Bearer(_) | Form::Header(_) | Form::Basic(_) | Form::Query(_) => Need::Head,
        }
    }
}

/// Checks `inject` of a definition; `note` takes each mistake.
pub(super) fn compile(inject: &Inject, note: &mut impl FnMut(String, String, &str)) -> Vec<CompiledPlacement> {
    let mut compiled: Vec<CompiledPlacement> = Vec::with_capacity(inject.placements().len());
    for (n, placement) in inject.placements().iter().enumerate() {
        let at = match inject {
            Inject::Several(_) => format!("inject[{n}]"),
            _ => "inject".to_owned(),
        };
        let Some(one) = one(placement, &at, note) else { continue };
        if compiled.iter().any(|other| other.slot().is_same(one.slot())) {
            let what = match one.slot() {
                Slot::Header(name) => format!("the header '{name}'"),
                Slot::Parameter(name) => format!("the query parameter '{name}'"),
            };
            note(
                at,
                format!("{what} is written by a placement before it, too"),
                "give each placement a place of its own",
            );
            continue;
        }
        compiled.push(one);
    }
    compiled
}

/// Headers that frame or route a message: a secret in one of them would break the call or the proof of what is sent.
const UNFIT_HEADERS: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "content-encoding",
    "accept-encoding",
    "proxy-connection",
];

/// One placement, without mistakes.
fn one(placement: &Placement, at: &str, note: &mut impl FnMut(String, String, &str)) -> Option<CompiledPlacement> {
    let (credential, version) = placement.credential()?;
    let mut is_good = true;
    let mut note = |field: &str, problem: String, fix: &str| {
        is_good = false;
        note(format!("{at}.{field}"), problem, fix);
    };
    if let Err(problem) = check_name("credential", credential) {
        note("credential", problem, "name the credential as in 'hallpass credential put NAME'");
    }
    let pinned = version.and_then(|version| version.parse::<u32>().ok()).filter(|version| *version > 0);
    if let Some(version) = version.filter(|_| pinned.is_none()) {
        note("credential", format!("'{version}' is no version"), "write NAME, or NAME@1 to pin a version");
    }
    let form = match placement {
        Placement::Bearer { .. } => Some(Form::Bearer(Bearer)),
        Placement::Header { name, prefix, .. } => {
            let valid = HeaderName::from_bytes(name.as_bytes()).ok();
            let valid = valid.filter(|name| !UNFIT_HEADERS.contains(&name.as_str()));
            if valid.is_none() {
                let problem = format!("'{}' cannot carry a secret", name.escape_debug());
                note("name", problem, "write a header name such as X-Api-Key");
            }
            if !prefix.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                note("prefix", "only printable ASCII fits into a header".into(), "write for example 'Token '");
            }
            valid.map(|name| Form::Header(Header { name, prefix: prefix.clone() }))
        }
        Placement::Basic { username, .. } => {
            // RFC 7617 §2: a user-id with a colon would end at the colon.
            if username.contains(':') || username.chars().any(char::is_control) {
                note("username", "a user name has no colon and no control characters".into(), "write it without");
            }
            Some(Form::Basic(Basic { username: username.clone() }))
        }
        Placement::Query { name, .. } => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
            if name.is_empty() || !name.bytes().all(plain) {
                let problem = format!("'{}' is no parameter name", name.escape_debug());
                note("name", problem, "use letters, digits and - _ . ~");
            }
            Some(Form::Query(Query { name: name.clone() }))
        }
        Placement::None {} => None,
    };
    let form = form.filter(|_| is_good)?;
    Some(CompiledPlacement { credential: credential.into(), version: pinned, form })
}
