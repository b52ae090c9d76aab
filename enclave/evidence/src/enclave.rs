//! SGX enclaves: what a verified report says about one, and how its quote comes to vouch for the
//! manifest and the model although SGX has no runtime register. The digest here is the protocol;
//! the fields come out of a verified quote and prove nothing by themselves.
//!
//! A trust domain extends its boot events into RTMR3, and the CPU signs the register. An enclave
//! has no register, but it has `report_data`, which only its own measured code can choose. So the
//! worker replays the same two events in its memory and puts the result into the leaf that
//! [`crate::Binding`] hashes, in the place of the devices it cannot have:
//!
//! ```text
//! device_digest = SHA-256("chrysalis/enclave-events/v1" || replay_rtmr(manifest, model-root)[48])
//! ```
//!
//! A verifier recomputes it from the events in the document, so a worker whose quote is accepted
//! runs pinned code which says that it read this manifest and serves this model. Under an
//! MRENCLAVE pin that is said twice: the Gramine manifest, which MRENCLAVE covers, lists the worker
//! manifest as a trusted file. Under an MRSIGNER pin, where one signer has many enclaves, it is
//! what tells them apart.

use chrysalis_wire::{Digest, RuntimeEvent};
use sha2::{Digest as _, Sha256};

use crate::events::{EventError, replay_rtmr};

/// The digest of an enclave's boot events that its `report_data` commits to: `device_digest` of
/// its [`crate::Binding`].
///
/// # Errors
/// [`EventError`] for a log that is too long or has a malformed event.
pub fn enclave_events_digest(events: &[RuntimeEvent]) -> Result<Digest, EventError> {
    let mut hash = Sha256::new();
    hash.update(EVENTS_DOMAIN);
    hash.update(replay_rtmr(events)?);
    Ok(Digest(hash.finalize().into()))
}

/// An SGX enclave report (Intel SDM vol. 3D, REPORT structure), reserved bytes apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnclaveReport {
    pub(crate) misc_select: [u8; 4],
    /// ATTRIBUTES.FLAGS as in the report, little endian.
    pub(crate) flags: [u8; 8],
    /// ATTRIBUTES.XFRM as in the report, little endian.
    pub(crate) xfrm: [u8; 8],
    pub(crate) mrenclave: Digest,
    pub(crate) mrsigner: Digest,
    pub(crate) config_id: [u8; 64],
    pub(crate) config_svn: u16,
    pub(crate) isv_prod_id: u16,
    pub(crate) isv_svn: u16,
    pub(crate) isv_ext_prod_id: [u8; 16],
    pub(crate) isv_family_id: [u8; 16],
    pub(crate) report_data: [u8; 64],
    /// Whether every byte without a meaning is zero.
    pub(crate) reserved_zero: bool,
}

impl From<&dcap_qvl::quote::EnclaveReport> for EnclaveReport {
    fn from(report: &dcap_qvl::quote::EnclaveReport) -> Self {
        // The library leaves the fields of KSS inside its reserved ranges. All lengths are types,
        // so the splits below cannot fail and nothing is left over.
        let (before_ext, isv_ext_prod_id) = split(&report.reserved1);
        let (before_config, config_id) = split(&report.reserved3);
        let (config_svn, rest) = head(&report.reserved4);
        let (before_family, isv_family_id) = split(rest);
        let (flags, _) = head(&report.attributes);
        let (_, xfrm) = split(&report.attributes);
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        Self {
            misc_select: report.misc_select.to_le_bytes(),
            flags,
            xfrm,
            mrenclave: Digest(report.mr_enclave),
            mrsigner: Digest(report.mr_signer),
            config_id,
            config_svn: u16::from_le_bytes(config_svn),
            isv_prod_id: report.isv_prod_id,
            isv_svn: report.isv_svn,
            isv_ext_prod_id,
            isv_family_id,
            report_data: report.report_data,
            reserved_zero: zero(before_ext)
                && zero(&report.reserved2)
                && zero(before_config)
                && zero(before_family),
        }
    }
}

/// What stands before the last `N` bytes, and those.
fn split<const N: usize>(bytes: &[u8]) -> (&[u8], [u8; N]) {
    match bytes.split_last_chunk() {
        Some((before, last)) => (before, *last),
        // 0xff is refused by every rule, should a length here ever be wrong.
        None => (bytes, [0xff; N]),
    }
}

/// The first `N` bytes, and what follows them.
fn head<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    match bytes.split_first_chunk() {
        Some((first, after)) => (*first, after),
        None => ([0xff; N], bytes),
    }
}

const EVENTS_DOMAIN: &[u8] = b"chrysalis/enclave-events/v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_events;

    #[test]
    fn the_digest_of_events_is_the_documented_hash() {
        // Computed apart from this code, with Python's hashlib, from the formula above.
        let events = boot_events(&Digest([0x11; 32]), &Digest([0x22; 32]));
        assert_eq!(enclave_events_digest(&events).unwrap().to_string(), KNOWN);
    }

    #[test]
    fn the_digest_of_events_is_never_that_of_no_devices() {
        assert_ne!(enclave_events_digest(&[]).unwrap(), Digest([0; 32]));
    }

    #[test]
    fn every_field_of_a_report_is_read_from_its_place() {
        // A report whose byte at offset n is n: SDM vol. 3D, table of the REPORT structure.
        let bytes: Vec<u8> = (0..384u16).map(|n| u8::try_from(n & 0xff).unwrap()).collect();
        let mut quote = vec![0; 48];
        quote[0] = 3;
        quote[2] = 2;
        quote.extend_from_slice(&bytes);
        // Signature data of the shortest form the library reads.
        let data = [vec![0; 64 + 64 + 384 + 64], vec![0, 0], vec![5, 0], vec![0; 4]].concat();
        quote.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        quote.extend_from_slice(&data);
        let parsed = dcap_qvl::quote::Quote::parse(&quote).unwrap();
        let report = EnclaveReport::from(parsed.report.as_sgx().unwrap());
        assert_eq!(report.misc_select, bytes[16..20]);
        assert_eq!(report.isv_ext_prod_id, bytes[32..48]);
        assert_eq!(report.flags, bytes[48..56]);
        assert_eq!(report.xfrm, bytes[56..64]);
        assert_eq!(report.mrenclave.0, bytes[64..96]);
        assert_eq!(report.mrsigner.0, bytes[128..160]);
        assert_eq!(report.config_id, bytes[192..256]);
        assert_eq!(report.isv_prod_id.to_le_bytes(), bytes[256..258]);
        assert_eq!(report.isv_svn.to_le_bytes(), bytes[258..260]);
        assert_eq!(report.config_svn.to_le_bytes(), bytes[260..262]);
        assert_eq!(report.isv_family_id, bytes[304..320]);
        assert_eq!(report.report_data, bytes[320..384]);
        assert!(!report.reserved_zero);
    }

    #[test]
    fn one_reserved_byte_anywhere_is_noticed() {
        let reserved = (20..32).chain(96..128).chain(160..192).chain(262..304);
        let clean = dcap_qvl::quote::EnclaveReport {
            cpu_svn: [1; 16],
            misc_select: 1,
            reserved1: [0; 28],
            attributes: [1; 16],
            mr_enclave: [1; 32],
            reserved2: [0; 32],
            mr_signer: [1; 32],
            reserved3: [0; 96],
            isv_prod_id: 1,
            isv_svn: 1,
            reserved4: [0; 60],
            report_data: [1; 64],
        };
        assert!(EnclaveReport::from(&clean).reserved_zero);
        for at in reserved {
            let mut report = clean;
            match at {
                20..32 => report.reserved1[at - 20] = 1,
                96..128 => report.reserved2[at - 96] = 1,
                160..192 => report.reserved3[at - 160] = 1,
                _ => report.reserved4[at - 260] = 1,
            }
            assert!(!EnclaveReport::from(&report).reserved_zero, "offset {at}");
        }
    }

    const KNOWN: &str = "72949d2b6c2d6dd1f10cef9402693a361589770d15e3f6cf81db9ca1f433180b";
}
