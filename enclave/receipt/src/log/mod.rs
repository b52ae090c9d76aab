//! The log of a meter's receipts: a Merkle tree over their hashes, as RFC 9162 section 2.1 defines
//! it, so that a signed [`MeterState`](crate::MeterState) commits to every receipt behind its sum.
//!
//! The meter keeps a [`Frontier`], a few hashes whatever the size. Whoever kept the receipts makes
//! proofs ([`prove_inclusion`], [`prove_consistency`]), and anybody verifies them. Proofs come from
//! strangers: only a [`LogHead`] that a verified key signed is believed.

mod error;
mod frontier;
mod proof;
mod tree;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

pub use self::error::LogError;
pub use self::frontier::Frontier;
pub use self::proof::{
    CONSISTENCY_SCHEMA, ConsistencyProof, INCLUSION_SCHEMA, InclusionProof, MAX_PATH_HASHES,
};
pub use self::tree::{head_of, prove_consistency, prove_inclusion};

/// A log of a certain size. Two logs of one meter and one size with different roots are proof that
/// it tells different people different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Number of receipts.
    pub size: u64,
    /// Merkle Tree Hash over their hashes (RFC 9162 section 2.1.1).
    pub root: Digest,
}

/// `MTH({}) = HASH()`
fn empty_root() -> Digest {
    Digest(Sha256::digest([]).into())
}

/// `HASH(0x00 || data)`; the data of a leaf is the representation hash of a receipt's root cell.
fn leaf_hash(data: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
}

/// `HASH(0x01 || left || right)`
fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0);
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight leaves that implementations of Certificate Transparency test with, and the roots of
    /// the trees of the first one, two, and so on.
    #[test]
    fn hashes_are_those_of_certificate_transparency() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let nodes: Vec<Digest> =
            leaves.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect();
        for (n, root) in roots.iter().enumerate() {
            // The tree by the definition of RFC 9162 section 2.1.1.
            fn mth(nodes: &[Digest]) -> Digest {
                match nodes {
                    [] => empty_root(),
                    [one] => *one,
                    _ => {
                        let (left, right) = nodes.split_at(nodes.len().next_power_of_two() / 2);
                        node_hash(&mth(left), &mth(right))
                    }
                }
            }
            assert_eq!(mth(&nodes[..=n]).to_string(), *root, "{} leaves", n + 1);
        }
        assert_eq!(
            empty_root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
