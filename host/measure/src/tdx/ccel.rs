//! The CCEL: the firmware's event log, as the guest reads it. It comes from the peer and proves
//! nothing until its replay gives the registers of a verified quote; and then every event must be
//! one that was predicted.
//!
//! Layout: TCG PC Client Platform Firmware Profile, "Crypto agile log"; Intel TDX Guest-Hypervisor
//! Communication Interface, CCEL.

use std::io::Read;

use flate2::bufread::GzDecoder;

use super::bytes::{array, bounded, size_at, slice, u16_at, u32_at};
use super::digest::Sha384Digest;
use super::error::TdxError;
use super::event::{Component, Rtmr};
use super::recognise::Recogniser;

/// An event log that parses. Its digests are claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<LoggedEvent>,
}

/// One event of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Register it extends.
    pub register: Rtmr,
    /// TCG event type.
    pub kind: u32,
    /// What the register is extended with.
    pub digest: Sha384Digest,
    /// The event's own description; not covered by the digest in general.
    pub data: Vec<u8>,
    /// What it measures, if a firmware of ours writes such an event there.
    pub component: Option<Component>,
}

impl EventLog {
    /// Reads a log that may be packed with gzip, as archives and bug reports have them.
    ///
    /// # Errors
    /// As [`Self::parse`]; also for a gzip file that is damaged or holds more than
    /// [`MAX_LOG_BYTES`].
    pub fn read(bytes: &[u8]) -> Result<Self, TdxError> {
        if bytes.starts_with(&GZIP) { Self::parse(&unpack(bytes)?) } else { Self::parse(bytes) }
    }

    /// Reads a log as the guest finds it in `/sys/firmware/acpi/tables/data/CCEL`.
    ///
    /// # Errors
    /// [`TdxError`] for anything that is not one SHA-384 log.
    pub fn parse(bytes: &[u8]) -> Result<Self, TdxError> {
        bounded(WHAT, bytes, MAX_LOG_BYTES)?;
        let mut at = header(bytes)?;
        let mut events = Vec::new();
        let mut recogniser = Recogniser::default();
        while at < bytes.len() {
            let kind = u32_at(WHAT, bytes, at.saturating_add(4))?;
            if kind == 0 || kind == u32::MAX {
                unused(bytes, at, kind)?;
                break;
            }
            if events.len() >= MAX_LOG_EVENTS {
                let (limit, got) = (MAX_LOG_EVENTS, MAX_LOG_EVENTS.saturating_add(1));
                return Err(TdxError::TooLarge { what: "events in the log", limit, got });
            }
            let (mut event, size) = event(bytes, at, events.len())?;
            event.component = recogniser.recognise(event.register, event.kind, &event.data);
            events.push(event);
            at = at.saturating_add(size);
        }
        Ok(Self { events })
    }

    /// Every event, in order.
    #[must_use]
    pub fn events(&self) -> &[LoggedEvent] {
        &self.events
    }

    /// Events of one register, in order.
    pub fn of(&self, register: Rtmr) -> impl Iterator<Item = &LoggedEvent> {
        self.events.iter().filter(move |e| e.register == register)
    }

    /// The register after the log's events.
    #[must_use]
    pub fn replay(&self, register: Rtmr) -> Sha384Digest {
        Sha384Digest::replay(self.of(register).map(|e| &e.digest))
    }

    /// Requires that the log leads to `registers`, RTMR0 to RTMR2 of a quote. RTMR3 is not the
    /// firmware's; events for it are refused.
    ///
    /// # Errors
    /// [`TdxError::Replay`], [`TdxError::UnknownEvent`].
    pub fn check_replay(&self, registers: &[Sha384Digest; 4]) -> Result<(), TdxError> {
        if let Some(event) = self.of(Rtmr::Rtmr3).next() {
            let (register, kind) = (Rtmr::Rtmr3, event.kind);
            return Err(TdxError::UnknownEvent { register, index: 0, kind });
        }
        for (register, quoted) in Rtmr::ALL.into_iter().zip(registers).take(3) {
            let replayed = self.replay(register);
            if replayed != *quoted {
                let (replayed, quoted) = (Box::new(replayed), Box::new(*quoted));
                return Err(TdxError::Replay { register, replayed, quoted });
            }
        }
        Ok(())
    }
}

/// Unpacks one gzip file of one member (RFC 1952), reading no further than the limit.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, TdxError> {
    const WHAT: &str = "gzip file";
    bounded(WHAT, packed, MAX_LOG_BYTES)?;
    let malformed = |reason| TdxError::Malformed { what: WHAT, at: 0, reason };
    let mut decoder = GzDecoder::new(packed);
    let mut log = Vec::new();
    let one_over = (MAX_LOG_BYTES as u64).saturating_add(1);
    let read = decoder.by_ref().take(one_over).read_to_end(&mut log);
    if log.len() > MAX_LOG_BYTES {
        let (limit, got) = (MAX_LOG_BYTES, log.len());
        return Err(TdxError::TooLarge { what: "unpacked event log", limit, got });
    }
    read.map_err(|_| malformed("it is damaged or cut"))?;
    if !decoder.into_inner().is_empty() {
        return Err(malformed("bytes follow its end"));
    }
    Ok(log)
}

/// The first entry is a TCG_PCR_EVENT that names the algorithms. Returns where the next begins.
fn header(bytes: &[u8]) -> Result<usize, TdxError> {
    const WHAT: &str = "event log header";
    let malformed = |at, reason| TdxError::Malformed { what: WHAT, at, reason };
    if u32_at(WHAT, bytes, 4)? != EV_NO_ACTION {
        return Err(malformed(4, "it is not of type EV_NO_ACTION"));
    }
    let size = size_at(WHAT, bytes, 28)?;
    let spec = slice(WHAT, bytes, 32, size)?;
    if !spec.starts_with(b"Spec ID Event03\0") {
        return Err(malformed(32, "it is not of the crypto agile log format"));
    }
    if u32_at(WHAT, spec, 24)? != 1 {
        return Err(malformed(56, "it names more or less than one digest algorithm"));
    }
    if (u16_at(WHAT, spec, 28)?, u16_at(WHAT, spec, 30)?) != (ALG_SHA384, 48) {
        return Err(malformed(60, "its digest algorithm is not SHA-384"));
    }
    let [vendor] = array::<1>(WHAT, spec, 32)?;
    if usize::from(vendor).saturating_add(33) != size {
        return Err(malformed(64, "its length is not that of its fields"));
    }
    Ok(size.saturating_add(32))
}

/// One TCG_PCR_EVENT2 and its size.
fn event(bytes: &[u8], at: usize, index: usize) -> Result<(LoggedEvent, usize), TdxError> {
    let field = |offset: usize| at.saturating_add(offset);
    let register = match u32_at(WHAT, bytes, at)? {
        1 => Rtmr::Rtmr0,
        2 => Rtmr::Rtmr1,
        3 => Rtmr::Rtmr2,
        4 => Rtmr::Rtmr3,
        got => return Err(TdxError::LogRegister { index, got }),
    };
    let kind = u32_at(WHAT, bytes, field(4))?;
    if kind == EV_NO_ACTION {
        let reason = "EV_NO_ACTION extends nothing and may stand only at the start";
        return Err(TdxError::Malformed { what: WHAT, at, reason });
    }
    let count = u32_at(WHAT, bytes, field(8))?;
    let algorithm = u16_at(WHAT, bytes, field(12))?;
    if (count, algorithm) != (1, ALG_SHA384) {
        return Err(TdxError::LogDigest { index, count, algorithm });
    }
    let digest = Sha384Digest(array(WHAT, bytes, field(14))?);
    let size = size_at(WHAT, bytes, field(62))?;
    if size > MAX_EVENT_BYTES {
        let (limit, got) = (MAX_EVENT_BYTES, size);
        return Err(TdxError::TooLarge { what: "event data", limit, got });
    }
    let data = slice(WHAT, bytes, field(EVENT_HEADER_BYTES), size)?.to_vec();
    let event = LoggedEvent { register, kind, digest, data, component: None };
    Ok((event, size.saturating_add(EVENT_HEADER_BYTES)))
}

/// After the last event the area is filled with one byte; anything else is hidden there.
fn unused(bytes: &[u8], at: usize, kind: u32) -> Result<(), TdxError> {
    let fill = if kind == 0 { 0 } else { 0xff };
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.iter().position(|b| *b != fill) {
        None => Ok(()),
        Some(offset) => Err(TdxError::Malformed {
            what: WHAT,
            at: at.saturating_add(offset),
            reason: "bytes follow the end of the log",
        }),
    }
}

/// Largest log area, in bytes, packed and unpacked: four times that of the real machines seen.
pub const MAX_LOG_BYTES: usize = 1 << 20;

/// Most events; the longest real log seen has 43.
pub const MAX_LOG_EVENTS: usize = 1024;

/// Largest description of one event, in bytes; dbx variables of 21 KiB are in use.
pub const MAX_EVENT_BYTES: usize = 64 << 10;

const WHAT: &str = "event log";
/// Magic and method of a gzip file.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
const EV_NO_ACTION: u32 = 3;
const ALG_SHA384: u16 = 0x000c;
/// Register, type, count, algorithm, digest, size.
const EVENT_HEADER_BYTES: usize = 4 + 4 + 4 + 2 + 48 + 4;
