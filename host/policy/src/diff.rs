//! What one pins file accepts that another does not. For people who are about to sign or adopt one:
//! nothing decides by it. What is wider waits in [`crate::Judge`]; what is narrower does not.

use core::fmt::Display;

use chrysalis_evidence::{Admission, Denied, Pins, WorkerPin};
use serde::Serialize;

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Something is accepted that was not.
    Wider,
    /// Something is refused that was accepted.
    Narrower,
    /// Not to be said in one word: tier, network, root, devices.
    Other,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which way it goes.
    pub direction: Direction,
    /// What it is, in words.
    pub what: String,
}

/// Every difference between two pins files, numbers of the files left out.
#[must_use]
pub fn compare_pins(old: &Pins, new: &Pins) -> Vec<Change> {
    let mut out = Changes(Vec::new());
    out.other("tier", old.tier(), new.tier());
    out.other("network", old.network().0, new.network().0);
    out.other("root", old.root(), new.root());
    out.list("worker", old.workers(), new.workers(), worker);
    let (a, b) = (old.platform(), new.platform());
    out.list("td_attributes", &a.td_attributes, &b.td_attributes, |value| hex::encode(value));
    out.list("xfam", &a.xfam, &b.xfam, |value| hex::encode(value));
    out.list("mr_seam", &a.mr_seam, &b.mr_seam, |value| hex::encode(value));
    out.list("mr_config_id", &a.mr_config_id, &b.mr_config_id, |value| hex::encode(value));
    out.list("exception", &a.exceptions, &b.exceptions, |entry| {
        format!("FMSPC {} until {}", hex::encode(entry.fmspc), entry.until.0)
    });
    match (&a.admission, &b.admission) {
        (Admission::Vetted(a), Admission::Vetted(b)) => {
            out.list("vetted", a, b, |id| hex::encode(id))
        }
        (Admission::Open, Admission::Vetted(list)) => {
            out.push(Direction::Narrower, format!("admission: {} vetted platforms", list.len()));
        }
        (Admission::Vetted(_), Admission::Open) => {
            out.push(Direction::Wider, "admission: any genuine platform".to_owned());
        }
        (Admission::Open, Admission::Open) => {}
    }
    let (age, minimum) = ("max_collateral_age_days", "min_tcb_evaluation_number");
    out.number(age, a.max_collateral_age_days, b.max_collateral_age_days, Direction::Wider);
    let numbers = (a.min_tcb_evaluation_number, b.min_tcb_evaluation_number);
    out.number(minimum, numbers.0, numbers.1, Direction::Narrower);
    out.flag("allow_dynamic_platform", a.allow_dynamic_platform, b.allow_dynamic_platform);
    out.flag("allow_cached_keys", a.allow_cached_keys, b.allow_cached_keys);
    out.flag("allow_smt", a.allow_smt, b.allow_smt);
    for added in new.denied().iter().filter(|entry| !old.denied().contains(entry)) {
        let (what, reason) = (denied_in_words(&added.what), &added.reason);
        out.push(Direction::Narrower, format!("denied: {what} ({reason})"));
    }
    for gone in old.denied().iter().filter(|entry| !new.denied().contains(entry)) {
        out.push(Direction::Wider, format!("no longer denied: {}", denied_in_words(&gone.what)));
    }
    if old.device() != new.device() {
        out.push(Direction::Other, "[device] differs".to_owned());
    }
    if old.sgx() != new.sgx() {
        out.push(Direction::Other, "[sgx] differs".to_owned());
    }
    out.0
}

/// A denied value as people write it.
#[must_use]
pub fn denied_in_words(what: &Denied) -> String {
    match what {
        Denied::Mrtd(value) => format!("mrtd {}", hex::encode(value)),
        Denied::Mrenclave(value) => format!("mrenclave {value}"),
        Denied::Manifest(value) => format!("manifest {value}"),
        Denied::Model(value) => format!("model {value}"),
        Denied::Platform(value) => format!("platform {}", hex::encode(value)),
        Denied::Fmspc(value) => format!("platform family {}", hex::encode(value)),
        Denied::Advisory(value) => value.clone(),
        Denied::GpuSerial(value) => format!("device certificate {value}"),
    }
}

fn worker(pin: &WorkerPin) -> String {
    let from = pin.activates_at.map(|at| format!(", from {} on", at.0)).unwrap_or_default();
    format!(
        "{:?} (mrtd {}, manifest {}{from})",
        pin.name,
        hex::encode(pin.mrtd),
        pin.manifest_sha256
    )
}

struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, direction: Direction, what: String) {
        self.0.push(Change { direction, what });
    }

    fn other<T: PartialEq + Display>(&mut self, name: &str, old: T, new: T) {
        if old != new {
            self.push(Direction::Other, format!("{name}: {old} -> {new}"));
        }
    }

    fn list<T: PartialEq>(
        &mut self,
        name: &str,
        old: &[T],
        new: &[T],
        show: impl Fn(&T) -> String,
    ) {
        for added in new.iter().filter(|value| !old.contains(value)) {
            self.push(Direction::Wider, format!("{name} {}: added", show(added)));
        }
        for gone in old.iter().filter(|value| !new.contains(value)) {
            self.push(Direction::Narrower, format!("{name} {}: removed", show(gone)));
        }
    }

    /// `up` is where a larger number leads.
    fn number(&mut self, name: &str, old: u32, new: u32, up: Direction) {
        let down = if up == Direction::Wider { Direction::Narrower } else { Direction::Wider };
        if old != new {
            self.push(if new > old { up } else { down }, format!("{name}: {old} -> {new}"));
        }
    }

    fn flag(&mut self, name: &str, old: bool, new: bool) {
        self.number(name, u32::from(old), u32::from(new), Direction::Wider);
    }
}
