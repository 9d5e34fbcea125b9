//! Generates the code of `proto/`: protox parses it here, so nobody needs `protoc`.

use std::error::Error;

const ROOTS: [&str; 11] = [
    "auth.proto",
    "content.proto",
    "control.proto",
    "filesync.proto",
    "fsutil.proto",
    "gateway.proto",
    "health.proto",
    "ops.proto",
    "secrets.proto",
    "ssh.proto",
    "upload.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(ROOTS, ["proto"])?;
    let mut config = prost_build::Config::new();
    // Maps on the wire are sorted by key, so that the same request has the same bytes.
    config.btree_map(["."]);
    // File and blob data is handed on without copying.
    config.bytes([
        ".fsutil.types.Packet.data",
        ".moby.buildkit.v1.BytesMessage.data",
        ".moby.filesync.v1.BytesMessage.data",
        ".moby.sshforward.v1.BytesMessage.data",
        ".moby.upload.v1.BytesMessage.data",
        ".containerd.services.content.v1.ReadContentResponse.data",
        ".containerd.services.content.v1.WriteContentRequest.data",
    ]);
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
