//! Where a quote claims its report data to be. The quote is not verified here, only laid open: a
//! certificate whose own words already contradict each other needs no cryptography to be refused.
//!
//! Layouts: Intel SGX ECDSA quote library reference (v3), Intel TDX DCAP quoting library (v4, v5).

use chrysalis_wire::limits::MAX_QUOTE_BYTES;

use crate::error::RatlsError;

/// The claimed report of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedReport<'a> {
    /// Version and TEE type of the header, and everything of the report before its report data.
    pub(crate) identity: (u16, u32, &'a [u8]),
    /// The claimed report data.
    pub(crate) report_data: &'a [u8; 64],
}

impl<'a> ClaimedReport<'a> {
    pub(crate) fn of(quote: &'a [u8]) -> Result<Self, RatlsError> {
        if quote.len() > MAX_QUOTE_BYTES {
            let (limit, got) = (MAX_QUOTE_BYTES, quote.len());
            return Err(RatlsError::TooLarge { what: "quote", limit, got });
        }
        let short = RatlsError::Quote { reason: "ends inside its report" };
        let (Some(version), Some(tee)) = (u16_at(quote, 0), u32_at(quote, 4)) else {
            return Err(short);
        };
        let (body_at, report_data_at) = match (version, tee) {
            (3, TEE_SGX) => (HEADER_BYTES, SGX_REPORT_DATA_AT),
            (4, TEE_TDX) => (HEADER_BYTES, TD_REPORT_DATA_AT),
            (5, TEE_TDX) => (HEADER_BYTES + V5_BODY_HEADER_BYTES, TD_REPORT_DATA_AT),
            _ => return Err(RatlsError::Quote { reason: "unknown version or TEE type" }),
        };
        let report = quote
            .get(body_at..)
            .and_then(|body| body.split_at_checked(report_data_at))
            .and_then(|(before, rest)| Some((before, rest.first_chunk::<64>()?)));
        let (before, report_data) = report.ok_or(short)?;
        Ok(Self { identity: (version, tee, before), report_data })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const HEADER_BYTES: usize = 48;
/// Body type u16 and size u32.
const V5_BODY_HEADER_BYTES: usize = 6;
const SGX_REPORT_DATA_AT: usize = 320;
const TD_REPORT_DATA_AT: usize = 520;
