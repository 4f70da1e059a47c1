//! One function an operation: reads what the request says, asks the host, writes what it answers.

use super::{call::Call, open};
use crate::{
    auth::TokenError,
    host_api::{JobQuery, Taken},
    routes::{HEADER_MEDIA_TYPE, INDEX_MEDIA_TYPE, SOURCE_MEDIA_TYPE},
    types::{
        CallData, CallRequest, Health, MessageReceipt, NewToken, Problem, Result, TokenId,
        VersionNumber,
    },
};
use alloy_primitives::Bytes;
use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE},
};
use futures::future::BoxFuture;
use serde::Serialize;

/// What answers a call.
pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Result<Response<Body>>>;
type Answered = BoxFuture<'static, Result<Response<Body>>>;

fn bytes(media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes.0));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn json(value: &impl Serialize) -> Result<Response<Body>> {
    let text = serde_json::to_vec(value).map_err(|error| Problem::internal(&error))?;
    Ok(bytes("application/json", text.into()))
}

fn created(value: &impl Serialize) -> Result<Response<Body>> {
    let mut response = json(value)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn empty() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub(crate) fn health(_: Call) -> Answered {
    let status = "serving".to_owned();
    Box::pin(async move { json(&Health { status }) })
}

pub(crate) fn openapi(call: Call) -> Answered {
    Box::pin(async move { Ok(bytes("application/json", call.shared.openapi.clone())) })
}

pub(crate) fn host(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.host().await?) })
}

pub(crate) fn delegate(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.delegate().await?) })
}

pub(crate) fn cryptlets(call: Call) -> Answered {
    Box::pin(async move {
        let (query, page) = (call.query("query")?, call.page()?);
        json(&call.shared.api.cryptlets(query, page).await?)
    })
}

pub(crate) fn cryptlet(call: Call) -> Answered {
    Box::pin(async move {
        let name = call.path("name")?;
        json(&call.shared.api.cryptlet(name).await?)
    })
}

/// `version` of the query.
fn version(call: &Call) -> Result<Option<u32>> {
    let version: Option<VersionNumber> = call.query("version")?;
    version
        .map(|version| u32::try_from(version.get()))
        .transpose()
        .map_err(|error| Problem::internal(&error))
}

pub(crate) fn header(call: Call) -> Answered {
    Box::pin(async move {
        let (name, version) = (call.path("name")?, version(&call)?);
        let header = call.shared.api.header(name, version).await?;
        Ok(bytes(HEADER_MEDIA_TYPE, header))
    })
}

pub(crate) fn package(call: Call) -> Answered {
    Box::pin(async move {
        let (name, version) = (call.path("name")?, version(&call)?);
        let index = call.shared.api.package(name, version).await?;
        Ok(bytes(INDEX_MEDIA_TYPE, index))
    })
}

pub(crate) fn source(call: Call) -> Answered {
    Box::pin(async move {
        let (name, version) = (call.path("name")?, version(&call)?);
        let source = call.shared.api.source(name, version).await?;
        Ok(bytes(SOURCE_MEDIA_TYPE, source))
    })
}

pub(crate) fn explain(call: Call) -> Answered {
    Box::pin(async move {
        let name = call.path("name")?;
        json(&call.shared.api.explain(name).await?)
    })
}

pub(crate) fn create_key(call: Call) -> Answered {
    Box::pin(async move {
        let key = call.json()?;
        created(&call.shared.api.create_key(call.caller()?, key).await?)
    })
}

pub(crate) fn keys(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.keys(call.page()?).await?) })
}

pub(crate) fn store_package(call: Call) -> Answered {
    Box::pin(async move {
        let package = call.json()?;
        created(
            &call
                .shared
                .api
                .store_package(call.caller()?, package)
                .await?,
        )
    })
}

pub(crate) fn secret_code(call: Call) -> Answered {
    Box::pin(async move {
        let package = call.path("package")?;
        json(&call.shared.api.secret_code(package).await?)
    })
}

pub(crate) fn set_code_key(call: Call) -> Answered {
    Box::pin(async move {
        let (package, key) = (call.path("package")?, call.json()?);
        let api = &call.shared.api;
        json(&api.set_code_key(call.caller()?, package, key).await?)
    })
}

pub(crate) fn add_code_agreement(call: Call) -> Answered {
    Box::pin(async move {
        let (package, agreement) = (call.path("package")?, call.json()?);
        let api = &call.shared.api;
        let taken = api.add_code_agreement(call.caller()?, package, agreement);
        created(&taken.await?)
    })
}

pub(crate) fn subscriptions(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.subscriptions(call.page()?).await?) })
}

pub(crate) fn jobs(call: Call) -> Answered {
    Box::pin(async move {
        let query = JobQuery {
            subject: call.query("subject")?,
            state: call.query("state")?,
            page: call.page()?,
        };
        json(&call.shared.api.jobs(query).await?)
    })
}

pub(crate) fn job(call: Call) -> Answered {
    Box::pin(async move {
        let job = call.path("id")?;
        json(&call.shared.api.job(job).await?)
    })
}

pub(crate) fn receipt(call: Call) -> Answered {
    Box::pin(async move {
        let job = call.path("id")?;
        let receipt = call.shared.api.receipt(job).await?;
        Ok(bytes("application/json", receipt))
    })
}

pub(crate) fn policy(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.policy().await?) })
}

pub(crate) fn set_policy(call: Call) -> Answered {
    Box::pin(async move {
        let policy = call.json()?;
        json(&call.shared.api.set_policy(call.caller()?, policy).await?)
    })
}

pub(crate) fn delegations(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.delegations(call.page()?).await?) })
}

pub(crate) fn add_delegation(call: Call) -> Answered {
    Box::pin(async move {
        let delegation = call.json()?;
        created(
            &call
                .shared
                .api
                .add_delegation(call.caller()?, delegation)
                .await?,
        )
    })
}

pub(crate) fn tokens(call: Call) -> Answered {
    Box::pin(async move {
        let page = call.page()?;
        json(&blocking(&call, move |tokens| tokens.list(&page)).await?)
    })
}

pub(crate) fn create_token(call: Call) -> Answered {
    Box::pin(async move {
        let token: NewToken = call.json()?;
        let maker = call.caller()?.name.clone();
        let token = blocking(&call, move |tokens| tokens.add(&token)).await?;
        tracing::info!(id = %token.info.id, role = %token.info.role, by = maker, "api: token made");
        created(&token)
    })
}

pub(crate) fn revoke_token(call: Call) -> Answered {
    Box::pin(async move {
        let id: TokenId = call.path("id")?;
        if call.own_token() == Some(&id) {
            let next = "revoke it with another operator's token";
            return Err(Problem::conflict("a token does not revoke itself", next));
        }
        let revoked = id.clone();
        if !blocking(&call, move |tokens| tokens.revoke(&revoked)).await? {
            let next = "list them: GET /v1/tokens";
            return Err(Problem::not_found(format!("there is no token {id}"), next));
        }
        tracing::info!(%id, by = call.caller()?.name, "api: token revoked");
        Ok(empty())
    })
}

pub(crate) fn retry_job(call: Call) -> Answered {
    Box::pin(async move {
        let job = call.path("id")?;
        json(&call.shared.api.retry_job(call.caller()?, job).await?)
    })
}

pub(crate) fn applications(call: Call) -> Answered {
    Box::pin(async move { json(&call.shared.api.applications(call.page()?).await?) })
}

pub(crate) fn add_application(call: Call) -> Answered {
    Box::pin(async move {
        let (caller, new) = (call.caller()?, call.json()?);
        created(&call.shared.api.add_application(caller, new).await?)
    })
}

pub(crate) fn rotate_application(call: Call) -> Answered {
    Box::pin(async move {
        let (caller, name, key) = (call.caller()?, call.path("name")?, call.json()?);
        let api = &call.shared.api;
        created(&api.rotate_application(caller, name, key).await?)
    })
}

pub(crate) fn remove_application(call: Call) -> Answered {
    Box::pin(async move {
        let (caller, name) = (call.caller()?, call.path("name")?);
        call.shared.api.remove_application(caller, name).await?;
        Ok(empty())
    })
}

pub(crate) fn message(call: Call) -> Answered {
    Box::pin(async move {
        let taken = open::take_message(&call).await?;
        let mut response = json(&MessageReceipt {
            known: taken == Taken::Known,
        })?;
        if taken == Taken::New {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        Ok(response)
    })
}

pub(crate) fn call(call: Call) -> Answered {
    Box::pin(async move { json(&open::answer(&call, call.json()?).await?) })
}

pub(crate) fn call_by_path(call: Call) -> Answered {
    Box::pin(async move {
        let CallData(data) = call.path("data")?;
        let sender = call.path("sender")?;
        json(&open::answer(&call, CallRequest { sender, data }).await?)
    })
}

/// Changes or reads the file of tokens where blocking is allowed.
async fn blocking<T: Send + 'static>(
    call: &Call,
    operation: impl FnOnce(&crate::auth::TokenStore) -> std::result::Result<T, TokenError>
    + Send
    + 'static,
) -> Result<T> {
    let tokens = call.shared.tokens();
    let result = tokio::task::spawn_blocking(move || operation(&tokens)).await;
    match result.map_err(|error| Problem::internal(&error))? {
        Ok(value) => Ok(value),
        Err(TokenError::Full) => Err(Problem::conflict(
            TokenError::Full.to_string(),
            "revoke some: DELETE /v1/tokens/{id}",
        )),
        Err(error) => Err(Problem::internal(&error)),
    }
}
