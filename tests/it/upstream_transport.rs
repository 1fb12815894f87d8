//! The way to a carrier: whom the vault speaks to, how often at once, and when it leaves a carrier alone.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use credvault::grpc::proto::{CreateProviderRequest, Provider};
use credvault::upstream::Network;
use futures_util::future::join_all;
use jiff::SignedDuration;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::providers::{SID, TOKEN, asked, create_provider};
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::process::Process;
use crate::support::tls::{Authority, Front, Speech, self_signed};
use crate::support::{Clients, TestVault, outcome};
use crate::upstream_faults::{UNREACHABLE, refused, with_main};

const TLS: &str = "Unavailable UPSTREAM_TLS";
const BLOCKED: &str = "Unavailable UPSTREAM_BLOCKED_ADDRESS";
const RATE_LIMITED: &str = "ResourceExhausted RATE_LIMITED retry 1s";
const ERROR: &str = "Unavailable UPSTREAM_ERROR retry 1s";

fn address(twilio: &FakeTwilio) -> SocketAddr {
    twilio.url().strip_prefix("http://").unwrap().parse().unwrap()
}

/// A network that trusts this authority and knows one name.
fn network(authority: &Authority, name: &str, addresses: Vec<SocketAddr>) -> Network {
    Network::internet().with_root(&authority.root).with_names([(name.to_owned(), addresses)].into())
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[tokio::test]
async fn a_token_goes_to_nobody_without_a_good_certificate() {
    let (mut vault, _, _) = with_main().await;
    let (ours, strange) = (Authority::new(), Authority::new());
    let twilio = address(&vault.twilio);
    let good = ours.signed("twilio.test", twilio);
    let front = Front::start(good.clone()).await;
    vault.network = network(&ours, "twilio.test", vec![front.address]);
    vault.options.upstream_twilio_api_url =
        Some(format!("https://twilio.test:{}", front.address.port()));
    let vault = vault.restart().await;
    let acme = vault.acme().await;

    let basic = BASE64_STANDARD.encode(format!("{SID}:{TOKEN}"));
    let rows = [
        ("self-signed", self_signed("twilio.test", twilio)),
        ("an unknown authority", strange.signed("twilio.test", twilio)),
        ("expired", ours.signed_and_expired("twilio.test", twilio)),
        ("another host", ours.signed("api.twilio.com", twilio)),
        ("TLS 1.1", Speech::tls_1_1()),
        ("plain HTTP", Speech::plain_http()),
    ];
    for (what, speech) in rows {
        front.speak(good.clone());
        let check = CreateProviderRequest { validate_only: true, ..create_provider("") };
        acme.create_provider(check).await.unwrap();
        let said = std::mem::take(&mut *front.heard());
        assert!(contains(&said, &basic), "a good certificate gets to hear the token");
        let (calls, connections) = (vault.twilio.calls(), front.connections());

        front.speak(speech);
        refused(&vault, &acme, what, &|| {}, TLS).await;
        assert_eq!(front.connections(), connections + 2, "one try each: {what}");
        assert_eq!(vault.twilio.calls(), calls, "{what}");
        let said = std::mem::take(&mut *front.heard());
        assert!(!said.is_empty() && !contains(&said, TOKEN) && !contains(&said, &basic), "{what}");
    }
}

#[tokio::test]
async fn a_name_leads_to_public_addresses_only_unless_the_operator_named_it() {
    let (mut vault, _, _) = with_main().await;
    let authority = Authority::new();
    let front = Front::start(authority.signed("api.twilio.com", address(&vault.twilio))).await;
    let port = front.address.port();
    for (leads_to, expected) in [
        (None, UNREACHABLE),
        (Some("127.0.0.1"), BLOCKED),
        (Some("::ffff:127.0.0.1"), BLOCKED),
        (Some("::1"), BLOCKED),
        (Some("10.1.2.3"), BLOCKED),
        (Some("169.254.169.254"), BLOCKED),
        (Some("fc00::1"), BLOCKED),
        (Some("64:ff9b::127.0.0.1"), BLOCKED),
    ] {
        let addresses = leads_to.map(|ip| vec![SocketAddr::new(ip.parse().unwrap(), port)]);
        let name = if leads_to.is_some() { "api.twilio.com" } else { "elsewhere.test" };
        vault.network = network(&authority, name, addresses.unwrap_or_default());
        vault.options.upstream_twilio_api_url = None;
        vault = vault.restart().await;
        let acme = vault.acme().await;
        refused(&vault, &acme, leads_to.unwrap_or("nowhere"), &|| {}, expected).await;
    }
    assert_eq!(front.connections(), 0);

    // The same name at the same address, but the operator said so.
    let loopback = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port)];
    vault.network = network(&authority, "api.twilio.com", loopback);
    vault.options.upstream_twilio_api_url = Some(format!("https://api.twilio.com:{port}"));
    vault = vault.restart().await;
    vault.acme().await.create_provider(create_provider("named")).await.unwrap();
    assert_eq!(front.connections(), 2);

    // A name of this machine needs no DNS, and may be spoken to without TLS.
    vault.network = Network::internet();
    vault.options.upstream_twilio_api_url =
        Some(format!("http://api.localhost:{}", address(&vault.twilio).port()));
    vault = vault.restart().await;
    vault.acme().await.create_provider(create_provider("local")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_in_the_environment_never_sees_a_token() {
    let twilio = FakeTwilio::start().await;
    twilio.add_account(SID, TOKEN);
    let strange = Authority::new().signed("localhost", address(&twilio));
    let front = Front::start(strange).await;
    let over_tls = format!("https://localhost:{}", front.address.port());
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());

    for (api, expected) in [(twilio.url(), "OK"), (over_tls, TLS)] {
        let mut environment = vec![("CREDVAULT_UPSTREAM_TWILIO_API_URL", api.as_str())];
        let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
        let lower = ["http_proxy", "https_proxy", "all_proxy"];
        environment.extend(names.into_iter().chain(lower).map(|name| (name, proxy_url.as_str())));
        environment.extend([("NO_PROXY", ""), ("no_proxy", "")]);
        let dir = tempfile::tempdir().unwrap();
        let dev = Process::dev(dir.path(), &environment);
        let mut request = create_provider("");
        "accounts/dev".clone_into(&mut request.parent);
        assert_eq!(outcome(&dev.clients().create_provider(request).await), expected);
    }
    let asked = twilio.calls_to(&format!("{SID}.json"));
    assert_eq!((asked, front.connections()), (1, 1));
    let none = proxy.accept().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock, "nobody came to the proxy");
}

/// What happens anyway, unless something is broken.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), event).await.expect("it does not happen")
}

/// Waits until the carrier was asked about tokens this often.
async fn asked_until(vault: &TestVault, times: u64) {
    loop {
        let calls = vault.twilio.calls();
        if asked(vault) >= times {
            return;
        }
        vault.twilio.called(calls + 1).await;
    }
}

/// A call under way.
fn spawn_create(acme: &Clients) -> JoinHandle<Result<Provider, Status>> {
    let acme = acme.clone();
    tokio::spawn(async move { acme.create_provider(create_provider("")).await })
}

#[tokio::test]
async fn sixteen_calls_are_in_flight_and_further_ones_wait_two_seconds() {
    let (vault, acme, _) = with_main().await;
    let before = asked(&vault);
    vault.twilio.set_path_fault(&format!("{SID}.json"), Some(Fault::Hold));

    // None of them is answered, so the others give up.
    let calls: Vec<_> = (0..36).map(|_| spawn_create(&acme)).collect();
    let mut refused = 0;
    soon(asked_until(&vault, before + 16)).await;
    let release = async {
        while asked(&vault) == before + 16 && refused < 20 {
            refused = acme.audit_log("acme").await.len() - 1;
        }
        assert_eq!(asked(&vault), before + 16);
        vault.twilio.release();
    };
    let (told, ()) = tokio::join!(join_all(calls), release);
    let count = |expected: &str| {
        told.iter().filter(|told| outcome(told.as_ref().unwrap()) == expected).count()
    };
    assert_eq!((count("OK"), count(RATE_LIMITED)), (16, 20));

    // A place that becomes free is taken by the next.
    let before = asked(&vault);
    let calls: Vec<_> = (0..40).map(|_| spawn_create(&acme)).collect();
    for round in 1..=2 {
        soon(asked_until(&vault, before + 16 * round)).await;
        assert_eq!(asked(&vault), before + 16 * round);
        vault.twilio.release();
    }
    soon(asked_until(&vault, before + 40)).await;
    vault.twilio.release();
    for told in join_all(calls).await {
        assert_eq!(outcome(&told.unwrap()), "OK");
    }

    // So is the place of a call whose caller left.
    let before = asked(&vault);
    let calls: Vec<_> = (0..16).map(|_| spawn_create(&acme)).collect();
    soon(asked_until(&vault, before + 16)).await;
    vault.twilio.set_path_fault(&format!("{SID}.json"), None);
    for call in calls {
        call.abort();
    }
    acme.create_provider(create_provider("")).await.unwrap();
}

#[tokio::test]
async fn a_carrier_that_keeps_failing_is_left_alone_until_a_probe_succeeds() {
    let (vault, acme, main) = with_main().await;
    let resting = |seconds: u32| format!("Unavailable UPSTREAM_UNREACHABLE retry {seconds}s");
    let create = async || outcome(&acme.create_provider(create_provider("")).await);
    vault.twilio.set_fault(Some(Fault::Status(500)));
    for _ in 0..9 {
        assert_eq!(create().await, ERROR);
    }
    // Who refuses is there and works: the count begins anew.
    vault.twilio.fail_next(Fault::Status(401));
    assert_eq!(create().await, "FailedPrecondition UPSTREAM_REJECTED_TOKEN");
    for _ in 0..10 {
        assert_eq!(create().await, ERROR);
    }
    let calls = vault.twilio.calls();
    refused(&vault, &acme, "resting", &|| {}, &resting(30)).await;
    assert_eq!(outcome(&acme.verify_provider(&main.name).await), resting(30));
    vault.clock.advance(SignedDuration::from_secs(29));
    assert_eq!(create().await, resting(1));
    assert_eq!(vault.twilio.calls(), calls, "nothing was asked");

    // One probe at a time; one that is dropped makes room for another, one that fails prolongs the rest.
    vault.clock.advance(SignedDuration::from_secs(1));
    vault.twilio.fail_next(Fault::Hold);
    let probe = spawn_create(&acme);
    soon(vault.twilio.called(calls + 1)).await;
    assert_eq!(create().await, resting(1));
    probe.abort();
    soon(async { while create().await == resting(1) {} }).await;
    assert_eq!(vault.twilio.calls(), calls + 2);
    assert_eq!(create().await, resting(30));

    vault.clock.advance(SignedDuration::from_secs(30));
    vault.twilio.set_fault(None);
    let told = join_all((0..2).map(async |_| create().await)).await;
    assert!(told.contains(&"OK".to_owned()), "{told:?}");
    for _ in 0..3 {
        assert_eq!(create().await, "OK");
    }
}
