//! Which RPC a path means, for the metrics: those of the descriptors, and `other` for the rest, since a caller may
//! put anything into a path.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::proto;
use crate::defect::{Defect, planted};
use crate::telemetry::metrics::{Rpc, Running};

static RPCS: LazyLock<Rpcs> = LazyLock::new(Rpcs::of_descriptors);

struct Rpcs {
    by_path: HashMap<String, Rpc>,
    other: Rpc,
}

impl Rpcs {
    fn of_descriptors() -> Self {
        let mut by_path = HashMap::new();
        for descriptors in [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = FileDescriptorSet::decode(descriptors).expect("compiled into this program");
            for file in set.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        let kind = match (method.client_streaming(), method.server_streaming()) {
                            (false, false) => "unary",
                            (false, true) => "server_stream",
                            (true, false) => "client_stream",
                            (true, true) => "bidi_stream",
                        };
                        let rpc = Rpc::new(kind, &name, method.name());
                        by_path.insert(format!("/{name}/{}", method.name()), rpc);
                    }
                }
            }
        }
        Self { by_path, other: Rpc::new("unary", "other", "other") }
    }
}

/// Makes the series of every RPC.
pub(super) fn prepare() {
    LazyLock::force(&RPCS);
}

/// Counts a call of `path` that begins.
pub(super) fn begin(path: &str) -> Running {
    let rpcs = &*RPCS;
    if planted(Defect::LabelPaths) && !rpcs.by_path.contains_key(path) {
        let rpc: &'static Rpc = Box::leak(Box::new(Rpc::new("unary", "other", path)));
        return rpc.begin();
    }
    rpcs.by_path.get(path).unwrap_or(&rpcs.other).begin()
}
