//! Random numbers that follow from an input, so that a target does the same with it in every run.

/// A stream of bytes of BLAKE3.
pub struct Draws(blake3::OutputReader);

impl Draws {
    /// The stream of `input`.
    pub fn of(input: &[u8]) -> Self {
        Self(blake3::Hasher::new().update(input).finalize_xof())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, which is at least one.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    /// One of `all`, which are some.
    pub fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
