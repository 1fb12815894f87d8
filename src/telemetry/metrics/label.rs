//! Labels: the values that each may have, and counters with one for each.

use prometheus::IntCounter;

/// A value of a label.
pub(super) trait Value: Copy + PartialEq + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// As it stands in `/metrics`.
    fn text(self) -> &'static str;
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name {
                $($(#[$value_doc])* $value,)*
            }

            impl Value for $name {
                const ALL: &'static [Self] = &[$(Self::$value),*];

                fn text(self) -> &'static str {
                    match self {
                        $(Self::$value => $text,)*
                    }
                }
            }
        )*
    };
}

values! {
    /// What a checkpoint was to do.
    Checkpoint {
        /// Move what is committed into the main file.
        Passive = "passive",
        /// Cut the log to zero as well.
        Truncate = "truncate",
    }

    /// How a checkpoint ended.
    CheckpointEnd {
        /// It did all.
        Done = "done",
        /// A reader or a commit was in its way; it is tried again.
        Busy = "busy",
        /// The disk did not do it.
        Failed = "failed",
    }

    /// How a call to a carrier ended.
    UpstreamCall {
        /// A good answer (2xx).
        Ok = "ok",
        /// The carrier refused (4xx).
        Refused = "refused",
        /// The carrier asked for patience (429).
        RateLimited = "rate_limited",
        /// The carrier failed (5xx).
        ServerError = "server_error",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection.
        Unreachable = "unreachable",
        /// Its certificate or its TLS is not acceptable.
        Tls = "tls",
        /// It points elsewhere.
        Redirect = "redirect",
        /// An answer that makes no sense.
        Protocol = "protocol",
        /// Not made: its address is not public.
        BlockedAddress = "blocked_address",
        /// Not made: too many were under way.
        AtCapacity = "at_capacity",
        /// Not made: the carrier is left alone.
        CircuitOpen = "circuit_open",
        /// Nobody waited for it any more.
        Canceled = "canceled",
    }

    /// How a verification of a provider ended.
    Verification {
        /// All works.
        Verified = "verified",
        /// The token works; something beside it does not.
        Warning = "warning",
        /// The carrier refuses.
        Failed = "failed",
        /// The carrier gave no verdict, and the status stays.
        Unavailable = "unavailable",
    }

    /// How a check of a digest response ended.
    DigestCheck {
        /// The password made it.
        Valid = "valid",
        /// It did not.
        Wrong = "wrong",
        /// It was made for a credential that is disabled.
        Disabled = "disabled",
        /// There is no such username.
        Unknown = "unknown",
        /// The stored record does not open.
        Damaged = "damaged",
        /// The password made it, for a nonce that is too old.
        Stale = "stale",
        /// The password made it, with a nonce count that was used before.
        Replayed = "replayed",
        /// Its nonce is none of the vault's.
        Foreign = "foreign",
    }

    /// How a check of a webhook ended.
    WebhookCheck {
        /// A token of the provider signed it.
        Valid = "valid",
        /// It has no signature.
        NotSigned = "not_signed",
        /// No token of the provider signed it.
        WrongSignature = "wrong_signature",
        /// The signature is right, and the body is another one.
        WrongBody = "wrong_body",
    }

    /// Which version of a secret was used.
    SecretVersion {
        /// The one in use.
        Active = "active",
        /// Replaced, and still good for a while.
        Retiring = "retiring",
        /// The new one of a rotation that waits.
        Pending = "pending",
        /// There is none.
        None = "none",
    }

    /// How long ago the active version became that.
    VersionAge {
        /// Less than ten minutes.
        Under10Minutes = "under_10m",
        /// Less than an hour.
        Under1Hour = "under_1h",
        /// Less than a day.
        Under1Day = "under_1d",
        /// Longer.
        Older = "older",
        /// There is none.
        None = "none",
    }

    /// Why a call proved no identity.
    AuthenticationFailure {
        /// No token, or several.
        Missing = "missing",
        /// What was presented is no token.
        Malformed = "malformed",
        /// No token has this id.
        Unknown = "unknown",
        /// The id is right, the secret is not.
        WrongSecret = "wrong_secret",
        /// The token was revoked.
        Revoked = "revoked",
        /// The token has expired.
        Expired = "expired",
    }

    /// A limit that refuses calls.
    Limit {
        /// Tries of tokens on one provider.
        TokenTriesPerProvider = "token_tries_per_provider",
        /// Tries of tokens in one account.
        TokenTriesPerAccount = "token_tries_per_account",
        /// Failed authentications from one address.
        FailedAuthentications = "failed_authentications",
        /// Access tokens minted in one account.
        AccessTokens = "access_tokens",
        /// Wrong digest responses for one username from one source.
        FailedDigestChecks = "failed_digest_checks",
        /// Changes that wait for the writer.
        CommitQueue = "commit_queue",
        /// Calls to a carrier under way.
        UpstreamCalls = "upstream_calls",
        /// Watches of health.
        Watches = "health_watches",
        /// Watches of credentials.
        CredentialWatches = "credential_watches",
        /// Requests above 64 KiB under way.
        LargeRequests = "large_requests",
        /// Bytes of metadata.
        Metadata = "metadata_size",
        /// Bytes of a message.
        Message = "message_size",
    }
}

impl VersionAge {
    /// The age of what became active so long ago. A clock that was set back makes it new.
    pub fn of(seconds: i64) -> Self {
        match seconds {
            ..600 => Self::Under10Minutes,
            600..3_600 => Self::Under1Hour,
            3_600..86_400 => Self::Under1Day,
            86_400.. => Self::Older,
        }
    }
}

impl SecretVersion {
    /// How old such a version can be.
    pub(super) fn ages(self) -> &'static [VersionAge] {
        use VersionAge::{None, Older, Under1Day, Under1Hour, Under10Minutes};
        match self {
            Self::Active | Self::Retiring | Self::Pending => {
                &[Under10Minutes, Under1Hour, Under1Day, Older]
            }
            Self::None => &[None],
        }
    }

    /// How a check against such a version can end.
    pub(super) fn outcomes(self) -> &'static [DigestCheck] {
        use DigestCheck::{Damaged, Disabled, Foreign, Replayed, Stale, Unknown, Valid, Wrong};
        match self {
            Self::Active => &[Valid, Wrong, Disabled, Damaged, Stale, Replayed],
            Self::Retiring | Self::Pending => &[Valid, Damaged, Stale, Replayed],
            Self::None => &[Unknown, Foreign],
        }
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(super) struct Counters<V>(Vec<(V, IntCounter)>);

impl<V: Value> Counters<V> {
    /// Makes each by its text.
    pub(super) fn new(values: &[V], counter: impl Fn(&str) -> IntCounter) -> Self {
        Self(values.iter().map(|value| (*value, counter(value.text()))).collect())
    }

    pub(super) fn count(&self, value: V) {
        of(&self.0, value, IntCounter::inc);
    }
}

impl WebhookCheck {
    /// Which versions of a token can be behind it.
    pub(super) fn versions(self) -> &'static [SecretVersion] {
        use SecretVersion::{Active, None, Pending, Retiring};
        match self {
            Self::Valid => &[Active, Retiring, Pending],
            Self::NotSigned | Self::WrongSignature | Self::WrongBody => &[None],
        }
    }
}

/// Does something with what belongs to a value. A handful of values: looking through them is quicker than a map.
pub(super) fn of<V: Value, T>(all: &[(V, T)], value: V, act: impl FnOnce(&T)) {
    let found = all.iter().find(|(other, _)| *other == value);
    debug_assert!(found.is_some(), "a series for each pair that there can be: {}", value.text());
    if let Some((_, found)) = found {
        act(found);
    }
}
