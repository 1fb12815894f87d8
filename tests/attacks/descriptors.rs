//! No file descriptors left: the vault never gets there by its connections, and if something else takes them it waits.

use std::time::{Duration, Instant};

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::Row;
use crate::frames::Connection;
use crate::honest::Honest;
use crate::target::{Target, Wants, connect, pass};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_limit_of_open_files_makes_few_places_and_no_trouble() {
    let target = Target::ours_with_open_files(128);
    let mut open = 0;
    let row = Row::of(&target, async {
        let mut held = Vec::new();
        for number in 0..1_000 {
            // Two addresses: those without a connection have the last places.
            let source = format!("127.0.1.{}", number % 2 + 1);
            held.push(Connection::begin(&source, target.address).await);
        }
        pass(Duration::from_secs(2)).await;
        open = held.iter().flatten().filter(|connection| connection.is_open()).count();
    })
    .await;
    row.print("128 open files", "vault", &format!("{open} of 1,000 connections"));
    assert!((16..=64).contains(&open), "{open} connections of half the files");
    let log = target.log();
    assert!(log.contains("fewer connections than configured"), "{log}");
    assert!(!log.contains("accept a connection"), "it ran out: {log}");
    row.is_unharmed();
}

/// What a server does without descriptors.
#[derive(Debug)]
struct Exhausted {
    /// Processor time, in percent of a core.
    cpu: f64,
    /// How much of the time its busiest thread ran, or would have.
    wants: f64,
    /// Whether a connection that was there is served.
    goes_on: bool,
    /// How long after there are descriptors again somebody new is served.
    back: Duration,
}

/// Takes all descriptors but a few, and what happens then.
async fn exhaust(target: &Target) -> Exhausted {
    let honest = Honest::start(target);
    pass(Duration::from_secs(1)).await;
    let before = honest.stop().await;
    assert_eq!(before.errors, Vec::<String>::new());
    let kept = target.reach.channel_from("127.0.0.5");
    let check = async |channel| {
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        answer.map(drop)
    };
    check(kept.clone()).await.unwrap();

    target.limit_open_files(Some(4));
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(connect("127.0.1.1", target.address).await.unwrap());
    }
    pass(Duration::from_millis(500)).await;
    let (cpu, wants) = (target.cpu(), Wants::now(target));
    pass(Duration::from_secs(3)).await;
    let (cpu, wants) = (cpu.since(target), wants.since(target));
    let goes_on = tokio::time::timeout(Duration::from_secs(2), check(kept)).await;
    let goes_on = matches!(goes_on, Ok(Ok(())));

    target.limit_open_files(None);
    let released = Instant::now();
    drop(held);
    check(target.reach.channel_from("127.0.0.6")).await.unwrap();
    Exhausted { cpu, wants, goes_on, back: released.elapsed() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_it_waits_and_comes_back() {
    let ours = Target::ours();
    let found = exhaust(&ours).await;
    println!("\nno descriptors, vault: {found:?}");
    assert!(found.cpu <= 10.0, "it spins: {found:?}");
    assert!(found.goes_on, "a connection that was there is not served");
    assert!(found.back < Duration::from_secs(1), "back too late: {found:?}");
    assert_eq!(ours.log().matches("accept a connection").count(), 1, "said once: {}", ours.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_server_spins_without_descriptors() {
    let stock = Target::stock();
    let found = exhaust(&stock).await;
    println!("\nno descriptors, stock: {found:?}");
    assert!(found.wants >= 50.0, "it does not spin any more: {found:?}");
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_spinning_accept_is_caught() {
    let test = "descriptors::without_descriptors_it_waits_and_comes_back";
    let said = crate::support::process::caught(test, "spinning-accept");
    assert!(said.contains("it spins"), "{said}");
}
