//! Which operation fits a method and a path.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::Upstream;
use crate::policy::placement::Need;
use crate::policy::spelling;

/// What a call needs to know of an operation.
#[derive(Debug, Clone)]
pub struct OperationView {
    /// Its id.
    pub id: Arc<str>,
    /// `upstream:scope`.
    pub scope: Arc<str>,
    /// Whether its upstream takes an encoded slash for data.
    pub encoded_slash: bool,
    /// What has to be known of a call before it is decided on.
    pub need: Need,
}

/// An operation that fits.
#[derive(Debug)]
pub struct Fit<'a> {
    /// Which.
    pub operation: &'a OperationView,
    /// Whether an encoded slash fills a `{name}`, which stands for one segment.
    pub slash_in_segment: bool,
}

/// The operations of one upstream, in a router for each method.
#[derive(Debug, Default)]
pub(super) struct Routes {
    operations: Vec<OperationView>,
    routers: HashMap<String, matchit::Router<Route>>,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    operation: usize,
    /// Whether its last placeholder takes all that follows.
    has_rest: bool,
}

impl Routes {
    /// The operation that has this method and this path, as [`Target::match_path`](crate::model::Target::match_path)
    /// writes it. Where several fit, the first segment in which they differ decides: a literal goes before `{name}`, and
    /// that before `{*rest}`, in whatever order they were declared. `GET` gives `HEAD` (RFC 9110 §9.3.2), unless an
    /// operation says `HEAD`.
    pub(super) fn fit(&self, method: &str, path: &str) -> Option<Fit<'_>> {
        let at = |method: &str| self.routers.get(method)?.at(path).ok();
        let found = at(method).or_else(|| if method == "HEAD" { at("GET") } else { None })?;
        let operation = self.operations.get(found.value.operation)?;
        let segments = found.params.len() - usize::from(found.value.has_rest);
        let slash_in_segment = found.params.iter().take(segments).any(|(_, value)| value.contains("%2F"));
        Some(Fit { operation, slash_in_segment })
    }

    /// All of them.
    pub(super) fn operations(&self) -> &[OperationView] {
        &self.operations
    }

    /// Checks and compiles them.
    pub(super) fn compile(upstream: &Upstream, note: &mut impl FnMut(String, String, &str)) -> Self {
        let mut routes = Self::default();
        if upstream.operations.is_empty() {
            note(
                "operations".into(),
                "nothing could be called: deny is the default".into(),
                "list at least one operation",
            );
        }
        let mut also = Vec::new();
        for (n, operation) in upstream.operations.iter().enumerate() {
            let at = |field: &str| format!("operations[{n}].{field}");
            if let Err(problem) = crate::model::check_name("operation", &operation.id) {
                note(at("id"), problem, "rename it");
            }
            if routes.operations.iter().any(|view| *view.id == *operation.id) {
                note(at("id"), format!("'{}' is there twice", operation.id), "give each operation its own id");
            }
            let scope = format!("{}:{}", upstream.name, operation.scope);
            if operation.scope.is_empty()
                || operation.scope.contains(':')
                || !hallpass_verify::ScopeSet::is_token(&scope)
            {
                note(
                    at("scope"),
                    format!("'{}' is no scope", operation.scope.escape_debug()),
                    "write for example contacts.read; the upstream's name is put before it",
                );
            }
            if operation.methods.is_empty() {
                note(at("methods"), "no method, so nothing could be called".into(), "write for example [GET]");
            }
            if operation.path.has_encoded_slash() && !operation.encoded_slash {
                note(
                    at("path"),
                    "it has an encoded slash, and the operation does not say that it is data".into(),
                    "write encoded_slash: true if the upstream does not take it for a slash",
                );
            }
            let mut forms = operation.path.routes().into_iter();
            let (first, more) = (forms.next().unwrap_or_default(), forms.collect::<Vec<_>>());
            let route = Route { operation: n, has_rest: operation.path.has_rest() };
            for method in &operation.methods {
                if !is_callable(method) {
                    let (problem, fix) = spelling::misspelled_method(method).unwrap_or_else(|| {
                        let problem = format!("'{}' cannot be brokered", method.escape_debug());
                        (problem, "CONNECT and TRACE are never allowed".to_owned())
                    });
                    note(at("methods"), problem, &fix);
                    continue;
                }
                let router = routes.routers.entry(method.clone()).or_default();
                if let Err(error) = router.insert(first.as_str(), route) {
                    note(
                        at("path"),
                        format!("{method} {} overlaps another operation ({error})", operation.path.as_str()),
                        "let each method and path belong to one operation",
                    );
                }
                also.extend(more.iter().map(|form| (method.clone(), form.clone(), route)));
            }
            routes.operations.push(OperationView {
                id: operation.id.as_str().into(),
                scope: scope.into(),
                encoded_slash: operation.encoded_slash,
                need: Need::Head,
            });
        }
        // Only now: what an operation says of itself goes before what follows from another one.
        for (method, form, route) in also {
            let route = Route { has_rest: form.contains("{*") && route.has_rest, ..route };
            let inserted = routes.routers.entry(method).or_default().insert(form, route);
            if let Err(taken) = inserted {
                tracing::debug!(%taken, upstream = upstream.name, "another operation has this path");
            }
        }
        routes
    }
}

/// Whether calls of a method can be made at all. CONNECT would make a tunnel through which nothing could be checked; TRACE
/// would echo what we inject.
pub(super) fn is_callable(method: &str) -> bool {
    http::Method::from_bytes(method.as_bytes()).is_ok()
        && !method.bytes().any(|byte| byte.is_ascii_lowercase())
        && !matches!(method, "CONNECT" | "TRACE")
}
