//! Clients that do not read: they hold up themselves, and nobody else.

use credvault::access::Role;
use futures_util::future::join_all;

use super::{ACME, Watch, differing, fill, listed, named, small_window};
use crate::credentials::{delete, rotate};
use crate::support::{Clients, TestVault};

const COMMITS: usize = 2_000;
const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_no_change_and_no_other_watch() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let names = fill(&acme).await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let slow = Clients::new(&small_window(&vault), &token);
    // One that has read nothing, and one that stops in the middle of the changes.
    let mut unread = Watch::begin(&slow).await;
    let mut stops = Watch::begin(&Clients::new(&small_window(&vault), &token)).await;
    stops.until_caught_up().await;
    let mut reads = Watch::begin(&Clients::new(&small_window(&vault), &token)).await;

    let writers = names.chunks(names.len().div_ceil(WRITERS)).map(|names| {
        let (acme, names) = (acme.clone(), names.to_vec());
        tokio::spawn(async move {
            for number in 0..COMMITS / WRITERS {
                acme.rotate(rotate(&names[number % names.len()])).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let all = listed(&acme).await;
    // All of them know it once they have read.
    for watch in [&mut reads, &mut unread, &mut stops] {
        while watch.known != all {
            watch.next().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_changes_while_the_snapshot_is_told_is_not_missed() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let names = fill(&acme).await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let mut watch = Watch::begin(&Clients::new(&small_window(&vault), &token)).await;
    // The first page is read by now, the last one cannot be.
    let first = watch.changed().await;
    assert_eq!(first.name, names[0]);
    acme.delete(delete(&names[0])).await.unwrap();
    let (rotated, _) = acme.rotate(rotate(&names[1])).await.unwrap();
    let (before, _) = acme.create(named("ann")).await.unwrap();
    acme.delete(delete(names.last().unwrap())).await.unwrap();
    watch.until_caught_up().await;
    // The first change after all of them comes after all of them.
    let (last, _) = acme.create(named("zoe")).await.unwrap();
    while !watch.known.contains_key(&last.name) {
        watch.next().await.unwrap();
    }
    let all = listed(&acme).await;
    let none: [&str; 0] = [];
    assert_eq!(differing(&watch.known, &all), none, "was not told");
    assert!([&rotated, &before].iter().all(|it| watch.known.get(&it.name) == Some(it)));

    // Cut in the middle of the snapshot it goes on there.
    let mut watch = Watch::begin(&Clients::new(&small_window(&vault), &token)).await;
    for _ in 0..250 {
        watch.next().await.unwrap();
    }
    let (token_of_cut, known) = (watch.token, watch.known);
    drop(watch.answers);
    let mut watch = Watch::resume(&acme, ACME, &token_of_cut, known).await.unwrap();
    let first = watch.changed().await;
    assert!(first.name > names[150], "it begins anew at {}", first.name);
    watch.until_caught_up().await;
    assert_eq!(differing(&watch.known, &all), none);
}
