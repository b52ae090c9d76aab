//! A device for tests of this and other crates, without a GPU: the kernels compiled for the processor,
//! behind a stand-in for the driver's library (`stand-in/`). Not part of any binary.
//!
//! On a machine with a GPU the same tests run on it, if they are built with the feature `embed` and
//! `CHRYSALIS_GPU` is set: `scripts/build-cuda` says how.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::device::{Device, Image, LIBRARY, embedded};
use crate::error::CudaError;

/// The stand-in, which says that it is a Hopper, or the GPU if [`on_gpu`]. `None` where there was no C++
/// compiler, and the reason on standard output.
///
/// # Errors
/// As [`Device::open`].
#[allow(clippy::print_stdout)]
pub fn device() -> Result<Option<Device>, CudaError> {
    if on_gpu() {
        return Device::open(Path::new(LIBRARY), embedded()).map(Some);
    }
    let Some(library) = library() else {
        println!("skipped: the kernels were not compiled for tests, there is no C++ compiler");
        return Ok(None);
    };
    Device::open(library, &[image((9, 0))]).map(Some)
}

/// The stand-in compiled with these macros defined, which make it fail: `stand-in/driver.cc` says how. `None`
/// as of [`device`], and on a GPU, which does not fail when it is told to.
///
/// # Errors
/// As [`Device::open`].
pub fn failing(defines: &[&str]) -> Result<Option<Device>, CudaError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if on_gpu() || library().is_none() {
        return Ok(None);
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("chrysalis-stand-in-{}-{number}.so", std::process::id());
    let library = std::env::temp_dir().join(name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/stand-in/driver.cc");
    let mut compiler = Command::new("c++");
    compiler.args([
        "-std=c++17",
        "-O1",
        "-march=x86-64-v3",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
    ]);
    // Or kernels of both libraries would have the same shared memory.
    compiler.args(["-fno-gnu-unique", "-w", "-o"]).arg(&library).arg(source);
    compiler.args(defines.iter().map(|define| format!("-D{define}")));
    assert!(compiler.status().is_ok_and(|status| status.success()), "it does not compile");
    let device = Device::open(&library, &[image((9, 0))]);
    // It is loaded by now.
    drop(std::fs::remove_file(&library));
    device.map(Some)
}

/// Whether tests run on a GPU: `CHRYSALIS_GPU` is set.
#[must_use]
pub fn on_gpu() -> bool {
    std::env::var_os("CHRYSALIS_GPU").is_some()
}

/// What the stand-in takes for a module.
#[must_use]
pub const fn image(capability: (u32, u32)) -> Image<'static> {
    Image { capability, code: &IMAGE }
}

/// Where the stand-in's library is; not on a GPU, where it may not have come along.
#[must_use]
pub fn library() -> Option<&'static Path> {
    if on_gpu() {
        return None;
    }
    #[cfg(stand_in)]
    let library = Some(concat!(env!("OUT_DIR"), "/libcuda.so.1"));
    #[cfg(not(stand_in))]
    let library: Option<&str> = None;
    library.map(Path::new)
}

/// A file without tables, and a name where the stand-in looks for it.
const IMAGE: [u8; 64] = {
    let (mut image, name) = ([0; 64], *b"\x7fELF\x02\x01\0\0\0\0\0\0\0\0\0\0stand-in");
    let mut i = 0;
    while i < name.len() {
        #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // at compile time
        {
            image[i] = name[i];
            i += 1;
        }
    }
    image
};
