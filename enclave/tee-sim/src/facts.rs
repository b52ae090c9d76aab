//! What the simulated machine claims to be: SVNs and ids that certificate, collateral and quote
//! must agree on. Made-up values in the shape of a production TDX server's.

/// Platform family. No real FMSPC begins with these digits.
pub const FMSPC: [u8; 6] = [0xFA, 0xCE, 0x51, 0x4D, 0, 0];
/// Platform provisioning id.
pub const PPID: [u8; 16] = *b"INSECURE-SIMPPID";
/// Platform instance id, what a platform allowlist names.
pub const PLATFORM_INSTANCE_ID: [u8; 16] = *b"INSECURE-SIM HW1";

/// Microcode and firmware SVNs. The certificate's CPUSVN is the same bytes.
pub(crate) const CPU_SVN: [u8; 16] = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
/// SVN of the provisioning certification enclave.
pub(crate) const PCE_SVN: u8 = 13;
pub(crate) const PCE_ID: [u8; 2] = [0, 0];

/// TDX SVNs: module ISVSVN 5, module version 1 (so the module identity `TDX_01` applies), then
/// the late microcode update.
pub(crate) const TEE_TCB_SVN: [u8; 16] = [5, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A microcode update older than the collateral asks for: matches only the OutOfDate level.
pub(crate) const OLD_TEE_TCB_SVN: [u8; 16] = [5, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const TDX_MODULE_ISV_SVN: u8 = TEE_TCB_SVN[0];

/// `QE` identity, of the enclave that quotes SGX enclaves.
pub(crate) const SGX_QE_PROD_ID: u16 = 1;
pub(crate) const SGX_QE_SVN: u16 = 8;
/// `TD_QE` identity.
pub(crate) const QE_PROD_ID: u16 = 2;
pub(crate) const QE_SVN: u16 = 4;
/// INIT, MODE64BIT and PROVISIONKEY, as the real quoting enclave.
pub(crate) const QE_ATTRIBUTES: [u8; 16] = [0x15, 0, 0, 0, 0, 0, 0, 0, 0xE7, 0, 0, 0, 0, 0, 0, 0];
/// The 20 user bytes of the quote header, where the real quoting enclave puts its id.
pub(crate) const QE_ID: [u8; 20] = *b"INSECURE-SIM FAKE QE";
