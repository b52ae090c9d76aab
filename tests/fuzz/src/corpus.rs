//! Seeds out of the conformance corpus, `tests/vectors`: genuine evidence under the FAKE keys of the
//! simulator, so that a target gets past every signature.

use serde_json::Value;

/// The input of a case that stands on its own.
pub struct Input(Value);

/// Reads `tests/vectors/<name>/input.json`.
pub fn input(name: &str) -> Input {
    let path = format!("{}/../vectors/{name}/input.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    Input(serde_json::from_slice(&text).expect("a case is JSON"))
}

impl Input {
    /// A value, by JSON Pointer.
    pub fn value(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))
    }

    /// A text.
    pub fn text(&self, pointer: &str) -> String {
        self.value(pointer).as_str().expect("a text").to_owned()
    }

    /// A number.
    pub fn number(&self, pointer: &str) -> u64 {
        self.value(pointer).as_u64().expect("a number")
    }

    /// Bytes, from hex.
    pub fn bytes(&self, pointer: &str) -> Vec<u8> {
        let text = self.text(pointer);
        let digits = text.as_bytes().chunks(2);
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.map(pair).collect::<Result<_, _>>().expect("hex")
    }
}
