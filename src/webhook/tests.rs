//! Published vectors, and what must not verify.

use proptest::prelude::*;

use super::*;

const PAGE: &str = "mycompany.com/myapp.php?foo=1&bar=2";

fn token() -> SecretText {
    SecretText::new("12345".to_owned())
}

fn form(fields: &[(&str, &str)]) -> Content {
    Content::Form(fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

/// Twilio's documentation: a caller presses keys.
fn documented() -> Content {
    calling("+12349013030", &[])
}

/// twilio-python's tests.
fn python(more: &[(&str, &str)]) -> Content {
    calling("+14158675309", more)
}

fn calling(number: &str, more: &[(&str, &str)]) -> Content {
    let fields = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", number),
        ("Digits", "1234"),
        ("From", number),
        ("To", "+18005551212"),
    ];
    form(&[&fields, more].concat())
}

fn webhook(url: &str, content: Content) -> Webhook {
    Webhook::new(Url::parse(url).unwrap(), content)
}

fn verifies(url: &str, content: Content, signature: &str) -> bool {
    let webhook = webhook(url, content);
    let signature = Signature::parse(signature).unwrap();
    webhook.has_its_body() && webhook.is_signed_by(&token(), &signature)
}

fn sign(url: &str, content: Content) -> String {
    BASE64_STANDARD.encode(webhook(url, content).signature(&token(), [url, "", ""]))
}

#[test]
fn published_vectors_verify() {
    let several =
        [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234")];
    let several = [&several[..], &[("Digits", "1234")]].concat();
    // By names, not by names with their values: those would put ReasonConferenceEnded first.
    let conference = [("Reason", "Participant"), ("ReasonConferenceEnded", "test")];
    let (https, http) = (format!("https://{PAGE}"), format!("http://{PAGE}"));
    let with_port = |url: &str, port: &str| url.replace(".com/", &format!(".com:{port}/"));
    for (url, content, signature) in [
        (https.clone(), documented(), "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
        (https.clone(), python(&[]), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (https.clone(), form(&several), "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
        (with_port(&https, "443"), python(&[]), "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (with_port(&http, "80"), python(&[]), "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (with_port(&http, "1234"), python(&[]), "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (https.clone(), python(&conference), "vOEb5UThFn24KEfnOFLQY2AE5FY="),
    ] {
        assert_eq!(sign(&url, content.clone()), signature, "{url}");
        assert!(verifies(&url, content, signature), "{url}");
    }
    // What sorting names with their values would give.
    assert!(!verifies(&https, python(&conference), "95+Bu0JVPi0r/SsESZCVf0dWAjw="));
}

#[test]
fn the_port_may_be_there_or_not() {
    let (https, http) = (format!("https://{PAGE}"), format!("http://{PAGE}"));
    assert!(verifies(&https, python(&[]), "kvajT1Ptam85bY51eRf/AJRuM3w="), "signed with :443");
    assert!(verifies(&http, python(&[]), "0ZXoZLH/DfblKGATFgpif+LLRf4="), "signed with :80");
    let explicit = https.replace(".com/", ".com:443/");
    assert!(verifies(&explicit, python(&[]), "RSOYDt4T1cUTdK1PDd93/VVr8B8="), "signed without");
    assert!(!verifies(&http, python(&[]), "kvajT1Ptam85bY51eRf/AJRuM3w="), "another scheme");
    for (url, otherwise) in [
        ("https://h", "https://h:443"),
        ("wss://h/x", "wss://h:443/x"),
        ("ws://h?x", "ws://h:80?x"),
        ("HTTPS://h/", "HTTPS://h:443/"),
        ("https://h:8443/a:1", "https://h/a:1"),
        ("https://user:secret@h/", "https://user:secret@h:443/"),
        ("https://user:secret@h:1/", "https://user:secret@h/"),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]:443/"),
        ("https://[2001:db8::1]:5/x?y@z:1", "https://[2001:db8::1]/x?y@z:1"),
        ("https://h/?a=b://c:1", "https://h:443/?a=b://c:1"),
    ] {
        assert_eq!(spellings(url)[1].unwrap().concat(), otherwise);
        assert!(verifies(url, documented(), &sign(otherwise, documented())), "{url}");
    }
}

#[test]
fn a_body_that_is_no_form_is_the_one_that_the_url_names() {
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let url = format!("https://{PAGE}&bodySHA256={hash}");
    let body = |text: &str| Content::Body(text.as_bytes().to_vec());
    let sent = || body("{\"property\": \"value\", \"boolean\": true}");
    let signature = "a9nBmqA0ju/hNViExpshrM61xv4=";
    assert!(verifies(&url, sent(), signature));
    assert!(!verifies(&url, body("{\"property\": \"other\"}"), signature));
    assert!(!verifies(&url, body(""), signature));
    // Without one in the URL nothing binds a body to it, not even an empty one.
    let bare = format!("https://{PAGE}");
    for other in [&bare, &format!("{bare}#bodySHA256={hash}"), &format!("{bare}&bodySHA256=")] {
        assert!(!verifies(other, sent(), &sign(other, Content::Nothing)), "{other}");
        assert!(!verifies(other, body(""), &sign(other, Content::Nothing)), "{other}");
        assert!(verifies(other, Content::Nothing, &sign(other, Content::Nothing)), "{other}");
    }
    // The first counts, as in Twilio's libraries.
    let two = format!("{url}&bodySHA256={}", "0".repeat(64));
    assert!(verifies(&two, sent(), &sign(&two, Content::Nothing)));
}

#[test]
fn every_part_matters() {
    let url = format!("https://{PAGE}");
    let signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    for (changed, content) in [
        (url.replace("bar=2", "bar=3"), python(&[])),
        (url.replace("bar=2", "bar=%32"), python(&[])),
        (url.replace("mycompany", "Mycompany"), python(&[])),
        (format!("{url}#"), python(&[])),
        (url.clone(), Content::Nothing),
        (url.clone(), python(&[("Extra", "")])),
        (url.clone(), python(&[("Digits", "12345")])),
        (url.clone(), documented()),
    ] {
        assert!(!verifies(&changed, content, signature), "{changed}");
    }
    let webhook = webhook(&url, python(&[]));
    let made = Signature::parse(signature).unwrap();
    assert!(!webhook.is_signed_by(&SecretText::new("12346".to_owned()), &made));
}

#[test]
fn signatures_have_one_spelling_and_urls_one_shape() {
    let good = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    assert!(Signature::parse(good).is_some());
    for bad in [
        "",
        "RSOYDt4T1cUTdK1PDd93/VVr8B8",
        "RSOYDt4T1cUTdK1PDd93/VVr8B9=",
        "RSOYDt4T1cUTdK1PDd93_VVr8B8=",
        " RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=\n",
        "AAAA",
        &"A".repeat(28),
        &"A".repeat(100_000),
    ] {
        assert!(Signature::parse(bad).is_none(), "{bad:?}");
    }
    for good in ["https://h", "http://h/", "wss://h:1/x", "HTTPS://H?é", "https://u:p@[::1]:2/#x"]
    {
        assert!(Url::parse(good).is_ok(), "{good}");
    }
    let long = format!("https://h/{}", "x".repeat(16_384));
    for bad in
        ["", "h", "/x", "ftp://h", "https://", "https:///x", "https://h/ x", "https://h\n", &long]
    {
        assert!(Url::parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn order_and_repetition_of_fields_change_nothing(
        fields in proptest::collection::vec(("[a-cA-C]{0,2}", "[a-c]{0,2}"), 0..8),
        seed in any::<u64>(),
    ) {
        let url = "https://h/x";
        let mut other = fields.clone();
        if let Some(again) = fields.first() {
            other.push(again.clone());
        }
        let count = u64::try_from(other.len()).unwrap().max(1);
        other.rotate_left(usize::try_from(seed % count).unwrap());
        let signature = sign(url, Content::Form(fields));
        prop_assert!(verifies(url, Content::Form(other), &signature));
    }

    #[test]
    fn no_input_makes_it_panic(rest in "[^\\s\\p{C}]{1,40}", signature in ".{0,40}") {
        if let Ok(url) = Url::parse(&format!("https://{rest}")) {
            let body = Content::Body(rest.as_bytes().to_vec());
            let webhook = Webhook::new(url, body);
            let made = Signature::parse(&signature).unwrap_or(Signature([0; 20]));
            prop_assert!(!(webhook.has_its_body() && webhook.is_signed_by(&token(), &made)));
        }
    }
}
