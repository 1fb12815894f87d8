//! Phones: sipp with the scenarios beside this file. Where sipp cannot (SHA-256, the same answer twice, what no phone sends),
//! the test makes the header and sipp sends it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::edge::{Edge, REALM, named};

/// A phone, or many that do the same: where they are, and what they do.
pub(crate) struct Phone<'a> {
    edge: &'a Edge,
    scenario: &'static str,
    source: &'a str,
    transport: &'static str,
    /// What its answers to challenges are for; sipp has one for all requests.
    uri: String,
    lines: String,
    count: usize,
}

/// What a phone was told.
pub(crate) struct Told {
    pub(crate) ok: bool,
    /// Every message that came, in order.
    pub(crate) messages: Vec<String>,
}

impl Told {
    pub(crate) fn statuses(&self) -> Vec<&str> {
        self.messages.iter().map(|it| it.get(8..11).unwrap_or_default()).collect()
    }

    pub(crate) fn last(&self) -> &str {
        self.messages.last().map_or("nothing", String::as_str)
    }
}

impl<'a> Phone<'a> {
    /// A phone of `user` that registers, with the challenge that every registration begins with.
    pub(crate) fn registers(edge: &'a Edge, user: &str, password: &str) -> Self {
        Self::registers_as(edge, user, password, user)
    }

    /// The same for the address of somebody else.
    pub(crate) fn registers_as(edge: &'a Edge, user: &str, password: &str, aor: &str) -> Self {
        Self::new(edge, "register", &line(user, password, aor))
    }

    /// Thousands of them.
    pub(crate) fn all_register(edge: &'a Edge, users: &[(String, String)]) -> Self {
        let lines = users.iter().map(|(user, password)| line(user, password, user));
        let lines: String = lines.collect();
        Self { count: users.len(), ..Self::new(edge, "register", &lines) }
    }

    /// A phone of `user` calls `other`.
    pub(crate) fn calls(edge: &'a Edge, user: &str, password: &str, other: &str) -> Self {
        let uri = format!("{other}@{REALM}");
        Self { uri, ..Self::new(edge, "call", &line(user, password, other)) }
    }

    /// The same as `claimed`, in vain.
    pub(crate) fn calls_in_vain(
        edge: &'a Edge,
        (user, password): (&str, &str),
        claimed: &str,
    ) -> Self {
        let answers = format!("[authentication username={user} password={password}]");
        let uri = format!("bob@{REALM}");
        Self { uri, ..Self::new(edge, "refused", &format!("{claimed};{answers};bob\n")) }
    }

    /// One REGISTER with this header.
    pub(crate) fn sends(edge: &'a Edge, user: &str, header: &str) -> Self {
        assert!(!header.contains(';'), "sipp would take it for two fields");
        Self::new(edge, "request", &format!("{user};{header};{user}\n"))
    }

    fn new(edge: &'a Edge, scenario: &'static str, lines: &str) -> Self {
        let lines = format!("SEQUENTIAL\n{lines}");
        let uri = REALM.to_owned();
        Self { edge, scenario, source: "127.0.0.1", transport: "u1", uri, lines, count: 1 }
    }

    pub(crate) fn from(self, source: &'a str) -> Self {
        Self { source, ..self }
    }

    pub(crate) fn over_tcp(self) -> Self {
        Self { transport: "t1", ..self }
    }

    /// Does it, and asserts how it ends.
    #[track_caller]
    pub(crate) fn gets(&self, status: u16) -> Told {
        let told = self.expects(status);
        let log = self.edge.kamailio.log();
        assert!(told.ok, "not {status}, but {:?}: {}\n{log}", told.statuses(), told.last());
        told
    }

    /// Does it, and tells whether it ends so.
    pub(crate) fn expects(&self, status: u16) -> Told {
        let folder = files(self.edge.dir.path());
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio");
        let scenario =
            fs::read_to_string(scenario.join(self.scenario).with_extension("xml")).unwrap();
        let (xml, csv) = (folder.join("scenario.xml"), folder.join("users.csv"));
        fs::write(&xml, scenario.replace("EXPECTED", &status.to_string())).unwrap();
        fs::write(&csv, &self.lines).unwrap();
        let mut sipp = sipp(self.edge, self.source, &folder);
        sipp.args(["-auth_uri", &self.uri, "-t", self.transport, "-sf"])
            .arg(xml)
            .arg("-inf")
            .arg(csv);
        sipp.args(["-m", &self.count.to_string(), "-r", "200", "-l", "40", "-timeout", "60s"]);
        let output = sipp.output().unwrap();
        // 0: all did what they should; 1: some did not. Anything else is not about what they were told.
        let code = output.status.code();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(code, Some(0 | 1)), "sipp: {code:?}: {said}");
        Told { ok: code == Some(0), messages: received(&folder.join("messages.log")) }
    }
}

/// A phone that waits for one call. Killed when dropped.
pub(crate) struct Waiting(Child);

impl Waiting {
    /// Registers `user` and waits for a call there.
    pub(crate) fn start(edge: &Edge, user: &str, password: &str) -> Self {
        let folder = files(edge.dir.path());
        let port = free_port().to_string();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio");
        let (xml, csv) = (folder.join("scenario.xml"), folder.join("users.csv"));
        let register = fs::read_to_string(here.join("register.xml")).unwrap();
        fs::write(&xml, register.replace("EXPECTED", "200")).unwrap();
        fs::write(&csv, format!("SEQUENTIAL\n{}", line(user, password, user))).unwrap();
        let mut registers = sipp(edge, "127.0.0.1", &folder);
        registers
            .args(["-auth_uri", REALM, "-p", &port, "-m", "1", "-timeout", "60s", "-sf"])
            .arg(xml);
        registers.arg("-inf").arg(csv);
        assert!(registers.output().unwrap().status.success(), "{}", edge.kamailio.log());
        let mut waits = sipp(edge, "127.0.0.1", &files(edge.dir.path()));
        waits.args(["-p", &port, "-m", "1", "-timeout", "60s", "-sf"]).arg(here.join("answer.xml"));
        Self(waits.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn was_called(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn line(user: &str, password: &str, about: &str) -> String {
    format!("{user};[authentication username={user} password={password}];{about}\n")
}

/// A new folder for the files of one sipp.
fn files(dir: &Path) -> std::path::PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let folder = dir.join(format!("sipp-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap();
    folder
}

/// What every sipp has: where it is, whom it talks to, and a log of its messages.
fn sipp(edge: &Edge, source: &str, folder: &Path) -> Command {
    let mut sipp = Command::new(named("SIPP"));
    sipp.arg(edge.kamailio.address.to_string()).args(["-i", source, "-nostdin"]);
    // It ends with what it did not expect, and does not hang up what was no call.
    sipp.args(["-default_behaviors", "all,-bye", "-trace_msg", "-message_file"]);
    sipp.arg(folder.join("messages.log")).stdin(Stdio::null()).current_dir(folder);
    sipp
}

/// The messages in sipp's log that came, each once.
fn received(log: &Path) -> Vec<String> {
    let log = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let parts = log.split("-----------------------------------------------");
    let came = parts.filter_map(|it| it.split_once(" message received [")?.1.split_once("\n\n"));
    came.map(|(_, message)| message.trim().to_owned()).collect()
}

/// A port that is free on loopback.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The value of a parameter in a message.
pub(crate) fn parameter<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{name}: {text}")).1;
    rest.trim_start_matches('"').split(['"', ',', '\r', '\n']).next().unwrap()
}

/// A phone's answer to the challenge of its REGISTER, as its header.
pub(crate) fn answer(challenge: &str, user: &str, password: &str) -> String {
    let digest = digest(challenge, user, password, "REGISTER", &format!("sip:{REALM}"));
    format!("Authorization: {digest}")
}

/// What answers a challenge.
pub(crate) fn digest(
    challenge: &str,
    user: &str,
    password: &str,
    method: &str,
    uri: &str,
) -> String {
    let algorithm = parameter(challenge, "algorithm");
    let hash = |text: String| match algorithm {
        "MD5" => hex::encode(Md5::digest(text)),
        "SHA-256" => hex::encode(Sha256::digest(text)),
        other => panic!("{other}"),
    };
    let nonce = parameter(challenge, "nonce");
    let ha1 = hash(format!("{user}:{REALM}:{password}"));
    let ha2 = hash(format!("{method}:{uri}"));
    let response = hash(format!("{ha1}:{nonce}:00000001:abc:auth:{ha2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{uri}\", qop=auth, \
         nc=00000001, cnonce=\"abc\", algorithm={algorithm}, response=\"{response}\""
    )
}

/// A request of `alice` with this header, byte for byte. `to_tag` is empty or begins with a semicolon.
pub(crate) fn request(method: &str, to_tag: &str, header: &[u8], port: u16) -> Vec<u8> {
    let before = format!(
        "{method} sip:{REALM} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{port}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{REALM}>;tag=t\r\nTo: <sip:alice@{REALM}>{to_tag}\r\n\
         Call-ID: test-{port}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@127.0.0.1:{port}>\r\n"
    );
    [before.as_bytes(), header, b"\r\nContent-Length: 0\r\n\r\n"].concat()
}

/// Sends what `request` makes of a port, so often at once. The statuses of the answers, until none comes for a while.
pub(crate) fn exchange(
    to: SocketAddr,
    copies: usize,
    request: impl Fn(u16) -> Vec<u8>,
) -> BTreeSet<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let request = request(socket.local_addr().unwrap().port());
    for _ in 0..copies {
        socket.send_to(&request, to).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let mut buffer = [0; 4096];
    let mut statuses = BTreeSet::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]);
        statuses.insert(message.get(8..11).unwrap().to_owned());
    }
    statuses
}

/// Whether anything comes back for a request.
pub(crate) fn is_answered(to: SocketAddr) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = request("REGISTER", "", b"Supported: path", socket.local_addr().unwrap().port());
    socket.send_to(&request, to).is_ok() && socket.recv(&mut [0; 4096]).is_ok()
}
