//! Webhooks on the wire.

use super::credential::version_state;
use super::field;
use crate::grpc::proto;
use crate::grpc::proto::verify_twilio_webhook_request::Content as WireContent;
use crate::vault::{Error, WebhookVerdict};
use crate::webhook::{Content, Url, Webhook};

/// What Twilio is said to have called.
pub(in crate::grpc) fn webhook(
    request: proto::VerifyTwilioWebhookRequest,
) -> Result<Webhook, Error> {
    let url = field("url", &request.url, Url::parse)?;
    let content = match request.content {
        None => Content::Nothing,
        Some(WireContent::Form(form)) => {
            let fields = form.fields.into_iter().map(|field| (field.name, field.value));
            Content::Form(fields.collect())
        }
        Some(WireContent::Body(body)) => Content::Body(body),
    };
    Ok(Webhook::new(url, content))
}

pub(in crate::grpc) fn verdict_to_wire(
    verdict: WebhookVerdict,
) -> proto::VerifyTwilioWebhookResponse {
    let fault = match verdict {
        WebhookVerdict::Signed { version, state } => {
            return proto::VerifyTwilioWebhookResponse {
                valid: true,
                version: super::count(version),
                version_state: version_state(state).into(),
                ..Default::default()
            };
        }
        WebhookVerdict::NotSigned => proto::WebhookFault::NotSigned,
        WebhookVerdict::WrongSignature => proto::WebhookFault::WrongSignature,
        WebhookVerdict::WrongBody => proto::WebhookFault::WrongBody,
    };
    proto::VerifyTwilioWebhookResponse { fault: fault.into(), ..Default::default() }
}
