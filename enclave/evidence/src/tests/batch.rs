//! Batches of challenges: roots computed elsewhere, and every path that is not its leaf's.

use chrysalis_wire::limits::{MAX_BATCH_LEAVES, MAX_BATCH_PATH};
use chrysalis_wire::{BatchDocument, Digest};

use crate::{Batch, BatchError, Binding, InclusionPath, Leaf, ReportData, Role};

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

fn leaves(count: u8) -> Vec<Leaf> {
    (0..count).map(|nonce| binding(nonce).leaf()).collect()
}

/// Root, and the document of each leaf.
fn batch(count: u8) -> (ReportData, Vec<Option<BatchDocument>>) {
    let batch = Batch::new(&leaves(count)).unwrap();
    (batch.report_data(), batch.paths().map(|path| path.to_document()).collect())
}

fn leads(document: Option<&BatchDocument>, leaf: &Leaf, root: &ReportData) -> bool {
    InclusionPath::read(document).is_ok_and(|path| path.report_data(leaf).matches(&root.0))
}

#[test]
fn roots_are_those_of_rfc_9162() {
    // Computed apart from this code, with Python's hashlib, from the recursive definition.
    for (count, known) in [(1, KNOWN_1), (2, KNOWN_2), (3, KNOWN_3), (7, KNOWN_7)] {
        assert_eq!(hex::encode(batch(count).0.0), known, "{count} leaves");
    }
}

#[test]
fn one_challenge_alone_is_what_it_was_before_there_were_batches() {
    let (root, documents) = batch(1);
    assert_eq!(root, binding(0).report_data());
    assert_eq!(documents, [None]);
    assert!(leads(None, &binding(0).leaf(), &root));
}

/// Every size up to 40: all shapes of a tree up to six levels high.
#[test]
fn every_leaf_has_its_path_and_no_other_leaf_has_it() {
    for count in 1..=40 {
        let (root, documents) = batch(count);
        assert_eq!(documents.len(), usize::from(count));
        for (at, document) in documents.iter().enumerate() {
            for (other, leaf) in leaves(count).iter().enumerate() {
                let reached = leads(document.as_ref(), leaf, &root);
                assert_eq!(reached, at == other, "path {at} of {count}, leaf {other}");
            }
        }
    }
}

#[test]
fn refuses_a_path_with_two_siblings_swapped_or_one_bit_changed() {
    let (root, documents) = batch(7);
    for (leaf, document) in leaves(7).iter().zip(documents.into_iter().flatten()) {
        let mut swapped = document.clone();
        swapped.path.swap(0, 1);
        assert!(!leads(Some(&swapped), leaf, &root));
        for at in 0..document.path.len() {
            let mut changed = document.clone();
            changed.path[at].0[0] ^= 1;
            assert!(!leads(Some(&changed), leaf, &root));
        }
        assert!(leads(Some(&document), leaf, &root));
    }
}

#[test]
fn refuses_a_path_that_says_another_place() {
    let (root, documents) = batch(7);
    for (leaf, document) in leaves(7).iter().zip(documents.into_iter().flatten()) {
        for index in (0..7).filter(|index| *index != document.index) {
            let moved = BatchDocument { index, ..document.clone() };
            assert!(!leads(Some(&moved), leaf, &root), "{moved:?}");
        }
    }
}

#[test]
fn refuses_a_path_one_hash_too_short_or_too_long() {
    let (_, documents) = batch(7);
    for document in documents.into_iter().flatten() {
        let expected = document.path.len();
        let mut long = document.clone();
        long.path.push(Digest([0; 32]));
        let refused = BatchError::PathLength { expected, got: expected + 1 };
        assert_eq!(InclusionPath::read(Some(&long)), Err(refused));
        let mut short = document;
        short.path.pop();
        let refused = BatchError::PathLength { expected, got: expected - 1 };
        assert_eq!(InclusionPath::read(Some(&short)), Err(refused));
    }
}

#[test]
fn refuses_a_batch_of_none_one_leaf_spelled_out_and_one_over_the_limit() {
    assert_eq!(Batch::new(&[]).unwrap_err(), BatchError::Size { got: 0 });
    let place =
        |index, size, hashes| BatchDocument { index, size, path: vec![Digest([0; 32]); hashes] };
    for (size, hashes) in [(0, 0), (1, 0), (MAX_BATCH_LEAVES + 1, MAX_BATCH_PATH + 1)] {
        let refused = InclusionPath::read(Some(&place(0, size, hashes)));
        assert_eq!(refused, Err(BatchError::Size { got: size as usize }));
    }
    assert!(InclusionPath::read(Some(&place(0, MAX_BATCH_LEAVES, MAX_BATCH_PATH))).is_ok());
    let too_many = vec![binding(0).leaf(); MAX_BATCH_LEAVES as usize + 1];
    let refused = BatchError::Size { got: too_many.len() };
    assert_eq!(Batch::new(&too_many).unwrap_err(), refused);
    assert!(Batch::new(&too_many[1..]).is_ok());
}

#[test]
fn refuses_a_place_behind_the_last_leaf() {
    let (_, documents) = batch(2);
    let mut document = documents[1].clone().unwrap();
    document.index = 2;
    let refused = BatchError::Index { index: 2, size: 2 };
    assert_eq!(InclusionPath::read(Some(&document)), Err(refused));
}

/// The classic forgery: what stands inside the tree is shown as a leaf, or a leaf as what stands
/// inside. The tags keep them apart; without them both would pass.
#[test]
fn refuses_a_node_in_the_place_of_a_leaf_and_a_leaf_in_the_place_of_a_node() {
    let (root, documents) = batch(4);
    let (two, _) = batch(2);
    // Leaves 0 and 1 have this node above them. As a leaf, its hash would be another.
    let above = documents[3].as_ref().unwrap().path[1];
    let shorter =
        BatchDocument { index: 0, size: 2, path: vec![documents[0].as_ref().unwrap().path[1]] };
    // Only forged with the crate's own constructor does a node reach the root...
    assert!(leads(Some(&shorter), &Leaf(above.0), &root));
    // ... and no binding hashes to it: a leaf's hash is over bytes that begin with another tag.
    assert!(leaves(4).iter().all(|leaf| leaf.0 != above.0));
    assert!(!leads(Some(&shorter), &binding(0).leaf(), &root));
    assert!(!leads(None, &binding(0).leaf(), &two));
}

#[test]
fn the_same_challenges_in_another_order_are_another_root() {
    let mut other = leaves(2);
    other.reverse();
    assert_ne!(Batch::new(&other).unwrap().report_data(), batch(2).0);
}

#[test]
fn roles_and_report_data_are_shown_as_transcripts_write_them() {
    assert_eq!([Role::Server, Role::Client].map(|role| role.to_string()), ["server", "client"]);
    let shown = format!("{:?}", batch(1).0);
    assert_eq!(shown, format!("ReportData({KNOWN_1})"));
}

/// As the values below, with Python's hashlib.
const KNOWN_1: &str = "286d0cbcda4259fc06c27a1dfa01550c3311f5793a94fb73e6d45da421c5f93e5fb1cf61b110\
    aeb608ffdb4f58ae6c44af1625e1acd692051ff96ee40c0f29d5";
const KNOWN_2: &str = "bc886fde5d41dca84b380186846866cb13a8cacf690e8b1e20195659cbc5283f073fdcac8d7a8\
    775bd4ec257bf8e3d1b38d5fc516417cb6d2df2e33e26aaa920";
const KNOWN_3: &str = "c010e81e9427c4a5a144c3879b03575bb3fe479748ae2c84e3d5ae03dcf3b30eb7d300fa5aedb\
    80bc8c140e74bbf145f544d0a3e86a5ff1c90caf7ebdbccc954";
const KNOWN_7: &str = "b56306bf17691db07872677535e72a9d93c20b404098dcfed1f10500ff7358a58a85acb3ab637\
    129f1ea6741af7f8f598dd3fbd74e4a58bef78925b2710bad0f";
