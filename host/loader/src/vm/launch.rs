//! What to launch in a VM, checked before an argument is made of it.

use std::fmt;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrysalis_shape::Shape;
use chrysalis_wire::cmdline::{CommandLine, MAX_COMMAND_LINE_BYTES};
use serde::{Deserialize, Serialize};

use super::{Accelerator, Qemu};
use crate::error::LoaderError;

/// One VM to launch; the worker's files are in the [`crate::Launch`] around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmLaunch {
    /// The QEMU.
    pub qemu: Qemu,
    /// What runs the vCPUs.
    pub accelerator: Accelerator,
    /// Why that one.
    pub accelerator_reason: String,
    /// Trust domain, or INSECURE-SIM.
    pub platform: VmPlatform,
    /// The files of the image.
    pub image: VmImage,
    /// The shape.
    pub shape: Shape,
    /// Where the worker listens inside the guest, as the image is configured.
    pub guest: SocketAddrV4,
    /// Host addresses of the GPUs, as many as the shape has.
    pub gpus: Vec<GpuAddress>,
    /// Where quotes are made, for a trust domain.
    pub qgs: QgsAddress,
}

/// What the VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmPlatform {
    /// An Intel TDX trust domain.
    Tdx,
    /// INSECURE-SIM: any VM; its host can read everything.
    InsecureSim,
}

/// The files of an image, absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmImage {
    /// TDVF.
    pub firmware: PathBuf,
    /// Kernel.
    pub kernel: PathBuf,
    /// Initial file system.
    pub initrd: PathBuf,
    /// The kernel command line itself.
    pub cmdline: String,
    /// The root, in an image that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

impl VmImage {
    /// Opens the image directory `dir`, and in it the root of an image `with_root`. Whether its files are the ones its manifest names is for
    /// the caller to verify.
    ///
    /// # Errors
    /// [`LoaderError::NoFile`], also for a command line that PID 1 of the image would refuse.
    pub fn open(dir: &Path, debug: bool, with_root: bool) -> Result<Self, LoaderError> {
        let file = |name: &str| crate::launch::existing(name, &dir.join(name));
        let path = file("cmdline")?;
        let refuse = |reason: String| LoaderError::NoFile {
            what: "cmdline".to_owned(),
            path: path.display().to_string(),
            reason,
        };
        let bytes = read_at_most(&path, MAX_COMMAND_LINE_BYTES).map_err(refuse)?;
        CommandLine::parse(&bytes, debug).map_err(|e| refuse(e.to_string()))?;
        let cmdline = String::from_utf8(bytes).map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            firmware: file("tdvf.fd")?,
            kernel: file("vmlinuz")?,
            initrd: file("initrd.cpio")?,
            cmdline,
            root: with_root.then(|| file("rootfs.erofs")).transpose()?,
        })
    }
}

/// Reads a file that must not be larger than `max`.
pub(crate) fn read_at_most(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let limit = (max as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > max {
        return Err(format!("it is over the limit of {max} bytes"));
    }
    Ok(bytes)
}

/// PCI address of a device of the host: `DOMAIN:BUS:SLOT.FUNCTION`, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuAddress(String);

impl FromStr for GpuAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.len() == ADDRESS_FORM.len()
            && text.bytes().zip(ADDRESS_FORM.bytes()).all(|(b, form)| match form {
                b'h' => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
                mark => b == mark,
            });
        if !good {
            return Err("a PCI address is written as 0000:17:00.0, in lower case".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for GpuAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<GpuAddress> for String {
    fn from(address: GpuAddress) -> Self {
        address.0
    }
}

impl fmt::Display for GpuAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where QEMU reaches the quote generation service of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QgsAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A vsock address.
    Vsock {
        /// Context id; 2 is the host, 1 the loopback.
        cid: u32,
        /// Port.
        port: u32,
    },
}

impl Default for QgsAddress {
    fn default() -> Self {
        Self::Unix(DEFAULT_QGS_SOCKET.into())
    }
}

impl FromStr for QgsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give unix:PATH or vsock:CID:PORT".to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return path.is_absolute().then_some(Self::Unix(path)).ok_or_else(wrong);
        }
        let (cid, port) =
            text.strip_prefix("vsock:").and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
        match (cid.parse(), port.parse()) {
            (Ok(cid), Ok(port)) => Ok(Self::Vsock { cid, port }),
            _ => Err(wrong()),
        }
    }
}

/// How a PCI address is written; `h` is a hexadecimal digit.
const ADDRESS_FORM: &str = "hhhh:hh:hh.h";

/// Where Intel's service listens by default.
const DEFAULT_QGS_SOCKET: &str = "/var/run/tdx-qgs/qgs.socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_pci_address_that_could_be_another_option() {
        assert!("0000:17:00.0".parse::<GpuAddress>().is_ok());
        for bad in [
            "",
            "17:00.0",
            "0000:17:00.0,x=y",
            "0000:17:00:0",
            "0000.17:00.0",
            "0000:1G:00.0",
            "0000:17:00.10",
            "0000:17:0.00",
            "/sys/bus",
        ] {
            assert!(bad.parse::<GpuAddress>().is_err(), "accepted {bad}");
        }
        assert!(serde_json::from_str::<GpuAddress>("\"x\"").is_err());
    }

    #[test]
    fn reads_both_kinds_of_quote_service_and_nothing_else() {
        assert_eq!("vsock:2:4050".parse(), Ok(QgsAddress::Vsock { cid: 2, port: 4050 }));
        assert_eq!("unix:/run/q".parse(), Ok(QgsAddress::Unix("/run/q".into())));
        for bad in ["", "/run/q", "unix:run/q", "unix:", "vsock:2", "vsock:2:x", "tcp:1:2"] {
            assert!(bad.parse::<QgsAddress>().is_err(), "accepted {bad}");
        }
    }

    fn image(dir: &Path, cmdline: &str) {
        for name in ["tdvf.fd", "vmlinuz", "initrd.cpio"] {
            std::fs::write(dir.join(name), b"x").unwrap();
        }
        std::fs::write(dir.join("cmdline"), cmdline).unwrap();
    }

    #[test]
    fn opens_an_image_directory() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path(), "console=ttyS0 quiet");
        let image = VmImage::open(dir.path(), false, false).unwrap();
        assert_eq!(image.cmdline, "console=ttyS0 quiet");
        assert!(image.initrd.is_absolute());
        // A file nobody asked for is not attached; one that is asked for must be there.
        assert_eq!(image.root, None);
        let refused = VmImage::open(dir.path(), false, true);
        assert!(matches!(refused, Err(LoaderError::NoFile { what, .. }) if what == "rootfs.erofs"));
        std::fs::write(dir.path().join("rootfs.erofs"), b"x").unwrap();
        assert_eq!(VmImage::open(dir.path(), false, false).unwrap().root, None);
        let root = VmImage::open(dir.path(), false, true).unwrap().root.unwrap();
        assert!(root.ends_with("rootfs.erofs"));
    }

    #[test]
    fn refuses_an_image_that_lacks_a_file_naming_it() {
        for name in ["tdvf.fd", "vmlinuz", "initrd.cpio", "cmdline"] {
            let dir = tempfile::tempdir().unwrap();
            image(dir.path(), "console=ttyS0 quiet");
            std::fs::remove_file(dir.path().join(name)).unwrap();
            let refused = VmImage::open(dir.path(), false, false);
            assert!(matches!(refused, Err(LoaderError::NoFile { what, .. }) if what == name));
        }
    }

    #[test]
    fn refuses_a_command_line_that_pid_1_would_refuse() {
        let long = format!("console=ttyS0{}", " quiet".repeat(MAX_COMMAND_LINE_BYTES));
        for bad in ["", "console=ttyS0 rdinit=/bin/sh", "console=ttyS0 quiet\n", long.as_str()] {
            let dir = tempfile::tempdir().unwrap();
            image(dir.path(), bad);
            let refused = VmImage::open(dir.path(), false, false);
            assert!(matches!(refused, Err(LoaderError::NoFile { what, .. }) if what == "cmdline"));
        }
    }
}
