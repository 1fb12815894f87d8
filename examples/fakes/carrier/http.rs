//! HTTP/1.1, as far as small carriers need it.

use std::collections::HashMap;
use std::io;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

/// A request, as far as it matters here.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET` and so on.
    pub method: String,
    /// Path and query.
    target: String,
    /// By their names in lower case.
    headers: HashMap<String, String>,
    /// What was sent with it.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads it. `None` if it does not end, or not within 16 KiB.
    pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream).take(16 * 1024);
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let mut request = Self { method: word(), target: word(), ..Self::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            match line.split_once(':') {
                Some((name, value)) => {
                    let value = value.trim().to_owned();
                    request.headers.insert(name.to_ascii_lowercase(), value);
                }
                None if line.is_empty() => return Ok(None),
                None => break,
            }
        }
        let length = request.header("content-length").unwrap_or("0");
        let length = length.parse().map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut request.body).await?;
        Ok(Some(request))
    }

    /// Method, path and query, as `GET /path?query`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The path in its parts.
    pub fn segments(&self) -> Vec<&str> {
        self.path().split('/').skip(1).collect()
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The host, without the port.
    pub fn host(&self) -> &str {
        let host = self.header("host").unwrap_or_default();
        host.rsplit_once(':').map_or(host, |(host, _port)| host)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A number in the query, or the status that says that it is none.
    pub fn number(&self, name: &str, default: usize) -> Result<usize, u16> {
        self.query(name).map_or(Ok(default), |text| text.parse().map_err(|_| 400))
    }

    /// User and password of HTTP Basic (RFC 7617).
    pub fn basic(&self) -> Option<(String, String)> {
        let pair = self.header("authorization")?.strip_prefix("Basic ")?;
        let pair = BASE64_STANDARD.decode(pair).ok()?;
        let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// A field of a form in the body.
    pub fn form(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(&self.body);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The body as JSON; null, if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, without `content-length` and `connection`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of_type("application/json", status, body)
    }

    /// JSON of this media type.
    pub fn of_type(media_type: &str, status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", media_type.to_owned())];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// Text for people.
    pub(super) fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: text.as_bytes().to_vec() }
    }

    pub(super) fn head(&self, framing: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} \r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        format!("{head}{framing}\r\n\r\n").into_bytes()
    }
}
