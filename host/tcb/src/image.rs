//! What is inside the guest of an image: its files, its kernel modules, its port. The image was
//! verified by whoever calls; this counts.

use chrysalis_image::ImageInfo;
use chrysalis_wire::guest::ROOT_DIR;
use chrysalis_wire::{ImageConfig, ImagePlatform};
use serde::Serialize;

/// What is inside a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestFiles {
    /// What it runs on.
    pub platform: ImagePlatform,
    /// Whether it is a debug image.
    pub debug: bool,
    /// Bytes of firmware, kernel, initial file system, command line and root: all that is measured.
    pub measured_bytes: u64,
    /// Regular files in the initial file system and in the root.
    pub files: Vec<GuestFile>,
    /// Kernel modules, in the order they are loaded.
    pub modules: Vec<String>,
    /// The TCP port it opens.
    pub listen_port: u16,
}

/// One file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestFile {
    /// Its path in the guest, without a leading slash.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

impl GuestFiles {
    /// Counts a verified image.
    #[must_use]
    pub fn of(info: &ImageInfo, config: &ImageConfig) -> Self {
        let sizes = info.parts.named().into_iter().map(|(_, part)| part.size);
        let files = info.members.iter().map(|member| (member.path.clone(), member));
        let root = info.root.iter().flat_map(|root| &root.members);
        let below = ROOT_DIR.trim_start_matches('/');
        let root = root.map(|member| (format!("{below}/{}", member.path), member));
        let files = files.chain(root).filter(|(_, member)| member.kind == "file");
        Self {
            platform: info.platform,
            debug: info.debug,
            measured_bytes: sizes.fold(0, u64::saturating_add),
            files: files.map(|(path, member)| GuestFile { path, size: member.size }).collect(),
            modules: config.modules.iter().map(|module| module.file.clone()).collect(),
            listen_port: config.listen_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_files_modules_and_measured_bytes() {
        let hash = "0".repeat(64);
        let part = |size: u64| serde_json::json!({"file": "f", "size": size, "sha256": hash});
        let member = |path: &str, kind: &str, size: u64| {
            serde_json::json!({
                "path": path, "kind": kind, "mode": "0555", "size": size, "sha256": hash,
            })
        };
        let info: ImageInfo = serde_json::from_value(serde_json::json!({
            "flavour": "cpu", "platform": "tdx", "debug": false, "firmware_profile": "202605",
            "qemu_min": "11.1.3", "kernel_release": "7.3.4",
            "parts": {"firmware": part(1), "kernel": part(20), "initrd": part(300),
                      "cmdline": part(4000)},
            "members": [member("init", "file", 5), member("lib", "directory", 0),
                        member("lib/modules/virtio_net.ko.xz", "file", 7)],
            "inputs": [],
        }))
        .unwrap();
        let config: ImageConfig = toml::from_str(&format!(
            "version = 1\nplatform = \"tdx\"\ndebug = false\nlisten_port = 8443\n\
             [network]\ninterface = \"eth0\"\naddress = \"10.0.2.15\"\nprefix = 24\n\
             [[module]]\nfile = \"virtio_net.ko.xz\"\nsha256 = \"{hash}\"\n"
        ))
        .unwrap();
        let guest = GuestFiles::of(&info, &config);
        assert_eq!((guest.measured_bytes, guest.files.len(), guest.listen_port), (4321, 2, 8443));
        assert_eq!(guest.modules, ["virtio_net.ko.xz"]);
        assert_eq!(guest.files[1].size, 7);
    }
}
