//! What is said when an admin logs in and out over the network. Whether it is allowed, the door decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::manage::once;
use crate::model::AdminRole;
use crate::secret::AdminToken;
use crate::world::Millis;

/// Where to log in: what the device flow takes (RFC 8628). None of it is secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoginSettings {
    /// The OpenID Connect issuer.
    pub issuer: String,
    /// The public client.
    pub client_id: String,
    /// The scopes to ask for, separated by spaces.
    pub scope: String,
}

/// Proof of who somebody is.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdToken {
    /// An ID token of the issuer (OpenID Connect Core §2), used for nothing else.
    #[schema(value_type = String)]
    pub id_token: Zeroizing<String>,
}

/// A login.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// For `Authorization: Bearer`.
    #[serde(with = "once::admin_token")]
    #[schema(value_type = String)]
    pub token: AdminToken,
    /// Whose it is.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// Its end, in unix milliseconds.
    pub expires_at: Millis,
}

/// A login that is over.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoggedOut {
    /// Whether there was one.
    pub logged_out: bool,
}
