//! Compiles the C program for the kernel and generates the types that it shares with us.
use libbpf_cargo::SkeletonBuilder;
use std::{env, ffi::OsString, path::PathBuf, process::Command};

const SOURCE: &str = "src/datapath/bpf/ringfence.bpf.c";

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=src/datapath/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").map_err(|e| format!("CARGO_CFG_TARGET_ARCH: {e}"))?;
    SkeletonBuilder::new()
        .source(SOURCE)
        .obj(out.join("ringfence.bpf.o"))
        .clang(clang()?)
        // Debian and its like keep <asm/types.h> in a directory of the architecture, or in one of another architecture's tools.
        .clang_args([
            format!("-I/usr/include/{arch}-linux-gnu"),
            format!("-idirafter/usr/{arch}-linux-gnu/include"),
            // What every kernel that has the hook can do: 32 bit arithmetic, and atomics that return something.
            "-mcpu=v3".into(),
            // Addresses and what is remembered are compared by words.
            "-fno-strict-aliasing".into(),
            "-Wall".into(),
            "-Werror".into(),
        ])
        .build_and_generate(out.join("ringfence.skel.rs"))
        .map_err(|e| format!("{SOURCE}: {e:#}"))
}

/// The compiler that `CLANG` names, or the first that answers.
fn clang() -> Result<OsString, String> {
    if let Some(named) = env::var_os("CLANG") {
        return Ok(named);
    }
    let numbered = (14..=21).rev().map(|version| format!("clang-{version}"));
    std::iter::once("clang".to_owned())
        .chain(numbered)
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success()))
        .map(OsString::from)
        .ok_or_else(|| {
            "no clang to compile the program for the kernel: apt-get install clang libelf-dev zlib1g-dev pkg-config"
                .into()
        })
}
