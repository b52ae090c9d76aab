//! One GPU: its driver, context, queue and kernels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::{Driver, Handle};
use crate::error::CudaError;
use crate::kernel::Kernel;

/// A GPU with the kernels on it, and one queue of work. A clone is the same.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Inner>);

/// What a [`Device`] is. Everything queued on it is done in order.
pub(crate) struct Inner {
    pub(crate) driver: Driver,
    ordinal: i32,
    context: Handle,
    module: Handle,
    pub(crate) stream: Handle,
    kernels: BTreeMap<Kernel, Handle>,
    info: DeviceInfo,
    /// Copies between host and device.
    pub(crate) crossings: AtomicU64,
    /// Copies that were queued, and how many of them are known to be done.
    pub(crate) queued: AtomicU64,
    pub(crate) done: AtomicU64,
}

/// What the driver says of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// Its compute capability.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// The newest version of CUDA that the driver supports: 13000 is 13.0.
    pub driver: u32,
}

/// Kernels compiled for GPUs of one compute capability.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// Major and minor part. Code runs on the same major part and the same or a later minor one.
    pub capability: (u32, u32),
    /// The module (cubin).
    pub code: &'a [u8],
}

impl Device {
    /// Opens the driver's library, [`LIBRARY`] or one at a path, and takes the first GPU. Waits for the
    /// driver, which may take seconds.
    ///
    /// # Errors
    /// [`CudaError`]: no driver, one that is too old, no GPU, no kernels for it.
    pub fn open(library: &Path, images: &[Image<'_>]) -> Result<Self, CudaError> {
        // Before the driver is asked: a build without kernels has nothing to do with a GPU.
        if images.is_empty() {
            return Err(CudaError::NoKernels);
        }
        let driver = Driver::open(library)?;
        let version = driver.version()?;
        if version < LEAST_DRIVER {
            return Err(CudaError::DriverTooOld { needed: LEAST_DRIVER, got: version });
        }
        if driver.count()? == 0 {
            return Err(CudaError::NoGpu);
        }
        let ordinal = driver.device(0)?;
        let (name, capability) = (driver.name(ordinal)?, driver.capability(ordinal)?);
        let fits = |image: &&Image<'_>| {
            image.capability.0 == capability.0 && image.capability.1 <= capability.1
        };
        let Some(image) = images.iter().filter(fits).max_by_key(|image| image.capability) else {
            let built =
                images.iter().map(|image| format!("{}.{}", image.capability.0, image.capability.1));
            let built = built.collect::<Vec<_>>().join(", ");
            let (major, minor) = capability;
            return Err(CudaError::OtherGpu { name, major, minor, built });
        };
        let context = driver.retain(ordinal)?;
        // From here on dropping it gives everything back.
        let mut inner = Inner {
            driver,
            ordinal,
            context,
            module: 0,
            stream: 0,
            kernels: BTreeMap::new(),
            info: DeviceInfo { name, capability, memory_bytes: 0, driver: version },
            crossings: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
        };
        inner.enter()?;
        (_, inner.info.memory_bytes) = inner.driver.room()?;
        inner.module = inner.driver.load(image.code)?;
        for kernel in Kernel::all() {
            let symbol = kernel.symbol();
            let (function, got) = inner.driver.function(inner.module, &symbol)?;
            let expected = kernel.argument_bytes();
            if got != expected {
                return Err(CudaError::Arguments { kernel: symbol, expected, got });
            }
            inner.kernels.insert(kernel, function);
        }
        inner.stream = inner.driver.stream()?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the driver says of it.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// Copies between host and device so far, in either direction.
    #[must_use]
    pub fn crossings(&self) -> u64 {
        self.0.crossings.load(Ordering::Relaxed)
    }

    /// Bytes of memory that are free.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn free_bytes(&self) -> Result<u64, CudaError> {
        self.0.enter()?;
        Ok(self.0.driver.room()?.0)
    }

    /// Waits until everything that was queued is done; says so if a kernel went wrong.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn wait(&self) -> Result<(), CudaError> {
        self.0.wait()
    }
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Device").field(&self.0.info).finish()
    }
}

impl Inner {
    /// Makes this thread's calls about this device. Cheap; any thread may call.
    pub(crate) fn enter(&self) -> Result<(), CudaError> {
        self.driver.enter(self.context)
    }

    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        self.enter()?;
        let queued = self.queued.load(Ordering::Acquire);
        self.driver.wait(self.stream)?;
        self.done.fetch_max(queued, Ordering::AcqRel);
        Ok(())
    }

    /// The function of a kernel; all of them are there.
    pub(crate) fn function(&self, kernel: Kernel) -> Result<Handle, CudaError> {
        let none = || CudaError::Shape { what: kernel.name() };
        self.kernels.get(&kernel).copied().ok_or_else(none)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        if self.stream != 0 {
            // Nothing of it is left to be used: memory holds a reference to this.
            self.driver.wait(self.stream).ok();
            self.driver.end_stream(self.stream);
        }
        if self.module != 0 {
            self.driver.unload(self.module);
        }
        self.driver.release(self.ordinal);
    }
}

/// The kernels in this binary: none without the feature `embed`.
#[must_use]
pub const fn embedded() -> &'static [Image<'static>] {
    #[cfg(feature = "embed")]
    const IMAGES: &[Image<'static>] = include!(concat!(env!("OUT_DIR"), "/images.rs"));
    #[cfg(not(feature = "embed"))]
    const IMAGES: &[Image<'static>] = &[];
    IMAGES
}

/// The driver's library as the dynamic linker finds it; the number is the interface's.
pub const LIBRARY: &str = "libcuda.so.1";
/// CUDA 13.0, driver 580: what the kernels are compiled for.
const LEAST_DRIVER: u32 = 13000;
