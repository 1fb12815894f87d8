//! Compiles `proto/` with protox, so that no protoc is needed.

use std::path::PathBuf;
use std::{env, error::Error, fs};

use protox::prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};

const SERVICES: [&str; 6] = ["access", "credential", "provider", "rotation", "use", "audit"];

#[expect(clippy::disallowed_methods, reason = "cargo passes the folder in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let files = SERVICES.map(|service| format!("credvault/v1/{service}_service.proto"));
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;

    // The encoded form keeps the sensitivity option, which `prost_types` does not know.
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let secret = secret_messages(&compiler.descriptor_pool());
    if secret.is_empty() {
        return Err("no message carries a secret: is the sensitivity option still there?".into());
    }
    fs::write(out_dir.join("opaque_debug.rs"), opaque_debug(&secret))?;
    fs::write(out_dir.join("rpcs.rs"), rpcs(&compiler.descriptor_pool()))?;
    let mut config = tonic_prost_build::Config::new();
    // Each message knows its descriptor.
    config.enable_type_names();
    // By far the largest of its oneof.
    config.boxed(".credvault.v1.WatchCredentialsResponse.change.credential");
    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::Codec")
        // Nothing connects by itself: `grpc::client` says how.
        .build_transport(false)
        // Ordered maps make the encoding of a request canonical: its fingerprint relies on it.
        .btree_map(".")
        .skip_debug(secret.iter().map(MessageDescriptor::full_name))
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}

/// Messages that can carry a secret, themselves or in a message inside.
fn secret_messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let mut secret: Vec<MessageDescriptor> = Vec::new();
    loop {
        let more: Vec<_> = pool
            .all_messages()
            .filter(|message| !secret.contains(message))
            .filter(|message| {
                message.fields().any(|field| {
                    is_secret(&field)
                        || matches!(field.kind(), Kind::Message(inner) if secret.contains(&inner))
                })
            })
            .collect();
        if more.is_empty() {
            return secret;
        }
        secret.extend(more);
    }
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let Some(option) = field.parent_pool().get_extension_by_name("credvault.v1.sensitivity") else {
        return false;
    };
    let options = field.options();
    let Some(value) = options.get_extension(&option).as_enum_number() else { return false };
    let Kind::Enum(sensitivity) = option.kind() else { return false };
    sensitivity
        .get_value(value)
        .is_some_and(|value| value.name().contains("SECRET") || value.name().contains("DERIVED"))
}

/// A `Debug` for each of them that prints its name and nothing else.
fn opaque_debug(messages: &[MessageDescriptor]) -> String {
    let implementation = |(path, name): (String, String)| {
        format!(
            "impl ::std::fmt::Debug for {path} {{
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {{
                    f.debug_struct(\"{name}\").finish_non_exhaustive()
                }}
            }}\n"
        )
    };
    // What a message may be one of is a type of its own, in a module that is called as the message is.
    let types = messages.iter().flat_map(|message| {
        let module = snake_case(message.name());
        let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        let of_oneof = oneofs.map(move |oneof| {
            let name = pascal_case(oneof.name());
            (format!("{module}::{name}"), name)
        });
        let name = message.name().to_owned();
        of_oneof.chain([(name.clone(), name)]).collect::<Vec<_>>()
    });
    types.map(implementation).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, character) in name.char_indices() {
        if character.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

fn pascal_case(name: &str) -> String {
    let words = name.split('_').filter_map(|word| {
        let (first, rest) = word.split_at_checked(1)?;
        Some(format!("{}{rest}", first.to_ascii_uppercase()))
    });
    words.collect()
}

/// For each request which method it is for and what answers it, so that a client needs no code for any.
fn rpcs(pool: &DescriptorPool) -> String {
    let of_service = |service: ServiceDescriptor| {
        let rpc = |method: MethodDescriptor| {
            let (request, response) = (method.input(), method.output());
            format!(
                "impl crate::grpc::client::Rpc for {} {{
                    type Response = {};
                    const PATH: &'static str = \"/{}/{}\";
                }}\n",
                request.name(),
                response.name(),
                method.parent_service().full_name(),
                method.name()
            )
        };
        // What goes out is one message for each; what comes back may be many.
        let asks_once = |method: &MethodDescriptor| !method.is_client_streaming();
        service.methods().filter(asks_once).map(rpc).collect::<String>()
    };
    pool.services().map(of_service).collect()
}
