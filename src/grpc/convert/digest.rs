//! SIP digests on the wire.

use super::field;
use crate::credential::{Realm, Username};
use crate::digest::{Algorithm, Auth, Digest, Method, Nonce, NonceCount, Response, Source, Uri};
use crate::grpc::proto;
use crate::name::Invalid;
use crate::vault::Error;

/// What a client answered a challenge with.
pub(in crate::grpc) fn digest(
    request: &proto::VerifySipDigestRequest,
) -> Result<(Digest, Response), Error> {
    let algorithm = field("algorithm", &request.algorithm, Algorithm::parse)?;
    let auth = match request.qop.to_ascii_lowercase().as_str() {
        "" => {
            for (path, text) in [("nc", &request.nc), ("cnonce", &request.cnonce)] {
                if !text.is_empty() {
                    return Err(Error::field(path, Invalid("must be empty without qop")));
                }
            }
            None
        }
        "auth" => Some(Auth {
            nc: field("nc", &request.nc, NonceCount::parse)?,
            cnonce: field("cnonce", &request.cnonce, Nonce::parse)?,
        }),
        _ => return Err(Error::field("qop", Invalid("must be empty or auth"))),
    };
    let digest = Digest {
        username: field("username", &request.username, Username::parse)?,
        realm: field("realm", &request.realm, Realm::parse)?,
        method: field("method", &request.method, Method::parse)?,
        uri: field("uri", &request.uri, Uri::parse)?,
        nonce: field("nonce", &request.nonce, Nonce::parse)?,
        auth,
        algorithm,
    };
    let response = field("response", &request.response, |text| Response::parse(text, algorithm))?;
    Ok((digest, response))
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
