//! The simulated SGX machine: one enclave, quotes under FAKE keys. INSECURE-SIM.
//!
//! It stands where Gramine's platform stands, behind [`Platform`]: `/dev/attestation` answers a
//! write with another file's contents, which no directory of plain files can imitate. Like Gramine it
//! has no runtime register.

use chrysalis_evidence::{EnclaveIdentity, sim};
use chrysalis_tee::{Identity, Platform, Registers, SgxIdentity, TeeError};
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::facts::CPU_SVN;
use crate::keys::Signer;
use crate::quote::enclave_quote;

/// A simulated SGX enclave that measures one executable.
#[derive(Clone, Debug)]
pub struct SimEnclave {
    report: SimReport,
}

/// What the simulated CPU puts into the report of an enclave. Every field may be changed: the quote
/// is signed as it stands, for tests that need evidence which is genuine and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimReport {
    /// MRENCLAVE, MRSIGNER, ISVPRODID, ISVSVN.
    pub identity: EnclaveIdentity,
    /// ATTRIBUTES.FLAGS.
    pub attributes: [u8; 8],
    /// XFRM.
    pub xfrm: [u8; 8],
    /// MISCSELECT.
    pub misc_select: [u8; 4],
    /// CONFIGID.
    pub config_id: [u8; 64],
    /// CONFIGSVN.
    pub config_svn: u16,
    /// ISVEXTPRODID.
    pub isv_ext_prod_id: [u8; 16],
    /// ISVFAMILYID.
    pub isv_family_id: [u8; 16],
    /// First of the bytes without a meaning.
    pub reserved: u8,
    /// Version of the quote: 3, 4 or 5.
    pub quote_version: u16,
    /// The quote carries other report data than asked for: a replayed quote.
    pub wrong_report_data: bool,
    /// The quote is signed by a key the quoting enclave did not vouch for.
    pub uncertified_key: bool,
}

impl SimEnclave {
    /// An enclave made of `executable`.
    #[must_use]
    pub fn new(executable: &[u8]) -> Self {
        Self {
            report: SimReport {
                identity: sim::enclave(executable),
                attributes: sim::SGX_ATTRIBUTES,
                xfrm: sim::SGX_XFRM,
                misc_select: sim::SGX_MISC_SELECT,
                config_id: [0; 64],
                config_svn: 0,
                isv_ext_prod_id: [0; 16],
                isv_family_id: [0; 16],
                reserved: 0,
                quote_version: 3,
                wrong_report_data: false,
                uncertified_key: false,
            },
        }
    }

    /// The same enclave with a changed report.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut SimReport)) -> Self {
        change(&mut self.report);
        self
    }

    /// The report for `report_data`, laid out as in the Intel SDM, vol. 3D.
    fn body(&self, report_data: &[u8; 64]) -> [u8; 384] {
        let SimReport { identity, .. } = &self.report;
        let mut data = *report_data;
        if self.report.wrong_report_data {
            data[0] ^= 1;
        }
        let parts: [&[u8]; 18] = [
            &CPU_SVN,
            &self.report.misc_select,
            &[self.report.reserved],
            &[0; 11],
            &self.report.isv_ext_prod_id,
            &self.report.attributes,
            &self.report.xfrm,
            &identity.mrenclave.0,
            &[0; 32],
            &identity.mrsigner.0,
            &[0; 32],
            &self.report.config_id,
            &identity.isv_prod_id.to_le_bytes(),
            &identity.isv_svn.to_le_bytes(),
            &self.report.config_svn.to_le_bytes(),
            &[0; 42],
            &self.report.isv_family_id,
            &data,
        ];
        let mut body = [0; 384];
        body.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        body
    }
}

impl Platform for SimEnclave {
    fn name(&self) -> &'static str {
        sim::PLATFORM
    }

    fn insecure_sim(&self) -> bool {
        true
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let key = if self.report.uncertified_key { Signer::Stranger } else { Signer::Attestation };
        Ok(enclave_quote(&self.body(report_data), self.report.quote_version, key))
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        Err(unsupported("read TDX registers"))
    }

    fn identity(&self) -> Result<Identity, TeeError> {
        let EnclaveIdentity { mrenclave: Digest(mrenclave), mrsigner: Digest(mrsigner), .. } =
            self.report.identity;
        let EnclaveIdentity { isv_prod_id, isv_svn, .. } = self.report.identity;
        Ok(Identity::Sgx(SgxIdentity { mrenclave, mrsigner, isv_prod_id, isv_svn }))
    }

    fn extend_runtime(&self, _: &[u8; 48]) -> Result<(), TeeError> {
        Err(unsupported("extend a runtime register"))
    }

    /// A key that everybody can compute: it seals nothing.
    fn sealing_key(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        let key = Sha256::new()
            .chain_update(b"INSECURE-SIM FAKE sealing key of an enclave, public and worthless v1")
            .chain_update(self.report.identity.mrenclave.0)
            .chain_update(purpose);
        Ok(Zeroizing::new(key.finalize().into()))
    }
}

const fn unsupported(operation: &'static str) -> TeeError {
    let why = "a simulated SGX enclave has no TDX registers, as a real one";
    TeeError::Unsupported { platform: sim::PLATFORM, operation, why }
}
