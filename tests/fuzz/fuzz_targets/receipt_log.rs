//! Proofs about a log of receipts as JSON from strangers: what is read is written back as the same
//! value, and of all proofs only the one that the log itself gives verifies.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

use chrysalis_receipt::{
    ConsistencyProof, Frontier, InclusionProof, LogHead, ReceiptError, prove_consistency,
    prove_inclusion,
};
use chrysalis_wire::Digest;

chrysalis_fuzz::target!(seeds, one);

/// Hashes of the receipts of a log, and its head at every size.
static LOG: LazyLock<(Vec<Digest>, Vec<LogHead>)> = LazyLock::new(|| {
    let receipts: Vec<Digest> = (1..=21u8).map(|n| Digest([n; 32])).collect();
    let mut frontier = Frontier::new();
    let mut heads = vec![frontier.head()];
    for receipt in &receipts {
        frontier.append(receipt).expect("a short log");
        heads.push(frontier.head());
    }
    (receipts, heads)
});

fn seeds() -> Vec<Vec<u8>> {
    let (receipts, _) = &*LOG;
    let inclusion = (0..21).map(|n| prove_inclusion(receipts, n).expect("it is there").to_json());
    let consistency =
        (0..=21).map(|n| prove_consistency(receipts, n).expect("it was smaller").to_json());
    inclusion.chain(consistency).map(|json| json.expect("a proof is JSON").into_bytes()).collect()
}

fn one(data: &[u8]) -> String {
    let (receipts, heads) = &*LOG;
    let code = |error: ReceiptError| error.code().to_owned();
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let head = |size: u64| heads.get(at(size)).copied();
    let inclusion = InclusionProof::from_json(data).map_or_else(code, |proof| {
        let json = proof.to_json().expect("it was read from JSON");
        assert_eq!(InclusionProof::from_json(json.as_bytes()), Ok(proof.clone()));
        let Some(head) = head(proof.size()) else { return "no such head".to_owned() };
        let Some(receipt) = receipts.get(at(proof.index())) else { return "no receipt".to_owned() };
        proof.verify(receipt, &head).map_or_else(
            |error| error.code().to_owned(),
            |()| {
                let log = &receipts[..at(head.size)];
                assert_eq!(prove_inclusion(log, proof.index()), Ok(proof), "a second proof");
                "in the log".to_owned()
            },
        )
    });
    let consistency = ConsistencyProof::from_json(data).map_or_else(code, |proof| {
        let json = proof.to_json().expect("it was read from JSON");
        assert_eq!(ConsistencyProof::from_json(json.as_bytes()), Ok(proof.clone()));
        let Some((first, second)) = head(proof.first()).zip(head(proof.second())) else {
            return "no such heads".to_owned();
        };
        proof.verify(&first, &second).map_or_else(
            |error| error.code().to_owned(),
            |()| {
                let log = &receipts[..at(second.size)];
                assert_eq!(prove_consistency(log, first.size), Ok(proof), "a second proof");
                "grown".to_owned()
            },
        )
    });
    format!("{inclusion} {consistency}")
}
