//! The files of a release, written from the source and judged against it.

use chrysalis_wire::Digest;

use crate::error::ReleaseError;
use crate::facts::Scope;
use crate::values::Values;
use crate::{cell, corim, intoto};

/// The four files of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// What they say.
    pub values: Values,
    /// `values.toml`.
    pub toml: Vec<u8>,
    /// `corim.cbor`.
    pub corim: Vec<u8>,
    /// `intoto.json`.
    pub intoto: Vec<u8>,
    /// `values.boc`.
    pub boc: Vec<u8>,
}

impl Release {
    /// Writes every dialect of `values`.
    ///
    /// # Errors
    /// [`ReleaseError`] for values that no file may hold.
    pub fn build(values: Values) -> Result<Self, ReleaseError> {
        Ok(Self {
            toml: values.to_toml()?.into_bytes(),
            corim: corim::write(&values)?,
            intoto: intoto::write(&values)?,
            boc: cell::write(&values)?,
            values,
        })
    }

    /// Reads the four files of a release from untrusted bytes: each by its own reader, then all
    /// against the source, then each against the one spelling this build writes.
    ///
    /// # Errors
    /// [`ReleaseError::Disagrees`] with the first fact on which a dialect differs;
    /// [`ReleaseError::NotCanonical`] if it says the same in other bytes, which would give one
    /// release two digests.
    pub fn verify(
        toml: &[u8],
        corim: &[u8],
        intoto: &[u8],
        boc: &[u8],
    ) -> Result<Self, ReleaseError> {
        let values = Values::parse(toml)?;
        let whole = values.facts(Scope::Whole)?;
        whole.agree(&corim::read(corim)?, CORIM_FILE)?;
        whole.agree(&intoto::read(intoto)?, INTOTO_FILE)?;
        values.facts(Scope::Registers)?.agree(&cell::read(boc)?, BOC_FILE)?;
        let built = Self::build(values)?;
        for (file, got, expected) in [
            (VALUES_FILE, toml, &built.toml),
            (CORIM_FILE, corim, &built.corim),
            (INTOTO_FILE, intoto, &built.intoto),
            (BOC_FILE, boc, &built.boc),
        ] {
            if got != expected.as_slice() {
                return Err(ReleaseError::NotCanonical { file });
            }
        }
        Ok(built)
    }

    /// Hash of the TON cell: what a registry contract compares.
    ///
    /// # Errors
    /// [`ReleaseError::Cell`].
    pub fn cell_hash(&self) -> Result<Digest, ReleaseError> {
        Ok(cell::cell(&self.values)?.hash())
    }

    /// File names and bytes.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &[u8]); 4] {
        [
            (VALUES_FILE, &self.toml),
            (CORIM_FILE, &self.corim),
            (INTOTO_FILE, &self.intoto),
            (BOC_FILE, &self.boc),
        ]
    }
}

/// The source.
pub const VALUES_FILE: &str = "values.toml";
/// The CoRIM.
pub const CORIM_FILE: &str = "corim.cbor";
/// The in-toto statement.
pub const INTOTO_FILE: &str = "intoto.json";
/// The TON cell.
pub const BOC_FILE: &str = "values.boc";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    fn verify(release: &Release) -> Result<Release, ReleaseError> {
        Release::verify(&release.toml, &release.corim, &release.intoto, &release.boc)
    }

    #[test]
    fn all_four_dialects_agree() {
        let release = Release::build(values()).unwrap();
        assert_eq!(verify(&release).unwrap(), release);
    }

    #[test]
    fn refuses_each_dialect_of_another_release() {
        let release = Release::build(values()).unwrap();
        let mut other = values();
        other.shapes[0].rtmr0.0[0] ^= 1;
        let other = Release::build(other).unwrap();
        let mut cases = [release.clone(), release.clone(), release];
        cases[0].corim = other.corim;
        cases[1].intoto = other.intoto;
        cases[2].boc = other.boc;
        for (case, name) in cases.iter().zip([CORIM_FILE, INTOTO_FILE, BOC_FILE]) {
            let refused = verify(case);
            assert!(
                matches!(&refused, Err(ReleaseError::Disagrees { file, .. }) if *file == name),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn refuses_a_single_changed_bit_in_any_of_the_four_files() {
        let release = Release::build(values()).unwrap();
        // A stride that is coprime to 8 reaches every bit position without 100,000 parses.
        for bit in (0..release.toml.len() * 8).step_by(97) {
            let mut case = release.clone();
            case.toml[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&case).is_err(), "values.toml bit {bit}");
        }
        for bit in (0..release.corim.len() * 8).step_by(97) {
            let mut case = release.clone();
            case.corim[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&case).is_err(), "corim.cbor bit {bit}");
        }
        for bit in (0..release.intoto.len() * 8).step_by(97) {
            let mut case = release.clone();
            case.intoto[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&case).is_err(), "intoto.json bit {bit}");
        }
        for bit in (0..release.boc.len() * 8).step_by(97) {
            let mut case = release.clone();
            case.boc[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&case).is_err(), "values.boc bit {bit}");
        }
    }

    #[test]
    fn refuses_the_same_facts_in_another_spelling() {
        let release = Release::build(values()).unwrap();
        let mut case = release.clone();
        case.intoto.push(b'\n');
        assert_eq!(verify(&case), Err(ReleaseError::NotCanonical { file: INTOTO_FILE }));
        let mut case = release;
        case.toml.extend(b"# a comment\n");
        assert_eq!(verify(&case), Err(ReleaseError::NotCanonical { file: VALUES_FILE }));
    }
}
