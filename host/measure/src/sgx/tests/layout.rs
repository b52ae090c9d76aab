//! Layouts that do not fit, and what moves a measurement.

use super::super::{
    EnclaveError, EnclaveShape, MAX_HEAP_AT_START, MAX_THREADS, MeasuredEnclave, PalImage, SgxError,
};
use super::{CODE, DATA, MANIFEST, shared_object};

fn measure(shape: EnclaveShape, manifest: &[u8]) -> Result<MeasuredEnclave, SgxError> {
    let file = shared_object(&[CODE, DATA]);
    MeasuredEnclave::gramine_v1_9(&shape, manifest, &PalImage::parse(&file).unwrap())
}

fn shape(size: u64, threads: u64, edmm: bool) -> EnclaveShape {
    EnclaveShape::new(size, threads, edmm).unwrap()
}

#[test]
fn areas_are_placed_downwards_without_gaps_and_the_heap_takes_the_rest() {
    let measured = measure(shape(16 << 20, 4, false), MANIFEST.as_bytes()).unwrap();
    let mut top = 16 << 20;
    let (heap, placed) = measured.areas.split_last().unwrap();
    for area in placed {
        assert_eq!(area.start + area.size, top, "{}", area.name);
        assert!(area.measured);
        top = area.start;
    }
    assert_eq!((heap.name, heap.start, heap.start + heap.size), ("heap", 0x1_0000, top));
    assert!(!heap.measured);
    assert_eq!(measured.areas.iter().filter(|area| area.name == "stack").count(), 4);
}

#[test]
fn with_edmm_there_is_no_heap_at_start_and_another_measurement() {
    let without = measure(shape(16 << 20, 4, false), MANIFEST.as_bytes()).unwrap();
    let with = measure(shape(16 << 20, 4, true), MANIFEST.as_bytes()).unwrap();
    assert!(with.areas.iter().all(|area| area.name != "heap"));
    assert_ne!(with.mrenclave, without.mrenclave);
}

#[test]
fn size_threads_manifest_and_loader_each_move_the_measurement() {
    let base = measure(shape(16 << 20, 4, true), MANIFEST.as_bytes()).unwrap().mrenclave;
    let spaced = MANIFEST.replace("= 4", "=  4");
    let mut file = shared_object(&[CODE, DATA]);
    file[0x2bb] ^= 1;
    let pal = PalImage::parse(&file).unwrap();
    let others = [
        measure(shape(32 << 20, 4, true), MANIFEST.as_bytes()),
        measure(shape(16 << 20, 5, true), MANIFEST.as_bytes()),
        measure(shape(16 << 20, 4, true), spaced.as_bytes()),
        MeasuredEnclave::gramine_v1_9(&shape(16 << 20, 4, true), MANIFEST.as_bytes(), &pal),
    ];
    for other in others {
        assert_ne!(other.unwrap().mrenclave, base);
    }
}

#[test]
fn a_manifest_that_fills_its_pages_gets_one_more_for_its_end() {
    let page = |len: usize| {
        let measured = measure(shape(16 << 20, 1, true), &vec![b'#'; len]).unwrap();
        measured.areas.first().unwrap().size
    };
    assert_eq!((page(4095), page(4096), page(8191)), (4096, 8192, 8192));
}

#[test]
fn refuses_an_enclave_too_small_for_its_threads() {
    let refused = measure(shape(1 << 20, 16, true), MANIFEST.as_bytes()).unwrap_err();
    let full = EnclaveError::Full { area: "stack", size: 1 << 20 };
    assert_eq!(refused, SgxError::Enclave(full));
}

#[test]
fn refuses_an_enclave_too_small_for_its_manifest() {
    let refused = measure(shape(1 << 20, 1, true), &vec![b'#'; 1 << 20]).unwrap_err();
    assert_eq!(refused, EnclaveError::Full { area: "manifest", size: 1 << 20 }.into());
}

#[test]
fn refuses_a_heap_at_start_over_the_limit() {
    let refused = measure(shape(MAX_HEAP_AT_START * 2, 1, false), b"").unwrap_err();
    assert!(matches!(refused, SgxError::Enclave(EnclaveError::Heap { .. })), "{refused}");
    assert!(measure(shape(MAX_HEAP_AT_START * 2, 1, true), b"").is_ok());
}

#[test]
fn refuses_no_thread_and_one_over_the_limit() {
    for threads in [0, MAX_THREADS + 1] {
        let refused = EnclaveShape::new(1 << 30, threads, true);
        assert_eq!(refused, Err(EnclaveError::Threads { threads, limit: MAX_THREADS }));
    }
    assert!(EnclaveShape::new(1 << 30, MAX_THREADS, true).is_ok());
}

#[test]
fn refuses_a_size_that_is_no_power_of_two() {
    for size in [0, 3 << 20, 1 << 41] {
        assert_eq!(EnclaveShape::new(size, 1, true), Err(EnclaveError::Size { size }));
    }
}
