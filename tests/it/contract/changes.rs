//! What every store promises of changes: who looks for them by the audit chain misses none.

use credvault::access::AccountScope;
use credvault::audit::{Chain, Entry};
use credvault::credential::Description;
use credvault::store::{Change, Changes, Store, Write};

use super::samples::{
    Home, chain, creation, credential, entry, next, provider, replacement, scope,
};

/// A change with an entry that names this.
fn named(scope: &AccountScope, change: Change, resource: &str) -> Write {
    let resource = format!("accounts/{}/{resource}", scope.account().id);
    Write::new(scope, change, Entry { resource, ..entry("Test") }, None)
}

/// The ids that changed, with the description and the version of what is there now.
fn ids(changes: &Changes) -> Vec<(&str, Option<(&str, u64)>)> {
    let now = changes.credentials.iter().map(|(id, credential)| {
        let credential = credential.as_ref();
        (id.as_str(), credential.map(|it| (it.description.as_str(), it.version)))
    });
    now.collect()
}

pub(super) async fn changes_are_found_by_the_entries_that_name_them(home: &Home) {
    let store = home.create();
    let (acme, other) = (scope(&*store, "acme").await, scope(&*store, "other").await);
    let mut commits = store.commits();
    let start = store.link(&acme, None).await.unwrap();
    let start = start.map_or(0, |start| start.sequence);

    let [desk, hall, attic] =
        ["desk", "hall", "attic"].map(|id| credential(id, &format!("user-{id}"), 1));
    for (id, new) in [("desk", &desk), ("hall", &hall), ("attic", &attic)] {
        let write = named(&acme, creation(new.clone()), &format!("credentials/{id}"));
        store.commit(write).await.unwrap();
    }
    commits.changed().await.unwrap();
    commits.mark_unchanged();
    let rotated = next(&desk, 2);
    let below = "credentials/desk/rotations/x00";
    store.commit(named(&acme, replacement(1, rotated), below)).await.unwrap();
    let deletion = Change::DeleteCredential(hall.credential.clone());
    store.commit(named(&acme, deletion, "credentials/hall")).await.unwrap();
    commits.changed().await.unwrap();

    // What names none, was refused, or is another account's, names nothing here.
    let other_thing = Change::CreateProvider(provider("main", 1));
    store.commit(named(&acme, other_thing, "providers/main")).await.unwrap();
    let resource = "accounts/acme/credentials/attic".to_owned();
    let refused = Entry { outcome: "ROLE_MISSING".to_owned(), resource, ..entry("Test") };
    let refusal = Write::refusal(Chain::of_account(acme.account()), refused);
    store.commit(refusal).await.unwrap();
    let mut elsewhere = credential("desk", "user-desk", 9);
    elsewhere.credential.description = Description::parse("elsewhere").unwrap();
    store.commit(named(&other, creation(elsewhere), "credentials/desk")).await.unwrap();

    let all = store.changed_credentials(&acme, start, 100).await.unwrap();
    let now = [("desk", Some(("", 2))), ("hall", None), ("attic", Some(("", 1)))];
    assert_eq!(ids(&all), now, "each once, in the order of their first entries, as it is now");
    let links: Vec<_> = chain(&*store, &acme).await.into_iter().map(|it| it.link).collect();
    assert_eq!(all.reached.as_ref(), links.last());
    assert_eq!(store.link(&acme, None).await.unwrap().as_ref(), links.last());
    for link in &links {
        let found = store.link(&acme, Some(link.sequence)).await.unwrap();
        assert_eq!(found.as_ref(), Some(link));
    }
    for none in [0, all.reached.unwrap().sequence + 1, u64::MAX] {
        assert_eq!(store.link(&acme, Some(none)).await.unwrap(), None);
    }

    // A few entries at a time.
    let (mut after, mut found) = (start, Vec::new());
    loop {
        let some = store.changed_credentials(&acme, after, 2).await.unwrap();
        found.extend(ids(&some).into_iter().map(|(id, _)| id.to_owned()));
        let Some(reached) = some.reached else { break };
        assert!(reached.sequence - after <= 2);
        after = reached.sequence;
    }
    assert_eq!(found, ["desk", "hall", "attic", "desk", "hall"]);
    assert_eq!(after, links.last().unwrap().sequence);

    let elsewhere = store.changed_credentials(&other, 0, 100).await.unwrap();
    assert_eq!(ids(&elsewhere), [("desk", Some(("elsewhere", 1)))]);
    too_large_for_one_page(&*store, &acme).await;
}

/// What is large comes in parts, and each part gets on.
async fn too_large_for_one_page(store: &dyn Store, acme: &AccountScope) {
    let start = store.link(acme, None).await.unwrap().unwrap().sequence;
    for number in 0..250 {
        let id = format!("large-{number}");
        let mut new = credential(&id, &id, 1);
        new.credential.description = Description::parse(&"ü".repeat(1024)).unwrap();
        new.credential.labels = super::samples::labels(&[
            ("a", &"ü".repeat(255)),
            ("b", &"ü".repeat(255)),
            ("c", &"ü".repeat(255)),
            ("d", &"ü".repeat(255)),
        ]);
        let write = named(acme, creation(new), &format!("credentials/{id}"));
        store.commit(write).await.unwrap();
    }
    let (mut after, mut found) = (start, 0);
    for part in 0.. {
        let some = store.changed_credentials(acme, after, 1000).await.unwrap();
        let Some(reached) = some.reached else {
            assert!(part > 1, "all of it in one part");
            break;
        };
        assert!(some.credentials.len() < 250);
        found += some.credentials.len();
        after = reached.sequence;
    }
    assert_eq!(found, 250);
}
