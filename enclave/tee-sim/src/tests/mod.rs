//! The simulator against the verifiers it is made for.

mod appraisal;
mod dcap;
mod device;
mod enclave;
mod exchange;
