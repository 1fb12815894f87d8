//! SIP digests on the wire.

use super::{count, credential, field, timestamp};
use crate::credential::{Realm, Username};
use crate::digest::{
    Algorithm, Auth, BodyHash, Digest, Method, Nonce, NonceCount, Opaque, Qop, Response, Source,
    Uri, unquoted,
};
use crate::grpc::proto::sip_digest_outcome::Outcome;
use crate::grpc::proto::{self, InvalidReason};
use crate::grpc::status;
use crate::name::Invalid;
use crate::vault::{
    Challenge, Computed, Error, FieldError, NewAnswer, NewChallenge, NonceOwner, Presented,
    Rejected, Verdict,
};

/// The most checks of a batch.
const MOST: usize = 256;

/// What a client answered a challenge with.
pub(in crate::grpc) fn presented(
    request: &proto::VerifySipDigestRequest,
) -> Result<Presented, Error> {
    let algorithm = value("algorithm", &request.algorithm, Algorithm::parse)?;
    let qop = value("qop", &request.qop, Qop::parse)?;
    if algorithm.is_session() && !request.check_nonce {
        // The response to one algorithm is the HA1 of the other, with a cnonce that anybody can choose (docs/adr/0039).
        let problem =
            "is checked with check_nonce only: offer another one, or have the vault make the nonce";
        return Err(Error::field("algorithm", Invalid(problem)));
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
            cnonce: cnonce(&request.cnonce, algorithm)?,
            body: (qop == Qop::AuthInt).then(|| BodyHash::of(&request.body, algorithm)),
        }),
    };
    let nonce = nonce(&request.nonce, qop)?;
    let digest = Digest {
        username: value("username", &request.username, Username::parse)?,
        realm: value("realm", &request.realm, Realm::parse)?,
        method: field("method", &request.method, Method::parse)?,
        uri: value("uri", &request.uri, Uri::parse)?,
        nonce,
        auth,
        algorithm,
    };
    let response = value("response", &request.response, |text| Response::parse(text, algorithm))?;
    let source = source(&request.source)?;
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
                rspauth: matched.rspauth.map(Response::into_digits).unwrap_or_default(),
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
        stale: matches!(reason, InvalidReason::NonceStale | InvalidReason::NonceReplayed),
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
    Ok(NewChallenge { realm, algorithm, qop, source: source(&request.source)? })
}

fn source(text: &str) -> Result<Option<Source>, Error> {
    if text.is_empty() { Ok(None) } else { field("source", text, Source::parse).map(Some) }
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

/// The checks of a batch. One that is not acceptable says so in its place.
pub(in crate::grpc) fn batch(
    request: &proto::BatchVerifySipDigestRequest,
) -> Result<Vec<Result<Presented, Error>>, Error> {
    if !(1..=MOST).contains(&request.requests.len()) {
        return Err(Error::field("requests", Invalid("must be 1 to 256")));
    }
    let requests = request.requests.iter().enumerate();
    Ok(requests
        .map(|(number, item)| {
            if !(item.parent.is_empty() || item.parent == request.parent) {
                let path = format!("requests[{number}].parent");
                return Err(Error::field(path, Invalid("must be empty, or that of the batch")));
            }
            presented(item).map_err(|error| match error {
                Error::InvalidField(FieldError { field, problem }) => {
                    let field = format!("requests[{number}].{field}");
                    Error::InvalidField(FieldError { field, problem })
                }
                other => other,
            })
        })
        .collect())
}

/// What became of each.
pub(in crate::grpc) fn outcomes(
    verdicts: Vec<Result<Verdict, Error>>,
) -> proto::BatchVerifySipDigestResponse {
    let outcomes = verdicts.into_iter().map(|it| {
        let outcome = match it {
            Ok(made) => Outcome::Response(verdict(made)),
            Err(error) => Outcome::Error(status::of_item(error)),
        };
        proto::SipDigestOutcome { outcome: Some(outcome) }
    });
    proto::BatchVerifySipDigestResponse { outcomes: outcomes.collect() }
}

/// A challenge that is to be answered, and its `opaque`.
pub(in crate::grpc) fn new_answer(
    request: &proto::ComputeSipDigestRequest,
) -> Result<(NewAnswer, Option<Opaque>), Error> {
    let algorithm = value("algorithm", &request.algorithm, Algorithm::parse)?;
    let qop = offered(&request.qop)?;
    if qop.is_none() && algorithm.is_session() {
        return Err(Error::field("qop", Invalid("is required with -sess")));
    }
    let new = NewAnswer {
        realm: value("realm", &request.realm, Realm::parse)?,
        nonce: nonce(&request.nonce, qop)?,
        algorithm,
        qop,
        nonce_count: NonceCount::of(request.nonce_count.max(1)),
        method: field("method", &request.method, Method::parse)?,
        uri: field("uri", &request.uri, Uri::parse)?,
        body: BodyHash::of(&request.body, algorithm),
    };
    let opaque = match unquoted(&request.opaque) {
        "" => None,
        opaque => Some(field("opaque", opaque, Opaque::parse)?),
    };
    Ok((new, opaque))
}

/// What to answer with, of the values that a challenge offers: `auth` rather than `auth-int`, which proxies break that
/// change a body. What is not known is passed over (RFC 7616 §3.3).
fn offered(qop: &str) -> Result<Option<Qop>, Error> {
    let offered = unquoted(qop);
    if offered.is_empty() {
        return Ok(None);
    }
    let offers = |qop: &Qop| {
        let mut names = offered.split(',').map(str::trim);
        names.any(|name| name.eq_ignore_ascii_case(qop.as_str()))
    };
    let chosen = [Qop::Auth, Qop::AuthInt].into_iter().find(offers);
    chosen.map(Some).ok_or_else(|| Error::field("qop", Invalid("must offer auth or auth-int")))
}

/// An answer to a challenge, also as the value of its header: quotes are where RFC 7616 §3.4 has them.
pub(in crate::grpc) fn computed(
    computed: Computed,
    opaque: Option<&Opaque>,
) -> proto::ComputeSipDigestResponse {
    let Computed { digest, response, version } = computed;
    let mut answer = proto::ComputeSipDigestResponse {
        username: digest.username.as_str().to_owned(),
        realm: digest.realm.as_str().to_owned(),
        nonce: digest.nonce.as_str().to_owned(),
        uri: digest.uri.as_str().to_owned(),
        algorithm: digest.algorithm.as_str().to_owned(),
        opaque: opaque.map(|opaque| opaque.as_str().to_owned()).unwrap_or_default(),
        version: count(version),
        response: response.into_digits(),
        ..Default::default()
    };
    if let Some(auth) = &digest.auth {
        auth.qop().as_str().clone_into(&mut answer.qop);
        auth.nc.as_str().clone_into(&mut answer.nc);
        auth.cnonce.as_str().clone_into(&mut answer.cnonce);
    }
    answer.authorization = authorization(&answer);
    answer
}

fn authorization(answer: &proto::ComputeSipDigestResponse) -> String {
    let proto::ComputeSipDigestResponse { qop, nc, cnonce, opaque, .. } = answer;
    let mut header = format!(
        r#"Digest username="{}", realm="{}", nonce="{}", uri="{}", response="{}", algorithm={}"#,
        answer.username, answer.realm, answer.nonce, answer.uri, answer.response, answer.algorithm,
    );
    if !qop.is_empty() {
        header.extend([r#", cnonce=""#, cnonce, r#"", qop="#, qop, ", nc=", nc]);
    }
    if !opaque.is_empty() {
        header.extend([r#", opaque=""#, opaque, "\""]);
    }
    header
}

/// A cnonce that is not also the rest of a response without `-sess`.
fn cnonce(text: &str, algorithm: Algorithm) -> Result<Nonce, Error> {
    let cnonce = value("cnonce", text, Nonce::parse)?;
    if algorithm.is_session() && cnonce.as_str().contains(':') {
        return Err(Error::field("cnonce", Invalid("must not have a colon with -sess")));
    }
    Ok(cnonce)
}

/// A nonce that is not also the begin of a response with qop.
fn nonce(text: &str, qop: Option<Qop>) -> Result<Nonce, Error> {
    let nonce = value("nonce", text, Nonce::parse)?;
    if qop.is_none() && nonce.reads_as_qop() {
        return Err(Error::field("nonce", Invalid("must not end in a qop value")));
    }
    Ok(nonce)
}

/// Parses a value of a header, which may still have its quotes.
fn value<'a, T>(
    path: &str,
    text: &'a str,
    parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    field(path, unquoted(text), parse)
}
