//! INSECURE-SIM FAKE reports in the genuine form: SPDM request and response, signed by the leaf's
//! public-knowledge key.

use core::fmt::Write as _;

use chrysalis_evidence::nvidia::DeviceKind;
use sha2::{Digest as _, Sha384};

use super::{DeviceFault, SimDevice};

/// Driver version of simulated GPUs.
pub const DRIVER: &str = "999.51.13";
/// VBIOS version of simulated devices.
pub const VBIOS: &str = "5A.4E.51.4D.01";

impl SimDevice {
    pub(super) fn report(&self, nonce: &[u8; 32]) -> Vec<u8> {
        let mut out = vec![0x11, 0xe0, 0x01, 0xff];
        out.extend_from_slice(nonce);
        if self.lies(DeviceFault::StaleNonce) {
            flip(&mut out, 4);
        }
        out.push(0);
        let records = self.records();
        let count = u8::try_from(records.len()).unwrap_or(u8::MAX);
        out.extend([0x11, 0x60, 0, 0, count]);
        let length = u32::from(count).saturating_mul(BLOCK_BYTES).to_le_bytes();
        out.extend_from_slice(length.split_last().map_or(&[], |(_, low)| low));
        for (index, record) in (1u8..).zip(&records) {
            out.extend([index, 1, 51, 0, 1, 48, 0]);
            out.extend_from_slice(record);
        }
        out.extend_from_slice(b"INSECURE-SIM FAKE DEVICE NONCE  ");
        let opaque = self.opaque();
        out.extend(u16::try_from(opaque.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(opaque);
        let foreign = self.lies(DeviceFault::ForeignKey);
        let key = if foreign { self.device_key() } else { self.leaf_key() };
        let signature = key.sign_raw(&out);
        out.extend(signature);
        out
    }

    fn records(&self) -> Vec<[u8; 48]> {
        let mut records: Vec<[u8; 48]> =
            (1..=records_of(self.kind)).map(|index| record(self.kind, index)).collect();
        let mut change = |index: u8| {
            if let Some(record) = records.get_mut(usize::from(index).saturating_sub(1)) {
                flip(record, 0);
            }
        };
        if self.lies(DeviceFault::OtherRecord) {
            change(NON_ZERO);
        }
        if self.lies(DeviceFault::ExtraRecord) {
            change(UNLISTED);
        }
        records
    }

    fn opaque(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut field = |kind: u16, value: &[u8]| {
            out.extend(kind.to_le_bytes());
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(value);
        };
        let old = u8::from(self.lies(DeviceFault::OtherVbios));
        if self.kind.is_switch() {
            field(6, if old == 1 { b"5A.4E.51.4D.00" } else { VBIOS.as_bytes() });
            return out;
        }
        field(6, &[0x4d, 0x51, 0x4e, 0x5a, 1u8.saturating_sub(old), 0, 0, 0]);
        field(15, b"514\0\0\0");
        field(17, b"5A4E\0");
        field(18, b"0001\0");
        let driver: &[u8] =
            if self.lies(DeviceFault::OtherDriver) { b"999.51.12\0" } else { b"999.51.13\0" };
        if !self.lies(DeviceFault::NoDriver) {
            field(3, driver);
        }
        let mut firmware = self.firmware();
        if self.lies(DeviceFault::OtherFirmware) {
            flip(&mut firmware, 0);
        }
        if !self.lies(DeviceFault::NoFirmware) {
            field(20, &firmware);
        }
        field(36, if self.lies(DeviceFault::OtherMode) { &[0, 0] } else { &[2, 0] });
        out
    }
}

/// The golden values of one part, as a pins entry: records below 20 are the VBIOS's, the others the
/// driver's; switches have no driver.
pub(super) fn golden(part: &str, kind: DeviceKind, version: &str) -> String {
    let mut text = format!(
        "\n[[device.{part}]]\nkind = \"{kind}\"\nversion = \"{version}\"\n[device.{part}.records]\n"
    );
    for index in (1..=records_of(kind)).filter(|index| *index != UNLISTED) {
        if kind.is_switch() || (index < FIRST_OF_DRIVER) == (part == "vbios") {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{index} = [\"{}\"]", hex::encode(record(kind, index)));
        }
    }
    text
}

const fn records_of(kind: DeviceKind) -> u8 {
    if kind.is_switch() { 31 } else { 64 }
}

/// Some records are zero, as they are on genuine devices.
fn record(kind: DeviceKind, index: u8) -> [u8; 48] {
    if index == 1 || index == UNLISTED {
        return [0; 48];
    }
    let hash = Sha384::new().chain_update("chrysalis/sim/device/record/v1");
    hash.chain_update(kind.to_string()).chain_update([index]).finalize().into()
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

/// A measurement block: seven bytes and the digest.
const BLOCK_BYTES: u32 = 55;
const FIRST_OF_DRIVER: u8 = 20;
/// A record with a golden value.
const NON_ZERO: u8 = 2;
/// A zero record without one.
const UNLISTED: u8 = 9;
