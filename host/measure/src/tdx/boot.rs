//! RTMR1 and RTMR2 of a direct kernel boot: the kernel and the milestones of the boot, then what
//! the Linux EFI stub measures: its command line and the initrd.
//!
//! The kernel must be the *first* event of RTMR1: firmware that falls back to its unmeasured
//! loader has extended two milestones by then, so it can never reach this value.

use super::bytes::bounded;
use super::digest::Sha384Digest;
use super::efi::utf16;
use super::error::TdxError;
use super::event::{Component, Event, Known};
use super::profile::FirmwareProfile;
use super::status::Status::{ConfirmedByHardware, CrossChecked};

/// A kernel command line that firmware and kernel read alike: 1 to [`MAX_COMMAND_LINE_BYTES`]
/// printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// Checks the exact bytes that go to QEMU's `-append`.
    ///
    /// # Errors
    /// [`TdxError::CommandLine`], also for a trailing newline, and limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, TdxError> {
        bounded("command line", bytes, MAX_COMMAND_LINE_BYTES)?;
        let mut text = String::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            if !(0x20..0x7f).contains(byte) {
                return Err(TdxError::CommandLine { byte: *byte, at });
            }
            text.push(char::from(*byte));
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Events of RTMR1 for a kernel with this Authenticode digest.
#[must_use]
pub fn kernel_events(kernel: Sha384Digest) -> Vec<Event> {
    let milestone = |component, text: &str| {
        let digest = Sha384Digest::of(text.as_bytes());
        Event::new(component, digest, MILESTONE, text)
    };
    vec![
        Event::new(Component::Kernel, kernel, KERNEL, "Authenticode SHA-384 of vmlinuz"),
        milestone(Component::CallingApplication, "Calling EFI Application from Boot Option"),
        Event::new(Component::Separator, Sha384Digest::of(&[0; 4]), MILESTONE, "00000000"),
        milestone(Component::ExitInvocation, "Exit Boot Services Invocation"),
        milestone(Component::ExitReturned, "Exit Boot Services Returned with Success"),
    ]
}

/// Events of RTMR2: the command line as firmware of `profile` hands it over, and the initrd.
#[must_use]
pub fn linux_events(
    profile: FirmwareProfile,
    cmdline: &CommandLine,
    initrd: Sha384Digest,
) -> Vec<Event> {
    let options = profile.load_options(cmdline.as_str());
    let known = match profile {
        FirmwareProfile::Stable202508 | FirmwareProfile::Stable202605 => PREFIX,
        FirmwareProfile::Pre202505 | FirmwareProfile::Stable202505 => SUFFIX,
    };
    let digest = load_options_digest(&options);
    vec![
        Event::new(Component::CommandLine, digest, known, options),
        Event::new(Component::Initrd, initrd, INITRD, "SHA-384 of the initrd"),
    ]
}

/// The load options are UTF-16 with a terminator.
pub(crate) fn load_options_digest(options: &str) -> Sha384Digest {
    let mut bytes = utf16(options);
    bytes.extend_from_slice(&[0, 0]);
    Sha384Digest::of(&bytes)
}

/// Longest command line, in bytes. The kernel reads 2047 (`COMMAND_LINE_SIZE`), of which the
/// firmware takes 15 for `initrd=initrd `.
pub const MAX_COMMAND_LINE_BYTES: usize = 2032;

/// Largest initrd, in bytes: ten times the budget of an image.
pub const MAX_INITRD_BYTES: usize = 512 << 20;

const KERNEL: Known = (
    ConfirmedByHardware,
    "its SHA-256 twin is the digest Debian signed for the same file; the place of the event is that \
     of two logs from real TDs; holds for QEMU >= 10.1, which hands the file over unpatched",
);
const MILESTONE: Known =
    (ConfirmedByHardware, "the same digest at the same place in two logs from real TDs");
const PREFIX: Known =
    (ConfirmedByHardware, "a value published from a hardware run is reproduced with this form");
const SUFFIX: Known =
    (CrossChecked, "the form the guest saw in /proc/cmdline under emulation; read from source too");
const INITRD: Known =
    (ConfirmedByHardware, "a value published from a hardware run is reproduced with this digest");
