//! The published vectors, all forms beside them, and that nothing else verifies.

use proptest::prelude::*;

use super::*;

struct Vector {
    who: (&'static str, &'static str, &'static str),
    what: (&'static str, &'static str),
    nonce: &'static str,
    cnonce: Option<&'static str>,
    algorithm: &'static str,
    response: &'static str,
}

const RFC_NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
const RFC7616_NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
const RFC7616_CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
const BOB: (&str, &str, &str) = ("bob", "biloxi.com", "zanzibar");
const INVITE: (&str, &str) = ("INVITE", "sip:bob@biloxi.com");
const HTTP: (&str, &str) = ("GET", "/dir/index.html");
const MUFASA: (&str, &str, &str) = ("Mufasa", "http-auth@example.org", "Circle of Life");

/// RFC 2617 §3.5, RFC 7616 §3.9.1, draft-smith-sipping-auth-examples-01; the SHA-256 one for SIP is computed.
const VECTORS: [Vector; 6] = [
    Vector {
        who: ("Mufasa", "testrealm@host.com", "Circle Of Life"),
        what: HTTP,
        nonce: RFC_NONCE,
        cnonce: Some("0a4f113b"),
        algorithm: "",
        response: "6629fae49393a05397450978507c4ef1",
    },
    Vector {
        who: MUFASA,
        what: HTTP,
        nonce: RFC7616_NONCE,
        cnonce: Some(RFC7616_CNONCE),
        algorithm: "md5",
        response: "8ca523f5e9506fed4657c9700eebdbec",
    },
    Vector {
        who: MUFASA,
        what: HTTP,
        nonce: RFC7616_NONCE,
        cnonce: Some(RFC7616_CNONCE),
        algorithm: "SHA-256",
        response: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    },
    Vector {
        who: BOB,
        what: INVITE,
        nonce: RFC_NONCE,
        cnonce: None,
        algorithm: "MD5",
        response: "bf57e4e0d0bffc0fbaedce64d59add5e",
    },
    Vector {
        who: BOB,
        what: INVITE,
        nonce: RFC_NONCE,
        cnonce: Some("0a4f113b"),
        algorithm: "MD5",
        response: "89eb0059246c02b2f6ee02c7961d5ea3",
    },
    Vector {
        who: BOB,
        what: INVITE,
        nonce: RFC_NONCE,
        cnonce: Some("0a4f113b"),
        algorithm: "sha-256",
        response: "b3b5a6c69453abafaab9ae4dccdac90a076b6c80615d5f3498e7433b6e93bf4f",
    },
];

fn digest(vector: &Vector) -> Digest {
    Digest {
        username: Username::parse(vector.who.0).unwrap(),
        realm: Realm::parse(vector.who.1).unwrap(),
        method: Method::parse(vector.what.0).unwrap(),
        uri: Uri::parse(vector.what.1).unwrap(),
        nonce: Nonce::parse(vector.nonce).unwrap(),
        auth: vector.cnonce.map(|cnonce| Auth {
            nc: NonceCount::parse("00000001").unwrap(),
            cnonce: Nonce::parse(cnonce).unwrap(),
            body: None,
        }),
        algorithm: Algorithm::parse(vector.algorithm).unwrap(),
    }
}

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

#[test]
fn published_vectors_verify_and_only_with_their_password() {
    for vector in &VECTORS {
        let digest = digest(vector);
        let response = Response::parse(vector.response, digest.algorithm).unwrap();
        let (right, wrong) = (secret(vector.who.2), secret(&format!("{}x", vector.who.2)));
        assert!(digest.verify(&right, &response).is_some(), "{}", vector.response);
        assert_eq!(digest.answer(&right).into_digits(), vector.response);
        assert_eq!(digest.verify(&wrong, &response), None, "{}", vector.response);
    }
}

/// All of SIP's Bob: algorithm, qop, response, rspauth. MD5 and MD5-sess with `auth` are those of the draft; the others
/// were computed with another library.
const BOBS: [(&str, &str, &str, &str); 12] = [
    ("MD5", "auth", "89eb0059246c02b2f6ee02c7961d5ea3", "9175a7857f138ef9768651f475f1d73a"),
    ("MD5", "auth-int", "77226bb823dc077c1ad3537415667bae", "0a56d367385814b45c7b663438a5dac9"),
    ("MD5-sess", "auth", "e4e4ea61d186d07a92c9e1f6919902e9", "0702355500027529b96f51fb4dd888e2"),
    (
        "MD5-sess",
        "auth-int",
        "8527c9ab1b4eed3fd75491f811944e26",
        "aeea8c47a88fc4da437b92ab0191fa45",
    ),
    (
        "SHA-256",
        "auth",
        "b3b5a6c69453abafaab9ae4dccdac90a076b6c80615d5f3498e7433b6e93bf4f",
        "eac28e17b8d5d63e96e148e02f1b50afcf750aeecb3856ac20399028c0ee51e6",
    ),
    (
        "SHA-256",
        "auth-int",
        "554a9ffe79ce71c3cb6c9630deddd2787d8033f895e5cdef6a73c8e84ed4c979",
        "8831a5721f39e498a8678254fe42ffdc0796da56b392f2b8dc7ea6b4041ea0d6",
    ),
    (
        "SHA-256-sess",
        "auth",
        "5da59c9ca40954be9d5063a15a174066c8251be2c10cf47c144c366dc7daf792",
        "74979e1c4bee64a04db61c0de37556a1b2f48ebab1e730aef51db55ef9688034",
    ),
    (
        "SHA-256-sess",
        "auth-int",
        "0b4a1efc19e1b701ec5775b6b16dde0fc416102e34a6c5bd6f957b20b5d79170",
        "9a3976f4aa9fe1356e9f5f3896fdad7c29b1e427762f8b602d8648c503ef5189",
    ),
    (
        "SHA-512-256",
        "auth",
        "7f1a09de0f19af0a1eac2b28d33e3f2fb89cca1ad8fb01bba5e1883b288bac14",
        "975a12c1ffcd062063ecf7569221689a797a7fef76ce1b9d29bd6e57b90be6e8",
    ),
    (
        "SHA-512-256",
        "auth-int",
        "e9a7fbc1c80a10421c59a0c982f28d40e0ddc7b62ef3dc4faf68f179c6e05922",
        "98dc01c8a7e037c085813683b0bdcee3d04f97b6f6c37c27c93717b33adaa0ce",
    ),
    (
        "SHA-512-256-sess",
        "auth",
        "077d9677be83f41f162d1a4453dc163389919f81e5927391d972f477da767633",
        "bf9137540a89905ec6768fd824b2a43b86f8b3aad2c0c579727be1f8ea6bad65",
    ),
    (
        "SHA-512-256-sess",
        "auth-int",
        "0220683d8c9faccc1d05bd2ef0e7ccdff87eacd5f06fb6bfd9cd7d3acf66a00b",
        "7909181834ee7c7d214fcdb77874d6ec9aa52c26f917ca74e8b7d843dcf74d89",
    ),
];

#[test]
fn every_algorithm_and_quality_has_its_response_and_its_rspauth() {
    for (algorithm, qop, response, rspauth) in BOBS {
        let mut digest = digest(&VECTORS[4]);
        digest.algorithm = Algorithm::parse(algorithm).unwrap();
        let body = BodyHash::of(b"v=0\r\n", digest.algorithm);
        digest.auth.as_mut().unwrap().body = (qop == "auth-int").then_some(body);
        let response = Response::parse(response, digest.algorithm).unwrap();
        let right = digest.verify(&secret("zanzibar"), &response);
        let right = right.unwrap_or_else(|| panic!("{algorithm} {qop}"));
        let made = right.rspauth.map(Response::into_digits);
        assert_eq!(made.as_deref(), Some(rspauth), "{algorithm} {qop}");
        assert_eq!(digest.algorithm.as_str(), algorithm);
        assert_eq!(Algorithm::ALL[usize::from(digest.algorithm.number())].1, algorithm);
        assert_eq!(digest.auth.unwrap().qop().as_str(), qop);
    }
}

#[test]
fn the_hashes_of_a_password_are_those_that_were_published() {
    let hash = |algorithm, parts: &[&str]| Algorithm::parse(algorithm).unwrap().hash(parts);
    let bob = ["bob", "biloxi.com", "zanzibar"];
    for (algorithm, ha1) in [
        ("MD5", "12af60467a33e8518da5c68bbff12b11"),
        ("SHA-256", "e65db393e748c5228939a6b4b2879e9ea5625cd79fd5267868cb568d69f6b97e"),
        ("SHA-512-256", "a969680ab364e333ec5c93ff823d570a79841c8d40270655dd42f37b755dfc38"),
    ] {
        assert_eq!(*hash(algorithm, &bob), ha1);
    }
}

/// RFC 7616 §3.9.2 as erratum 4897 corrects it. No credential can have this username, so the parts are put together here.
#[test]
fn the_corrected_example_of_rfc_7616() {
    let algorithm = Algorithm::parse("SHA-512-256").unwrap();
    let nonce = "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK";
    let cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v";
    let who = ("J\u{e4}s\u{f8}n Doe", "api@example.org", "Secret, or not?");
    let userhash = algorithm.hash(&[who.0, who.1]);
    assert_eq!(*userhash, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
    let ha1 = ha1(algorithm, who, (nonce, cnonce));
    let ha2 = ha2(algorithm, "GET", "/doe.json", None);
    let found = response(algorithm, &ha1, nonce, Some(("00000001", cnonce, "auth")), &ha2);
    assert_eq!(*found, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
}

#[test]
fn the_raw_form_of_a_session_is_none() {
    // Kamailio hashes the bytes of the first hash, and not their digits (docs/adr/0039).
    let mut digest = digest(&VECTORS[4]);
    digest.algorithm = Algorithm::parse("MD5-sess").unwrap();
    let raw = Response::parse("f495077475f5cdf81861e33b1d22ae9d", digest.algorithm).unwrap();
    assert_eq!(digest.verify(&secret("zanzibar"), &raw), None);
}

#[test]
fn every_input_matters() {
    let vector = &VECTORS[4];
    let right = secret(vector.who.2);
    let response = Response::parse(vector.response, Algorithm::parse("").unwrap()).unwrap();
    let changes: [fn(&mut Digest); 10] = [
        |d| d.username = Username::parse("eve").unwrap(),
        |d| d.realm = Realm::parse("atlanta.com").unwrap(),
        |d| d.method = Method::parse("BYE").unwrap(),
        |d| d.uri = Uri::parse("sip:eve@biloxi.com").unwrap(),
        |d| d.nonce = Nonce::parse("other").unwrap(),
        |d| d.auth.as_mut().unwrap().nc = NonceCount::of(2),
        |d| d.auth.as_mut().unwrap().cnonce = Nonce::parse("0a4f113c").unwrap(),
        |d| d.auth.as_mut().unwrap().body = Some(BodyHash::of(b"", d.algorithm)),
        |d| d.auth = None,
        |d| d.algorithm = Algorithm::parse("MD5-sess").unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut digest = digest(vector);
        change(&mut digest);
        assert_eq!(digest.verify(&right, &response), None, "change {number}");
    }
}

#[test]
fn ten_thousand_wrong_responses_are_refused() {
    let digest = digest(&VECTORS[5]);
    let right = secret("zanzibar");
    for number in 0..10_000_u32 {
        let response = digest.algorithm.hash(&[&number.to_string()]);
        let response = Response::parse(&response, digest.algorithm).unwrap();
        assert_eq!(digest.verify(&right, &response), None);
    }
}

#[test]
fn shapes_are_checked() {
    for bad in ["SHA", "SHA-512", "MD5-session", "md5_sess", "sess", "-sess"] {
        assert!(Algorithm::parse(bad).is_err(), "{bad}");
    }
    for bad in ["auth,auth-int", "integrity", " auth"] {
        assert!(Qop::parse(bad).is_err(), "{bad}");
    }
    let algorithm = |name| Algorithm::parse(name).unwrap();
    let md5 = "0".repeat(32);
    assert!(Response::parse(&md5, algorithm("MD5")).is_ok());
    assert!(Response::parse(&md5.to_uppercase(), algorithm("MD5-SESS")).is_ok());
    assert!(Response::parse(&md5, algorithm("SHA-256")).is_err());
    assert!(Response::parse(&md5, algorithm("SHA-512-256")).is_err());
    assert!(Response::parse(&"g".repeat(32), algorithm("MD5")).is_err());
    for bad in ["", "1", "0000000g", "000000001", "+0000001"] {
        assert!(NonceCount::parse(bad).is_err(), "{bad:?}");
    }
    for (text, number) in [("00000001", 1), ("FFFFFFFF", u32::MAX), ("0000000a", 10)] {
        assert_eq!(NonceCount::parse(text).unwrap().number(), number);
        assert_eq!(NonceCount::of(number).as_str(), text.to_ascii_lowercase());
    }
    for bad in ["", "a\"b", "a\\b", "a\nb", "é"] {
        assert!(Nonce::parse(bad).is_err() && Uri::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn one_pair_of_quotes_is_taken_off_and_nothing_else() {
    for (quoted, plain) in [
        ("\"alice\"", "alice"),
        ("alice", "alice"),
        ("\"\"", ""),
        ("\"", "\""),
        ("", ""),
        ("\"alice", "\"alice"),
        ("alice\"", "alice\""),
        ("\"\"alice\"\"", "\"alice\""),
        (" \"alice\"", " \"alice\""),
        ("'alice'", "'alice'"),
    ] {
        assert_eq!(unquoted(quoted), plain, "{quoted}");
    }
}

/// Why `-sess` wants a nonce of the vault's own, which says what was offered.
#[test]
fn a_response_is_the_session_key_of_another_algorithm() {
    let ha1 = Algorithm::MD5.hash(&["bob", "biloxi.com", "zanzibar"]);
    let overheard =
        |ha2: &str| response(Algorithm::MD5, &ha1, "n", Some(("00000001", "c", "auth")), ha2);
    let (register, call) = (
        ha2(Algorithm::MD5, "REGISTER", "sip:biloxi.com", None),
        ha2(Algorithm::MD5, "INVITE", "sip:+1900@biloxi.com", None),
    );
    let seen = overheard(&register);
    // What the forger sends: he has no password.
    let cnonce = format!("00000001:c:auth:{}", *register);
    let auth = Some(("00000002", cnonce.as_str(), "auth"));
    let forged = response(Algorithm::MD5, &seen, "n", auth, &call);
    let session = self::ha1(
        Algorithm::parse("MD5-sess").unwrap(),
        ("bob", "biloxi.com", "zanzibar"),
        ("n", &cnonce),
    );
    assert_eq!(*session, *seen);
    assert_eq!(*response(Algorithm::MD5, &session, "n", auth, &call), *forged);
}

#[test]
fn a_nonce_that_ends_in_a_qop_is_told() {
    for (text, expected) in [
        ("n:00000001:c:auth", true),
        ("n:auth-int", true),
        (":auth", true),
        ("auth", false),
        ("n:author", false),
        ("n:auth:", false),
        ("n", false),
    ] {
        assert_eq!(Nonce::parse(text).unwrap().reads_as_qop(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_answered_verifies_with_the_same_password_alone(
        (algorithm, qop) in (0..Algorithm::ALL.len(), 0..3_usize),
        (username, realm) in ("[!#-9;-\\[\\]-~]{1,20}", "[!#-9;-\\[\\]-~]{1,20}"),
        (password, other) in ("[ !#-\\[\\]-~]{8,40}", "[ !#-\\[\\]-~]{8,40}"),
        (nonce, cnonce) in ("[!#-\\[\\]-~]{1,60}", "[!#-\\[\\]-~]{1,60}"),
        (nc, body) in (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200)),
    ) {
        let algorithm = Algorithm::ALL[algorithm].0;
        // A session has a cnonce.
        let qop = if algorithm.is_session() { qop.max(1) } else { qop };
        let auth = Auth {
            nc: NonceCount::of(nc),
            cnonce: Nonce::parse(&cnonce).unwrap(),
            body: (qop == 2).then(|| BodyHash::of(&body, algorithm)),
        };
        let digest = Digest {
            username: Username::parse(&username).unwrap(),
            realm: Realm::parse(&realm).unwrap(),
            method: Method::parse("REGISTER").unwrap(),
            uri: Uri::parse("sip:sip.test").unwrap(),
            nonce: Nonce::parse(&nonce).unwrap(),
            auth: (qop > 0).then_some(auth),
            algorithm,
        };
        let answer = digest.answer(&secret(&password));
        let right = digest.verify(&secret(&password), &answer);
        prop_assert_eq!(right.map(|right| right.rspauth.is_some()), Some(qop > 0));
        prop_assert!(password == other || digest.verify(&secret(&other), &answer).is_none());
    }
}
