//! A small image and shape made from scratch, so that a test can change exactly one thing.

use super::super::efi::utf16;
use super::super::{
    AcpiBlobs, Content, FirmwareProfile, FwCfg, Image, MemorySize, PageOrder, Shape, ShapeTables,
    SmbiosTable, TdxPrediction, predict_tdx,
};
use crate::error::MeasureError;

/// Everything a prediction is made of; the default is one valid case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) firmware: Vec<u8>,
    pub(crate) profile: FirmwareProfile,
    pub(crate) page_order: PageOrder,
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrd: Vec<u8>,
    pub(crate) cmdline: Vec<u8>,
    pub(crate) manifest: String,
    pub(crate) shape: Shape,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self {
            firmware: firmware(0x11, &[]),
            profile: FirmwareProfile::Stable202605,
            page_order: PageOrder::SinglePass,
            kernel: kernel(0x22),
            initrd: b"an initrd".to_vec(),
            cmdline: b"console=ttyS0 quiet".to_vec(),
            manifest: crate::predict::tests::manifest(),
            shape: shape(),
        }
    }

    pub(crate) fn predict(&self) -> Result<TdxPrediction, MeasureError> {
        let image = Image {
            firmware: &self.firmware,
            profile: self.profile,
            page_order: self.page_order,
            kernel: Content::Bytes(&self.kernel),
            initrd: Content::Bytes(&self.initrd),
            cmdline: &self.cmdline,
        };
        predict_tdx(&image, &self.shape, self.manifest.as_bytes())
    }
}

pub(crate) fn shape() -> Shape {
    Shape {
        memory: MemorySize::from_bytes(2 << 30).unwrap(),
        vcpus: 2,
        qemu: "11.1.3".to_owned(),
        tables: ShapeTables::Blobs {
            acpi: acpi(&tables(2, WINDOW, 0)).unwrap(),
            smbios: SmbiosTable::parse(&smbios(1, "pc-q35-11.1")).unwrap(),
        },
        fw_cfg: FwCfg::direct_boot(),
    }
}

// ---- firmware ---------------------------------------------------------------------------------

/// A TDVF file: CFV (0x4000 bytes, one variable store), then BFV (0x2000 bytes of `code`) with
/// the metadata at its end.
pub(crate) fn firmware(code: u8, variables: &[([u8; 16], &str, &[u8])]) -> Vec<u8> {
    let mut out = store(variables);
    out.resize(CFV_BYTES + BFV_BYTES, code);
    let end = out.len();
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let mut descriptor = b"TDVF".to_vec();
    for word in [16 + 32 * SECTIONS.len() as u32, 1, SECTIONS.len() as u32] {
        descriptor.extend_from_slice(&word.to_le_bytes());
    }
    for (offset, raw, address, size, kind, attributes) in SECTIONS {
        descriptor.extend_from_slice(&offset.to_le_bytes());
        descriptor.extend_from_slice(&raw.to_le_bytes());
        descriptor.extend_from_slice(&address.to_le_bytes());
        descriptor.extend_from_slice(&size.to_le_bytes());
        descriptor.extend_from_slice(&kind.to_le_bytes());
        descriptor.extend_from_slice(&attributes.to_le_bytes());
    }
    put(&mut out, end - DESCRIPTOR_FROM_END, &descriptor);
    put(&mut out, end - 0x20 - guid_table().len(), &guid_table());
    out
}

/// An entry nobody knows, the metadata entry, the footer.
pub(crate) fn guid_table() -> Vec<u8> {
    let mut table = Vec::new();
    table.extend_from_slice(&[0xee; 6]);
    table.extend_from_slice(&24u16.to_le_bytes());
    table.extend_from_slice(&[0x77; 16]);
    table.extend_from_slice(&(DESCRIPTOR_FROM_END as u32).to_le_bytes());
    table.extend_from_slice(&22u16.to_le_bytes());
    table.extend_from_slice(&hex::decode("35657ae44a989847865e4685a7bf8ec2").unwrap());
    let whole = table.len() as u16 + 18;
    table.extend_from_slice(&whole.to_le_bytes());
    table.extend_from_slice(&hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());
    table
}

/// Where section `index` of the metadata stands in a file of [`firmware`].
pub(crate) fn section_at(file: &[u8], index: usize) -> usize {
    file.len() - DESCRIPTOR_FROM_END + 16 + 32 * index
}

/// A CFV with an authenticated variable store.
pub(crate) fn store(variables: &[([u8; 16], &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (vendor, name, data) in variables {
        body.extend_from_slice(&variable(*vendor, name, data));
        body.resize(body.len().next_multiple_of(4), 0xff);
    }
    let mut out = vec![0u8; 16];
    out.extend_from_slice(&hex::decode("8d2bf1ff96768b4ca9852747075b4f50").unwrap());
    out.extend_from_slice(&(CFV_BYTES as u64).to_le_bytes());
    out.extend_from_slice(b"_FVH");
    out.extend_from_slice(&[0xff, 0xfe, 4, 0, 0x48, 0, 0, 0, 0, 0, 0, 2]);
    out.resize(0x48, 0);
    out.extend_from_slice(&hex::decode("782cf3aa7b949a43a1802e144ec37792").unwrap());
    out.extend_from_slice(&(0x2000u32).to_le_bytes());
    out.extend_from_slice(&[0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    out.append(&mut body);
    out.resize(CFV_BYTES, 0xff);
    out
}

/// One live variable.
pub(crate) fn variable(vendor: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let mut text = utf16(name);
    text.extend_from_slice(&[0, 0]);
    let mut out = vec![0xaa, 0x55, 0x3f, 0];
    out.resize(36, 0);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&vendor);
    out.append(&mut text);
    out.extend_from_slice(data);
    out
}

// ---- kernel -----------------------------------------------------------------------------------

/// A PE32+ file with two sections and 8 bytes of certificates.
pub(crate) fn kernel(code: u8) -> Vec<u8> {
    let mut out = vec![0u8; 0x200];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &2u16.to_le_bytes());
    put(0x54, &0xa0u16.to_le_bytes());
    put(OPTIONAL, &0x20bu16.to_le_bytes());
    put(OPTIONAL + 60, &0x200u32.to_le_bytes());
    put(OPTIONAL + 108, &6u32.to_le_bytes());
    put(OPTIONAL + 144, &0x500u32.to_le_bytes());
    put(OPTIONAL + 148, &8u32.to_le_bytes());
    // Not in file order, to show that order does not matter.
    for (index, (size, start)) in [(0x100u32, 0x400u32), (0x200, 0x200)].into_iter().enumerate() {
        put(PE_SECTIONS + 40 * index + 16, &size.to_le_bytes());
        put(PE_SECTIONS + 40 * index + 20, &start.to_le_bytes());
    }
    out.resize(0x500, code);
    out.extend_from_slice(&[0xce; 8]);
    out
}

// ---- tables -----------------------------------------------------------------------------------

/// `etc/acpi/tables`: FACS, a DSDT with one 64-bit window and `devices` more bytes, a MADT.
pub(crate) fn tables(vcpus: u8, [first, last]: [u64; 2], devices: u8) -> Vec<u8> {
    let mut out = b"FACS".to_vec();
    out.extend_from_slice(&64u32.to_le_bytes());
    out.resize(64, 0);
    let mut dsdt = vec![0x5b, 0x82];
    dsdt.resize(2 + usize::from(devices), 0x5b);
    dsdt.extend_from_slice(&[0x8a, 0x2b, 0x00, 0x00, 0x0c, 0x03]);
    for long in [0, first, last, 0, last - first + 1] {
        dsdt.extend_from_slice(&long.to_le_bytes());
    }
    table(&mut out, b"DSDT", 36, &dsdt);
    let mut madt = Vec::new();
    for id in 0..vcpus {
        madt.extend_from_slice(&[0, 8, id, id, 1, 0, 0, 0]);
    }
    madt.extend_from_slice(&[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    table(&mut out, b"APIC", 44, &madt);
    out.resize(0x2000, 0);
    out
}

fn table(out: &mut Vec<u8>, signature: &[u8; 4], header: usize, body: &[u8]) {
    let at = out.len();
    out.extend_from_slice(signature);
    out.extend_from_slice(&((header + body.len()) as u32).to_le_bytes());
    out.resize(at + header, 0);
    out.extend_from_slice(body);
}

pub(crate) fn acpi(tables: &[u8]) -> Result<AcpiBlobs, super::super::TdxError> {
    AcpiBlobs::new(vec![1; 4096], rsdp(), tables.to_vec())
}

pub(crate) fn rsdp() -> Vec<u8> {
    let mut out = b"RSD PTR ".to_vec();
    out.resize(20, 0);
    out
}

/// A system, a processor and the end.
pub(crate) fn smbios(processor_id: u64, machine: &str) -> Vec<u8> {
    let mut out = vec![1, 0x1b, 0, 1, 1, 2, 3, 4];
    out.extend_from_slice(&[0xab; 16]);
    out.extend_from_slice(&[6, 0, 0]);
    out.extend_from_slice(format!("QEMU\0Standard PC\0{machine}\0SERIAL7\0\0").as_bytes());
    out.extend_from_slice(&[4, 0x2a, 0, 4, 1, 3, 0xfe, 2]);
    out.extend_from_slice(&processor_id.to_le_bytes());
    out.extend_from_slice(&[3, 0x7f, 0, 0, 0xd0, 7, 0xd0, 7, 0x41, 1]);
    out.extend_from_slice(&[0xff; 6]);
    out.extend_from_slice(&[0, 0, 0, 2, 2, 2, 2, 0, 1, 0]);
    out.extend_from_slice(b"CPU 0\0QEMU\0pc\0\0");
    out.extend_from_slice(&[127, 4, 0xfe, 0xff, 0, 0]);
    out
}

pub(crate) const WINDOW: [u64; 2] = [0x1_0000_0000, 0x8_ffff_ffff];
pub(crate) const CFV_BYTES: usize = 0x4000;
pub(crate) const BFV_BYTES: usize = 0x2000;
pub(crate) const DESCRIPTOR_FROM_END: usize = 0x400;
pub(crate) const OPTIONAL: usize = 0x58;
pub(crate) const PE_SECTIONS: usize = OPTIONAL + 0xa0;

const SECTIONS: [(u32, u32, u64, u64, u32, u32); 5] = [
    (CFV_BYTES as u32, BFV_BYTES as u32, 0xffff_e000, BFV_BYTES as u64, 0, 1),
    (0, CFV_BYTES as u32, 0xffff_a000, CFV_BYTES as u64, 1, 0),
    (0, 0, 0x81_0000, 0x1_0000, 3, 0),
    (0, 0, 0x80_9000, 0x2000, 2, 0),
    (0, 0, 0x80_0000, 0x6000, 3, 0),
];
