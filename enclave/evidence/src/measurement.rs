//! What identifies what runs: MRTD and RTMR0..3 of a trust domain, the measurements of an enclave.
//! Values come out of a verified quote; the types themselves prove nothing.

use chrysalis_wire::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal::{self, HexArray};

/// What a verified quote says runs. Values of the two kinds are never compared with each other, and
/// their digests are domain-separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// A trust domain.
    Td(Measurement),
    /// An SGX enclave.
    Enclave(EnclaveIdentity),
}

impl Measured {
    /// The measurement digest that receipts name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Td(registers) => registers.digest(),
            Self::Enclave(identity) => identity.digest(),
        }
    }

    /// The registers of a trust domain.
    #[must_use]
    pub const fn td(&self) -> Option<&Measurement> {
        match self {
            Self::Td(registers) => Some(registers),
            Self::Enclave(_) => None,
        }
    }

    /// The identity of an enclave.
    #[must_use]
    pub const fn enclave(&self) -> Option<&EnclaveIdentity> {
        match self {
            Self::Td(_) => None,
            Self::Enclave(identity) => Some(identity),
        }
    }
}

/// Who an SGX enclave is: what it was built from, and whose product in which version that is.
/// Manifest and model are beside it in the verdict; a trust domain has them in RTMR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EnclaveIdentity {
    /// Digest of the enclave's initial contents.
    pub mrenclave: Digest,
    /// Digest of the key that signed it.
    pub mrsigner: Digest,
    /// Product, chosen by the signer.
    pub isv_prod_id: u16,
    /// Security version, chosen by the signer.
    pub isv_svn: u16,
}

impl EnclaveIdentity {
    /// `SHA-256("chrysalis/measurement/sgx/v1" || MRENCLAVE || MRSIGNER || ISVPRODID u16 || ISVSVN
    /// u16)`, big endian: the measurement digest that receipts name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"chrysalis/measurement/sgx/v1");
        hash.update(self.mrenclave.0);
        hash.update(self.mrsigner.0);
        hash.update(self.isv_prod_id.to_be_bytes());
        hash.update(self.isv_svn.to_be_bytes());
        Digest(hash.finalize().into())
    }
}

/// Build-time and runtime measurement registers of a TD, SHA-384 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Measurement of the initial TD contents.
    #[serde(with = "hexadecimal::array")]
    pub mrtd: [u8; 48],
    /// Runtime registers: firmware configuration, kernel, command line and initrd, worker.
    #[serde(with = "rtmr_array")]
    pub rtmr: [[u8; 48]; 4],
}

impl Measurement {
    /// `SHA-256("chrysalis/measurement/v1" || MRTD || RTMR0 || RTMR1 || RTMR2 || RTMR3)`: the
    /// measurement digest that receipts name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"chrysalis/measurement/v1");
        hash.update(self.mrtd);
        for register in &self.rtmr {
            hash.update(register);
        }
        Digest(hash.finalize().into())
    }
}

/// The three identity fields of a TD that its host chooses, 48 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdIdentity {
    /// MRCONFIGID.
    pub mr_config_id: [u8; 48],
    /// MROWNER.
    pub mr_owner: [u8; 48],
    /// MROWNERCONFIG.
    pub mr_owner_config: [u8; 48],
}

impl TdIdentity {
    /// What a host sets that sets nothing.
    pub const ZERO: Self =
        Self { mr_config_id: [0; 48], mr_owner: [0; 48], mr_owner_config: [0; 48] };
}

/// Cocoon's `image_hash`, the one value its contracts list for an image:
/// `SHA-256(MRTD || MRCONFIGID || MROWNER || MROWNERCONFIG || RTMR0..3 || 64 zero bytes)`, the zeros
/// in the place of `report_data`. Shown so that an operator can compare.
#[must_use]
pub fn cocoon_tdx_image_hash(registers: &Measurement, identity: &TdIdentity) -> Digest {
    let mut hash = Sha256::new();
    hash.update(registers.mrtd);
    hash.update(identity.mr_config_id);
    hash.update(identity.mr_owner);
    hash.update(identity.mr_owner_config);
    for register in &registers.rtmr {
        hash.update(register);
    }
    hash.update([0u8; 64]);
    Digest(hash.finalize().into())
}

mod rtmr_array {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::HexArray;

    pub(super) fn serialize<S: Serializer>(rtmr: &[[u8; 48]; 4], s: S) -> Result<S::Ok, S::Error> {
        rtmr.map(HexArray).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[[u8; 48]; 4], D::Error> {
        <[HexArray<48>; 4]>::deserialize(d).map(|r| r.map(|h| h.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Measurement =
        Measurement { mrtd: [1; 48], rtmr: [[2; 48], [3; 48], [4; 48], [5; 48]] };

    #[test]
    fn serialises_as_hex_and_reads_back() {
        let json = serde_json::to_string(&M).unwrap();
        assert!(json.starts_with(&format!("{{\"mrtd\":\"{}\",\"rtmr\":[\"", "01".repeat(48))));
        assert_eq!(serde_json::from_str::<Measurement>(&json).unwrap(), M);
    }

    const E: EnclaveIdentity = EnclaveIdentity {
        mrenclave: Digest([1; 32]),
        mrsigner: Digest([2; 32]),
        isv_prod_id: 0x0304,
        isv_svn: 0x0506,
    };

    #[test]
    fn the_digest_of_an_enclave_is_the_documented_hash() {
        // Computed apart from this code, with Python's hashlib, from the formula above.
        let known = "d26b4ef081f83e1a78b3e435ada1301068b11b02ee1db5b2f52f9e515b17e218";
        assert_eq!(E.digest().to_string(), known);
        assert_eq!(Measured::Enclave(E).digest(), E.digest());
        assert_eq!(Measured::Td(M).digest(), M.digest());
    }

    #[test]
    fn an_enclave_and_a_trust_domain_are_told_apart_in_json() {
        let json = |measured| serde_json::to_value::<Measured>(measured).unwrap();
        assert_eq!(json(Measured::Td(M)), serde_json::to_value(M).unwrap());
        assert_eq!(json(Measured::Enclave(E))["isv_svn"], 0x0506);
        assert!(Measured::Td(M).enclave().is_none() && Measured::Enclave(E).td().is_none());
    }

    #[test]
    fn every_field_of_an_enclave_changes_its_digest() {
        let mut all = [E, E, E, E];
        all[0].mrenclave.0[31] ^= 1;
        all[1].mrsigner.0[0] ^= 1;
        all[2].isv_prod_id ^= 1;
        all[3].isv_svn ^= 1;
        assert!(all.iter().all(|other| other.digest() != E.digest()));
    }

    #[test]
    fn digest_changes_with_every_register_and_with_their_order() {
        let mut seen = vec![M.digest()];
        for i in 0..4 {
            let mut m = M;
            m.rtmr[i][47] ^= 1;
            seen.push(m.digest());
        }
        let mut m = M;
        m.mrtd[0] ^= 1;
        seen.push(m.digest());
        let mut m = M;
        m.rtmr.swap(0, 1);
        seen.push(m.digest());
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
