//! Writes JSON into a buffer of its final size. Answers are secrets: a buffer that grew would
//! leave unwiped copies of them behind.

use std::io::{self, Write};

use chrysalis_wire::SecretBytes;
use serde::Serialize;

/// `value` as JSON that is wiped when dropped.
pub(crate) fn secret_json(value: &impl Serialize) -> SecretBytes {
    SecretBytes::new(json(value))
}

/// `value` as JSON in one allocation. The types written here have no maps and no fallible parts,
/// so `serde_json` has nothing to refuse; if it ever did, the result would be empty, which no
/// reader takes for JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut size = Count(0);
    if serde_json::to_writer(&mut size, value).is_err() {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(size.0);
    if serde_json::to_writer(&mut out, value).is_err() {
        return Vec::new();
    }
    out
}

struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_into_a_buffer_that_never_grows() {
        let text = "\u{1}\"\\ä😀".repeat(100);
        let json = json(&text);
        assert_eq!(json.len(), json.capacity());
        assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
    }
}
