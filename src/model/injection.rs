//! How an upstream's secret is put into a call, as an admin writes it.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{PartialSchema as _, ToSchema};

/// How an upstream's secret is put into a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Injection {
    /// `Authorization: Bearer SECRET`
    Bearer {
        /// Credential, `name` or `name@version`.
        credential: String,
    },
    /// `Name: PrefixSECRET`
    Header {
        /// The header.
        name: String,
        /// Put before the secret, as it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
        /// Credential, `name` or `name@version`.
        credential: String,
    },
    /// `Authorization: Basic base64(username:SECRET)` (RFC 7617)
    Basic {
        /// The user name.
        #[serde(default)]
        username: String,
        /// Credential, `name` or `name@version`.
        credential: String,
    },
    /// `?name=SECRET`
    Query {
        /// The parameter.
        name: String,
        /// Credential, `name` or `name@version`.
        credential: String,
    },
    /// The upstream takes no secret; written as the one word `none`. (With braces, so that a field in it is a mistake.)
    None {},
}

impl Injection {
    /// The credential's name and, where one is pinned, its version.
    pub fn credential(&self) -> Option<(&str, Option<u32>)> {
        Some(match self.credential_text()?.split_once('@') {
            Some((name, version)) => (name, version.parse().ok()),
            None => (self.credential_text()?, None),
        })
    }

    /// The credential as it is written: `name` or `name@version`.
    pub fn credential_text(&self) -> Option<&str> {
        match self {
            Self::Bearer { credential }
            | Self::Header { credential, .. }
            | Self::Basic { credential, .. }
            | Self::Query { credential, .. } => Some(credential),
            Self::None {} => None,
        }
    }
}

/// `none` is a word, everything else a map.
pub(super) fn serialize<S: Serializer>(injection: &Injection, serializer: S) -> Result<S::Ok, S::Error> {
    match injection {
        Injection::None {} => serializer.serialize_str("none"),
        other => other.serialize(serializer),
    }
}

/// The other way round.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Injection, D::Error> {
    deserializer.deserialize_any(WordOrMap)
}

/// What both of them write and read.
pub(super) fn schema() -> RefOr<Schema> {
    let none = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["none"]));
    OneOfBuilder::new().item(none).item(Injection::schema()).into()
}

struct WordOrMap;

impl<'de> Visitor<'de> for WordOrMap {
    type Value = Injection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'none', or { kind: bearer | header | basic | query, credential: NAME, … }")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Injection, E> {
        if word == "none" { Ok(Injection::None {}) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Injection, A::Error> {
        Injection::deserialize(MapAccessDeserializer::new(map))
    }
}
