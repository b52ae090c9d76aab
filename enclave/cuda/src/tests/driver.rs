//! The driver's library: refusals, memory, and copies that are counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::testing::{failing, image, library, on_gpu};
use crate::{CudaError, DeviceInfo, Image, LIBRARY, embedded};

/// A stand-in without kernels and with `define` changed; none without a C++ compiler.
fn without_kernels(dir: &Path, define: &str) -> Option<PathBuf> {
    let library = dir.join("libcuda.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/stand-in/driver.cc");
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-w", "-shared", "-fPIC", "-DNO_KERNELS", "-o"]);
    let status = compiler.arg(&library).arg(source).arg(format!("-D{define}")).status();
    match status {
        Ok(status) => assert!(status.success(), "the stand-in does not compile"),
        Err(_) => {
            println!("skipped: there is no C++ compiler");
            return None;
        }
    }
    Some(library)
}

fn refused(define: &str, capability: (u32, u32)) -> Option<CudaError> {
    let dir = tempfile::tempdir().unwrap();
    let library = without_kernels(dir.path(), define)?;
    Some(Device::open(&library, &[image(capability)]).expect_err("the GPU was accepted"))
}

#[test]
fn says_honestly_that_there_is_no_driver() {
    let nowhere = Path::new("/nonexistent/libcuda.so.1");
    let error = Device::open(nowhere, &[image((9, 0))]).err().unwrap();
    assert_eq!(error, CudaError::NoDriver { looked_for: nowhere.display().to_string() });
    assert_eq!(error.code(), "E-CUDA-NONE");
    // This machine has one or it does not; neither is a crash. What a real one says of no module at all is its
    // own affair.
    if !on_gpu() {
        drop(Device::open(Path::new(LIBRARY), &[image((9, 0))]));
    }
}

#[test]
fn says_that_a_build_without_kernels_has_none() {
    let error = Device::open(Path::new("/nonexistent"), embedded()).err();
    if embedded().is_empty() {
        assert_eq!(error, Some(CudaError::NoKernels));
    }
}

#[test]
fn refuses_a_library_that_is_no_driver() {
    let error = Device::open(Path::new("libc.so.6"), &[image((9, 0))]).err();
    assert_eq!(error, Some(CudaError::NoFunction { name: "cuInit" }));
}

#[test]
fn refuses_an_older_driver_no_gpu_and_a_gpu_that_no_kernels_were_compiled_for() {
    let Some(old) = refused("DRIVER=12090", (9, 0)) else { return };
    assert_eq!(old, CudaError::DriverTooOld { needed: 13000, got: 12090 });
    assert_eq!(refused("DEVICES=0", (9, 0)), Some(CudaError::NoGpu));
    for (define, capability) in [("MAJOR=8", (9, 0)), ("MAJOR=9", (10, 0)), ("MAJOR=9", (9, 1))] {
        let error = refused(define, capability);
        assert!(matches!(error, Some(CudaError::OtherGpu { .. })), "{define}: {error:?}");
    }
    // A module without our kernels.
    let error = refused("DEVICES=1", (9, 0)).unwrap();
    assert!(matches!(&error, CudaError::Call { call: "cuModuleGetFunction", code: 500, .. }));
}

#[test]
fn describes_the_gpu_and_gives_all_memory_back() {
    let Some(desk) = Desk::new() else { return };
    let info = DeviceInfo {
        name: "stand-in, no GPU".to_owned(),
        capability: (9, 0),
        memory_bytes: 1 << 30,
        driver: 13000,
    };
    if on_gpu() {
        println!("on a GPU: {:?}", desk.device.info());
        return;
    }
    assert_eq!(*desk.device.info(), info);
    let too_much = desk.device.alloc(2 << 30).err();
    assert!(matches!(too_much, Some(CudaError::OutOfMemory { bytes, .. }) if bytes == 2 << 30));
    assert!(desk.device.alloc(0).is_err());
    assert!(desk.device.pinned(0).is_err());
}

#[test]
fn every_copy_is_counted_and_none_is_seen_before_it_happened() {
    let Some(mut desk) = Desk::new() else { return };
    let memory = desk.room(3);
    assert_eq!(desk.read(&memory), [0.0; 3], "memory is zeros at first");
    let before = desk.device.crossings();
    let mut host = desk.device.pinned(12).unwrap();
    let mut back = desk.device.pinned(12).unwrap();
    for round in 0..3u8 {
        // The stand-in copies as late as it may: what is written too early would be copied.
        host.bytes_mut().unwrap().fill(round);
        desk.device.upload(&mut host, memory.all(), 12).unwrap();
        desk.device.download(memory.all(), &mut back, 12).unwrap();
        assert!(back.bytes().unwrap().iter().all(|byte| *byte == round));
    }
    assert_eq!(desk.device.crossings() - before, 6);
    let part = memory.part(8, 4).unwrap();
    let short = CudaError::Shape { what: "a copy" };
    assert_eq!(desk.device.upload(&mut host, part, 5), Err(short.clone()));
    assert_eq!(desk.device.download(memory.all(), &mut back, 13), Err(short));
    assert!(memory.part(8, 5).is_err() && memory.part(usize::MAX, 2).is_err());
    assert_eq!(desk.device.crossings() - before, 6, "what was refused did not happen");
}

#[test]
fn a_copy_that_is_being_queued_is_not_done_because_somebody_else_has_waited() {
    let Some(device) = failing(&["SLOW_COPIES"]).unwrap() else { return };
    let memory = device.alloc(4).unwrap();
    let mut host = device.pinned(4).unwrap();
    let mut back = device.pinned(4).unwrap();
    let queued = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !queued.load(Ordering::Relaxed) {
                device.wait().unwrap();
            }
        });
        host.bytes_mut().unwrap().fill(1);
        device.upload(&mut host, memory.all(), 4).unwrap();
        queued.store(true, Ordering::Relaxed);
    });
    // The copy may still be to come, from memory that is written here.
    host.bytes_mut().unwrap().fill(2);
    device.download(memory.all(), &mut back, 4).unwrap();
    assert_eq!(back.bytes().unwrap(), [1; 4]);
}

#[test]
fn refuses_a_module_that_is_cut_short() {
    let Some(library) = library() else { return };
    let whole = image((9, 0));
    for code in [&whole.code[..63], &whole.code[16..], b"PTX is text and ends where it ends"] {
        let error = Device::open(library, &[Image { code, ..whole }]).err();
        assert_eq!(error, Some(CudaError::Image { bytes: code.len() }));
    }
}

#[test]
fn memory_of_one_device_is_refused_by_another() {
    let (Some(one), Some(mut other)) = (Desk::new(), Desk::new()) else { return };
    let memory = one.room(4);
    let error = other.device.upload(&mut other.staging, memory.all(), 4);
    assert_eq!(error, Err(CudaError::Shape { what: "a copy" }));
}
