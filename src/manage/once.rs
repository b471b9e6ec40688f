//! The secrets that an admin is shown once: the only places where they are written into an answer.
//!
//! A secret is a type without `Serialize`, so that none gets into an answer by accident. A field that is to hold one says
//! so by `#[serde(with = …)]`.

use serde::{Deserialize as _, Deserializer, Serializer};

/// An agent's new client secret, where there is one.
pub(super) mod client_secret {
    use super::*;
    use crate::secret::ClientSecret;

    pub(in crate::manage) fn serialize<S: Serializer>(secret: &Option<ClientSecret>, to: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.expose()),
            None => to.serialize_none(),
        }
    }

    pub(in crate::manage) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ClientSecret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(ClientSecret::given))
    }
}

/// The token of an admin's login.
pub(super) mod admin_token {
    use super::*;
    use crate::secret::AdminToken;

    pub(in crate::manage) fn serialize<S: Serializer>(token: &AdminToken, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(token.expose())
    }

    pub(in crate::manage) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AdminToken, D::Error> {
        String::deserialize(from).map(AdminToken::given)
    }
}
