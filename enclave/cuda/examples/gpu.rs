//! Says whether this build and this machine have what the worker needs to compute on a GPU. Trusts
//! nobody and changes nothing.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::ExitCode;

use chrysalis_cuda::{Device, LIBRARY, embedded};

/// Nothing is wrong with a machine that has no GPU: it is said, and the exit code is 0.
fn main() -> ExitCode {
    for image in embedded() {
        let (major, minor) = image.capability;
        println!("kernels for compute capability {major}.{minor}: {} bytes", image.code.len());
    }
    match Device::open(Path::new(LIBRARY), embedded()) {
        Ok(device) => println!("ready: {:?}", device.info()),
        Err(error) => println!("{}: {error}", error.code()),
    }
    ExitCode::SUCCESS
}
