//! Keeps web pages out.
//!
//! A browser lets any page open a WebSocket to this machine, and the node's development methods
//! need no password. Browsers name the page's origin, so a request from an origin that is not on
//! this machine is refused. Other clients send no origin.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use jsonrpsee::server::{HttpRequest, HttpResponse, http::response};
use tower::Service;

/// Passes requests without an origin, or with one on this machine, to the inner service.
#[derive(Debug, Clone)]
pub(super) struct LocalOrigins<S> {
    inner: S,
}

impl<S> LocalOrigins<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<HttpRequest<B>> for LocalOrigins<S>
where
    S: Service<HttpRequest<B>, Response = HttpResponse>,
{
    type Response = HttpResponse;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<HttpResponse, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let origin = request.headers().get("origin");
        if origin.is_none_or(|origin| origin.to_str().is_ok_and(is_local)) {
            Either::Left(self.inner.call(request))
        } else {
            Either::Right(ready(Ok(response::denied())))
        }
    }
}

/// Whether the origin, `scheme://host[:port]`, is on this machine.
fn is_local(origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|host| {
        authority
            .strip_prefix(host)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_on_this_machine_are_local() {
        for origin in [
            "http://localhost",
            "https://localhost:3000",
            "http://127.0.0.1:8545",
            "http://[::1]:1",
        ] {
            assert!(is_local(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://localhost.example",
            "http://example/localhost",
            "http://127.0.0.10",
        ] {
            assert!(!is_local(origin), "{origin}");
        }
    }
}
