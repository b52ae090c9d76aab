//! What a shape says, and what it may say. A shape file may come from anybody: everything in it is
//! checked before a QEMU argument is made of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::ShapeError;

/// One VM shape. All sizes that reach the guest's measurements are here; what is not here (CPU
/// model, host paths, addresses) does not reach them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// [`SHAPE_VERSION`].
    pub version: u32,
    /// Name in the menu.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// How far it is known.
    pub status: Status,
    /// The machine.
    pub machine: Machine,
    /// What the firmware does with it.
    pub firmware: Firmware,
    /// Devices on bus 0, in ascending slots.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
}

/// How far a shape is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Its ACPI and SMBIOS blobs were captured from QEMU and compared with what firmware reads.
    /// Not the same as confirmed by a quote from hardware.
    Captured,
    /// Written down from documentation; no blob is known and nothing was run.
    Described,
}

/// The machine QEMU builds. Every field moves ACPI or SMBIOS, and with them RTMR0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `q35`, or `pc-q35-MAJOR.MINOR`, which keeps the SMBIOS strings of newer QEMU versions.
    #[serde(rename = "type")]
    pub model: String,
    /// Memory in MiB; it is also in the TD HOB.
    pub memory_mib: u64,
    /// vCPUs, all of one socket, one thread a core.
    pub vcpus: u16,
    /// Lowest number of physical address bits of the host CPU with which the firmware places
    /// 64-bit BARs where this shape says. TDX passes the host's number through.
    pub min_phys_bits: u8,
    /// High precision event timer.
    pub hpet: bool,
    /// Legacy interrupt controllers. TDX has none.
    pub pic: bool,
    /// System management mode. TDX has none.
    pub smm: bool,
    /// VMware port.
    pub vmport: bool,
    /// SMBIOS type 4 processor id. Without it the table holds the stepping of the host's CPU;
    /// 0 would mean unset.
    pub smbios_processor_id: u64,
}

/// What the firmware does with the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Profile of the firmware this was checked with, as `chrysalis measure` names it.
    pub profile: String,
    /// Lowest address the firmware gives to a 64-bit BAR, hexadecimal. It decides the 64-bit
    /// window in the DSDT; without a device that has such a BAR there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mmio64_base: Option<String>,
}

/// A device on bus 0, function 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Slot, 1 to [`MAX_SLOT`].
    pub slot: u8,
    /// What it is.
    pub kind: DeviceKind,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// virtio-blk with serial `chrysalis-config`.
    ConfigDisk,
    /// virtio-blk with serial `chrysalis-model`.
    ModelDisk,
    /// virtio-blk with serial `chrysalis-root`, for an image with a root.
    RootDisk,
    /// virtio-net behind user networking.
    Network,
    /// vhost-vsock: how a worker in a trust domain reaches the host's quote service. A guest that is
    /// none has a stand-in in its slot.
    Vsock,
    /// A PCI Express root port with one GPU of the host behind it.
    Gpu,
}

impl DeviceKind {
    /// Name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigDisk => "config-disk",
            Self::ModelDisk => "model-disk",
            Self::RootDisk => "root-disk",
            Self::Network => "network",
            Self::Vsock => "vsock",
            Self::Gpu => "gpu",
        }
    }
}

impl Shape {
    /// Reads and checks a shape from untrusted bytes.
    ///
    /// # Errors
    /// [`ShapeError`] naming the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShapeError> {
        if bytes.len() > MAX_SHAPE_BYTES {
            let (what, got) = ("shape", bytes.len());
            return Err(ShapeError::TooLarge { what, got, max: MAX_SHAPE_BYTES });
        }
        let malformed = |reason: String| ShapeError::Malformed { what: "shape", reason };
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8: {e}")))?;
        let shape: Self = toml::from_str(text).map_err(|e| malformed(e.message().to_owned()))?;
        shape.check()?;
        Ok(shape)
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.version != SHAPE_VERSION {
            return Err(ShapeError::UnsupportedVersion { what: "shape", got: self.version });
        }
        let machine = &self.machine;
        value("name", &self.name, "1 to 32 lower-case letters, digits and dashes", is_name)?;
        value("summary", &self.summary, "one line of at most 200 characters", |s| {
            s.chars().count() <= MAX_SUMMARY_CHARS && !s.chars().any(char::is_control)
        })?;
        value("machine.type", &machine.model, "q35 or pc-q35-MAJOR.MINOR", is_machine)?;
        range("machine.memory_mib", machine.memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB)?;
        range("machine.vcpus", machine.vcpus.into(), 1, MAX_VCPUS.into())?;
        range("machine.min_phys_bits", machine.min_phys_bits.into(), 36, 52)?;
        range("machine.smbios_processor_id", machine.smbios_processor_id, 1, u64::MAX)?;
        value("firmware.profile", &self.firmware.profile, "a firmware profile", is_name)?;
        self.firmware.check(machine.min_phys_bits)?;
        let mut previous = 0;
        for (index, device) in self.devices.iter().enumerate() {
            range("device.slot", device.slot.into(), 1, MAX_SLOT.into())?;
            let slot = device.slot;
            if slot <= previous {
                return Err(ShapeError::SlotOrder { slot, previous });
            }
            previous = slot;
            let seen = self.devices.iter().take(index).any(|d| d.kind == device.kind);
            if seen && device.kind != DeviceKind::Gpu {
                return Err(ShapeError::DuplicateDevice { kind: device.kind.name() });
            }
        }
        if self.has_mmio64() && self.firmware.mmio64_base.is_none() {
            let expected = "an address: a device has a 64-bit BAR".to_owned();
            let got = "missing".to_owned();
            return Err(ShapeError::Value { field: "firmware.mmio64_base", got, expected });
        }
        Ok(())
    }

    /// Whether a device has a 64-bit BAR. Every kind there is now has one.
    #[must_use]
    pub const fn has_mmio64(&self) -> bool {
        !self.devices.is_empty()
    }

    /// The slot of the first device of a kind.
    #[must_use]
    pub fn slot(&self, kind: DeviceKind) -> Option<u8> {
        self.devices.iter().find(|d| d.kind == kind).map(|d| d.slot)
    }

    /// How many GPUs it takes.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.devices.iter().filter(|d| d.kind == DeviceKind::Gpu).count()
    }

    /// Memory in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.machine.memory_mib.saturating_mul(1 << 20)
    }

    /// SHA-256 over everything that reaches ACPI or SMBIOS: a capture names it, so a capture of a
    /// shape that changed since is not used.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // Field order is that of the types, and strings are checked ASCII: one encoding.
        let parts = (&self.machine, &self.firmware.mmio64_base, &self.devices);
        let text = serde_json::to_vec(&parts).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(FINGERPRINT_LABEL);
        hash.update(&text);
        hex::encode(hash.finalize())
    }
}

impl Firmware {
    fn check(&self, min_phys_bits: u8) -> Result<(), ShapeError> {
        let Some(text) = &self.mmio64_base else { return Ok(()) };
        let limit = 1u64.checked_shl(min_phys_bits.into()).unwrap_or(u64::MAX);
        value(
            "firmware.mmio64_base",
            text,
            "0x and hexadecimal, a multiple of 1 GiB from 4 GiB up to 2^min_phys_bits",
            |text| parse_hex(text).is_some_and(|at| at >= 4 * GIB && at < limit && at % GIB == 0),
        )
    }

    /// [`Self::mmio64_base`] as a number.
    #[must_use]
    pub fn mmio64(&self) -> Option<u64> {
        self.mmio64_base.as_deref().and_then(parse_hex)
    }
}

/// One spelling per number: `0x`, lower case, no leading zero.
fn parse_hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:x}") == digits).then_some(number)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

fn is_machine(model: &str) -> bool {
    let number = |n: &str| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    model == "q35"
        || model
            .strip_prefix("pc-q35-")
            .and_then(|version| version.split_once('.'))
            .is_some_and(|(major, minor)| number(major) && number(minor))
}

fn value(
    field: &'static str,
    got: &str,
    expected: &str,
    good: impl FnOnce(&str) -> bool,
) -> Result<(), ShapeError> {
    if good(got) {
        return Ok(());
    }
    let got = format!("{:?}", got.chars().take(SHOWN_CHARS).collect::<String>());
    Err(ShapeError::Value { field, got, expected: expected.to_owned() })
}

fn range(field: &'static str, got: u64, min: u64, max: u64) -> Result<(), ShapeError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(ShapeError::Value { field, got: got.to_string(), expected: format!("{min} to {max}") })
}

/// Version of a shape file.
pub const SHAPE_VERSION: u32 = 1;

/// Largest shape file, in bytes.
pub const MAX_SHAPE_BYTES: usize = 64 * 1024;

/// Most memory of a shape: 4 TiB.
pub const MAX_MEMORY_MIB: u64 = 4 << 20;

/// Most vCPUs: APIC id 255 is a broadcast, and beyond it the tables take another form.
pub const MAX_VCPUS: u16 = 254;

/// Highest slot a shape may use; 31 is the ICH9's.
pub const MAX_SLOT: u8 = 30;

/// The firmware itself takes some; Linux and a worker the rest.
const MIN_MEMORY_MIB: u64 = 512;

const MAX_NAME_BYTES: usize = 32;
const MAX_SUMMARY_CHARS: usize = 200;
const SHOWN_CHARS: usize = 64;
const GIB: u64 = 1 << 30;
const FINGERPRINT_LABEL: &[u8] = b"chrysalis/shape-fingerprint/v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const TEXT: &str = r#"
version = 1
name = "test"
summary = "a test"
status = "captured"

[machine]
type = "pc-q35-10.1"
memory_mib = 2048
vcpus = 2
min_phys_bits = 46
hpet = false
pic = false
smm = false
vmport = false
smbios_processor_id = 1

[firmware]
profile = "202605"
mmio64_base = "0x380000000000"

[[device]]
slot = 1
kind = "config-disk"

[[device]]
slot = 2
kind = "model-disk"
"#;

    fn parse(from: &str, to: &str) -> Result<Shape, ShapeError> {
        let changed = TEXT.replacen(from, to, 1);
        assert_ne!(changed, TEXT, "the case changes nothing");
        Shape::parse(changed.as_bytes())
    }

    fn refused_field(from: &str, to: &str) -> &'static str {
        match parse(from, to) {
            Err(ShapeError::Value { field, .. }) => field,
            other => panic!("{to} gave {other:?}"),
        }
    }

    #[test]
    fn parses_a_whole_shape() {
        let shape = Shape::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(shape.firmware.mmio64(), Some(0x3800_0000_0000));
        assert_eq!(shape.slot(DeviceKind::ModelDisk), Some(2));
        assert_eq!(shape.slot(DeviceKind::Gpu), None);
        assert_eq!(shape.memory_bytes(), 2 << 30);
    }

    #[test]
    fn refuses_an_unknown_field_and_an_unknown_device() {
        let malformed = |r| matches!(r, Err(ShapeError::Malformed { .. }));
        assert!(malformed(parse("vcpus = 2", "vcpus = 2\nbootindex = 1")));
        assert!(malformed(parse("model-disk", "floppy")));
        assert!(malformed(parse("status = \"captured\"", "status = \"confirmed\"")));
        assert!(malformed(parse("version = 1", "version = -1")));
    }

    #[test]
    fn refuses_a_future_version() {
        let refused = ShapeError::UnsupportedVersion { what: "shape", got: 2 };
        assert_eq!(parse("version = 1", "version = 2"), Err(refused));
    }

    #[test]
    fn refuses_text_that_would_end_a_qemu_option() {
        for bad in ["q35,accel=kvm", "pc-i440fx-9.0", "pc-q35-", "pc-q35-10", "pc-q35-10.1,x=y", ""]
        {
            assert_eq!(refused_field("pc-q35-10.1", bad), "machine.type");
        }
        assert_eq!(refused_field("\"test\"", "\"a,b\""), "name");
        assert_eq!(refused_field("\"test\"", "\"../x\""), "name");
        assert_eq!(refused_field("\"a test\"", "\"a\\u001b[2Jtest\""), "summary");
        assert_eq!(refused_field("\"202605\"", "\"2026 05\""), "firmware.profile");
    }

    #[test]
    fn refuses_numbers_one_past_their_limits() {
        assert_eq!(refused_field("vcpus = 2", "vcpus = 0"), "machine.vcpus");
        assert!(parse("vcpus = 2", "vcpus = 254").is_ok());
        assert_eq!(refused_field("vcpus = 2", "vcpus = 255"), "machine.vcpus");
        assert_eq!(refused_field("= 2048", "= 511"), "machine.memory_mib");
        assert!(parse("= 2048", "= 4194304").is_ok());
        assert_eq!(refused_field("= 2048", "= 4194305"), "machine.memory_mib");
        assert_eq!(refused_field("= 46", "= 53"), "machine.min_phys_bits");
        assert_eq!(refused_field("_id = 1", "_id = 0"), "machine.smbios_processor_id");
        assert_eq!(refused_field("slot = 2", "slot = 31"), "device.slot");
        assert_eq!(refused_field("slot = 1", "slot = 0"), "device.slot");
    }

    #[test]
    fn refuses_devices_out_of_order_or_twice() {
        let order = ShapeError::SlotOrder { slot: 1, previous: 3 };
        let swapped = TEXT.replace("slot = 2", "slot = 9").replace("slot = 1", "slot = 3");
        assert_eq!(Shape::parse(swapped.replace("slot = 9", "slot = 1").as_bytes()), Err(order));
        assert_eq!(
            parse("slot = 2", "slot = 1"),
            Err(ShapeError::SlotOrder { slot: 1, previous: 1 })
        );
        assert_eq!(
            parse("model-disk", "config-disk"),
            Err(ShapeError::DuplicateDevice { kind: "config-disk" })
        );
    }

    #[test]
    fn refuses_a_window_that_is_not_one() {
        for bad in ["380000000000", "0x0380000000000", "0x400000000000", "0x1000", "0x380000000001"]
        {
            assert_eq!(refused_field("0x380000000000", bad), "firmware.mmio64_base");
        }
        assert_eq!(refused_field("mmio64_base = \"0x380000000000\"", ""), "firmware.mmio64_base");
    }

    #[test]
    fn refuses_a_shape_one_byte_over_the_limit() {
        let mut bytes = TEXT.as_bytes().to_vec();
        bytes.resize(MAX_SHAPE_BYTES, b'\n');
        assert!(Shape::parse(&bytes).is_ok());
        bytes.push(b'\n');
        assert!(matches!(Shape::parse(&bytes), Err(ShapeError::TooLarge { .. })));
    }

    #[test]
    fn the_fingerprint_moves_with_what_the_guest_can_see_and_with_nothing_else() {
        let print = |from, to| parse(from, to).unwrap().fingerprint();
        let same = Shape::parse(TEXT.as_bytes()).unwrap().fingerprint();
        assert_eq!(print("a test", "another"), same);
        assert_eq!(print("status = \"captured\"", "status = \"described\""), same);
        for (from, to) in [
            ("vcpus = 2", "vcpus = 3"),
            ("= 2048", "= 2049"),
            ("pic = false", "pic = true"),
            ("0x380000000000", "0x340000000000"),
            ("slot = 2", "slot = 3"),
            ("model-disk", "network"),
        ] {
            assert_ne!(print(from, to), same, "{to}");
        }
    }
}
