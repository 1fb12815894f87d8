//! Doctor beside a vault that runs, and beside what only looks like one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::{Said, doctor, template, token};
use crate::refusals::world::World;
use crate::support::process::Process;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_vault_is_asked_and_keeps_its_store_to_itself() {
    let template = template().await;
    let world = World::of(template.path(), 203);
    let server = Process::serve(&world.data(), &[("CREDVAULT_OPS_LISTEN", "127.0.0.1:0")]);
    let operations = server.operations().to_string();
    let ask = || Said::of(doctor(&world, &["--ops-listen", &operations]).output().unwrap());
    let mut said = ask();
    let deadline = Instant::now() + Duration::from_secs(30);
    // The listener for probes is there first.
    while said.plain.contains("not open yet") && Instant::now() < deadline {
        said = ask();
    }
    assert!(said.finds("running", "good", "it takes calls", ""), "{}", said.plain);
    assert!(said.finds("key", "good", "for its owner alone", ""), "{}", said.plain);
    assert!(said.finds("descriptors", "good", "there, enough", ""), "{}", said.plain);
    assert!(
        said.finds("store", "not_checked", "a process uses the vault", "stop it"),
        "{}",
        said.plain
    );
    assert_eq!(said.code, Some(0), "{}", said.plain);

    let said = Said::of(doctor(&world, &[]).output().unwrap());
    assert!(said.finds("running", "bad", "does not answer", "--ops-listen"), "{}", said.plain);
    let said = Said::of(doctor(&world, &["--ops-listen", "off"]).output().unwrap());
    assert!(said.finds("running", "not_checked", "ops_listen is off", "its log"), "{}", said.plain);
    assert!(server.terminate().success());
}

/// Answers two requests: the vault's readiness, and its metrics.
fn answers(ready: &'static str, metrics: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in [ready, metrics] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap();
            assert!(asked[..length].starts_with(b"GET /"));
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_vault_says_of_itself_counts() {
    let template = template().await;
    let world = World::of(template.path(), 204);
    let lock = File::open(world.file("vault/credvault.db.lock")).unwrap();
    lock.try_lock().unwrap();
    let ask = |ready, metrics| {
        let at = answers(ready, metrics).to_string();
        Said::of(doctor(&world, &["--ops-listen", &at]).output().unwrap())
    };
    let said = ask(
        "503 Service Unavailable\r\n\r\nstopping: the vault finishes the calls in progress\n",
        "200 OK\r\n\r\ncredvault_commit_failures_total 2\ncredvault_panics_total 1\n\
         credvault_build_info{version=\"0.0.1\"} 1\nprocess_max_fds 100\n",
    );
    for (check, verdict, says, mend) in [
        ("running", "warning", "it takes no calls: stopping", "look at its log"),
        ("commits", "bad", "2 failed", "look at the disk"),
        ("panics", "bad", "1 since", "it is a bug"),
        ("version", "warning", "version 0.0.1 runs", "restart it"),
        ("descriptors", "warning", "100 file descriptors there", "ulimit -n"),
    ] {
        assert!(said.finds(check, verdict, says, mend), "{check}: {}", said.plain);
    }
    assert_eq!(said.code, Some(1));
    let said = ask("404 Not Found\r\n\r\n", "404 Not Found\r\n\r\n");
    assert!(
        said.finds("running", "bad", "it is another program", "--ops-listen"),
        "{}",
        said.plain
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_look_and_meanwhile_no_vault_can_open_the_store() {
    let template = template().await;
    let world = World::of(template.path(), 205);
    let lock = File::open(world.file("vault/credvault.db.lock")).unwrap();
    lock.try_lock_shared().unwrap();
    let said = Said::of(doctor(&world, &["--deep"]).output().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.plain);
    let ending = world.watch("serve", &[], &[]);
    assert!(ending.said.contains("another process uses the vault"), "{ending:?}");
    drop(lock);
    token(&world.data(), &["--role", "operator"]);
}
