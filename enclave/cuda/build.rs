//! Puts compiled kernels into the crate, and the driver of the tests.
//!
//! `embed`: `CHRYSALIS_CUBINS` names a directory with `sm_90.cubin` and `sm_100.cubin`, as
//! `scripts/build-cuda` makes them. `none` gives a build without kernels, which says so when it starts:
//! for lints on a machine without NVIDIA's compiler.
//!
//! `testing`: compiles `stand-in/` with the system's C++ compiler. Without one the tests that need it
//! report themselves as skipped.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)] // a build script's way to speak

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(stand_in)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var_os("CARGO_FEATURE_EMBED").is_some() {
        embed(&out);
    }
    if env::var_os("CARGO_FEATURE_TESTING").is_some() {
        stand_in(&out);
    }
}

fn embed(out: &Path) {
    println!("cargo::rerun-if-env-changed=CHRYSALIS_CUBINS");
    let dir = env::var("CHRYSALIS_CUBINS").unwrap_or_else(|_| {
        panic!(
            "the kernels are not compiled: run scripts/build-cuda, or set CHRYSALIS_CUBINS to the \
             directory with its cubins, or to `none` for a build that can be checked and not used"
        )
    });
    let mut table = String::from("&[");
    if dir != "none" {
        for (major, minor) in ARCHITECTURES {
            let file = Path::new(&dir).join(format!("sm_{major}{minor}.cubin"));
            println!("cargo::rerun-if-changed={}", file.display());
            assert!(file.is_file(), "{} is missing: run scripts/build-cuda", file.display());
            let name = format!("sm_{major}{minor}.cubin");
            std::fs::copy(&file, out.join(&name)).expect("the cubin can be copied");
            write!(
                table,
                "Image {{ capability: ({major}, {minor}), code: include_bytes!(concat!(env!(\
                 \"OUT_DIR\"), \"/{name}\")) }}, "
            )
            .expect("a string takes it");
        }
    }
    table.push(']');
    std::fs::write(out.join("images.rs"), table).expect("OUT_DIR can be written");
}

fn stand_in(out: &Path) {
    for dir in ["stand-in", "kernels"] {
        println!("cargo::rerun-if-changed={dir}");
    }
    let library = out.join("libcuda.so.1");
    let mut compiler = Command::new("c++");
    compiler.args(FLAGS).arg("-o").arg(&library).arg("stand-in/driver.cc");
    match compiler.status() {
        Ok(status) => {
            assert!(status.success(), "the driver of the tests does not compile");
            println!("cargo::rustc-cfg=stand_in");
        }
        Err(_) => println!("cargo::warning=there is no C++ compiler: tests of kernels will skip"),
    }
}

/// Compute capabilities that kernels are compiled for: Hopper and Blackwell.
const ARCHITECTURES: [(u32, u32); 2] = [(9, 0), (10, 0)];
/// No contraction: a product and a sum round apart unless the source says `fmaf`.
const FLAGS: [&str; 7] =
    ["-std=c++17", "-O2", "-march=x86-64-v3", "-ffp-contract=off", "-shared", "-fPIC", "-w"];
