//! Compares two sides register by register and names, for each that differs, the first event that
//! does, its component, the usual cause and what to do. Both sides may be hostile: a quote and a
//! log are somebody's claims.

mod cause;
mod explain;
mod html;
mod name;
mod side;

#[cfg(test)]
mod tests;

pub use cause::Cause;
pub use explain::{ExplainedEvent, ExplainedRegister, Explanation, explain};
pub use html::{html_of_diff, html_of_explanation};
pub use side::{ReferenceValues, Side, SideEvent, SideKind};

use serde::Serialize;

use super::digest::Sha384Digest;
use super::error::TdxError;
use super::event::Rtmr;
use name::Named;

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What was expected.
    pub expected: SideName,
    /// What was found.
    pub found: SideName,
    /// Whether everything that could be compared is equal.
    pub equal: bool,
    /// Registers both sides have and that are equal.
    pub equal_registers: Vec<String>,
    /// Registers that only one side has.
    pub not_compared: Vec<String>,
    /// What differs; the first is where to begin.
    pub differences: Vec<Difference>,
}

/// A side as it is called in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideName {
    /// What the user calls it.
    pub label: String,
    /// What it is.
    pub kind: SideKind,
}

/// One register that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `MRTD`, `RTMR0` … or a field of the quote.
    pub register: String,
    /// Value expected, hexadecimal.
    pub expected: String,
    /// Value found, hexadecimal.
    pub found: String,
    /// The first event that differs, where events are known.
    pub event: Option<DifferentEvent>,
    /// The cause.
    pub cause: Cause,
    /// Code, title, reason and fix of the cause, for readers of the document alone.
    pub cause_title: &'static str,
    /// Why that moves the register.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// The cause was computed or follows from the event; otherwise it is the usual one.
    pub certain: bool,
    /// What exactly changed, where that is known.
    pub detail: String,
    /// Other causes that are possible, or that are there as well.
    pub also: Vec<Cause>,
}

/// An event that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferentEvent {
    /// Position among the events of the register, from 0.
    pub index: usize,
    /// Name of the component.
    pub component: String,
    /// Digest expected; none if there should be no event.
    pub expected: Option<Sha384Digest>,
    /// Digest found; none if there is no event.
    pub found: Option<Sha384Digest>,
}

/// Compares `found` with `expected`.
///
/// # Errors
/// [`TdxError::NothingInCommon`] if there is no register to compare.
pub fn compare(expected: &Side, found: &Side) -> Result<Diff, TdxError> {
    let mut diff = Diff {
        expected: SideName { label: expected.label.clone(), kind: expected.kind },
        found: SideName { label: found.label.clone(), kind: found.kind },
        equal: false,
        equal_registers: Vec::new(),
        not_compared: Vec::new(),
        differences: Vec::new(),
    };
    match (expected.mrtd, found.mrtd) {
        (Some(a), Some(b)) if a == b => diff.equal_registers.push("MRTD".to_owned()),
        (Some(a), Some(b)) => {
            diff.differences.push(difference("MRTD", a, b, name::mrtd(expected, found), None));
        }
        _ => diff.not_compared.push("MRTD".to_owned()),
    }
    for register in Rtmr::ALL {
        let called = register.to_string();
        match (expected.register(register), found.register(register)) {
            (Some(a), Some(b)) if a == b => diff.equal_registers.push(called),
            (Some(a), Some(b)) => {
                let (event, named) = first_difference(register, expected, found);
                diff.differences.push(difference(&called, a, b, named, event));
            }
            _ => diff.not_compared.push(called),
        }
    }
    if diff.equal_registers.is_empty() && diff.differences.is_empty() {
        let (expected, found) = (expected.has(), found.has());
        return Err(TdxError::NothingInCommon { expected, found });
    }
    identity(expected, found, &mut diff);
    diff.equal = diff.differences.is_empty();
    Ok(diff)
}

fn first_difference(
    register: Rtmr,
    expected: &Side,
    found: &Side,
) -> (Option<DifferentEvent>, Named) {
    let (Some(a), Some(b)) = (expected.events(register), found.events(register)) else {
        return (None, name::without_events(register, expected, found));
    };
    let length = a.len().max(b.len());
    let same = |i: usize| match (a.get(i), b.get(i)) {
        (Some(a), Some(b)) => a.digest == b.digest && a.component == b.component,
        _ => false,
    };
    let index = (0..length).find(|i| !same(*i)).unwrap_or(length);
    let (left, right) = (a.get(index), b.get(index));
    let component = [left, right].into_iter().flatten().find_map(|e| e.component);
    let event = DifferentEvent {
        index,
        component: component.map_or("unknown event", |c| c.title()).to_owned(),
        expected: left.map(|e| e.digest),
        found: right.map(|e| e.digest),
    };
    (Some(event), name::event(expected, found, left, right))
}

/// Fields of a quote that are no registers of ours, against what a prediction allows or the other
/// quote has.
fn identity(expected: &Side, found: &Side, diff: &mut Diff) {
    let Some(quote) = &found.quote else { return };
    let zero = crate::cocoon::TdIdentity::ZERO;
    let (wanted, attributes) = match &expected.quote {
        Some(other) => (other.identity, other.attributes),
        None => (zero, SEPT_VE_DISABLE),
    };
    let fields = [
        ("MRCONFIGID", wanted.mr_config_id, quote.identity.mr_config_id),
        ("MROWNER", wanted.mr_owner, quote.identity.mr_owner),
        ("MROWNERCONFIG", wanted.mr_owner_config, quote.identity.mr_owner_config),
    ];
    for (called, a, b) in fields {
        if a != b {
            let named = Named::certain(Cause::TdIdentity, String::new());
            diff.differences.push(difference(
                called,
                Sha384Digest(a),
                Sha384Digest(b),
                named,
                None,
            ));
        }
    }
    if attributes != quote.attributes {
        let debug = quote.attributes.first().is_some_and(|b| b & 1 != 0);
        let detail = if debug { "the TD is under debug: it has no secrets" } else { "" };
        let named = Named::certain(Cause::TdAttributes, detail.to_owned());
        let (a, b) = (hex::encode(attributes), hex::encode(quote.attributes));
        diff.differences.push(difference("TD attributes", a, b, named, None));
    }
}

fn difference(
    register: &str,
    expected: impl ToString,
    found: impl ToString,
    named: Named,
    event: Option<DifferentEvent>,
) -> Difference {
    Difference {
        register: register.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
        event,
        cause: named.cause,
        cause_title: named.cause.title(),
        why: named.cause.why(),
        fix: named.cause.fix(),
        certain: named.certain,
        detail: named.detail,
        also: named.also,
    }
}

/// The only TD attribute accepted: bit 28.
const SEPT_VE_DISABLE: [u8; 8] = [0, 0, 0, 0x10, 0, 0, 0, 0];
