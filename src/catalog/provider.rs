//! An OAuth provider: its endpoints, and where it leaves the standards. An absent field means "not known".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::Variable;

/// What is known of an OAuth provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its name, for people.
    pub title: String,
    /// Where the facts were read.
    pub source: Vec<String>,
    /// The issuer identifier, where it speaks OpenID Connect.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The authorization endpoint.
    pub authorization_url: String,
    /// The token endpoint.
    pub token_url: String,
    /// The revocation endpoint (RFC 7009).
    #[serde(default)]
    pub revocation_url: Option<String>,
    /// The device authorization endpoint (RFC 8628).
    #[serde(default)]
    pub device_authorization_url: Option<String>,
    /// How to learn whose account it is.
    #[serde(default)]
    pub account: Option<Account>,
    /// Whether it takes PKCE (RFC 7636).
    #[serde(default)]
    pub pkce: Option<Pkce>,
    /// How clients prove who they are at the token endpoint.
    #[serde(default)]
    pub client_auth: Option<ClientAuth>,
    /// What parts scopes in the authorization request.
    pub scope_separator: String,
    /// Scopes that are always asked for.
    #[serde(default)]
    pub scopes: DefaultScopes,
    /// Whether authorization responses carry `iss` (RFC 9207).
    #[serde(default)]
    pub iss_parameter: Option<bool>,
    /// What a refresh does.
    #[serde(default)]
    pub refresh: Refresh,
    /// Where it leaves the standards.
    #[serde(default)]
    pub oddities: Vec<Oddity>,
    /// Further parameters of the authorization request.
    #[serde(default)]
    pub extra_authorization_parameters: BTreeMap<String, String>,
    /// Further parameters of the token request.
    #[serde(default)]
    pub extra_token_parameters: BTreeMap<String, String>,
    /// The JSON pointer of the API's address in the token answer.
    #[serde(default)]
    pub base_url_from: Option<String>,
    /// The hosts that this address may name. Else a provider, or whoever speaks in its name, could send calls and tokens to a
    /// host of its choice.
    #[serde(default)]
    pub base_hosts: Vec<String>,
    /// The JSON pointer of the access token, where it is not `/access_token`.
    #[serde(default)]
    pub access_token_pointer: Option<String>,
    /// What differs by tenant.
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// The documented shape of a token answer. Its tokens hold the word `EXAMPLE`.
    #[serde(default)]
    pub token_answer_example: Option<Value>,
}

/// How to learn whose account it is. Either `url` or `from`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// What to ask.
    #[serde(default)]
    pub url: Option<String>,
    /// The method, where it is not `GET`.
    #[serde(default)]
    pub method: Option<String>,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The answer that has it already.
    #[serde(default)]
    pub from: Option<AccountFrom>,
    /// The JSON pointer of the name.
    pub pointer: String,
}

/// The answer that has the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountFrom {
    /// The token answer.
    TokenAnswer,
}

/// Whether a provider takes PKCE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pkce {
    /// It refuses requests without.
    Required,
    /// It takes it.
    Supported,
    /// Clients leave it out on purpose.
    No,
}

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
    /// Not at all.
    None,
}

/// Scopes without which something is missing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultScopes {
    /// Without these there is no refresh token.
    #[serde(default)]
    pub default: Vec<String>,
}

/// What a refresh does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Whether each refresh answers with a new refresh token and ends the old one.
    #[serde(default)]
    pub rotates: Rotates,
    /// Where a refresh goes, if not to the token endpoint.
    #[serde(default)]
    pub url: Option<String>,
}

/// Whether refresh tokens rotate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Rotates {
    /// `true`
    Yes,
    /// `false`
    No,
    /// `unknown`: both must work.
    #[default]
    Unknown,
}

impl TryFrom<Value> for Rotates {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::Bool(true) => Ok(Self::Yes),
            Value::Bool(false) => Ok(Self::No),
            Value::String(word) if word == "unknown" => Ok(Self::Unknown),
            _ => Err("true, false or unknown"),
        }
    }
}

impl From<Rotates> for Value {
    fn from(rotates: Rotates) -> Self {
        match rotates {
            Rotates::Yes => true.into(),
            Rotates::No => false.into(),
            Rotates::Unknown => "unknown".into(),
        }
    }
}

/// Where a provider leaves the standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// The answer has no `expires_in`.
    NoExpiresIn,
    /// `expires_in` is a string.
    ExpiresInString,
    /// The answer has no refresh token.
    NoRefreshToken,
    /// A refresh answers without a refresh token, always or at times: the old one stays.
    NoRefreshTokenOnRefresh,
    /// The answer has no `token_type`.
    NoTokenType,
    /// The answer has no `scope`.
    NoScope,
    /// Scopes are parted by commas.
    CommaScopes,
    /// The granted scopes are a list.
    ScopeInArray,
    /// Token requests have JSON bodies.
    JsonBody,
    /// Token answers are forms, unless JSON is asked for.
    FormAnswer,
    /// Errors are answers with status 200.
    #[serde(rename = "errors_with_200")]
    ErrorsWith200,
    /// See [`Provider::access_token_pointer`].
    AccessTokenElsewhere,
}
