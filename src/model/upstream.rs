//! Upstreams, roles and resources, as an admin declares them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{Declared, HeaderRule, Inject, NamedFile, Template};

/// An API behind the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The `{upstream}` of `/exchange/{upstream}/…` and the first half of its scopes.
    pub name: String,
    /// `https://host[:port][/prefix]`.
    pub base_url: String,
    /// Whether loopback and private addresses may be dialled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_private: bool,
    /// How its secrets are put into a call: one placement, a list of them, or `none`.
    pub inject: Inject,
    /// What may be called; everything else is denied.
    pub operations: Vec<Operation>,
    /// How long to wait.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// How much may pass.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Whether HTTP/2 is spoken to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub http2: Http2,
    /// A CA file, beside the document, to trust for this upstream instead of the public CAs; `apply` reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// What `apply` found in `ca_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Let the agent ask for byte ranges. Off by default: an agent could fetch an echoed secret in slices that are
    /// each too short to be recognised.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_range: bool,
    /// Schemes of `Authorization` under which this API's clients send their key, beside `Bearer`, `DPoP` and `Basic`: GitHub's
    /// send `token`. The agent's token is taken under them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_schemes: Vec<String>,
    /// Host names, each with a port or without, by which this upstream is reached at the public listener: for SDKs that take
    /// a host and no path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_hosts: Vec<String>,
    /// Take only tokens that are bound to a key (mTLS or DPoP): a stolen one is no use here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_bound: bool,
    /// Which of the agent's headers it gets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: HeaderRule,
    /// Headers that every call carries, in place of the agent's of the same name. No secrets: they are shown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set_headers: BTreeMap<String, String>,
    /// What records of its calls show.
    #[serde(default, skip_serializing_if = "is_default")]
    pub audit: CallRecords,
}

/// What records of calls show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRecords {
    /// Of the values in queries; names of parameters stay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub query_values: QueryValues,
}

/// What records show of the values in queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueryValues {
    /// The values as they came.
    #[default]
    Keep,
    /// A keyed digest of each: equal values can be matched, and none can be guessed.
    Hash,
    /// Nothing.
    Drop,
}

/// One thing that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Its name, unique in the upstream.
    pub id: String,
    /// HTTP methods, upper case.
    pub methods: Vec<String>,
    /// The path, below `base_url`.
    pub path: Template,
    /// Whether an encoded slash (`%2F`) is data in it, as in `/projects/group%2Fproject`: the upstream does not take it
    /// for a slash. `{*rest}` takes one in any case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoded_slash: bool,
    /// The second half of the scope that it takes: `{upstream}:{scope}`.
    pub scope: String,
}

/// How long to wait for an upstream; what is left out comes from the configuration's `[exchange]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_seconds: Option<u64>,
    /// From the request's head to the answer's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_seconds: Option<u64>,
    /// Between two pieces of a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
}

/// How much may pass; what is left out comes from the configuration's `[exchange]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<u64>,
    /// Bytes of an answer's body, after decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<u64>,
    /// Connections to it at once. A call that finds none free waits for `connect_seconds` at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http2 {
    /// Where the upstream chooses it in its TLS handshake (ALPN).
    #[default]
    Auto,
    /// Never: HTTP/1.1 alone.
    Never,
    /// At once, for an `http` upstream that speaks nothing else (gRPC servers, most often).
    PriorKnowledge,
}

/// A named set of scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `upstream:scope`, `resource:scope` or `hallpass:introspect`.
    pub scopes: Vec<String>,
}

/// An API behind a gateway that verifies tokens by itself: no secret, no proxying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The first half of its scopes.
    pub name: String,
    /// What `resource` asks for and `aud` says (RFC 8707).
    pub audience: String,
    /// Its scopes, without the name.
    pub scopes: Vec<String>,
}

impl Declared for Upstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn files(&mut self) -> Vec<NamedFile<'_>> {
        vec![NamedFile::ca(&self.ca_file, &mut self.ca_pem)]
    }
}

impl Declared for Role {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Declared for Resource {
    fn name(&self) -> &str {
        &self.name
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
