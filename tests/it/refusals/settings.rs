//! Rows about settings: the configuration file, addresses, certificates, limits, carriers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::table::{Row, Spoilt, configured};
use super::world::{World, set_mode, text};

/// A start of `serve`.
const fn row(
    case: &'static str,
    spoil: fn(&World) -> Spoilt,
    cause: &'static str,
    mend: &'static str,
) -> Row {
    Row { case, command: "serve", spoil, cause, mend }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "an unknown key",
        |world| configured(world, "data_dri = 'x'\n"),
        "unknown field",
        "expected one of `data_dir`",
    ),
    row(
        "an unknown key of a section",
        |world| configured(world, "[upstream.twilio]\napi_urll = 'x'\n"),
        "unknown field",
        "mend line 2",
    ),
    row("no TOML", |world| configured(world, "data_dir = \n"), "is not valid", "mend line 1"),
    row(
        "no number",
        |world| configured(world, "[limits]\ntoken_tries_per_provider = -1\n"),
        "is not valid",
        "mend line 2",
    ),
    row(
        "a configuration file that others may write",
        |world| {
            let spoilt = configured(world, "log = 'info'\n");
            set_mode(&world.file("credvault.toml"), 0o666);
            spoilt
        },
        "can be written by others, who could send tokens to themselves",
        "chmod go-w",
    ),
    row(
        "no such configuration file",
        |world| Spoilt::with(&["--config", &text(&world.file("nowhere.toml"))]),
        "cannot read",
        "name another with --config",
    ),
    row(
        "an unknown level",
        |_| Spoilt::with(&["--log", "h2=trace"]),
        "log is",
        "write error, warn",
    ),
    row(
        "an unknown store",
        |_| Spoilt::with(&["--store", "mysql://x"]),
        "the store URL is not one that Credvault knows",
        "write sqlite:PATH",
    ),
    row(
        "an interval that is too short",
        |_| Spoilt::with(&["--verification-interval", "5s"]),
        "verification.interval is",
        "write a duration from 1m to 168h",
    ),
    row(
        "no connections",
        |world| configured(world, "[limits]\nconnections = 0\n"),
        "must be from 1 to 65536",
        "the default is 512 and 64",
    ),
    row(
        "more connections than there can be",
        |world| configured(world, "[limits]\nconnections = 1000000000\n"),
        "must be from 1 to 65536",
        "the default is 512 and 64",
    ),
    row(
        "Twilio in the clear",
        |world| configured(world, "[upstream.twilio]\napi_url = 'http://api.twilio.com'\n"),
        "must be an https URL",
        "http only to this machine",
    ),
    row(
        "Vobiz in the clear",
        |world| configured(world, "[upstream.vobiz]\napi_url = 'http://api.vobiz.ai'\n"),
        "must be an https URL",
        "http only to this machine",
    ),
    row(
        "Telepath at a path",
        |_| {
            let url = "https://api.telepathvoice.com/v1";
            Spoilt::with(&["--upstream-telepath-api-url", url])
        },
        "must be an https URL",
        "without user, path, query and fragment",
    ),
    row(
        "a password of Telepath's rotated at another path",
        |world| configured(world, "[upstream.telepath]\nrotate_path = '../x'\n"),
        "upstream.telepath.rotate_path must be one part of a path",
        "rotate-password or rotate-sip-password",
    ),
    row(
        "Twilio's keys in the clear",
        |_| Spoilt::with(&["--upstream-twilio-iam-url", "http://iam.twilio.com"]),
        "must be an https URL",
        "http only to this machine",
    ),
    row(
        "a retired host of Twilio's",
        |world| {
            configured(
                world,
                "[upstream.twilio]\ntrunking_url = 'https://trunking.ie1.twilio.com'\n",
            )
        },
        "is a host that Twilio retired",
        "leave this setting out",
    ),
    row(
        "no address",
        |_| Spoilt::with(&["--listen", "localhost"]),
        "listen is",
        "write ADDRESS:PORT",
    ),
    row(
        "all addresses without TLS",
        |_| Spoilt::with(&["--listen", "0.0.0.0:0"]),
        "which others can reach",
        "name tls.cert_file and tls.key_file",
    ),
    row(
        "all addresses without TLS, v6",
        |_| Spoilt::with(&["--listen", "[::]:0"]),
        "which others can reach",
        "or write 127.0.0.1",
    ),
    row(
        "a port in use",
        |_| {
            let (port, address) = taken();
            Spoilt::while_taken(&["--listen", &address], port)
        },
        "cannot listen on",
        "choose another address with --listen",
    ),
    row(
        "no operations address",
        |_| Spoilt::with(&["--ops-listen", "localhost"]),
        "ops_listen is",
        "or off",
    ),
    row(
        "an operations port in use",
        |_| {
            let (port, address) = taken();
            Spoilt::while_taken(&["--ops-listen", &address], port)
        },
        "for operations",
        "choose another address with --ops-listen, or off",
    ),
    row(
        "a socket without a path",
        |_| Spoilt::with(&["--listen", "unix:"]),
        "without a path",
        "write unix:PATH",
    ),
    row(
        "a socket with a long path",
        |_| Spoilt::with(&["--listen", &format!("unix:/{}", "x".repeat(120))]),
        "that of a Unix socket has at most 107",
        "choose a shorter one",
    ),
    row(
        "a socket in a folder that is not there",
        |world| socket(world, "nowhere/socket"),
        "cannot listen in",
        "make the folder first",
    ),
    row(
        "a socket where others may write",
        |world| {
            fs::create_dir(world.file("open")).unwrap();
            set_mode(&world.file("open"), 0o777);
            socket(world, "open/socket")
        },
        "of the socket can be written by others",
        "chmod go-w",
    ),
    row(
        "a socket in a folder for everybody",
        |world| {
            fs::create_dir(world.file("open")).unwrap();
            set_mode(&world.file("open"), 0o1777);
            socket(world, "open/socket")
        },
        "of the socket can be written by others",
        "choose a folder of your own",
    ),
    row(
        "a file in the place of the socket",
        |world| {
            world.write("socket", "");
            socket(world, "socket")
        },
        "is there and is no socket",
        "choose another path",
    ),
    row(
        "a socket in use",
        |world| {
            let taken = UnixListener::bind(world.file("socket")).unwrap();
            let listen = format!("unix:{}", text(&world.file("socket")));
            Spoilt::while_served(&["--listen", &listen], taken)
        },
        "another process takes calls on",
        "stop it",
    ),
    row(
        "a socket with TLS",
        |world| {
            let mut spoilt = encrypted(world, (2020, 2100));
            spoilt.options.extend(socket(world, "socket").options);
            spoilt
        },
        "which needs no TLS",
        "take tls.cert_file and tls.key_file out",
    ),
    row(
        "a certificate without its key",
        |world| Spoilt::with(&["--tls-cert-file", &world.write("tls.crt", "")]),
        "tls.cert_file needs the private key",
        "name tls.key_file",
    ),
    row(
        "a key without its certificate",
        |world| Spoilt::with(&["--tls-key-file", &world.write("tls.key", "")]),
        "tls.key_file needs its certificate",
        "name tls.cert_file",
    ),
    row(
        "no certificate",
        |world| {
            let spoilt = encrypted(world, (2020, 2100));
            world.write("tls.crt", "a letter to my aunt");
            spoilt
        },
        "holds no certificate that can be read",
        "name a PEM file with one",
    ),
    row(
        "no TLS key",
        |world| {
            let spoilt = encrypted(world, (2020, 2100));
            fs::remove_file(world.file("tls.key")).unwrap();
            spoilt
        },
        "cannot read tls.key_file",
        "name another",
    ),
    row(
        "a TLS key that is none",
        |world| {
            let spoilt = encrypted(world, (2020, 2100));
            world.write("tls.key", "a letter to my aunt");
            spoilt
        },
        "holds no private key",
        "name a PEM file with one",
    ),
    row(
        "a TLS key that others may read",
        |world| {
            let spoilt = encrypted(world, (2020, 2100));
            set_mode(&world.file("tls.key"), 0o644);
            spoilt
        },
        "can be read by others",
        "chmod 600",
    ),
    row(
        "the key of another certificate",
        |world| {
            let spoilt = encrypted(world, (2020, 2100));
            world.write("tls.key", KeyPair::generate().unwrap().serialize_pem());
            spoilt
        },
        "do not belong together",
        "name the key that the certificate was made for",
    ),
    row(
        "a bundle that others may write",
        |world| {
            let spoilt = trusting(world, "example.org", "tls.crt");
            set_mode(&world.file("tls.crt"), 0o646);
            spoilt
        },
        "can be written by others, who could let anybody in",
        "chmod go-w",
    ),
    row(
        "a certificate of the past",
        |world| encrypted(world, (2019, 2020)),
        "expired at",
        "renew it",
    ),
    row(
        "a certificate of the future",
        |world| encrypted(world, (2099, 2100)),
        "is not valid before",
        "set the clock",
    ),
    row(
        "a trust domain without TLS",
        |world| {
            Spoilt::with(&[
                "--tls-trust-domain",
                &format!("example.org={}", world.write("bundle.pem", "")),
            ])
        },
        "tls.trust_domains needs TLS",
        "name tls.cert_file and tls.key_file",
    ),
    row(
        "a trust domain that is none",
        |world| trusting(world, "Example.org", "bundle.pem"),
        "must be a trust domain",
        "lower-case letters",
    ),
    row(
        "a trust domain without a file",
        |world| {
            let mut spoilt = encrypted(world, (2020, 2100));
            spoilt.options.extend(["--tls-trust-domain".to_owned(), "example.org".to_owned()]);
            spoilt
        },
        "tls.trust_domains has",
        "write DOMAIN=FILE",
    ),
    row(
        "a bundle that is empty",
        |world| {
            world.write("bundle.pem", "");
            trusting(world, "example.org", "bundle.pem")
        },
        "holds no certificate that can be read",
        "name a PEM file with one",
    ),
    row(
        "a bundle that is not there",
        |world| trusting(world, "example.org", "nowhere.pem"),
        "holds no certificate that can be read",
        "name a PEM file with one",
    ),
];

fn taken() -> (TcpListener, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    (port, address)
}

fn socket(world: &World, name: &str) -> Spoilt {
    Spoilt::with(&["--listen", &format!("unix:{}", text(&world.file(name)))])
}

/// TLS with a certificate that is valid in these years.
fn encrypted(world: &World, (from, until): (i32, i32)) -> Spoilt {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["vault.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = world.write("tls.crt", params.self_signed(&pair).unwrap().pem());
    let key = world.write("tls.key", pair.serialize_pem());
    Spoilt::with(&["--tls-cert-file", &certificate, "--tls-key-file", &key])
}

fn trusting(world: &World, domain: &str, bundle: &str) -> Spoilt {
    let mut spoilt = encrypted(world, (2020, 2100));
    let bundle = format!("{domain}={}", text(&world.file(bundle)));
    spoilt.options.extend(["--tls-trust-domain".to_owned(), bundle]);
    spoilt
}
