//! Checks programs and kernels before they are sealed into an image, where a mistake would show
//! only as a machine that does not start. The bytes are the user's own and still not believed.

use thiserror::Error;

use crate::bytes::{slice, u16_at, u32_at, u64_at};
use crate::error::ImageError;

/// Why a program or kernel would not run in an image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BinaryFault {
    /// Over the size limit.
    #[error("it is {got} bytes; the limit is {max}")]
    TooLarge {
        /// Size found.
        got: usize,
        /// Largest size accepted.
        max: usize,
    },
    /// Not a 64-bit x86 ELF executable.
    #[error("it is not an x86-64 ELF executable: {reason}")]
    NotElf {
        /// What is wrong.
        reason: &'static str,
    },
    /// It needs a dynamic loader, and the image has none.
    #[error("it needs the dynamic loader {interpreter:?}; the image has no shared library")]
    Dynamic {
        /// The loader it names, shortened.
        interpreter: String,
    },
    /// The simulator's public key material in an image that claims hardware.
    #[error("it is the simulated worker, and the image is for {platform}")]
    Simulated {
        /// The platform of the image.
        platform: chrysalis_wire::ImagePlatform,
    },
    /// Not a Linux kernel with an EFI stub.
    #[error("it is not a bootable Linux kernel: {reason}")]
    NotKernel {
        /// What is wrong.
        reason: &'static str,
    },
    /// A kernel of another release than its modules.
    #[error("it is release {got}, the lock file and its modules are {expected}")]
    Release {
        /// Release the lock names.
        expected: String,
        /// Release in the kernel's header.
        got: String,
    },
}

impl BinaryFault {
    pub(crate) const fn next_step(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "build it with the release profile, stripped",
            Self::NotElf { .. } => "name the program itself, built for x86_64-unknown-linux-gnu",
            Self::Dynamic { .. } => {
                "build it with RUSTFLAGS='-C target-feature=+crt-static', as scripts/image does"
            }
            Self::Simulated { .. } => "use chrysalis-worker, or --platform insecure-sim",
            Self::NotKernel { .. } | Self::Release { .. } => {
                "pin a kernel package and the module package of the same release"
            }
        }
    }
}

/// Checks that `bytes` is a static x86-64 program.
///
/// # Errors
/// [`ImageError::Binary`] with what is wrong.
pub fn check_program(what: &'static str, bytes: &[u8]) -> Result<(), ImageError> {
    static_elf(bytes).map_err(|fault| ImageError::Binary { what, fault })
}

fn static_elf(bytes: &[u8]) -> Result<(), BinaryFault> {
    if bytes.len() > MAX_PROGRAM_BYTES {
        return Err(BinaryFault::TooLarge { got: bytes.len(), max: MAX_PROGRAM_BYTES });
    }
    let not = |reason| BinaryFault::NotElf { reason };
    // ELF-64 object file format: e_ident, e_type, e_machine, e_phoff, e_phentsize, e_phnum.
    if slice(bytes, 0, 7) != Some(b"\x7fELF\x02\x01\x01") {
        return Err(not("wrong magic, class or byte order"));
    }
    let short = || not("it ends inside its headers");
    if !matches!(u16_at(bytes, 16).ok_or_else(short)?, ET_EXEC | ET_DYN) {
        return Err(not("neither an executable nor position independent"));
    }
    if u16_at(bytes, 18).ok_or_else(short)? != EM_X86_64 {
        return Err(not("another architecture"));
    }
    let table = u64_at(bytes, 32).and_then(|o| usize::try_from(o).ok()).ok_or_else(short)?;
    let entry_size = usize::from(u16_at(bytes, 54).ok_or_else(short)?);
    let count = u16_at(bytes, 56).ok_or_else(short)?;
    if entry_size != PROGRAM_HEADER_BYTES || count == 0 {
        return Err(not("no program headers"));
    }
    for index in 0..usize::from(count) {
        let at = index.checked_mul(entry_size).and_then(|o| o.checked_add(table));
        let header = at.and_then(|at| slice(bytes, at, entry_size)).ok_or_else(short)?;
        if u32_at(header, 0) == Some(PT_INTERP) {
            return Err(BinaryFault::Dynamic { interpreter: interpreter(bytes, header) });
        }
    }
    Ok(())
}

fn interpreter(bytes: &[u8], header: &[u8]) -> String {
    let number = |at| u64_at(header, at).and_then(|n| usize::try_from(n).ok());
    let name = number(8).zip(number(32)).and_then(|(at, len)| slice(bytes, at, len.min(64)));
    let name = name.unwrap_or_default();
    String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
}

/// Checks that `bytes` is a kernel the firmware can start, of release `expected`.
///
/// # Errors
/// [`ImageError::Binary`] with what is wrong.
pub fn check_kernel(bytes: &[u8], expected: &str) -> Result<(), ImageError> {
    kernel(bytes, expected).map_err(|fault| ImageError::Binary { what: "kernel", fault })
}

fn kernel(bytes: &[u8], expected: &str) -> Result<(), BinaryFault> {
    let not = |reason| BinaryFault::NotKernel { reason };
    if slice(bytes, 0, 2) != Some(b"MZ") {
        return Err(not("no EFI stub"));
    }
    // Linux boot protocol: "HdrS" at 0x202, kernel_version at 0x20e, relative to 0x200.
    if slice(bytes, 0x202, 4) != Some(b"HdrS") {
        return Err(not("no setup header"));
    }
    let pointer = u16_at(bytes, 0x20e).ok_or_else(|| not("it ends inside its header"))?;
    let at = usize::from(pointer).saturating_add(0x200);
    let text = bytes.get(at..).unwrap_or_default();
    let name: Vec<u8> = text.iter().copied().take(128).take_while(u8::is_ascii_graphic).collect();
    let got = String::from_utf8_lossy(&name).into_owned();
    if got != expected {
        return Err(BinaryFault::Release { expected: expected.to_owned(), got });
    }
    Ok(())
}

/// Largest program put into an image, in bytes.
pub const MAX_PROGRAM_BYTES: usize = 64 << 20;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_INTERP: u32 = 3;
const PROGRAM_HEADER_BYTES: usize = 56;
