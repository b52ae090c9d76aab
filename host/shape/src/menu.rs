//! The menu this build was made with: `manifests/shapes`, compiled in, so that no file on a host
//! can add a shape or a digest.

use crate::capture::{Blob, Capture, QemuVersion};
use crate::error::ShapeError;
use crate::shape::{Shape, Status};

/// Shapes and their captures.
#[derive(Clone, Debug)]
pub struct Menu {
    entries: Vec<(Shape, Vec<Capture>)>,
}

impl Menu {
    /// The published menu.
    ///
    /// # Errors
    /// [`ShapeError`] if a file of this build is malformed; a test keeps that from being released.
    pub fn published() -> Result<Self, ShapeError> {
        Self::read(true)
    }

    /// The published shapes without their captures: what a new capture is made from, when the
    /// published ones are of shapes that changed since.
    ///
    /// # Errors
    /// [`ShapeError`] as above.
    pub fn without_captures() -> Result<Self, ShapeError> {
        Self::read(false)
    }

    fn read(with_captures: bool) -> Result<Self, ShapeError> {
        let mut entries = Vec::new();
        for (shape, captures) in FILES {
            let shape = Shape::parse(shape.as_bytes())?;
            let captures = captures
                .iter()
                .filter(|_| with_captures)
                .map(|text| Capture::parse(text.as_bytes(), &shape))
                .collect::<Result<_, _>>()?;
            entries.push((shape, captures));
        }
        Ok(Self { entries })
    }

    /// Every shape, in the order of the menu.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.entries.iter().map(|(shape, _)| shape)
    }

    /// The shape of a name.
    ///
    /// # Errors
    /// [`ShapeError::Unknown`] with the names there are.
    pub fn shape(&self, name: &str) -> Result<&Shape, ShapeError> {
        self.shapes().find(|s| s.name == name).ok_or_else(|| ShapeError::Unknown {
            name: name.chars().take(64).collect(),
            known: list(self.shapes().map(|s| s.name.clone())),
        })
    }

    /// The captures of a shape; none for a shape that is only described.
    #[must_use]
    pub fn captures(&self, name: &str) -> &[Capture] {
        self.entries.iter().find(|(s, _)| s.name == name).map_or(&[], |(_, captures)| captures)
    }

    /// The capture of a shape under one QEMU version.
    ///
    /// # Errors
    /// [`ShapeError::Unknown`], [`ShapeError::NotCaptured`]: another version's tables are not a
    /// guess at this one's.
    pub fn capture(&self, name: &str, qemu: QemuVersion) -> Result<&Capture, ShapeError> {
        self.shape(name)?;
        let captures = self.captures(name);
        captures.iter().find(|c| c.qemu == qemu).ok_or_else(|| ShapeError::NotCaptured {
            shape: name.to_owned(),
            qemu: qemu.to_string(),
            known: list(captures.iter().map(|c| c.qemu.to_string())),
        })
    }

    /// Which QEMU versions would give this blob to the firmware of a shape.
    ///
    /// # Errors
    /// [`ShapeError::Unknown`]; [`ShapeError::NotInCatalogue`] if none would.
    pub fn recognise(&self, name: &str, blob: &Blob) -> Result<Vec<QemuVersion>, ShapeError> {
        self.shape(name)?;
        let same = |c: &&Capture| c.blobs.all().contains(&blob);
        let versions: Vec<_> = self.captures(name).iter().filter(same).map(|c| c.qemu).collect();
        if versions.is_empty() {
            let (blob, got) = (blob.kind(), blob.sha384());
            return Err(ShapeError::NotInCatalogue { blob, shape: name.to_owned(), got });
        }
        Ok(versions)
    }
}

impl Status {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Captured => "captured from QEMU, not confirmed on hardware",
            Self::Described => "described only: not captured, not run on hardware",
        }
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

macro_rules! shape {
    ($name:literal $(, $qemu:literal)*) => {
        (
            include_str!(concat!("../../../manifests/shapes/", $name, ".toml")),
            &[$(include_str!(concat!("../../../manifests/shapes/", $name, "/qemu-", $qemu, ".toml"))),*],
        )
    };
}

/// The files of the menu: each shape with its captures.
const FILES: &[(&str, &[&str])] = &[
    shape!("cpu-2", "11.1.3"),
    shape!("cpu-8", "11.1.3"),
    shape!("cpu-32", "11.1.3"),
    shape!("gpu-1"),
    shape!("gpu-8"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::BlobKind;
    use crate::shape::DeviceKind;

    #[test]
    fn every_file_of_the_menu_is_sound_and_is_named_after_its_shape() {
        let menu = Menu::published().unwrap();
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/shapes");
        let mut on_disk: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let mut names: Vec<String> = menu.shapes().map(|s| s.name.clone()).collect();
        names.sort();
        on_disk.sort();
        assert_eq!(names, on_disk, "manifests/shapes and FILES must name the same shapes");
    }

    #[test]
    fn a_shape_has_captures_exactly_if_it_says_so() {
        let menu = Menu::published().unwrap();
        for shape in menu.shapes() {
            let captured = !menu.captures(&shape.name).is_empty();
            assert_eq!(captured, shape.status == Status::Captured, "{}", shape.name);
        }
    }

    #[test]
    fn every_shape_can_carry_a_worker() {
        for shape in Menu::published().unwrap().shapes() {
            for kind in [
                DeviceKind::ConfigDisk,
                DeviceKind::ModelDisk,
                DeviceKind::Network,
                DeviceKind::Vsock,
            ] {
                assert!(shape.slot(kind).is_some(), "{} has no {}", shape.name, kind.name());
            }
            assert_eq!(shape.gpus() > 0, shape.name.starts_with("gpu-"));
        }
    }

    #[test]
    fn refuses_an_unknown_name_and_an_unknown_version() {
        let menu = Menu::published().unwrap();
        assert!(matches!(
            menu.shape("cpu-3"),
            Err(ShapeError::Unknown { known, .. }) if known.contains("cpu-2")
        ));
        let qemu = "9.9.9".parse().unwrap();
        assert_eq!(menu.capture("cpu-2", qemu).unwrap_err().code(), "E-NOT-CAPTURED");
        assert_eq!(menu.capture("gpu-1", qemu).unwrap_err().code(), "E-NOT-CAPTURED");
    }

    #[test]
    fn refuses_a_blob_outside_the_catalogue() {
        let menu = Menu::published().unwrap();
        let blob = Blob::new(BlobKind::Rsdp, vec![0; 20]).unwrap();
        assert_eq!(menu.recognise("cpu-2", &blob).unwrap_err().code(), "E-ACPI-UNKNOWN");
    }
}
