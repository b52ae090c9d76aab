//! A worker that shows its devices: FAKE GPUs, in evidence that binds each of them to one connection,
//! and a boot that does not go on with others than the manifest names.

use std::sync::Arc;

use chrysalis_evidence::{EnclaveIdentity, Measured, Measurement, Session};
use chrysalis_nvml::Nvml;
use chrysalis_tee::{DeviceCount, DeviceReport, Devices, Platform, TeeError};
use chrysalis_tee_sim::SimPlatform;
use chrysalis_tee_sim::device::{DeviceFault, DeviceKind, SimDevice, SimDevices, device_pins};
use chrysalis_wire::manifest::DevicesSection;
use chrysalis_wire::{AttestationDocument, Digest, WorkerManifest};
use chrysalis_worker::WorkerError;
use chrysalis_worker::appraise::self_appraise;
use chrysalis_worker::devices::of_boot;
use http_body_util::BodyExt;

use crate::judge::{EXECUTABLE, Judge};
use crate::own::{collateral_file, roots};
use crate::rig::Rig;

async fn rig(devices: SimDevices) -> Rig {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(EXECUTABLE));
    Rig::with_devices(platform, Arc::new(devices)).await
}

/// A judge that accepts so many GPUs of the rig's kind.
fn judge(rig: &Rig, gpus: usize) -> Judge {
    Judge::with_devices(rig, &device_pins(DeviceKind::Gh100, gpus, 0))
}

/// What the worker shows on a connection of its own.
async fn evidence(rig: &Rig, nonce: u8) -> (AttestationDocument, Session) {
    let (mut sender, session) = rig.challenger(nonce).await;
    let path = format!("/v1/attestation?nonce={}", hex::encode([nonce; 32]));
    let request = hyper::Request::get(path).body(Default::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (serde_json::from_slice(&body).unwrap(), session)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_about_devices_passes_for_what_the_manifest_names() {
    let rig = rig(SimDevices::new(DeviceKind::Gh100, 2, 0)).await;
    let (document, session) = evidence(&rig, 1).await;
    let verdict = judge(&rig, 2).verdict(&document, &session);
    let worker = verdict.result.as_ref().unwrap();
    assert_eq!(worker.devices().len(), 2);
    for rule in chrysalis_evidence::RuleId::DEVICE {
        let line = format!("PASS  {rule}");
        assert!(verdict.to_text().contains(&line), "{line}: {}", verdict.to_text());
    }
    // Pins without devices accept none, and others accept another number.
    assert_eq!(Judge::of(&rig).refusal(&document, &session), Some("E-GPU-UNASKED"));
    assert_eq!(judge(&rig, 1).refusal(&document, &session), Some("E-GPU-COUNT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_at_the_same_time_have_reports_of_their_own() {
    let rig = rig(SimDevices::new(DeviceKind::Gh100, 1, 0)).await;
    let (a, b, c) = tokio::join!(evidence(&rig, 1), evidence(&rig, 2), evidence(&rig, 3));
    let judge = judge(&rig, 1);
    for (document, session) in [&a, &b, &c] {
        assert_eq!(judge.refusal(document, session), None);
    }
    // A device that answered somebody else is bound to nothing here.
    let mut stolen = a.0.clone();
    stolen.devices = b.0.devices;
    assert_eq!(judge.refusal(&stolen, &a.1), Some("E-REPORT-DATA"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_appraises_its_devices_before_it_says_ready() {
    let file = collateral_file("devices");
    let honest = rig(SimDevices::new(DeviceKind::Gh100, 2, 0)).await;
    self_appraise(&honest.worker, &file, Some(&roots())).await.unwrap();
    for (fault, code) in [
        (DeviceFault::StaleNonce, "E-GPU-NONCE"),
        (DeviceFault::ForeignKey, "E-GPU-SIGNATURE"),
        (DeviceFault::OtherFirmware, "E-GPU-FWID"),
    ] {
        let liar = SimDevice::new(DeviceKind::Gh100, 0).with_fault(fault);
        let rig = rig(SimDevices::of(vec![liar])).await;
        let refused = self_appraise(&rig.worker, &file, Some(&roots())).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    std::fs::remove_file(file).unwrap();
}

/// Devices that are counted and then give nothing.
struct Silent;

impl Devices for Silent {
    fn count(&self) -> Result<DeviceCount, TeeError> {
        Ok(DeviceCount { gpus: 1, switches: 0 })
    }

    fn reports(&self, _: &[u8; 32]) -> Result<Vec<DeviceReport>, TeeError> {
        Err(TeeError::Nvml { call: "report", code: 15 })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_a_report_leaves_the_worker_without_evidence() {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(EXECUTABLE));
    let rig = Rig::with_devices(platform, Arc::new(Silent)).await;
    let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
    let found = crate::rig::code(rig.send(hyper::Method::GET, &path, Vec::new()).await).await;
    assert_eq!(found, (503, "E-NVML-CALL".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_with_other_devices_than_the_manifest_names_stops() {
    let rig = rig(SimDevices::new(DeviceKind::Gh100, 2, 0)).await;
    let domain = Measured::Td(Measurement { mrtd: [0; 48], rtmr: [[0; 48]; 4] });
    let manifest = |devices| WorkerManifest { devices, ..rig.worker.manifest.clone() };
    let named = manifest(Some(DevicesSection { gpus: 2, switches: 0 }));
    let sim = |gpus, switches| -> Arc<dyn Devices> {
        Arc::new(SimDevices::new(DeviceKind::Gh100, gpus, switches))
    };
    assert!(of_boot(&named, &domain, &sim(2, 0)).unwrap().is_some());
    for other in [sim(1, 0), sim(3, 0), sim(2, 1), sim(0, 0)] {
        let Err(refused) = of_boot(&named, &domain, &other) else { panic!("it boots") };
        assert_eq!(refused.code(), "E-DEVICES");
    }
    let absent: Arc<dyn Devices> = Arc::new(Nvml::at("/nonexistent".into()));
    let Err(refused) = of_boot(&named, &domain, &absent) else { panic!("it boots") };
    assert_eq!(refused.code(), "E-NVML-NONE");
    // Nobody asks a machine whose manifest names none.
    assert!(of_boot(&manifest(None), &domain, &absent).unwrap().is_none());
    let enclave = Measured::Enclave(EnclaveIdentity {
        mrenclave: Digest([1; 32]),
        mrsigner: Digest([2; 32]),
        isv_prod_id: 0,
        isv_svn: 0,
    });
    let Err(refused) = of_boot(&named, &enclave, &sim(2, 0)) else { panic!("it boots") };
    assert!(matches!(refused, WorkerError::Devices { .. }));
}
