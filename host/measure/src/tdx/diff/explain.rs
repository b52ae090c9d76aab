//! Says what each register of one side is made of, event by event, and how far that is known.

use serde::Serialize;

use super::super::digest::Sha384Digest;
use super::super::event::{Component, Rtmr};
use super::super::status::Status;
use super::side::{Side, SideEvent, SideKind};

/// One side, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What the user calls it.
    pub label: String,
    /// What it is.
    pub kind: SideKind,
    /// MRTD and RTMR0 to RTMR3, as far as the side has them.
    pub registers: Vec<ExplainedRegister>,
    /// Events that no firmware of ours writes; anything but 0 is refused when it is checked.
    pub unknown_events: usize,
}

/// One register, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedRegister {
    /// `MRTD`, `RTMR0` …
    pub register: String,
    /// Its value.
    pub value: Sha384Digest,
    /// What it covers.
    pub about: &'static str,
    /// Its events, if they are known.
    pub events: Vec<ExplainedEvent>,
}

/// One event, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedEvent {
    /// What it measures.
    pub component: String,
    /// What the register is extended with.
    pub digest: Sha384Digest,
    /// What the component is, and who chooses it.
    pub about: &'static str,
    /// What is known about this one.
    pub detail: String,
    /// How far a predicted one is known.
    pub status: Option<Status>,
    /// Why.
    pub evidence: Option<String>,
}

/// Explains a side.
#[must_use]
pub fn explain(side: &Side) -> Explanation {
    let mut registers = Vec::new();
    if let Some(value) = side.mrtd() {
        let events = Vec::new();
        registers.push(ExplainedRegister { register: "MRTD".into(), value, about: MRTD, events });
    }
    let mut unknown_events = 0usize;
    for register in Rtmr::ALL {
        let Some(value) = side.register(register) else { continue };
        let events = side.events(register).unwrap_or_default();
        let strangers = events.iter().filter(|e| e.component.is_none()).count();
        unknown_events = unknown_events.saturating_add(strangers);
        registers.push(ExplainedRegister {
            register: register.to_string(),
            value,
            about: register_about(register),
            events: events.iter().map(event).collect(),
        });
    }
    Explanation { label: side.label.clone(), kind: side.kind, registers, unknown_events }
}

fn event(event: &SideEvent) -> ExplainedEvent {
    let (status, evidence) = event.known.clone().unzip();
    ExplainedEvent {
        component: event.component.map_or("unknown event", |c| c.title()).to_owned(),
        digest: event.digest,
        about: event.component.map_or(UNKNOWN, about),
        detail: event.detail.clone(),
        status,
        evidence,
    }
}

const fn register_about(register: Rtmr) -> &'static str {
    match register {
        Rtmr::Rtmr0 => "what the host configured: memory, variables, fw_cfg, ACPI, SMBIOS",
        Rtmr::Rtmr1 => "the kernel, first, and the milestones of the boot",
        Rtmr::Rtmr2 => "the kernel command line and the initrd",
        Rtmr::Rtmr3 => "what PID 1 measures before any key exists: worker manifest and model",
    }
}

const fn about(component: Component) -> &'static str {
    match component {
        Component::TdHob => {
            "the memory map the VMM gives the firmware; follows from the memory size"
        }
        Component::VariableStore => "the firmware's variables as shipped; blank in our images",
        Component::FwCfgBootMenu => "whether QEMU was told to show a boot menu",
        Component::FwCfgBootOrder => {
            "what QEMU says to boot first; the direct boot ROM with -kernel"
        }
        Component::FwCfgExtraPciRoots
        | Component::FwCfgBootMenuWait
        | Component::FwCfgReservedMemoryEnd
        | Component::FwCfgPciMmio64Mb => "an option of QEMU that our shapes do not use",
        Component::SecureBoot
        | Component::PlatformKey
        | Component::KeyExchangeKey
        | Component::SignatureDb
        | Component::ForbiddenDb => "secure boot state and keys; none in our images",
        Component::Separator => "the firmware ends its part",
        Component::AcpiLoader | Component::AcpiRsdp | Component::AcpiTables => {
            "written by QEMU for the shape; holds code the guest's kernel runs"
        }
        Component::Smbios => "names of the machine, without serial numbers",
        Component::BootOrder | Component::Boot0000 | Component::Boot0001 => {
            "boot options the firmware makes for its own applications"
        }
        Component::Kernel => "Authenticode digest of vmlinuz, as its own signature has it",
        Component::CallingApplication | Component::ExitInvocation | Component::ExitReturned => {
            "a milestone every boot passes"
        }
        Component::CommandLine => "the command line with what the firmware adds to it",
        Component::Initrd => "the initrd: PID 1 and the worker are in it",
        Component::Manifest => "SHA-256 of the worker manifest",
        Component::ModelRoot => "content root of the model bundle",
    }
}

const MRTD: &str = "the firmware's code; nothing else the host chooses";
const UNKNOWN: &str = "no firmware of ours writes this event; a TD with it is refused";
