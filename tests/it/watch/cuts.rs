//! Clients that are cut off again and again, beside writers that never stop: each ends with exactly what there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use credvault::access::Role;
use credvault::grpc::proto::Credential;
use futures_util::future::join_all;

use super::{ACME, Watch, differing, listed, named};
use crate::credentials::{delete, rotate, update};
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, channel};

const WRITERS: usize = 4;
const CHANGES_OF_EACH: usize = 1_000;
const WATCHERS: usize = 4;
const SEED: u64 = 0x0036_c075;

/// A change of any kind, of a credential that all writers fight for.
async fn change(acme: &Clients, rng: &mut Rng) {
    let id = format!("desk-{:03}", rng.below(250));
    let name = format!("{ACME}/credentials/{id}");
    // What is not there, or is there already, is refused. That changes nothing, and is to be told to nobody.
    match rng.below(8) {
        0 | 1 => drop(acme.create(named(&id)).await),
        2 => drop(acme.delete(delete(&name)).await),
        3 | 4 => drop(acme.rotate(rotate(&name)).await),
        _ => {
            let description = Some(format!("{:x}", rng.draw()));
            let (enabled, described) = (Some(rng.below(2) == 0), description);
            let to = Credential { enabled, description: described, ..Default::default() };
            drop(acme.update(update(&name, to, &["enabled", "description"])).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_at_random_and_goes_on_ends_with_what_there_is() {
    println!("seed {SEED:#x}");
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for number in 0..200 {
        acme.create(named(&format!("desk-{number:03}"))).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let (cuts, told) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let token = vault.token("acme", &[Role::Reader]).await;
    let address = vault.address;
    let watchers = (0..WATCHERS).map(|number| {
        let mut rng = Rng::new(SEED + 100 + u64::try_from(number).unwrap());
        let (done, cuts, told) = (Arc::clone(&done), Arc::clone(&cuts), Arc::clone(&told));
        let token = token.clone();
        tokio::spawn(async move {
            let (mut at, mut known) = (String::new(), std::collections::BTreeMap::new());
            loop {
                // Before it begins: what it then is caught up with is all.
                let is_last = done.load(Ordering::Acquire);
                let clients = Clients::new(&channel(address), &token);
                let mut watch = Watch::resume(&clients, ACME, &at, known).await.unwrap();
                // Some cuts come in the snapshot, some before anything was told.
                for _ in 0..rng.below(60) {
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    watch.next().await.unwrap();
                    told.fetch_add(1, Ordering::Relaxed);
                }
                if is_last {
                    watch.until_caught_up().await;
                    return watch.known;
                }
                (at, known) = (watch.token, watch.known);
                cuts.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let watchers: Vec<_> = watchers.collect();
    let writers = (0..WRITERS).map(|number| {
        let (acme, mut rng) = (acme.clone(), Rng::new(SEED + u64::try_from(number).unwrap()));
        tokio::spawn(async move {
            for _ in 0..CHANGES_OF_EACH {
                change(&acme, &mut rng).await;
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::Release);
    // Those who wait for something are told of this one.
    acme.create(named("last")).await.unwrap();
    let all = listed(&acme).await;
    for known in join_all(watchers).await {
        let known = known.unwrap();
        let differing = differing(&known, &all);
        assert!(differing.is_empty(), "it knows otherwise: {differing:?}");
    }
    let (cuts, told) = (cuts.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
    let tried = WRITERS * CHANGES_OF_EACH;
    println!("{tried} changes tried, {WATCHERS} watchers, {told} answers, {cuts} cuts");
    assert!(cuts > WATCHERS, "{cuts}");
}
