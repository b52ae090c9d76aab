//! The Gramine backend: SGX through the pseudo-files of `/dev/attestation`.
//!
//! Trusts the Gramine library OS, which is part of the enclave measurement. The quote itself comes
//! from the host's quoting enclave and is only checked for our `report_data`.
//!
//! `user_report_data` is one global of the process, so a quote is a write and a read that nothing
//! may come between: one mutex covers both.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_wire::limits::MAX_QUOTE_BYTES;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::TeeError;
use crate::files::{Files, HostFiles};
use crate::platform::{Identity, Platform, Registers, SgxIdentity};
use crate::quote::{self, Tee};

/// An SGX enclave under Gramine 1.8 or newer.
pub struct GraminePlatform {
    dir: PathBuf,
    files: Box<dyn Files>,
    state: Mutex<()>,
}

impl GraminePlatform {
    /// The platform at `dir`, normally `/dev/attestation`. Touches nothing yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self::with_files(dir, Box::new(HostFiles))
    }

    /// The platform on injected files.
    #[must_use]
    pub const fn with_files(dir: PathBuf, files: Box<dyn Files>) -> Self {
        Self { dir, files, state: Mutex::new(()) }
    }

    fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, TeeError> {
        let path = self.dir.join(name);
        self.files.read(&path, limit).map_err(|e| failed("read", path, e.kind()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TeeError> {
        let path = self.dir.join(name);
        self.files.write(&path, bytes).map_err(|e| failed("write", path, e.kind()))
    }
}

impl Platform for GraminePlatform {
    fn name(&self) -> &'static str {
        "gramine-sgx"
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let _exclusive = self.exclusive();
        self.write("user_report_data", report_data)?;
        let quote = self.read("quote", MAX_QUOTE_BYTES)?;
        quote::check(&quote, Tee::Sgx, report_data)?;
        Ok(quote)
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        Err(TeeError::Unsupported {
            platform: self.name(),
            operation: "read TDX registers",
            why: "an SGX enclave is measured by MRENCLAVE and has no TDX registers",
        })
    }

    fn identity(&self) -> Result<Identity, TeeError> {
        let _exclusive = self.exclusive();
        // A report for ourselves: the CPU fills in who we are. Nobody verifies its MAC, because
        // it never leaves the enclave.
        let own_target = self.read("my_target_info", MAX_TARGET_INFO_BYTES)?;
        self.write("target_info", &own_target)?;
        self.write("user_report_data", &[0; 64])?;
        let report = self.read("report", SGX_REPORT_BYTES)?;
        let short = || TeeError::WrongLength {
            path: self.dir.join("report"),
            expected: SGX_REPORT_BYTES,
            got: report.len(),
        };
        let report: &[u8; SGX_REPORT_BYTES] = report.as_slice().try_into().map_err(|_| short())?;
        Ok(Identity::Sgx(SgxIdentity {
            mrenclave: field(report, 64).ok_or_else(short)?,
            mrsigner: field(report, 128).ok_or_else(short)?,
            isv_prod_id: u16::from_le_bytes(field(report, 256).ok_or_else(short)?),
            isv_svn: u16::from_le_bytes(field(report, 258).ok_or_else(short)?),
        }))
    }

    fn extend_runtime(&self, _digest: &[u8; 48]) -> Result<(), TeeError> {
        Err(TeeError::Unsupported {
            platform: self.name(),
            operation: "extend a runtime register",
            why: "SGX has none; what must be measured belongs into the Gramine manifest",
        })
    }

    fn sealing_key(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        let path = self.dir.join(MRENCLAVE_KEY);
        let secret = Zeroizing::new(self.read(MRENCLAVE_KEY, SGX_KEY_BYTES)?);
        if secret.len() != SGX_KEY_BYTES {
            let (expected, got) = (SGX_KEY_BYTES, secret.len());
            return Err(TeeError::WrongLength { path, expected, got });
        }
        if secret.iter().all(|byte| *byte == 0) {
            return Err(TeeError::SealingKeyNotSet { path });
        }
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(SEALING_SALT), &secret)
            .expand(purpose.as_bytes(), key.as_mut_slice())
            .map_err(|_| TeeError::Unsupported {
                platform: self.name(),
                operation: "derive a sealing key",
                why: "HKDF-SHA256 gives at most 8160 bytes",
            })?;
        Ok(key)
    }
}

fn field<const N: usize>(report: &[u8], offset: usize) -> Option<[u8; N]> {
    report.get(offset..)?.first_chunk::<N>().copied()
}

const fn failed(what: &'static str, path: PathBuf, kind: ErrorKind) -> TeeError {
    TeeError::Io {
        what,
        path,
        kind,
        next_step: "Run under gramine-sgx with sgx.remote_attestation = \"dcap\"",
    }
}

/// Bound to MRENCLAVE: another build of the worker derives another key.
const MRENCLAVE_KEY: &str = "keys/_sgx_mrenclave";
const SEALING_SALT: &[u8] = b"chrysalis/tee/sealing/1";
const SGX_KEY_BYTES: usize = 16;
/// An EREPORT structure.
const SGX_REPORT_BYTES: usize = 432;
/// TARGETINFO is 512 bytes.
const MAX_TARGET_INFO_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeGramine, sgx_quote};

    const OURS: [u8; 64] = [0x33; 64];

    fn platform(gramine: &FakeGramine) -> GraminePlatform {
        GraminePlatform::with_files(gramine.dir(), Box::new(gramine.clone()))
    }

    #[test]
    fn quotes_over_our_report_data() {
        assert_eq!(platform(&FakeGramine::new()).quote(&OURS), Ok(sgx_quote(&OURS)));
    }

    #[test]
    fn refuses_a_quote_for_other_report_data() {
        let gramine = FakeGramine::new().answering(sgx_quote(&[1; 64]));
        assert_eq!(platform(&gramine).quote(&OURS), Err(TeeError::QuoteOtherReportData));
    }

    #[test]
    fn refuses_an_empty_quote() {
        let gramine = FakeGramine::new().answering(Vec::new());
        assert_eq!(platform(&gramine).quote(&OURS).unwrap_err().code(), "E-QUOTE-MALFORMED");
    }

    #[test]
    fn names_the_missing_quote_file_when_attestation_is_off() {
        let gramine = FakeGramine::new();
        std::fs::remove_file(gramine.dir().join("quote")).unwrap();
        assert!(matches!(
            platform(&gramine).quote(&OURS),
            Err(TeeError::Io { what: "read", kind: ErrorKind::NotFound, .. })
        ));
    }

    #[test]
    fn keeps_write_and_read_together_under_concurrency() {
        let platform = platform(&FakeGramine::new());
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let platform = &platform;
                scope.spawn(move || {
                    for round in 0..50u8 {
                        let wanted = [thread * 50 + round; 64];
                        assert_eq!(platform.quote(&wanted), Ok(sgx_quote(&wanted)));
                    }
                });
            }
        });
    }

    #[test]
    fn reads_its_own_identity_from_a_self_report() {
        assert_eq!(
            platform(&FakeGramine::new()).identity(),
            Ok(Identity::Sgx(SgxIdentity {
                mrenclave: [0xE1; 32],
                mrsigner: [0xE2; 32],
                isv_prod_id: 0x0102,
                isv_svn: 0x0304,
            }))
        );
    }

    #[test]
    fn refuses_to_pass_an_enclave_off_as_a_tdx_guest() {
        let error = platform(&FakeGramine::new()).measurements().unwrap_err();
        assert_eq!(error.code(), "E-TEE-UNSUPPORTED");
    }

    #[test]
    fn refuses_a_short_report() {
        let gramine = FakeGramine::new().with_report(vec![0; 431]);
        assert!(matches!(
            platform(&gramine).identity(),
            Err(TeeError::WrongLength { expected: 432, got: 431, .. })
        ));
    }

    #[test]
    fn refuses_to_extend_a_register_sgx_does_not_have() {
        let error = platform(&FakeGramine::new()).extend_runtime(&[0; 48]).unwrap_err();
        assert_eq!(error.code(), "E-TEE-UNSUPPORTED");
    }

    #[test]
    fn derives_one_sealing_key_per_purpose() {
        let platform = platform(&FakeGramine::new());
        let key = |purpose| *platform.sealing_key(purpose).unwrap();
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        assert_ne!(key("a")[..16], [0xE3; 16], "the hardware key itself was handed out");
    }

    #[test]
    fn refuses_an_unset_sealing_key_and_one_of_another_length() {
        let gramine = FakeGramine::new();
        let platform = platform(&gramine);
        let file = gramine.dir().join(MRENCLAVE_KEY);
        std::fs::write(&file, [0; 16]).unwrap();
        assert_eq!(platform.sealing_key("a").unwrap_err().code(), "E-TEE-SEALING-KEY");
        std::fs::write(&file, [1; 15]).unwrap();
        assert_eq!(platform.sealing_key("a").unwrap_err().code(), "E-TEE-LENGTH");
        std::fs::write(&file, []).unwrap();
        assert_eq!(platform.sealing_key("a").unwrap_err().code(), "E-TEE-LENGTH");
    }
}
