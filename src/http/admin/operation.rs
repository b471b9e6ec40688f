//! One operation of the admin API: what it is called, who may do it, what does it, and what goes in and comes out.
//!
//! What goes in and comes out is taken from the function that does it, so that the OpenAPI document cannot say anything else.

use axum::extract::Path;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{HttpMethod, Parameter, ParameterIn};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::http::State;
use crate::http::admin::{Input, Parameters, answer};
use crate::http::routes::{Access, Listener};
use crate::manage::{Admin, Refused};
use crate::model::AdminRole;

/// One operation.
pub(in crate::http) struct Operation {
    pub(in crate::http) listener: Listener,
    pub(in crate::http) method: HttpMethod,
    pub(in crate::http) path: &'static str,
    pub(in crate::http) access: Access,
    /// Its `operationId`.
    pub(super) id: &'static str,
    /// One line, for people.
    pub(super) summary: &'static str,
    pub(super) shape: Shape,
    /// Statuses of refusals, beside those that every operation has.
    pub(super) refusals: &'static [u16],
    pub(in crate::http) handler: MethodRouter<State>,
}

/// What goes in and comes out.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<Body>,
    /// `None`: any JSON.
    pub(super) answer: Option<RefOr<Schema>>,
    /// The named schemas that these refer to.
    pub(super) schemas: Schemas,
}

pub(super) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A JSON body.
pub(super) struct Body {
    pub(super) schema: RefOr<Schema>,
    /// Whether nothing at all, which counts as `{}`, is not enough.
    pub(super) is_required: bool,
}

impl Shape {
    fn taking<I: DeserializeOwned + ToSchema>(mut self) -> Self {
        let is_required = serde_json::from_str::<I>("{}").is_err();
        self.body = Some(Body { schema: named::<I>(&mut self.schemas), is_required });
        self
    }

    fn asking<Q: IntoParams>(mut self) -> Self {
        self.query = Q::into_params(|| Some(ParameterIn::Query));
        self
    }

    fn giving<T: ToSchema>(mut self) -> Self {
        self.answer = Some(named::<T>(&mut self.schemas));
        self
    }
}

/// A reference to a type's schema, which goes into the list with all that it refers to.
fn named<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name()).into()
}

/// What does it.
pub(super) struct Work {
    shape: Shape,
    handler: Box<dyn FnOnce(MethodFilter) -> MethodRouter<State>>,
}

impl Work {
    fn new<X: 'static>(shape: Shape, handler: impl Handler<X, State>) -> Self {
        Self { shape, handler: Box::new(|filter| on(filter, handler)) }
    }
}

/// A function of `manage` that takes so many arguments.
pub(super) trait Does<A, T>: Clone + Send + Sync + 'static {
    type Error: Into<Refused>;

    fn run(self, arguments: A) -> impl Future<Output = Result<T, Self::Error>> + Send;
}

macro_rules! does {
    ($($argument:ident)+) => {
        impl<$($argument,)+ F, R, T, E> Does<($($argument,)+), T> for F
        where
            F: Fn($($argument),+) -> R + Clone + Send + Sync + 'static,
            R: Future<Output = Result<T, E>> + Send,
            E: Into<Refused>,
            $($argument: Send,)+
        {
            type Error = E;

            #[allow(non_snake_case, reason = "the type's name is the argument's, too")]
            fn run(self, ($($argument,)+): ($($argument,)+)) -> impl Future<Output = Result<T, E>> + Send {
                self($($argument),+)
            }
        }
    };
}
does!(A);
does!(A B);
does!(A B C);

/// It takes nothing.
pub(super) fn plain<T: Serialize + ToSchema + Send>(work: impl Does<(Admin,), T>) -> Work {
    Work::new(Shape::default().giving::<T>(), async move |admin: Admin| {
        answer(&admin.request().clone(), work.run((admin,)).await)
    })
}

/// It takes a body.
pub(super) fn taking<I, T>(work: impl Does<(Admin, I), T>) -> Work
where
    I: DeserializeOwned + ToSchema + Send + 'static,
    T: Serialize + ToSchema + Send,
{
    Work::new(Shape::default().taking::<I>().giving::<T>(), async move |admin: Admin, Input::<I>(input)| {
        answer(&admin.request().clone(), work.run((admin, input)).await)
    })
}

/// It takes parameters in the query.
pub(super) fn asking<Q, T>(work: impl Does<(Admin, Q), T>) -> Work
where
    Q: DeserializeOwned + IntoParams + Send + 'static,
    T: Serialize + ToSchema + Send,
{
    Work::new(Shape::default().asking::<Q>().giving::<T>(), async move |admin: Admin, Parameters::<Q>(query)| {
        answer(&admin.request().clone(), work.run((admin, query)).await)
    })
}

/// It is about the one that the path names.
pub(super) fn of_one<T: Serialize + ToSchema + Send>(work: impl Does<(Admin, String), T>) -> Work {
    Work::new(Shape::default().giving::<T>(), async move |admin: Admin, Path(name): Path<String>| {
        answer(&admin.request().clone(), work.run((admin, name)).await)
    })
}

/// It is about the one that the path names, and takes a body.
pub(super) fn of_one_taking<I, T>(work: impl Does<(Admin, String, I), T>) -> Work
where
    I: DeserializeOwned + ToSchema + Send + 'static,
    T: Serialize + ToSchema + Send,
{
    let shape = Shape::default().taking::<I>().giving::<T>();
    Work::new(shape, async move |admin: Admin, Path(name): Path<String>, Input::<I>(input)| {
        answer(&admin.request().clone(), work.run((admin, name, input)).await)
    })
}

/// It is about the one that the path names, and takes parameters in the query.
pub(super) fn of_one_asking<Q, T>(work: impl Does<(Admin, String, Q), T>) -> Work
where
    Q: DeserializeOwned + IntoParams + Send + 'static,
    T: Serialize + ToSchema + Send,
{
    let shape = Shape::default().asking::<Q>().giving::<T>();
    Work::new(shape, async move |admin: Admin, Path(name): Path<String>, Parameters::<Q>(query)| {
        answer(&admin.request().clone(), work.run((admin, name, query)).await)
    })
}

/// A handler of its own, for what is more than a function of `manage`; it gives any JSON unless [`Work::gives`] says which.
pub(super) fn by_hand<X: 'static>(handler: impl Handler<X, State>) -> Work {
    Work::new(Shape::default(), handler)
}

impl Work {
    pub(super) fn takes<I: DeserializeOwned + ToSchema>(mut self) -> Self {
        self.shape = self.shape.taking::<I>();
        self
    }

    pub(super) fn gives<T: ToSchema>(mut self) -> Self {
        self.shape = self.shape.giving::<T>();
        self
    }
}

fn operation(
    method: HttpMethod,
    path: &'static str,
    role: AdminRole,
    id: &'static str,
    summary: &'static str,
    work: Work,
) -> Operation {
    let filter = match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Delete => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    };
    Operation {
        listener: Listener::Admin,
        method,
        path,
        access: Access::Admin(role),
        id,
        summary,
        shape: work.shape,
        refusals: &[],
        handler: (work.handler)(filter),
    }
}

/// Any admin may look.
pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str, work: Work) -> Operation {
    operation(HttpMethod::Get, path, AdminRole::Viewer, id, summary, work)
}

/// Takes a role.
pub(super) fn post(
    path: &'static str,
    role: AdminRole,
    id: &'static str,
    summary: &'static str,
    work: Work,
) -> Operation {
    operation(HttpMethod::Post, path, role, id, summary, work)
}

/// Takes a role.
pub(super) fn delete(
    path: &'static str,
    role: AdminRole,
    id: &'static str,
    summary: &'static str,
    work: Work,
) -> Operation {
    operation(HttpMethod::Delete, path, role, id, summary, work)
}

impl Operation {
    /// It may be refused with these, too.
    pub(super) fn or(mut self, refusals: &'static [u16]) -> Self {
        self.refusals = refusals;
        self
    }

    /// On the admin listener alone.
    pub(super) fn remote(mut self) -> Self {
        self.listener = Listener::RemoteAdmin;
        self
    }

    /// Without being an admin.
    pub(super) fn open(mut self) -> Self {
        self.access = Access::Open;
        self
    }
}
