//! Between wire and domain: what comes in is parsed once, what goes out is built field by field.

pub(super) mod access;
pub(super) mod access_token;
pub(super) mod audit;
pub(super) mod credential;
pub(super) mod digest;
pub(super) mod policy;
pub(super) mod provider;
pub(super) mod rotation;
pub(super) mod webhook;

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::audit::Reason;
use crate::name::{AccountName, CredentialName, Etag, Invalid, ProviderName, ResourceId};
use crate::vault::{Error, FieldError, Intent, PageRequest, Request};

/// Parses a field, or says which one is wrong.
pub(super) fn field<'a, T>(
    field: &str,
    text: &'a str,
    parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    if text.is_empty() {
        // An empty value fails most rules anyway; where it does, "is required" says it better.
        return parse(text).map_err(|_| Error::field(field, Invalid("is required")));
    }
    parse(text).map_err(|problem| Error::field(field, problem))
}

pub(super) fn account_name(text: &str) -> Result<ResourceId, Error> {
    field("parent", text, AccountName::parse).map(|name| name.0)
}

pub(super) fn credential_name(path: &str, text: &str) -> Result<CredentialName, Error> {
    field(path, text, CredentialName::parse)
}

pub(super) fn provider_name(path: &str, text: &str) -> Result<ProviderName, Error> {
    field(path, text, ProviderName::parse)
}

/// The id of a provider of this account.
pub(super) fn provider_of(
    path: &str,
    text: &str,
    account: &ResourceId,
) -> Result<ResourceId, Error> {
    let name = provider_name(path, text)?;
    if name.account == *account {
        Ok(name.id)
    } else {
        Err(Error::field(path, Invalid("must be of the same account")))
    }
}

/// An id that the caller chose, or None.
pub(super) fn chosen_id(path: &str, text: &str) -> Result<Option<ResourceId>, Error> {
    if text.is_empty() { Ok(None) } else { field(path, text, ResourceId::parse).map(Some) }
}

/// The etag that a caller expects, or None.
pub(super) fn etag(text: String) -> Option<Etag> {
    (!text.is_empty()).then(|| Etag::expected(text))
}

/// What stands beside a mutation. `message` is the whole request: its hash tells a retry from another call.
pub(super) fn intent(
    message: &impl Message,
    request_id: &str,
    reason: &str,
) -> Result<Intent, Error> {
    const RULE: Invalid =
        Invalid("must be a UUID4, for example 3f2b0c9e-8a1d-4c55-9d0e-2f6a7b8c9d10");
    let request = if request_id.is_empty() {
        None
    } else {
        let id = Uuid::try_parse(request_id)
            .ok()
            .filter(|id| request_id.len() == 36 && id.get_version_num() == 4);
        let id = id.ok_or_else(|| Error::field("request_id", RULE))?;
        Some(Request { id, canonical: Zeroizing::new(message.encode_to_vec()) })
    };
    let reason =
        if reason.is_empty() { None } else { Some(field("reason", reason, Reason::parse)?) };
    Ok(Intent { request, reason })
}

/// Which page. `arguments` is the list's request with size and token taken out.
pub(super) fn page(
    size: i32,
    token: String,
    arguments: &impl Message,
) -> Result<PageRequest, Error> {
    let size = match usize::try_from(size) {
        Ok(0) => 50,
        Ok(size) => size.min(200),
        Err(_) => return Err(Error::field("page_size", Invalid("must not be negative"))),
    };
    Ok(PageRequest { size, token, arguments: arguments.encode_to_vec() })
}

/// Which fields an update sets: those of the mask, or those that are present.
pub(super) enum Mask {
    Present,
    All,
    Named(Vec<String>),
}

impl Mask {
    /// Parses `update_mask`: `mutable` paths are accepted, `*` means all of them.
    pub(super) fn parse(
        mask: Option<prost_types::FieldMask>,
        mutable: &[&str],
        immutable: &[&str],
    ) -> Result<Self, Error> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            return Ok(Self::Present);
        }
        if paths == ["*"] {
            return Ok(Self::All);
        }
        for path in &paths {
            if mutable.contains(&path.as_str()) {
                continue;
            }
            let why = match path.as_str() {
                "password" | "auth_token" => "lies outside the mask: set the field alone",
                "twilio" | "vobiz" | "telepath" | "kind" => "is a message: name its fields",
                path if immutable.contains(&path) => "is immutable",
                _ => "is unknown",
            };
            let problem = format!("path `{}` {why}; allowed: {}", shown(path), mutable.join(", "));
            return Err(Error::InvalidField(FieldError {
                field: "update_mask".to_owned(),
                problem,
            }));
        }
        Ok(Self::Named(paths))
    }

    /// Whether the whole resource is meant, so that its immutable fields count as well (AIP-203): they
    /// may be sent back as they were read, and not otherwise. A mask that names others skips them.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self, Self::Named(_))
    }

    /// Whether everything that may be set is to be set, to nothing where the request has nothing.
    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether a field is to be set; `present` says whether the request has it.
    pub(super) fn sets(&self, path: &str, present: bool) -> bool {
        match self {
            Self::Present => present,
            Self::All => true,
            Self::Named(paths) => paths.iter().any(|named| named == path),
        }
    }
}

/// A mask path as an error may show it: only what looks like one, lest something else ended up there.
fn shown(path: &str) -> &str {
    let plain =
        path.len() <= 64 && path.bytes().all(|b| b.is_ascii_lowercase() || b"_.*".contains(&b));
    if plain { path } else { "…" }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

pub(super) fn time(path: &str, time: prost_types::Timestamp) -> Result<Timestamp, Error> {
    let in_range = (0..1_000_000_000).contains(&time.nanos);
    in_range
        .then(|| Timestamp::new(time.seconds, time.nanos).ok())
        .flatten()
        .ok_or_else(|| Error::field(path, Invalid("must be a time between the years 1 and 9999")))
}

/// Counts on the wire are int64 (AIP-141 would have it so too); ours never come near its end.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
