//! Large requests: what may have 512 KiB, and what that could become in memory. All of them are of a caller with a token.

use std::time::{Duration, Instant};

use bytes::Bytes;
use credvault::grpc::proto::{
    ApiToken, BatchVerifySipDigestRequest, CreateApiTokenRequest, VerifySipDigestRequest,
};
use futures_util::future::join_all;
use prost::Message as _;
use tonic::Code;

use crate::Row;
use crate::support::Clients;
use crate::support::raw::{Raw, declared, framed};
use crate::target::{Target, connect, pass};

const BATCH: &str = "/credvault.v1.UseService/BatchVerifySipDigest";
const WEBHOOK: &str = "/credvault.v1.UseService/VerifyTwilioWebhook";

/// The most bytes of such a request.
const MOST: usize = 512 * 1024;

/// What large requests may cost.
const COST: u64 = 128 << 20;

async fn connections(target: &Target, count: usize) -> Vec<Raw> {
    let connections = (0..count).map(async |number| {
        let source = format!("127.0.1.{}", number % 4 + 1);
        let stream = connect(&source, target.address).await.unwrap();
        let authorization = vec![format!("Bearer {}", target.reach.token)];
        Raw::over(stream, authorization).await.unwrap()
    });
    join_all(connections).await
}

fn check() -> VerifySipDigestRequest {
    VerifySipDigestRequest {
        parent: "accounts/dev".to_owned(),
        username: "honest".to_owned(),
        realm: "sip.test".to_owned(),
        method: "REGISTER".to_owned(),
        uri: "sip:sip.test".to_owned(),
        nonce: "n0nce".to_owned(),
        response: "0".repeat(32),
        ..Default::default()
    }
}

/// Another caller: it checks digests one by one, and now and then as many as a batch has, until then. How many it checked.
async fn registrar(target: &Target, until: Instant) -> usize {
    let admin = Clients::new(&target.reach.channel_from("127.0.0.5"), &target.reach.token);
    let request = CreateApiTokenRequest {
        parent: "accounts/dev".to_owned(),
        api_token: Some(ApiToken {
            roles: vec![credvault::grpc::proto::Role::Verifier.into()],
            ..Default::default()
        }),
        lifetime: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let made = admin.access.clone().create_api_token(request).await.unwrap().into_inner();
    let mut uses = Clients::new(&target.reach.channel_from("127.0.0.6"), &made.token).uses;
    let requests = vec![VerifySipDigestRequest { uri: "x".repeat(1_000), ..check() }; 256];
    let parent = "accounts/dev".to_owned();
    let batch = BatchVerifySipDigestRequest { parent, requests };
    assert!(batch.encoded_len() > 64 * 1024);
    let (mut checked, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let began = Instant::now();
        uses.verify_sip_digest(check()).await.unwrap();
        let answer = uses.batch_verify_sip_digest(batch.clone()).await.unwrap().into_inner();
        checked += 1 + answer.outcomes.len();
        longest = longest.max(began.elapsed());
        pass(Duration::from_millis(200)).await;
    }
    assert!(longest < crate::LONGEST, "an honest check and a batch took {longest:?}");
    checked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_that_never_end() {
    let target = Target::ours();
    let mut checked = 0;
    let row = Row::of(&target, async {
        let all_but_one = vec![0; MOST - 1];
        let body = Bytes::from(declared(0, u32::try_from(MOST).unwrap(), &all_but_one));
        let held = connections(&target, 16).await;
        let mut calls = Vec::new();
        for raw in &held {
            for _ in 0..64 {
                let (response, mut stream) = raw.start(raw.head(BATCH)).await;
                stream.send_data(body.clone(), false).unwrap();
                calls.push((response, stream));
            }
        }
        // Nearly as long as a call may take.
        let until = Instant::now() + Duration::from_secs(6);
        checked = registrar(&target, until).await;
        drop(calls);
    })
    .await;
    let cost = row.peak.saturating_sub(row.before);
    let said = format!("{} MiB for 1,024 requests, {checked} checks of others", cost >> 20);
    row.print("requests without end", "vault", &said);
    assert!(cost < COST, "requests that never end cost {cost} bytes");
    row.is_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_empty_items() {
    // Each of two bytes. A field of a form within its message, whose length takes three more.
    let batch = [0x12, 0].repeat(MOST / 2);
    let form = [vec![0x1a, 0xfa, 0xff, 0x1f], [0x0a, 0].repeat(MOST / 2 - 3)].concat();
    for (attack, path, message) in
        [("batches of nothing", BATCH, batch), ("forms of nothing", WEBHOOK, form)]
    {
        assert!(message.len() <= MOST);
        let target = Target::ours();
        let (mut refused, mut checked) = (0, 0);
        let row = Row::of(&target, async {
            let held = connections(&target, 4).await;
            let body = framed(&message);
            let until = Instant::now() + Duration::from_secs(3);
            let calls = held.iter().flat_map(|raw| [raw; 8]).map(async |raw| {
                let mut refused = 0;
                while Instant::now() < until {
                    let answer = raw.call(path, body.clone()).await;
                    refused += usize::from(answer.code == Code::ResourceExhausted);
                }
                refused
            });
            let (each, others) = tokio::join!(join_all(calls), registrar(&target, until));
            (refused, checked) = (each.into_iter().sum(), others);
        })
        .await;
        let cost = row.peak.saturating_sub(row.before);
        let said = format!("{} MiB, {refused} refused, {checked} checks of others", cost >> 20);
        row.print(attack, "vault", &said);
        assert!(cost < COST, "empty items cost {cost} bytes");
        assert!(refused > 0, "they are told");
        row.is_unharmed();
    }
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_hoarded_and_uncounted_requests_are_caught() {
    for (defect, test, sign) in [
        ("hoarded-requests", "large_requests_that_never_end", "requests that never end cost"),
        ("uncounted-items", "requests_of_empty_items", "empty items cost"),
    ] {
        let said = crate::support::process::caught(&format!("requests::{test}"), defect);
        assert!(said.contains(sign), "{defect}: {said}");
    }
}
