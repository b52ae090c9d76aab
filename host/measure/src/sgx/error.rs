//! Why an enclave cannot be measured, or an enclave signature is refused. One enum per kind of
//! input, one variant per way to be wrong; [`SgxError`] is what callers see.

use chrysalis_wire::Digest;
use thiserror::Error;

/// Why an enclave cannot be measured, signed or accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SgxError {
    /// An input is larger than any honest one.
    #[error("the {what} has {got} bytes; at most {limit} are read")]
    TooLarge {
        /// Which input.
        what: &'static str,
        /// Most bytes accepted.
        limit: usize,
        /// Bytes found.
        got: usize,
    },
    /// The enclave's pages are impossible.
    #[error("the enclave is impossible: {0}")]
    Enclave(#[from] EnclaveError),
    /// A record stream is malformed.
    #[error("byte {at} of the record stream: {fault}")]
    Stream {
        /// Where the faulty record begins.
        at: usize,
        /// What is wrong with it.
        fault: StreamFault,
    },
    /// The loader is not the shared object Gramine maps.
    #[error("libpal.so cannot be mapped: {0}")]
    Elf(#[from] ElfError),
    /// The Gramine manifest cannot be measured.
    #[error("the Gramine manifest cannot be used: {0}")]
    Manifest(#[from] GramineError),
    /// The signature structure is malformed or does not verify.
    #[error("the SIGSTRUCT is refused: {0}")]
    Sigstruct(#[from] SigstructError),
    /// The signing key cannot sign enclaves.
    #[error("the signing key cannot be used: {0}")]
    Key(#[from] KeyError),
}

/// Pages an SGX CPU would not accept.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EnclaveError {
    /// SECS.SIZE must be a power of two, SDM 3D "ECREATE".
    #[error("its size {size:#x} is not a power of two between 8 KiB and 1 TiB")]
    Size {
        /// Bytes of address range.
        size: u64,
    },
    /// A page outside the enclave or across a page boundary.
    #[error("offset {offset:#x} is not a whole page inside {size:#x} bytes")]
    Page {
        /// Offset of the page.
        offset: u64,
        /// Size of the enclave.
        size: u64,
    },
    /// What must be inside does not fit.
    #[error(
        "{area} does not fit: {size:#x} bytes are too small for this manifest and these threads"
    )]
    Full {
        /// The area for which there was no room.
        area: &'static str,
        /// Size of the enclave.
        size: u64,
    },
    /// A heap that would be added page by page at start, over the limit.
    #[error(
        "{bytes:#x} bytes of heap are added at start; at most {limit:#x} are accepted without EDMM"
    )]
    Heap {
        /// Bytes of heap.
        bytes: u64,
        /// Most accepted.
        limit: u64,
    },
    /// No thread, or too many.
    #[error("{threads} threads; 1 to {limit} are accepted")]
    Threads {
        /// Threads asked for.
        threads: u64,
        /// Most accepted.
        limit: u64,
    },
}

/// One faulty record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StreamFault {
    /// The stream ends inside a record.
    #[error("the stream ends inside a record")]
    Truncated,
    /// A tag that is none of the three.
    #[error("the tag is not ECREATE, EADD or EEXTEND")]
    Tag,
    /// The first record must create the enclave, and only the first.
    #[error("ECREATE must be the first record, once")]
    Create,
    /// Reserved bytes are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// The page type or its permissions do not exist.
    #[error("SECINFO flags {0:#x} are neither a TCS nor a regular page")]
    SecInfo(u64),
    /// A page outside the enclave.
    #[error("offset {0:#x} is not a whole page inside the enclave")]
    Page(u64),
    /// A page added twice.
    #[error("page {0:#x} is added twice")]
    Twice(u64),
    /// A chunk of a page that was not added, or not a 256-byte chunk.
    #[error("chunk {0:#x} is not 256 bytes of a page that was added")]
    Chunk(u64),
    /// More pages than the limit.
    #[error("more than {0} pages")]
    Pages(usize),
}

/// What is wrong with an ELF file that Gramine should map.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// The file ends before a structure it announces.
    #[error("it ends inside its {0}")]
    Truncated(&'static str),
    /// Not a little-endian 64-bit x86 shared object.
    #[error(
        "its {field} is {got:#x}; a 64-bit little-endian x86-64 shared object has {expected:#x}"
    )]
    Header {
        /// Field of the ELF header.
        field: &'static str,
        /// The one value accepted.
        expected: u64,
        /// The value found.
        got: u64,
    },
    /// More program headers than the limit.
    #[error("it has {got} program headers; at most {limit} are read")]
    Headers {
        /// Most accepted.
        limit: u16,
        /// Number found.
        got: u16,
    },
    /// Nothing to map.
    #[error("it has no PT_LOAD segment")]
    NoSegment,
    /// A segment that no loader could map.
    #[error("segment {index}: {fault}")]
    Segment {
        /// Which PT_LOAD, from 0.
        index: usize,
        /// What is wrong.
        fault: &'static str,
    },
    /// The entry point lies in no executable segment.
    #[error("its entry point {entry:#x} is in no executable segment")]
    Entry {
        /// The address.
        entry: u64,
    },
}

/// What is wrong with a Gramine manifest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GramineError {
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Not TOML, or a field of another type.
    #[error("{0}")]
    Toml(String),
    /// A field that decides the measurement is missing.
    #[error("{0} is missing; measure the final manifest, not its template")]
    Missing(&'static str),
    /// A value that Gramine would not understand.
    #[error("{field} = {got:?}: {expected}")]
    Value {
        /// The field.
        field: String,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A trusted file without a hash is bound by nothing.
    #[error("trusted file {uri:?} has no sha256; measure the final manifest, not its template")]
    NoHash {
        /// The file.
        uri: String,
    },
    /// An enclave that cannot prove what it is.
    #[error("sgx.remote_attestation is not \"dcap\": nobody could check what this enclave is")]
    NoEvidence,
    /// The worker manifest is none of the files whose hash is measured.
    #[error("no trusted file has SHA-256 {sha256}: this enclave runs another worker manifest")]
    OtherWorkerManifest {
        /// SHA-256 of the worker manifest given.
        sha256: Digest,
    },
    /// A debug enclave: its host reads its memory.
    #[error("sgx.debug is true: the host could read the enclave's memory")]
    Debug,
}

/// What is wrong with a SIGSTRUCT.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SigstructError {
    /// Not 1808 bytes.
    #[error("it has {got} bytes; a SIGSTRUCT has 1808")]
    Length {
        /// Bytes found.
        got: usize,
    },
    /// A constant is another one.
    #[error("{0} is not the constant of the format")]
    Constant(&'static str),
    /// Reserved bytes are not zero.
    #[error("reserved bytes at {at:#x} are not zero")]
    Reserved {
        /// Offset of the field.
        at: usize,
    },
    /// The date is no date.
    #[error("{got:?} is no date; write YYYY-MM-DD")]
    Date {
        /// The date as found.
        got: String,
    },
    /// The modulus is not an odd 3072-bit number.
    #[error("the modulus is not an odd number of 3072 bits")]
    Modulus,
    /// The signature is no number below the modulus.
    #[error("the signature is not below the modulus")]
    Range,
    /// Q1 or Q2 is not what EINIT will compute with.
    #[error("{0} is not the quotient EINIT needs")]
    Quotient(&'static str),
    /// The RSA signature does not verify.
    #[error("the signature does not verify under its modulus")]
    Signature,
}

/// What is wrong with a signing key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not one PEM block.
    #[error("it is not a single PEM block")]
    Pem,
    /// A PEM block that is no plain private key.
    #[error("it is a PEM block of another kind; an unencrypted RSA private key is wanted")]
    Kind,
    /// The key does not parse, or its parts do not belong together.
    #[error("it is not a valid RSA private key")]
    Rejected,
    /// Another size.
    #[error("it has {got} bits; SGX wants 3072")]
    Bits {
        /// Bits found.
        got: usize,
    },
    /// Another exponent.
    #[error("its public exponent is not 3, which SGX wants")]
    Exponent,
    /// The library could not sign.
    #[error("signing did not succeed")]
    Sign,
}

impl SgxError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-SGX-SIZE",
            Self::Enclave(_) => "E-SGX-ENCLAVE",
            Self::Stream { .. } => "E-SGX-STREAM",
            Self::Elf(_) => "E-SGX-ELF",
            Self::Manifest(GramineError::Debug) => "E-SGX-DEBUG",
            Self::Manifest(GramineError::NoEvidence) => "E-SGX-NO-EVIDENCE",
            Self::Manifest(GramineError::OtherWorkerManifest { .. }) => "E-SGX-WORKER-MANIFEST",
            Self::Manifest(_) => "E-SGX-MANIFEST",
            Self::Sigstruct(error) if error.is_refusal() => "E-SGX-SIGNATURE",
            Self::Sigstruct(_) => "E-SGX-SIGSTRUCT",
            Self::Key(_) => "E-SGX-KEY",
        }
    }

    /// Whether the input is well formed and says something we do not accept.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Sigstruct(error) => error.is_refusal(),
            Self::Manifest(
                GramineError::Debug
                | GramineError::NoEvidence
                | GramineError::OtherWorkerManifest { .. },
            ) => true,
            _ => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Stream { .. } => "check that this is the file you meant",
            Self::Enclave(_) => {
                "change sgx.enclave_size or sgx.max_threads, or set sgx.edmm_enable = true"
            }
            Self::Elf(_) => "give Gramine's sgx/libpal.so, from the release that will run",
            Self::Manifest(GramineError::Debug) => "set sgx.debug = false and measure again",
            Self::Manifest(GramineError::OtherWorkerManifest { .. }) => {
                "give the worker manifest that the Gramine manifest was written for"
            }
            Self::Manifest(_) => "write it with `chrysalis manifest gramine`",
            Self::Sigstruct(error) if error.is_refusal() => {
                "do not run this enclave: it was altered after it was signed, or never signed"
            }
            Self::Sigstruct(_) => "give the .sig file that `chrysalis sgx sign` wrote",
            Self::Key(_) => "make one with `openssl genrsa -3 -out key.pem 3072`",
        }
    }
}

impl SigstructError {
    const fn is_refusal(&self) -> bool {
        matches!(self, Self::Range | Self::Quotient(_) | Self::Signature)
    }
}
