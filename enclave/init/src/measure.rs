//! The runtime register: what decides the worker's behaviour is extended before any secret exists.
//!
//! | order | event | payload |
//! |---|---|---|
//! | 1 | `manifest` | SHA-256 of the worker manifest, as read from the disk, before it is parsed |
//! | 2 | `model-root` | content root of the model, as the manifest names it |
//!
//! `policy` and `gpu-verdict` are reserved names: nothing extends them yet, and a verifier accepts
//! no other event. The digest of an event is
//! `SHA-384("chrysalis/event/v1" || 0x00 || name || 0x00 || payload)`. A verifier computes it in
//! `chrysalis-evidence`; PID 1 does not link that crate with its quote verifier and X.509 for ten
//! lines of hashing, and a test holds the two together.

use std::path::{Path, PathBuf};

use chrysalis_tee::{Platform as _, TdxPaths, TdxPlatform};
use chrysalis_wire::attest::{EVENT_DOMAIN, EVENT_MANIFEST, EVENT_MODEL_ROOT};
use chrysalis_wire::guest::SIM_REGISTER_PATH;
use chrysalis_wire::{Digest, ImagePlatform, RegisterValue, WorkerManifest};
use sha2::{Digest as _, Sha256, Sha384};

use crate::error::InitError;
use crate::{below, files};

/// RTMR3, or what stands for it.
pub trait Register {
    /// Its value.
    ///
    /// # Errors
    /// When the platform does not answer.
    fn value(&self) -> Result<RegisterValue, InitError>;

    /// `value = SHA-384(value || digest)`.
    ///
    /// # Errors
    /// When the platform does not do it.
    fn extend(&self, digest: &[u8; 48]) -> Result<(), InitError>;
}

/// Extends the events of `manifest` in order; returns the register and the number of events.
///
/// # Errors
/// [`InitError::RegisterNotZero`] if somebody was here before, [`InitError::Manifest`] for a
/// manifest that is measured and then refused, [`InitError::RegisterMismatch`] if the register
/// does not hold the replay of the events.
pub fn measure(
    register: &dyn Register,
    manifest: &[u8],
) -> Result<(RegisterValue, usize), InitError> {
    if register.value()? != RegisterValue([0; 48]) {
        return Err(InitError::RegisterNotZero);
    }
    let digest = Digest(Sha256::digest(manifest).into());
    let first = event_digest(EVENT_MANIFEST, &digest);
    register.extend(&first)?;
    // Only now is a byte of it interpreted.
    let root = WorkerManifest::parse(manifest)?.model.root;
    let second = event_digest(EVENT_MODEL_ROOT, &root);
    register.extend(&second)?;
    let events = [first, second];
    let expected = RegisterValue(events.iter().fold([0; 48], extended));
    let got = register.value()?;
    if got != expected {
        return Err(InitError::RegisterMismatch { expected, got });
    }
    Ok((got, events.len()))
}

/// The digest that extends the register for an event whose payload is `payload`.
fn event_digest(name: &str, payload: &Digest) -> [u8; 48] {
    let event = Sha384::new().chain_update(EVENT_DOMAIN).chain_update([0]).chain_update(name);
    event.chain_update([0]).chain_update(payload.as_bytes()).finalize().into()
}

/// What a register that holds `value` holds after an extension.
fn extended(value: [u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    Sha384::new().chain_update(value).chain_update(digest).finalize().into()
}

/// The register of `platform` below `root`.
///
/// # Errors
/// [`InitError::Unwritable`] if the simulated one cannot be created.
pub fn open(root: &Path, platform: ImagePlatform) -> Result<Box<dyn Register>, InitError> {
    Ok(match platform {
        ImagePlatform::Tdx => Box::new(Tdx(TdxPlatform::new(TdxPaths::under(root)))),
        ImagePlatform::InsecureSim => Box::new(Simulated::create(root)?),
    })
}

/// The file through which the register of `platform` can be extended.
#[must_use]
pub fn register_path(root: &Path, platform: ImagePlatform) -> PathBuf {
    match platform {
        ImagePlatform::Tdx => TdxPaths::under(root).measurements.join("rtmr3:sha384"),
        ImagePlatform::InsecureSim => below(root, SIM_REGISTER_PATH),
    }
}

/// RTMR3 through the measured kernel's sysfs.
struct Tdx(TdxPlatform);

impl Register for Tdx {
    fn value(&self) -> Result<RegisterValue, InitError> {
        let [_, _, _, rtmr3] = self.0.measurements()?.rtmr;
        Ok(RegisterValue(rtmr3))
    }

    fn extend(&self, digest: &[u8; 48]) -> Result<(), InitError> {
        Ok(self.0.extend_runtime(digest)?)
    }
}

/// INSECURE-SIM: 48 bytes in a file that only root can write, which the simulated worker reads.
struct Simulated {
    path: PathBuf,
}

impl Simulated {
    fn create(root: &Path) -> Result<Self, InitError> {
        let path = register_path(root, ImagePlatform::InsecureSim);
        files::create(&path, &[0; 48])
            .map_err(|e| InitError::Unwritable { what: SIMULATED, kind: e.kind() })?;
        Ok(Self { path })
    }
}

impl Register for Simulated {
    fn value(&self) -> Result<RegisterValue, InitError> {
        let unreadable = |kind| InitError::Unreadable { what: SIMULATED, kind };
        let bytes =
            files::read(&self.path, RegisterValue::LEN).map_err(|e| unreadable(e.kind()))?;
        let bytes = bytes.try_into().map_err(|_| unreadable(std::io::ErrorKind::UnexpectedEof))?;
        Ok(RegisterValue(bytes))
    }

    fn extend(&self, digest: &[u8; 48]) -> Result<(), InitError> {
        let value = extended(self.value()?.0, digest);
        files::write_attribute(&self.path, &value)
            .map_err(|e| InitError::Unwritable { what: SIMULATED, kind: e.kind() })
    }
}

const SIMULATED: &str = "simulated register";

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use chrysalis_evidence::{boot_events, replay_rtmr};
    use chrysalis_wire::RuntimeEvent;

    use super::*;
    use crate::fake::{Fake, MODEL_ROOT, manifest};

    /// A register in memory that can misbehave.
    struct Memory {
        value: RefCell<[u8; 48]>,
        seen: RefCell<Vec<[u8; 48]>>,
        loses: bool,
    }

    impl Memory {
        fn new() -> Self {
            Self { value: RefCell::new([0; 48]), seen: RefCell::default(), loses: false }
        }
    }

    impl Register for Memory {
        fn value(&self) -> Result<RegisterValue, InitError> {
            Ok(RegisterValue(*self.value.borrow()))
        }

        fn extend(&self, digest: &[u8; 48]) -> Result<(), InitError> {
            self.seen.borrow_mut().push(*digest);
            if !self.loses {
                let new = extended(*self.value.borrow(), digest);
                *self.value.borrow_mut() = new;
            }
            Ok(())
        }
    }

    /// What a verifier expects, from its own code.
    fn events(manifest: &[u8]) -> [RuntimeEvent; 2] {
        boot_events(&Digest(Sha256::digest(manifest).into()), &MODEL_ROOT)
    }

    #[test]
    fn extends_manifest_then_model_root_as_verifiers_replay_them() {
        let register = Memory::new();
        let manifest = manifest();
        let (value, count) = measure(&register, &manifest).unwrap();
        let events = events(&manifest);
        assert_eq!(value.0, replay_rtmr(&events).unwrap());
        assert_eq!(count, 2);
        let digests = events.each_ref().map(|e| chrysalis_evidence::event_digest(e).unwrap());
        assert_eq!(*register.seen.borrow(), digests);
    }

    #[test]
    fn refuses_a_register_that_was_extended_before() {
        let register = Memory::new();
        register.extend(&[1; 48]).unwrap();
        assert_eq!(measure(&register, &manifest()), Err(InitError::RegisterNotZero));
        assert_eq!(register.seen.borrow().len(), 1, "extended all the same");
    }

    #[test]
    fn a_manifest_is_measured_even_if_it_is_then_refused() {
        let register = Memory::new();
        assert!(matches!(measure(&register, b"not TOML ["), Err(InitError::Manifest(_))));
        assert_eq!(register.seen.borrow().len(), 1);
        assert_ne!(register.value().unwrap().0, [0; 48]);
    }

    #[test]
    fn refuses_a_platform_that_loses_an_extension() {
        let register = Memory { loses: true, ..Memory::new() };
        assert!(matches!(measure(&register, &manifest()), Err(InitError::RegisterMismatch { .. })));
    }

    #[test]
    fn the_simulated_register_is_a_file_of_48_bytes_that_starts_at_zero() {
        let fake = Fake::new();
        fake.make_handover();
        let register = open(fake.root(), ImagePlatform::InsecureSim).unwrap();
        assert_eq!(register.value().unwrap().0, [0; 48]);
        let (value, _) = measure(register.as_ref(), &manifest()).unwrap();
        let path = register_path(fake.root(), ImagePlatform::InsecureSim);
        assert_eq!(std::fs::read(path).unwrap(), value.0);
    }

    #[test]
    fn refuses_a_simulated_register_that_somebody_else_made() {
        let fake = Fake::new();
        fake.make_handover();
        fake.write("run/chrysalis/rtmr3", "");
        assert!(matches!(
            open(fake.root(), ImagePlatform::InsecureSim),
            Err(InitError::Unwritable { .. })
        ));
    }

    #[test]
    fn refuses_a_tdx_image_on_a_machine_without_tdx() {
        let fake = Fake::new();
        let register = open(fake.root(), ImagePlatform::Tdx).unwrap();
        assert!(matches!(measure(register.as_ref(), &manifest()), Err(InitError::Platform(_))));
    }
}
