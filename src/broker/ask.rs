//! What a door asks of the broker: one call as it came, with the agent's token still in it. Every door builds an [`Ask`], so each
//! looks for the token in the same places and gets the same decision.

use std::sync::Arc;

use hallpass_verify::{CertificateThumbprint, Claims, Dpop, DpopRefusal, DpopRequest, Refusal};
use http::{HeaderMap, Method};

use crate::audit::Priority;
use crate::broker::agent_token::{self, Found};
use crate::broker::{Broker, Call, CallBody, CallError, Reached};
use crate::error::Error;
use crate::model::authorization::proofs;
use crate::model::{Origin, Target};
use crate::policy::CompiledUpstream;

/// One call, as it came to a door.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Which upstream is meant.
    pub name: &'a str,
    /// The upstream, if there is one of this name.
    pub upstream: Option<Arc<CompiledUpstream>>,
    /// What is asked of it, below its base URL, as it came.
    pub path: &'a str,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// How.
    pub method: Method,
    /// The agent's headers.
    pub headers: HeaderMap,
    /// The agent's body.
    pub body: CallBody,
    /// What a DPoP proof must name as its `htu`: the URL under which the agent knows this path, without a query.
    pub url: String,
    /// Of the certificate that the agent showed on its connection.
    pub certificate: Option<CertificateThumbprint>,
    /// `scheme://host[:port]` of the upstream's own host name, if the call came by one.
    pub public_host: Option<Arc<str>>,
    /// Which request it is, and from where.
    pub origin: Origin,
    /// How soon its intent has to be durable.
    pub priority: Priority,
}

/// Why there is no answer of the upstream.
#[derive(Debug)]
pub enum Refused {
    /// There is no token.
    NoToken,
    /// Which token counts cannot be told.
    Ambiguous(Error),
    /// The token is not good. `place`: where it stood, for a caller who may not know.
    Token {
        /// Why not.
        refusal: Refusal,
        /// Where it stood.
        place: Option<String>,
    },
    /// The token came with a DPoP proof, and one of the two is not good.
    Proof {
        /// Why not.
        refusal: DpopRefusal,
        /// What the proof's `htu` must be.
        url: String,
        /// Where the token stood.
        place: Option<String>,
    },
    /// The token is good, and what it came with cannot be sent on.
    Malformed(Error),
    /// The token is good, and there is no upstream of this name.
    NoUpstream(Box<Claims>),
    /// The token is good, and the call was not made or not answered.
    Call {
        /// Why.
        error: CallError,
        /// Under which scheme the token came.
        scheme: &'static str,
    },
}

impl Refused {
    /// Whether the caller showed a good token.
    pub fn is_authenticated(&self) -> bool {
        match self {
            Self::NoToken | Self::Ambiguous(_) | Self::Token { .. } | Self::Proof { .. } => false,
            Self::Malformed(_) | Self::NoUpstream(_) | Self::Call { .. } => true,
        }
    }
}

impl Broker {
    /// Finds the token and verifies it. Gives the call, and under which scheme the token came.
    pub(super) async fn identify(&self, ask: Ask<'_>, dpop: &Dpop) -> Result<(Call, &'static str), Refused> {
        let Ask {
            name,
            upstream,
            path,
            query,
            method,
            mut headers,
            body,
            url,
            certificate,
            public_host,
            origin,
            priority,
        } = ask;
        // Who, before what: a stranger learns nothing of upstreams and paths.
        let mut target = Target::parse(path, query);
        let ours = |text: &str| self.is_claimed(text);
        let found = agent_token::take(&mut headers, target.as_mut().ok(), upstream.as_deref(), ours)
            .map_err(Refused::Ambiguous)?;
        let known = upstream.as_ref().map(|_| name);
        let token = match found {
            Found::Token(token) => token,
            Found::Nothing => return Err(Refused::NoToken),
            Found::Differ(tokens) => return Err(self.differ(&tokens, known, name, &origin).await),
        };
        let request = DpopRequest { proofs: &proofs(&headers), method: method.as_str(), url: &url, certificate };
        let claims = match self.holder(&token, known, dpop, &request) {
            Ok(claims) => claims,
            Err(refusal) => {
                self.token_refused(&token.text, refusal, name, &origin).await;
                let place = token.where_it_stood();
                return Err(match refusal {
                    DpopRefusal::Token(refusal) if !token.by_proof() => Refused::Token { refusal, place },
                    refusal => Refused::Proof { refusal, url, place },
                });
            }
        };

        let target = target.map_err(|error| Refused::Malformed(Error::invalid(error.code(), error.to_string())))?;
        let Some(upstream) = upstream else { return Err(Refused::NoUpstream(Box::new(claims))) };
        agent_token::stays_here(&token.text, &headers, upstream.headers(), &target).map_err(Refused::Malformed)?;
        let by_authorization = token.only_in_authorization(&headers);
        let scheme = if token.by_proof() { "DPoP" } else { "Bearer" };
        drop(token);

        let reached = Reached { public_host, by_authorization };
        let claims = Arc::new(claims);
        Ok((Call { claims, upstream, method, target, headers, body, origin, priority, reached }, scheme))
    }
}
