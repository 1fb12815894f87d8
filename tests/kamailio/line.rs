//! A phone that sends what sipp would not, and looks at what comes: a socket, and requests by hand.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::edge::{Edge, REALM};
use super::phone::digest;

/// A request. `from` and `to` have their tags, and `more` is whole header lines.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) call: &'a str,
    pub(crate) more: &'a str,
}

pub(crate) struct Line {
    socket: UdpSocket,
    kamailio: SocketAddr,
    /// Of the last request.
    number: Cell<usize>,
}

impl Line {
    pub(crate) fn new(edge: &Edge, source: &str) -> Self {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        Self { socket, kamailio: edge.kamailio.address, number: Cell::new(0) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.kamailio).unwrap();
    }

    /// Sends the request with this header line besides, or "".
    pub(crate) fn sends(&self, request: &Request<'_>, header: &str) {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        self.number.set(NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sends_again(request, header);
    }

    /// The same with the number of the last one: what ACK is to an INVITE that was refused.
    pub(crate) fn sends_again(&self, request: &Request<'_>, header: &str) {
        let number = self.number.get();
        let here = self.address();
        let Request { method, uri, from, to, call, more } = request;
        let contact =
            if more.contains("Contact:") { "" } else { &format!("Contact: <sip:{here}>\r\n") };
        self.send(&format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK-{number}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n\
             {contact}{more}{header}Content-Length: 0\r\n\r\n"
        ));
    }

    /// Sends it as it is, and the status of what comes back.
    pub(crate) fn asks(&self, request: &Request<'_>) -> String {
        self.sends(request, "");
        self.status()
    }

    /// Sends it, is challenged, and answers for `uri`.
    pub(crate) fn answers(&self, request: &Request<'_>, user: &str, password: &str, uri: &str) {
        self.sends(request, "");
        let challenge = self.next();
        let (header, status) = match request.method {
            "REGISTER" => ("Authorization", "SIP/2.0 401"),
            _ => ("Proxy-Authorization", "SIP/2.0 407"),
        };
        assert!(challenge.starts_with(status), "{challenge}");
        let digest = digest(&challenge, user, password, request.method, uri);
        self.sends(request, &format!("{header}: {digest}\r\n"));
    }

    /// The same for what is asked for.
    pub(crate) fn does(&self, request: &Request<'_>, user: &str, password: &str) {
        self.answers(request, user, password, request.uri);
    }

    /// The next message but 100 Trying; "" if there is none for a while.
    pub(crate) fn next(&self) -> String {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer) else { return String::new() };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !message.starts_with("SIP/2.0 100") {
                return message;
            }
        }
    }

    pub(crate) fn status(&self) -> String {
        self.next().get(8..11).unwrap_or_default().to_owned()
    }

    /// Registers with these header lines. What it is told.
    pub(crate) fn registers(&self, user: &str, password: &str, contact: &str) -> String {
        let address = format!("<sip:{user}@{REALM}>");
        let request = Request {
            method: "REGISTER",
            uri: &format!("sip:{REALM}"),
            from: &format!("{address};tag=r"),
            to: &address,
            call: &format!("register-{}", self.address()),
            more: contact,
        };
        self.does(&request, user, password);
        self.next()
    }

    /// Answers a request that came with this status, as `tag`.
    pub(crate) fn replies(&self, request: &str, status: &str, tag: &str, more: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in request.lines() {
            let name = line.split(':').next().unwrap();
            if ["Via", "Record-Route", "From", "Call-ID", "CSeq"].contains(&name) {
                write!(text, "{line}\r\n").unwrap();
            } else if name == "To" {
                let tag =
                    if line.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
                write!(text, "{line}{tag}\r\n").unwrap();
            }
        }
        let here = self.address();
        self.send(&format!("{text}Contact: <sip:{here}>\r\n{more}Content-Length: 0\r\n\r\n"));
    }
}

/// What a phone must not say, in the words of its caller.
pub(crate) const IDENTITIES: &str = "p-asserted-identity: <sip:amy@sip.test>\r\nP-Preferred-Identity: <sip:amy@sip.test>\r\n\
                          Remote-Party-ID: <sip:amy@sip.test>\r\nDiversion: <sip:amy@sip.test>\r\n\
                          History-Info: <sip:amy@sip.test>\r\nAuthorization: Basic eA==\r\n\
                          Route: <sip:192.0.2.55;lr>\r\n";

/// That nothing came along which is not for the callee.
#[track_caller]
pub(crate) fn is_clean(message: &str) {
    for header in ["Authorization", "Identity", "Remote-Party", "Diversion", "History", "Route"] {
        let header = header.to_lowercase();
        let found = message.lines().any(|it| {
            let it = it.to_lowercase();
            it.contains(&header) && !it.starts_with("record-route")
        });
        assert!(!found, "{header}: {message}");
    }
}
