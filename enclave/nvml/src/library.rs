//! The calls into NVIDIA's management library (NVML), which comes with the driver and is opened when it
//! is needed: a build needs no GPU, and a machine without one has an honest answer. The library is part
//! of the measured guest and is trusted as the driver is; lengths it returns are checked all the same.
//!
//! JUSTIFICATION: there is no other way to a GPU's report than this C interface. A binding of all of it
//! (`nvml-wrapper`) would add some two thousand functions and three crates to what must be trusted, for
//! the six calls made here; `libloading` would add one for `dlopen`.
//!
//! Names, sizes and layouts are those of NVIDIA's public header `nvml.h` (driver 535 and later); a test
//! compiles a stand-in from the same declarations in C.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::NonNull;

use chrysalis_tee::TeeError;

/// An initialised library. It stays loaded as long as the process runs: it starts threads and installs
/// handlers, so that unloading it is not safe.
pub(crate) struct Library {
    functions: Functions,
}

/// A device of a [`Library`].
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a> {
    raw: NonNull<c_void>,
    library: PhantomData<&'a Library>,
}

/// `nvmlConfComputeSystemState_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemState {
    /// 0 not available, 1 simulation, 2 production.
    pub(crate) environment: c_uint,
    /// 1 if confidential computing is on.
    pub(crate) feature: c_uint,
    /// 0 if the developers' tools, which read protected memory, are off.
    pub(crate) dev_tools: c_uint,
}

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
pub(crate) struct Report {
    pub(crate) cec_present: c_uint,
    pub(crate) size: c_uint,
    pub(crate) cec_size: c_uint,
    pub(crate) nonce: [u8; 0x20],
    pub(crate) report: [u8; MAX_REPORT_BYTES],
    pub(crate) cec_report: [u8; 0x1000],
}

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
pub(crate) struct Certificates {
    pub(crate) chain_size: c_uint,
    pub(crate) attestation_size: c_uint,
    pub(crate) chain: [u8; 0x1000],
    pub(crate) attestation: [u8; MAX_CHAIN_BYTES],
}

const _: () = assert!(size_of::<Report>() == 12 + 0x20 + 0x2000 + 0x1000, "padding in the report");
const _: () = assert!(size_of::<Certificates>() == 8 + 0x1000 + 0x1400, "padding in the chain");

type Init = unsafe extern "C" fn() -> c_int;
type GetState = unsafe extern "C" fn(*mut SystemState) -> c_int;
type GetCount = unsafe extern "C" fn(*mut c_uint) -> c_int;
type GetHandle = unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_int;
type GetReport = unsafe extern "C" fn(*mut c_void, *mut Report) -> c_int;
type GetCertificates = unsafe extern "C" fn(*mut c_void, *mut Certificates) -> c_int;

/// The functions used, by their names in `nvml.h`.
struct Functions {
    state: GetState,
    count: GetCount,
    handle: GetHandle,
    report: GetReport,
    certificates: GetCertificates,
}

// Of the C library, since glibc 2.34 without another one to link.
unsafe extern "C" {
    fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

impl Library {
    /// Opens the library at `path`, or where the system finds a bare name, and initialises it.
    pub(crate) fn open(path: &Path) -> Result<Self, TeeError> {
        use std::os::unix::ffi::OsStrExt as _;
        let none = || TeeError::NoDriver { looked_for: path.display().to_string() };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| none())?;
        // SAFETY: `name` is a C string that lives across the call. What the library runs when it is
        // loaded is the driver's, which the guest's measurement covers.
        let library = unsafe { dlopen(name.as_ptr(), RTLD_NOW) };
        let library = NonNull::new(library).ok_or_else(none)?;
        // SAFETY: each symbol is taken as the type that `nvml.h` declares under its name; a function
        // pointer has the size and representation of a data pointer on every POSIX system.
        let (init, functions) = unsafe {
            let init = std::mem::transmute::<NonNull<c_void>, Init>(symbol(library, INIT)?);
            let functions = Functions {
                state: std::mem::transmute::<NonNull<c_void>, GetState>(symbol(library, STATE)?),
                count: std::mem::transmute::<NonNull<c_void>, GetCount>(symbol(library, COUNT)?),
                handle: std::mem::transmute::<NonNull<c_void>, GetHandle>(symbol(library, HANDLE)?),
                report: std::mem::transmute::<NonNull<c_void>, GetReport>(symbol(library, REPORT)?),
                certificates: std::mem::transmute::<NonNull<c_void>, GetCertificates>(symbol(
                    library,
                    CERTIFICATE,
                )?),
            };
            (init, functions)
        };
        // SAFETY: the function takes nothing. It may be called more than once and from any thread.
        check(INIT, unsafe { init() })?;
        Ok(Self { functions })
    }

    /// Whether and how confidential computing is on.
    pub(crate) fn state(&self) -> Result<SystemState, TeeError> {
        let mut state = SystemState::default();
        // SAFETY: the function writes three integers to memory that is borrowed exclusively.
        check(STATE, unsafe { (self.functions.state)(&raw mut state) })?;
        Ok(state)
    }

    /// The number of GPUs.
    pub(crate) fn count(&self) -> Result<u32, TeeError> {
        let mut count = 0;
        // SAFETY: the function writes one integer to memory that is borrowed exclusively.
        check(COUNT, unsafe { (self.functions.count)(&raw mut count) })?;
        Ok(count)
    }

    /// The GPU at a place.
    pub(crate) fn handle(&self, index: u32) -> Result<Handle<'_>, TeeError> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the function writes one pointer to memory that is borrowed exclusively. The pointer
        // is opaque: it is given back to the same library and nothing else is done with it.
        check(HANDLE, unsafe { (self.functions.handle)(index, &raw mut raw) })?;
        let none = || TeeError::Nvml { call: text(HANDLE), code: 0 };
        let raw = NonNull::new(raw).ok_or_else(none)?;
        Ok(Handle { raw, library: PhantomData })
    }

    /// The report of a GPU over `nonce`.
    pub(crate) fn report(&self, of: Handle<'_>, nonce: &[u8; 32]) -> Result<Box<Report>, TeeError> {
        let mut report = Box::new(Report {
            cec_present: 0,
            size: 0,
            cec_size: 0,
            nonce: *nonce,
            report: [0; MAX_REPORT_BYTES],
            cec_report: [0; 0x1000],
        });
        // SAFETY: the handle came from this library. `Report` is `repr(C)` with the layout of the
        // header's struct and integers alone, so whatever is written is valid; it is borrowed
        // exclusively and lives across the call.
        check(REPORT, unsafe { (self.functions.report)(of.raw.as_ptr(), &raw mut *report) })?;
        Ok(report)
    }

    /// The certificates of a GPU.
    pub(crate) fn certificates(&self, of: Handle<'_>) -> Result<Box<Certificates>, TeeError> {
        let mut certificates = Box::new(Certificates {
            chain_size: 0,
            attestation_size: 0,
            chain: [0; 0x1000],
            attestation: [0; MAX_CHAIN_BYTES],
        });
        // SAFETY: as for the report.
        let code =
            unsafe { (self.functions.certificates)(of.raw.as_ptr(), &raw mut *certificates) };
        check(CERTIFICATE, code)?;
        Ok(certificates)
    }
}

/// A symbol of the library.
///
/// # Safety
/// `library` is what `dlopen` returned and was not closed.
unsafe fn symbol(
    library: NonNull<c_void>,
    name: &'static CStr,
) -> Result<NonNull<c_void>, TeeError> {
    // SAFETY: the caller's promise; the name is a C string.
    let found = unsafe { dlsym(library.as_ptr(), name.as_ptr()) };
    NonNull::new(found).ok_or_else(|| TeeError::DriverTooOld { symbol: text(name) })
}

const fn check(call: &'static CStr, code: c_int) -> Result<(), TeeError> {
    if code == NVML_SUCCESS { Ok(()) } else { Err(TeeError::Nvml { call: text(call), code }) }
}

/// The name of a function; all of them are ASCII.
const fn text(name: &'static CStr) -> &'static str {
    match name.to_str() {
        Ok(name) => name,
        Err(_) => "nvml",
    }
}

const INIT: &CStr = c"nvmlInit_v2";
const STATE: &CStr = c"nvmlSystemGetConfComputeState";
const COUNT: &CStr = c"nvmlDeviceGetCount_v2";
const HANDLE: &CStr = c"nvmlDeviceGetHandleByIndex_v2";
const REPORT: &CStr = c"nvmlDeviceGetConfComputeGpuAttestationReport";
const CERTIFICATE: &CStr = c"nvmlDeviceGetConfComputeGpuCertificate";

/// Largest report, in bytes: `NVML_CC_GPU_ATTESTATION_REPORT_SIZE`.
pub(crate) const MAX_REPORT_BYTES: usize = 0x2000;
/// Largest chain, in bytes of PEM: `NVML_GPU_ATTESTATION_CERT_CHAIN_SIZE`.
pub(crate) const MAX_CHAIN_BYTES: usize = 0x1400;
const NVML_SUCCESS: c_int = 0;
const RTLD_NOW: c_int = 2;
