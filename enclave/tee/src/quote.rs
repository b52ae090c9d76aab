//! Finds `report_data` in a quote that the host handed us. Input is attacker-controlled; nothing
//! is believed beyond the fields read here, and nothing is verified: that is appraisal.
//!
//! Offsets: Intel TDX DCAP Quote Generation Library API, "Quote format"; header 48 bytes, then
//! (version 5 only) a 6-byte body descriptor, then the body.

use crate::error::TeeError;

/// The kind of machine a quote must come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tee {
    Sgx,
    Tdx,
}

impl Tee {
    const fn wire(self) -> u32 {
        match self {
            Self::Sgx => 0,
            Self::Tdx => 0x81,
        }
    }
}

/// Refuses a quote of another machine kind or for other report data.
pub(crate) fn check(quote: &[u8], tee: Tee, report_data: &[u8; 64]) -> Result<(), TeeError> {
    let version = u16::from_le_bytes(array(quote, 0)?);
    let got = u32::from_le_bytes(array(quote, 4)?);
    if got != tee.wire() {
        return Err(TeeError::QuoteOtherTee { expected: tee.wire(), got });
    }
    let offset = match (version, tee) {
        (3 | 4, Tee::Sgx) => SGX_REPORT_DATA_V4,
        (4, Tee::Tdx) => TD_REPORT_DATA_V4,
        (5, _) => match (u16::from_le_bytes(array(quote, HEADER_BYTES)?), tee) {
            (1, Tee::Sgx) => SGX_REPORT_DATA_V5,
            (2..=4, Tee::Tdx) => TD_REPORT_DATA_V5,
            _ => return Err(TeeError::QuoteMalformed("unknown body type")),
        },
        _ => return Err(TeeError::QuoteMalformed("unknown version")),
    };
    if array::<64>(quote, offset)? == *report_data {
        Ok(())
    } else {
        Err(TeeError::QuoteOtherReportData)
    }
}

fn array<const N: usize>(quote: &[u8], offset: usize) -> Result<[u8; N], TeeError> {
    quote
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(TeeError::QuoteMalformed("shorter than its report data"))
}

const HEADER_BYTES: usize = 48;
const BODY_DESCRIPTOR_BYTES: usize = 6;
const SGX_REPORT_DATA_V4: usize = HEADER_BYTES + 320;
const TD_REPORT_DATA_V4: usize = HEADER_BYTES + 520;
const SGX_REPORT_DATA_V5: usize = SGX_REPORT_DATA_V4 + BODY_DESCRIPTOR_BYTES;
const TD_REPORT_DATA_V5: usize = TD_REPORT_DATA_V4 + BODY_DESCRIPTOR_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{sgx_quote, td_quote};

    const OURS: [u8; 64] = [0xA5; 64];

    #[test]
    fn finds_report_data_in_every_known_layout() {
        assert_eq!(check(&sgx_quote(&OURS), Tee::Sgx, &OURS), Ok(()));
        assert_eq!(check(&td_quote(&OURS), Tee::Tdx, &OURS), Ok(()));
        for body_type in 2..=4u8 {
            let mut v5 = td_quote(&OURS);
            v5[0] = 5;
            v5.splice(48..48, [body_type, 0, 0, 0, 0, 0]);
            assert_eq!(check(&v5, Tee::Tdx, &OURS), Ok(()));
        }
    }

    #[test]
    fn refuses_one_changed_bit_of_report_data() {
        let mut other = OURS;
        other[63] ^= 1;
        assert_eq!(check(&td_quote(&other), Tee::Tdx, &OURS), Err(TeeError::QuoteOtherReportData));
        assert_eq!(check(&sgx_quote(&other), Tee::Sgx, &OURS), Err(TeeError::QuoteOtherReportData));
    }

    #[test]
    fn refuses_a_quote_of_the_other_kind_of_machine() {
        assert_eq!(
            check(&sgx_quote(&OURS), Tee::Tdx, &OURS),
            Err(TeeError::QuoteOtherTee { expected: 0x81, got: 0 })
        );
        assert_eq!(
            check(&td_quote(&OURS), Tee::Sgx, &OURS),
            Err(TeeError::QuoteOtherTee { expected: 0, got: 0x81 })
        );
    }

    #[test]
    fn refuses_every_quote_that_ends_before_its_report_data_does() {
        let quote = td_quote(&OURS);
        for len in 0..TD_REPORT_DATA_V4 + 64 {
            assert!(check(&quote[..len], Tee::Tdx, &OURS).is_err(), "accepted {len} bytes");
        }
    }

    #[test]
    fn refuses_an_unknown_version_and_an_unknown_body_type() {
        let mut quote = td_quote(&OURS);
        quote[0] = 6;
        assert_eq!(
            check(&quote, Tee::Tdx, &OURS),
            Err(TeeError::QuoteMalformed("unknown version"))
        );
        quote[0] = 5;
        quote.splice(48..48, [1, 0, 0, 0, 0, 0]);
        assert_eq!(
            check(&quote, Tee::Tdx, &OURS),
            Err(TeeError::QuoteMalformed("unknown body type"))
        );
    }
}
