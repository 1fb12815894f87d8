//! Ten thousand rotations beside phones that register all the time: with an overlap nobody is refused who has the old
//! password or the new one; without one the old password never comes back.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use credvault::grpc::proto::VersionState;
use futures_util::future::{join_all, try_join, try_join_all};
use jiff::SignedDuration;
use tokio::sync::Barrier;

use super::{overlapping, whole};
use crate::credentials::{check, create, rotate};
use crate::support::{Clients, TestVault};

const PHONES: usize = 20;
const OVERLAPPING: usize = 10_000;
const AT_ONCE: usize = 2_000;

/// A credential, and what is known of it.
struct Phone {
    user: String,
    name: String,
    /// The password that was given out last, and its version.
    last: Mutex<(String, i64)>,
    /// The highest version that any check has matched.
    matched: AtomicI64,
}

impl Phone {
    fn last(&self) -> (String, i64) {
        self.last.lock().unwrap().clone()
    }
}

async fn phones(acme: &Clients) -> Vec<Arc<Phone>> {
    let phone = async |number: usize| {
        let user = format!("user-{number}");
        let (new, issued) = acme.create(create(&user)).await.unwrap();
        let last = Mutex::new((issued.unwrap().password, 1));
        Arc::new(Phone { user, name: new.name, last, matched: AtomicI64::new(0) })
    };
    join_all((0..PHONES).map(phone)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_no_instant_of_ten_thousand_overlapping_rotations_is_a_good_password_refused() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let phones = phones(&acme).await;
    // No check spans two rounds, of one second each by the vault's clock.
    let rounds = OVERLAPPING / PHONES;
    let round = Arc::new(Barrier::new(PHONES + 1));
    let (checks, retiring) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let registering = phones.iter().map(|phone| {
        let (phone, acme) = (Arc::clone(phone), acme.clone());
        let (round, checks, retiring) =
            (Arc::clone(&round), Arc::clone(&checks), Arc::clone(&retiring));
        tokio::spawn(async move {
            for _ in 0..rounds {
                for _ in 0..2 {
                    let (password, version) = phone.last();
                    let answer = check(&acme, &phone.user, &password).await;
                    assert!(answer.valid, "{}: version {version} was refused", phone.name);
                    assert_eq!(answer.version, version);
                    let retires = answer.version_state() == VersionState::Retiring;
                    retiring.fetch_add(usize::from(retires), Ordering::Relaxed);
                    checks.fetch_add(1, Ordering::Relaxed);
                }
                round.wait().await;
            }
        })
    });
    let registering = try_join_all(registering.collect::<Vec<_>>());
    let rotating = async {
        for _ in 0..rounds {
            join_all(phones.iter().map(async |phone| {
                let request = overlapping(&phone.name, SignedDuration::from_secs(4));
                let issued = whole(&acme, request).await.unwrap().issued.unwrap();
                *phone.last.lock().unwrap() = (issued.password, issued.version);
            }))
            .await;
            vault.clock.advance(SignedDuration::from_secs(1));
            round.wait().await;
        }
        Ok(())
    };
    // The first phone that is refused ends it.
    try_join(rotating, registering).await.unwrap();
    let (checks, retiring) = (checks.load(Ordering::Relaxed), retiring.load(Ordering::Relaxed));
    println!(
        "{OVERLAPPING} rotations, {checks} checks beside them, {retiring} with the old password"
    );
    assert!(retiring > 0, "no check met a rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_the_new_password_has_matched_the_old_one_never_does() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let phones = phones(&acme).await;
    let done = Arc::new(AtomicBool::new(false));
    let refused = Arc::<AtomicUsize>::default();
    let registering = phones.iter().flat_map(|phone| [phone, phone]).map(|phone| {
        let (phone, acme, done) = (Arc::clone(phone), acme.clone(), Arc::clone(&done));
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            let mut known = phone.last();
            while !done.load(Ordering::Acquire) {
                let matched_before = phone.matched.load(Ordering::Acquire);
                let answer = check(&acme, &phone.user, &known.0).await;
                if answer.valid {
                    let version = answer.version;
                    assert_eq!(version, known.1);
                    assert!(version >= matched_before, "{version} after {matched_before}");
                    phone.matched.fetch_max(version, Ordering::AcqRel);
                } else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    known = phone.last();
                }
            }
        })
    });
    let registering: Vec<_> = registering.collect();
    for _ in 0..AT_ONCE / PHONES {
        join_all(phones.iter().map(async |phone| {
            let (_, issued) = acme.rotate(rotate(&phone.name)).await.unwrap();
            let version = issued.version;
            *phone.last.lock().unwrap() = (issued.password.clone(), version);
            let answer = check(&acme, &phone.user, &issued.password).await;
            assert_eq!(answer.version, version);
            phone.matched.fetch_max(version, Ordering::AcqRel);
        }))
        .await;
    }
    done.store(true, Ordering::Release);
    for each in join_all(registering).await {
        each.unwrap();
    }
    let refused = refused.load(Ordering::Relaxed);
    println!("{AT_ONCE} rotations; {refused} checks were told that their password is dead");
    assert!(refused > 0, "no check met a rotation");
}
