//! A request on its way to the host: its parameters and body, read strictly.

use super::{Shared, connection::Peer, content};
use crate::{
    auth::Authenticated,
    host_api::Caller,
    routes::{Place, Route, Takes},
    types::{FormError, Object, PageQuery, Problem, ProblemKind, Result, TokenId},
    webhook::Head,
};
use axum::{
    body::Body,
    extract::{RawPathParams, Request},
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    },
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, str::FromStr, sync::Arc};
use tokio::time::Instant;

/// Where a request comes from.
pub(crate) struct Asker {
    pub(crate) peer: Peer,
    pub(crate) authenticated: Option<Authenticated>,
}

/// A request whose parameters have known names.
pub(crate) struct Call<B = Bytes> {
    pub(crate) shared: Arc<Shared>,
    route: &'static Route,
    from: Asker,
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: B,
}

impl Call<Body> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        route: &'static Route,
        from: Asker,
        path: &RawPathParams,
        request: Request,
    ) -> Result<Self> {
        let path = path
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let query = parse_query(route, request.uri().query().unwrap_or_default())?;
        let (head, body) = request.into_parts();
        Ok(Self {
            shared,
            route,
            from,
            path,
            query,
            headers: head.headers,
            body,
        })
    }

    /// Reads the body, if the operation takes one, until `deadline`.
    pub(crate) async fn receive(self, deadline: Instant) -> Result<Call> {
        let body = match &self.route.body {
            Some((takes, limit)) => {
                match takes {
                    Takes::Json(_) => check_json(&self.headers)?,
                    Takes::Message => {
                        content::check_headers(&self.headers)?;
                        // Cheap, and before anything is read.
                        Head::read(&self.headers, self.shared.now())?;
                    }
                }
                check_length(&self.headers, *limit)?;
                let reading = Limited::new(self.body, *limit).collect();
                match tokio::time::timeout_at(deadline, reading).await {
                    Ok(Ok(collected)) => collected.to_bytes(),
                    Ok(Err(error)) if error.is::<LengthLimitError>() => {
                        return Err(too_large(*limit));
                    }
                    Ok(Err(_)) => return Err(Problem::malformed("the body ended early")),
                    Err(_) => return Err(too_slow()),
                }
            }
            None => Bytes::new(),
        };
        Ok(Call {
            shared: self.shared,
            route: self.route,
            from: self.from,
            path: self.path,
            query: self.query,
            headers: self.headers,
            body,
        })
    }
}

impl Call {
    /// The caller, for operations that have a role.
    pub(crate) fn caller(&self) -> Result<&Caller> {
        self.from
            .authenticated
            .as_ref()
            .map(|authenticated| &authenticated.caller)
            .ok_or_else(|| Problem::internal(&"an operation without a role wants its caller"))
    }

    /// The token that the caller came with.
    pub(crate) fn own_token(&self) -> Option<&TokenId> {
        self.from
            .authenticated
            .as_ref()
            .and_then(|authenticated| authenticated.token.as_ref())
    }

    /// A parameter of the path.
    pub(crate) fn path<T: FromStr<Err = FormError>>(&self, name: &str) -> Result<T> {
        let value = self.path.get(name).map(String::as_str).unwrap_or_default();
        value
            .parse()
            .map_err(|error| Problem::malformed(format!("{name} in the path: {error}")))
    }

    /// A parameter of the query.
    pub(crate) fn query<T: FromStr<Err = FormError>>(&self, name: &str) -> Result<Option<T>> {
        self.query
            .get(name)
            .map(|value| value.parse())
            .transpose()
            .map_err(|error| Problem::malformed(format!("query parameter {name}: {error}")))
    }

    /// Which page is asked for.
    pub(crate) fn page(&self) -> Result<PageQuery> {
        Ok(PageQuery {
            limit: self.query("limit")?,
            after: self.query("after")?,
        })
    }

    /// The other end of the connection.
    pub(crate) fn peer(&self) -> &Peer {
        &self.from.peer
    }

    /// The header fields.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, as it came.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice::<Object<T>>(&self.body)
            .map(|object| object.0)
            .map_err(|error| Problem::malformed(format!("the body: {error}")))
    }
}

fn parse_query(route: &Route, query: &str) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let known = route
            .parameters
            .iter()
            .any(|parameter| parameter.place == Place::Query && parameter.name == name);
        if !known {
            let name = cryptlet_types::bounded::clip(&name);
            return Err(Problem::malformed(format!(
                "there is no query parameter {name:?}"
            )));
        }
        if values
            .insert(name.to_string(), value.into_owned())
            .is_some()
        {
            return Err(Problem::malformed(format!(
                "query parameter {name} stands twice"
            )));
        }
    }
    Ok(values)
}

fn check_json(headers: &HeaderMap) -> Result<()> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(is_json) || headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            "the body has to be application/json, without a content encoding",
            "send Content-Type: application/json",
        ));
    }
    Ok(())
}

fn check_length(headers: &HeaderMap, limit: usize) -> Result<()> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    match announced {
        Some(length) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let (media_type, parameter) = content_type
        .split_once(';')
        .map_or((content_type, ""), |(media_type, parameter)| {
            (media_type, parameter.trim())
        });
    let utf8 = parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8");
    utf8 && media_type.trim().eq_ignore_ascii_case("application/json")
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        format!("the body has more than {limit} bytes"),
        "send less",
    )
}

fn too_slow() -> Problem {
    Problem::new(
        ProblemKind::TooSlow,
        "the body did not arrive in time",
        "send it again over a faster connection",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn unknown_and_doubled_parameters_are_named() {
        let jobs = ROUTES.iter().find(|route| route.id == "jobs").unwrap();
        let query = parse_query(jobs, "limit=3&state=routed").unwrap();
        assert_eq!(query.len(), 2);
        let job = ROUTES.iter().find(|route| route.id == "job").unwrap();
        for (route, query, named) in [
            (jobs, "limit=3&offset=1", "\"offset\""),
            (jobs, "limit=3&limit=4", "limit stands twice"),
            (job, "id=1", "\"id\""),
            (jobs, "%1b[2K=1", "\" [2K\""),
        ] {
            let problem = parse_query(route, query).unwrap_err();
            assert!(problem.detail.contains(named), "{query}: {problem}");
        }
    }

    #[test]
    fn json_is_known_by_its_type() {
        for right in ["application/json", "Application/JSON; charset=UTF-8"] {
            assert!(is_json(right), "{right}");
        }
        for wrong in [
            "",
            "text/json",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            assert!(!is_json(wrong), "{wrong}");
        }
    }
}
