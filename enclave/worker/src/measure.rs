//! How the boot events come under the platform's signature, and what the platform says it measured.
//! The platform is trusted, as far as it is the one that clients appraise.
//!
//! A trust domain extends them into RTMR3, the worker itself or the PID 1 it checks here. An SGX
//! enclave has no register: its measured code commits to them in every quote
//! ([`chrysalis_evidence::enclave_events_digest`]), so there is nothing to do at boot but to keep them.

use chrysalis_evidence::nvidia::{DeviceEvidence, device_digest};
use chrysalis_evidence::{
    EnclaveIdentity, Measured, Measurement, enclave_events_digest, event_digest, replay_rtmr,
};
use chrysalis_tee::{Identity, Platform, Registers, SgxIdentity};
use chrysalis_wire::{Digest, RegisterValue, RuntimeEvent};

use crate::args::MeasuredBy;
use crate::error::WorkerError;

/// Brings the events under the platform's signature. Before any key exists.
///
/// # Errors
/// [`WorkerError::Platform`]; [`WorkerError::NotMeasured`] where PID 1 should have measured and did
/// not; [`WorkerError::Usage`] for an enclave that is told of a PID 1.
pub fn measure(
    platform: &dyn Platform,
    by: MeasuredBy,
    events: &[RuntimeEvent],
) -> Result<Measured, WorkerError> {
    match (platform.identity()?, by) {
        (Identity::Sgx(_), MeasuredBy::Init) => {
            Err(WorkerError::Usage("--measured-by init, but an SGX enclave has no PID 1"))
        }
        (Identity::Sgx(SgxIdentity { mrenclave, mrsigner, isv_prod_id, isv_svn }), _) => {
            let (mrenclave, mrsigner) = (Digest(mrenclave), Digest(mrsigner));
            Ok(Measured::Enclave(EnclaveIdentity { mrenclave, mrsigner, isv_prod_id, isv_svn }))
        }
        (Identity::Tdx(_), MeasuredBy::Worker) => {
            for event in events {
                let digest = event_digest(event).map_err(|_| malformed())?;
                platform.extend_runtime(&digest)?;
            }
            platform.measurements().map(registers).map_err(WorkerError::from)
        }
        (Identity::Tdx(found), MeasuredBy::Init) => {
            check_measured(&found, events)?;
            Ok(registers(found))
        }
    }
}

/// What a quote commits to beside the keys: the devices of a trust domain, zeros for none. An enclave,
/// which has no devices, commits to its events in their place.
///
/// # Errors
/// [`WorkerError::Stopped`] for events that are none; boot made them.
pub fn beside_keys(
    measured: &Measured,
    events: &[RuntimeEvent],
    devices: &[DeviceEvidence],
) -> Result<Digest, WorkerError> {
    match measured {
        Measured::Td(_) => Ok(device_digest(devices)),
        Measured::Enclave(_) => enclave_events_digest(events).map_err(|_| malformed()),
    }
}

/// PID 1 measured before this process existed: the register must hold this worker's own events,
/// all of them and nothing else. Clients would find out too; this says it where it can be fixed.
fn check_measured(registers: &Registers, events: &[RuntimeEvent]) -> Result<(), WorkerError> {
    let expected = replay_rtmr(events).map_err(|_| malformed())?;
    let [_, _, _, got] = registers.rtmr;
    if got == expected {
        return Ok(());
    }
    Err(WorkerError::NotMeasured { expected: RegisterValue(expected), got: RegisterValue(got) })
}

const fn registers(Registers { mrtd, rtmr }: Registers) -> Measured {
    Measured::Td(Measurement { mrtd, rtmr })
}

const fn malformed() -> WorkerError {
    WorkerError::Stopped("runtime register")
}

#[cfg(test)]
pub(crate) mod tests {
    use chrysalis_evidence::boot_events;
    use chrysalis_tee::TeeError;
    use zeroize::Zeroizing;

    use super::*;

    const ENCLAVE: SgxIdentity =
        SgxIdentity { mrenclave: [1; 32], mrsigner: [2; 32], isv_prod_id: 3, isv_svn: 4 };

    /// An enclave as Gramine shows one: no register at all.
    pub(crate) struct Enclave;

    impl Platform for Enclave {
        fn name(&self) -> &'static str {
            "gramine-sgx"
        }

        fn quote(&self, _: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
            Err(TeeError::Simulator("not asked"))
        }

        fn measurements(&self) -> Result<Registers, TeeError> {
            Err(TeeError::Simulator("an enclave has no registers"))
        }

        fn identity(&self) -> Result<Identity, TeeError> {
            Ok(Identity::Sgx(ENCLAVE))
        }

        fn extend_runtime(&self, _: &[u8; 48]) -> Result<(), TeeError> {
            Err(TeeError::Simulator("an enclave has no register"))
        }

        fn sealing_key(&self, _: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
            Err(TeeError::Simulator("not asked"))
        }
    }

    /// A trust domain that measured nothing.
    pub(crate) struct Domain;

    impl Platform for Domain {
        fn name(&self) -> &'static str {
            "tdx"
        }

        fn quote(&self, _: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
            Err(TeeError::Simulator("not asked"))
        }

        fn measurements(&self) -> Result<Registers, TeeError> {
            Ok(registers([0; 48]))
        }

        fn extend_runtime(&self, _: &[u8; 48]) -> Result<(), TeeError> {
            Err(TeeError::Simulator("no register"))
        }

        fn sealing_key(&self, _: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
            Err(TeeError::Simulator("not asked"))
        }
    }

    fn registers(rtmr3: [u8; 48]) -> Registers {
        Registers { mrtd: [0; 48], rtmr: [[0; 48], [0; 48], [0; 48], rtmr3] }
    }

    #[test]
    fn accepts_exactly_the_events_of_its_own_manifest_from_init() {
        let own = boot_events(&Digest([1; 32]), &Digest([2; 32]));
        let held = registers(replay_rtmr(&own).unwrap());
        assert!(check_measured(&held, &own).is_ok());

        let other = boot_events(&Digest([1; 32]), &Digest([3; 32]));
        for wrong in [[0; 48], replay_rtmr(&other).unwrap(), replay_rtmr(&own[..1]).unwrap()] {
            let refused = check_measured(&registers(wrong), &own);
            assert!(matches!(refused, Err(WorkerError::NotMeasured { .. })));
        }
    }

    #[test]
    fn an_enclave_extends_nothing_and_commits_to_its_events() {
        let own = boot_events(&Digest([1; 32]), &Digest([2; 32]));
        let measured = measure(&Enclave, MeasuredBy::Worker, &own).unwrap();
        assert_eq!(measured.enclave().unwrap().mrenclave, Digest([1; 32]));
        assert_eq!(measured.enclave().unwrap().isv_svn, 4);
        let committed = beside_keys(&measured, &own, &[]).unwrap();
        assert_eq!(committed, enclave_events_digest(&own).unwrap());
        let td = Measured::Td(Measurement { mrtd: [0; 48], rtmr: [[0; 48]; 4] });
        assert_eq!(beside_keys(&td, &own, &[]).unwrap(), Digest([0; 32]));
        let shown = [DeviceEvidence { report: vec![1], chain: vec![2] }];
        assert_eq!(beside_keys(&td, &own, &shown).unwrap(), device_digest(&shown));
    }

    #[test]
    fn refuses_a_trust_domain_whose_register_cannot_be_extended_or_was_not() {
        let own = boot_events(&Digest([1; 32]), &Digest([2; 32]));
        let refused = measure(&Domain, MeasuredBy::Worker, &own).unwrap_err();
        assert_eq!(refused.code(), TeeError::Simulator("").code());
        let refused = measure(&Domain, MeasuredBy::Init, &own).unwrap_err();
        assert_eq!(refused.code(), "E-NOT-MEASURED");
    }

    #[test]
    fn refuses_an_enclave_that_is_told_of_a_pid_1() {
        let refused = measure(&Enclave, MeasuredBy::Init, &[]).unwrap_err();
        assert_eq!(refused.code(), "E-USAGE");
    }
}
