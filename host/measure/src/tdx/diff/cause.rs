//! Why a register differs: the closed list of causes we can name, each with what it means and what
//! to do.

use serde::{Serialize, Serializer};

macro_rules! causes {
    ($($(#[$meta:meta])* $variant:ident = $code:literal, $title:literal, $why:literal, $fix:literal;)*) => {
        /// Why a register differs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$meta])* $variant,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Why that moves the register.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Self::$variant => $why,)* }
            }

            /// What to do.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }
        }
    };
}

causes! {
    /// Another firmware file.
    FirmwareBuild = "C-FIRMWARE", "another firmware build",
        "MRTD is a hash of the firmware's code and of nothing else the host chooses",
        "start the TD with the tdvf.fd of the image; compare its SHA-256 with manifest.json";
    /// The same firmware on an old host.
    PageOrder = "C-PAGE-ORDER", "legacy host: pages are added before they are measured",
        "hosts of the QEMU 8 era hash the same firmware in another order, which gives another MRTD",
        "update the host to Linux 6.16 and QEMU 10.1 or newer";
    /// The firmware is measured by the rules of another release.
    FirmwareProfile = "C-PROFILE", "another firmware profile",
        "releases of the firmware differ in what they measure and in how they hand over the command line",
        "predict with the profile of the firmware that runs (--profile)";
    /// Another variable store.
    VariableStore = "C-VARIABLE-STORE", "another variable store",
        "the store (CFV) is measured whole; MRTD does not cover it, so RTMR0 is where it shows",
        "start the TD with the tdvf.fd of the image, whose store is blank, and without -drive if=pflash";
    /// Other secure boot keys.
    SecureBootKeys = "C-SECURE-BOOT", "other secure boot keys",
        "SecureBoot, PK, KEK, db and dbx are measured one by one",
        "use the blank variable store; the kernel is bound by RTMR1 and needs no secure boot";
    /// Another memory size.
    MemorySize = "C-MEMORY", "another memory size",
        "the VMM's memory map (TD HOB) is the first event of RTMR0",
        "start the VM with the shape's memory size, or choose the shape that has this one";
    /// Another number of vCPUs.
    VcpuCount = "C-VCPUS", "another number of vCPUs",
        "each vCPU is in the ACPI tables",
        "start the VM with the shape's number of vCPUs, or choose the shape that has this one";
    /// Another QEMU.
    QemuVersion = "C-QEMU", "another QEMU version",
        "QEMU writes the ACPI tables, and each version writes them differently, also for the same machine type",
        "use a QEMU version the shape has tables for, or capture its tables and publish them";
    /// Other devices.
    PciDevices = "C-DEVICES", "other PCI devices, or other machine options",
        "devices in their slots, and hpet, smm, pic and vmport, are in the ACPI tables",
        "start the VM with exactly the devices and options of the shape (chrysalis up prints them)";
    /// Another 64-bit window.
    MmioWindow = "C-MMIO-WINDOW", "another 64-bit PCI window",
        "the firmware chooses the window from the CPU's physical address bits and from fw_cfg; it is in the ACPI tables",
        "use a CPU with the shape's physical address bits, and no opt/ovmf/X-PciMmio64Mb";
    /// ACPI tables nobody published.
    AcpiOutsideShape = "C-ACPI", "ACPI tables outside the published shapes",
        "ACPI tables hold code that the guest's kernel runs, so unknown ones are refused",
        "start the VM with a published shape and QEMU version; or capture this one and publish it";
    /// Another processor id.
    ProcessorId = "C-PROCESSOR-ID", "another SMBIOS processor id",
        "without an override the SMBIOS table holds the model and stepping of the host's CPU",
        "start QEMU with -smbios type=4,processor-id=1 as the shape says";
    /// Another machine type.
    MachineType = "C-MACHINE", "another machine type",
        "the name of the machine type is in the SMBIOS table",
        "start QEMU with the shape's versioned machine type (-machine pc-q35-…)";
    /// SMBIOS differs otherwise.
    Smbios = "C-SMBIOS", "another SMBIOS table",
        "strings of QEMU and of the firmware, memory sizes and the processor id are measured",
        "remove -smbios options that the shape does not have";
    /// The boot menu is on.
    BootMenu = "C-BOOT-MENU", "the boot menu is switched on",
        "the firmware measures the fw_cfg item BootMenu",
        "start QEMU without -boot menu=on";
    /// Another boot order.
    BootOrder = "C-BOOTORDER", "another boot order",
        "the firmware measures the fw_cfg file bootorder, which any bootindex changes",
        "start QEMU with -kernel and without bootindex on any device";
    /// A fw_cfg file that does not belong.
    FwCfgFile = "C-FWCFG", "another fw_cfg file",
        "the firmware measures fw_cfg files that it reads",
        "start QEMU without -fw_cfg options, PXB devices and -boot splash-time";
    /// Another kernel.
    Kernel = "C-KERNEL", "another kernel",
        "RTMR1 begins with the Authenticode digest of the kernel",
        "start the VM with the vmlinuz of the image, and with QEMU 10.1 or newer, which does not patch it";
    /// Another initrd.
    Initrd = "C-INITRD", "another initrd",
        "the kernel measures its initrd into RTMR2",
        "start the VM with the initrd.cpio of the image; compare its SHA-256 with manifest.json";
    /// Another command line.
    CommandLine = "C-CMDLINE", "another kernel command line",
        "the kernel measures its command line into RTMR2, with what the firmware adds to it",
        "start the VM with the exact bytes of the image's cmdline, without a trailing newline";
    /// Another worker manifest.
    Manifest = "C-MANIFEST", "another worker manifest",
        "PID 1 measures the SHA-256 of the manifest into RTMR3 before any key exists",
        "give the worker the manifest that was measured, byte for byte";
    /// Another model.
    Model = "C-MODEL", "another model",
        "PID 1 measures the content root of the model into RTMR3, and the manifest names it",
        "give the worker the bundle whose content root the manifest names";
    /// The host set identity fields.
    TdIdentity = "C-TD-IDENTITY", "the host set MRCONFIGID, MROWNER or MROWNERCONFIG",
        "they are free for the host to choose and identify nothing of ours; only zero is accepted",
        "start the TD without mrconfigid, mrowner and mrownerconfig";
    /// Other TD attributes.
    TdAttributes = "C-TD-ATTRIBUTES", "other TD attributes",
        "a TD under debug can be read by its host, whatever it measures",
        "start the TD without debug; SEPT_VE_DISABLE alone is accepted";
    /// An event nobody predicted.
    UnknownEvent = "C-UNKNOWN-EVENT", "an event that no firmware of ours writes",
        "something was loaded or configured that the image does not have; it is refused whatever it is",
        "start the VM with the shape's command line alone (chrysalis up --print-only)";
    /// Events are missing.
    MissingEvent = "C-MISSING-EVENT", "an event is missing",
        "the boot took another path than a direct kernel boot of this image",
        "compare the whole event list: chrysalis measure explain";
    /// Nothing we can name.
    Unnamed = "C-UNNAMED", "no single cause explains the value",
        "the register is a hash: without the event log several changes cannot be told apart",
        "give the event log of the TD as well (--ccel /sys/firmware/acpi/tables/data/CCEL)";
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.code())
    }
}
