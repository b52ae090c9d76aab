//! The CoRIM dialect: draft-ietf-rats-corim-11, one CoMID of reference triples, unsigned.
//!
//! | environment (vendor `Chrysalis`, model) | measurement | value |
//! |---|---|---|
//! | `release` | `name`, `platform`, `debug`, `source`, `toolchain` | name |
//! | `release` | `values` | digest, SHA-256 of `values.toml` |
//! | `tdx` | `mrtd` | digest, SHA-384 |
//! | `tdx` | `rtmr` | integrity registers 1, 2 |
//! | `shape/NAME/QEMU` | `rtmr` | integrity register 0 |
//! | `workload/NAME` | `manifest` | digest, SHA-256 |
//! | `workload/NAME` | `model-root` | digest, algorithm `chrysalis-model-root/1` |
//! | `workload/NAME` | `rtmr` | integrity register 3 |
//! | `sgx` | `mrenclave`, `mrsigner` | digest, SHA-256 |
//! | `part` | file name | digest, SHA-256 |
//!
//! Digest algorithms are those of the IANA Named Information registry; the model root has none.

use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::{MeasuredElement, TagIdChoice};
use corim::types::corim::CorimId;
use corim::types::environment::EnvironmentMap;
use corim::types::measurement::{
    Digest, IntegrityRegisterId, IntegrityRegisters, MeasurementMap, MeasurementValuesMap,
};
use corim::types::triples::ReferenceTriple;

use crate::error::ReleaseError;
use crate::facts::{Facts, Scope};
use crate::release::CORIM_FILE;
use crate::values::Values;

/// Writes the CoRIM of `values`, deterministically (RFC 8949 §4.2.1).
pub(crate) fn write(values: &Values) -> Result<Vec<u8>, ReleaseError> {
    let id = format!("chrysalis-{}-{}", values.release, values.platform);
    let refused = |e: corim::error::BuilderError| ReleaseError::CorimWrite(e.to_string());
    let mut comid = ComidBuilder::new(TagIdChoice::Text(id.clone()));
    for (model, key, value) in split(&values.facts(Scope::Whole)?)? {
        let environment = EnvironmentMap::for_class(VENDOR, model);
        comid = comid.add_reference_triple(ReferenceTriple::new(
            environment,
            vec![MeasurementMap {
                mkey: Some(MeasuredElement::Text(key)),
                mval: value.into(),
                authorized_by: None,
            }],
        ));
    }
    let corim = CorimBuilder::new(CorimId::Text(id));
    let corim = corim.add_comid_tag(comid.build().map_err(refused)?).map_err(refused)?;
    corim.build_bytes().map_err(refused)
}

/// Reads back what a CoRIM says, whoever wrote it.
pub(crate) fn read(bytes: &[u8]) -> Result<Facts, ReleaseError> {
    if bytes.len() > MAX_CORIM_BYTES {
        let got = bytes.len();
        return Err(ReleaseError::TooLarge { file: CORIM_FILE, got, max: MAX_CORIM_BYTES });
    }
    // The files name no validity period, so no clock is asked for.
    let (_, comids) =
        corim::validate::decode_and_validate_at(bytes, 0).map_err(|e| malformed(e.to_string()))?;
    let mut facts = Facts::default();
    for comid in &comids {
        for triple in comid.triples.reference_triples.iter().flatten() {
            read_triple(triple, &mut facts)?;
        }
    }
    Ok(facts)
}

fn read_triple(triple: &ReferenceTriple, facts: &mut Facts) -> Result<(), ReleaseError> {
    let class = triple.environment().class.as_ref();
    let vendor = class.and_then(|c| c.vendor.as_deref());
    let model = class.and_then(|c| c.model.as_deref());
    let (Some(VENDOR), Some(model)) = (vendor, model) else {
        return Err(malformed("an environment is not one of Chrysalis".to_owned()));
    };
    for measurement in triple.measurements() {
        let Some(MeasuredElement::Text(key)) = &measurement.mkey else {
            return Err(malformed(format!("a measurement of {model} has no name")));
        };
        let name = |last: &str| format!("{model}/{last}");
        let values = &measurement.mval;
        match (&values.name, &values.digests, &values.integrity_registers) {
            (Some(text), None, None) if model == "release" => facts.say(name(key), text.clone())?,
            (None, Some(digests), None) => {
                let [digest] = digests.as_slice() else {
                    return Err(malformed(format!("{model} {key} does not have one digest")));
                };
                if *digest.alg() != *algorithm(model, key)(Vec::new()).alg() {
                    return Err(malformed(format!("{model} {key} has another hash algorithm")));
                }
                facts.say(name(key), hex::encode(digest.value()))?;
            }
            (None, None, Some(registers)) => {
                for (id, digests) in &registers.0 {
                    let (IntegrityRegisterId::Uint(index), [digest]) = (id, digests.as_slice())
                    else {
                        return Err(malformed(format!("{model} {key} is not a register")));
                    };
                    if *digest.alg() != *sha384(Vec::new()).alg() {
                        return Err(malformed(format!("{model} {key} is not SHA-384")));
                    }
                    facts.say(name(&format!("rtmr{index}")), hex::encode(digest.value()))?;
                }
            }
            _ => return Err(malformed(format!("{model} {key} is of an unknown kind"))),
        }
    }
    Ok(())
}

/// The value of one measurement.
enum Value {
    Text(String),
    Digest(Digest),
    Register(u64, Digest),
}

impl From<Value> for MeasurementValuesMap {
    fn from(value: Value) -> Self {
        let mut map = Self::new();
        match value {
            Value::Text(text) => map.name = Some(text),
            Value::Digest(digest) => map.digests = Some(vec![digest]),
            Value::Register(index, digest) => {
                let id = IntegrityRegisterId::Uint(index);
                let registers = [(id, vec![digest])].into_iter().collect();
                map.integrity_registers = Some(IntegrityRegisters(registers));
            }
        }
        map
    }
}

/// Environment, measurement name and value of every fact.
fn split(facts: &Facts) -> Result<Vec<(String, String, Value)>, ReleaseError> {
    let mut out = Vec::new();
    for (name, text) in facts.iter() {
        let (model, key) = name.rsplit_once('/').unwrap_or((name, name));
        let register = key.strip_prefix("rtmr").and_then(|n| n.parse().ok());
        let bytes = || hex::decode(text).map_err(|e| malformed(e.to_string()));
        let (key, value) = match (model, key, register) {
            ("release", "name" | "platform" | "debug" | "source" | "toolchain", _) => {
                (key, Value::Text(text.to_owned()))
            }
            (_, _, Some(index)) => ("rtmr", Value::Register(index, sha384(bytes()?))),
            _ => (key, Value::Digest(algorithm(model, key)(bytes()?))),
        };
        out.push((model.to_owned(), key.to_owned(), value));
    }
    Ok(out)
}

/// Which hash made the digest of a measurement.
fn algorithm(model: &str, key: &str) -> fn(Vec<u8>) -> Digest {
    match (model, key) {
        ("tdx", _) => sha384,
        (_, "model-root") => model_root,
        _ => sha256,
    }
}

fn sha256(value: Vec<u8>) -> Digest {
    Digest::new(1, value)
}

fn sha384(value: Vec<u8>) -> Digest {
    Digest::new(7, value)
}

fn model_root(value: Vec<u8>) -> Digest {
    Digest::new_text("chrysalis-model-root/1", value)
}

const fn malformed(reason: String) -> ReleaseError {
    ReleaseError::Malformed { file: CORIM_FILE, reason }
}

const VENDOR: &str = "Chrysalis";

/// Largest CoRIM accepted, in bytes.
const MAX_CORIM_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn reads_back_every_fact_it_writes() {
        let bytes = write(&values()).unwrap();
        assert_eq!(read(&bytes).unwrap(), values().facts(Scope::Whole).unwrap());
        assert_eq!(write(&values()).unwrap(), bytes, "one release has one CoRIM");
    }

    #[test]
    fn begins_with_the_tag_of_a_corim() {
        // #6.501(corim-map): major type 6, two-byte argument.
        assert_eq!(write(&values()).unwrap()[..3], [0xd9, 0x01, 0xf5]);
    }

    #[test]
    fn refuses_every_truncation() {
        let bytes = write(&values()).unwrap();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn refuses_an_environment_of_somebody_else() {
        let bytes = write(&values()).unwrap();
        let at = bytes.windows(9).position(|w| w == VENDOR.as_bytes()).unwrap();
        let mut other = bytes;
        other[at] = b'X';
        assert!(matches!(read(&other), Err(ReleaseError::Malformed { .. })));
    }

    #[test]
    fn refuses_one_byte_over_the_limit() {
        let refused = read(&vec![0; MAX_CORIM_BYTES + 1]);
        assert!(matches!(refused, Err(ReleaseError::TooLarge { .. })));
    }
}
