//! Terms: a field of a record and its value, by which it is found.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use crate::world::Millis;

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::audit) enum Field {
    /// The client id or the name of an agent.
    Agent,
    Session,
    Upstream,
    Operation,
    Decision,
    Reason,
    Request,
}

/// A field and its value, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::audit) struct Term([u8; 16]);

impl Term {
    /// Half of SHA-256(field ‖ value).
    pub(in crate::audit) fn new(field: Field, value: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[match field {
            Field::Agent => 1,
            Field::Session => 2,
            Field::Upstream => 3,
            Field::Operation => 4,
            Field::Decision => 5,
            Field::Reason => 6,
            Field::Request => 7,
        }]);
        context.update(value.as_bytes());
        Self(context.finish().as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub(super) fn halves(self) -> (u64, u64) {
        let half = |bytes: Option<&[u8; 8]>| u64::from_le_bytes(bytes.copied().unwrap_or_default());
        (half(self.0.first_chunk()), half(self.0.last_chunk()))
    }
}

/// A text of a record. Borrowed from it, but for one with escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(in crate::audit) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What of a record is searched.
#[derive(Debug, Deserialize)]
pub(in crate::audit) struct Searched<'a> {
    pub(in crate::audit) at: Millis,
    #[serde(borrow)]
    agent: Option<Text<'a>>,
    #[serde(borrow)]
    agent_name: Option<Text<'a>>,
    #[serde(borrow)]
    session: Option<Text<'a>>,
    #[serde(borrow)]
    upstream: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Option<Text<'a>>,
    #[serde(borrow)]
    decision: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    request: Option<Text<'a>>,
}

impl<'a> Searched<'a> {
    /// `None`: it is no record, which is for `audit verify` to name.
    pub(in crate::audit) fn of(record: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }

    /// Its fields and their values.
    pub(in crate::audit) fn fields(&self) -> impl Iterator<Item = (Field, &str)> {
        [
            (Field::Agent, &self.agent),
            (Field::Agent, &self.agent_name),
            (Field::Session, &self.session),
            (Field::Upstream, &self.upstream),
            (Field::Operation, &self.operation),
            (Field::Decision, &self.decision),
            (Field::Reason, &self.reason),
            (Field::Request, &self.request),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, value.as_ref()?.0.as_ref())))
    }
}

/// The terms of many records, each once.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Values, so that each is hashed into a term once and not for every record.
    seen: HashMap<Field, HashSet<String>>,
    terms: Vec<Term>,
}

impl Terms {
    /// Those of one more record.
    pub(super) fn add(&mut self, record: &[u8]) {
        let Some(searched) = Searched::of(record) else { return };
        for (field, value) in searched.fields() {
            let seen = self.seen.entry(field).or_default();
            if !seen.contains(value) {
                seen.insert(value.to_owned());
                self.terms.push(Term::new(field, value));
            }
        }
    }

    /// All of them.
    pub(super) fn all(self) -> Vec<Term> {
        self.terms
    }
}
