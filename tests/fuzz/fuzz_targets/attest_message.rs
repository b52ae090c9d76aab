//! Messages of attest/1, and the place of a challenge in a batch. What is read is written back byte
//! for byte, and a place that is accepted leads every leaf somewhere.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_evidence::exchange::{Challenge, MESSAGE_HEADER_BYTES, Message, Reason};
use chrysalis_evidence::{Batch, Binding, InclusionPath, Role};
use chrysalis_fuzz::variant;
use chrysalis_wire::{BatchDocument, Digest};

chrysalis_fuzz::target!(seeds, one);

fn binding(nonce: u8) -> Binding {
    Binding {
        role: Role::Server,
        tls_spki: Digest([1; 32]),
        nonce: [nonce; 32],
        exporter: [3; 32],
        keyset_digest: Digest([4; 32]),
        device_digest: Digest([0; 32]),
    }
}

/// Index, size and hashes, one behind the other.
fn place(document: &BatchDocument) -> Vec<u8> {
    let mut bytes = [document.index.to_be_bytes(), document.size.to_be_bytes()].concat();
    document.path.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let leaves: Vec<_> = (0..7).map(|nonce| binding(nonce).leaf()).collect();
    let batch = Batch::new(&leaves).expect("seven leaves");
    let places = batch.paths().filter_map(|path| path.to_document()).map(|d| place(&d));
    let messages = [
        Message::Challenge(Challenge { prover: Role::Client, nonce: [7; 32] }),
        Message::Evidence(b"{}".to_vec()),
        Message::Refusal(Reason::NoQuote),
    ];
    messages.iter().map(Message::encode).chain(places).collect()
}

fn one(data: &[u8]) -> String {
    let message = match Message::decode(data) {
        Ok(message) => {
            assert_eq!(message.encode(), data);
            let header = *data.first_chunk().expect("a header was read");
            assert_eq!(Message::body_bytes(header), Ok(data.len() - MESSAGE_HEADER_BYTES));
            message.name().to_owned()
        }
        Err(error) => variant(&error),
    };
    let (Some((index, rest)), true) = (data.split_first_chunk(), data.len() >= 8) else {
        return message;
    };
    let Some((size, hashes)) = rest.split_first_chunk() else { return message };
    let document = BatchDocument {
        index: u32::from_be_bytes(*index),
        size: u32::from_be_bytes(*size),
        path: hashes.chunks_exact(32).map(|h| Digest(h.try_into().expect("32 bytes"))).collect(),
    };
    let place = match InclusionPath::read(Some(&document)) {
        Ok(path) => {
            assert_eq!(path.to_document(), Some(document));
            let leaf = binding(7).leaf();
            assert_ne!(path.report_data(&leaf), binding(7).report_data());
            "place".to_owned()
        }
        Err(error) => variant(&error),
    };
    format!("{message} {place}")
}
