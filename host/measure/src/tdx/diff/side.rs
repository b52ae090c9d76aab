//! One side of a comparison: a prediction, a release, a quote, an event log, a quote with its log, or
//! a worker manifest.

use chrysalis_wire::{Digest, WorkerManifest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::ccel::EventLog;
use super::super::digest::Sha384Digest;
use super::super::error::TdxError;
use super::super::event::{Component, Event, Rtmr};
use super::super::predict::{Facts, TdxPrediction, register, worker_events};
use super::super::quote::TdQuote;
use super::super::status::Status;
use crate::error::MeasureError;

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What the user calls it.
    pub label: String,
    /// What it is.
    pub kind: SideKind,
    pub(crate) mrtd: Option<Sha384Digest>,
    /// MRTD of the same firmware on hosts with the other page order.
    pub(crate) other_mrtd: Option<Sha384Digest>,
    pub(crate) rtmr: [Option<Sha384Digest>; 4],
    pub(crate) events: [Option<Vec<SideEvent>>; 4],
    pub(crate) facts: Option<Facts>,
    pub(crate) quote: Option<TdQuote>,
}

/// What a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SideKind {
    /// Computed from files.
    Prediction,
    /// Values that somebody published.
    Release,
    /// A TDX quote; its signatures were not verified here.
    Quote,
    /// An event log; nobody signed it.
    EventLog,
    /// A quote and the log that replays to it.
    QuoteWithLog,
    /// A worker manifest alone: RTMR3 follows from it.
    WorkerManifest,
}

impl SideKind {
    /// Words for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Release => "reference values of a release",
            Self::Quote => "quote (signatures not verified)",
            Self::EventLog => "event log (signed by nobody)",
            Self::QuoteWithLog => "quote with its event log (signatures not verified)",
            Self::WorkerManifest => "worker manifest (RTMR3 alone)",
        }
    }
}

/// One event of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideEvent {
    /// What it measures; `None` for an event no firmware of ours writes.
    pub component: Option<Component>,
    /// What the register is extended with.
    pub digest: Sha384Digest,
    /// What is known about it, in words.
    pub detail: String,
    /// Status and evidence of a predicted one.
    pub known: Option<(Status, String)>,
}

impl From<&Event> for SideEvent {
    fn from(event: &Event) -> Self {
        Self {
            component: Some(event.component),
            digest: event.digest,
            detail: event.detail.clone(),
            known: Some((event.status, event.evidence.clone())),
        }
    }
}

/// Register values that somebody published; `None` where they depend on what was left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    /// MRTD.
    pub mrtd: Option<Sha384Digest>,
    /// RTMR0 to RTMR3.
    pub rtmr: [Option<Sha384Digest>; 4],
}

impl Side {
    /// A side without a single value.
    fn empty(label: impl Into<String>, kind: SideKind) -> Self {
        Self {
            label: label.into(),
            kind,
            mrtd: None,
            other_mrtd: None,
            rtmr: [None; 4],
            events: [None, None, None, None],
            facts: None,
            quote: None,
        }
    }

    /// A prediction.
    #[must_use]
    pub fn prediction(label: impl Into<String>, prediction: &TdxPrediction) -> Self {
        Self {
            mrtd: Some(prediction.mrtd.value),
            other_mrtd: Some(prediction.mrtd.other_order),
            rtmr: prediction.rtmr.each_ref().map(|r| Some(r.value)),
            events: prediction
                .rtmr
                .each_ref()
                .map(|r| Some(r.events.iter().map(SideEvent::from).collect())),
            facts: Some(prediction.facts.clone()),
            ..Self::empty(label, SideKind::Prediction)
        }
    }

    /// Reference values of a release. They come without events.
    #[must_use]
    pub fn release(label: impl Into<String>, values: &ReferenceValues) -> Self {
        let ReferenceValues { mrtd, rtmr } = *values;
        Self { mrtd, rtmr, ..Self::empty(label, SideKind::Release) }
    }

    /// A worker manifest: what PID 1 will measure of it and of the model it names.
    ///
    /// # Errors
    /// [`MeasureError::Manifest`] for one that the worker would refuse.
    pub fn worker_manifest(
        label: impl Into<String>,
        manifest: &[u8],
    ) -> Result<Self, MeasureError> {
        let root = WorkerManifest::parse(manifest)?.model.root;
        let digest = Digest(Sha256::digest(manifest).into());
        let predicted = register(worker_events(&digest, &root)?);
        let mut side = Self::empty(label, SideKind::WorkerManifest);
        side.rtmr = [None, None, None, Some(predicted.value)];
        let events = predicted.events.iter().map(SideEvent::from).collect();
        side.events = [None, None, None, Some(events)];
        Ok(side)
    }

    /// A quote.
    #[must_use]
    pub fn quote(label: impl Into<String>, quote: &TdQuote) -> Self {
        Self {
            mrtd: Some(quote.mrtd),
            rtmr: quote.rtmr.map(Some),
            quote: Some(*quote),
            ..Self::empty(label, SideKind::Quote)
        }
    }

    /// An event log. It has no MRTD and ends before RTMR3 begins.
    #[must_use]
    pub fn log(label: impl Into<String>, log: &EventLog) -> Self {
        let mut side = Self::empty(label, SideKind::EventLog);
        side.put_log(log);
        side
    }

    /// A quote with its log.
    ///
    /// # Errors
    /// [`TdxError::Replay`] and [`TdxError::UnknownEvent`] for a log that does not lead to the
    /// quote: it is the log of another boot, or was changed.
    pub fn quote_with_log(
        label: impl Into<String>,
        quote: &TdQuote,
        log: &EventLog,
    ) -> Result<Self, TdxError> {
        log.check_replay(&quote.rtmr)?;
        let mut side = Self::quote(label, quote);
        let registers = side.rtmr;
        side.put_log(log);
        side.rtmr = registers;
        side.kind = SideKind::QuoteWithLog;
        Ok(side)
    }

    fn put_log(&mut self, log: &EventLog) {
        let slots = self.rtmr.iter_mut().zip(self.events.iter_mut());
        for (register, (value, events)) in Rtmr::ALL.into_iter().zip(slots) {
            // RTMR3 is PID 1's: a firmware log says nothing about it, unless it has events there.
            if register == Rtmr::Rtmr3 && log.of(register).next().is_none() {
                continue;
            }
            *value = Some(log.replay(register));
            let of = |e: &super::super::ccel::LoggedEvent| SideEvent {
                component: e.component,
                digest: e.digest,
                detail: described(e.kind, &e.data),
                known: None,
            };
            *events = Some(log.of(register).map(of).collect());
        }
    }

    /// The value of a register, if this side has it.
    #[must_use]
    pub fn register(&self, register: Rtmr) -> Option<Sha384Digest> {
        self.rtmr.get(register.index()).copied().flatten()
    }

    /// The events of a register, if this side has them.
    #[must_use]
    pub fn events(&self, register: Rtmr) -> Option<&[SideEvent]> {
        self.events.get(register.index())?.as_deref()
    }

    /// The registers this side has, by name.
    pub(crate) fn has(&self) -> String {
        let mrtd = self.mrtd.map(|_| "MRTD".to_owned());
        let rtmr = Rtmr::ALL.into_iter().filter(|r| self.register(*r).is_some());
        let all: Vec<_> = mrtd.into_iter().chain(rtmr.map(|r| r.to_string())).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }

    /// MRTD, if this side has it.
    #[must_use]
    pub const fn mrtd(&self) -> Option<Sha384Digest> {
        self.mrtd
    }
}

/// Type and the printable part of an event's own description, which its writer chose.
fn described(kind: u32, data: &[u8]) -> String {
    let shown: String = data
        .iter()
        .filter(|b| (0x20..0x7f).contains(*b))
        .take(MAX_SHOWN_CHARS)
        .map(|b| char::from(*b))
        .collect();
    format!("type {kind:#x}, {} bytes, {shown:?}", data.len())
}

const MAX_SHOWN_CHARS: usize = 64;
