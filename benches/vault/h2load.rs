//! h2load (nghttp2), the throughput of one fixed question. It counts a refusal as an answer, so the size of what came
//! back is held against that of the right answer, which is known from a call of our own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::calls::Work;
use crate::load::Target;

/// Its version, if it is there.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("h2load").arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Answers per second to the first question of `work`, each of which has `size` bytes.
pub(crate) fn rate(
    dir: &Path,
    target: &Target,
    work: &Work,
    callers: usize,
    time: Duration,
    size: u64,
) -> f64 {
    let message = (work.message)(0);
    let body = dir.join("h2load.body");
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    fs::write(&body, [&[0], &length[..], &message].concat()).unwrap();
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut command = Command::new("h2load");
    command.arg(format!("--duration={}ms", time.as_millis()));
    command.args(["-c", "4", "-t", "1", "-m", &(callers / 4).to_string(), "-d"]).arg(&body);
    command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    if !target.token.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {}", target.token)]);
    }
    command.arg(format!("{scheme}://{}{}", target.address, work.path)).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let answered = number_before(&said, " done");
    let bytes = number_before(&said, ") data");
    // A few may have been on their way at the end.
    let fits = answered * size..=(answered + u64::try_from(callers).unwrap()) * size;
    assert!(
        fits.contains(&bytes),
        "{answered} answers of {size} bytes are not {bytes} bytes:\n{said}"
    );
    assert_eq!(number_before(&said, " failed") + number_before(&said, " errored"), 0, "{said}");
    let rate = said.split(" req/s").next().and_then(|before| before.rsplit(' ').next());
    rate.and_then(|rate| rate.parse().ok()).expect("h2load says how many requests a second")
}

fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split(what).next().unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("h2load says no number before {what:?}: {text}"))
}
