//! The simulated machine: registers in memory, quotes under FAKE keys. INSECURE-SIM.

use std::sync::{Mutex, PoisonError};

use chrysalis_evidence::sim;
use chrysalis_tee::{Platform, Registers, TeeError};
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::Zeroizing;

use crate::facts::{OLD_TEE_TCB_SVN, TEE_TCB_SVN};
use crate::keys::Signer;
use crate::quote::TdReport;

/// A simulated TDX guest that measures one executable.
pub struct SimPlatform {
    mrtd: [u8; 48],
    rtmr3: Mutex<[u8; 48]>,
    faults: Faults,
}

/// Ways in which a simulated platform lies, one refusal each. All off by default.
///
/// For tests that need refused evidence; [`SimPlatform::with_faults`] is the only way to set one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The TD runs under debug: `td_attributes` bit 0.
    pub debug: bool,
    /// The quote carries other report data than asked for: a replayed quote.
    pub wrong_report_data: bool,
    /// One bit of the quote's signature is flipped.
    pub bad_signature: bool,
    /// The quote is signed by a key the quoting enclave did not vouch for.
    pub uncertified_key: bool,
    /// The last byte of the quote is missing.
    pub truncated: bool,
    /// The platform's microcode is older than its collateral asks for: status OutOfDate.
    pub out_of_date: bool,
    /// The TDX module is not the pinned one.
    pub wrong_mr_seam: bool,
    /// Another executable was measured.
    pub wrong_mrtd: bool,
    /// Extensions of RTMR3 report success and change nothing.
    pub lost_extend: bool,
    /// There are no quotes at all.
    pub no_quote: bool,
}

impl SimPlatform {
    /// A platform that measured `executable`, with RTMR3 still zero.
    #[must_use]
    pub fn new(executable: &[u8]) -> Self {
        Self { mrtd: sim::mrtd(executable), rtmr3: Mutex::new([0; 48]), faults: Faults::default() }
    }

    /// The same platform, with an RTMR3 that somebody extended before: PID 1 of a simulated VM.
    #[must_use]
    pub fn with_runtime_register(mut self, rtmr3: [u8; 48]) -> Self {
        self.rtmr3 = Mutex::new(rtmr3);
        self
    }

    /// The same platform, lying as `faults` says.
    #[must_use]
    pub const fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// A quote with header and TD report, and the report of the quoting enclave, changed before each
    /// is signed: both offsets count from the beginning of the part.
    ///
    /// For evidence that is genuine but for what it says, beyond what [`Faults`] have a name for.
    pub fn forge_quote(
        &self,
        report_data: &[u8; 64],
        body: impl Fn(&mut Vec<u8>),
        qe_report: impl Fn(&mut Vec<u8>),
    ) -> Vec<u8> {
        let signer =
            if self.faults.uncertified_key { Signer::Stranger } else { Signer::Attestation };
        self.report(report_data).quote(signer, &body, &qe_report)
    }

    /// The TD report, with its lies.
    fn report(&self, report_data: &[u8; 64]) -> TdReport {
        let faults = self.faults;
        let Registers { mrtd, rtmr } = self.registers();
        let mut report = TdReport {
            tee_tcb_svn: if faults.out_of_date { OLD_TEE_TCB_SVN } else { TEE_TCB_SVN },
            mr_seam: sim::mr_seam(),
            td_attributes: sim::TD_ATTRIBUTES,
            mrtd,
            rtmr,
            report_data: *report_data,
        };
        if faults.debug {
            flip_a_bit(&mut report.td_attributes);
        }
        if faults.wrong_mr_seam {
            flip_a_bit(&mut report.mr_seam);
        }
        if faults.wrong_report_data {
            flip_a_bit(&mut report.report_data);
        }
        report
    }

    fn registers(&self) -> Registers {
        let mut mrtd = self.mrtd;
        if self.faults.wrong_mrtd {
            flip_a_bit(&mut mrtd);
        }
        let rtmr3 = *self.rtmr3.lock().unwrap_or_else(PoisonError::into_inner);
        Registers { mrtd, rtmr: [sim::rtmr0(), sim::rtmr1(), sim::rtmr2(), rtmr3] }
    }
}

impl Platform for SimPlatform {
    fn name(&self) -> &'static str {
        sim::PLATFORM
    }

    fn insecure_sim(&self) -> bool {
        true
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let faults = self.faults;
        if faults.no_quote {
            return Err(TeeError::Simulator("told to make no quotes"));
        }
        let mut quote = self.forge_quote(report_data, |_| {}, |_| {});
        if faults.bad_signature {
            flip_a_bit(quote.get_mut(SIGNATURE_OFFSET..).unwrap_or_default());
        }
        if faults.truncated {
            quote.pop();
        }
        Ok(quote)
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        Ok(self.registers())
    }

    fn extend_runtime(&self, digest: &[u8; 48]) -> Result<(), TeeError> {
        if !self.faults.lost_extend {
            let mut rtmr3 = self.rtmr3.lock().unwrap_or_else(PoisonError::into_inner);
            *rtmr3 = Sha384::new().chain_update(*rtmr3).chain_update(digest).finalize().into();
        }
        Ok(())
    }

    /// A key that everybody can compute: it seals nothing.
    fn sealing_key(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        let key = Sha256::new().chain_update(WORTHLESS_SEALING_SEED).chain_update(purpose);
        Ok(Zeroizing::new(key.finalize().into()))
    }
}

const fn flip_a_bit(bytes: &mut [u8]) {
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
}

/// Header 48, TD report 584, length 4; then the signature.
const SIGNATURE_OFFSET: usize = 636;
/// Public on purpose.
const WORTHLESS_SEALING_SEED: &[u8] = b"INSECURE-SIM FAKE sealing key, public and worthless v1";
