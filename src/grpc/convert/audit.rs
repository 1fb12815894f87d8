//! Audit entries on the wire.

use super::{count, timestamp};
use crate::audit::Linked;
use crate::grpc::proto;

/// An entry with its place in the chain.
pub(in crate::grpc) fn to_wire(linked: Linked) -> proto::AuditEntry {
    let Linked { link, entry } = linked;
    proto::AuditEntry {
        sequence: count(link.sequence),
        time: Some(timestamp(entry.time)),
        principal: entry.actor.principal,
        method: entry.method,
        resource: entry.resource,
        outcome: entry.outcome,
        version_before: count(entry.version_before),
        version_after: count(entry.version_after),
        detail: entry.detail,
        request_id: entry.request_id,
        reason: entry.reason,
        peer: entry.actor.peer,
        previous_hash: link.previous_hash.to_vec(),
        hash: link.hash.to_vec(),
    }
}
