//! SIP digests on the wire.

use super::{count, credential, field, timestamp};
use crate::credential::{Realm, Username};
use crate::digest::{
    Algorithm, Auth, BodyHash, Digest, Method, Nonce, NonceCount, Qop, Response, Source, Uri,
    unquoted,
};
use crate::grpc::proto::{self, InvalidReason};
use crate::name::Invalid;
use crate::vault::{Challenge, Error, NewChallenge, NonceOwner, Presented, Rejected, Verdict};

/// What a client answered a challenge with.
pub(in crate::grpc) fn presented(
    request: &proto::VerifySipDigestRequest,
) -> Result<Presented, Error> {
    let algorithm = value("algorithm", &request.algorithm, Algorithm::parse)?;
    let qop = value("qop", &request.qop, Qop::parse)?;
    if qop.is_none() && algorithm.is_session() {
        return Err(Error::field("qop", Invalid("is required with -sess")));
    }
    if qop.is_none() && request.check_nonce {
        return Err(Error::field("qop", Invalid("is required with check_nonce")));
    }
    if qop != Some(Qop::AuthInt) && !request.body.is_empty() {
        return Err(Error::field("body", Invalid("must be empty without auth-int")));
    }
    let auth = match qop {
        None => {
            for (path, text) in [("nc", &request.nc), ("cnonce", &request.cnonce)] {
                if !text.is_empty() {
                    return Err(Error::field(path, Invalid("must be empty without qop")));
                }
            }
            None
        }
        Some(qop) => Some(Auth {
            nc: value("nc", &request.nc, NonceCount::parse)?,
            cnonce: value("cnonce", &request.cnonce, Nonce::parse)?,
            body: (qop == Qop::AuthInt).then(|| BodyHash::of(&request.body, algorithm)),
        }),
    };
    let digest = Digest {
        username: value("username", &request.username, Username::parse)?,
        realm: value("realm", &request.realm, Realm::parse)?,
        method: field("method", &request.method, Method::parse)?,
        uri: value("uri", &request.uri, Uri::parse)?,
        nonce: value("nonce", &request.nonce, Nonce::parse)?,
        auth,
        algorithm,
    };
    let response = value("response", &request.response, |text| Response::parse(text, algorithm))?;
    let source = match request.source.as_str() {
        "" => None,
        source => Some(field("source", source, Source::parse)?),
    };
    let nonce_owner = if request.check_nonce { NonceOwner::Vault } else { NonceOwner::Caller };
    Ok(Presented { digest, response, source, nonce_owner })
}

/// What became of it.
pub(in crate::grpc) fn verdict(verdict: Verdict) -> proto::VerifySipDigestResponse {
    let reason = match verdict {
        Verdict::Valid(matched) => {
            return proto::VerifySipDigestResponse {
                valid: true,
                credential: matched.credential.to_string(),
                version: count(matched.version),
                version_state: credential::version_state(matched.state).into(),
                rspauth: matched.rspauth.unwrap_or_default(),
                ..Default::default()
            };
        }
        Verdict::Invalid(Rejected::Wrong) => InvalidReason::Unspecified,
        Verdict::Invalid(Rejected::Foreign) => InvalidReason::NonceForeign,
        Verdict::Invalid(Rejected::Stale) => InvalidReason::NonceStale,
        Verdict::Invalid(Rejected::Replayed) => InvalidReason::NonceReplayed,
    };
    proto::VerifySipDigestResponse {
        invalid_reason: reason.into(),
        stale: reason == InvalidReason::NonceStale,
        ..Default::default()
    }
}

/// What a challenge is to be.
pub(in crate::grpc) fn new_challenge(
    request: &proto::IssueSipChallengeRequest,
) -> Result<NewChallenge, Error> {
    let realm = value("realm", &request.realm, Realm::parse)?;
    let algorithm = value("algorithm", &request.algorithm, Algorithm::parse)?;
    let mut qop = Vec::new();
    for (number, text) in request.qop.iter().enumerate() {
        let path = format!("qop[{number}]");
        match field(&path, text, Qop::parse)? {
            None => return Err(Error::field(path, Invalid("must be auth or auth-int"))),
            Some(named) if qop.contains(&named) => {
                return Err(Error::field(path, Invalid("is there twice")));
            }
            Some(named) => qop.push(named),
        }
    }
    if qop.is_empty() {
        qop.push(Qop::Auth);
    }
    Ok(NewChallenge { realm, algorithm, qop })
}

/// A challenge, also as the value of its header: quotes are where RFC 7616 §3.3 has them.
pub(in crate::grpc) fn challenge(
    new: NewChallenge,
    made: Challenge,
    stale: bool,
) -> proto::IssueSipChallengeResponse {
    let (realm, algorithm) = (new.realm.as_str(), new.algorithm.as_str());
    let qop: Vec<_> = new.qop.iter().map(|qop| qop.as_str().to_owned()).collect();
    let (offered, nonce) = (qop.join(","), made.nonce);
    // Neither has a character that would have to be escaped.
    let mut challenge = format!(
        r#"Digest realm="{realm}", nonce="{nonce}", qop="{offered}", algorithm={algorithm}"#
    );
    if stale {
        challenge.push_str(", stale=true");
    }
    proto::IssueSipChallengeResponse {
        realm: realm.to_owned(),
        algorithm: algorithm.to_owned(),
        nonce,
        qop,
        stale,
        expire_time: Some(timestamp(made.expire_time)),
        challenge,
    }
}

/// Parses a value of a header, which may still have its quotes.
fn value<'a, T>(
    path: &str,
    text: &'a str,
    parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    field(path, unquoted(text), parse)
}
