//! The host-chosen shape of a VM as a value: everything RTMR0 depends on besides the firmware.

use super::acpi::{AcpiBlobs, AcpiFacts};
use super::digest::Sha384Digest;
use super::error::TdxError;
use super::hob::MemorySize;
use super::smbios::{BiosIdentity, SmbiosTable};

/// One shape of the published menu, under one QEMU version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Guest memory.
    pub memory: MemorySize,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Version of the QEMU binary the tables are of, e.g. `11.1.3`.
    pub qemu: String,
    /// What QEMU tells the firmware about the machine.
    pub tables: ShapeTables,
    /// fw_cfg items the firmware measures.
    pub fw_cfg: FwCfg,
}

impl Shape {
    /// A shape of the published menu with the tables captured from one QEMU version, completed by
    /// the firmware that names itself `bios`. It boots directly: no boot menu, no `bootindex`.
    ///
    /// # Errors
    /// [`TdxError`] for tables that cannot be what they say.
    pub fn from_menu(
        shape: &chrysalis_shape::Shape,
        capture: &chrysalis_shape::Capture,
        bios: &BiosIdentity,
    ) -> Result<Self, TdxError> {
        let blobs = &capture.blobs;
        let bytes = |blob: &chrysalis_shape::Blob| blob.bytes().to_vec();
        let acpi =
            AcpiBlobs::new(bytes(&blobs.table_loader), bytes(&blobs.rsdp), bytes(&blobs.tables))?;
        let smbios = SmbiosTable::parse(blobs.smbios.bytes())?.with_bios(bios)?;
        Ok(Self {
            memory: MemorySize::from_bytes(shape.memory_bytes())?,
            vcpus: shape.machine.vcpus.into(),
            qemu: capture.qemu.to_string(),
            tables: ShapeTables::Blobs { acpi, smbios },
            fw_cfg: FwCfg::direct_boot(),
        })
    }
}

/// ACPI and SMBIOS of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeTables {
    /// The tables themselves.
    Blobs {
        /// ACPI, as QEMU gives it.
        acpi: AcpiBlobs,
        /// SMBIOS, as the guest sees it.
        smbios: SmbiosTable,
    },
    /// Their digests, from a catalogue: loader, rsdp and tables, then filtered SMBIOS.
    Digests {
        /// ACPI.
        acpi: [Sha384Digest; 3],
        /// SMBIOS, filtered.
        smbios: Sha384Digest,
    },
}

impl ShapeTables {
    /// Digests of ACPI and of the filtered SMBIOS table.
    pub(crate) fn digests(&self) -> Result<([Sha384Digest; 3], Sha384Digest), TdxError> {
        Ok(match self {
            Self::Blobs { acpi, smbios } => (acpi.digests(), Sha384Digest::of(&smbios.filtered()?)),
            Self::Digests { acpi, smbios } => (*acpi, *smbios),
        })
    }

    /// What the ACPI tables say, where they are at hand.
    #[must_use]
    pub const fn acpi_facts(&self) -> Option<&AcpiFacts> {
        match self {
            Self::Blobs { acpi, .. } => Some(acpi.facts()),
            Self::Digests { .. } => None,
        }
    }

    /// The SMBIOS table, where it is at hand.
    #[must_use]
    pub const fn smbios(&self) -> Option<&SmbiosTable> {
        match self {
            Self::Blobs { smbios, .. } => Some(smbios),
            Self::Digests { .. } => None,
        }
    }
}

/// fw_cfg items that the firmware measures when it reads them. Files QEMU does not offer are
/// neither read nor measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfg {
    /// Selector `BootMenu`: `-boot menu=on`. Always there.
    pub boot_menu: bool,
    /// `etc/extra-pci-roots`: there are PXB devices.
    pub extra_pci_roots: Option<Vec<u8>>,
    /// `etc/boot-menu-wait`: `-boot splash-time`.
    pub boot_menu_wait: Option<Vec<u8>>,
    /// `etc/reserved-memory-end`.
    pub reserved_memory_end: Option<Vec<u8>>,
    /// `opt/ovmf/X-PciMmio64Mb`: a larger 64-bit PCI window was asked for.
    pub pci_mmio64_mb: Option<Vec<u8>>,
    /// `bootorder`.
    pub bootorder: Option<Vec<u8>>,
}

impl FwCfg {
    /// What `-kernel` alone gives: no boot menu, and a boot order that names the direct boot ROM.
    #[must_use]
    pub fn direct_boot() -> Self {
        Self {
            boot_menu: false,
            extra_pci_roots: None,
            boot_menu_wait: None,
            reserved_memory_end: None,
            pci_mmio64_mb: None,
            bootorder: Some(DIRECT_BOOT_ORDER.to_vec()),
        }
    }

    /// Adds or replaces a file by its fw_cfg name.
    ///
    /// # Errors
    /// [`TdxError::FwCfg`] for a file whose place among the events is not known, and limits.
    pub fn set(&mut self, name: &str, data: Vec<u8>) -> Result<(), TdxError> {
        super::bytes::bounded("fw_cfg file", &data, MAX_FW_CFG_BYTES)?;
        let place = match name {
            "etc/extra-pci-roots" => &mut self.extra_pci_roots,
            "etc/boot-menu-wait" => &mut self.boot_menu_wait,
            "etc/reserved-memory-end" => &mut self.reserved_memory_end,
            "opt/ovmf/X-PciMmio64Mb" => &mut self.pci_mmio64_mb,
            "bootorder" => &mut self.bootorder,
            other => return Err(TdxError::FwCfg { name: other.chars().take(64).collect() }),
        };
        *place = Some(data);
        Ok(())
    }
}

/// QEMU's `bootorder` with `-kernel` and no `bootindex`.
pub const DIRECT_BOOT_ORDER: &[u8] = b"/rom@genroms/linuxboot_dma.bin\0";

/// Largest fw_cfg file of a shape, in bytes.
pub const MAX_FW_CFG_BYTES: usize = 4096;
