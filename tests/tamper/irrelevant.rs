//! Bits that may change unnoticed because nothing depends on them. Each kind is listed with its
//! reason and a proof that is run on every such bit the matrix meets: a bit that was not noticed
//! and is not proven is a hole.

use chrysalis_evidence::{AllowSim, Collateral, Pins};
use chrysalis_measure::tdx::EventLog;
use chrysalis_shape::{Capture, Shape};
use chrysalis_wire::AttestationDocument;

use crate::gates::Gate;
use crate::world::{Object, World};

/// Why some bits of a class are irrelevant.
#[derive(Clone, Copy)]
pub(crate) struct Irrelevant {
    /// In words.
    pub(crate) why: &'static str,
    /// Whether that holds for the one bit in which the worlds differ.
    pub(crate) proof: fn(honest: &World, changed: &World) -> bool,
}

/// Authenticode leaves out its own place.
pub(crate) const KERNEL_SIGNATURE: Irrelevant = Irrelevant {
    why: "the PE checksum and the signature, which a signature cannot cover; nobody runs them, and \
          the image directory with them changed is refused by the hash of the whole file",
    proof: |honest, changed| {
        let kernel = honest.bytes(Object::Kernel);
        let word = |at: usize| u32::from_le_bytes(kernel[at..at + 4].try_into().unwrap()) as usize;
        let optional = word(0x3c) + 24;
        let (checksum, signature) = (optional + 64, word(optional + 144));
        let at = changed_at(honest, changed, Object::Kernel);
        let by_hash = Gate::ImageVerify.meet(changed, Object::Kernel);
        ((checksum..checksum + 4).contains(&at) || at >= signature)
            && by_hash.named() == Some(("E-IMAGE-PART", "kernel"))
    },
};

/// Shape files explain themselves.
pub(crate) const SHAPE_COMMENTS: Irrelevant = Irrelevant {
    why: "comments and the summary for people: every value a VM is made of is the same",
    proof: |honest, changed| {
        let of = |world: &World| Shape::parse(world.bytes(Object::ShapeFile)).unwrap();
        let (honest, changed) = (of(honest), of(changed));
        Shape { summary: honest.summary.clone(), ..changed } == honest
    },
};

/// A capture names the QEMU it was taken from.
pub(crate) const CAPTURE_LABELS: Irrelevant = Irrelevant {
    why: "the comment, and the QEMU version the blobs are filed under: the blobs themselves, which \
          are all that is measured, are the same, and a host with another QEMU has other ones",
    proof: |honest, changed| {
        let shape = Shape::parse(honest.bytes(Object::ShapeFile)).unwrap();
        let of = |world: &World| Capture::parse(world.bytes(Object::Capture), &shape).unwrap();
        let (honest, changed) = (of(honest), of(changed));
        Capture { qemu: honest.qemu, ..changed } == honest
    },
};

/// Firmware blanks what is of one machine before it measures.
pub(crate) const SMBIOS_BLANKED: Irrelevant = Irrelevant {
    why: "fields of one machine or one boot, which the firmware blanks before it measures (edk2 \
          SmbiosMeasurementDxe), and the handle of the last structure, which it writes itself",
    proof: |honest, changed| {
        let at = changed_at(honest, changed, Object::Smbios);
        let table = honest.bytes(Object::Smbios);
        let mut start = 0;
        while start < table.len() {
            let formatted = start + usize::from(table[start + 1]);
            let strings = table[formatted..].windows(2).position(|w| w == [0, 0]).unwrap();
            let end = formatted + strings + 2;
            if (start..end).contains(&at) {
                let (kind, field) = (table[start], at - start);
                return BLANKED
                    .iter()
                    .any(|(of, from, to)| *of == kind && (*from..*to).contains(&field));
            }
            start = end;
        }
        false
    },
};

/// Type, first byte and end of the fields that are blanked (SMBIOS 3.7, 7).
const BLANKED: &[(u8, usize, usize)] = &[
    // System: UUID, wake-up type.
    (1, 0x08, 0x19),
    // Processor: voltage, current speed, counts of cores and threads.
    (4, 0x11, 0x12),
    (4, 0x16, 0x18),
    (4, 0x23, 0x26),
    // End of table: handle.
    (127, 0x02, 0x04),
];

/// An event is a digest with a description.
pub(crate) const EVENT_DESCRIPTIONS: Irrelevant = Irrelevant {
    why: "descriptions of events and unused fields of the log's header, which no digest covers: \
          register, digest and component of every event are the same",
    proof: |honest, changed| {
        let of = |world: &World| {
            let log = EventLog::parse(world.bytes(Object::EventLog)).unwrap();
            let said = log.events().iter().map(|e| (e.register, e.kind, e.digest, e.component));
            said.collect::<Vec<_>>()
        };
        of(honest) == of(changed)
    },
};

/// A worker says what it runs on.
pub(crate) const PLATFORM_WORD: Irrelevant = Irrelevant {
    why: "the word for the platform decides nothing: the root that signed the quote does",
    proof: |honest, changed| {
        let of = |world: &World| -> AttestationDocument {
            serde_json::from_slice(world.bytes(Object::Attestation)).unwrap()
        };
        let (honest, changed) = (of(honest), of(changed));
        AttestationDocument { platform: honest.platform.clone(), ..changed } == honest
    },
};

/// Collateral carries certificates that its verifier has from elsewhere.
pub(crate) const UNUSED_CERTIFICATES: Irrelevant = Irrelevant {
    why: "copies of the root certificate, which the pins name, and the chain of a revocation list, \
          which is taken from the quote; and spellings of the same bytes: white space in PEM, upper \
          case in hex",
    proof: |honest, changed| {
        let of = |world: &World| {
            let collateral = Collateral::parse(world.bytes(Object::Collateral)).unwrap();
            let mut value: serde_json::Value = serde_json::from_str(&collateral.to_json()).unwrap();
            let inner = value["collateral"].as_object_mut().unwrap();
            inner.remove("pck_crl_issuer_chain").unwrap();
            for chain in ["tcb_info_issuer_chain", "qe_identity_issuer_chain"] {
                let text = inner[chain].as_str().unwrap();
                let (leaf, _) = text.split_once("-----END").unwrap();
                let leaf: String = leaf.split_whitespace().collect();
                inner.insert(chain.to_owned(), leaf.into());
            }
            value
        };
        of(honest) == of(changed)
    },
};

/// A policy file explains itself, and sets two limits of its owner's choice.
pub(crate) const POLICY_WORDS: Irrelevant = Irrelevant {
    why: "comments, the name of the pin, and the owner's own limits for the age of collateral and \
          its evaluation number, which no evidence can contradict: every pinned value is the same",
    proof: |honest, changed| {
        let of = |world: &World| {
            let text = std::str::from_utf8(world.bytes(Object::Pins)).unwrap();
            Pins::parse(text, AllowSim::Yes).unwrap()
        };
        let (honest, changed) = (of(honest), of(changed));
        let mut workers = changed.workers().to_vec();
        workers[0].name.clone_from(&honest.workers()[0].name);
        let mut platform = changed.platform().clone();
        platform.max_collateral_age_days = honest.platform().max_collateral_age_days;
        platform.min_tcb_evaluation_number = honest.platform().min_tcb_evaluation_number;
        workers == honest.workers()
            && platform == *honest.platform()
            && changed.tier() == honest.tier()
            && changed.root() == honest.root()
            && changed.network() == honest.network()
    },
};

/// The byte in which the two worlds differ.
fn changed_at(honest: &World, changed: &World, object: Object) -> usize {
    let pairs = honest.bytes(object).iter().zip(changed.bytes(object));
    pairs.enumerate().find(|(_, (a, b))| a != b).unwrap().0
}
