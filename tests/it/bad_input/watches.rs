//! Bad input about watches, from a caller who may do everything there.

use credvault::grpc::proto::WatchCredentialsRequest;

use super::{Case, DESK, TOO_LARGE, each};

pub(super) fn cases() -> Vec<Case> {
    let parents = ["", "vault", DESK, "accounts/", "accounts/A", "accounts/acme/credentials"];
    let tokens = ["x", "AAAA", "=", "\u{0}", &"A".repeat(500), "🔑"];
    let watch = |parent: String, resume_token| WatchCredentialsRequest { parent, resume_token };
    let acme = || "accounts/acme".to_owned();
    [
        each("parent", &parents, "parent", |parent| watch(parent, String::new())),
        each("token", &tokens, "resume_token", |token| watch(acme(), token)),
        each("too large", &[&"x".repeat(64 * 1024)], TOO_LARGE, |token| watch(acme(), token)),
    ]
    .concat()
}
