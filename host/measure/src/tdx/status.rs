//! How far a predicted value can be believed. A value is never better than what it is made of.

use core::fmt;

use serde::{Deserialize, Serialize};

/// How a predicted value is known to be right, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The same computation reproduces a value taken from real hardware.
    ConfirmedByHardware,
    /// The same computation equals a published constant and an independent implementation, or
    /// what the firmware did under emulation.
    CrossChecked,
    /// Read from source code; no machine has confirmed it yet.
    Inferred,
}

impl Status {
    /// The status of a value made of both.
    #[must_use]
    pub fn weakest(self, other: Self) -> Self {
        self.max(other)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfirmedByHardware => "confirmed by hardware",
            Self::CrossChecked => "cross-checked",
            Self::Inferred => "inferred",
        })
    }
}
