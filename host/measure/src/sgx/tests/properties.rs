//! What holds for every input: no panic, and no flipped bit that goes unnoticed.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::{
    EnclaveShape, GramineManifest, MeasuredEnclave, PalImage, SIGSTRUCT_BYTES, StreamSummary,
    UnverifiedSigstruct,
};
use super::{CODE, DATA, MANIFEST, shared_object, sigstruct::signed};

static SIGNED: LazyLock<[u8; SIGSTRUCT_BYTES]> = LazyLock::new(signed);

#[test]
fn every_flipped_byte_of_a_sigstruct_is_refused() {
    for at in 0..SIGSTRUCT_BYTES {
        let mut bytes = *SIGNED;
        bytes[at] ^= 0x41;
        let judged = UnverifiedSigstruct::parse(&bytes).and_then(UnverifiedSigstruct::verify);
        assert!(judged.is_err(), "a flip at {at:#x} went unnoticed");
    }
}

#[test]
fn every_flipped_bit_of_real_signatures_is_refused() {
    for name in ["test_enclave.sig", "intel-pce-1.25.100.1.sigstruct.bin"] {
        let Some(real) = super::vector(name) else { return };
        for at in (0..real.len()).step_by(3) {
            let mut bytes = real.clone();
            bytes[at] ^= 1 << (at % 8);
            let judged = UnverifiedSigstruct::parse(&bytes).and_then(UnverifiedSigstruct::verify);
            assert!(judged.is_err(), "{name}: a flip at {at:#x} went unnoticed");
        }
    }
}

fn measure(manifest: &[u8], file: &[u8]) -> Option<chrysalis_wire::Digest> {
    let shape = EnclaveShape::new(4 << 20, 1, true).unwrap();
    let pal = PalImage::parse(file).ok()?;
    // A flip may ask for more than the enclave holds: that is a refusal, not a measurement.
    Some(MeasuredEnclave::gramine_v1_9(&shape, manifest, &pal).ok()?.mrenclave)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_of_a_manifest_moves_the_measurement(at in 0..MANIFEST.len(), bit in 0..8u8) {
        let file = shared_object(&[CODE, DATA]);
        let mut changed = MANIFEST.as_bytes().to_vec();
        changed[at] ^= 1 << bit;
        prop_assert_ne!(measure(MANIFEST.as_bytes(), &file), measure(&changed, &file));
    }

    #[test]
    fn a_flipped_bit_of_a_mapped_byte_moves_the_measurement_or_is_refused(
        at in prop_oneof![0..0x2bcusize, 0xf00..0x1004usize], bit in 0..8u8,
    ) {
        let file = shared_object(&[CODE, DATA]);
        let mut changed = file.clone();
        changed[at] ^= 1 << bit;
        prop_assert_ne!(measure(b"", &file), measure(b"", &changed));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = PalImage::parse(&bytes);
        let _ = StreamSummary::parse(&bytes);
        let _ = GramineManifest::parse(&bytes);
        let _ = UnverifiedSigstruct::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_good_loader_makes_its_measurement_panic(
        changes in prop::collection::vec((0..256usize, any::<u8>()), 1..8),
    ) {
        let mut file = shared_object(&[CODE, DATA]);
        for (at, value) in changes {
            file[at] = value;
        }
        if let Ok(pal) = PalImage::parse(&file) {
            let shape = EnclaveShape::new(4 << 20, 1, true).unwrap();
            let _ = MeasuredEnclave::gramine_v1_9(&shape, b"", &pal);
        }
    }

    #[test]
    fn no_change_of_a_sigstruct_makes_its_verification_panic(
        changes in prop::collection::vec((0..SIGSTRUCT_BYTES, any::<u8>()), 1..8),
    ) {
        let mut bytes = *SIGNED;
        for (at, value) in changes {
            bytes[at] = value;
        }
        let judged = UnverifiedSigstruct::parse(&bytes).and_then(UnverifiedSigstruct::verify);
        prop_assert_eq!(judged.is_ok(), bytes == *SIGNED);
    }
}
