//! Any sizes of files, in particular around chunk and file boundaries: what is packed is loaded
//! back, sealed or not, with one root; and any one changed byte of the content is found.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use chrysalis_vault::VaultError;
use chrysalis_vault::limits::CHUNK_BYTES;
use proptest::prelude::*;
use support::{content, key, load, packed, refusal, sealed, sections};

fn size() -> impl Strategy<Value = usize> {
    let around = |edge: usize| edge.saturating_sub(2).max(1)..edge + 3;
    prop_oneof![
        1usize..5000,
        around(4096),
        around(CHUNK_BYTES - 4096),
        around(CHUNK_BYTES),
        around(2 * CHUNK_BYTES),
        1..2 * CHUNK_BYTES,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_size_survives_and_every_change_is_found(
        sizes in prop::collection::vec(size(), 1..4),
        seed in 1u8..,
        place in any::<prop::sample::Index>(),
    ) {
        let data: Vec<_> = sizes.iter().map(|&len| content(len, seed)).collect();
        let names = ["a", "b", "c"];
        let files: Vec<_> = names.iter().copied().zip(data.iter().map(Vec::as_slice)).collect();
        let (plain, root) = packed(&files);
        let (closed, sealed_root) = sealed(&files, seed, seed);
        prop_assert_eq!(root, sealed_root);
        for (bundle, key) in [(plain, None), (closed, Some(key(seed)))] {
            let weights = load(&bundle, &root, key.as_ref()).unwrap();
            for (name, bytes) in &files {
                prop_assert!(weights.file(name) == Some(*bytes));
            }
            let s = sections(&bundle);
            let at = place.index(s.content.len());
            let mut changed = bundle;
            changed[s.content.start + at] ^= 1;
            let (VaultError::ChunkHash(found) | VaultError::ChunkSeal(found)) =
                refusal(&changed, &root, key.as_ref())
            else {
                return Err(TestCaseError::fail("not refused as a wrong chunk"));
            };
            prop_assert_eq!(found.index, (at / s.stride) as u64);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        sealing in 0u8..2,
    ) {
        // Random bytes behind a good magic, version, sealing and chunk size.
        let mut bundle = b"CHRYSBDL".to_vec();
        bundle.extend([0, 0, 0, 1, 0, 0, 0, sealing, 0, 0x10, 0, 0]);
        bundle.extend(bytes);
        let root = chrysalis_wire::Digest([0; 32]);
        prop_assert!(load(&bundle, &root, Some(&key(1))).is_err());
    }
}
