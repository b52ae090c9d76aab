//! One side of a comparison: a prediction, a quote, an event log, or a quote with its log.

use serde::Serialize;

use super::super::ccel::EventLog;
use super::super::digest::Sha384Digest;
use super::super::error::TdxError;
use super::super::event::{Component, Rtmr};
use super::super::predict::{Facts, TdxPrediction};
use super::super::quote::TdQuote;
use super::super::status::Status;

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
    /// A TDX quote; its signatures were not verified here.
    Quote,
    /// An event log; nobody signed it.
    EventLog,
    /// A quote and the log that replays to it.
    QuoteWithLog,
}

impl SideKind {
    /// Words for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Quote => "quote (signatures not verified)",
            Self::EventLog => "event log (signed by nobody)",
            Self::QuoteWithLog => "quote with its event log (signatures not verified)",
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

impl Side {
    /// A prediction.
    #[must_use]
    pub fn prediction(label: impl Into<String>, prediction: &TdxPrediction) -> Self {
        let events = prediction.rtmr.each_ref().map(|register| {
            let of = |e: &super::super::event::Event| SideEvent {
                component: Some(e.component),
                digest: e.digest,
                detail: e.detail.clone(),
                known: Some((e.status, e.evidence.clone())),
            };
            Some(register.events.iter().map(of).collect())
        });
        Self {
            label: label.into(),
            kind: SideKind::Prediction,
            mrtd: Some(prediction.mrtd.value),
            other_mrtd: Some(prediction.mrtd.other_order),
            rtmr: prediction.rtmr.each_ref().map(|r| Some(r.value)),
            events,
            facts: Some(prediction.facts.clone()),
            quote: None,
        }
    }

    /// A quote.
    #[must_use]
    pub fn quote(label: impl Into<String>, quote: &TdQuote) -> Self {
        Self {
            label: label.into(),
            kind: SideKind::Quote,
            mrtd: Some(quote.mrtd),
            other_mrtd: None,
            rtmr: quote.rtmr.map(Some),
            events: [None, None, None, None],
            facts: None,
            quote: Some(*quote),
        }
    }

    /// An event log. It has no MRTD and ends before RTMR3 begins.
    #[must_use]
    pub fn log(label: impl Into<String>, log: &EventLog) -> Self {
        let mut side = Self {
            label: label.into(),
            kind: SideKind::EventLog,
            mrtd: None,
            other_mrtd: None,
            rtmr: [None; 4],
            events: [None, None, None, None],
            facts: None,
            quote: None,
        };
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
