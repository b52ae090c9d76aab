//! Attestation documents of the fake worker, genuine and otherwise.

use chrysalis_evidence::{Binding, CutQuote, Role, boot_events, keyset_digest};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::SimPlatform;
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, Digest, Keyset};

use super::script::Evidence;
use super::{EXECUTABLE, State};

/// The document for `nonce` on the connection with `exporter`, wrong in the way of `script`.
pub(crate) fn document(
    state: &State,
    mut nonce: [u8; 32],
    mut exporter: [u8; 32],
    script: &Evidence,
) -> AttestationDocument {
    let mut keyset = state.keyset();
    let mut platform = SimPlatform::new(EXECUTABLE);
    match script {
        Evidence::OtherNonce => nonce[0] ^= 1,
        Evidence::OtherExporter => exporter[0] ^= 1,
        Evidence::OtherBoot => keyset = with_own_meter(keyset),
        Evidence::KeysetNamesOtherTlsKey => keyset.tls_spki.0[0] ^= 1,
        Evidence::Platform(faults) => platform = platform.with_faults(*faults),
        _ => {}
    }
    let events = boot_events(&state.manifest_digest(), &state.manifest.model.root);
    for event in &events {
        platform.extend_runtime(&chrysalis_evidence::event_digest(event).unwrap()).unwrap();
    }
    let binding = Binding {
        role: Role::Server,
        tls_spki: state.tls_spki,
        nonce,
        exporter,
        keyset_digest: keyset_digest(&keyset.encode()),
        device_digest: Digest([0; 32]),
    };
    let quote = platform.quote(&binding.report_data().0).unwrap();
    if let Ok(cut) = CutQuote::parse(&quote) {
        state.evidence.lock().unwrap().push(cut.digest());
    }
    let mut document = AttestationDocument {
        schema: ATTESTATION_SCHEMA.to_owned(),
        platform: platform.name().to_owned(),
        quote: hex::encode(quote),
        keyset: hex::encode(keyset.encode()),
        manifest: hex::encode(&state.manifest_bytes),
        events: events.to_vec(),
        devices: Vec::new(),
        batch: None,
    };
    match script {
        Evidence::KeysetSwapped => document.keyset = hex::encode(with_own_meter(keyset).encode()),
        Evidence::ManifestSwapped => {
            let text = String::from_utf8(state.manifest_bytes.clone()).unwrap();
            document.manifest = hex::encode(text.replace("prompt = 1000", "prompt = 9000"));
        }
        Evidence::FutureSchema => document.schema = "chrysalis/attestation/v2".to_owned(),
        _ => {}
    }
    document
}

/// The keyset of somebody who wants to sign the receipts.
fn with_own_meter(keyset: Keyset) -> Keyset {
    let meter = chrysalis_receipt::MeterKey::from_seed(&[9; 32].into());
    Keyset { meter_key: meter.public(), ..keyset }
}
