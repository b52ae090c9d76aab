//! The registers a machine has that runs a release: what a quote is compared with.

use chrysalis_wire::RegisterValue;

use crate::error::ReleaseError;
use crate::values::{Shape, Values, Workload};

/// Registers of a release in a shape with a workload, as far as they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Initial contents of the TD.
    pub mrtd: RegisterValue,
    /// RTMR0 to RTMR3. RTMR0 is there if a shape was named, RTMR3 if a workload was.
    pub rtmr: [Option<RegisterValue>; 4],
}

/// Which registers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Name of a shape. Without one RTMR0 is left open.
    pub shape: Option<&'a str>,
    /// QEMU version of the host, where the release has the shape under several.
    pub qemu: Option<&'a str>,
    /// Name of a workload. Without one RTMR3 is left open.
    pub workload: Option<&'a str>,
}

impl Values {
    /// The registers of this release in a shape with a workload.
    ///
    /// # Errors
    /// [`ReleaseError::NoEntry`] for a release that has no TD registers, or not that shape or
    /// workload; [`ReleaseError::Ambiguous`] for a shape under several QEMU versions.
    pub fn registers(&self, choice: &Choice<'_>) -> Result<Registers, ReleaseError> {
        let tdx = self.tdx.as_ref().ok_or_else(|| absent("section", "tdx", Vec::new()))?;
        let rtmr0 = choice.shape.map(|name| self.shape(name, choice.qemu)).transpose()?;
        let rtmr3 = choice.workload.map(|name| self.workload(name)).transpose()?;
        Ok(Registers {
            mrtd: tdx.mrtd,
            rtmr: [
                rtmr0.map(|shape| shape.rtmr0),
                Some(tdx.rtmr1),
                Some(tdx.rtmr2),
                rtmr3.map(|workload| workload.rtmr3),
            ],
        })
    }

    /// The entry of a shape; `qemu` decides where there are several.
    ///
    /// # Errors
    /// [`ReleaseError::NoEntry`], [`ReleaseError::Ambiguous`].
    pub fn shape(&self, name: &str, qemu: Option<&str>) -> Result<&Shape, ReleaseError> {
        let fits = |s: &&Shape| s.name == name && qemu.is_none_or(|qemu| s.qemu == qemu);
        let found: Vec<_> = self.shapes.iter().filter(fits).collect();
        match found.as_slice() {
            [only] => Ok(only),
            [] => {
                let all = self.shapes.iter().map(|s| format!("{} (QEMU {})", s.name, s.qemu));
                let wanted = qemu.map_or_else(|| name.to_owned(), |q| format!("{name} (QEMU {q})"));
                Err(absent("shape", &wanted, all.collect()))
            }
            several => {
                let known = several.iter().map(|s| s.qemu.clone()).collect();
                Err(ReleaseError::Ambiguous { name: name.to_owned(), known })
            }
        }
    }

    fn workload(&self, name: &str) -> Result<&Workload, ReleaseError> {
        let found = self.workloads.iter().find(|w| w.name == name);
        found.ok_or_else(|| {
            absent("workload", name, self.workloads.iter().map(|w| w.name.clone()).collect())
        })
    }
}

fn absent(what: &'static str, name: &str, known: Vec<String>) -> ReleaseError {
    let name = name.chars().take(128).collect();
    ReleaseError::NoEntry { what, name, known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn gives_the_registers_of_a_shape_and_a_workload_and_leaves_open_what_was_not_named() {
        let values = values();
        let name = values.workloads[0].name.clone();
        let choice = Choice { shape: Some("cpu-8"), qemu: None, workload: Some(&name) };
        let all = values.registers(&choice).unwrap();
        assert_eq!(all.mrtd, RegisterValue([0x11; 48]));
        let rtmr3 = values.workloads[0].rtmr3;
        let expected = [[0x42; 48], [0x12; 48], [0x13; 48], rtmr3.0].map(RegisterValue);
        assert_eq!(all.rtmr, expected.map(Some));
        let image = values.registers(&Choice::default()).unwrap();
        assert_eq!((image.rtmr[0], image.rtmr[3]), (None, None));
    }

    #[test]
    fn refuses_what_the_release_does_not_have_and_says_what_it_has() {
        let values = values();
        let known = |choice: Choice<'_>| match values.registers(&choice) {
            Err(ReleaseError::NoEntry { known, .. }) => known.join(", "),
            other => panic!("{other:?}"),
        };
        let shape = Choice { shape: Some("cpu-3"), ..Choice::default() };
        assert_eq!(known(shape), "cpu-2 (QEMU 11.1.3), cpu-8 (QEMU 11.1.3)");
        let qemu = Choice { qemu: Some("9.9.9"), shape: Some("cpu-2"), ..Choice::default() };
        assert!(known(qemu).contains("11.1.3"));
        let workload = Choice { workload: Some("x"), ..Choice::default() };
        assert_eq!(known(workload), "smollm2-135m-instruct");
        let bare = Values { tdx: None, shapes: Vec::new(), ..values.clone() };
        let refused = bare.registers(&Choice::default());
        assert!(matches!(refused, Err(ReleaseError::NoEntry { what: "section", .. })));
    }

    #[test]
    fn a_shape_under_two_qemu_versions_needs_the_version() {
        let mut values = values();
        let other = RegisterValue([0x77; 48]);
        let first = values.shapes[0].clone();
        values.shapes.push(Shape { qemu: "12.0.0".to_owned(), rtmr0: other, ..first });
        let mut choice = Choice { shape: Some("cpu-2"), ..Choice::default() };
        let refused = values.registers(&choice);
        assert!(matches!(refused, Err(ReleaseError::Ambiguous { .. })));
        choice.qemu = Some("12.0.0");
        assert_eq!(values.registers(&choice).unwrap().rtmr[0], Some(other));
    }
}
