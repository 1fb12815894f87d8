//! URLs, limits and places, against small servers on loopback.

use jiff::SignedDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::MockClock;
use crate::secret::SecretText;

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

/// A read with HTTP Basic authentication.
async fn get(http: &Http, url: Url) -> Result<Answer, Outage> {
    let secret = secret();
    let auth = Auth::Basic { user: "user", password: &secret };
    http.send(Use::Decide, Request::get(url, auth)).await
}

#[tokio::test]
async fn a_body_is_read_to_its_end_or_to_the_limit() {
    let body = "0123456789".repeat(1000);
    let url = serve(answer("200 OK", &body)).await;
    let (_, http) = http(&["127.0.0.1"]);
    for (limit, complete) in [(0, false), (1, false), (9_999, false), (10_000, true)] {
        let told = http.get_up_to(url.clone(), Auth::Bearer(&secret()), limit).await.unwrap();
        assert_eq!((told.status.as_u16(), told.complete), (200, complete), "{limit}");
        assert!(*told.body == body.as_bytes()[..limit], "{limit}");
    }
    for (length, result) in [(MAX_BODY, Ok(MAX_BODY)), (MAX_BODY + 1, Err(Outage::Protocol))] {
        let url = serve(answer("200 OK", &" ".repeat(length))).await;
        let told = get(&http, url).await;
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
        let told = get(&http, url).await.map(drop);
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
        let told = get(&http, url).await.map(drop);
        assert_eq!(told, Err(Outage::BlockedAddress), "{host}");
    }
    let url = format!("http://localhost:{port}/").parse().unwrap();
    assert!(get(&http, url).await.is_ok());
}

/// What a server got, once it was sent `request`.
async fn sent(request: impl FnOnce(Url) -> Request<'static>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap()).parse().unwrap();
    let got = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        // A body is sent with its length, and ends in the text below.
        while !got.ends_with(b"\r\n\r\n") && !got.ends_with(b"end") && !got.ends_with(b"}") {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0);
        }
        stream.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
        String::from_utf8(got).unwrap()
    });
    let (_, http) = http(&["127.0.0.1"]);
    assert!(http.send(Use::Decide, request(url)).await.is_ok());
    got.await.unwrap()
}

#[tokio::test]
async fn each_way_to_say_who_asks_and_each_body_is_sent_as_it_is_meant() {
    let token: &SecretText = Box::leak(Box::new(secret()));
    let headers = |url| {
        let auth = Auth::Headers { id: ("x-auth-id", "MA_1"), token: ("x-auth-token", token) };
        let body = Body::json(&serde_json::json!({"password": "a\"b"})).ok();
        Request { method: Method::PUT, url, auth, body }
    };
    let put = sent(headers).await;
    for part in [
        "PUT /x HTTP/1.1\r\n",
        "x-auth-id: MA_1\r\n",
        "x-auth-token: secret\r\n",
        "content-type: application/json\r\n",
        "content-length: 19\r\n",
        "\r\n\r\n{\"password\":\"a\\\"b\"}",
    ] {
        assert!(put.contains(part), "{part}: {put}");
    }
    let post = |url| {
        let body = Some(Body::form(&[("Password", "a+b &=ü"), ("At", "end")]));
        Request { method: Method::POST, url, auth: Auth::Bearer(token), body }
    };
    let post = sent(post).await;
    for part in [
        "POST /x HTTP/1.1\r\n",
        "authorization: Bearer secret\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "\r\n\r\nPassword=a%2Bb+%26%3D%C3%BC&At=end",
    ] {
        assert!(post.contains(part), "{part}: {post}");
    }
    let auth = Auth::Basic { user: "user", password: token };
    let get = sent(|url| Request::get(url, auth)).await;
    assert!(get.starts_with("GET /x HTTP/1.1\r\n"), "{get}");
    assert!(get.contains("authorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{get}");
    assert!(!get.contains("content-"), "{get}");
}

#[tokio::test]
async fn what_cannot_stand_in_a_header_is_not_sent() {
    let url = serve(answer("200 OK", "")).await;
    let (_, http) = http(&["127.0.0.1"]);
    let broken = SecretText::new("a\r\nhost: elsewhere".to_owned());
    let told = http.send(Use::Decide, Request::get(url, Auth::Bearer(&broken))).await;
    assert_eq!(told.map(drop), Err(Outage::Protocol));
}

#[tokio::test]
async fn what_no_connection_was_made_for_was_not_sent() {
    let post = async |http: &Http, url: Url| {
        let secret = secret();
        let request = Request::bare(Method::POST, url, Auth::Bearer(&secret));
        http.change(request).await.map(drop).unwrap_err()
    };
    let (_, http) = http(&["127.0.0.1", "nowhere.test"]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, lost) in [
        (format!("http://{closed}/"), Lost::unsent(Outage::Unreachable)),
        ("http://10.1.2.3/".to_owned(), Lost::unsent(Outage::BlockedAddress)),
        ("http://a.localhost:1/".to_owned(), Lost::unsent(Outage::BlockedAddress)),
    ] {
        assert_eq!(post(&http, url.parse().unwrap()).await, lost, "{url}");
    }
    // A TLS handshake that fails comes before the request.
    let url = serve("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()).await;
    let url = url.as_str().replace("http:", "https:").parse().unwrap();
    assert_eq!(post(&http, url).await, Lost::unsent(Outage::Tls));
    for (says, outage) in [
        (String::new(), Outage::Unreachable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf".to_owned(), Outage::Unreachable),
        ("no HTTP\r\n\r\n".to_owned(), Outage::Protocol),
        (answer("302 Found", ""), Outage::Redirect),
        (answer("429 Too Many\r\nretry-after: 2", ""), Outage::RateLimited(Duration::from_secs(2))),
        (answer("500 Oh", ""), Outage::ServerError),
        (answer("200 OK", &" ".repeat(MAX_BODY + 1)), Outage::Protocol),
    ] {
        let url = serve(says.clone()).await;
        assert_eq!(post(&http, url).await, Lost::sent(outage), "{says:.80}");
    }
}
