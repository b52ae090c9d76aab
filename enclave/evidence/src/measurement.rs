//! The registers that identify what runs: MRTD and RTMR0..3. Values come out of a verified quote;
//! the type itself proves nothing.

use chrysalis_wire::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal::{self, HexArray};

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
