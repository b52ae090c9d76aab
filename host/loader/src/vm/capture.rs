//! Captures what a QEMU gives the firmware of a shape, without a guest: the machine is built and
//! stopped, the few registers the firmware sets before it reads the tables are set, and the
//! fw_cfg files are read by DMA as the firmware does.

use chrysalis_shape::{Blob, BlobKind, Blobs, Capture, Shape};

use super::Qemu;
use super::argv::capture_arguments;
use super::qtest::{Qtest, refuse};
use crate::error::LoaderError;

/// Captures `shape` as `qemu` builds it. Takes under a second.
///
/// # Errors
/// [`LoaderError::Unsupported`] for a shape with hardware of the host's; [`LoaderError::Capture`]
/// naming the step.
pub fn capture(qemu: &Qemu, shape: &Shape) -> Result<Capture, LoaderError> {
    let blobs = blobs_of(qemu, shape, &capture_arguments(shape)?)?;
    Ok(Capture::of(shape, qemu.version()?, blobs))
}

/// The blobs of a machine that `arguments` build as `shape` says.
pub(super) fn blobs_of(
    qemu: &Qemu,
    shape: &Shape,
    arguments: &[String],
) -> Result<Blobs, LoaderError> {
    let mut qtest = Qtest::start(qemu, arguments)?;
    let mut guest = Firmware { qtest: &mut qtest };
    guest.set_up_chipset()?;
    guest.place_bars(shape)?;
    guest.blobs()
}

/// Reads the four blobs of a QEMU as it stands. It builds the tables at the first read.
#[cfg(test)]
pub(super) fn read_blobs(qtest: &mut Qtest) -> Result<Blobs, LoaderError> {
    Firmware { qtest }.blobs()
}

/// Does to the machine what the firmware does before it reads the tables.
struct Firmware<'a> {
    qtest: &'a mut Qtest,
}

/// A 64-bit BAR.
struct Bar {
    slot: u8,
    register: u8,
    flags: u32,
    size: u64,
}

impl Firmware<'_> {
    /// The MCFG table and the ACPI I/O ports are in the tables only once the chipset decodes them.
    fn set_up_chipset(&mut self) -> Result<(), LoaderError> {
        if self.config_read(MCH, 0)? != Q35_MCH_ID {
            return Err(refuse("chipset", "the machine is not a q35".to_owned()));
        }
        self.config_write(MCH, PCIEXBAR + 4, 0)?;
        self.config_write(MCH, PCIEXBAR, PCIEXBAR_VALUE)?;
        self.config_write(ICH9_LPC, PMBASE, PMBASE_VALUE)?;
        self.config_write(ICH9_LPC, ACPI_CONTROL, ACPI_ENABLE)
    }

    /// Gives every 64-bit BAR an address from the window of the shape up, large ones first as the
    /// firmware's allocator does. The window in the DSDT begins at the lowest.
    fn place_bars(&mut self, shape: &Shape) -> Result<(), LoaderError> {
        let Some(base) = shape.firmware.mmio64() else { return Ok(()) };
        let mut bars = Vec::new();
        for device in &shape.devices {
            let mut register = FIRST_BAR;
            while register <= LAST_BAR {
                let flags = self.config_read(device.slot, register)? & BAR_FLAGS;
                if flags & BAR_TYPE_MASK == BAR_TYPE_MEM64 {
                    let size = self.bar_size(device.slot, register)?;
                    bars.push(Bar { slot: device.slot, register, flags, size });
                    register += 4;
                }
                register += 4;
            }
        }
        if bars.is_empty() {
            return Err(refuse("BARs", "no device has the 64-bit BAR the shape speaks of".into()));
        }
        bars.sort_by_key(|bar| std::cmp::Reverse(bar.size));
        let mut next = base;
        for bar in bars {
            let at = next.checked_next_multiple_of(bar.size);
            let end = at.and_then(|at| at.checked_add(bar.size));
            let (Some(at), Some(end)) = (at, end) else {
                return Err(refuse("BARs", "they do not fit behind the window's base".into()));
            };
            let [low, high] = halves(at);
            self.config_write(bar.slot, bar.register, low | bar.flags)?;
            self.config_write(bar.slot, bar.register + 4, high)?;
            self.config_write(bar.slot, COMMAND, MEMORY_DECODE)?;
            next = end;
        }
        Ok(())
    }

    /// Writes ones and reads back which bits stuck, as PCI Local Bus 3.0 §6.2.5.1 says.
    fn bar_size(&mut self, slot: u8, register: u8) -> Result<u64, LoaderError> {
        self.config_write(slot, register, u32::MAX)?;
        self.config_write(slot, register + 4, u32::MAX)?;
        let low = self.config_read(slot, register)? & !BAR_FLAGS;
        let high = self.config_read(slot, register + 4)?;
        let mask = u64::from(high) << 32 | u64::from(low);
        let size = (!mask).wrapping_add(1);
        if !size.is_power_of_two() {
            return Err(refuse("BARs", format!("slot {slot} has a BAR of {size:#x} bytes")));
        }
        Ok(size)
    }

    fn blobs(&mut self) -> Result<Blobs, LoaderError> {
        let directory = self.directory()?;
        let mut blob = |kind: BlobKind| -> Result<Blob, LoaderError> {
            let name = kind.fw_cfg_name();
            let file = directory.iter().find(|f| f.name == name).ok_or_else(|| {
                refuse("fw_cfg", format!("this QEMU gives the firmware no {name}"))
            })?;
            let bytes = self.select_and_read(file.selector, file.size)?;
            Blob::new(kind, bytes).map_err(|e| refuse("fw_cfg", e.to_string()))
        };
        Ok(Blobs {
            table_loader: blob(BlobKind::TableLoader)?,
            rsdp: blob(BlobKind::Rsdp)?,
            tables: blob(BlobKind::Tables)?,
            smbios: blob(BlobKind::Smbios)?,
        })
    }

    /// The fw_cfg directory: `u32 count`, then `{u32 size, u16 selector, u16 0, char name[56]}`,
    /// big endian.
    fn directory(&mut self) -> Result<Vec<File>, LoaderError> {
        let wrong = || refuse("fw_cfg", "its directory is malformed".to_owned());
        let head = self.select_and_read(DIRECTORY_SELECTOR, 4)?;
        let count = head.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or_else(wrong)?;
        let count = usize::try_from(count).ok().filter(|n| *n <= MAX_FILES).ok_or_else(wrong)?;
        let all = self.select_and_read(DIRECTORY_SELECTOR, 4 + count * ENTRY_BYTES)?;
        let entries = all.get(4..).unwrap_or_default().chunks_exact(ENTRY_BYTES);
        entries
            .map(|entry| {
                let (size, rest) = entry.split_first_chunk::<4>()?;
                let (selector, rest) = rest.split_first_chunk::<2>()?;
                let name = rest.get(2..)?.split(|b| *b == 0).next()?;
                Some(File {
                    size: usize::try_from(u32::from_be_bytes(*size)).ok()?,
                    selector: u16::from_be_bytes(*selector),
                    name: String::from_utf8_lossy(name).into_owned(),
                })
            })
            .collect::<Option<_>>()
            .ok_or_else(wrong)
    }

    /// One DMA transfer: a `{u32 control, u32 length, u64 address}` in guest memory, big endian,
    /// whose own address goes to the DMA register; QEMU clears `control` when it is done.
    fn select_and_read(&mut self, selector: u16, len: usize) -> Result<Vec<u8>, LoaderError> {
        let size = u32::try_from(len).ok().filter(|_| len <= MAX_FILE_BYTES).ok_or_else(|| {
            refuse("fw_cfg", format!("a file of {len} bytes is over the limit of {MAX_FILE_BYTES}"))
        })?;
        let control = u32::from(selector) << 16 | DMA_SELECT | DMA_READ;
        let mut request = control.to_be_bytes().to_vec();
        request.extend_from_slice(&size.to_be_bytes());
        request.extend_from_slice(&BUFFER.to_be_bytes());
        self.qtest.write(REQUEST.into(), &request)?;
        self.qtest.outl(DMA_PORT, 0)?;
        self.qtest.outl(DMA_PORT + 4, REQUEST.swap_bytes())?;
        if self.qtest.read(REQUEST.into(), 4)? != [0; 4] {
            return Err(refuse("fw_cfg", "a DMA transfer failed".to_owned()));
        }
        self.qtest.read(BUFFER, len)
    }

    fn config_read(&mut self, slot: u8, register: u8) -> Result<u32, LoaderError> {
        self.qtest.outl(CONFIG_ADDRESS, config_address(slot, register))?;
        self.qtest.inl(CONFIG_DATA)
    }

    fn config_write(&mut self, slot: u8, register: u8, value: u32) -> Result<(), LoaderError> {
        self.qtest.outl(CONFIG_ADDRESS, config_address(slot, register))?;
        self.qtest.outl(CONFIG_DATA, value)
    }
}

/// A file in the fw_cfg directory.
struct File {
    name: String,
    selector: u16,
    size: usize,
}

/// PCI configuration mechanism 1; everything is on bus 0, function 0.
fn config_address(slot: u8, register: u8) -> u32 {
    1 << 31 | u32::from(slot) << 11 | u32::from(register)
}

/// Low and high half.
#[allow(clippy::cast_possible_truncation)] // that is what halves are
const fn halves(address: u64) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Slots of the chipset: host bridge, and LPC bridge of the ICH9.
const MCH: u8 = 0;
const ICH9_LPC: u8 = 31;

/// Device and vendor id of the host bridge.
const Q35_MCH_ID: u32 = 0x29c0_8086;

/// Where OVMF puts the ECAM: 256 MiB at 0xe0000000, enabled.
const PCIEXBAR: u8 = 0x60;
const PCIEXBAR_VALUE: u32 = 0xe000_0001;

/// Where OVMF puts the ACPI I/O ports.
const PMBASE: u8 = 0x40;
const PMBASE_VALUE: u32 = 0x600;
const ACPI_CONTROL: u8 = 0x44;
const ACPI_ENABLE: u32 = 0x80;

const FIRST_BAR: u8 = 0x10;
const LAST_BAR: u8 = 0x24;
const BAR_FLAGS: u32 = 0xf;
const BAR_TYPE_MASK: u32 = 0x7;
const BAR_TYPE_MEM64: u32 = 0x4;
const COMMAND: u8 = 0x04;
const MEMORY_DECODE: u32 = 0x2;

/// fw_cfg's DMA register, its directory and its commands.
const DMA_PORT: u16 = 0x514;
const DIRECTORY_SELECTOR: u16 = 0x19;
const DMA_READ: u32 = 2;
const DMA_SELECT: u32 = 8;
const ENTRY_BYTES: usize = 64;
const MAX_FILES: usize = 256;

/// Largest file read: the tables, 128 KiB, fit below the VGA hole at 640 KiB with the rest.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// Guest addresses of the DMA request and of the buffer.
const REQUEST: u32 = 0x1000;
const BUFFER: u64 = 0x1_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_configuration_space_as_mechanism_1_says() {
        assert_eq!(config_address(31, 0x40), 0x8000_f840);
        assert_eq!(halves(0x3800_0000_4000), [0x4000, 0x3800]);
    }
}
