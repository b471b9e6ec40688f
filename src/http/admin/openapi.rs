//! The OpenAPI document of the admin API (OpenAPI 3.1), made from the table of its operations.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use utoipa::openapi::path::{Operation as Described, OperationBuilder, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, LicenseBuilder, Object, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, ResponsesBuilder, Schema, Type,
};
use utoipa::{PartialSchema as _, ToSchema};

use crate::error::{Error, Result};
use crate::http::accept::{JSON, PROBLEM};
use crate::http::admin::operation::{Operation, Schemas};
use crate::http::admin::table::operations;
use crate::http::reply::Problem;
use crate::http::routes::{Access, Listener};
use crate::manage::{Admin, Details};

/// What every operation may answer that does not do it: the request is bad, nobody is known to send it, it takes another
/// role.
const OF_ALL: [u16; 3] = [400, 401, 403];

/// A refusal: problem details (RFC 9457), and what clients of other APIs look for.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "only its schema is used: `problem.rs` writes the members")]
pub(super) struct ProblemDetails {
    /// Always `about:blank`.
    r#type: String,
    /// What the status says.
    title: String,
    /// The status.
    status: u16,
    /// Stable, for programs.
    code: String,
    /// What was wrong and what to do.
    detail: String,
    /// Names this request in the logs.
    request_id: String,
    /// The same as `detail`.
    message: String,
    /// The same again, where other APIs have it.
    error: ProblemError,
    /// What only some refusals say.
    #[serde(flatten)]
    details: Details,
}

/// A refusal, where other APIs have it.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used: `problem.rs` writes the members")]
pub(super) struct ProblemError {
    /// What kind.
    r#type: String,
    /// Stable, for programs.
    code: String,
    /// What was wrong and what to do.
    message: String,
}

/// The document.
pub(in crate::http) async fn document(admin: Admin) -> Result<Response, Problem> {
    static TEXT: OnceLock<Result<Bytes, String>> = OnceLock::new();
    let text = TEXT.get_or_init(|| openapi()?.to_json().map(Bytes::from).map_err(|error| error.to_string()));
    let text = text.clone().map_err(|why| Problem::new(Error::internal(why), admin.request()))?;
    let mut answer = text.into_response();
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    Ok(answer)
}

/// The document, made anew.
///
/// # Errors
/// Two types have the same name and not the same schema.
fn openapi() -> Result<OpenApi, String> {
    let mut schemas = Schemas::new();
    ProblemDetails::schemas(&mut schemas);
    schemas.push((ProblemDetails::name().into_owned(), ProblemDetails::schema()));
    let mut paths = Paths::new();
    for mut operation in operations() {
        schemas.append(&mut operation.shape.schemas);
        paths.add_path_operation(operation.path, vec![operation.method.clone()], described(operation));
    }
    let mut named: BTreeMap<String, RefOr<Schema>> = BTreeMap::new();
    for (name, schema) in schemas {
        if named.get(&name).is_some_and(|there| *there != schema) {
            return Err(format!("two types are called {name} in the OpenAPI document"));
        }
        named.insert(name, schema);
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in named {
        components = components.schema(name, schema);
    }
    let login = Http::builder().scheme(HttpAuthScheme::Bearer);
    let login = login.description(Some("The token of a login ('hallpass login', or POST /admin/v1/login)")).build();
    let certificate = SecurityScheme::MutualTls {
        description: Some("A certificate whose name was given an admin role ([admin] in the settings)".into()),
        deprecated: None,
        extensions: None,
    };
    let components = components
        .security_scheme("login", SecurityScheme::Http(login))
        .security_scheme("certificate", certificate)
        .build();
    let info = InfoBuilder::new()
        .title("Hallpass admin API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    Ok(OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build())
}

const ABOUT: &str = "What the command line of Hallpass does, as JSON over HTTP. On the broker's own machine it is served \
                     on a unix socket, to root and to the server's own user, who are owners. Over the network it is served \
                     by https on the admin listener, to admins who logged in or show a certificate. All times are unix \
                     milliseconds.";

fn described(operation: Operation) -> Described {
    let Operation { listener, path, access, id, summary, shape, refusals, .. } = operation;
    let mut about = match access {
        Access::Admin(role) => format!("Takes the admin role {role} or one above it."),
        _ => "Takes no admin.".to_owned(),
    };
    if listener == Listener::RemoteAdmin {
        about.push_str(" Only on the admin listener.");
    }
    let mut built = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary)).description(Some(about));
    built = built.tag(path.split('/').nth(3).unwrap_or_default());
    for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(Object::with_type(Type::String)));
        built = built.parameter(parameter);
    }
    for parameter in shape.query {
        built = built.parameter(parameter);
    }
    if let Some(body) = shape.body {
        let required = if body.is_required { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().content(JSON, Content::new(Some(body.schema))).required(Some(required));
        built = built.request_body(Some(body.build()));
    }
    let done = shape.answer.unwrap_or_else(|| Object::with_type(Type::Object).into());
    let done = ResponseBuilder::new().description("Done").content(JSON, Content::new(Some(done))).build();
    let mut responses = ResponsesBuilder::new().response("200", done);
    for status in OF_ALL.iter().chain(refusals) {
        responses = responses.response(status.to_string(), refusal(*status));
    }
    built = built.responses(responses.build());
    built = match access {
        Access::Admin(role) => built
            .security(SecurityRequirement::new("login", [role.as_str()]))
            .security(SecurityRequirement::new("certificate", [role.as_str()])),
        _ => built.security(SecurityRequirement::default()),
    };
    built.build()
}

fn refusal(status: u16) -> utoipa::openapi::Response {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let problem = || Content::new(Some(Ref::from_schema_name(ProblemDetails::name())));
    let built = ResponseBuilder::new().description(reason.unwrap_or("Refused"));
    // The second is for clients that say that they take no other JSON.
    built.content(PROBLEM, problem()).content(JSON, problem()).build()
}
