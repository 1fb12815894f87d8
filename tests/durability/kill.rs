//! kill -9, two hundred times: the harness of `tests/it/crash.rs` at full length.

use crate::it::crash::rounds::rounds;

const ROUNDS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_two_hundred_times_loses_nothing() {
    let report = rounds(ROUNDS, crate::seed(), &[]).await.unwrap();
    println!("{report}");
    assert_eq!(report.rounds, ROUNDS);
    assert!(report.rotations >= 5_000, "too little load to prove anything: {report}");
    assert!(report.token_updates >= 200, "too few updates of tokens to prove anything: {report}");
    assert!(report.in_flight >= ROUNDS, "the kills did not hit any work: {report}");
}
