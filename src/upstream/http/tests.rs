//! URLs, limits and places, against small servers on loopback.

use jiff::SignedDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::MockClock;

#[test]
fn tokens_go_to_https_or_to_this_machine() {
    for good in [
        "https://api.twilio.com",
        "http://127.0.0.1:8081",
        "http://localhost:1/",
        "http://twilio.localhost:1",
        "http://[::1]:9",
    ] {
        assert!(BaseUrl::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "api.twilio.com",
        "http://api.twilio.com",
        "http://127.0.0.1.example.com",
        "http://notlocalhost",
        "http://localhost.example.com",
        "ftp://localhost",
        "https://user@api.twilio.com",
        "https://api.twilio.com/path",
        "https://api.twilio.com?x",
        "file:///etc",
    ] {
        assert!(BaseUrl::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_path_cannot_break_out_of_its_segment() {
    let url = BaseUrl::parse("https://api.twilio.com").unwrap().join(&["a", "../b?c#d.json"]);
    assert_eq!(url.as_str(), "https://api.twilio.com/a/..%2Fb%3Fc%23d.json");
}

fn http(configured: &[&str]) -> (Arc<MockClock>, Http) {
    let clock = Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
    let configured = configured.iter().map(|&host| host.to_owned()).collect();
    let dyn_clock: Arc<dyn Clock> = Arc::<MockClock>::clone(&clock);
    let metrics = metrics::Upstream::new("test");
    (clock, Http::new(&Network::internet(), dyn_clock, configured, metrics).unwrap())
}

/// A server that sends this to each connection, once something came there.
async fn serve(says: String) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(says.as_bytes()).await.ok();
        }
    });
    url.parse().unwrap()
}

fn answer(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn secret() -> SecretText {
    SecretText::new("secret".to_owned())
}

#[tokio::test]
async fn a_body_is_read_to_its_end_or_to_the_limit() {
    let body = "0123456789".repeat(1000);
    let url = serve(answer("200 OK", &body)).await;
    let (_, http) = http(&["127.0.0.1"]);
    for (limit, complete) in [(0, false), (1, false), (9_999, false), (10_000, true)] {
        let told = http.get_up_to(url.clone(), "user", &secret(), limit).await.unwrap();
        assert_eq!((told.status.as_u16(), told.complete), (200, complete), "{limit}");
        assert!(*told.body == body.as_bytes()[..limit], "{limit}");
    }
    for (length, result) in [(MAX_BODY, Ok(MAX_BODY)), (MAX_BODY + 1, Err(Outage::Protocol))] {
        let url = serve(answer("200 OK", &" ".repeat(length))).await;
        let told = http.get(Use::Decide, url, "user", &secret()).await;
        assert_eq!(told.map(|told| told.body.len()), result);
    }
}

#[tokio::test]
async fn retry_after_is_a_number_or_a_date() {
    let (clock, http) = http(&["127.0.0.1"]);
    clock.advance(SignedDuration::from_millis(400));
    for (header, millis) in [
        ("retry-after: 7", 7_000),
        ("retry-after: 0", 1_000),
        ("retry-after: 61", 60_000),
        ("retry-after: -1", 5_000),
        ("retry-after: soon", 5_000),
        ("retry-after:", 5_000),
        ("x: y", 5_000),
        ("retry-after: Fri, 01 May 2026 12:00:20 GMT", 19_600),
        ("retry-after: Fri, 01 May 2026 13:00:00 GMT", 60_000),
        ("retry-after: Fri, 01 May 2026 11:59:59 GMT", 1_000),
        ("retry-after: Fri, 31 Dec 1999 23:59:59 GMT", 1_000),
        ("retry-after: Mon, 01 May 2026 12:00:20 GMT", 5_000),
    ] {
        let url = serve(answer(&format!("429 Too Many\r\n{header}"), "")).await;
        let told = http.get(Use::Decide, url, "user", &secret()).await.map(drop);
        assert_eq!(told, Err(Outage::RateLimited(Duration::from_millis(millis))), "{header}");
    }
}

#[tokio::test]
async fn an_address_in_place_of_a_name_is_filtered_too() {
    let url = serve(answer("200 OK", "")).await;
    let port = url.port().unwrap();
    let (_, http) = http(&["localhost"]);
    for host in ["127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "a.localhost"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        let told = http.get(Use::Decide, url, "user", &secret()).await.map(drop);
        assert_eq!(told, Err(Outage::BlockedAddress), "{host}");
    }
    let url = format!("http://localhost:{port}/").parse().unwrap();
    assert!(http.get(Use::Decide, url, "user", &secret()).await.is_ok());
}
