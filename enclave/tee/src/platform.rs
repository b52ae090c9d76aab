//! What every platform offers, and the measurement it reports about itself.

use zeroize::Zeroizing;

use crate::error::TeeError;

/// A machine that can attest what runs on it. Calls block: a quote through configfs takes about
/// a second, so async callers move them to a blocking thread.
pub trait Platform: Send + Sync {
    /// `tdx`, `gramine-sgx` or `INSECURE-SIM`.
    fn name(&self) -> &'static str;

    /// Whether the evidence is worthless because it is signed under the public FAKE root.
    fn insecure_sim(&self) -> bool {
        false
    }

    /// A quote that carries exactly `report_data`.
    ///
    /// `report_data` is a digest the caller computed itself, never bytes a peer supplied: signing
    /// those would make the worker a quoting oracle.
    ///
    /// # Errors
    /// [`TeeError::NoQuote`] on TDX when both routes failed; otherwise whatever the backend met.
    /// A quote for other report data is an error, never a result.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError>;

    /// The measurement registers of this TDX guest as the platform reports them.
    ///
    /// # Errors
    /// [`TeeError::Unsupported`] on Gramine, whose measurement is an [`Identity::Sgx`]; otherwise
    /// when a register cannot be read or has the wrong length.
    fn measurements(&self) -> Result<Registers, TeeError>;

    /// What was measured, whatever the platform; for self-appraisal and status.
    ///
    /// # Errors
    /// When the platform cannot be read.
    fn identity(&self) -> Result<Identity, TeeError> {
        self.measurements().map(Identity::Tdx)
    }

    /// Extends the runtime register (RTMR3): `RTMR3 = SHA-384(RTMR3 || digest)`. Irreversible
    /// until the machine restarts.
    ///
    /// # Errors
    /// [`TeeError::Unsupported`] on Gramine, which has no such register;
    /// [`TeeError::ExtendNotApplied`] when the register does not hold the new value afterwards.
    fn extend_runtime(&self, digest: &[u8; 48]) -> Result<(), TeeError>;

    /// A key only this measurement on this machine can derive, separated by `purpose`.
    ///
    /// # Errors
    /// [`TeeError::Unsupported`] on TDX, which has no sealing key.
    fn sealing_key(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError>;
}

/// What the platform measured. TDX and SGX measure differently shaped things, and a value of one
/// must never be compared with a pin of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A TDX guest, or the simulator imitating one.
    Tdx(Registers),
    /// An SGX enclave.
    Sgx(SgxIdentity),
}

/// The measurement registers of a TDX guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The initial memory of the guest.
    pub mrtd: [u8; 48],
    /// Runtime registers: 0 and 1 firmware and kernel, 2 command line and initrd, 3 our own.
    pub rtmr: [[u8; 48]; 4],
}

/// The identity of an SGX enclave (Intel SDM vol. 3D, REPORT structure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SgxIdentity {
    /// Digest of the enclave's initial contents.
    pub mrenclave: [u8; 32],
    /// Digest of the key that signed the enclave.
    pub mrsigner: [u8; 32],
    /// Product id chosen by the signer.
    pub isv_prod_id: u16,
    /// Security version chosen by the signer.
    pub isv_svn: u16,
}
