//! What differs between firmware releases in *what they measure*, as an explicit value. The
//! firmware file does not say which it is; its lock entry does.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::TdxError;

/// An edk2 release as far as its measurements differ from others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FirmwareProfile {
    /// Before edk2-stable202505, OvmfPkgX64 without secure boot (Debian and Ubuntu `OVMF.fd`
    /// 2025.02). Its event order is that of two event logs from real TDs.
    #[serde(rename = "pre202505")]
    Pre202505,
    /// edk2-stable202505: fw_cfg items and SMBIOS are measured too.
    #[serde(rename = "202505")]
    Stable202505,
    /// edk2-stable202508: the command line gets its `initrd=initrd` in front.
    #[serde(rename = "202508")]
    Stable202508,
    /// edk2-stable202605 and later (Debian `ovmf-inteltdx` 2026.08): UiApp is not loaded in a TD.
    #[serde(rename = "202605")]
    Stable202605,
}

impl FirmwareProfile {
    /// Every profile, oldest first.
    pub const ALL: [Self; 4] =
        [Self::Pre202505, Self::Stable202505, Self::Stable202508, Self::Stable202605];

    /// The name in files and arguments.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pre202505 => "pre202505",
            Self::Stable202505 => "202505",
            Self::Stable202508 => "202508",
            Self::Stable202605 => "202605",
        }
    }

    /// Whether fw_cfg items and the SMBIOS table are measured into RTMR0.
    #[must_use]
    pub const fn measures_fw_cfg(self) -> bool {
        !matches!(self, Self::Pre202505)
    }

    /// Whether the build has secure boot compiled in, so that the variable `SecureBoot` exists.
    #[must_use]
    pub const fn has_secure_boot(self) -> bool {
        !matches!(self, Self::Pre202505)
    }

    /// The load options string: the command line with the name of the initrd device path that the
    /// firmware adds (`X86QemuLoadImageLib`).
    #[must_use]
    pub fn load_options(self, cmdline: &str) -> String {
        match self {
            Self::Pre202505 | Self::Stable202505 => format!("{cmdline} initrd=initrd"),
            Self::Stable202508 | Self::Stable202605 => format!("initrd=initrd {cmdline}"),
        }
    }
}

impl fmt::Display for FirmwareProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FirmwareProfile {
    type Err = TdxError;

    fn from_str(text: &str) -> Result<Self, TdxError> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| TdxError::Profile { got: text.chars().take(32).collect() })
    }
}
