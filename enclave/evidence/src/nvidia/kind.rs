//! The devices this build has rules for. A name comes from a verified certificate or from the
//! verifier's own pins.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeviceKind {
    /// Hopper GPU: H100, H200.
    #[serde(rename = "GH100")]
    Gh100,
    /// Blackwell GPU: B200.
    #[serde(rename = "GB100")]
    Gb100,
    /// NVSwitch of Hopper machines.
    #[serde(rename = "LS10")]
    Ls10,
}

impl DeviceKind {
    /// The chip a certificate names; its underscore is NVIDIA's.
    pub(super) fn of_chip(chip: &str) -> Option<Self> {
        match chip {
            "GH100" => Some(Self::Gh100),
            "GB100" => Some(Self::Gb100),
            "LS_10" => Some(Self::Ls10),
            _ => None,
        }
    }

    /// The chip as reference manifests name it.
    #[must_use]
    pub fn of_product(product: &str) -> Option<Self> {
        match product {
            "LS10" => Some(Self::Ls10),
            other => Self::of_chip(other).filter(|kind| *kind != Self::Ls10),
        }
    }

    /// Whether it is a switch and not a GPU.
    #[must_use]
    pub const fn is_switch(self) -> bool {
        matches!(self, Self::Ls10)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gh100 => "GH100",
            Self::Gb100 => "GB100",
            Self::Ls10 => "LS10",
        })
    }
}
