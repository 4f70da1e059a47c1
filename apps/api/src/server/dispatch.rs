//! From a request to its operation, and back with an answer or a problem.

use super::{
    Shared,
    call::{Asker, Call},
    connection::Peer,
};
use crate::{
    auth::Authenticated,
    auth::throttle::WINDOW_SECONDS,
    routes::{MAX_BODY_BYTES, ROUTES, Route},
    types::{PROBLEM_JSON, Problem, ProblemKind},
};
use axum::{
    Extension, Router,
    body::Body,
    extract::{MatchedPath, RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
            CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    routing::any,
};
use futures::FutureExt;
use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// Most header fields, and most bytes of their names and values.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Most bytes of path and query.
const MAX_URI_BYTES: usize = 4 << 10;

/// The server's paths. Methods, roles and everything else are looked up in the table.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let paths: BTreeSet<_> = ROUTES.iter().map(|route| route.path).collect();
    paths
        .into_iter()
        .fold(Router::new(), |router, path| {
            router.route(path, any(endpoint))
        })
        .fallback(endpoint)
        .with_state(shared)
}

type Parameters = Result<RawPathParams, RawPathParamsRejection>;

async fn endpoint(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    matched: Option<MatchedPath>,
    parameters: Parameters,
    request: Request,
) -> Response<Body> {
    let method = request.method().clone();
    let path = matched.as_ref().map_or("", MatchedPath::as_str).to_owned();
    let answer = answer(&shared, &peer, &path, parameters, request);
    let answer = AssertUnwindSafe(answer).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Err(Refusal::from(Problem::internal(&"panic"))));
    let is_gateway = is_for_any_origin(&path);
    let mut response = answer.unwrap_or_else(|refusal| {
        if is_gateway {
            refusal.for_readers().into_response()
        } else {
            refusal.into_response()
        }
    });
    let headers = response.headers_mut();
    if is_gateway {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = response.status().as_u16();
    tracing::debug!(%method, path, status, peer = %peer.address, "api: request");
    response
}

/// A problem, with header fields that belong to it.
pub(crate) struct Refusal {
    problem: Box<Problem>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let header = match problem.kind {
            ProblemKind::Unauthenticated => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            ProblemKind::Unavailable => Some((RETRY_AFTER, HeaderValue::from_static("2"))),
            ProblemKind::TooManyRequests => {
                let seconds = problem.retry_after.unwrap_or(WINDOW_SECONDS);
                Some((RETRY_AFTER, seconds.into()))
            }
            _ => None,
        };
        Self {
            problem: Box::new(problem),
            header,
        }
    }
}

impl Refusal {
    /// With what ERC-3668 has its clients look for.
    fn for_readers(mut self) -> Self {
        self.problem.message = Some(self.problem.detail.clone());
        self
    }

    fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.header.map(|(name, value)| (Some(name), value)));
        response
    }
}

async fn answer(
    shared: &Arc<Shared>,
    peer: &Peer,
    path: &str,
    parameters: Parameters,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    check_sizes(request.uri(), request.headers())?;
    if request.method() == Method::OPTIONS && is_for_any_origin(path) {
        return Ok(preflight());
    }
    let route = find(request.method(), path);
    let open = route.is_some_and(|route| route.role.is_none());
    let authenticated = if open {
        None
    } else {
        Some(authenticate(shared, peer, request.headers())?)
    };
    let Some(route) = route else {
        return without_operation(request.method(), path);
    };
    check_role(route, authenticated.as_ref())?;
    // Strangers get a place of another kind, and later: see the operation.
    let strangers_body = open && route.body.is_some();
    let place = (!strangers_body).then(|| room(shared, route)).transpose()?;
    let parameters =
        parameters.map_err(|_| Problem::malformed("the path is not percent-encoded UTF-8"))?;
    let deadline = Instant::now() + shared.limits.request;
    let caller = Asker {
        peer: peer.clone(),
        authenticated,
    };
    let call = Call::new(shared.clone(), route, caller, &parameters, request)?;
    let call = call.receive(deadline).await?;
    match tokio::time::timeout_at(deadline, work(shared, route, place, call)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Problem::unavailable("the host did not answer in time").into()),
    }
}

/// Has the host do what is asked. What changes something is done to its end, whether the caller waits or has gone, and has
/// its place for as long: else it would be left half done, and whoever goes early could have more done at once than there
/// are places.
async fn work(
    shared: &Shared,
    route: &Route,
    place: Option<Place>,
    call: Call,
) -> Result<Response<Body>, Problem> {
    let answer = (route.handler)(call);
    let placed = async move {
        let answer = answer.await;
        drop(place);
        answer
    };
    if route.method == Method::GET {
        return placed.await;
    }
    let done = shared.tasks.spawn(placed).await;
    done.unwrap_or_else(|_| Err(Problem::internal(&"panic")))
}

/// The operation of a method at a path of the table. `HEAD` is `GET` whose body is not sent.
fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    ROUTES
        .iter()
        .find(|route| route.path == path && route.method == *method)
}

fn authenticate(
    shared: &Shared,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Authenticated, Refusal> {
    match shared.authenticator.authenticate(headers, peer.certificate) {
        Ok(authenticated) => {
            peer.is_known_now();
            Ok(authenticated)
        }
        Err(problem) if problem.kind == ProblemKind::Unauthenticated => {
            Err(shared.stranger(peer, problem).into())
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Whether pages from elsewhere may ask at this path.
fn is_for_any_origin(path: &str) -> bool {
    ROUTES
        .iter()
        .any(|route| route.any_origin && route.path == path)
}

/// Says to a browser what a page from elsewhere may send.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// For callers who are known: what else the path can do, or that there is no such path.
fn without_operation(method: &Method, path: &str) -> Result<Response<Body>, Refusal> {
    let mut methods: Vec<&str> = Vec::new();
    for route in ROUTES.iter().filter(|route| route.path == path) {
        methods.push(route.method.as_str());
        if route.method == Method::GET {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() {
        let next = "look the paths up in GET /v1/openapi.json";
        return Err(Problem::not_found("there is no such path", next).into());
    }
    methods.push("OPTIONS");
    let listed = methods.join(", ");
    let allow = HeaderValue::from_str(&listed).unwrap_or(HeaderValue::from_static("OPTIONS"));
    if method == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, allow);
        return Ok(response);
    }
    let problem = Problem::new(
        ProblemKind::MethodNotAllowed,
        "the path does not know this method",
        format!("use one of {listed}"),
    );
    Err(Refusal {
        problem: Box::new(problem),
        header: Some((ALLOW, allow)),
    })
}

fn check_role(route: &Route, authenticated: Option<&Authenticated>) -> Result<(), Problem> {
    let Some(least) = route.role else {
        return Ok(());
    };
    match authenticated {
        Some(authenticated) if authenticated.caller.role >= least => Ok(()),
        Some(authenticated) => Err(Problem::new(
            ProblemKind::Forbidden,
            format!(
                "the role {} may not do this, {least} may",
                authenticated.caller.role
            ),
            format!("ask the operator for a token with the role {least}"),
        )),
        None => Err(Problem::new(
            ProblemKind::Forbidden,
            "nobody may do this without a role",
            "ask the operator for a token",
        )),
    }
}

/// A place among the requests, and one among the uploads.
type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// A place among the requests that are worked on; for large bodies, one of the fewer places for those too.
fn room(shared: &Shared, route: &Route) -> Result<Place, Problem> {
    let busy = |_| Problem::unavailable("the host works on as many requests as it can");
    let place = shared.requests.clone().try_acquire_owned().map_err(busy)?;
    let large = matches!(route.body, Some((_, limit)) if limit > MAX_BODY_BYTES);
    let upload = large
        .then(|| shared.uploads.clone().try_acquire_owned())
        .transpose()
        .map_err(busy)?;
    Ok((place, upload))
}

fn check_sizes(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let length = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if length > MAX_URI_BYTES {
        return Err(Problem::new(
            ProblemKind::UriTooLong,
            format!("path and query have {length} bytes, at most {MAX_URI_BYTES}"),
            "send a shorter query",
        ));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len().saturating_add(value.len()))
        .sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Problem::new(
            ProblemKind::HeadersTooLarge,
            format!("more than {MAX_HEADERS} header fields, or more than {MAX_HEADER_BYTES} bytes"),
            "send fewer header fields",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_there_once() {
        let mut ids = BTreeSet::new();
        for route in ROUTES.iter() {
            assert!(ids.insert(route.id), "{} stands twice", route.id);
            let found = find(&route.method, route.path).unwrap();
            assert_eq!(found.id, route.id, "another operation hides it");
        }
    }

    #[test]
    fn what_may_be_retried_says_when() {
        for kind in ProblemKind::ALL {
            let problem = Problem::new(*kind, "", "");
            let retryable = problem.is_retryable() && *kind != ProblemKind::TooSlow;
            let refusal = Refusal::from(problem);
            let says_when = refusal.header.is_some_and(|(name, _)| name == RETRY_AFTER);
            assert_eq!(says_when, retryable, "{kind:?}");
        }
    }
}
