//! A device without a GPU, for tests: the kernels compiled for the processor, behind a stand-in for the
//! driver's library (`stand-in/`). Not part of any binary.

use std::path::Path;

use crate::device::{Device, Image};
use crate::error::CudaError;

/// The stand-in, which says that it is a Hopper; `None` where there was no C++ compiler, and the reason on
/// standard output.
///
/// # Errors
/// As [`Device::open`].
#[allow(clippy::print_stdout)]
pub fn stand_in() -> Result<Option<Device>, CudaError> {
    let Some(library) = library() else {
        println!("skipped: the kernels were not compiled for tests, there is no C++ compiler");
        return Ok(None);
    };
    Device::open(library, &[image((9, 0))]).map(Some)
}

/// What the stand-in takes for a module.
#[must_use]
pub const fn image(capability: (u32, u32)) -> Image<'static> {
    Image { capability, code: &IMAGE }
}

/// Where the stand-in's library is.
#[must_use]
pub fn library() -> Option<&'static Path> {
    #[cfg(stand_in)]
    let library = Some(concat!(env!("OUT_DIR"), "/libcuda.so.1"));
    #[cfg(not(stand_in))]
    let library: Option<&str> = None;
    library.map(Path::new)
}

const IMAGE: [u8; 64] = {
    let (mut image, name) = ([0; 64], *b"stand-in");
    let mut i = 0;
    while i < 8 {
        #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // at compile time
        {
            image[i] = name[i];
            i += 1;
        }
    }
    image
};
