//! Why a TDX register cannot be predicted or an event log cannot be believed.

use thiserror::Error;

use super::digest::Sha384Digest;
use super::event::Rtmr;

/// Why a TDX register cannot be predicted or an event log cannot be believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TdxError {
    /// An input without bytes.
    #[error("{what} is empty")]
    Empty {
        /// The input.
        what: &'static str,
    },
    /// An input, a count or a number over its named limit.
    #[error("{what}: {got} is over the limit of {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What was found.
        got: usize,
    },
    /// A field outside its input.
    #[error("{what}: {needed} bytes at offset {at} are outside the {size} bytes there are")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Offset of the field.
        at: usize,
        /// Bytes it needs.
        needed: usize,
        /// Size of the input.
        size: usize,
    },
    /// A structure that is not what its specification says.
    #[error("{what} at offset {at}: {reason}")]
    Malformed {
        /// The structure.
        what: &'static str,
        /// Where it stands.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A TDVF section that no supported VMM would load, or that would be measured in an undefined
    /// way.
    #[error("TDVF section {index}: {reason}")]
    Section {
        /// Position in the table.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two TDVF sections claim the same memory.
    #[error("TDVF sections {first} and {second} overlap in memory")]
    SectionOverlap {
        /// Position of one.
        first: usize,
        /// Position of the other.
        second: usize,
    },
    /// The firmware lacks a section, or has it twice.
    #[error("the firmware has {got} sections of type {kind}; exactly 1 is needed")]
    SectionCount {
        /// Type of section.
        kind: &'static str,
        /// Sections found.
        got: usize,
    },
    /// A memory size that no shape has.
    #[error(
        "memory of {got} bytes: it must be a multiple of {unit} bytes between {min} and {max} bytes"
    )]
    Memory {
        /// Size asked for.
        got: u64,
        /// Granularity.
        unit: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A TDVF section that does not lie in guest memory.
    #[error("the TDVF section at {address:#x} is not in the {memory} bytes of guest memory")]
    SectionOutsideMemory {
        /// Address of the section.
        address: u64,
        /// Memory of the shape.
        memory: u64,
    },
    /// The variable store sets variables that change the boot: it is no store we can predict.
    #[error("the variable store carries {name}, which changes what boots")]
    StoredBootVariable {
        /// Name of the variable.
        name: String,
    },
    /// The ACPI tables list another number of processors than the shape declares.
    #[error("the shape has {declared} vCPUs, its ACPI tables list {listed}")]
    Vcpus {
        /// Declared.
        declared: u32,
        /// Enabled processors in the MADT.
        listed: u32,
    },
    /// A fw_cfg file that the firmware measures and this build does not know.
    #[error("the fw_cfg file {name:?} has no place in this firmware's event order")]
    FwCfg {
        /// Name of the file.
        name: String,
    },
    /// A profile name that is none of the four.
    #[error("firmware profile {got:?} is not known; pre202505, 202505, 202508 and 202605 are")]
    Profile {
        /// Name found.
        got: String,
    },
    /// Characters in the command line that firmware and kernel may read differently.
    #[error(
        "the command line has byte {byte:#04x} at offset {at}; only printable ASCII is allowed"
    )]
    CommandLine {
        /// The byte.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// Text that should be hexadecimal and is not, or has the wrong length.
    #[error("expected {expected_chars} lower-case hexadecimal digits, got {got_chars} characters")]
    Hex {
        /// Digits expected.
        expected_chars: usize,
        /// Characters found.
        got_chars: usize,
    },
    /// A digest algorithm other than SHA-384 in the event log.
    #[error(
        "event {index} has {count} digests, the first of algorithm {algorithm:#06x}; one of SHA-384 (0x000c) is expected"
    )]
    LogDigest {
        /// Position in the log.
        index: usize,
        /// Digests of the event.
        count: u32,
        /// Algorithm of the first.
        algorithm: u16,
    },
    /// An event for a register that does not exist.
    #[error("event {index} extends measurement register {got}; 1 to 4 exist")]
    LogRegister {
        /// Position in the log.
        index: usize,
        /// Register index found.
        got: u32,
    },
    /// An event no firmware of the profile writes. It is refused whatever its digest.
    #[error("{register} event {index} (type {kind:#x}) is not one this firmware profile writes")]
    UnknownEvent {
        /// Register it extends.
        register: Rtmr,
        /// Position among the events of that register.
        index: usize,
        /// TCG event type.
        kind: u32,
    },
    /// The log has another number of events than the prediction.
    #[error("{register} has {got} events in the log; {expected} are predicted")]
    EventCount {
        /// Register.
        register: Rtmr,
        /// Predicted.
        expected: usize,
        /// Found.
        got: usize,
    },
    /// An event whose digest is not the predicted one.
    #[error("{register} event {index}, {component}: digest {got} is not the predicted {expected}")]
    EventDigest {
        /// Register it extends.
        register: Rtmr,
        /// Position among the events of that register.
        index: usize,
        /// Name of the component.
        component: &'static str,
        /// Predicted.
        expected: Box<Sha384Digest>,
        /// Found.
        got: Box<Sha384Digest>,
    },
    /// The log does not lead to the register of the quote.
    #[error("the event log replays {register} to {replayed}; the quote says {quoted}")]
    Replay {
        /// Register.
        register: Rtmr,
        /// Value of the replay.
        replayed: Box<Sha384Digest>,
        /// Value of the quote.
        quoted: Box<Sha384Digest>,
    },
    /// A document of ours that cannot be read.
    #[error("the prediction is malformed: {0}")]
    Prediction(String),
    /// A quote that cannot be read.
    #[error("the quote is malformed: {0}")]
    Quote(#[from] chrysalis_evidence::QuoteError),
    /// A quote of another kind of platform.
    #[error("the quote is not a TDX quote")]
    NotTdx,
    /// Two inputs with nothing to compare.
    #[error("the two inputs have no register in common: one has {expected}, the other {found}")]
    NothingInCommon {
        /// Registers of what was expected, by name.
        expected: String,
        /// Registers of what was found.
        found: String,
    },
}

impl TdxError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "E-TDX-EMPTY",
            Self::TooLarge { .. } => "E-TDX-LIMIT",
            Self::Truncated { .. } => "E-TDX-TRUNCATED",
            Self::Malformed { .. } => "E-TDX-MALFORMED",
            Self::Section { .. } | Self::SectionOverlap { .. } | Self::SectionCount { .. } => {
                "E-TDVF-SECTION"
            }
            Self::Memory { .. } | Self::SectionOutsideMemory { .. } => "E-SHAPE-MEMORY",
            Self::StoredBootVariable { .. } => "E-TDVF-VARIABLE",
            Self::Vcpus { .. } => "E-SHAPE-VCPUS",
            Self::FwCfg { .. } => "E-SHAPE-FWCFG",
            Self::Profile { .. } => "E-TDVF-PROFILE",
            Self::CommandLine { .. } => "E-CMDLINE",
            Self::Hex { .. } => "E-HEX",
            Self::LogDigest { .. } | Self::LogRegister { .. } => "E-CCEL",
            Self::UnknownEvent { .. } => "E-CCEL-UNKNOWN-EVENT",
            Self::EventCount { .. } | Self::EventDigest { .. } => "E-CCEL-EVENT",
            Self::Replay { .. } => "E-CCEL-REPLAY",
            Self::Prediction(_) => "E-PREDICTION",
            Self::Quote(error) => error.code(),
            Self::NotTdx => "E-QUOTE-TEE",
            Self::NothingInCommon { .. } => "E-DIFF-NOTHING",
        }
    }

    /// Whether the input is well formed and a rule says no.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::UnknownEvent { .. }
                | Self::EventCount { .. }
                | Self::EventDigest { .. }
                | Self::Replay { .. }
                | Self::StoredBootVariable { .. }
                | Self::Vcpus { .. }
        )
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Section { .. }
            | Self::SectionOverlap { .. }
            | Self::SectionCount { .. }
            | Self::SectionOutsideMemory { .. } => {
                "use the TDVF firmware named in the image's lock file"
            }
            Self::StoredBootVariable { .. } => {
                "compose the firmware with the blank variable store (OVMF_VARS_4M.fd)"
            }
            Self::Memory { .. } | Self::Vcpus { .. } | Self::FwCfg { .. } => {
                "use a published shape, or capture this one again"
            }
            Self::Profile { .. } => "name the edk2 release the firmware was built from",
            Self::CommandLine { .. } => "write the command line without a trailing newline",
            Self::UnknownEvent { .. }
            | Self::EventCount { .. }
            | Self::EventDigest { .. }
            | Self::Replay { .. } => {
                "compare the log with the prediction: chrysalis measure diff PREDICTION LOG"
            }
            Self::Prediction(_) => {
                "write it again: chrysalis measure image … --format json > prediction.json"
            }
            Self::NotTdx => "give the quote of a TDX machine",
            Self::NothingInCommon { .. } => {
                "compare with an image, a prediction, a release or a quote, which have all registers"
            }
            _ => "check that this is the file you meant; it may be damaged or cut",
        }
    }
}
