//! Chooses what runs the vCPUs. `/dev/kvm` is not believed: hosts exist where it opens, starts a
//! firmware and then hangs in the kernel. So a kernel is booted with it, under a time limit.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::{Qemu, VmPlatform};
use crate::error::LoaderError;

/// What runs the vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: anywhere, slow, never a trust domain.
    Tcg,
}

impl Accelerator {
    /// QEMU's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// KVM if it works.
    Auto,
    /// Exactly this.
    Exactly(Accelerator),
}

/// A choice and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What was chosen.
    pub accelerator: Accelerator,
    /// Why, in words.
    pub why: String,
}

/// Where the host says what it can.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// The KVM device.
    pub kvm: PathBuf,
    /// The kernel's word on whether it can host trust domains (`Y`).
    pub tdx: PathBuf,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self { kvm: "/dev/kvm".into(), tdx: "/sys/module/kvm_intel/parameters/tdx".into() }
    }
}

/// Chooses for a VM of `platform`, booting `kernel` with KVM to see whether it works.
///
/// # Errors
/// [`LoaderError::Unsupported`] if a trust domain, or KVM by name, is wanted and cannot be had.
pub fn choose(
    wanted: Wanted,
    platform: VmPlatform,
    qemu: &Qemu,
    kernel: &Path,
    host: &HostPaths,
    limit: Duration,
) -> Result<Choice, LoaderError> {
    let tdx = platform == VmPlatform::Tdx;
    let kvm = match wanted {
        Wanted::Exactly(Accelerator::Tcg) => Err("TCG was asked for".to_owned()),
        // Without the module parameter no probe can succeed, and it says why best.
        _ if tdx => hosts_trust_domains(&host.tdx).and_then(|()| boots(qemu, kernel, host, limit)),
        _ => boots(qemu, kernel, host, limit),
    };
    let refuse = |what: &str, reason| LoaderError::Unsupported { what: what.to_owned(), reason };
    match kvm {
        Ok(()) => {
            let why = "a kernel boots with KVM on this host".to_owned();
            Ok(Choice { accelerator: Accelerator::Kvm, why })
        }
        Err(reason) if tdx => Err(refuse("starting a trust domain", reason)),
        Err(reason) if wanted == Wanted::Exactly(Accelerator::Kvm) => {
            Err(refuse("using KVM", reason))
        }
        Err(why) => Ok(Choice { accelerator: Accelerator::Tcg, why }),
    }
}

fn hosts_trust_domains(parameter: &Path) -> Result<(), String> {
    match std::fs::read_to_string(parameter) {
        Ok(text) if text.trim() == "Y" => Ok(()),
        Ok(_) => Err(format!("{} is not Y: TDX is off in firmware or kernel", parameter.display())),
        Err(e) => Err(format!("this kernel hosts no trust domains ({}: {e})", parameter.display())),
    }
}

/// Whether a kernel prints its banner under KVM within `limit`.
fn boots(qemu: &Qemu, kernel: &Path, host: &HostPaths, limit: Duration) -> Result<(), String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&host.kvm)
        .map_err(|e| format!("{} cannot be opened: {e}", host.kvm.display()))?;
    let kernel = kernel.to_str().ok_or("the path of the kernel is not UTF-8")?;
    let arguments = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-machine",
        "q35",
        "-m",
        "512",
        "-no-reboot",
        "-serial",
        "stdio",
        "-kernel",
        kernel,
        "-append",
        "console=ttyS0 panic=-1",
    ];
    let mut child = qemu
        .command(&arguments.map(str::to_owned))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{} cannot be started: {e}", qemu.program.display()))?;
    let found = wait_for_banner(&mut child, limit);
    // A hung QEMU ignores requests; the group also takes a script in front of it.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    found
}

fn wait_for_banner(child: &mut Child, limit: Duration) -> Result<(), String> {
    let Some(mut out) = child.stdout.take() else { return Err("no console".to_owned()) };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0u8; 4096]);
        while let Ok(got) = out.read(&mut buffer) {
            seen.extend_from_slice(buffer.get(..got).unwrap_or_default());
            let banner = seen.windows(BANNER.len()).any(|w| w == BANNER);
            if banner || got == 0 || seen.len() > MAX_PROBE_CONSOLE_BYTES {
                let _ = sender.send(banner);
                return;
            }
        }
    });
    match receiver.recv_timeout(limit) {
        Ok(true) => Ok(()),
        Ok(false) => Err("a kernel does not boot with KVM on this host".to_owned()),
        Err(_) => {
            Err(format!("KVM exists but a kernel did not boot with it in {} s", limit.as_secs()))
        }
    }
}

/// How long a kernel may take to print its first line with KVM; it takes under two seconds.
pub const PROBE_TIME: Duration = Duration::from_secs(10);

/// What every Linux kernel prints first.
const BANNER: &[u8] = b"Linux version";

/// Console bytes read before giving up on the banner.
const MAX_PROBE_CONSOLE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::qemu::tests::{fake, pretend};
    use std::time::Instant;

    struct Host {
        dir: tempfile::TempDir,
        paths: HostPaths,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = HostPaths { kvm: dir.path().join("kvm"), tdx: dir.path().join("tdx") };
            std::fs::write(&paths.kvm, b"").unwrap();
            std::fs::write(&paths.tdx, b"Y\n").unwrap();
            Self { dir, paths }
        }

        fn choose(
            &self,
            wanted: Wanted,
            platform: VmPlatform,
            script: &str,
        ) -> Result<Choice, LoaderError> {
            let qemu = pretend(&fake(self.dir.path(), script), "11.1.3");
            let limit = Duration::from_millis(500);
            choose(wanted, platform, &qemu, Path::new("/vmlinuz"), &self.paths, limit)
        }
    }

    const BOOTS: &str = "echo 'SeaBIOS'; echo '[0.0] Linux version 7.3.4'; exec sleep 60";

    #[test]
    fn uses_kvm_when_a_kernel_boots_with_it_and_leaves_no_process() {
        let host = Host::new();
        let began = Instant::now();
        let choice = host.choose(Wanted::Auto, VmPlatform::InsecureSim, BOOTS).unwrap();
        assert_eq!(choice.accelerator, Accelerator::Kvm);
        assert!(began.elapsed() < Duration::from_secs(30), "the probe waited for its guest");
    }

    #[test]
    fn falls_back_to_tcg_when_kvm_hangs_and_says_why() {
        let host = Host::new();
        let choice = host
            .choose(Wanted::Auto, VmPlatform::InsecureSim, "echo SeaBIOS; exec sleep 60")
            .unwrap();
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.why.contains("did not boot"), "{}", choice.why);
    }

    #[test]
    fn falls_back_to_tcg_when_kvm_fails_or_is_not_there() {
        let host = Host::new();
        let choice = host.choose(Wanted::Auto, VmPlatform::InsecureSim, "exit 1").unwrap();
        assert!(choice.why.contains("does not boot"), "{}", choice.why);
        std::fs::remove_file(&host.paths.kvm).unwrap();
        let choice = host.choose(Wanted::Auto, VmPlatform::InsecureSim, BOOTS).unwrap();
        assert!(choice.why.contains("cannot be opened"), "{}", choice.why);
    }

    #[test]
    fn does_not_probe_when_tcg_is_asked_for() {
        let host = Host::new();
        let script = format!("touch {}/ran", host.dir.path().display());
        let wanted = Wanted::Exactly(Accelerator::Tcg);
        assert_eq!(
            host.choose(wanted, VmPlatform::InsecureSim, &script).unwrap().accelerator,
            Accelerator::Tcg
        );
        assert!(!host.dir.path().join("ran").exists());
    }

    #[test]
    fn refuses_kvm_by_name_where_it_does_not_work() {
        let wanted = Wanted::Exactly(Accelerator::Kvm);
        let refused = Host::new().choose(wanted, VmPlatform::InsecureSim, "exit 1");
        assert!(matches!(refused, Err(LoaderError::Unsupported { .. })));
    }

    #[test]
    fn never_runs_a_trust_domain_on_anything_but_a_tdx_host() {
        let host = Host::new();
        let choice = host.choose(Wanted::Auto, VmPlatform::Tdx, BOOTS).unwrap();
        assert_eq!(choice.accelerator, Accelerator::Kvm);
        let tcg = Wanted::Exactly(Accelerator::Tcg);
        for (wanted, tdx, script) in
            [(Wanted::Auto, "N\n", BOOTS), (Wanted::Auto, "Y", "exit 1"), (tcg, "Y", BOOTS)]
        {
            std::fs::write(&host.paths.tdx, tdx).unwrap();
            let refused = host.choose(wanted, VmPlatform::Tdx, script);
            assert!(matches!(refused, Err(LoaderError::Unsupported { .. })), "{refused:?}");
        }
        std::fs::remove_file(&host.paths.tdx).unwrap();
        let refused = host.choose(Wanted::Auto, VmPlatform::Tdx, BOOTS);
        assert!(
            matches!(refused, Err(LoaderError::Unsupported { reason, .. }) if reason.contains("hosts no"))
        );
    }
}
