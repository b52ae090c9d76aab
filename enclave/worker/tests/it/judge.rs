//! A verifier that pins the rig's worker on the simulated platform.

use std::time::Duration;

use chrysalis_evidence::exchange::{Awaiting, ExchangeError, Judged, Message};
use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, Session, Verdict, sim};
use chrysalis_wire::AttestationDocument;
use chrysalis_worker::peer::PeerGate;

use crate::rig::{NOW, Rig};

/// What the simulated platform measures in these tests.
pub(crate) const EXECUTABLE: &[u8] = b"the worker of these tests";

/// Pins and collateral.
pub(crate) struct Judge {
    appraiser: Appraiser,
    collateral: Collateral,
}

impl Judge {
    /// A verifier that accepts the image [`EXECUTABLE`] with the manifest of `rig`.
    pub(crate) fn of(rig: &Rig) -> Self {
        Self::with_devices(rig, "")
    }

    /// The same, with a `[device]` section.
    pub(crate) fn with_devices(rig: &Rig, devices: &str) -> Self {
        let text = format!(
            "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = 5458253\n\
             [[worker]]\nname = \"rig\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\n\
             rtmr2 = \"{}\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n[platform]\n\
             td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\n\
             max_collateral_age_days = 30\nmin_tcb_evaluation_number = 20\n\
             allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n{devices}",
            hex::encode(chrysalis_tee_sim::sim_root_der()),
            hex::encode(sim::mrtd(EXECUTABLE)),
            hex::encode(sim::rtmr0()),
            hex::encode(sim::rtmr1()),
            hex::encode(sim::rtmr2()),
            rig.worker.policy_digest,
            rig.worker.manifest.model.root,
            hex::encode(sim::TD_ATTRIBUTES),
            hex::encode(sim::XFAM),
            hex::encode(sim::mr_seam()),
        );
        let appraiser = Appraiser::new(Pins::parse(&text, AllowSim::Yes).unwrap());
        let collateral = chrysalis_tee_sim::collateral(NOW.seconds());
        Self { appraiser, collateral: Collateral::parse(collateral.as_bytes()).unwrap() }
    }

    /// Code of the refusal, or none.
    pub(crate) fn refusal(
        &self,
        document: &AttestationDocument,
        session: &Session,
    ) -> Option<&'static str> {
        self.verdict(document, session).result.err().map(|refusal| refusal.code)
    }

    /// The verdict, with every rule.
    pub(crate) fn verdict(&self, document: &AttestationDocument, session: &Session) -> Verdict {
        self.appraiser.appraise(document, session, &self.collateral, NOW.seconds())
    }

    /// The same verifier as the gate of a worker.
    pub(crate) fn into_gate(self, interval: Duration) -> PeerGate {
        PeerGate::new(self.appraiser, self.collateral, interval)
    }

    /// The same with other collateral.
    pub(crate) fn into_gate_with(self, collateral: &str, interval: Duration) -> PeerGate {
        let collateral = Collateral::parse(collateral.as_bytes()).unwrap();
        PeerGate::new(self.appraiser, collateral, interval)
    }

    /// Judges what came in answer to a challenge.
    pub(crate) fn receive(
        &self,
        awaiting: Awaiting,
        message: &Message,
    ) -> Result<Judged, ExchangeError> {
        let (clock, now) = (NOW.seconds(), std::time::Instant::now());
        awaiting.receive(message, &self.appraiser, &self.collateral, clock, now)
    }
}
