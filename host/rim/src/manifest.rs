//! A verified manifest and the pins entry it becomes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use chrysalis_evidence::nvidia::{DeviceKind, MAX_GOLDEN_ALTERNATIVES, MAX_RECORDS, Record};
use chrysalis_wire::UnixTime;

use crate::RimError;
use crate::canonical::{Scope, local, namespace, scope};
use crate::signature::verify;
use crate::tree::Element;

/// SHA-256 of the certificate every manifest of NVIDIA must chain to.
pub const RIM_ROOT_SHA256: &str =
    "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1";

/// The root a manifest is verified under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RimRoot {
    /// NVIDIA CoRIM signing Root CA, built in.
    Nvidia,
    /// Another one, DER; for tests.
    Other(Vec<u8>),
}

impl RimRoot {
    fn der(&self) -> &[u8] {
        match self {
            Self::Nvidia => NVIDIA_RIM_ROOT_DER,
            Self::Other(der) => der,
        }
    }
}

/// What a manifest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A driver.
    Driver,
    /// A VBIOS.
    Vbios,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "driver",
            Self::Vbios => "vbios",
        })
    }
}

/// A manifest whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is about.
    pub part: Part,
    /// The chip.
    pub kind: DeviceKind,
    /// The version, as reports state it.
    pub version: String,
    /// Common name of the signer.
    pub signer: String,
    /// Accepted digests by SPDM index, 1 and up. Zero is a value like any other.
    pub records: BTreeMap<u8, Vec<Record>>,
}

impl Manifest {
    /// Verifies a manifest at `now` and reads it.
    ///
    /// # Errors
    /// [`RimError`].
    pub fn verify(bytes: &[u8], root: &RimRoot, now: UnixTime) -> Result<Self, RimError> {
        let (document, signer) = verify(Element::parse(bytes)?, root.der(), now)?;
        if document.name != "SoftwareIdentity" || document.attribute("xmlns") != Some(SWID) {
            return Err(RimError::Missing { what: "SoftwareIdentity" });
        }
        let outer = scope(&document, &Scope::new())?;
        if outer.get("ns0").map(String::as_str) != Some(SWID) {
            return Err(RimError::Missing { what: "ns0" });
        }
        let meta = document.only("ns0:Meta")?;
        let stated =
            |name: &'static str| meta.attribute(name).ok_or(RimError::Missing { what: name });
        let product = stated("product")?;
        let kind = DeviceKind::of_product(product)
            .ok_or_else(|| content("a chip without rules", product))?;
        let version = stated("colloquialVersion")?.to_ascii_uppercase();
        let part = part(&version).ok_or_else(|| content("a version of unknown form", &version))?;
        let payload = document.only("ns0:Payload")?;
        let inner = scope(payload, &outer)?;
        let mut records = BTreeMap::new();
        for resource in payload.elements() {
            let Some((index, values)) = record(resource, &inner)? else { continue };
            if records.insert(index, values).is_some() {
                return Err(RimError::Missing { what: "index" });
            }
        }
        if records.is_empty() {
            return Err(RimError::Missing { what: "an active ns0:Resource" });
        }
        Ok(Self { part, kind, version, signer: signer.name, records })
    }

    /// The entry for the `[device]` section of a pins file, for one board or for all.
    #[must_use]
    pub fn to_pins(&self, board: Option<&str>) -> String {
        let Self { part, kind, version, signer, records } = self;
        let mut text = format!(
            "# {} records of NVIDIA's manifest, signed by {signer:?}\n[[device.{part}]]\n\
             kind = \"{kind}\"\nversion = \"{version}\"\n",
            records.len()
        );
        // Writing to a string cannot fail.
        if let Some(board) = board {
            let _ = writeln!(text, "board = {board:?}");
        }
        let _ = writeln!(text, "[device.{part}.records]");
        for (index, values) in records {
            let values: Vec<String> =
                values.iter().map(|value| format!("\"{}\"", hex::encode(value))).collect();
            let _ = match values.as_slice() {
                [one] => writeln!(text, "{index} = [{one}]"),
                many => writeln!(text, "{index} = [\n    {},\n]", many.join(",\n    ")),
            };
        }
        text
    }
}

/// One measurement: SPDM index and accepted values; `None` for one that is not compared.
fn record(resource: &Element, outer: &Scope) -> Result<Option<(u8, Vec<Record>)>, RimError> {
    let form = |what| RimError::Missing { what };
    let stated = |name: &'static str| resource.attribute(name).ok_or_else(|| form(name));
    if resource.name != "ns0:Resource"
        || stated("type")? != "Measurement"
        || stated("size")? != "48"
    {
        return Err(form("ns0:Resource"));
    }
    let index: u8 = stated("index")?.parse().map_err(|_| form("index"))?;
    // Manifests count from 0, reports from 1.
    let index = index.checked_add(1).filter(|i| usize::from(*i) <= MAX_RECORDS);
    let index = index.ok_or_else(|| form("index"))?;
    match stated("active")? {
        "True" => {}
        "False" => return Ok(None),
        _ => return Err(form("active")),
    }
    let scope = scope(resource, outer)?;
    let mut values = Vec::new();
    for (name, value) in &resource.attributes {
        if !name.contains(':') || namespace(name, &scope)? != HASHES {
            continue;
        }
        if local(name) != format!("Hash{}", values.len()) {
            return Err(form("a hash"));
        }
        let mut digest = [0; 48];
        hex::decode_to_slice(value, &mut digest).map_err(|_| content("not a SHA-384", value))?;
        values.push(digest);
    }
    let count: usize = stated("alternatives")?.parse().map_err(|_| form("alternatives"))?;
    if values.is_empty() || values.len() != count || count > MAX_GOLDEN_ALTERNATIVES {
        return Err(form("alternatives"));
    }
    Ok(Some((index, values)))
}

/// `96.00.5E.00.01` is a VBIOS, `550.144.03` a driver.
fn part(version: &str) -> Option<Part> {
    let parts: Vec<&str> = version.split('.').collect();
    let hex = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
    let number = |p: &&str| (2..=4).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit());
    if parts.len() == 5 && parts.iter().all(hex) {
        Some(Part::Vbios)
    } else if (2..=4).contains(&parts.len()) && parts.iter().all(number) {
        Some(Part::Driver)
    } else {
        None
    }
}

fn content(what: &'static str, got: &str) -> RimError {
    RimError::Content { what, got: got.chars().take(MAX_SHOWN_CHARS).collect() }
}

const MAX_SHOWN_CHARS: usize = 100;
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
/// The namespace of hash attributes: the name of the algorithm.
const HASHES: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
/// NVIDIA CoRIM signing Root CA, valid 2023-03-16 to 2053-03-08. NVIDIA publishes it with its
/// verifiers (nvtrust).
const NVIDIA_RIM_ROOT_DER: &[u8] = include_bytes!("../roots/nvidia-corim-signing-root-ca.der");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_root_is_nvidias_published_certificate() {
        use aws_lc_rs::digest::{SHA256, digest};
        let found = hex::encode(digest(&SHA256, RimRoot::Nvidia.der()).as_ref());
        assert_eq!(found, RIM_ROOT_SHA256);
    }

    #[test]
    fn tells_driver_and_vbios_versions_apart() {
        assert_eq!(part("96.00.5E.00.01"), Some(Part::Vbios));
        assert_eq!(part("550.144.03"), Some(Part::Driver));
        assert_eq!(part("590.12"), Some(Part::Driver));
        for version in ["", "550", "96.00.5E.00", "96.00.5E.00.0G", "1.2.3.4.5", "550.90.07\"\n"] {
            assert_eq!(part(version), None, "{version:?}");
        }
    }
}
