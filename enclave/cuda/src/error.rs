//! Why a device is not used, or a step on it did not happen.

/// One variant for each way to be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library is not there.
    #[error("there is no NVIDIA driver here: {looked_for} could not be opened")]
    NoDriver {
        /// The library's name or path.
        looked_for: String,
    },
    /// The driver's library lacks a function.
    #[error("the NVIDIA driver has no function {name}; it is too old, or none")]
    NoFunction {
        /// Its name in `cuda.h`.
        name: &'static str,
    },
    /// The driver is older than the kernels.
    #[error("the NVIDIA driver supports CUDA {got}, and the kernels need {needed} (driver 580)")]
    DriverTooOld {
        /// 1000 times the major version, and 10 times the minor one.
        needed: u32,
        /// The same of the driver.
        got: u32,
    },
    /// The driver sees no GPU.
    #[error("the NVIDIA driver sees no GPU")]
    NoGpu,
    /// This binary has no kernels.
    #[error("this build has no kernels for a GPU; scripts/build-cuda makes one that has")]
    NoKernels,
    /// What should be kernels is no whole module.
    #[error("a module of {bytes} bytes is no ELF file, or its tables point past its end")]
    Image {
        /// Its length.
        bytes: usize,
    },
    /// No kernels were compiled for this GPU.
    #[error("{name} has compute capability {major}.{minor}, and kernels are compiled for {built}")]
    OtherGpu {
        /// As the driver names it.
        name: String,
        /// Its compute capability.
        major: u32,
        /// The minor part.
        minor: u32,
        /// Those of the kernels.
        built: String,
    },
    /// A kernel takes other arguments than the host gives.
    #[error(
        "kernel {kernel} takes {got} bytes of arguments, not {expected}: they are of other sources"
    )]
    Arguments {
        /// Its name.
        kernel: String,
        /// Bytes the host gives.
        expected: usize,
        /// Bytes it takes.
        got: usize,
    },
    /// Memory of the device, or of the host for copies.
    #[error("the GPU has no {bytes} bytes left ({free} are free)")]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
        /// What was free.
        free: u64,
    },
    /// A launch or a copy that would reach past a buffer: nothing was done.
    #[error("{what} would reach past a buffer, or has no size")]
    Shape {
        /// The kernel, or the copy.
        what: &'static str,
    },
    /// A call was refused.
    #[error("the NVIDIA driver answers {name} ({code}) to {call}")]
    Call {
        /// The function's name in `cuda.h`.
        call: &'static str,
        /// The code it returned.
        code: i32,
        /// The code's name.
        name: String,
    },
}

impl CudaError {
    /// Stable code for scripts and support.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoDriver { .. } => "E-CUDA-NONE",
            Self::NoFunction { .. } => "E-CUDA-FUNCTION",
            Self::DriverTooOld { .. } => "E-CUDA-DRIVER",
            Self::NoGpu => "E-CUDA-NO-GPU",
            Self::NoKernels => "E-CUDA-NO-KERNELS",
            Self::Image { .. } => "E-CUDA-IMAGE",
            Self::OtherGpu { .. } => "E-CUDA-OTHER-GPU",
            Self::Arguments { .. } => "E-CUDA-ARGUMENTS",
            Self::OutOfMemory { .. } => "E-CUDA-MEMORY",
            Self::Shape { .. } => "E-CUDA-SHAPE",
            Self::Call { .. } => "E-CUDA-CALL",
        }
    }
}
