//! Every way the loader says no, with a stable code and what to do next.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use chrysalis_wire::{BootStage, InitStep};

use crate::console::stage_name;

/// Why the loader could not do what was asked. Serialisable, because the supervisor hands its
/// errors to the `up` that started it.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "kebab-case")]
pub enum LoaderError {
    /// Another supervisor holds the state directory.
    #[error("a worker is already running here: supervisor process {pid}, listening on {listen}")]
    AlreadyRunning {
        /// Its process id; 0 if it has not written it yet.
        pid: u32,
        /// Its public address, or `unknown`.
        listen: String,
    },
    /// Another supervisor of this user runs a worker of the same payee and number.
    #[error(
        "a worker with this payee and number runs already, from {state}: a channel pays for one of them"
    )]
    PaidElsewhere {
        /// Its state directory.
        state: String,
    },
    /// A file the launch names does not exist or is not a file.
    #[error("the {what} {path} cannot be used: {reason}")]
    NoFile {
        /// `worker`, `manifest`, `bundle` or `collateral`.
        what: String,
        /// The path as given.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The worker file has no execute permission.
    #[error("the worker {path} is not executable")]
    NotExecutable {
        /// The path as given.
        path: String,
    },
    /// The public address cannot be bound.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A process could not be started.
    #[error("cannot start {path}: {reason}")]
    Spawn {
        /// The program.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The state directory cannot be read or written.
    #[error("cannot {action} {path}: {reason}")]
    State {
        /// What was attempted.
        action: String,
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A state file is not one this build wrote.
    #[error("state file {path} is malformed: {reason}")]
    StateMalformed {
        /// The file.
        path: String,
        /// Where it does not parse.
        reason: String,
    },
    /// The launch handed to the supervisor is malformed or too large.
    #[error("the supervisor was started without a usable launch: {reason}")]
    Launch {
        /// Where it does not parse.
        reason: String,
    },
    /// The worker announced an address that is not on the loopback interface.
    #[error("the worker announced {address}, which is not a loopback address")]
    NotLoopback {
        /// The announced address.
        address: String,
    },
    /// The worker refused to go on during boot.
    #[error("the worker refused at boot stage {} with code {code}", stage_name(*stage))]
    Refused {
        /// The stage that refused.
        stage: BootStage,
        /// The worker's own stable code.
        code: String,
    },
    /// PID 1 of the VM refused to go on, and powered off.
    #[error("the VM refused at step {} with code {code}", step.name())]
    InitRefused {
        /// The step that refused.
        step: InitStep,
        /// Its stable code.
        code: String,
    },
    /// There is no QEMU.
    #[error("there is no qemu-system-x86_64 on the PATH")]
    NoQemu,
    /// A QEMU that cannot be used.
    #[error("{path} cannot be used as QEMU: {reason}")]
    QemuUnusable {
        /// The program or directory.
        path: String,
        /// What it did.
        reason: String,
    },
    /// This host cannot do what was asked.
    #[error("{what} is not supported here: {reason}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// A shape could not be captured.
    #[error("the capture did not get past {step}: {reason}")]
    Capture {
        /// The step.
        step: String,
        /// What QEMU said or did.
        reason: String,
    },
    /// The worker died before it was ever ready, again and again.
    #[error("the worker ended {attempts} times before it was ready, last with {status}")]
    Crashed {
        /// How often it was started.
        attempts: u32,
        /// How the last one ended.
        status: String,
    },
    /// The supervisor ended without saying why.
    #[error("the supervisor ended during boot without a report ({status})")]
    SupervisorLost {
        /// How it ended.
        status: String,
    },
    /// The supervisor was told to stop while `up` was waiting for it.
    #[error("the worker was stopped before it was ready")]
    StoppedDuringBoot,
    /// The supervisor ignored both requests to end.
    #[error("supervisor process {pid} does not end")]
    WillNotStop {
        /// Its process id.
        pid: u32,
    },
}

impl LoaderError {
    /// Stable code for scripts and documentation. For [`Self::Refused`] the worker's own code is
    /// in the variant; this one only says who refused.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AlreadyRunning { .. } => "E-ALREADY-RUNNING",
            Self::PaidElsewhere { .. } => "E-PAID-ELSEWHERE",
            Self::NoFile { .. } => "E-NO-FILE",
            Self::NotExecutable { .. } => "E-NOT-EXECUTABLE",
            Self::Listen { .. } => "E-LISTEN",
            Self::Spawn { .. } => "E-SPAWN",
            Self::State { .. } => "E-STATE",
            Self::StateMalformed { .. } => "E-STATE-MALFORMED",
            Self::Launch { .. } => "E-LAUNCH",
            Self::NotLoopback { .. } => "E-NOT-LOOPBACK",
            Self::Refused { .. } => "E-WORKER-REFUSED",
            Self::InitRefused { .. } => "E-VM-REFUSED",
            Self::NoQemu => "E-NO-QEMU",
            Self::QemuUnusable { .. } => "E-QEMU",
            Self::Unsupported { .. } => "E-UNSUPPORTED",
            Self::Capture { .. } => "E-CAPTURE",
            Self::Crashed { .. } => "E-WORKER-CRASHED",
            Self::SupervisorLost { .. } => "E-SUPERVISOR-LOST",
            Self::StoppedDuringBoot => "E-STOPPED",
            Self::WillNotStop { .. } => "E-WILL-NOT-STOP",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::AlreadyRunning { .. } => {
                "stop it with `chrysalis down`, or give this one another --state directory"
            }
            Self::PaidElsewhere { .. } => {
                "give this one a number of its own with `manifest init --worker`, or stop the other"
            }
            Self::NoFile { .. } => "check the path, and that this user may read the file",
            Self::NotExecutable { .. } => "name the worker program itself, or chmod +x it",
            Self::Listen { .. } => "choose another --listen address, or end what holds this one",
            Self::Spawn { .. } => "check that the program is built for this machine",
            Self::State { .. } => "check the owner, mode and free space of the --state directory",
            Self::StateMalformed { .. } => "remove the file; it holds no secret and is rebuilt",
            Self::Launch { .. } => "do not start __supervise by hand; use `chrysalis up`",
            Self::NotLoopback { .. } => "use a worker that binds the address it is given",
            Self::Refused { .. } => "look the code up; `chrysalis logs` shows the boot stages",
            Self::InitRefused { .. } => {
                "look the code up; the image and its disks must be the ones that belong together"
            }
            Self::NoQemu => "install QEMU, or name one with --qemu (a program or an unpacked tree)",
            Self::QemuUnusable { .. } => "name a qemu-system-x86_64 with --qemu",
            Self::Unsupported { .. } => "run it on a host that has what is missing",
            Self::Capture { .. } => "check that this QEMU builds a q35 with the shape's devices",
            Self::Crashed { .. } => "read loader.log in the --state directory",
            Self::SupervisorLost { .. } => "read loader.log in the --state directory",
            Self::StoppedDuringBoot => "run `chrysalis up` again",
            Self::WillNotStop { .. } => "end the process as its owner or as root",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_way_from_supervisor_to_up() {
        let error =
            LoaderError::Refused { stage: BootStage::Model, code: "E-CHUNK-HASH".to_owned() };
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<LoaderError>(&text).unwrap(), error);
    }

    #[test]
    fn a_refusal_names_the_stage_as_the_console_does() {
        let error = LoaderError::Refused { stage: BootStage::Model, code: "E-X".to_owned() };
        assert_eq!(error.to_string(), "the worker refused at boot stage model with code E-X");
    }

    #[test]
    fn the_message_names_the_running_one() {
        let error = LoaderError::AlreadyRunning { pid: 7, listen: "127.0.0.1:1".to_owned() };
        assert!(error.to_string().contains("process 7"));
        assert!(error.next_step().contains("chrysalis down"));
    }
}
