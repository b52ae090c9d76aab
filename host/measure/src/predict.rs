//! What a worker's registers will be. The formulas are those of `chrysalis-evidence`, which the
//! simulator uses too; what this adds is that nothing has to run to know the answer.

use chrysalis_evidence::{Measurement, boot_events, replay_rtmr, sim};
use chrysalis_wire::{Digest, NetworkId, WorkerManifest};
use sha2::{Digest as _, Sha256};

use crate::error::MeasureError;

/// The registers of one worker with one manifest, and what the manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// MRTD and RTMR0..3.
    pub registers: Measurement,
    /// SHA-256 of the manifest's exact bytes: the policy digest.
    pub manifest_sha256: Digest,
    /// Model root the manifest names.
    pub model_root: Digest,
    /// Network the manifest names.
    pub network: NetworkId,
}

impl Prediction {
    /// The measurement digest that receipts of this worker name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.registers.digest()
    }
}

/// Predicts the registers of the process-mode simulator: MRTD is a hash of the executable,
/// RTMR0..2 are constants, RTMR3 is the replay of the two boot events.
///
/// # Errors
/// [`MeasureError::EmptyExecutable`], [`MeasureError::Manifest`]; and
/// [`MeasureError::NotSimulated`], because a worker whose platform is simulated refuses every
/// other network.
pub fn predict_process(executable: &[u8], manifest: &[u8]) -> Result<Prediction, MeasureError> {
    if executable.is_empty() {
        return Err(MeasureError::EmptyExecutable);
    }
    let parsed = WorkerManifest::parse(manifest)?;
    if parsed.network != NetworkId::INSECURE_SIM {
        return Err(MeasureError::NotSimulated { network: parsed.network });
    }
    let manifest_sha256 = Digest(Sha256::digest(manifest).into());
    let model_root = parsed.model.root;
    let rtmr3 = replay_rtmr(&boot_events(&manifest_sha256, &model_root))?;
    let registers = Measurement {
        mrtd: sim::mrtd(executable),
        rtmr: [sim::rtmr0(), sim::rtmr1(), sim::rtmr2(), rtmr3],
    };
    Ok(Prediction { registers, manifest_sha256, model_root, network: parsed.network })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest() -> String {
        format!(
            "version = 1\nnetwork = 5458253\nregistry = \"{}\"\n\n[model]\nname = \"m\"\n\
             root = \"{}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
             context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n\
             [prices]\nprompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n",
            "0".repeat(64),
            "22".repeat(32),
        )
    }

    #[test]
    fn predicts_the_registers_computed_apart_from_this_code() {
        // Python, hashlib only, from the formulas in `chrysalis_evidence::{sim, events}`:
        // see the comment at the end of this file.
        let got = predict_process(b"worker", manifest().as_bytes()).unwrap();
        assert_eq!(got.model_root, Digest([0x22; 32]));
        assert_eq!(got.manifest_sha256.to_string(), MANIFEST_SHA256);
        assert_eq!(hex::encode(got.registers.mrtd), MRTD);
        assert_eq!(hex::encode(got.registers.rtmr[0]), RTMR0);
        assert_eq!(hex::encode(got.registers.rtmr[3]), RTMR3);
    }

    #[test]
    fn one_byte_of_the_executable_moves_mrtd_and_nothing_else() {
        let a = predict_process(b"worker", manifest().as_bytes()).unwrap();
        let b = predict_process(b"workes", manifest().as_bytes()).unwrap();
        assert_ne!(a.registers.mrtd, b.registers.mrtd);
        assert_eq!(a.registers.rtmr, b.registers.rtmr);
        assert_ne!(a.digest(), b.digest());
    }

    #[test]
    fn one_space_in_the_manifest_moves_rtmr3_and_nothing_else() {
        let spaced = manifest().replace("version = 1", "version =  1");
        let a = predict_process(b"worker", manifest().as_bytes()).unwrap();
        let b = predict_process(b"worker", spaced.as_bytes()).unwrap();
        assert_eq!(a.registers.mrtd, b.registers.mrtd);
        assert_eq!(
            a.registers.rtmr.split_last().unwrap().1,
            b.registers.rtmr.split_last().unwrap().1
        );
        assert_ne!(a.registers.rtmr[3], b.registers.rtmr[3]);
    }

    #[test]
    fn refuses_a_manifest_the_worker_would_refuse() {
        let unknown = manifest().replace("sealed = false", "sealed = false\nx = 1");
        assert!(matches!(
            predict_process(b"worker", unknown.as_bytes()),
            Err(MeasureError::Manifest(_))
        ));
    }

    #[test]
    fn refuses_to_predict_a_simulated_worker_on_mainnet() {
        let mainnet = manifest().replace("5458253", "-239");
        assert_eq!(
            predict_process(b"worker", mainnet.as_bytes()),
            Err(MeasureError::NotSimulated { network: NetworkId::MAINNET })
        );
    }

    #[test]
    fn refuses_an_empty_executable() {
        let refused = predict_process(b"", manifest().as_bytes());
        assert_eq!(refused, Err(MeasureError::EmptyExecutable));
    }

    // from hashlib import sha384, sha256
    // mrtd  = sha384(b"chrysalis/sim/mrtd/v1" + sha384(b"worker").digest())
    // rtmr0 = sha384(b"chrysalis/sim/rtmr0/v1")
    // event = lambda name, payload:
    //     sha384(b"chrysalis/event/v1\0" + name + b"\0" + payload).digest()
    // rtmr3 = sha384(sha384(bytes(48) + event(b"manifest", sha256(manifest).digest())).digest()
    //     + event(b"model-root", b"\x22" * 32))
    const MANIFEST_SHA256: &str =
        "7f481f0b7edb441b82e770aa4791e61938c789be711fc35627210f8f9e24995d";
    const MRTD: &str = "2b72e1684d7abb589f96ddcc02fac12a7bf18d9defaa76d2a7c630979cdb0e7e103f7ded\
        a34a269289d2f3fb8bbd5bec";
    const RTMR0: &str = "440871a5063f1af230f1f2694d14da95330fb4bb39dfa935b7c3f15d66285370c63b3bb6\
        93352689b57caa8e9a57430c";
    const RTMR3: &str = "851bda1b3d2d69cc4fa1e7df58925270d8b0bffe9ff8d079bcebfd5e8f667ef5d61ece13\
        e117171319f1d324cf2f7f2a";
}
