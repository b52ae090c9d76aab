//! Judges a release by an image: everything is computed again from the files, and the first value
//! that differs is named with the register it moves and the part it comes from. Release and image
//! may both be anybody's; what cannot be computed from the files given is said, not assumed.

use chrysalis_evidence::AllowSim;
use chrysalis_image::compose::{CMDLINE_FILE, FIRMWARE_FILE, INITRD_FILE, KERNEL_FILE};
use chrysalis_image::{Image, ImageError, verify};
use chrysalis_measure::tdx::BiosIdentity;
use chrysalis_shape::{Menu, QemuVersion};
use chrysalis_wire::{Digest, ImagePlatform};

use crate::error::{Moved, ReleaseError};
use crate::source::{Ingredients, Label, SelectedShape, measured, registers};
use crate::values::{Part, Sgx, Tdx, Values, Workload};

/// What a release was compared with.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The files of the image.
    pub image: &'a Image,
    /// How its firmware names itself, where that is not known.
    pub bios: Option<&'a BiosIdentity>,
    /// Workloads computed from worker manifests at hand.
    pub workloads: &'a [Workload],
    /// The enclave, measured, where its files are at hand.
    pub sgx: Option<Sgx>,
}

/// What was computed again and is what the release says, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recomputed {
    /// The name of exactly the image it was computed from.
    pub image: Digest,
    /// Values that were computed again.
    pub values: Vec<String>,
    /// Values that need more than the image, and what that is.
    pub open: Vec<String>,
}

impl Values {
    /// Computes every value again from `evidence` and compares.
    ///
    /// # Errors
    /// [`ReleaseError::Differs`] for the first value that is another; [`ReleaseError::Image`] for
    /// an image that is not even what its own manifest says, with the register that moves;
    /// otherwise as [`Values::of_image`].
    pub fn recompute(
        &self,
        menu: &Menu,
        evidence: &Evidence<'_>,
        sim: AllowSim,
    ) -> Result<Recomputed, ReleaseError> {
        if self.platform == ImagePlatform::InsecureSim && sim != AllowSim::Yes {
            return Err(ReleaseError::Simulated);
        }
        let verified = verify(evidence.image, None).map_err(|error| ReleaseError::Image {
            moved: self.moved_by(evidence.image, &error).map(Box::new),
            error: Box::new(error),
        })?;
        let info = verified.image();
        let said = |what, expected: String, found: String| {
            same(what, "what the image says it is", expected, found)
        };
        said("platform", self.platform.to_string(), info.platform.to_string())?;
        said("debug", self.debug.to_string(), info.debug.to_string())?;
        let profile = info.firmware_profile.to_string();
        said("firmware profile", self.firmware_profile.clone(), profile)?;

        let mut shapes = Vec::new();
        for shape in &self.shapes {
            let qemu: QemuVersion = shape.qemu.parse()?;
            shapes.extend(SelectedShape::named(menu, &shape.name, Some(qemu))?);
        }
        let label = Label {
            release: self.release.clone(),
            source: self.source.clone(),
            toolchain: self.toolchain.clone(),
        };
        let ingredients = Ingredients {
            image: evidence.image,
            bios: evidence.bios,
            shapes: &shapes,
            workloads: &[],
            sgx: None,
        };
        let found = Self::of_verified(&label, &ingredients, info)?;
        let mut done = self.compare_image(&found)?;
        done.extend(self.compare_workloads(evidence.workloads)?);
        let mut open = Vec::new();
        let given = |w: &&Workload| evidence.workloads.iter().any(|g| g.name == w.name);
        for workload in self.workloads.iter().filter(|w| !given(w)) {
            open.push(format!("workload {}: its manifest was not given", workload.name));
        }
        match (&self.sgx, &evidence.sgx) {
            (Some(_), None) => open.push("enclave: its files were not given".to_owned()),
            (None, None) => {}
            (expected, found) => {
                let of = |sgx: &Option<Sgx>| sgx.as_ref().map_or_else(nothing, describe);
                let files = "Gramine manifest, libpal.so or signature";
                same("MRENCLAVE", files, of(expected), of(found))?;
                done.push("MRENCLAVE and MRSIGNER".to_owned());
            }
        }
        Ok(Recomputed { image: verified.id(), values: done, open })
    }

    /// Registers first: they are what a verifier pins. Then the files, then how far each is known.
    fn compare_image(&self, found: &Self) -> Result<Vec<String>, ReleaseError> {
        let changed = Changed::between(&self.parts, &found.parts);
        let mut done = Vec::new();
        let (expected, got) = (self.tdx.as_ref(), found.tdx.as_ref());
        let texts = |tdx: Option<&Tdx>| match tdx {
            Some(tdx) => [tdx.mrtd, tdx.rtmr1, tdx.rtmr2].map(|register| register.to_string()),
            None => [(); 3].map(|()| nothing()),
        };
        let from = [
            ("MRTD", changed.of(&[FIRMWARE_FILE], "firmware")),
            ("RTMR1", changed.of(&[KERNEL_FILE], "kernel")),
            ("RTMR2", changed.of(&[CMDLINE_FILE, INITRD_FILE], "command line or initrd")),
        ];
        let pairs = texts(expected).into_iter().zip(texts(got));
        for ((register, component), (expected, got)) in from.into_iter().zip(pairs) {
            same(register, &component, expected, got)?;
            done.push(register.to_owned());
        }
        for (shape, got) in self.shapes.iter().zip(&found.shapes) {
            let at = format!("{} (QEMU {})", shape.name, shape.qemu);
            let component = if changed.has(FIRMWARE_FILE) {
                format!("{FIRMWARE_FILE}: variable store or metadata of the firmware")
            } else {
                format!("firmware configuration in the shape {at}; no file is another")
            };
            same("RTMR0", &component, shape.rtmr0.to_string(), got.rtmr0.to_string())?;
            done.push(format!("RTMR0 in {at}"));
        }
        changed.none()?;
        done.push(format!("{} files", found.parts.len()));
        let known = "how far the value is known";
        if let (Some(expected), Some(got)) = (expected, got) {
            let (expected, got) = (expected.status.text(), got.status.text());
            same("status of MRTD, RTMR1, RTMR2", known, expected.into(), got.into())?;
        }
        for (shape, got) in self.shapes.iter().zip(&found.shapes) {
            let what = format!("status of RTMR0 in {} (QEMU {})", shape.name, shape.qemu);
            same(&what, known, shape.status.text().into(), got.status.text().into())?;
        }
        Ok(done)
    }

    fn compare_workloads(&self, given: &[Workload]) -> Result<Vec<String>, ReleaseError> {
        let mut done = Vec::new();
        for got in given {
            let expected = self.workloads.iter().find(|w| w.name == got.name);
            let what = format!("RTMR3 with the workload {}", got.name);
            let text = |w: Option<&Workload>, field: fn(&Workload) -> Digest| {
                w.map_or_else(nothing, |w| field(w).to_string())
            };
            for (component, field) in [
                ("model root", (|w| w.model_root) as fn(&Workload) -> Digest),
                ("worker manifest", |w| w.manifest_sha256),
            ] {
                same(&what, component, text(expected, field), text(Some(got), field))?;
            }
            done.push(what);
        }
        Ok(done)
    }

    /// The first register that another image than the released one moves, where it can be measured
    /// at all.
    fn moved_by(&self, image: &Image, error: &ImageError) -> Option<Moved> {
        let ImageError::Refused(fault) = error else { return None };
        let tdx = self.tdx.as_ref()?;
        let measured = measured(image, self.firmware_profile.parse().ok()?).ok()?;
        let expected = [tdx.mrtd, tdx.rtmr1, tdx.rtmr2];
        let pairs = expected.into_iter().zip(registers(&measured));
        let mut named = ["MRTD", "RTMR1", "RTMR2"].into_iter().zip(pairs);
        let moved = named.find(|(_, (expected, found))| expected != found);
        let component = match fault.member() {
            Some(member) => format!("{}: {member}", fault.part()),
            None => fault.part().to_owned(),
        };
        if let Some((register, (expected, found))) = moved {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Some(Moved { value: register.to_owned(), component, expected, found });
        }
        // The variable store is in no other register.
        (fault.part() == "firmware").then(|| {
            let of =
                |parts: &[Part]| find(parts, FIRMWARE_FILE).map_or_else(nothing, Part::describe);
            let found = [Part::of(FIRMWARE_FILE, &image.firmware)];
            let (expected, found) = (of(&self.parts), of(&found));
            Moved { value: "RTMR0".to_owned(), component, expected, found }
        })
    }
}

/// Files that are not those of the release.
struct Changed(Vec<(String, String, String)>);

impl Changed {
    fn between(expected: &[Part], found: &[Part]) -> Self {
        let mut names: Vec<&str> = expected.iter().chain(found).map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let text =
            |parts: &[Part], name: &str| find(parts, name).map_or_else(nothing, Part::describe);
        let pairs = names.into_iter().map(|n| (n.to_owned(), text(expected, n), text(found, n)));
        Self(pairs.filter(|(_, expected, found)| expected != found).collect())
    }

    fn has(&self, file: &str) -> bool {
        self.0.iter().any(|(name, ..)| name == file)
    }

    /// What moved a register that comes from `files`.
    fn of(&self, files: &[&str], title: &str) -> String {
        let changed: Vec<_> = files.iter().copied().filter(|file| self.has(file)).collect();
        match changed.as_slice() {
            [] => format!("{title}; no file is another: the value itself is wrong"),
            files => files.join(" and "),
        }
    }

    /// Refuses the first, which moved no register.
    fn none(&self) -> Result<(), ReleaseError> {
        let Some((name, expected, found)) = self.0.first() else { return Ok(()) };
        same("file", name, expected.clone(), found.clone())
    }
}

fn find<'a>(parts: &'a [Part], name: &str) -> Option<&'a Part> {
    parts.iter().find(|part| part.name == name)
}

impl Part {
    fn describe(&self) -> String {
        format!("{} bytes, SHA-256 {}", self.bytes, self.sha256)
    }
}

fn describe(sgx: &Sgx) -> String {
    let Sgx { mrenclave, mrsigner, isv_prod_id, isv_svn, status } = sgx;
    let status = status.text();
    format!("{mrenclave}, signer {mrsigner}, product {isv_prod_id}, version {isv_svn}, {status}")
}

fn nothing() -> String {
    "nothing".to_owned()
}

fn same(what: &str, component: &str, expected: String, found: String) -> Result<(), ReleaseError> {
    if expected == found {
        return Ok(());
    }
    let (value, component) = (what.to_owned(), component.to_owned());
    Err(ReleaseError::Differs(Box::new(Moved { value, component, expected, found })))
}
