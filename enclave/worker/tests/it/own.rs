//! A worker before it says ready: it appraises evidence of its own as a client would, and does not
//! go on if that is refused.

use std::path::PathBuf;
use std::sync::Arc;

use chrysalis_tee::Platform;
use chrysalis_tee_sim::device::sim_device_root_der;
use chrysalis_tee_sim::{Faults, SimPlatform, collateral, sim_root_der};
use chrysalis_worker::appraise::self_appraise;
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::{SimRoots, WorkerError};

use crate::judge::EXECUTABLE;
use crate::rig::{NOW, Rig};

pub(crate) fn roots() -> SimRoots {
    SimRoots { platform: sim_root_der(), devices: sim_device_root_der() }
}

/// The collateral as the file a host supplies.
pub(crate) fn collateral_file(name: &str) -> PathBuf {
    let file = format!("chrysalis-own-{name}-{}.json", std::process::id());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, collateral(NOW.seconds())).unwrap();
    path
}

async fn appraise(name: &str, faults: Faults, roots: Option<&SimRoots>) -> Result<(), WorkerError> {
    let platform = SimPlatform::new(EXECUTABLE).with_faults(faults);
    let platform: Arc<dyn Platform> = Arc::new(platform);
    let rig = Rig::on(platform, Bounds::default(), None).await;
    let file = collateral_file(name);
    let result = self_appraise(&rig.worker, &file, roots).await;
    std::fs::remove_file(file).unwrap();
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_its_own_evidence() {
    appraise("good", Faults::default(), Some(&roots())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_its_own_evidence_when_the_platform_lies() {
    let roots = roots();
    for (name, faults, code) in [
        ("data", Faults { wrong_report_data: true, ..Faults::default() }, "E-REPORT-DATA"),
        // Not even pins of its own can name a debug TD.
        ("debug", Faults { debug: true, ..Faults::default() }, "E-PINS-DEBUG"),
        ("none", Faults { no_quote: true, ..Faults::default() }, "E-QUOTE"),
    ] {
        let refused = appraise(name, faults, Some(&roots)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}

/// A release worker has no simulated root, so this platform's evidence is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_simulated_evidence_without_the_simulated_root() {
    assert!(appraise("root", Faults::default(), None).await.is_err());
}
