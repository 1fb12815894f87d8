//! Two workers over one store, of which one is stopped again and again: what one leaves, another takes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use credvault::grpc::proto::{GetCredentialRequest, ListRotationsRequest, Rotation, RotationState};
use futures_util::future::join_all;
use jiff::SignedDuration;

use super::{Carriers, adoption, create, resume, retried};
use crate::carriers::At;
use crate::credentials::verifies;
use crate::rotations::whole;
use crate::support::random::Rng;
use crate::support::{Clients, TestVault, outcome};

/// How many credentials are rotated.
const CREDENTIALS: u32 = 24;

/// How often a worker is stopped in each round.
const STOPS: usize = 150;

/// How often each of them is.
const ROUNDS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rotation_is_done_twice_or_forgotten_though_workers_are_stopped() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let carriers = Carriers::of(&vault);
    let mut credentials = Vec::new();
    for at in At::ALL {
        at.add_account(&vault);
        acme.providers.clone().create_provider(at.create(at.id())).await.unwrap();
        for number in 0..CREDENTIALS / 3 {
            let username = format!("{}-{number}", at.id());
            let there = carriers.add(at, &username, number + 1);
            let made = create(&acme, adoption("acme", at, &username, there)).await.unwrap();
            credentials.push((at, username, made.name));
        }
    }
    // The server has a worker already. This one is stopped at moments that chance chooses.
    let mut rng = Rng::new(5);
    let spawn = || {
        let vault = Arc::clone(&vault.vault);
        tokio::spawn(async move { vault.run_carrier_work().await })
    };
    let before: BTreeMap<_, _> = At::ALL.map(|at| (at.id(), carriers.changes(at))).into();
    let (mut stopped, mut taken_on) = (0, 0);
    for round in 1..=ROUNDS {
        let calls: Vec<_> = credentials
            .iter()
            .zip(round * 1000..)
            .map(|((_, _, name), number)| retried(name, number))
            .collect();
        let mut all = Box::pin(join_all(calls.iter().map(|request| whole(&acme, request.clone()))));
        let mut worker = spawn();
        let mut left = STOPS;
        let answers = loop {
            let turns = if left > 0 { 1 + rng.below(200) } else { 4_000 };
            tokio::select! {
                answers = &mut all => break answers,
                () = turns_of(turns) => {}
            }
            if left > 0 {
                worker.abort();
                (left, stopped) = (left - 1, stopped + 1);
                worker = spawn();
            } else {
                // What was left under way is taken on when its time is over. No call that goes on takes so long, nor does a
                // carrier whose caller has gone.
                while vault.vault.carrier_work_under_way() > 0 {
                    tokio::task::yield_now().await;
                }
                for at in At::ALL {
                    carriers.idle(at).await;
                }
                vault.clock.advance(SignedDuration::from_secs(31));
            }
        };
        worker.abort();
        let refused: Vec<_> = answers.iter().filter(|it| it.is_err()).map(outcome).collect();
        assert_eq!(refused, Vec::<String>::new());
        for (index, (at, username, name)) in credentials.iter().enumerate() {
            let mut looks = 0;
            loop {
                let rotation = latest(&acme, name).await;
                if rotation.end_time.is_some() {
                    taken_on +=
                        rotation.steps.iter().filter(|it| it.reason == "INTERRUPTED").count();
                    assert_eq!(rotation.state(), RotationState::Succeeded, "{rotation:?}");
                    break;
                }
                looks += 1;
                assert!(looks < 100, "{name} is forgotten: {rotation:?}");
                vault.clock.advance(SignedDuration::from_secs(31));
                resume(&acme, &rotation.name).await.ok();
            }
            let answer = whole(&acme, calls[index].clone()).await;
            let answer = answers[index]
                .as_ref()
                .ok()
                .filter(|it| it.issued.is_some())
                .cloned()
                .or(answer.ok());
            let password = answer.unwrap().issued.unwrap().password;
            assert!(carriers.accepts(*at, username, &password), "{username}");
            assert!(verifies(&acme, username, &password).await, "{username}");
            let request = GetCredentialRequest { name: name.clone() };
            let answer = acme.credentials.clone().get_credential(request).await.unwrap();
            let credential = answer.into_inner().credential.unwrap();
            assert_eq!(credential.version, i64::try_from(round).unwrap() + 1, "{name}");
        }
    }
    let made: u64 = At::ALL.map(|at| carriers.changes(at) - before[at.id()]).iter().sum();
    let rotations = credentials.len() * usize::try_from(ROUNDS).unwrap();
    println!(
        "  {rotations} rotations, {stopped} workers stopped, {taken_on} calls of theirs taken on again, {made} calls made"
    );
    let made = usize::try_from(made).unwrap();
    assert!((rotations..=rotations + taken_on).contains(&made), "{made} calls, each written down");
    assert!(taken_on > 0, "no worker was stopped at work");
}

/// Lets others go on for a while.
async fn turns_of(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// The newest rotation of a credential.
async fn latest(clients: &Clients, name: &str) -> Rotation {
    let request =
        ListRotationsRequest { parent: name.to_owned(), page_size: 1, ..Default::default() };
    let answer = clients.rotations.clone().list_rotations(request).await.unwrap().into_inner();
    answer.rotations.into_iter().next().unwrap()
}
