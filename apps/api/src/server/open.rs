//! What is open to anybody and changes or costs something: messages of applications, and reads of contracts.

use super::{call::Call, content};
use crate::{
    auth::throttle::origin,
    host_api::Taken,
    types::{ApplicationName, CallAnswer, CallRequest, HexBytes, Problem, ProblemKind, Result},
    webhook::Head,
};
use cryptlet_types::event::Message;

/// Seconds after which a message may be sent again when too many are being written down.
const BUSY_SECONDS: u64 = 1;

/// Takes a message, if its application signed it. The host answers once it is durable; who is refused is told so, and
/// what was accepted stays.
pub(crate) async fn take_message(call: &Call) -> Result<Taken> {
    let application: ApplicationName = call.path("name")?;
    let shared = &call.shared;
    let now = shared.now();
    let head = Head::read(call.headers(), now)?;
    check_signature(call, &application, &head).await?;
    call.peer().is_known_now();
    if let Some(seconds) = shared.said.over(application.clone(), now) {
        let detail = format!("{application} sends more messages than it may in a minute");
        return Err(Problem::too_many(detail, seconds));
    }
    let content = content::read(call.headers(), call.body())?;
    let _place = shared.messages.clone().try_acquire_owned().map_err(|_| {
        let detail = "the host writes down as many messages as it can";
        Problem::too_many(detail, BUSY_SECONDS)
    })?;
    let message = Message {
        application: application.to_string(),
        id: head.id,
        kind: content.kind,
        at: now,
        data: content.data,
    };
    shared.api.message(message).await
}

/// An application that is not there and a signature that does not hold are told in the same words, after the same work.
async fn check_signature(call: &Call, application: &ApplicationName, head: &Head) -> Result<()> {
    let shared = &call.shared;
    let known = shared.api.application_keys(application).await?;
    let keys = known.as_deref().unwrap_or(&shared.nobodys_key);
    let signed = head.is_signed_by(keys, call.body());
    if signed && known.is_some() {
        return Ok(());
    }
    let problem = Problem::new(
        ProblemKind::Unauthenticated,
        format!("webhook-signature: no application {application} signed this"),
        "sign ID.TIMESTAMP.BODY, byte for byte, with the application's current key",
    );
    Err(shared.stranger(call.peer(), problem))
}

/// Answers a read.
pub(crate) async fn answer(call: &Call, request: CallRequest) -> Result<CallAnswer> {
    let shared = &call.shared;
    let from = origin(call.peer().address);
    if let Some(seconds) = shared.asked.over(from, shared.now()) {
        let detail = "more reads come from this address than may in a minute";
        return Err(Problem::too_many(detail, seconds));
    }
    let place = shared.calls.clone().try_acquire_owned();
    let _place =
        place.map_err(|_| Problem::unavailable("the host answers as many reads as it can"))?;
    let answer = shared.api.call(request).await?;
    if answer.len() > HexBytes::MAX {
        return Err(Problem::internal(&"an answer is larger than the API says"));
    }
    Ok(CallAnswer {
        data: HexBytes(answer),
    })
}
