//! Planted defects: what a safety harness must catch, or it proves nothing.
//!
//! Only a build with the test-only feature `planted-defects` has them; everywhere else
//! [`planted`] is a constant `false` and the branches behind it do not exist.

/// A defect that a test build can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Answers leave before the commit is durable. Caught by the kill -9 harness.
    AnswerBeforeCommit,
    /// A commit does not wait for the disk (`synchronous=NORMAL`). Caught by the power-loss images.
    RelaxedSync,
    /// A failed flush is nothing to end for. Caught by the sweep of I/O errors.
    SwallowSync,
    /// What a crash left unsynced is answered by. Caught by the power-loss images.
    UnsettledStart,
    /// What is known of callers is not forgotten when it changes. Caught by the contract of stores.
    RememberRevoked,
    /// The schema is brought up to date before it is known whether the vault may be opened. Caught by the refusals.
    EarlyMigration,
    /// An issued password is logged. Caught by the canary scan.
    LogSecret,
    /// Overwritten pages are not zeroed and the log is not truncated. Caught by the remnant scan.
    KeepRemnants,
    /// Ciphertext is not bound to its resource. Caught by the swap harness.
    UnboundCiphertext,
    /// A record that fails authentication counts as a match. Caught by the bit-flip harness.
    TrustDamaged,
    /// A webhook that repeats a field is signed with it twice. Caught by the suite of webhooks.
    KeepDuplicates,
    /// A webhook without a signature counts as signed. Caught by the suite of webhooks.
    TrustUnsigned,
    /// A token that was rotated away verifies webhooks for as long as it is kept. Caught by the suite of webhooks.
    TrustOldToken,
    /// A token that its carrier refuses is stored. Caught by the fault table.
    TrustRefused,
    /// All providers that are due are verified at once. Caught by the schedule harness.
    HurriedSchedule,
    /// One RPC answers from the caller's own account, whichever is named. Caught by the authorization matrix.
    SkipScope,
    /// A reader may rotate. Caught by the authorization matrix.
    WrongRole,
    /// An account of others is told apart from none. Caught by the authorization matrix.
    TellForeign,
    /// A refused call has done its work all the same. Caught by the authorization matrix.
    ActBeforeRefusal,
    /// A request id is not remembered. Caught by the lost answers.
    ForgetRequests,
    /// A rotation kills the old version whatever its overlap. Caught by the checks beside rotations.
    NoOverlap,
    /// A rotation without an overlap has one. Caught by the checks beside rotations.
    KeepReplaced,
    /// A call to a carrier is made before it is written down. Caught by the crash matrix.
    JournalLate,
    /// A sealed secret stays when its time has passed. Caught by the look into the files.
    KeepDelivery,
    /// A schedule has no window. Caught by the suite of schedules.
    IgnoreWindow,
    /// A watch begins where its snapshot ends. Caught by the suite of watches.
    MissChanges,
    /// A watch goes on when its caller's right has ended. Caught by the suite of watches.
    WatchForEver,
    /// An import that goes on does not know its request ids. Caught by the interrupted import.
    ForgetImport,
    /// A rotation is confirmed though its password reached nobody. Caught by the rotations of the command line.
    ConfirmUndelivered,
    /// A nonce count may be used again. Caught by the suite of digests.
    ReplayNonce,
    /// The last admin may go. Caught by the races of admins.
    ForgetLastAdmin,
    /// A deleted account takes in what was under way. Caught by the suite of deletions.
    TakeLateWrites,
    /// A call with the header `x-panic` panics in its handler, and says what it was asked. What the front door makes of it
    /// is looked at.
    PanicInCall,
    /// A path that nobody knows becomes the label of a metric. Caught by the scan of the metrics.
    LabelPaths,
    /// A connection may take for ever to its first request. Caught by the attacks.
    EndlessPatience,
    /// Any number of large answers may wait for clients that do not take them. Caught by the attacks.
    HoardedAnswers,
    /// Any number of large requests may be under way, however long their callers take to send them. Caught by the attacks.
    HoardedRequests,
    /// What a request has many of is counted after it was decoded. Caught by the attacks.
    UncountedItems,
    /// Accepting goes on at once after an error that only time mends. Caught by the attacks.
    SpinningAccept,
}

impl Defect {
    /// Its name in the environment variable `CREDVAULT_DEFECT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::RelaxedSync => "relaxed-sync",
            Self::SwallowSync => "swallow-sync",
            Self::UnsettledStart => "unsettled-start",
            Self::RememberRevoked => "remember-revoked",
            Self::EarlyMigration => "early-migration",
            Self::LogSecret => "log-secret",
            Self::KeepRemnants => "keep-remnants",
            Self::UnboundCiphertext => "unbound-ciphertext",
            Self::TrustDamaged => "trust-damaged",
            Self::KeepDuplicates => "keep-duplicates",
            Self::TrustUnsigned => "trust-unsigned",
            Self::TrustOldToken => "trust-old-token",
            Self::TrustRefused => "trust-refused",
            Self::HurriedSchedule => "hurried-schedule",
            Self::SkipScope => "skip-scope",
            Self::WrongRole => "wrong-role",
            Self::TellForeign => "tell-foreign",
            Self::ActBeforeRefusal => "act-before-refusal",
            Self::ForgetRequests => "forget-requests",
            Self::NoOverlap => "no-overlap",
            Self::KeepReplaced => "keep-replaced",
            Self::JournalLate => "journal-late",
            Self::KeepDelivery => "keep-delivery",
            Self::IgnoreWindow => "ignore-window",
            Self::MissChanges => "miss-changes",
            Self::WatchForEver => "watch-for-ever",
            Self::ForgetImport => "forget-import",
            Self::ConfirmUndelivered => "confirm-undelivered",
            Self::ReplayNonce => "replay-nonce",
            Self::ForgetLastAdmin => "forget-last-admin",
            Self::TakeLateWrites => "take-late-writes",
            Self::PanicInCall => "panic-in-call",
            Self::LabelPaths => "label-paths",
            Self::EndlessPatience => "endless-patience",
            Self::HoardedAnswers => "hoarded-answers",
            Self::HoardedRequests => "hoarded-requests",
            Self::UncountedItems => "uncounted-items",
            Self::SpinningAccept => "spinning-accept",
        }
    }
}

/// Whether this process has the defect.
#[cfg(feature = "planted-defects")]
pub fn planted(defect: Defect) -> bool {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("CREDVAULT_DEFECT").ok()).as_deref() == Some(defect.name())
}

/// Whether this process has the defect: never.
#[cfg(not(feature = "planted-defects"))]
pub const fn planted(_: Defect) -> bool {
    false
}
