//! The committed code in `src/generated` is what `proto/agent.proto` says.
//!
//! After a change of the .proto: `UPDATE_GENERATED=1 cargo test -p agent-api --test generated`.

use std::fs;
use std::path::Path;

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

#[test]
fn generated_code_matches_the_proto() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = crate_dir.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();
    Codegen::new()
        .out_dir(fresh.path())
        .include(crate_dir.join("proto"))
        .input(crate_dir.join("proto/agent.proto"))
        .rust_protobuf()
        // The lite runtime: no reflection, which would be a good part of the agent's size.
        .rust_protobuf_customize(ProtobufCustomize::default().lite_runtime(true).gen_mod_rs(false))
        .customize(Customize { async_all: true, ..Default::default() })
        .run()
        .unwrap();

    let mut names: Vec<_> =
        fs::read_dir(fresh.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["agent.rs", "agent_ttrpc.rs"]);
    for name in names {
        let fresh = fs::read_to_string(fresh.path().join(&name)).unwrap();
        let path = committed.join(&name);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == fresh,
            "{} is stale: run UPDATE_GENERATED=1 cargo test -p agent-api --test generated",
            path.display()
        );
    }
}
