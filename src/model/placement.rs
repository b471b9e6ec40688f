//! How an upstream's secrets are put into a call, as an admin writes it.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// How an upstream's secrets are put into a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inject {
    /// The upstream takes no secret.
    None,
    /// One secret, in one place.
    One(Placement),
    /// Several, each in a place of its own, of one credential or of several. All of them are put in, or the call is not made.
    Several(Vec<Placement>),
}

/// Where in a call a secret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Placement {
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
    /// The upstream takes no secret; the same as the one word `none`, and not in a list. (With braces, so that a field in it
    /// is a mistake.)
    None {},
}

impl Inject {
    /// The placements, in the order in which they are written.
    pub fn placements(&self) -> &[Placement] {
        match self {
            Self::None => &[],
            Self::One(placement) => std::slice::from_ref(placement),
            Self::Several(placements) => placements,
        }
    }

    /// The names of the credentials.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.placements().iter().filter_map(Placement::credential).map(|(name, _)| name)
    }

    /// Whether it takes a credential of this name.
    pub fn uses(&self, credential: &str) -> bool {
        self.credentials().any(|name| name == credential)
    }
}

impl Placement {
    /// The credential's name and, where one is pinned, its version, both as they are written.
    pub fn credential(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Bearer { credential }
            | Self::Header { credential, .. }
            | Self::Basic { credential, .. }
            | Self::Query { credential, .. } => Some(match credential.split_once('@') {
                Some((name, version)) => (name, Some(version)),
                None => (credential, None),
            }),
            Self::None {} => None,
        }
    }
}

impl PartialSchema for Inject {
    fn schema() -> RefOr<Schema> {
        let none = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["none"]));
        let several = ArrayBuilder::new().items(Placement::schema()).min_items(Some(1));
        OneOfBuilder::new().item(none).item(Placement::schema()).item(several).into()
    }
}

impl ToSchema for Inject {}

/// `none` is a word, one placement a map.
impl Serialize for Inject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::One(placement) => placement.serialize(serializer),
            Self::Several(placements) => placements.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Inject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordMapOrList)
    }
}

struct WordMapOrList;

impl<'de> Visitor<'de> for WordMapOrList {
    type Value = Inject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'none', { kind: bearer | header | basic | query, credential: NAME, … }, or a list of these")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Inject, E> {
        if word == "none" { Ok(Inject::None) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inject, A::Error> {
        Ok(match Placement::deserialize(MapAccessDeserializer::new(map))? {
            Placement::None {} => Inject::None,
            placement => Inject::One(placement),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Inject, A::Error> {
        let placements = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        if placements.is_empty() {
            return Err(A::Error::custom("an empty list; write 'none' where the upstream takes no secret"));
        }
        if placements.contains(&Placement::None {}) {
            return Err(A::Error::custom("'none' in a list; write 'inject: none', without a list"));
        }
        Ok(Inject::Several(placements))
    }
}

#[cfg(test)]
mod tests;
