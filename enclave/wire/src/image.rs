//! The configuration inside a VM image (`/chrysalis/image.toml`): what PID 1 loads, sets and
//! configures before it starts the worker.
//!
//! It lies in the initrd, so RTMR2 measures it; still PID 1 parses it as a closed schema, because
//! an image may have been written by anybody. The image writer writes it from this same type.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Digest;

/// What PID 1 of a VM image is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// [`IMAGE_CONFIG_VERSION`].
    pub version: u32,
    /// The platform the worker inside was built for.
    pub platform: ImagePlatform,
    /// A debug image: another measurement, and it says so everywhere.
    pub debug: bool,
    /// TCP port the worker listens on, inside the guest.
    pub listen_port: u16,
    /// The one network interface.
    pub network: NetworkSection,
    /// The read-only root with the rest of user space, if the image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootSection>,
    /// Kernel modules, in the order they are loaded.
    #[serde(default, rename = "module")]
    pub modules: Vec<ModuleEntry>,
    /// Kernel settings, in the order they are written, after the modules.
    #[serde(default, rename = "sysctl")]
    pub sysctls: Vec<SysctlEntry>,
}

/// What a VM image runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePlatform {
    /// An Intel TDX trust domain.
    Tdx,
    /// INSECURE-SIM: any virtual machine, with simulated evidence that proves nothing.
    InsecureSim,
}

impl core::fmt::Display for ImagePlatform {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Tdx => "tdx",
            Self::InsecureSim => "insecure-sim",
        })
    }
}

/// A static address, no route and no name service: the worker opens no connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSection {
    /// Kernel name of the interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of its network, 1 to 32.
    pub prefix: u8,
}

/// A read-only file system on a disk of the host. PID 1 uses it only if all of it has this hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootSection {
    /// Its dm-verity root hash: SHA-256, blocks of [`ROOT_BLOCK_BYTES`], no salt.
    pub hash: Digest,
    /// Its size in bytes, whole blocks.
    pub bytes: u64,
}

/// A kernel module in `/lib/modules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleEntry {
    /// File name, as `virtio_net.ko.xz`; never a path.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

/// A kernel setting under `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlEntry {
    /// Dotted name, as `kernel.kptr_restrict`.
    pub name: String,
    /// The value written, without a newline.
    pub value: String,
}

/// Why an image configuration was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImageConfigError {
    /// Larger than [`MAX_IMAGE_CONFIG_BYTES`].
    #[error("image configuration is {got} bytes; the limit is {MAX_IMAGE_CONFIG_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not UTF-8, not TOML, a missing or an unknown field.
    #[error("image configuration is malformed: {0}")]
    Malformed(String),
    /// A version this build does not read.
    #[error(
        "image configuration version {got} is not supported; this build reads {IMAGE_CONFIG_VERSION}"
    )]
    UnsupportedVersion {
        /// Version found.
        got: u32,
    },
    /// A value that is not what the field may hold.
    #[error("image configuration field {field} is {got:?}; expected {expected}")]
    Value {
        /// Field name.
        field: &'static str,
        /// Value found, shortened.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Too many entries of a list.
    #[error("image configuration has {got} {field} entries; the limit is {max}")]
    TooMany {
        /// Field name.
        field: &'static str,
        /// Count found.
        got: usize,
        /// Largest allowed count.
        max: usize,
    },
    /// A module or a setting named twice.
    #[error("image configuration names {field} {got:?} twice")]
    Duplicate {
        /// Field name.
        field: &'static str,
        /// The name.
        got: String,
    },
}

impl ImageConfig {
    /// Reads and checks a configuration from untrusted bytes.
    ///
    /// # Errors
    /// [`ImageConfigError`], saying which field and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageConfigError> {
        if bytes.len() > MAX_IMAGE_CONFIG_BYTES {
            return Err(ImageConfigError::TooLarge { got: bytes.len() });
        }
        let text = core::str::from_utf8(bytes)
            .map_err(|e| ImageConfigError::Malformed(format!("not UTF-8: {e}")))?;
        let config: Self = toml::from_str(text)
            .map_err(|e| ImageConfigError::Malformed(e.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ImageConfigError> {
        if self.version != IMAGE_CONFIG_VERSION {
            return Err(ImageConfigError::UnsupportedVersion { got: self.version });
        }
        let field = "listen_port";
        value(field, &self.listen_port.to_string(), "1024 to 65535", |_| self.listen_port >= 1024)?;
        let network = &self.network;
        let expected = "1 to 15 lower-case letters and digits";
        value("network.interface", &network.interface, expected, |name| {
            (1..=MAX_INTERFACE_BYTES).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })?;
        let prefix = network.prefix.to_string();
        value("network.prefix", &prefix, "1 to 32", |_| (1..=32).contains(&network.prefix))?;
        let address = network.address;
        value("network.address", &address.to_string(), "a private address", |_| {
            address.is_private()
        })?;
        few("module", self.modules.len(), MAX_MODULES)?;
        for module in &self.modules {
            value("module.file", &module.file, "NAME.ko or NAME.ko.xz", is_module_file)?;
        }
        once("module.file", self.modules.iter().map(|m| m.file.as_str()))?;
        if let Some(root) = &self.root {
            self.check_root(root)?;
        }
        few("sysctl", self.sysctls.len(), MAX_SYSCTLS)?;
        for sysctl in &self.sysctls {
            value("sysctl.name", &sysctl.name, "dotted lower-case words", is_sysctl_name)?;
            value("sysctl.value", &sysctl.value, "1 to 64 printable ASCII characters", |v| {
                (1..=MAX_SYSCTL_VALUE_BYTES).contains(&v.len())
                    && v.bytes().all(|b| (0x20..0x7f).contains(&b))
            })?;
        }
        once("sysctl.name", self.sysctls.iter().map(|s| s.name.as_str()))
    }

    fn check_root(&self, root: &RootSection) -> Result<(), ImageConfigError> {
        let expected = "whole blocks of 4096 bytes, at most 1 GiB";
        value("root.bytes", &root.bytes.to_string(), expected, |_| {
            (ROOT_BLOCK_BYTES..=MAX_ROOT_BYTES).contains(&root.bytes)
                && root.bytes.is_multiple_of(ROOT_BLOCK_BYTES)
        })?;
        // Such an image could not mount its root and would say so only when it is booted.
        value("root", "no module for it", "erofs among the modules", |_| {
            self.modules.iter().any(|m| matches!(m.file.as_str(), "erofs.ko" | "erofs.ko.xz"))
        })
    }
}

/// A file name that cannot leave `/lib/modules`: no separator, no leading dot.
fn is_module_file(file: &str) -> bool {
    let Some(stem) = file.strip_suffix(".ko.xz").or_else(|| file.strip_suffix(".ko")) else {
        return false;
    };
    (1..=MAX_MODULE_NAME_BYTES).contains(&stem.len())
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Two or more words with dots between them: no separator, no `..`.
fn is_sysctl_name(name: &str) -> bool {
    let word = |w: &str| {
        !w.is_empty()
            && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.len() <= MAX_SYSCTL_NAME_BYTES && name.contains('.') && name.split('.').all(word)
}

fn value(
    field: &'static str,
    got: &str,
    expected: &'static str,
    good: impl FnOnce(&str) -> bool,
) -> Result<(), ImageConfigError> {
    if good(got) {
        return Ok(());
    }
    Err(ImageConfigError::Value { field, got: got.chars().take(SHOWN_CHARS).collect(), expected })
}

const fn few(field: &'static str, got: usize, max: usize) -> Result<(), ImageConfigError> {
    if got > max {
        return Err(ImageConfigError::TooMany { field, got, max });
    }
    Ok(())
}

fn once<'a>(
    field: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), ImageConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ImageConfigError::Duplicate { field, got: name.to_owned() });
        }
    }
    Ok(())
}

/// Version of the image configuration this build reads.
pub const IMAGE_CONFIG_VERSION: u32 = 1;

/// Largest image configuration, in bytes.
pub const MAX_IMAGE_CONFIG_BYTES: usize = 64 * 1024;

/// Most kernel modules of an image.
pub const MAX_MODULES: usize = 64;

/// Most kernel settings of an image.
pub const MAX_SYSCTLS: usize = 64;

/// Largest root, in bytes. PID 1 keeps all of it in the memory of the guest, and the kernel keeps
/// once more what is read from it.
pub const MAX_ROOT_BYTES: u64 = 1 << 30;

/// Size of a block of the root and of its hash tree, in bytes.
pub const ROOT_BLOCK_BYTES: u64 = 4096;

/// `IFNAMSIZ` less the final NUL.
const MAX_INTERFACE_BYTES: usize = 15;
/// `MODULE_NAME_LEN` on 64-bit Linux is 56.
const MAX_MODULE_NAME_BYTES: usize = 55;
const MAX_SYSCTL_NAME_BYTES: usize = 128;
const MAX_SYSCTL_VALUE_BYTES: usize = 64;
const SHOWN_CHARS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!(
            "version = 1\nplatform = \"insecure-sim\"\ndebug = false\nlisten_port = 8443\n\n\
             [network]\ninterface = \"eth0\"\naddress = \"10.0.2.15\"\nprefix = 24\n\n\
             [[module]]\nfile = \"virtio_net.ko.xz\"\nsha256 = \"{z}\"\n\n\
             [[sysctl]]\nname = \"kernel.kptr_restrict\"\nvalue = \"2\"\n",
            z = "0".repeat(64)
        )
    }

    fn parse(from: &str, to: &str) -> Result<ImageConfig, ImageConfigError> {
        let changed = text().replace(from, to);
        assert_ne!(changed, text(), "the case changes nothing");
        ImageConfig::parse(changed.as_bytes())
    }

    #[test]
    fn parses_a_whole_configuration_and_writes_the_same() {
        let config = ImageConfig::parse(text().as_bytes()).unwrap();
        assert_eq!(config.platform, ImagePlatform::InsecureSim);
        assert_eq!(config.network.address, Ipv4Addr::new(10, 0, 2, 15));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(ImageConfig::parse(written.as_bytes()).unwrap(), config);
    }

    #[test]
    fn refuses_unknown_fields_platforms_and_versions() {
        let malformed = |r| matches!(r, Err(ImageConfigError::Malformed(_)));
        assert!(malformed(parse("debug = false", "debug = false\nshell = true")));
        assert!(malformed(parse("prefix = 24", "prefix = 24\ngateway = \"10.0.2.2\"")));
        assert!(malformed(parse("insecure-sim", "sev")));
        assert!(malformed(parse("8443", "65536")));
        assert_eq!(
            parse("version = 1", "version = 2"),
            Err(ImageConfigError::UnsupportedVersion { got: 2 })
        );
    }

    #[test]
    fn refuses_a_module_that_is_a_path() {
        for bad in ["../virtio.ko", "a/b.ko.xz", ".ko", "virtio_net", "x.ko.xz\\n", "é.ko"] {
            let refused = parse("virtio_net.ko.xz", bad);
            let field = "module.file";
            assert!(matches!(refused, Err(ImageConfigError::Value { field: f, .. }) if f == field));
        }
    }

    #[test]
    fn refuses_a_setting_that_is_a_path_or_writes_a_second_line() {
        for bad in ["kernel/kptr", "kernel..x", ".kernel", "kernel", "Kernel.x"] {
            let refused = parse("kernel.kptr_restrict", bad);
            assert!(matches!(refused, Err(ImageConfigError::Value { field: "sysctl.name", .. })));
        }
        let refused = parse("\"2\"", "\"2\\n3\"");
        assert!(matches!(refused, Err(ImageConfigError::Value { field: "sysctl.value", .. })));
    }

    #[test]
    fn refuses_networks_that_are_not_a_private_interface() {
        let field = |r| match r {
            Err(ImageConfigError::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(parse("10.0.2.15", "8.8.8.8")), "network.address");
        assert_eq!(field(parse("prefix = 24", "prefix = 0")), "network.prefix");
        assert_eq!(field(parse("prefix = 24", "prefix = 33")), "network.prefix");
        assert_eq!(field(parse("\"eth0\"", "\"../eth0\"")), "network.interface");
        assert_eq!(field(parse("\"eth0\"", "\"abcdefghijklmnop\"")), "network.interface");
        assert!(parse("\"eth0\"", "\"abcdefghijklmno\"").is_ok());
        assert_eq!(field(parse("8443", "1023")), "listen_port");
    }

    fn parse_root(bytes: &str, module: &str) -> Result<ImageConfig, ImageConfigError> {
        let z = "0".repeat(64);
        let root = format!("prefix = 24\n\n[root]\nhash = \"{z}\"\nbytes = {bytes}\n");
        let text = text().replace("prefix = 24\n", &root).replace("virtio_net", module);
        ImageConfig::parse(text.as_bytes())
    }

    #[test]
    fn a_root_is_whole_blocks_up_to_its_limit_and_needs_its_module() {
        for good in ["4096", "1073741824"] {
            let config = parse_root(good, "erofs").unwrap();
            assert_eq!(config.root.as_ref().unwrap().bytes.to_string(), good);
            let written = toml::to_string(&config).unwrap();
            assert_eq!(ImageConfig::parse(written.as_bytes()).unwrap(), config);
        }
        for bad in ["0", "4095", "4097", "1073745920"] {
            let refused = parse_root(bad, "erofs");
            let field = "root.bytes";
            assert!(matches!(refused, Err(ImageConfigError::Value { field: f, .. }) if f == field));
        }
        let refused = parse_root("4096", "ext4");
        assert!(matches!(refused, Err(ImageConfigError::Value { field: "root", .. })));
        let malformed = parse_root("4096\nwritable = true", "erofs");
        assert!(matches!(malformed, Err(ImageConfigError::Malformed(_))));
    }

    #[test]
    fn a_configuration_without_a_root_does_not_mention_one() {
        let config = ImageConfig::parse(text().as_bytes()).unwrap();
        assert!(!toml::to_string(&config).unwrap().contains("root"));
    }

    #[test]
    fn refuses_one_entry_too_many_and_an_entry_twice() {
        let modules = |count: usize| {
            let mut text = text();
            for i in 1..count {
                let z = "0".repeat(64);
                text.push_str(&format!("[[module]]\nfile = \"m{i}.ko\"\nsha256 = \"{z}\"\n"));
            }
            ImageConfig::parse(text.as_bytes())
        };
        assert!(modules(MAX_MODULES).is_ok());
        assert_eq!(
            modules(MAX_MODULES + 1),
            Err(ImageConfigError::TooMany { field: "module", got: 65, max: 64 })
        );
        let settings = |count: usize| {
            let mut text = text();
            for i in 1..count {
                text.push_str(&format!("[[sysctl]]\nname = \"vm.x{i}\"\nvalue = \"1\"\n"));
            }
            ImageConfig::parse(text.as_bytes())
        };
        assert!(settings(MAX_SYSCTLS).is_ok());
        assert!(matches!(settings(MAX_SYSCTLS + 1), Err(ImageConfigError::TooMany { .. })));
        let twice =
            format!("{}[[sysctl]]\nname = \"kernel.kptr_restrict\"\nvalue = \"1\"\n", text());
        assert!(matches!(
            ImageConfig::parse(twice.as_bytes()),
            Err(ImageConfigError::Duplicate { field: "sysctl.name", .. })
        ));
    }

    #[test]
    fn refuses_one_byte_over_the_size_limit() {
        let mut bytes = text().into_bytes();
        bytes.resize(MAX_IMAGE_CONFIG_BYTES, b'\n');
        assert!(ImageConfig::parse(&bytes).is_ok());
        bytes.push(b'\n');
        assert!(matches!(ImageConfig::parse(&bytes), Err(ImageConfigError::TooLarge { .. })));
    }
}
