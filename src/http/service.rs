//! What answers the requests of one listener: the checks that every request passes, then the exchange endpoint or the router.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request as AxumRequest};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::service::Service;
use tower::ServiceExt as _;

use crate::broker::CallBody;
use crate::http::admin::door::Peer;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;
use crate::http::{PublicState, exchange, front, public_hosts};
use crate::listen::BoxError;
use crate::model::Origin;
use crate::world::World;

/// Answers the requests of one listener. Cheap to clone.
///
/// Every answer carries a request id. What can be read in two ways is refused before any handler sees it.
#[derive(Clone)]
pub struct ListenerService {
    inner: Arc<Inner>,
    /// On the unix socket: who is at the other end.
    peer: Option<Peer>,
}

struct Inner {
    world: World,
    /// At the public listener: what brokered calls need.
    public: Option<PublicState>,
    /// All but brokered calls.
    router: Router,
}

impl fmt::Debug for ListenerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerService").field("is_public", &self.inner.public.is_some()).finish_non_exhaustive()
    }
}

impl ListenerService {
    /// `public`: at the public listener.
    pub(super) fn new(world: World, public: Option<PublicState>, router: Router) -> Self {
        let router = router.layer(from_fn(name_route));
        Self { inner: Arc::new(Inner { world, public, router }), peer: None }
    }

    /// The same for somebody at the other end of the unix socket.
    pub(super) fn with_peer(&self, peer: Peer) -> Self {
        Self { inner: self.inner.clone(), peer: Some(peer) }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, mut request: Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let public = self.inner.public.as_ref();
        let entered = front::enter(&self.inner.world, &request);
        let is_exchange = public.is_some() && exchange::is_path(request.uri().path());
        let mut response = match front::check(public, &mut request) {
            Ok(()) => self.dispatch(&entered.origin, request).await,
            Err(error) => Problem::new(error, &entered.origin.request).into_response(),
        };
        let route = response.extensions_mut().remove::<MatchedPath>();
        let otherwise = if is_exchange { "/exchange" } else { "none" };
        entered.leave(public.is_some(), route.as_ref().map_or(otherwise, MatchedPath::as_str), &mut response);
        response
    }

    async fn dispatch<B>(&self, origin: &Origin, mut request: Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(state) = &self.inner.public {
            if let Some(place) = public_hosts::of(state, &request) {
                return public_hosts::answer(state, origin, request.map(CallBody::incoming), place).await;
            }
            if exchange::is_path(request.uri().path()) {
                return exchange::exchange(state, origin, request.map(CallBody::incoming)).await;
            }
        }
        // A brokered call may show its token as often as it likes: each value is looked at, and none travels on. Elsewhere
        // servers differ in which one they read.
        if let Err(error) = front::once(request.headers(), &AUTHORIZATION) {
            return Problem::new(error, &origin.request).into_response();
        }
        let extensions = request.extensions_mut();
        extensions.insert(RequestId(origin.request.clone()));
        extensions.insert(origin.clone());
        if let Some(peer) = &self.peer {
            extensions.insert(peer.clone());
        }
        match self.inner.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Service<Request<Incoming>> for ListenerService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// Leaves the route that answered in the answer's extensions, for the log.
async fn name_route(request: AxumRequest, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}
