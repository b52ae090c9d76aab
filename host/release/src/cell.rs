//! The TON dialect: what a registry contract stores of a release. Big endian; every cell holds
//! whole bytes, and lists are chains, newest knowledge first.
//!
//! ```text
//! root      tag:32 "REF1" ("SIM1" for an INSECURE-SIM image) | format:8 = 1 | debug:8
//!           | values_sha256:256 | name_len:8 name | ^tdx ^shapes ^workloads ^sgx
//! tdx       empty, or mrtd:384 | ^(rtmr1:384 | rtmr2:384)
//! shapes    empty, or name_len:8 name | qemu_len:8 qemu | ^(rtmr0:384) ^shapes
//! workloads empty, or name_len:8 name | ^(manifest_sha256:256 | model_root:256 | rtmr3:384)
//!           ^workloads
//! sgx       empty, or mrenclave:256 | mrsigner:256
//! ```

use chrysalis_receipt::{Cell, CellBuilder, boc};
use chrysalis_wire::ImagePlatform;

use crate::bag::{self, BagCell};
use crate::error::ReleaseError;
use crate::facts::Facts;
use crate::release::BOC_FILE;
use crate::values::{MAX_SHAPES, MAX_WORKLOADS, Values};

/// Builds the cell of `values`. A contract names it by its hash.
pub(crate) fn cell(values: &Values) -> Result<Cell, ReleaseError> {
    let tdx = match &values.tdx {
        None => leaf(&[])?,
        Some(tdx) => {
            let rest = leaf(&[&tdx.rtmr1.0, &tdx.rtmr2.0])?;
            branch(&[&tdx.mrtd.0], [rest])?
        }
    };
    let mut shapes = leaf(&[])?;
    for shape in values.shapes.iter().rev() {
        let head = [text(&shape.name), text(&shape.qemu)].concat();
        shapes = branch(&[&head], [leaf(&[&shape.rtmr0.0])?, shapes])?;
    }
    let mut workloads = leaf(&[])?;
    for workload in values.workloads.iter().rev() {
        let (manifest, root) = (&workload.manifest_sha256.0, &workload.model_root.0);
        let body = leaf(&[manifest, root, &workload.rtmr3.0])?;
        workloads = branch(&[&text(&workload.name)], [body, workloads])?;
    }
    let sgx = match &values.sgx {
        None => leaf(&[])?,
        Some(sgx) => leaf(&[&sgx.mrenclave.0, &sgx.mrsigner.0])?,
    };
    let tag = match values.platform {
        ImagePlatform::Tdx => TAG,
        ImagePlatform::InsecureSim => SIM_TAG,
    };
    let digest = values.sha256()?;
    let head = [tag, &[FORMAT, values.debug.into()], &digest.0, &text(&values.release)];
    branch(&head, [tdx, shapes, workloads, sgx])
}

/// Writes the cell as a bag of cells.
pub(crate) fn write(values: &Values) -> Result<Vec<u8>, ReleaseError> {
    Ok(boc(&cell(values)?))
}

/// Reads back what a bag of cells says, whoever wrote it.
pub(crate) fn read(bytes: &[u8]) -> Result<Facts, ReleaseError> {
    let cells = bag::read(bytes)?;
    let mut facts = Facts::default();
    let root = at(&cells, 0)?;
    read_root(&root.bytes, &mut facts)?;
    let [tdx, shapes, workloads, sgx] = root.refs.as_slice() else {
        return Err(malformed("its root does not have four references"));
    };
    read_tdx(&cells, *tdx, &mut facts)?;
    read_chain(&cells, *shapes, MAX_SHAPES, |names, body| {
        let [name, qemu] = names else { return Err(malformed("a shape does not have two names")) };
        let [rtmr0] = fields(body, [48])?;
        facts.say(format!("shape/{name}/{qemu}/rtmr0"), rtmr0)
    })?;
    read_chain(&cells, *workloads, MAX_WORKLOADS, |names, body| {
        let [name] = names else { return Err(malformed("a workload does not have one name")) };
        let [manifest, root, rtmr3] = fields(body, [32, 32, 48])?;
        facts.say(format!("workload/{name}/manifest"), manifest)?;
        facts.say(format!("workload/{name}/model-root"), root)?;
        facts.say(format!("workload/{name}/rtmr3"), rtmr3)
    })?;
    let sgx = at(&cells, *sgx)?;
    if !sgx.bytes.is_empty() {
        let [mrenclave, mrsigner] = fields(sgx, [32, 32])?;
        facts.say("sgx/mrenclave", mrenclave)?;
        facts.say("sgx/mrsigner", mrsigner)?;
    }
    Ok(facts)
}

fn read_root(bytes: &[u8], facts: &mut Facts) -> Result<(), ReleaseError> {
    let other = || malformed("its root is not one of reference values, format 1");
    let (tag, rest) = bytes.split_at_checked(TAG.len()).ok_or_else(other)?;
    let platform = match tag {
        TAG => ImagePlatform::Tdx,
        SIM_TAG => ImagePlatform::InsecureSim,
        _ => return Err(other()),
    };
    let (head, rest) = rest.split_at_checked(2).ok_or_else(other)?;
    let debug = match head {
        [FORMAT, 0] => false,
        [FORMAT, 1] => true,
        _ => return Err(other()),
    };
    let (digest, rest) = rest.split_at_checked(32).ok_or_else(other)?;
    let names = texts(rest)?;
    let [name] = names.as_slice() else { return Err(other()) };
    facts.say("release/values", hex::encode(digest))?;
    facts.say("release/name", name)?;
    facts.say("release/platform", platform.to_string())?;
    facts.say("release/debug", debug.to_string())
}

fn read_tdx(cells: &[BagCell], index: usize, facts: &mut Facts) -> Result<(), ReleaseError> {
    let cell = at(cells, index)?;
    match cell.refs.as_slice() {
        [] if cell.bytes.is_empty() => Ok(()),
        [rest] => {
            facts.say("tdx/mrtd", hex::encode(&cell.bytes))?;
            let [rtmr1, rtmr2] = fields(at(cells, *rest)?, [48, 48])?;
            facts.say("tdx/rtmr1", rtmr1)?;
            facts.say("tdx/rtmr2", rtmr2)
        }
        _ => Err(malformed("its tdx cell is not one")),
    }
}

/// Walks a chain: names in the link, a body, the next link.
fn read_chain(
    cells: &[BagCell],
    mut index: usize,
    max: usize,
    mut entry: impl FnMut(&[String], &BagCell) -> Result<(), ReleaseError>,
) -> Result<(), ReleaseError> {
    for _ in 0..=max {
        let link = at(cells, index)?;
        match link.refs.as_slice() {
            [] if link.bytes.is_empty() => return Ok(()),
            [body, next] => {
                entry(&texts(&link.bytes)?, at(cells, *body)?)?;
                index = *next;
            }
            _ => return Err(malformed("a list is not a chain")),
        }
    }
    Err(malformed("a list is too long"))
}

fn at(cells: &[BagCell], index: usize) -> Result<&BagCell, ReleaseError> {
    cells.get(index).ok_or_else(|| malformed("a cell is missing"))
}

/// The data of a leaf, cut into fields, in hex.
fn fields<const N: usize>(cell: &BagCell, lens: [usize; N]) -> Result<[String; N], ReleaseError> {
    if !cell.refs.is_empty() || cell.bytes.len() != lens.iter().sum::<usize>() {
        return Err(malformed("a leaf does not hold the fields of its place"));
    }
    let mut rest = cell.bytes.as_slice();
    Ok(lens.map(|len| {
        let (head, tail) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        rest = tail;
        hex::encode(head)
    }))
}

fn text(text: &str) -> Vec<u8> {
    // Names are at most 64 bytes; `Values` sees to that.
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[len], text.as_bytes()].concat()
}

fn texts(mut bytes: &[u8]) -> Result<Vec<String>, ReleaseError> {
    let mut out = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (head, tail) = rest
            .split_at_checked(usize::from(*len))
            .ok_or_else(|| malformed("a name is cut short"))?;
        let name = core::str::from_utf8(head).map_err(|_| malformed("a name is not text"))?;
        out.push(name.to_owned());
        bytes = tail;
    }
    Ok(out)
}

fn leaf(parts: &[&[u8]]) -> Result<Cell, ReleaseError> {
    branch(parts, [])
}

fn branch<const N: usize>(parts: &[&[u8]], refs: [Cell; N]) -> Result<Cell, ReleaseError> {
    let mut builder = CellBuilder::new();
    for part in parts {
        builder.bytes(part)?;
    }
    for cell in refs {
        builder.reference(cell)?;
    }
    Ok(builder.build()?)
}

fn malformed(reason: &str) -> ReleaseError {
    ReleaseError::Malformed { file: BOC_FILE, reason: reason.to_owned() }
}

const TAG: &[u8] = b"REF1";
const SIM_TAG: &[u8] = b"SIM1";
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Scope;
    use crate::testing::values;

    #[test]
    fn reads_back_every_register_it_writes() {
        let bytes = write(&values()).unwrap();
        assert_eq!(read(&bytes).unwrap(), values().facts(Scope::Registers).unwrap());
    }

    #[test]
    fn holds_the_longest_lists_there_may_be() {
        let mut values = values();
        let shape = values.shapes[0].clone();
        let named = |i| crate::Shape { name: format!("shape-{i:058}"), ..shape.clone() };
        values.shapes = (0..MAX_SHAPES).map(named).collect();
        let bytes = write(&values).unwrap();
        assert_eq!(read(&bytes).unwrap(), values.facts(Scope::Registers).unwrap());
    }

    #[test]
    fn a_simulated_release_has_another_tag_and_so_another_hash() {
        let real = values();
        let mut simulated = values();
        simulated.platform = ImagePlatform::InsecureSim;
        assert_ne!(cell(&real).unwrap().hash(), cell(&simulated).unwrap().hash());
    }

    #[test]
    fn has_the_hash_computed_apart_from_this_code() {
        // Python, hashlib only (at the end of this file), from the layout above: the tree of a
        // release without shapes, workloads and enclave.
        let mut values = values();
        (values.shapes, values.workloads, values.sgx) = (Vec::new(), Vec::new(), None);
        (values.source, values.toolchain) = (None, None);
        assert_eq!(values.sha256().unwrap().to_string(), SMALL_SHA256);
        assert_eq!(cell(&values).unwrap().hash().to_string(), SMALL_CELL);
    }

    const SMALL_SHA256: &str = "5addafb793234ee0e3c8ba2d3e2eb0a9f1b6daa421f3f04228132de32b3a69c1";
    const SMALL_CELL: &str = "22acb48e6d5e89500fb0c9fe5fafb9abc3367c880ebabb41ebac8cfca442dc32";

    #[test]
    fn refuses_every_truncation_and_sees_every_flipped_bit() {
        let bytes = write(&values()).unwrap();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} bytes");
        }
        let facts = read(&bytes).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert!(!read(&other).is_ok_and(|f| f == facts), "byte {at} bit {bit}");
            }
        }
    }
}

// The second computation of `has_the_hash_computed_apart_from_this_code`, Python:
//
//     import hashlib
//     def cell(data, *refs):
//         d = bytes([len(refs), 2 * len(data)]) + data
//         d += b"".join(r[0].to_bytes(2, "big") for r in refs) + b"".join(r[1] for r in refs)
//         return (max((r[0] + 1 for r in refs), default=0), hashlib.sha256(d).digest())
//     empty = cell(b"")
//     tdx = cell(b"\x11" * 48, cell(b"\x12" * 48 + b"\x13" * 48))
//     root = b"REF1" + bytes([1, 0]) + bytes.fromhex(SMALL_SHA256) + b"\x050.1.0"
//     print(cell(root, tdx, empty, empty, empty)[1].hex())
