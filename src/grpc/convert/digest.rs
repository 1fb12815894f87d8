//! SIP digests on the wire.

use super::field;
use crate::credential::{Realm, Username};
use crate::digest::{
    Algorithm, Auth, BodyHash, Digest, Method, Nonce, NonceCount, Qop, Response, Source, Uri,
    unquoted,
};
use crate::grpc::proto;
use crate::name::Invalid;
use crate::vault::Error;

/// What a client answered a challenge with.
pub(in crate::grpc) fn digest(
    request: &proto::VerifySipDigestRequest,
) -> Result<(Digest, Response), Error> {
    let algorithm = value("algorithm", &request.algorithm, Algorithm::parse)?;
    let qop = value("qop", &request.qop, Qop::parse)?;
    if qop.is_none() && algorithm.is_session() {
        return Err(Error::field("qop", Invalid("is required with -sess")));
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
    Ok((digest, response))
}

/// Parses a value of a header, which may still have its quotes.
fn value<'a, T>(
    path: &str,
    text: &'a str,
    parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    field(path, unquoted(text), parse)
}

/// Where the client is, if the edge says so.
pub(in crate::grpc) fn source(
    request: &proto::VerifySipDigestRequest,
) -> Result<Option<Source>, Error> {
    if request.source.is_empty() {
        return Ok(None);
    }
    field("source", &request.source, Source::parse).map(Some)
}
