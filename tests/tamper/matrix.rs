//! The table: for each class of component, where its bytes lie, who meets them, and by which codes
//! and names a changed bit is refused. A name that begins with `E-` is a refusal; `MRTD` or `RTMR…`
//! is a register that is not the one the reference values have, which every verifier refuses.

use std::ops::Range;

use chrysalis_measure::tdx::{SectionKind, Tdvf};
use chrysalis_vault::format::HEADER_BYTES;
use chrysalis_vault::limits::CHUNK_BYTES;

use crate::gates::Gate;
use crate::irrelevant::{self, Irrelevant};
use crate::world::{Object, World};

/// One row.
pub(crate) struct Row {
    /// What would have been changed.
    pub(crate) class: &'static str,
    /// The file, disk or document it is in.
    pub(crate) object: Object,
    /// Where in it.
    pub(crate) lies: Part,
    /// Who meets it.
    pub(crate) gate: Gate,
    /// Code or register, and component: each change is refused by one of them.
    pub(crate) named: &'static [(&'static str, &'static str)],
    /// Bits that nothing depends on.
    pub(crate) irrelevant: Option<Irrelevant>,
}

/// A part of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// What a configuration disk holds besides manifest and collateral, which are classes of their
    /// own.
    Framing,
    /// The worker manifest, wherever it is.
    WorkerManifest,
    /// The section of a firmware.
    Section(SectionKind),
    /// The content of a file in the initrd.
    Member(&'static str),
    /// What is no file's content: headers, names, padding.
    Headers,
    /// The string of a field of a JSON document.
    Json(&'static str),
    /// The events at the end of an attestation document.
    Events,
    /// What an attestation document says before its quote.
    BeforeQuote,
    /// A part of a bundle (`FORMAT.md` of the vault, 2).
    Bundle(Section),
}

/// A part of a bundle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Section {
    Header,
    Manifest,
    LeafTable,
    Chunk(usize),
    Padding,
}

impl Part {
    /// The bytes of `object` that it is made of.
    #[allow(clippy::single_range_in_vec_init)] // most parts are in one piece, and some are not
    pub(crate) fn ranges(self, world: &World, object: Object) -> Vec<Range<usize>> {
        let bytes = world.bytes(object);
        let found = |needle: &[u8]| {
            let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
            at..at + needle.len()
        };
        match self {
            Self::Whole => vec![0..bytes.len()],
            Self::Framing => {
                let manifest = found(&world.worker_manifest);
                let collateral = found(world.bytes(Object::Collateral));
                vec![0..manifest.start, manifest.end..collateral.start, collateral.end..bytes.len()]
            }
            Self::WorkerManifest => vec![found(&world.worker_manifest)],
            Self::Section(kind) => {
                let tdvf = Tdvf::parse(bytes).unwrap();
                let section = tdvf.only(kind).unwrap();
                vec![section.offset..section.offset + section.file_size]
            }
            Self::Member(path) => vec![found(world.archive().file(path).unwrap())],
            Self::Headers => {
                let archive = world.archive();
                let mut contents: Vec<_> = archive
                    .entries()
                    .filter_map(|(path, _)| Some(found(archive.file(path)?)))
                    .collect();
                contents.sort_by_key(|range| range.start);
                let starts = contents.iter().map(|range| range.start).chain([bytes.len()]);
                let ends = [0].into_iter().chain(contents.iter().map(|range| range.end));
                ends.zip(starts).map(|(from, to)| from..to).collect()
            }
            Self::Json(name) => {
                let start = found(format!("\"{name}\":\"").as_bytes()).end;
                let length = bytes[start..].iter().position(|b| *b == b'"').unwrap();
                vec![start..start + length]
            }
            Self::Events => vec![found(b"\"events\":").end..bytes.len()],
            Self::BeforeQuote => vec![0..found(b"\"quote\":\"").end],
            Self::Bundle(section) => vec![section.range(bytes)],
        }
    }
}

impl Section {
    fn range(self, bundle: &[u8]) -> Range<usize> {
        let number = |range: Range<usize>| {
            bundle[range].iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte))
        };
        let tag = if number(12..16) == 1 { 16 } else { 0 };
        let (manifest, total) = (number(20..24), number(24..32));
        let table = HEADER_BYTES + manifest;
        let content = table + 32 * total.div_ceil(CHUNK_BYTES) + tag;
        let end = content + total + tag * total.div_ceil(CHUNK_BYTES);
        match self {
            Self::Header => 0..HEADER_BYTES,
            Self::Manifest => HEADER_BYTES..table,
            Self::LeafTable => table..content,
            Self::Chunk(index) => {
                let start = content + index * (CHUNK_BYTES + tag);
                start..(start + CHUNK_BYTES + tag).min(end)
            }
            Self::Padding => end..bundle.len(),
        }
    }
}

/// The whole matrix.
pub(crate) const ROWS: &[Row] = &[
    // What an image directory holds, before anybody uses it.
    row("firmware", Object::Firmware, Part::Section(SectionKind::Bfv), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "firmware")]),
    row("variable store", Object::Firmware, Part::Section(SectionKind::Cfv), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "firmware")]),
    row("kernel", Object::Kernel, Part::Whole, Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "kernel")]),
    row("initrd: PID 1", Object::Initrd, Part::Member("init"), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "init")]),
    row("initrd: worker", Object::Initrd, Part::Member("chrysalis/worker"), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "chrysalis/worker")]),
    row("image.toml", Object::Initrd, Part::Member("chrysalis/image.toml"), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "chrysalis/image.toml")]),
    row("module", Object::Initrd, Part::Member(MODULE), Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", MODULE)]),
    row("initrd: headers", Object::Initrd, Part::Headers, Gate::ImageVerify).named(&[
        ("E-IMAGE-PART", "initrd"),
        ("E-IMAGE-PART", "chrysalis"),
        ("E-IMAGE-PART", "chrysalis/image.toml"),
        ("E-IMAGE-PART", "chrysalis/worker"),
        ("E-IMAGE-PART", "dev"),
        ("E-IMAGE-PART", "dev/console"),
        ("E-IMAGE-PART", "init"),
        ("E-IMAGE-PART", "lib"),
        ("E-IMAGE-PART", "lib/modules"),
        ("E-IMAGE-PART", "lib/modules/failover.ko.xz"),
        ("E-IMAGE-PART", "lib/modules/net_failover.ko.xz"),
        ("E-IMAGE-PART", "lib/modules/virtio_net.ko.xz"),
        ("E-IMAGE-PART", MODULE),
        ("E-IMAGE-PART", "proc"),
        ("E-IMAGE-PART", "run"),
        ("E-IMAGE-PART", "sys"),
        ("E-IMAGE-PART", "tmp"),
    ]),
    row("command line", Object::CommandLine, Part::Whole, Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "cmdline")]),
    row("manifest.json", Object::ImageManifest, Part::Whole, Gate::ImageVerify)
        .named(&[("E-IMAGE-PART", "manifest")]),
    // The same as hardware measures it. Whoever rewrites manifest.json as well ends here.
    row("firmware", Object::Firmware, Part::Section(SectionKind::Bfv), Gate::Measure).named(&[
        ("MRTD", "firmware"),
        ("E-TDVF-SECTION", "TDVF section"),
        ("E-TDX-MALFORMED", "TDVF descriptor"),
        ("E-TDX-MALFORMED", "GUIDed table"),
        ("E-TDX-LIMIT", "TDVF sections"),
        ("E-TDX-TRUNCATED", "GUIDed table"),
    ]),
    row("variable store", Object::Firmware, Part::Section(SectionKind::Cfv), Gate::Measure).named(
        &[
            ("RTMR0", "variable store (CFV)"),
            ("E-TDX-MALFORMED", "variable store"),
            ("E-TDX-TRUNCATED", "variable store"),
        ],
    ),
    row("kernel", Object::Kernel, Part::Whole, Gate::Measure)
        .named(&[
            ("RTMR1", "kernel (Authenticode)"),
            ("E-TDX-MALFORMED", "kernel"),
            ("E-TDX-LIMIT", "PE sections"),
            ("E-TDX-TRUNCATED", "kernel"),
        ])
        .but(irrelevant::KERNEL_SIGNATURE),
    row("initrd: PID 1", Object::Initrd, Part::Member("init"), Gate::Measure)
        .named(&[("RTMR2", "initrd")]),
    row("image.toml", Object::Initrd, Part::Member("chrysalis/image.toml"), Gate::Measure)
        .named(&[("RTMR2", "initrd")]),
    row("command line", Object::CommandLine, Part::Whole, Gate::Measure)
        .named(&[("RTMR2", "kernel command line"), ("E-CMDLINE", "command line")]),
    // The shape of the VM: the files of the menu, and what QEMU gives the firmware.
    row("shape", Object::ShapeFile, Part::Whole, Gate::MeasureShape)
        .named(&[
            ("E-SHAPE-MALFORMED", "shape file"),
            ("E-SHAPE-VALUE", "shape file"),
            ("E-SHAPE-VERSION", "shape file"),
            ("E-SHAPE-SLOT", "shape file"),
            ("E-CAPTURE-OF", "capture"),
            ("E-TDVF-PROFILE", "firmware profile"),
        ])
        .but(irrelevant::SHAPE_COMMENTS),
    row("capture", Object::Capture, Part::Whole, Gate::MeasureShape)
        .named(&[
            ("E-SHAPE-MALFORMED", "capture"),
            ("E-SHAPE-VALUE", "capture"),
            ("E-SHAPE-VERSION", "capture"),
            ("E-CAPTURE-OF", "capture"),
            ("E-BLOB-DIGEST", "etc/table-loader"),
            ("E-BLOB-DIGEST", "etc/acpi/rsdp"),
            ("E-BLOB-DIGEST", "etc/acpi/tables"),
            ("E-BLOB-DIGEST", "etc/smbios/smbios-tables"),
            ("E-BLOB-SIZE", "etc/table-loader"),
            ("E-BLOB-SIZE", "etc/acpi/rsdp"),
            ("E-BLOB-SIZE", "etc/acpi/tables"),
            ("E-BLOB-SIZE", "etc/smbios/smbios-tables"),
        ])
        .but(irrelevant::CAPTURE_LABELS),
    row("ACPI", Object::AcpiLoader, Part::Whole, Gate::MeasureBlobs)
        .named(&[("RTMR0", "ACPI table-loader")]),
    row("ACPI", Object::AcpiRsdp, Part::Whole, Gate::MeasureBlobs)
        .named(&[("RTMR0", "ACPI rsdp"), ("E-TDX-MALFORMED", "ACPI rsdp")]),
    row("ACPI", Object::AcpiTables, Part::Whole, Gate::MeasureBlobs).named(&[
        ("RTMR0", "ACPI tables"),
        ("E-SHAPE-VCPUS", "ACPI tables"),
        ("E-TDX-MALFORMED", "ACPI tables"),
        ("E-TDX-MALFORMED", "ACPI table"),
        ("E-TDX-TRUNCATED", "ACPI table"),
        ("E-TDX-MALFORMED", "MADT entry"),
        ("E-TDX-TRUNCATED", "MADT entry"),
    ]),
    row("SMBIOS", Object::Smbios, Part::Whole, Gate::MeasureBlobs)
        .named(&[
            ("RTMR0", "SMBIOS table"),
            ("E-TDX-MALFORMED", "SMBIOS table"),
            ("E-TDX-TRUNCATED", "SMBIOS table"),
            ("E-TDX-TRUNCATED", "SMBIOS strings"),
        ])
        .but(irrelevant::SMBIOS_BLANKED),
    row("event log", Object::EventLog, Part::Whole, Gate::EventLog)
        .named(&[
            ("E-CCEL-EVENT", "TD HOB (memory map)"),
            ("E-CCEL-EVENT", "variable store (CFV)"),
            ("E-CCEL-EVENT", "fw_cfg BootMenu"),
            ("E-CCEL-EVENT", "fw_cfg bootorder"),
            ("E-CCEL-EVENT", "variable SecureBoot"),
            ("E-CCEL-EVENT", "variable PK"),
            ("E-CCEL-EVENT", "variable KEK"),
            ("E-CCEL-EVENT", "variable db"),
            ("E-CCEL-EVENT", "variable dbx"),
            ("E-CCEL-EVENT", "separator"),
            ("E-CCEL-EVENT", "ACPI table-loader"),
            ("E-CCEL-EVENT", "ACPI rsdp"),
            ("E-CCEL-EVENT", "ACPI tables"),
            ("E-CCEL-EVENT", "SMBIOS table"),
            ("E-CCEL-EVENT", "variable BootOrder"),
            ("E-CCEL-EVENT", "variable Boot0000"),
            ("E-CCEL-EVENT", "kernel (Authenticode)"),
            ("E-CCEL-EVENT", "calling EFI application"),
            ("E-CCEL-EVENT", "exit boot services invoked"),
            ("E-CCEL-EVENT", "exit boot services returned"),
            ("E-CCEL-EVENT", "kernel command line"),
            ("E-CCEL-EVENT", "initrd"),
            ("E-CCEL-EVENT", "event"),
            ("E-CCEL-UNKNOWN-EVENT", "event"),
            ("E-CCEL", "event log"),
            ("E-TDX-LIMIT", "event data"),
            ("E-TDX-MALFORMED", "event log"),
            ("E-TDX-TRUNCATED", "event log"),
            ("E-TDX-MALFORMED", "event log header"),
            ("E-TDX-TRUNCATED", "event log header"),
        ])
        .but(irrelevant::EVENT_DESCRIPTIONS),
    // What PID 1 meets in the guest.
    row("module", Object::Initrd, Part::Member(MODULE), Gate::Pid1)
        .named(&[("E-INIT-MODULE-HASH", "virtio_blk.ko.xz")]),
    row("command line", Object::CommandLine, Part::Whole, Gate::Pid1)
        .named(&[("E-CMDLINE-WORD", "command line"), ("E-CMDLINE-SPELLING", "command line")]),
    row("worker manifest", Object::ConfigDisk, Part::WorkerManifest, Gate::Pid1)
        .named(&[("RTMR3", "worker manifest"), ("E-MANIFEST", "worker manifest")]),
    row("config disk", Object::ConfigDisk, Part::Framing, Gate::Pid1).named(&[
        ("E-CONFIG-MAGIC", "configuration disk"),
        ("E-CONFIG-COUNT", "configuration disk"),
        ("E-CONFIG-KIND", "configuration disk"),
        ("E-CONFIG-ENCODING", "configuration disk"),
        ("E-CONFIG-TRAILER", "configuration disk"),
        ("E-CONFIG-LENGTH", "configuration disk"),
        // A length that takes in bytes which are not the part's.
        ("E-MANIFEST", "worker manifest"),
        ("E-COLLATERAL-FORM", "collateral"),
    ]),
    // What the worker meets on the model disk.
    row("model header", Object::Bundle, Part::Bundle(Section::Header), Gate::Vault).named(&[
        ("E-BUNDLE-MAGIC", "bundle header"),
        ("E-BUNDLE-VERSION", "bundle header"),
        ("E-BUNDLE-HEADER", "bundle header"),
        ("E-BUNDLE-LIMIT", "bundle header"),
        ("E-BUNDLE-TRUNCATED", "bundle header"),
        ("E-BUNDLE-TRAILING", "bundle header"),
        ("E-MANIFEST-LENGTH", "bundle header"),
        ("E-MANIFEST-HASH", "bundle manifest"),
        ("E-MODEL-ROOT", "model root"),
    ]),
    row("model manifest", Object::Bundle, Part::Bundle(Section::Manifest), Gate::Vault)
        .named(&[("E-MANIFEST-HASH", "bundle manifest")]),
    row("model leaf table", Object::Bundle, Part::Bundle(Section::LeafTable), Gate::Vault)
        .named(&[("E-TABLE-HASH", "leaf table")]),
    row("model chunk", Object::Bundle, Part::Bundle(Section::Chunk(0)), Gate::Vault)
        .named(&[("E-CHUNK-HASH", "chunk 0")]),
    row("model chunk", Object::Bundle, Part::Bundle(Section::Chunk(2)), Gate::Vault)
        .named(&[("E-CHUNK-HASH", "chunk 2")]),
    row("model padding", Object::Bundle, Part::Bundle(Section::Padding), Gate::Vault)
        .named(&[("E-BUNDLE-PADDING", "bundle padding")]),
    row("sealed leaf table", Object::SealedBundle, SEALED_TABLE, Gate::VaultWithKey)
        .named(&[("E-TABLE-SEAL", "leaf table")]),
    row("sealed model chunk", Object::SealedBundle, SEALED_CHUNK, Gate::VaultWithKey)
        .named(&[("E-CHUNK-SEAL", "chunk 1")]),
    // A root file system that the kernel command line binds.
    row("verity data", Object::FileSystem, Part::Whole, Gate::Verity)
        .named(&[("E-IMAGE-VERITY", "file system")]),
    row("verity tree", Object::HashTree, Part::Whole, Gate::Verity)
        .named(&[("E-IMAGE-VERITY", "hash tree")]),
    // What a verifier is shown by a worker, and what she pins.
    row("quote", Object::Attestation, Part::Json("quote"), Gate::Appraisal).named(&[
        ("E-DOCUMENT", "R-DOCUMENT"),
        ("E-QUOTE-VERSION", "R-QUOTE-FORM"),
        ("E-QUOTE-KEY-TYPE", "R-QUOTE-FORM"),
        ("E-QUOTE-BODY", "R-QUOTE-FORM"),
        ("E-QUOTE-CERT-TYPE", "R-QUOTE-FORM"),
        ("E-QUOTE-CHAIN", "R-QUOTE-FORM"),
        ("E-QUOTE-TRAILING", "R-QUOTE-FORM"),
        ("E-QUOTE-TRUNCATED", "R-QUOTE-FORM"),
        ("E-DEBUG", "R-DEBUG"),
        ("E-ROOT", "R-DCAP"),
        ("E-DCAP", "R-DCAP"),
        ("E-COLLATERAL-FMSPC", "R-DCAP"),
    ]),
    row("keyset", Object::Attestation, Part::Json("keyset"), Gate::Appraisal)
        .named(&[("E-DOCUMENT", "R-DOCUMENT"), ("E-REPORT-DATA", "R-REPORT-DATA")]),
    row("worker manifest", Object::Attestation, Part::Json("manifest"), Gate::Appraisal)
        .named(&[("E-DOCUMENT", "R-DOCUMENT"), ("E-MANIFEST-EVENT", "R-MANIFEST")]),
    row("event log of PID 1", Object::Attestation, Part::Events, Gate::Appraisal).named(&[
        ("E-DOCUMENT", "R-DOCUMENT"),
        ("E-EVENT-NAME", "R-EVENT-LOG"),
        ("E-EVENT-PAYLOAD", "R-EVENT-LOG"),
        ("E-RTMR3", "R-EVENT-LOG"),
    ]),
    row("evidence: form", Object::Attestation, Part::BeforeQuote, Gate::Appraisal)
        .named(&[("E-DOCUMENT", "R-DOCUMENT")])
        .but(irrelevant::PLATFORM_WORD),
    row("collateral", Object::Collateral, Part::Whole, Gate::Appraisal)
        .named(&[
            ("E-COLLATERAL-FORM", "collateral"),
            ("E-COLLATERAL-SCHEMA", "collateral"),
            ("E-COLLATERAL-FORM", "R-DCAP"),
            ("E-COLLATERAL-FMSPC", "R-DCAP"),
            ("E-COLLATERAL-EARLY", "R-DCAP"),
            ("E-COLLATERAL-EXPIRED", "R-DCAP"),
            ("E-DCAP", "R-DCAP"),
        ])
        .but(irrelevant::UNUSED_CERTIFICATES),
    row("policy", Object::Pins, Part::Whole, Gate::Appraisal)
        .named(&[
            ("E-FILE-TEXT", "pins"),
            ("E-PINS-FORM", "pins"),
            ("E-PINS-VERSION", "pins"),
            ("E-PINS-NETWORK", "pins"),
            ("E-PINS-RANGE", "pins"),
            ("E-PINS-DEBUG", "pins"),
            ("E-PINS-SIM-ROOT", "pins"),
            ("E-ROOT", "R-DCAP"),
            ("E-EVAL-NUMBER", "R-EVAL-NUMBER"),
            ("E-TD-ATTRIBUTES", "R-TD-ATTRIBUTES"),
            ("E-XFAM", "R-XFAM"),
            ("E-SEAM", "R-SEAM"),
            ("E-MRTD", "R-IMAGE"),
            ("E-RTMR0", "R-IMAGE"),
            ("E-RTMR1", "R-IMAGE"),
            ("E-RTMR2", "R-IMAGE"),
            ("E-MANIFEST-PIN", "R-MANIFEST"),
            ("E-MODEL-ROOT-PIN", "R-MODEL-ROOT"),
        ])
        .but(irrelevant::POLICY_WORDS),
    // Reference values: the source, and the dialects that must agree with it.
    row("release: source", Object::Values, Part::Whole, Gate::Release).named(&[
        ("E-RELEASE-MALFORMED", "values.toml"),
        ("E-RELEASE-VERSION", "values.toml"),
        ("E-RELEASE-VALUE", "values.toml"),
        ("E-RELEASE-RTMR3", "values.toml"),
        ("E-RELEASE-SPELLING", "values.toml"),
        // Source and first dialect differ: the message names both, and the fact.
        ("E-RELEASE-DISAGREES", "corim.cbor and values.toml"),
    ]),
    row("release: CoRIM", Object::Corim, Part::Whole, Gate::Release).named(&[
        ("E-RELEASE-MALFORMED", "corim.cbor"),
        ("E-RELEASE-SPELLING", "corim.cbor"),
        ("E-RELEASE-DISAGREES", "corim.cbor and values.toml"),
    ]),
    row("release: in-toto", Object::InToto, Part::Whole, Gate::Release).named(&[
        ("E-RELEASE-MALFORMED", "intoto.json"),
        ("E-RELEASE-VALUE", "intoto.json"),
        ("E-RELEASE-SPELLING", "intoto.json"),
        ("E-RELEASE-DISAGREES", "intoto.json and values.toml"),
    ]),
    row("release: TON cell", Object::Boc, Part::Whole, Gate::Release).named(&[
        ("E-RELEASE-MALFORMED", "values.boc"),
        ("E-RELEASE-SPELLING", "values.boc"),
        ("E-RELEASE-DISAGREES", "values.boc and values.toml"),
    ]),
];

/// A module that both recipes have; not the first, so that its place counts.
const MODULE: &str = "lib/modules/virtio_blk.ko.xz";
const SEALED_TABLE: Part = Part::Bundle(Section::LeafTable);
const SEALED_CHUNK: Part = Part::Bundle(Section::Chunk(1));

const fn row(class: &'static str, object: Object, lies: Part, gate: Gate) -> Row {
    Row { class, object, lies, gate, named: &[], irrelevant: None }
}

impl Row {
    const fn named(mut self, named: &'static [(&'static str, &'static str)]) -> Self {
        self.named = named;
        self
    }

    const fn but(mut self, irrelevant: Irrelevant) -> Self {
        self.irrelevant = Some(irrelevant);
        self
    }
}
