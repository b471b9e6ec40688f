//! Placements: where in a request a secret goes. What they write is named in [`crate::policy::Slot`].

mod basic;
mod bearer;
mod header;
mod query;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Target, append_parameter};
use crate::policy::Form;
use crate::secret::SecretBytes;

/// Puts a secret into a request.
pub(super) trait Place {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()>;
}

impl Place for Form {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()> {
        match self {
            Self::Bearer(bearer) => bearer.place(secret, draft),
            Self::Header(header) => header.place(secret, draft),
            Self::Basic(basic) => basic.place(secret, draft),
            Self::Query(query) => query.place(secret, draft),
        }
    }
}

/// The head of a request, as far as placements write it.
pub struct Draft<'a> {
    headers: HeaderMap,
    target: &'a Target,
    with_secrets: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draft")
    }
}

impl<'a> Draft<'a> {
    /// Of headers from which all that must not travel was taken out, and of a permit's own target.
    pub fn new(headers: HeaderMap, target: &'a Target) -> Self {
        Self { headers, target, with_secrets: None }
    }

    /// What goes out behind the base URL.
    pub fn path_and_query(&self) -> &str {
        self.with_secrets.as_deref().map_or(self.target.path_and_query(), |text| text)
    }

    /// What goes out in the head.
    pub fn into_headers(self) -> HeaderMap {
        self.headers
    }

    /// A header whose value is secret: HTTP libraries print it as "Sensitive" and do not put it into compression tables.
    fn set_header(&mut self, name: HeaderName, parts: &[&[u8]]) -> Result<()> {
        let joined = Zeroizing::new(parts.concat());
        let mut value = HeaderValue::from_bytes(&joined).map_err(|_| {
            Error::unavailable(
                "credential_unusable",
                "the stored credential has characters that no header can carry; put it again",
            )
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }

    fn add_parameter(&mut self, name: &str, value: &[u8]) -> Result<()> {
        if self.target.query_has(name) {
            // The agent's own parameter beside ours: which one the upstream would take, nobody knows.
            return Err(Error::invalid(
                "parameter_not_allowed",
                format!("the query parameter '{name}' carries this upstream's secret; leave it out"),
            ));
        }
        self.with_secrets = Some(append_parameter(self.path_and_query(), name, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
