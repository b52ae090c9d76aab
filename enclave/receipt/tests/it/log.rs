//! The log against a tree written down from the definitions of RFC 9162 sections 2.1.1 to 2.1.4:
//! every size up to 64, every position, every pair of sizes, and every single bit of every proof.

use chrysalis_receipt::{
    ConsistencyProof, Frontier, InclusionProof, LogError, LogHead, MAX_PATH_HASHES, ReceiptError,
    head_of, prove_consistency, prove_inclusion,
};
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

/// Hashes of so many receipts.
fn receipts(count: usize) -> Vec<Digest> {
    (0..count).map(|n| Digest(Sha256::digest(n.to_be_bytes()).into())).collect()
}

/// Largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// `MTH` of section 2.1.1.
fn mth(d: &[Digest]) -> Digest {
    let hash = match d {
        [] => Sha256::digest([]),
        [one] => Sha256::digest([&[0], &one.0[..]].concat()),
        _ => {
            let (left, right) = d.split_at(split(d.len()));
            Sha256::digest([&[1], &mth(left).0[..], &mth(right).0[..]].concat())
        }
    };
    Digest(hash.into())
}

/// `PATH` of section 2.1.3.1.
fn path(m: usize, d: &[Digest]) -> Vec<Digest> {
    if d.len() == 1 {
        return Vec::new();
    }
    let (left, right) = d.split_at(split(d.len()));
    let (mut hashes, beside) = if m < left.len() {
        (path(m, left), mth(right))
    } else {
        (path(m - left.len(), right), mth(left))
    };
    hashes.push(beside);
    hashes
}

/// `SUBPROOF` of section 2.1.4.1.
fn subproof(m: usize, d: &[Digest], complete: bool) -> Vec<Digest> {
    if m == d.len() {
        return if complete { Vec::new() } else { vec![mth(d)] };
    }
    let (left, right) = d.split_at(split(d.len()));
    let (mut hashes, beside) = if m <= left.len() {
        (subproof(m, left, complete), mth(right))
    } else {
        (subproof(m - left.len(), right, false), mth(left))
    };
    hashes.push(beside);
    hashes
}

fn head(d: &[Digest]) -> LogHead {
    LogHead { size: d.len() as u64, root: mth(d) }
}

const SIZES: usize = 64;

#[test]
fn a_frontier_has_the_root_of_the_whole_tree_at_every_size() {
    let all = receipts(SIZES);
    let mut frontier = Frontier::new();
    assert_eq!(frontier.head(), head(&[]));
    for n in 0..SIZES {
        assert_eq!(frontier.append(&all[n]), Ok(n as u64));
        assert_eq!(frontier.head(), head(&all[..=n]));
        assert_eq!(head_of(&all[..=n]), head(&all[..=n]));
        assert_eq!(frontier.subtrees().len(), (n + 1).count_ones() as usize);
    }
    assert_eq!(head_of(&[]), head(&[]));
}

#[test]
fn every_receipt_of_every_log_up_to_64_is_proved_by_the_path_of_the_rfc() {
    let all = receipts(SIZES);
    for size in 1..=SIZES {
        let log = &all[..size];
        let head = head(log);
        for index in 0..size {
            let proof = prove_inclusion(log, index as u64).unwrap();
            let written = InclusionProof::new(index as u64, size as u64, path(index, log)).unwrap();
            assert_eq!(proof, written);
            for (other, receipt) in log.iter().enumerate() {
                assert_eq!(proof.verify(receipt, &head).is_ok(), other == index);
            }
            // The same hashes at another place prove nothing.
            for other in (0..size).filter(|other| *other != index) {
                let moved = InclusionProof::new(other as u64, size as u64, path(index, log));
                assert!(moved.unwrap().verify(&log[index], &head).is_err(), "{index} at {other}");
            }
        }
        let (index, size) = (size as u64, size as u64);
        assert_eq!(prove_inclusion(log, index), Err(LogError::Index { index, size }));
        assert_eq!(
            InclusionProof::new(index, size, Vec::new()),
            Err(LogError::Index { index, size })
        );
    }
}

#[test]
fn every_growth_up_to_64_is_proved_by_the_hashes_of_the_rfc() {
    let all = receipts(SIZES);
    for second in 0..=SIZES {
        for first in 0..=second {
            let (earlier, later) = (&all[..first], &all[..second]);
            let proof = prove_consistency(later, first as u64).unwrap();
            let hashes = if first == 0 { Vec::new() } else { subproof(first, later, true) };
            let written = ConsistencyProof::new(first as u64, second as u64, hashes).unwrap();
            assert_eq!(proof, written);
            assert_eq!(proof.verify(&head(earlier), &head(later)), Ok(()), "{first} of {second}");
        }
    }
    assert_eq!(
        prove_consistency(&all, SIZES as u64 + 1),
        Err(LogError::Shrunk { first: 65, second: 64 })
    );
    let shrunk = ConsistencyProof::new(2, 1, Vec::new());
    assert_eq!(shrunk, Err(LogError::Shrunk { first: 2, second: 1 }));
}

/// A meter that takes back or exchanges a receipt it has counted cannot prove the growth.
#[test]
fn refuses_a_later_log_with_another_past() {
    let all = receipts(SIZES);
    for second in 2..=16 {
        for first in 1..second {
            for changed in 0..first {
                let mut other = all[..second].to_vec();
                other[changed] = Digest([7; 32]);
                let proof = prove_consistency(&other, first as u64).unwrap();
                let refused = proof.verify(&head(&all[..first]), &head(&other));
                assert!(refused.is_err(), "{changed} of {first} of {second}");
            }
        }
    }
}

#[test]
fn refuses_an_empty_log_with_a_root_of_its_own_and_an_unequal_log_of_equal_size() {
    let all = receipts(3);
    let odd = LogHead { size: 0, root: Digest([7; 32]) };
    let proof = prove_consistency(&all, 0).unwrap();
    assert!(matches!(proof.verify(&odd, &head(&all)), Err(LogError::Root { .. })));
    let proof = prove_consistency(&all, 3).unwrap();
    let odd = LogHead { size: 3, root: Digest([7; 32]) };
    assert!(matches!(proof.verify(&odd, &head(&all)), Err(LogError::Root { .. })));
    // Nor is there anything to be shown where nothing has to be.
    for first in [0, 3] {
        let padded = ConsistencyProof::new(first, 3, vec![all[0]]).unwrap();
        let earlier = head(&all[..first as usize]);
        assert_eq!(padded.verify(&earlier, &head(&all)), Err(LogError::PathLength { got: 1 }));
    }
}

#[test]
fn refuses_a_proof_for_a_head_of_another_size() {
    let all = receipts(8);
    let inclusion = prove_inclusion(&all[..7], 3).unwrap();
    let size = Err(LogError::Size { expected: 8, got: 7 });
    assert_eq!(inclusion.verify(&all[3], &head(&all)), size);
    let consistency = prove_consistency(&all[..7], 3).unwrap();
    assert_eq!(consistency.verify(&head(&all[..3]), &head(&all)), size);
    let size = Err(LogError::Size { expected: 4, got: 3 });
    assert_eq!(consistency.verify(&head(&all[..4]), &head(&all[..7])), size);
}

#[test]
fn refuses_every_proof_with_one_hash_too_many_or_too_few() {
    let all = receipts(SIZES);
    for size in 1..=SIZES {
        let log = &all[..size];
        for index in 0..size {
            let hashes = path(index, log);
            for changed in resized(&hashes) {
                let proof = InclusionProof::new(index as u64, size as u64, changed).unwrap();
                let refused = proof.verify(&log[index], &head(log));
                assert!(matches!(refused, Err(LogError::PathLength { .. })), "{refused:?}");
            }
        }
        for first in 1..size {
            let hashes = subproof(first, log, true);
            for changed in resized(&hashes) {
                let proof = ConsistencyProof::new(first as u64, size as u64, changed).unwrap();
                let refused = proof.verify(&head(&all[..first]), &head(log));
                assert!(matches!(refused, Err(LogError::PathLength { .. })), "{refused:?}");
            }
        }
    }
}

fn resized(hashes: &[Digest]) -> Vec<Vec<Digest>> {
    let longer = [hashes, &[Digest([7; 32])]].concat();
    let shorter = hashes.split_last().map(|(_, rest)| rest.to_vec());
    shorter.into_iter().chain([longer]).collect()
}

#[test]
fn refuses_every_proof_with_a_single_bit_changed() {
    let all = receipts(21);
    let (earlier, later) = (head(&all[..13]), head(&all));
    let flips = |hashes: &[Digest]| {
        let bits = (0..hashes.len()).flat_map(|n| (0..256).map(move |bit| (n, bit)));
        let hashes = hashes.to_vec();
        bits.map(move |(n, bit)| {
            let mut flipped = hashes.clone();
            flipped[n].0[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    };
    let mut refused = 0;
    for index in 0..all.len() {
        for flipped in flips(&path(index, &all)) {
            let proof = InclusionProof::new(index as u64, 21, flipped).unwrap();
            assert!(matches!(proof.verify(&all[index], &later), Err(LogError::Root { .. })));
            refused += 1;
        }
    }
    for flipped in flips(&subproof(13, &all, true)) {
        let proof = ConsistencyProof::new(13, 21, flipped).unwrap();
        assert!(matches!(proof.verify(&earlier, &later), Err(LogError::Root { .. })));
        refused += 1;
    }
    assert!(refused > 20_000, "only {refused} changes were tried");
    // Nor is a proof good for a head or a receipt with a bit changed.
    let (inclusion, consistency) =
        (prove_inclusion(&all, 4).unwrap(), prove_consistency(&all, 13).unwrap());
    for bit in 0..256 {
        let flip = |mut digest: Digest| {
            digest.0[bit / 8] ^= 1 << (bit % 8);
            digest
        };
        let bad = |head: LogHead| LogHead { root: flip(head.root), ..head };
        assert!(inclusion.verify(&flip(all[4]), &later).is_err());
        assert!(inclusion.verify(&all[4], &bad(later)).is_err());
        assert!(consistency.verify(&bad(earlier), &later).is_err());
        assert!(consistency.verify(&earlier, &bad(later)).is_err());
    }
}

#[test]
fn a_frontier_goes_on_from_subtrees_that_somebody_kept_and_from_no_others() {
    let all = receipts(SIZES);
    for size in 0..SIZES {
        let mut frontier = Frontier::new();
        for receipt in &all[..size] {
            frontier.append(receipt).unwrap();
        }
        let mut resumed = Frontier::resume(&head(&all[..size]), frontier.subtrees()).unwrap();
        assert_eq!(resumed, frontier);
        resumed.append(&all[size]).unwrap();
        assert_eq!(resumed.head(), head(&all[..=size]));
    }
    let head = head(&all[..5]);
    let mut kept = [mth(&all[..4]), mth(&all[4..5])];
    let refused = Frontier::resume(&head, &kept[..1]);
    assert_eq!(refused, Err(LogError::Subtrees { size: 5, expected: 2, got: 1 }));
    kept[1].0[0] ^= 1;
    assert!(matches!(Frontier::resume(&head, &kept), Err(LogError::Root { .. })));
}

#[test]
fn refuses_one_receipt_more_than_a_state_can_count() {
    // Any 64 hashes are the subtrees of a log with some root.
    let subtrees = receipts(64);
    let root = subtrees.iter().rev().copied().reduce(|right, left| {
        Digest(Sha256::digest([&[1], &left.0[..], &right.0[..]].concat()).into())
    });
    let head = LogHead { size: u64::MAX, root: root.unwrap() };
    let mut full = Frontier::resume(&head, &subtrees).unwrap();
    assert_eq!(full.append(&Digest([1; 32])), Err(LogError::Full));
    assert_eq!(full.head(), head, "nothing was changed");
}

#[test]
fn refuses_one_hash_more_than_any_proof_has() {
    let hashes = vec![Digest([1; 32]); MAX_PATH_HASHES + 1];
    let most = || hashes[1..].to_vec();
    let long = LogError::PathTooLong { got: MAX_PATH_HASHES + 1 };
    assert!(InclusionProof::new(0, 1, most()).is_ok());
    assert_eq!(InclusionProof::new(0, 1, hashes.clone()), Err(long.clone()));
    assert!(ConsistencyProof::new(0, 1, most()).is_ok());
    assert_eq!(ConsistencyProof::new(0, 1, hashes.clone()), Err(long.clone()));
    // Sizes at the upper end are walked, not counted down.
    let proof = InclusionProof::new(u64::MAX - 1, u64::MAX, most()).unwrap();
    let head = LogHead { size: u64::MAX, root: Digest([1; 32]) };
    assert!(matches!(proof.verify(&Digest([1; 32]), &head), Err(LogError::PathLength { .. })));
    let proof = InclusionProof::new(0, u64::MAX, hashes[2..].to_vec()).unwrap();
    assert!(matches!(proof.verify(&Digest([1; 32]), &head), Err(LogError::Root { .. })));
}

#[test]
fn proofs_are_read_back_as_they_were_written() {
    let all = receipts(21);
    let inclusion = prove_inclusion(&all, 4).unwrap();
    let json = inclusion.to_json().unwrap();
    assert_eq!(InclusionProof::from_json(json.as_bytes()), Ok(inclusion));
    assert!(json.contains("\"schema\": \"chrysalis/log-inclusion/v1\""));
    let consistency = prove_consistency(&all, 13).unwrap();
    let json = consistency.to_json().unwrap();
    assert_eq!(ConsistencyProof::from_json(json.as_bytes()), Ok(consistency));
    let other = InclusionProof::from_json(json.as_bytes());
    assert_eq!(other, Err(ReceiptError::Schema { expected: "chrysalis/log-inclusion/v1" }));
}

#[test]
fn refuses_a_written_proof_of_another_form() {
    let json = prove_inclusion(&receipts(5), 2).unwrap().to_json().unwrap();
    let read = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        InclusionProof::from_json(json.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        ("\"index\": \"2\"", "\"index\": 2"),
        ("\"index\": \"2\"", "\"index\": \"02\""),
        ("\"index\": \"2\"", "\"index\": \"2\", \"more\": \"1\""),
        ("\"path\": [", "\"path\": [[],"),
        ("\"path\": [", "\"path\": [\"ab\","),
    ] {
        assert!(matches!(read(from, to), Err(ReceiptError::Malformed(_))), "{to}");
    }
    assert_eq!(
        read("\"index\": \"2\"", "\"index\": \"5\""),
        Err(ReceiptError::Log(LogError::Index { index: 5, size: 5 }))
    );
}
