//! The console: JSON lines of [`ConsoleEvent`] on standard output, and nothing else, ever.
//! The host reads it, so the type is a closed set without a free-form field.

use std::io::Write;
use std::sync::Mutex;

use chrysalis_wire::{BootStage, ConsoleEvent, StageState};

/// Writes console events, one line each, in order.
pub struct Console {
    out: Mutex<Box<dyn Write + Send>>,
}

impl Console {
    /// A console that writes to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out: Mutex::new(out) }
    }

    /// Writes one event, and says whether it was written. A host that closed the console loses the line;
    /// one that stopped reading it holds up the thread that writes, so nothing that must happen in time
    /// writes here.
    pub fn event(&self, event: &ConsoleEvent) -> bool {
        let Ok(mut line) = serde_json::to_vec(event) else { return false };
        line.push(b'\n');
        // A broken pipe is the host's loss (see above): there is nobody else to tell.
        self.out.lock().is_ok_and(|mut out| out.write_all(&line).and_then(|()| out.flush()).is_ok())
    }

    /// Writes a stage change without counts.
    pub fn stage(&self, stage: BootStage, state: StageState) {
        self.event(&ConsoleEvent::Stage { stage, state, done: 0, total: 0, code: None });
    }

    /// Writes the progress of a counted stage.
    pub fn progress(&self, stage: BootStage, done: u64, total: u64) {
        self.event(&ConsoleEvent::Stage {
            stage,
            state: StageState::Progress,
            done,
            total,
            code: None,
        });
    }

    /// Writes why the worker refuses to go on.
    pub fn refused(&self, stage: BootStage, code: &str) {
        self.event(&ConsoleEvent::Stage {
            stage,
            state: StageState::Refused,
            done: 0,
            total: 0,
            code: Some(code.to_owned()),
        });
    }
}
