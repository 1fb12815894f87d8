//! Counting phone numbers: over pages, up to a limit, and nowhere but where the operator said.

use std::time::Duration;

use credvault::grpc::proto::{CreateProviderRequest, Provider, VerificationStatus};

use super::{LIST, NUMBERS, TRUNK, checks, on_trunk, says, status, trunk, verification};
use crate::providers::{SID, TOKEN, create_provider};
use crate::support::TestVault;
use crate::support::fakes::twilio::FakeTwilio;

/// What the check says of the numbers, and the number in the provider.
fn told(provider: &Provider) -> (String, Option<i64>) {
    let lines = checks(verification(provider));
    let line = lines.iter().find_map(|line| line.strip_prefix("phone_numbers "));
    (line.unwrap().to_owned(), provider.phone_number_count)
}

/// A new provider with or without the trunk, as it would be.
async fn looked_at(vault: &TestVault, by_trunk: bool) -> (Provider, u64) {
    let new = if by_trunk { on_trunk("") } else { create_provider("") };
    let acme = vault.acme().await;
    let pages = vault.twilio.calls_to(NUMBERS);
    let request = CreateProviderRequest { validate_only: true, ..new };
    let provider = acme.create_provider(request).await.unwrap();
    (provider, vault.twilio.calls_to(NUMBERS) - pages)
}

async fn with_numbers(on_the_trunk: usize, others: usize) -> TestVault {
    let vault = TestVault::start().await;
    vault.twilio.add_account(SID, TOKEN);
    vault.twilio.set_trunk(SID, trunk());
    vault.twilio.add_numbers(SID, others, None);
    vault.twilio.add_numbers(SID, on_the_trunk, Some(TRUNK));
    vault
}

#[tokio::test]
async fn numbers_are_counted_over_all_pages_on_the_trunk_or_in_the_account() {
    for (on_the_trunk, others, pages) in
        [(0, 0, 1), (0, 1, 1), (999, 1, 1), (1001, 0, 2), (1001, 300, 2), (2, 1400, 2)]
    {
        let vault = with_numbers(on_the_trunk, others).await;
        let (provider, asked) = looked_at(&vault, false).await;
        let all = on_the_trunk + others;
        let noun = if all == 1 { "phone number" } else { "phone numbers" };
        let expected = format!("PASSED: the account has {all} {noun}");
        assert_eq!(told(&provider), (expected, Some(i64::try_from(all).unwrap())));
        assert_eq!((asked, status(&provider)), (pages, VerificationStatus::Verified));

        let (provider, asked) = looked_at(&vault, true).await;
        let (line, count) = told(&provider);
        if on_the_trunk == 0 {
            assert!(line.starts_with("FAILED: no phone number"), "{line}");
        } else {
            assert_eq!(
                line,
                format!("PASSED: {on_the_trunk} phone numbers are assigned to the trunk")
            );
        }
        assert_eq!((asked, count), (pages, Some(i64::try_from(on_the_trunk).unwrap())));
    }
}

#[tokio::test]
async fn of_more_than_two_mebibytes_the_number_is_a_least_one() {
    // Many numbers, and numbers that are long: each row of these has 100 kB.
    for (numbers, padding, least, most) in [(5_000, 0, 1_000, 2_500), (60, 100_000, 15, 21)] {
        let vault = with_numbers(numbers, 0).await;
        vault.twilio.pad_numbers(SID, padding);
        for by_trunk in [false, true] {
            let (provider, pages) = looked_at(&vault, by_trunk).await;
            let (line, count) = told(&provider);
            let count = count.unwrap();
            assert!((least..most).contains(&count), "{count} of {numbers}");
            let expected = if by_trunk {
                format!("PASSED: at least {count} phone numbers are assigned to the trunk")
            } else {
                format!("PASSED: the account has at least {count} phone numbers")
            };
            assert_eq!((line, status(&provider)), (expected, VerificationStatus::Verified));
            assert!(pages <= 3, "{pages} pages");
        }
    }
}

/// A page of two numbers, with this next page.
fn page(next: &str, trunk: &str) -> String {
    let number = format!("{{\"account_sid\": \"{SID}\", \"trunk_sid\": \"{trunk}\"}}");
    format!("{{\"incoming_phone_numbers\": [{number}, {number}], \"next_page_uri\": \"{next}\"}}")
}

#[tokio::test]
async fn pages_without_end_are_read_twenty_times() {
    let vault = with_numbers(0, 0).await;
    let next = format!("{NUMBERS}.json?PageSize=1000&Page=1");
    vault.twilio.set_path_fault(NUMBERS, Some(says(200, &page(&next, TRUNK))));
    let (provider, pages) = looked_at(&vault, true).await;
    let at_least = "PASSED: at least 40 phone numbers are assigned to the trunk".to_owned();
    assert_eq!((told(&provider), pages), ((at_least, Some(40)), 20));
    let requests = vault.twilio.requests();
    let asked: Vec<_> = requests.iter().filter(|it| it.contains(NUMBERS)).collect();
    assert_eq!(asked[0], &format!("GET {NUMBERS}.json?PageSize=1000"));
    assert!(asked.iter().skip(1).all(|it| **it == format!("GET {next}")), "{asked:?}");

    vault.twilio.set_path_fault(NUMBERS, Some(says(200, &page(&next, LIST))));
    let (provider, pages) = looked_at(&vault, true).await;
    let none = "UNAVAILABLE: the account has too many phone numbers to read all of them; none of the first 40 is \
                assigned to the trunk";
    assert_eq!((told(&provider), pages), ((none.to_owned(), None), 20));
    assert_eq!(status(&provider), VerificationStatus::Warning);
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let vault = with_numbers(0, 0).await;
    let elsewhere = FakeTwilio::start().await;
    let (there, here) = (elsewhere.url(), vault.twilio.url());
    let authority = there.strip_prefix("http:").unwrap();
    let userinfo = authority.strip_prefix("//").unwrap();
    let other = NUMBERS.replace(SID, "ACffffffffffffffffffffffffffffffff");
    for next in [
        format!("{there}{NUMBERS}.json?Page=1"),
        format!("{here}{NUMBERS}.json?Page=1"),
        format!("{authority}{NUMBERS}.json?Page=1"),
        format!("@{userinfo}{NUMBERS}.json?Page=1"),
        format!(":80@{userinfo}{NUMBERS}.json?Page=1"),
        format!("{other}.json?Page=1"),
        format!("/x/..{NUMBERS}.json?Page=1"),
        format!("{NUMBERS}.json/?Page=1"),
        format!("{NUMBERS}.json"),
        "/2010-04-01/Accounts.json?Page=1".to_owned(),
        "?Page=1".to_owned(),
        String::new(),
    ] {
        vault.twilio.set_path_fault(NUMBERS, Some(says(200, &page(&next, TRUNK))));
        let calls = vault.twilio.calls();
        let (provider, pages) = looked_at(&vault, false).await;
        let nonsense = "UNAVAILABLE: Twilio could not be asked (its answer makes no sense): whoever runs the vault has to look at its log and \
             its network";
        assert_eq!((told(&provider), pages), ((nonsense.to_owned(), None), 1), "{next}");
        assert_eq!(vault.twilio.calls(), calls + 2, "the account and one page: {next}");
    }
    let nobody = tokio::time::timeout(Duration::ZERO, elsewhere.called(1)).await;
    assert!(nobody.is_err());
    assert_eq!(elsewhere.connections(), 0);
}
