//! Which of an agent's headers an upstream gets. Deny is the default (P8): an upstream's secret vouches for the whole
//! request, so a header that this page has never heard of may well say "do it as somebody else" (`Sudo`,
//! `X-Remote-User`, `X-MS-Client-Principal`), and nobody can list all of those. The ones that stock SDKs need can be
//! listed; they are `standard`.

mod names;
mod shapes;

use std::sync::LazyLock;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{HeaderRule, Upstream};
use crate::policy::placement::{CompiledPlacement, Slot};

/// What becomes of one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It reaches the upstream.
    Pass,
    /// It is about this connection, or ours to say: it never travels, whatever a definition says.
    Never,
    /// The upstream's definition does not let it through.
    Unlisted,
}

/// An upstream's rule, ready to be asked of each header of each call.
#[derive(Debug)]
pub struct HeaderPass {
    /// What this upstream says otherwise than all others: its listed names, its own header.
    own: HeaderMap<Passing>,
    all: bool,
    set: Vec<(HeaderName, HeaderValue)>,
}

/// What is the same for all upstreams.
static SHARED: LazyLock<HeaderMap<Passing>> = LazyLock::new(|| {
    let mut table = HeaderMap::with_capacity(names::STANDARD.len() + names::NEVER.len());
    for (list, passing) in [(names::STANDARD, Passing::Pass), (names::NEVER, Passing::Never)] {
        for name in list {
            table.insert(HeaderName::from_static(name), passing);
        }
    }
    for name in names::RANGES {
        table.insert(HeaderName::from_static(name), Passing::Never);
    }
    table
});

impl HeaderPass {
    /// Checks `headers` and `set_headers` of a definition; `note` takes each mistake.
    pub(super) fn compile(
        upstream: &Upstream,
        placements: &[CompiledPlacement],
        note: &mut impl FnMut(String, String, &str),
    ) -> Self {
        let mut pass = Self { own: HeaderMap::default(), all: upstream.headers == HeaderRule::All, set: Vec::new() };
        let injected = placements.iter().filter_map(|placement| match placement.slot() {
            Slot::Header(name) => Some(name.clone()),
            Slot::Parameter(_) => None,
        });
        let injected: Vec<HeaderName> = injected.collect();
        if let HeaderRule::Also(listed) = &upstream.headers {
            for (n, name) in listed.iter().enumerate() {
                match listable(name, &injected) {
                    Ok(name) => _ = pass.own.insert(name, Passing::Pass),
                    Err((problem, fix)) => note(format!("headers[{n}]"), problem, fix),
                }
            }
        }
        if upstream.allow_range {
            for name in names::RANGES {
                pass.own.insert(HeaderName::from_static(name), Passing::Pass);
            }
        }
        for (name, value) in &upstream.set_headers {
            match constant(name, value, &injected) {
                Ok((name, _)) if pass.set.iter().any(|(there, _)| *there == name) => note(
                    format!("set_headers.{name}"),
                    "this name is there twice, in another case".into(),
                    "leave one of them out",
                ),
                Ok((name, value)) => {
                    // The admin's word wins over the agent's.
                    pass.own.insert(name.clone(), Passing::Never);
                    pass.set.push((name, value));
                }
                Err((problem, fix)) => note(format!("set_headers.{}", name.escape_debug()), problem, fix),
            }
        }
        for name in injected {
            // Whatever the agent wrote there: the broker writes the secret.
            pass.own.insert(name, Passing::Never);
        }
        pass
    }

    /// What becomes of a header of this name.
    pub fn of(&self, name: &HeaderName) -> Passing {
        if let Some(passing) = self.own.get(name).or_else(|| SHARED.get(name)) {
            return *passing;
        }
        let text = name.as_str();
        if is_never(text) {
            Passing::Never
        } else if names::STANDARD_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            || (self.all && !names::speaks_for_somebody(text))
        {
            Passing::Pass
        } else {
            Passing::Unlisted
        }
    }

    /// The headers that each call to this upstream carries, whatever the agent sent.
    pub fn constants(&self) -> &[(HeaderName, HeaderValue)] {
        &self.set
    }
}

/// Whether a name that is in no list never travels.
fn is_never(name: &str) -> bool {
    // A header with an underscore is the same as one with a hyphen to CGI and WSGI: a way past every list.
    name.contains('_') || names::NEVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

type Complaint = (String, &'static str);

fn known_name(name: &str) -> Result<HeaderName, Complaint> {
    if name.contains('*') {
        let fix = "write each name, or 'headers: all'";
        return Err((format!("'{}' is a pattern, and names are compared whole", name.escape_debug()), fix));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| (format!("'{}' is no header name", name.escape_debug()), "write a name such as X-Team"))
}

fn listable(name: &str, injected: &[HeaderName]) -> Result<HeaderName, Complaint> {
    let name = known_name(name)?;
    let text = name.as_str();
    if matches!(text, "all" | "standard") {
        return Err((format!("'{text}' is no header but a rule of its own"), "write 'headers: all', without brackets"));
    }
    if names::RANGES.contains(&text) {
        let fix = "write 'allow_range: true' if the agent may read answers in pieces";
        return Err((format!("'{text}' asks for a piece of an answer, in which half a secret cannot be found"), fix));
    }
    if injected.contains(&name) {
        return Err((format!("'{text}' carries this upstream's secret"), "leave it out: the broker writes it"));
    }
    if SHARED.get(&name) == Some(&Passing::Never) || is_never(text) {
        let fix = "leave it out; what the upstream should always get goes into set_headers";
        return Err((format!("'{text}' never travels: it frames the message, or is the broker's to say"), fix));
    }
    Ok(name)
}

fn constant(name: &str, value: &str, injected: &[HeaderName]) -> Result<(HeaderName, HeaderValue), Complaint> {
    const SECRET: &str = "store it with 'hallpass credential put' and name it under inject: what stands here is shown";
    let name = known_name(name)?;
    let text = name.as_str();
    if injected.contains(&name) {
        return Err((format!("'{text}' carries this upstream's secret"), "leave it out: the broker writes it"));
    }
    if names::carries_a_key(text) {
        return Err((format!("'{text}' is a header for credentials"), SECRET));
    }
    if SHARED.get(&name) == Some(&Passing::Never) || is_never(text) {
        let fix = "leave it out: the broker writes it, or must not";
        return Err((format!("'{text}' frames or routes the message"), fix));
    }
    if let Some(shape) = shapes::looks_like_key(value) {
        return Err((format!("its value looks like {shape}"), SECRET));
    }
    let printable = value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.trim() == value && !value.is_empty();
    match HeaderValue::from_str(value) {
        Ok(value) if printable => Ok((name, value)),
        _ => Err((
            "its value is empty, has blanks at an end, or something else than printable ASCII".into(),
            "write what the upstream should get, for example '2024-06-01'",
        )),
    }
}

#[cfg(test)]
mod tests;
