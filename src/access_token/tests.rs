//! What Twilio reads in a token, and what a policy allows.

use super::*;

const KEY: &str = "SKxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn hex(prefix: &str) -> String {
    format!("{prefix}{}", "0a".repeat(16))
}

fn grants() -> Grants {
    let sid = |prefix: &str| Sid::parse(prefix, &hex(prefix)).unwrap();
    Grants {
        identity: Identity::parse("alice").unwrap(),
        voice: Some(Voice {
            incoming: Some(Incoming { allow: true }),
            outgoing: Some(Outgoing {
                application_sid: sid("AP"),
                params: [("queue".to_owned(), "7".to_owned())].into(),
            }),
            push_credential_sid: Some(sid("CR")),
        }),
        video: Some(Video::default()),
        chat: Some(Service {
            service_sid: sid("IS"),
            endpoint_id: None,
            deployment_role_sid: Some(sid("RL")),
            push_credential_sid: None,
        }),
        data_sync: None,
    }
}

#[test]
fn the_published_example_has_its_signature() {
    let header = r#"{"typ":"JWT","alg":"HS256","cty":"twilio-fpa;v=1"}"#;
    let payload = format!(
        r#"{{"jti":"{KEY}-1450471147","iss":"{KEY}","sub":"ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","nbf":1450471147,"exp":1450474747,"grants":{{"identity":"user@example.com","ip_messaging":{{"service_sid":"ISxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","endpoint_id":"HipFlowSlackDockRC:user@example.com:someiosdevice"}}}}}}"#
    );
    let token = signed(header, &payload, &SecretText::new("secret".to_owned()));
    let (_, signature) = token.expose().rsplit_once('.').unwrap();
    assert_eq!(signature, "IHx8KeH1acIfwnd8EIin3QBGPbfnF-yVnSFp5NpQJi0");
}

#[test]
fn a_token_says_what_twilio_reads() {
    let (account, key) =
        (AccountSid::parse(&hex("AC")).unwrap(), ApiKeySid::parse(&hex("SK")).unwrap());
    let signer = Signer { account: &account, key: &key, region: Region::Ie1 };
    let now = Timestamp::from_second(1_450_471_147).unwrap();
    let secret = SecretText::new("secret".to_owned());
    let minted = mint(signer, &secret, &grants(), (now, Lifetime::USUAL), [0xab; 8]);
    let parts: Vec<_> = minted.token.expose().split('.').collect();
    let read =
        |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(read(parts[0]), r#"{"typ":"JWT","alg":"HS256","cty":"twilio-fpa;v=1","twr":"ie1"}"#);
    let (ap, cr, is, rl) = (hex("AP"), hex("CR"), hex("IS"), hex("RL"));
    let expected = format!(
        r#"{{"jti":"{0}-1450471147-abababababababab","iss":"{0}","sub":"{1}","nbf":1450471147,"exp":1450474747,"grants":{{"identity":"alice","voice":{{"incoming":{{"allow":true}},"outgoing":{{"application_sid":"{ap}","params":{{"queue":"7"}}}},"push_credential_sid":"{cr}"}},"video":{{}},"chat":{{"service_sid":"{is}","deployment_role_sid":"{rl}"}}}}}}"#,
        hex("SK"),
        hex("AC"),
    );
    assert_eq!(read(parts[1]), expected);
    assert_eq!(
        (minted.jti, minted.expire_time.as_second()),
        (format!("{}-1450471147-abababababababab", hex("SK")), 1_450_474_747)
    );
    let us1 = mint(
        Signer { region: Region::Us1, ..signer },
        &secret,
        &grants(),
        (now, Lifetime::USUAL),
        [0; 8],
    );
    let reach = format!("voice incoming, voice outgoing {ap}, video, chat {is}");
    assert_eq!(grants().reach(), reach);
    assert!(!read(us1.token.expose().split('.').next().unwrap()).contains("twr"));
}

#[test]
fn a_policy_allows_what_it_names_and_nothing_by_itself() {
    let hour = |hours| Lifetime::parse(SignedDuration::from_hours(hours)).unwrap();
    let minute = Lifetime::parse(SignedDuration::from_mins(1)).unwrap();
    let asked: Vec<_> = grants().named().collect();
    assert_eq!(asked, [Grant::VoiceIncoming, Grant::VoiceOutgoing, Grant::Video, Grant::Chat]);
    let nothing = AccessTokenPolicy::default();
    assert_eq!(nothing.judge(&grants(), None), Err(Excess::Grant(Grant::VoiceIncoming)));
    let policy = AccessTokenPolicy::new(&asked, hour(2));
    for (lifetime, expected) in [
        (None, Ok(hour(1))),
        (Some(hour(2)), Ok(hour(2))),
        (Some(hour(3)), Err(Excess::Lifetime(hour(2)))),
    ] {
        assert_eq!(policy.judge(&grants(), lifetime), expected);
    }
    assert_eq!(AccessTokenPolicy::new(&asked, minute).judge(&grants(), None), Ok(minute));
    for without in &asked {
        let others: Vec<_> = asked.iter().copied().filter(|grant| grant != without).collect();
        let judged = AccessTokenPolicy::new(&others, hour(2)).judge(&grants(), None);
        assert_eq!(judged, Err(Excess::Grant(*without)));
    }
    let (bits, seconds) = policy.to_stored();
    assert_eq!(AccessTokenPolicy::from_stored(bits, seconds), Some(policy));
    assert_eq!(policy.grants().collect::<Vec<_>>(), asked);
    assert_eq!(
        (AccessTokenPolicy::from_stored(32, 60), AccessTokenPolicy::from_stored(1, 0)),
        (None, None)
    );
}

#[test]
fn shapes_are_checked() {
    for (seconds, nanos, good) in [
        (1, 0, true),
        (86_400, 0, true),
        (0, 0, false),
        (86_401, 0, false),
        (-1, 0, false),
        (1, 1, false),
    ] {
        assert_eq!(Lifetime::parse(SignedDuration::new(seconds, nanos)).is_ok(), good);
    }
    assert!(Sid::parse("AP", &hex("CR")).is_err() && Sid::parse("IS", "IS").is_err());
    assert!(Identity::parse("").is_err() && Identity::parse("a\n").is_err());
}
