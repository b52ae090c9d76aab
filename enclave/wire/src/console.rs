//! The only thing PID 1 and a worker may write to the console: a closed set of events with numbers and
//! codes, one JSON object a line. There is no field a prompt could end up in.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, RegisterValue};

/// Boot stages in order. The worker is ready only after [`BootStage::Ready`] is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootStage {
    /// The measured manifest is read and the runtime register extended.
    Manifest,
    /// Keys are generated.
    Keys,
    /// The TLS listener is open; only attestation and grants are served.
    Listen,
    /// Waiting for the model key (sealed models only).
    Grant,
    /// The model is read and verified chunk by chunk, then loaded.
    Model,
    /// The worker appraises its own evidence as a client would.
    Appraise,
    /// Requests are served.
    Ready,
}

impl BootStage {
    /// All stages in order.
    pub const ALL: [Self; 7] = [
        Self::Manifest,
        Self::Keys,
        Self::Listen,
        Self::Grant,
        Self::Model,
        Self::Appraise,
        Self::Ready,
    ];
}

/// What PID 1 of a VM image does before the worker's own stages, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitStep {
    /// The kernel's file systems are mounted.
    Mounts,
    /// `image.toml` is read and the image announced.
    Image,
    /// Every word of the kernel command line is one this image knows.
    CommandLine,
    /// The listed modules are checked and loaded, and module loading is closed.
    Modules,
    /// The kernel settings are written.
    Sysctls,
    /// The network interface has its address.
    Network,
    /// The two disks are found and the configuration is read.
    Disks,
    /// The root is read, checked against its measured hash and mounted; skipped in an image that
    /// has none.
    Root,
    /// The boot events are extended into RTMR3, and the way there is closed.
    Measure,
    /// The worker runs, unprivileged.
    Worker,
}

impl InitStep {
    /// All steps in order.
    pub const ALL: [Self; 10] = [
        Self::Mounts,
        Self::Image,
        Self::CommandLine,
        Self::Modules,
        Self::Sysctls,
        Self::Network,
        Self::Disks,
        Self::Root,
        Self::Measure,
        Self::Worker,
    ];

    /// The step as the console spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mounts => "mounts",
            Self::Image => "image",
            Self::CommandLine => "command-line",
            Self::Modules => "modules",
            Self::Sysctls => "sysctls",
            Self::Network => "network",
            Self::Disks => "disks",
            Self::Root => "root",
            Self::Measure => "measure",
            Self::Worker => "worker",
        }
    }
}

/// State of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// The stage began.
    Started,
    /// The stage moved: see `done` and `total`.
    Progress,
    /// The stage is over.
    Done,
    /// The stage does not apply to this boot.
    Skipped,
    /// The worker refuses to go on; `code` says why.
    Refused,
}

/// One console line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConsoleEvent {
    /// A boot stage changed.
    Stage {
        /// The stage.
        stage: BootStage,
        /// Its new state.
        state: StageState,
        /// Units done (bytes for the model stage), 0 if not counted.
        #[serde(default)]
        done: u64,
        /// Units in all, 0 if not counted.
        #[serde(default)]
        total: u64,
        /// Stable refusal code, for [`StageState::Refused`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// What was earned on a channel: the claim to settle by, which its owner's host keeps.
    Earned {
        /// An encoded claim of `chrysalis-receipt` in lower-case hexadecimal.
        claim: String,
    },
    /// A payer wants a channel served for which nobody vouches, or for too little: the owner may look at
    /// the chain.
    FundingWanted {
        /// The meter key that a note has to name.
        meter_key: Digest,
        /// Encoded terms of the channel, of `chrysalis-receipt`, in lower-case hexadecimal.
        terms: String,
    },
    /// A step of PID 1 changed.
    Init {
        /// The step.
        step: InitStep,
        /// Its new state.
        state: StageState,
        /// Units in all (modules, settings, events), 0 if not counted.
        #[serde(default)]
        total: u64,
        /// Stable refusal code, for [`StageState::Refused`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// What image booted, as its own configuration says.
    Image {
        /// `true` for a debug image: whoever reads its console may read secrets.
        debug: bool,
        /// `true` for an image with a simulated platform: nothing here is secret.
        insecure_sim: bool,
    },
    /// RTMR3 as PID 1 left it. Informational: the quote decides.
    Measured {
        /// The register.
        rtmr3: RegisterValue,
    },
    /// The worker ended; PID 1 powers off.
    WorkerEnded {
        /// Exit code, if it exited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
        /// Signal, if one ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// The last line of PID 1.
    PowerOff {
        /// Stable refusal code; absent after an orderly stop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// The listener is bound.
    Listening {
        /// `127.0.0.1:PORT`, or the guest's address in a VM.
        address: String,
        /// `true` on a simulated platform: nothing here is secret.
        insecure_sim: bool,
    },
    /// Memory holds fewer whole contexts than requests may run at once, or nobody knows how many. Told once,
    /// when the model is there.
    ContextMemory {
        /// Whole contexts; absent if the system does not say how much memory there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contexts: Option<u32>,
        /// Requests that the manifest lets run at once.
        concurrent: u32,
    },
    /// Aggregate counters, at most once a minute; no per-request line exists.
    Served {
        /// Requests answered since boot, rounded down to a multiple of 8.
        requests: u64,
        /// Requests refused since boot, rounded down to a multiple of 8.
        refused: u64,
    },
    /// Clients whose proof was refused since the last line with the same code and rule. Who they
    /// were is not said.
    PeersRefused {
        /// Stable refusal code.
        code: String,
        /// The rule that refused, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// How many.
        count: u64,
    },
    /// The worker is stopping on request.
    Stopping {},
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_are_json_with_kebab_case_names() {
        let line = serde_json::to_string(&ConsoleEvent::Stage {
            stage: BootStage::Model,
            state: StageState::Progress,
            done: 1,
            total: 2,
            code: None,
        })
        .unwrap();
        assert_eq!(
            line,
            r#"{"event":"stage","stage":"model","state":"progress","done":1,"total":2}"#
        );
    }

    #[test]
    fn steps_of_pid_1_are_spelled_as_they_are_named() {
        for step in InitStep::ALL {
            let spelled = serde_json::to_string(&step).unwrap();
            assert_eq!(spelled, format!("\"{}\"", step.name()));
        }
        let line = serde_json::to_string(&ConsoleEvent::PowerOff { code: None }).unwrap();
        assert_eq!(line, r#"{"event":"power-off"}"#);
    }

    #[test]
    fn refuses_a_console_line_with_an_unknown_field() {
        assert!(serde_json::from_str::<ConsoleEvent>(r#"{"event":"stopping","x":1}"#).is_err());
    }
}
