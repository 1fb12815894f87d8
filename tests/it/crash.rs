//! kill -9 under load: what was acknowledged is there, whole, and with its audit record.
//!
//! Each change carries a reason of its own, and each client keeps a journal of what it asked and
//! what it was answered. After a restart the audit log is replayed over the journals
//! (`crash/oracle.rs`): an acknowledged change without an entry was lost, an entry without a change
//! was made up, and a state that is not the outcome of the entries is half of a change.

mod oracle;
mod rounds;

use rounds::rounds;

const SEED: u64 = 0x1505_2026;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_rounds_lose_nothing() {
    let report = rounds(50, SEED, &[]).await.unwrap();
    println!("{report}");
    assert_eq!(report.rounds, 50);
    assert!(report.acks >= 5_000, "too little load to prove anything: {report}");
    assert!(report.in_flight >= 50, "the kills did not hit any work: {report}");
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_answer_before_commit_is_caught() {
    let environment = [("CREDVAULT_DEFECT", "answer-before-commit")];
    let problem = rounds(50, SEED, &environment).await.expect_err("the defect should be caught");
    assert!(problem.contains("LOST"), "{problem}");
    println!("{problem}");
}
