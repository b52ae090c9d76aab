//! Progress on standard error: a bar on a terminal, plain lines in a log, JSON events for a
//! program. Shows numbers only.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Format, error_line};

/// Progress of one step counted in bytes.
pub(crate) struct Progress {
    stage: &'static str,
    shape: Shape,
    /// Tenths shown so far, plus one.
    shown: Cell<u64>,
    last: Cell<Option<Instant>>,
}

enum Shape {
    Bar(ProgressBar),
    Lines,
    Events,
}

impl Progress {
    pub(crate) fn new(stage: &'static str, format: Format, terminal: bool) -> Self {
        let shape = match (format, terminal) {
            (Format::Json, _) => Shape::Events,
            (Format::Text, true) => Shape::Bar(bar(stage)),
            (Format::Text, false) => Shape::Lines,
        };
        Self { stage, shape, shown: Cell::new(0), last: Cell::new(None) }
    }

    /// `done` of `total` bytes.
    pub(crate) fn update(&self, done: u64, total: u64) {
        match &self.shape {
            Shape::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Shape::Lines => self.line(done, total),
            Shape::Events => self.event(done, total),
        }
    }

    /// One line every tenth of the way, so that a log stays short.
    fn line(&self, done: u64, total: u64) {
        let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10).saturating_add(1);
        if tenth > self.shown.replace(tenth) {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            error_line(&format!("{} {percent} % of {}", self.stage, bytes(total)));
        }
    }

    fn event(&self, done: u64, total: u64) {
        let due = self.last.get().is_none_or(|at| at.elapsed() >= EVENT_INTERVAL);
        if due || done == total {
            self.last.set(Some(Instant::now()));
            let stage = self.stage;
            let event = serde_json::json!({
                "event": "progress", "stage": stage, "done": done, "total": total,
            });
            error_line(&event.to_string());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}

fn bar(stage: &'static str) -> ProgressBar {
    let style = "{prefix:<8} {wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta}";
    let bar = ProgressBar::new(0).with_prefix(stage);
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Shortest time between two progress events.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);
