//! The console: JSON lines of [`ConsoleEvent`] on standard output. The host reads it.

use std::cell::RefCell;
use std::io::Write;

use chrysalis_wire::{ConsoleEvent, InitStep, StageState};

use crate::error::InitError;

/// Writes console events, one line each.
pub struct Console {
    out: RefCell<Box<dyn Write>>,
}

impl Console {
    /// A console on `out`. Ends whatever line the firmware or the kernel left unfinished.
    #[must_use]
    pub fn new(mut out: Box<dyn Write>) -> Self {
        // A console that does not take bytes cannot be told so.
        drop(out.write_all(b"\n"));
        Self { out: RefCell::new(out) }
    }

    /// Writes one event in one call, so that a line of the kernel comes before or after it.
    pub fn event(&self, event: &ConsoleEvent) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut out = self.out.borrow_mut();
        drop(out.write_all(&line).and_then(|()| out.flush()));
    }

    /// Runs one step between its two lines. `work` returns how many units there were.
    ///
    /// # Errors
    /// Whatever `work` met, after its code was written.
    pub fn step<T>(
        &self,
        step: InitStep,
        work: impl FnOnce() -> Result<(T, usize), InitError>,
    ) -> Result<T, InitError> {
        self.line(step, StageState::Started, 0, None);
        match work() {
            Ok((value, units)) => {
                self.line(step, StageState::Done, units, None);
                Ok(value)
            }
            Err(error) => {
                self.line(step, StageState::Refused, 0, Some(error.code()));
                Err(error)
            }
        }
    }

    /// Writes that `step` does not apply to this image.
    pub fn skipped(&self, step: InitStep) {
        self.line(step, StageState::Skipped, 0, None);
    }

    /// Writes that `step` is refused.
    pub fn refused(&self, step: InitStep, error: &InitError) {
        self.line(step, StageState::Refused, 0, Some(error.code()));
    }

    fn line(&self, step: InitStep, state: StageState, total: usize, code: Option<&str>) {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        self.event(&ConsoleEvent::Init { step, state, total, code: code.map(str::to_owned) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Screen;

    #[test]
    fn a_step_is_framed_by_started_and_done_with_its_count() {
        let screen = Screen::default();
        let console = Console::new(Box::new(screen.clone()));
        console.step(InitStep::Modules, || Ok(((), 7))).unwrap();
        assert_eq!(
            screen.text(),
            "\n{\"event\":\"init\",\"step\":\"modules\",\"state\":\"started\",\"total\":0}\n\
             {\"event\":\"init\",\"step\":\"modules\",\"state\":\"done\",\"total\":7}\n"
        );
    }

    #[test]
    fn a_refused_step_shows_its_code_and_nothing_of_the_input() {
        let screen = Screen::default();
        let console = Console::new(Box::new(screen.clone()));
        let refusal =
            InitError::Sysctl { name: "secret.name".into(), kind: std::io::ErrorKind::NotFound };
        console.step::<()>(InitStep::Sysctls, || Err(refusal)).unwrap_err();
        assert!(screen.text().contains("\"code\":\"E-INIT-SYSCTL\""));
        assert!(!screen.text().contains("secret"));
    }
}
