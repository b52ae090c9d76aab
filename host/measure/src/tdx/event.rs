//! Measured events: which register, what it is of, its digest, and how far that is known.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Sha384Digest;
use super::status::Status;

/// A runtime measurement register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rtmr {
    /// Firmware configuration.
    #[serde(rename = "rtmr0")]
    Rtmr0,
    /// Kernel and boot milestones.
    #[serde(rename = "rtmr1")]
    Rtmr1,
    /// Command line and initrd.
    #[serde(rename = "rtmr2")]
    Rtmr2,
    /// What PID 1 measures.
    #[serde(rename = "rtmr3")]
    Rtmr3,
}

impl Rtmr {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::Rtmr0, Self::Rtmr1, Self::Rtmr2, Self::Rtmr3];

    /// Position in a quote: 0 to 3.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Rtmr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RTMR{}", self.index())
    }
}

macro_rules! components {
    ($($(#[$meta:meta])* $variant:ident = $name:literal, $title:literal;)*) => {
        /// What an event measures. A closed list: an event of anything else is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Component {
            $($(#[$meta])* #[serde(rename = $name)] $variant,)*
        }

        impl Component {
            /// Name in documents.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Name for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

components! {
    /// Hand-off blocks: the memory map.
    TdHob = "td-hob", "TD HOB (memory map)";
    /// Configuration firmware volume: the variable store.
    VariableStore = "variable-store", "variable store (CFV)";
    /// fw_cfg selector `BootMenu`.
    FwCfgBootMenu = "fw-cfg-boot-menu", "fw_cfg BootMenu";
    /// fw_cfg file `etc/extra-pci-roots`.
    FwCfgExtraPciRoots = "fw-cfg-extra-pci-roots", "fw_cfg etc/extra-pci-roots";
    /// fw_cfg file `etc/boot-menu-wait`.
    FwCfgBootMenuWait = "fw-cfg-boot-menu-wait", "fw_cfg etc/boot-menu-wait";
    /// fw_cfg file `etc/reserved-memory-end`.
    FwCfgReservedMemoryEnd = "fw-cfg-reserved-memory-end", "fw_cfg etc/reserved-memory-end";
    /// fw_cfg file `opt/ovmf/X-PciMmio64Mb`.
    FwCfgPciMmio64Mb = "fw-cfg-pci-mmio64-mb", "fw_cfg opt/ovmf/X-PciMmio64Mb";
    /// fw_cfg file `bootorder`.
    FwCfgBootOrder = "fw-cfg-bootorder", "fw_cfg bootorder";
    /// EFI variable.
    SecureBoot = "secure-boot", "variable SecureBoot";
    /// EFI variable.
    PlatformKey = "pk", "variable PK";
    /// EFI variable.
    KeyExchangeKey = "kek", "variable KEK";
    /// EFI variable.
    SignatureDb = "db", "variable db";
    /// EFI variable.
    ForbiddenDb = "dbx", "variable dbx";
    /// End of the firmware's own measurements.
    Separator = "separator", "separator";
    /// fw_cfg file `etc/table-loader`.
    AcpiLoader = "acpi-loader", "ACPI table-loader";
    /// fw_cfg file `etc/acpi/rsdp`.
    AcpiRsdp = "acpi-rsdp", "ACPI rsdp";
    /// fw_cfg file `etc/acpi/tables`.
    AcpiTables = "acpi-tables", "ACPI tables";
    /// Filtered SMBIOS table.
    Smbios = "smbios", "SMBIOS table";
    /// EFI variable.
    BootOrder = "boot-order", "variable BootOrder";
    /// EFI variable.
    Boot0000 = "boot0000", "variable Boot0000";
    /// EFI variable.
    Boot0001 = "boot0001", "variable Boot0001";
    /// Authenticode digest of the kernel.
    Kernel = "kernel", "kernel (Authenticode)";
    /// Boot milestone.
    CallingApplication = "calling-efi-application", "calling EFI application";
    /// Boot milestone.
    ExitInvocation = "exit-boot-services-invocation", "exit boot services invoked";
    /// Boot milestone.
    ExitReturned = "exit-boot-services-returned", "exit boot services returned";
    /// Load options of the kernel.
    CommandLine = "command-line", "kernel command line";
    /// The initrd.
    Initrd = "initrd", "initrd";
    /// Runtime event: the worker manifest.
    Manifest = "manifest", "worker manifest";
    /// Runtime event: the model root.
    ModelRoot = "model-root", "model root";
}

/// One predicted event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What it measures.
    pub component: Component,
    /// What the register is extended with.
    pub digest: Sha384Digest,
    /// How far the digest and its place are known.
    pub status: Status,
    /// Why, in words.
    pub evidence: String,
    /// What was measured, in words.
    pub detail: String,
}

impl Event {
    pub(crate) fn new(
        component: Component,
        digest: Sha384Digest,
        (status, evidence): Known,
        detail: impl Into<String>,
    ) -> Self {
        Self { component, digest, status, evidence: evidence.to_owned(), detail: detail.into() }
    }
}

/// A status with its reason.
pub(crate) type Known = (Status, &'static str);
