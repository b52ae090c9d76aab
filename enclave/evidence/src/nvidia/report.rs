//! The form of an NVIDIA attestation report: an SPDM 1.1 `GET_MEASUREMENTS` request and the
//! `MEASUREMENTS` answer behind it. Input is attacker-controlled; every length is checked against
//! the bytes that are there, and nothing read here is trusted before the signature is verified.
//!
//! ```text
//! request   11 E0 01 FF  nonce[32]  slot
//! response  11 60 00 00  blocks u8  length u24le  block…  nonce[32]  opaque length u16le  opaque
//!           signature[96] = r || s, ECDSA P-384 with SHA-384 over everything before it
//! block     index u8 (1, 2, 3, …)  01  size u16le  |  type u8  value size u16le  value[48]
//! ```
//!
//! Source: DMTF DSP0274 1.1, `GET_MEASUREMENTS` and `MEASUREMENTS`; what NVIDIA devices put into
//! them was seen on reports of GH100, GB100 and LS10. Integers are little-endian.

use chrysalis_wire::Decoder;

use super::MAX_DEVICE_REPORT_BYTES;
use super::error::DeviceError;
use super::opaque::Opaque;

/// Most measurement records in a report; GPUs have 64, switches 31.
pub const MAX_RECORDS: usize = 64;

/// A SHA-384 measurement.
pub type Record = [u8; 48];

/// A report of known form. Its fields are claims until [`super::Device::verify`] has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// Request and response up to the signature.
    pub(crate) signed: &'a [u8],
    /// `r || s`.
    pub(crate) signature: [u8; 96],
    /// The nonce of the request, the verifier's if the report is fresh.
    pub nonce: [u8; 32],
    /// The measurements; position `i` is SPDM index `i + 1`.
    pub records: Vec<Record>,
    /// What the device says about itself.
    pub opaque: Opaque,
}

impl<'a> Report<'a> {
    /// Reads a report, which must fill `bytes` exactly.
    ///
    /// # Errors
    /// [`DeviceError`] with code `E-GPU-REPORT`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DeviceError> {
        if bytes.len() > MAX_DEVICE_REPORT_BYTES {
            return Err(DeviceError::ReportTooLarge { got: bytes.len() });
        }
        let mut d = Decoder::new(bytes);
        fixed(&mut d, "request header", REQUEST)?;
        let nonce = d.array("request nonce")?;
        fixed(&mut d, "request slot", [0])?;
        fixed(&mut d, "response header", RESPONSE)?;
        let blocks = d.u8("number of measurement blocks")?;
        let [a, b, c] = d.array("measurement record length")?;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
        let records = records(blocks, d.take("measurement blocks", length)?)?;
        // The device's own nonce: nothing depends on it.
        d.array::<32>("response nonce")?;
        let length = u16::from_le_bytes(d.array("opaque length")?);
        let opaque = Opaque::parse(d.take("opaque data", usize::from(length))?)?;
        let signed = bytes.get(..bytes.len().saturating_sub(d.remaining().len())).unwrap_or(bytes);
        let signature = d.array("signature")?;
        d.finish("report")?;
        Ok(Self { signed, signature, nonce, records, opaque })
    }
}

fn records(blocks: u8, bytes: &[u8]) -> Result<Vec<Record>, DeviceError> {
    let count = usize::from(blocks);
    if count > MAX_RECORDS {
        let what = "measurement blocks";
        return Err(DeviceError::TooMany { what, limit: MAX_RECORDS, got: count });
    }
    let mut d = Decoder::new(bytes);
    let mut records = Vec::with_capacity(count);
    for index in 1..=blocks {
        // Index, DMTF specification, size; then type and value size. Every record seen is a
        // SHA-384 digest of type 1, mutable firmware, and what is not cannot be compared.
        fixed(&mut d, "measurement block", [index, 1, 51, 0, 1, 48, 0])?;
        records.push(d.array("measurement")?);
    }
    d.finish("measurement blocks")?;
    Ok(records)
}

fn fixed<const N: usize>(
    d: &mut Decoder<'_>,
    what: &'static str,
    wanted: [u8; N],
) -> Result<(), DeviceError> {
    let got: [u8; N] = d.array(what)?;
    if got == wanted {
        return Ok(());
    }
    let expected = "the one form NVIDIA devices use";
    Err(DeviceError::Field { what, expected, got: hex::encode(got) })
}

/// SPDM 1.1, GET_MEASUREMENTS, signature asked for, all measurements.
const REQUEST: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
/// SPDM 1.1, MEASUREMENTS, number of indices not asked for, slot 0.
const RESPONSE: [u8; 4] = [0x11, 0x60, 0, 0];
