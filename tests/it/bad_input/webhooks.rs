//! Bad input about webhooks, from a caller who may do everything there.

use credvault::grpc::proto::VerifyTwilioWebhookRequest;

use super::{Case, DESK, MAIN, NOT_FOUND, TOO_LARGE, each};

pub(super) fn cases() -> Vec<Case> {
    let names = ["", "main", DESK, "accounts/acme/providers/", "accounts/A/providers/main"];
    let absent = ["accounts/acme/providers/absent", "accounts/other/providers/main"];
    let long = format!("https://h/{}", "x".repeat(16_384));
    let urls = [
        "",
        "h",
        "//h/",
        "ftp://h/",
        "https://",
        "https:///x",
        "https://h/ x",
        "https://h/\n",
        &long,
    ];
    let webhook = |name: String, url: String| VerifyTwilioWebhookRequest {
        name,
        url,
        // Whatever stands here is Twilio's or somebody's who is not, and never the caller's mistake.
        signature: "\u{0}é".to_owned(),
        ..Default::default()
    };
    let (main, url) = (|| MAIN.to_owned(), || "https://example.com/".to_owned());
    let huge = "x".repeat(512 * 1024);
    [
        each("name", &names, "name", |name| webhook(name, url())),
        each("absent", &absent, NOT_FOUND, |name| webhook(name, url())),
        each("url", &urls, "url", |url| webhook(main(), url)),
        each("too large", &[&huge], TOO_LARGE, |url| webhook(main(), url)),
        each("not too large", &[&huge[..256 * 1024]], "url", |url| webhook(main(), url)),
    ]
    .concat()
}
