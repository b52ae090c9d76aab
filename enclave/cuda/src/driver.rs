//! The calls into the library of NVIDIA's driver, `libcuda`, which is opened when it is needed: a build
//! needs no GPU, and a machine without one has an honest answer. Everything it gives is checked; that its
//! functions do what `cuda.h` says is trusted.
//!
//! JUSTIFICATION: there is no other way to a GPU than this C interface. A binding of all of it (`cudarc`)
//! adds some thousand functions to what must be trusted, and panics where the library is missing, for the
//! two dozen calls made here; and behind this small interface the tests can put a library of their own.
//!
//! Names and signatures are those of NVIDIA's public header `cuda.h` of CUDA 13.0. Handles are opaque
//! pointers there and integers here: nobody looks through them.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::NonNull;

use crate::elf;
use crate::error::CudaError;

/// `CUcontext`, `CUmodule`, `CUfunction` or `CUstream`.
pub(crate) type Handle = usize;
/// `CUdeviceptr`.
pub(crate) type Address = u64;

/// The functions used, by their names in the header: each takes what is listed and returns a code.
macro_rules! functions {
    ($($field:ident $symbol:literal ($($argument:ty),*))*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl Functions {
            fn of(library: NonNull<c_void>) -> Result<Self, CudaError> {
                Ok(Self {
                    // SAFETY: each symbol is taken as the type that `cuda.h` declares under its name; a
                    // function pointer has the size and representation of a data pointer on every
                    // POSIX system.
                    $($field: unsafe {
                        std::mem::transmute::<
                            NonNull<c_void>,
                            unsafe extern "C" fn($($argument),*) -> c_int,
                        >(symbol(library, concat!($symbol, "\0"))?)
                    },)*
                })
            }
        }
    };
}

functions! {
    init "cuInit" (c_uint)
    version "cuDriverGetVersion" (*mut c_int)
    count "cuDeviceGetCount" (*mut c_int)
    device "cuDeviceGet" (*mut c_int, c_int)
    name "cuDeviceGetName" (*mut c_char, c_int, c_int)
    attribute "cuDeviceGetAttribute" (*mut c_int, c_int, c_int)
    retain "cuDevicePrimaryCtxRetain" (*mut Handle, c_int)
    release "cuDevicePrimaryCtxRelease_v2" (c_int)
    enter "cuCtxSetCurrent" (Handle)
    room "cuMemGetInfo_v2" (*mut usize, *mut usize)
    load "cuModuleLoadData" (*mut Handle, *const c_void)
    unload "cuModuleUnload" (Handle)
    function "cuModuleGetFunction" (*mut Handle, Handle, *const c_char)
    parameter "cuFuncGetParamInfo" (Handle, usize, *mut usize, *mut usize)
    alloc "cuMemAlloc_v2" (*mut Address, usize)
    free "cuMemFree_v2" (Address)
    alloc_host "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint)
    free_host "cuMemFreeHost" (*mut c_void)
    stream "cuStreamCreate" (*mut Handle, c_uint)
    end_stream "cuStreamDestroy_v2" (Handle)
    wait "cuStreamSynchronize" (Handle)
    up "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle)
    down "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle)
    fill "cuMemsetD8Async" (Address, u8, usize, Handle)
    launch "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle,
        *mut *mut c_void, *mut *mut c_void
    )
    error_name "cuGetErrorName" (c_int, *mut *const c_char)
}

/// The driver's library, initialised. It stays loaded as long as the process runs.
pub(crate) struct Driver {
    functions: Functions,
}

// Of the C library, since glibc 2.34 without another one to link.
unsafe extern "C" {
    fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

impl Driver {
    /// Opens the library at `path`, or where the system finds a bare name, and initialises it.
    pub(crate) fn open(path: &Path) -> Result<Self, CudaError> {
        use std::os::unix::ffi::OsStrExt as _;
        let none = || CudaError::NoDriver { looked_for: path.display().to_string() };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| none())?;
        // SAFETY: `name` is a C string that lives across the call. What the library runs when it is
        // loaded is the driver's, which the guest's measurement covers.
        let library = unsafe { dlopen(name.as_ptr(), RTLD_NOW) };
        let functions = Functions::of(NonNull::new(library).ok_or_else(none)?)?;
        let driver = Self { functions };
        // SAFETY: the function takes a number. It may be called more than once and from any thread.
        match unsafe { (driver.functions.init)(0) } {
            ERROR_NO_DEVICE => Err(CudaError::NoGpu),
            code => driver.check("cuInit", code),
        }?;
        Ok(driver)
    }

    /// The newest version of CUDA it supports: 13000 is 13.0.
    pub(crate) fn version(&self) -> Result<u32, CudaError> {
        // SAFETY: as in `number`.
        self.number("cuDriverGetVersion", |out| unsafe { (self.functions.version)(out) })
    }

    /// GPUs there are.
    pub(crate) fn count(&self) -> Result<u32, CudaError> {
        // SAFETY: as in `number`.
        self.number("cuDeviceGetCount", |out| unsafe { (self.functions.count)(out) })
    }

    /// The GPU at a place.
    pub(crate) fn device(&self, at: u32) -> Result<c_int, CudaError> {
        let (mut device, at) = (0, c_int::try_from(at).unwrap_or(c_int::MAX));
        // SAFETY: the function writes an integer to memory that is borrowed exclusively.
        self.check("cuDeviceGet", unsafe { (self.functions.device)(&raw mut device, at) })?;
        Ok(device)
    }

    /// Its name.
    pub(crate) fn name(&self, device: c_int) -> Result<String, CudaError> {
        let mut name = [0u8; NAME_BYTES];
        let most = c_int::try_from(NAME_BYTES).unwrap_or(0);
        // SAFETY: the function writes at most `most` bytes, the last of them 0, to memory that is
        // borrowed exclusively.
        let code = unsafe { (self.functions.name)(name.as_mut_ptr().cast(), most, device) };
        self.check("cuDeviceGetName", code)?;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }

    /// Its compute capability.
    pub(crate) fn capability(&self, device: c_int) -> Result<(u32, u32), CudaError> {
        let one = |attribute| {
            self.number("cuDeviceGetAttribute", |out| {
                // SAFETY: as in `number`.
                unsafe { (self.functions.attribute)(out, attribute, device) }
            })
        };
        Ok((one(CAPABILITY_MAJOR)?, one(CAPABILITY_MINOR)?))
    }

    /// The context that all users of a device in a process share.
    pub(crate) fn retain(&self, device: c_int) -> Result<Handle, CudaError> {
        // SAFETY: as in `handle`.
        self.handle("cuDevicePrimaryCtxRetain", |out| unsafe {
            (self.functions.retain)(out, device)
        })
    }

    /// Gives the context of a device back.
    pub(crate) fn release(&self, device: c_int) {
        // SAFETY: the function takes a number; the caller has no handle of the context any more.
        unsafe { (self.functions.release)(device) };
    }

    /// Makes a context the one that this thread's calls are about.
    pub(crate) fn enter(&self, context: Handle) -> Result<(), CudaError> {
        // SAFETY: the handle came from `retain`, and was not released.
        self.check("cuCtxSetCurrent", unsafe { (self.functions.enter)(context) })
    }

    /// Bytes of memory that are free, and all.
    pub(crate) fn room(&self) -> Result<(u64, u64), CudaError> {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: the function writes two integers to memory that is borrowed exclusively.
        let code = unsafe { (self.functions.room)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", code)?;
        Ok((free as u64, total as u64))
    }

    /// Loads a module of machine code.
    pub(crate) fn load(&self, image: &[u8]) -> Result<Handle, CudaError> {
        if !elf::is_whole(image) {
            return Err(CudaError::Image { bytes: image.len() });
        }
        // Bytes of a binary lie anywhere, and the tables of a module at multiples of eight.
        let mut aligned = vec![0u64; image.len().div_ceil(8)];
        for (to, from) in aligned.iter_mut().zip(image.chunks(8)) {
            let mut word = [0; 8];
            word.get_mut(..from.len()).unwrap_or_default().copy_from_slice(from);
            *to = u64::from_ne_bytes(word);
        }
        // SAFETY: as in `handle`. A module says itself how long it is, and that was checked; the driver
        // copies what it needs before it returns.
        self.handle("cuModuleLoadData", |out| unsafe {
            (self.functions.load)(out, aligned.as_ptr().cast())
        })
    }

    /// Ends a module.
    pub(crate) fn unload(&self, module: Handle) {
        // SAFETY: the handle came from `load`; its functions are not used any more.
        unsafe { (self.functions.unload)(module) };
    }

    /// A kernel of a module, and the bytes of its one argument.
    pub(crate) fn function(
        &self,
        module: Handle,
        name: &str,
    ) -> Result<(Handle, usize), CudaError> {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: as in `handle`; `name` is a C string that lives across the call.
        let function = self.handle("cuModuleGetFunction", |out| unsafe {
            (self.functions.function)(out, module, name.as_ptr())
        })?;
        let (mut offset, mut size) = (0usize, 0usize);
        // SAFETY: the function writes two integers to memory that is borrowed exclusively.
        let code =
            unsafe { (self.functions.parameter)(function, 0, &raw mut offset, &raw mut size) };
        self.check("cuFuncGetParamInfo", code)?;
        Ok((function, size))
    }

    /// Memory of the device, holding anything.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Address, CudaError> {
        let mut address = 0;
        // SAFETY: the function writes an integer to memory that is borrowed exclusively.
        let code = unsafe { (self.functions.alloc)(&raw mut address, bytes) };
        if code == ERROR_OUT_OF_MEMORY {
            let free = self.room().map_or(0, |(free, _)| free);
            return Err(CudaError::OutOfMemory { bytes: bytes as u64, free });
        }
        self.check("cuMemAlloc", code)?;
        Ok(address)
    }

    /// Frees memory of the device.
    pub(crate) fn free(&self, address: Address) {
        // SAFETY: the address came from `alloc`; the driver waits for kernels that use it.
        unsafe { (self.functions.free)(address) };
    }

    /// Memory of the host that the device copies from and to, holding anything.
    pub(crate) fn alloc_host(&self, bytes: usize) -> Result<NonNull<u8>, CudaError> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the function writes a pointer to memory that is borrowed exclusively.
        let code = unsafe { (self.functions.alloc_host)(&raw mut out, bytes, 0) };
        if code == ERROR_OUT_OF_MEMORY {
            return Err(CudaError::OutOfMemory { bytes: bytes as u64, free: 0 });
        }
        self.check("cuMemHostAlloc", code)?;
        NonNull::new(out.cast()).ok_or_else(|| self.refused("cuMemHostAlloc", code))
    }

    /// Frees memory of the host.
    pub(crate) fn free_host(&self, at: NonNull<u8>) {
        // SAFETY: the pointer came from `alloc_host`, and no copy is in progress.
        unsafe { (self.functions.free_host)(at.as_ptr().cast()) };
    }

    /// A queue of work. It does not wait for the queue that is always there.
    pub(crate) fn stream(&self) -> Result<Handle, CudaError> {
        // SAFETY: as in `handle`.
        self.handle("cuStreamCreate", |out| unsafe {
            (self.functions.stream)(out, STREAM_NON_BLOCKING)
        })
    }

    /// Ends a queue.
    pub(crate) fn end_stream(&self, stream: Handle) {
        // SAFETY: the handle came from `stream` and is not used any more.
        unsafe { (self.functions.end_stream)(stream) };
    }

    /// Waits for all that was queued.
    pub(crate) fn wait(&self, stream: Handle) -> Result<(), CudaError> {
        // SAFETY: the handle came from `stream`.
        self.check("cuStreamSynchronize", unsafe { (self.functions.wait)(stream) })
    }

    /// Queues a copy to the device.
    ///
    /// # Safety
    /// Until the queue was waited for, `from` is `bytes` of `alloc_host` that nobody writes to; `to` is
    /// in one allocation with as many behind it.
    pub(crate) unsafe fn up(
        &self,
        to: Address,
        from: NonNull<u8>,
        bytes: usize,
        stream: Handle,
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        let code = unsafe { (self.functions.up)(to, from.as_ptr().cast(), bytes, stream) };
        self.check("cuMemcpyHtoDAsync", code)
    }

    /// Queues a copy from the device.
    ///
    /// # Safety
    /// As of [`Driver::up`], with the sides changed: nobody reads `to` either.
    pub(crate) unsafe fn down(
        &self,
        to: NonNull<u8>,
        from: Address,
        bytes: usize,
        stream: Handle,
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        let code = unsafe { (self.functions.down)(to.as_ptr().cast(), from, bytes, stream) };
        self.check("cuMemcpyDtoHAsync", code)
    }

    /// Queues zeros.
    ///
    /// # Safety
    /// `at` is in one allocation with `bytes` behind it.
    pub(crate) unsafe fn zero(
        &self,
        at: Address,
        bytes: usize,
        stream: Handle,
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        let code = unsafe { (self.functions.fill)(at, 0, bytes, stream) };
        self.check("cuMemsetD8Async", code)
    }

    /// Queues a kernel over a grid of blocks of `threads`.
    ///
    /// # Safety
    /// `argument` is what the kernel of `function` takes, and says nothing that is not in memory of the
    /// device.
    pub(crate) unsafe fn launch<T: Copy>(
        &self,
        function: Handle,
        [x, y, z]: [u32; 3],
        threads: u32,
        argument: &T,
        stream: Handle,
    ) -> Result<(), CudaError> {
        let mut parameters = [std::ptr::from_ref(argument).cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies the argument, whose size was compared when the kernel was found,
        // before it returns; the rest is the caller's promise.
        let code = unsafe {
            (self.functions.launch)(
                function,
                x,
                y,
                z,
                threads,
                1,
                1,
                0,
                stream,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.check("cuLaunchKernel", code)
    }

    /// A number that `call` writes.
    fn number(
        &self,
        name: &'static str,
        call: impl FnOnce(*mut c_int) -> c_int,
    ) -> Result<u32, CudaError> {
        let mut out = 0;
        // The function writes one integer to memory that is borrowed exclusively.
        let code = call(&raw mut out);
        self.check(name, code)?;
        u32::try_from(out).map_err(|_| self.refused(name, code))
    }

    /// A handle that `call` writes.
    fn handle(
        &self,
        name: &'static str,
        call: impl FnOnce(*mut Handle) -> c_int,
    ) -> Result<Handle, CudaError> {
        let mut out = 0;
        // The function writes one handle to memory that is borrowed exclusively.
        let code = call(&raw mut out);
        self.check(name, code)?;
        if out == 0 { Err(self.refused(name, code)) } else { Ok(out) }
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), CudaError> {
        if code == SUCCESS { Ok(()) } else { Err(self.refused(call, code)) }
    }

    fn refused(&self, call: &'static str, code: c_int) -> CudaError {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the function writes a pointer to a constant of the library, or nothing.
        unsafe { (self.functions.error_name)(code, &raw mut name) };
        let name = NonNull::new(name.cast_mut()).map(|name| {
            // SAFETY: a C string that lives as long as the library, which is never unloaded.
            unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
        });
        CudaError::Call { call, code, name: name.unwrap_or_default() }
    }
}

/// The place of a function; `name` ends with a zero.
fn symbol(library: NonNull<c_void>, name: &'static str) -> Result<NonNull<c_void>, CudaError> {
    let text = name.trim_end_matches('\0');
    let none = || CudaError::NoFunction { name: text };
    let name = CStr::from_bytes_with_nul(name.as_bytes()).map_err(|_| none())?;
    // SAFETY: the handle is of a library that is never closed, and the name a C string.
    NonNull::new(unsafe { dlsym(library.as_ptr(), name.as_ptr()) }).ok_or_else(none)
}

const RTLD_NOW: c_int = 2;
const SUCCESS: c_int = 0;
/// `CUDA_ERROR_OUT_OF_MEMORY`.
const ERROR_OUT_OF_MEMORY: c_int = 2;
/// `CUDA_ERROR_NO_DEVICE`.
const ERROR_NO_DEVICE: c_int = 100;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`.
const CAPABILITY_MAJOR: c_int = 75;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`.
const CAPABILITY_MINOR: c_int = 76;
/// `CU_STREAM_NON_BLOCKING`.
const STREAM_NON_BLOCKING: c_uint = 1;
/// Longest name asked for.
const NAME_BYTES: usize = 128;
