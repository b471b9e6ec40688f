//! Which of an agent's headers an upstream gets, as an admin writes it: `standard`, `all`, or a list of names.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Which of an agent's headers reach the upstream; what is not named stays here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HeaderRule {
    /// What stock SDKs send, and nothing that speaks for somebody.
    #[default]
    Standard,
    /// The standard ones and these.
    Also(Vec<String>),
    /// All but those that are never passed on, and those whose names say that they speak for somebody.
    All,
}

impl PartialSchema for HeaderRule {
    fn schema() -> RefOr<Schema> {
        let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["standard", "all"]));
        let names = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::String));
        OneOfBuilder::new().item(word).item(names).into()
    }
}

impl ToSchema for HeaderRule {}

impl Serialize for HeaderRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Standard => serializer.serialize_str("standard"),
            Self::All => serializer.serialize_str("all"),
            Self::Also(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = HeaderRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'standard', 'all', or a list of header names that pass beside the standard ones")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<HeaderRule, E> {
        match word {
            "standard" => Ok(HeaderRule::Standard),
            "all" => Ok(HeaderRule::All),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HeaderRule, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(HeaderRule::Also(names))
    }
}
