//! Writes a proxy's pins file from a release: every shape with every workload, and the platforms
//! the operator accepts, which no release can decide for her.

use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_wire::{ImagePlatform, NetworkId};
use core::fmt::Write as _;

use crate::error::ReleaseError;
use crate::values::{MAX_WORKLOADS, Values, Workload, list};

/// A complete production pins file for the release's own workloads and for `workloads`, which the
/// operator accepts besides. `platform` is the operator's `[platform]` section, as TOML; the result
/// was read back by the parser that verifiers use.
///
/// # Errors
/// [`ReleaseError::NothingToPin`] for a release without TDX registers or shapes, a debug image or a
/// simulated one, or without any workload; [`ReleaseError::Duplicate`] for two workloads of one
/// name; [`ReleaseError::Pins`] if the result would not load.
pub fn pins_for(
    values: &Values,
    workloads: &[Workload],
    network: NetworkId,
    platform: &str,
) -> Result<String, ReleaseError> {
    let missing = |missing| ReleaseError::NothingToPin { missing };
    if values.platform != ImagePlatform::Tdx || values.debug {
        return Err(missing("image for production"));
    }
    let tdx = values.tdx.as_ref().ok_or_else(|| missing("tdx section"))?;
    if values.shapes.is_empty() {
        return Err(missing("shape"));
    }
    let workloads: Vec<_> = values.workloads.iter().chain(workloads).collect();
    if workloads.is_empty() {
        return Err(missing("workload"));
    }
    list("workload", workloads.iter().map(|w| w.name.clone()), MAX_WORKLOADS)?;
    let mut out = format!(
        "# Pins of release {}, written by `chrysalis release pins` from its reference values.\n\
         # values.toml has SHA-256 {}.\n\
         version = 1\ntier = \"production\"\nnetwork = {}\n",
        values.release,
        values.sha256()?,
        network.0
    );
    for shape in &values.shapes {
        for workload in &workloads {
            // Writing to a string does not fail.
            let _ = write!(
                out,
                "\n[[worker]]\nname = \"{} {} on {}, QEMU {}\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\n\
                 rtmr1 = \"{}\"\nrtmr2 = \"{}\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n",
                values.release,
                workload.name,
                shape.name,
                shape.qemu,
                tdx.mrtd,
                shape.rtmr0,
                tdx.rtmr1,
                tdx.rtmr2,
                workload.manifest_sha256,
                workload.model_root
            );
        }
    }
    out.push('\n');
    out.push_str(platform);
    Pins::parse(&out, AllowSim::No)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    /// The documented example, from `[platform]` on.
    fn platform() -> String {
        let example = include_str!("../../../manifests/pins.example.toml");
        example[example.find("[platform]").unwrap()..].to_owned()
    }

    #[test]
    fn pins_every_shape_with_every_workload() {
        let text = pins_for(&values(), &[], NetworkId::TESTNET, &platform()).unwrap();
        let pins = Pins::parse(&text, AllowSim::No).unwrap();
        assert_eq!(pins.workers().len(), 2);
        assert_eq!(pins.workers()[1].rtmr0, [0x42; 48]);
        assert_eq!(pins.workers()[1].mrtd, [0x11; 48]);
    }

    #[test]
    fn refuses_a_simulated_or_a_debug_release() {
        for change in
            [(|v: &mut Values| v.platform = ImagePlatform::InsecureSim) as fn(&mut Values), |v| {
                v.debug = true
            }]
        {
            let mut values = values();
            change(&mut values);
            let refused = pins_for(&values, &[], NetworkId::TESTNET, &platform());
            let missing = "image for production";
            assert_eq!(refused, Err(ReleaseError::NothingToPin { missing }));
        }
    }

    #[test]
    fn refuses_a_release_without_a_shape_or_a_workload() {
        let mut none = values();
        none.shapes.clear();
        assert!(matches!(
            pins_for(&none, &[], NetworkId::TESTNET, &platform()),
            Err(ReleaseError::NothingToPin { missing: "shape" })
        ));
        let mut none = values();
        none.workloads.clear();
        assert!(matches!(
            pins_for(&none, &[], NetworkId::TESTNET, &platform()),
            Err(ReleaseError::NothingToPin { missing: "workload" })
        ));
    }

    #[test]
    fn pins_workloads_that_the_operator_brings_to_a_release_without_any() {
        let release = values();
        let own = release.workloads.clone();
        let generic = Values { workloads: Vec::new(), ..release.clone() };
        let text = pins_for(&generic, &own, NetworkId::TESTNET, &platform()).unwrap();
        let pins = Pins::parse(&text, AllowSim::No).unwrap();
        assert_eq!(pins.workers().len(), 2);
        assert_eq!(pins.workers()[0].manifest_sha256, own[0].manifest_sha256);
        // The digest is that of the release as it was published.
        assert!(text.contains(&generic.sha256().unwrap().to_string()));
        let twice = pins_for(&release, &own, NetworkId::TESTNET, &platform());
        assert!(matches!(twice, Err(ReleaseError::Duplicate { field: "workload", .. })));
    }

    #[test]
    fn refuses_a_platform_section_that_verifiers_would_refuse() {
        for bad in ["", "[platform]\n", "[platforms]\n"] {
            let refused = pins_for(&values(), &[], NetworkId::TESTNET, bad);
            assert!(matches!(refused, Err(ReleaseError::Pins(_))), "{bad:?}");
        }
        let debug = platform().replace("0000001000000000", "0100001000000000");
        assert!(pins_for(&values(), &[], NetworkId::TESTNET, &debug).is_err());
    }
}
