//! Files that are refused.

use std::fs;
use std::path::{Path, PathBuf};

use chrysalis_ledger::{
    Entry, Ledger, LedgerError, LedgerView, OLDEST_SCHEMA, Recorded, SCHEMA_VERSION, Side,
};
use chrysalis_wire::{Digest, RequestId};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use tempfile::TempDir;

use crate::{NOW, channel, claim};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

fn refused(path: &Path) -> LedgerError {
    let error = Ledger::open(path, Side::Payee).map(|_| ()).unwrap_err();
    drop(LedgerView::open(path, Side::Payee).map(|_| ()).unwrap_err());
    error
}

fn ledger(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("l");
    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    for n in 1..20 {
        ledger.record(&Entry::Claim(&claim(n, 1)), NOW).unwrap();
    }
    path
}

#[test]
fn refuses_a_file_that_is_no_database() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    for bytes in [vec![b'x'; 3], vec![b'x'; 10_000], b"{}".to_vec()] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(refused(&path).code(), "E-LEDGER-DAMAGED");
        assert_eq!(fs::read(&path).unwrap(), bytes, "and leaves it as it was");
    }
}

#[test]
fn refuses_a_database_of_something_else() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    let other = Database::create(&path).unwrap();
    let tx = other.begin_write().unwrap();
    tx.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    tx.commit().unwrap();
    drop(other);
    assert_eq!(refused(&path), LedgerError::NotALedger);
}

/// Marks a ledger as one of another schema.
fn mark(path: &Path, format: &str) {
    let database = Database::open(path).unwrap();
    let tx = database.begin_write().unwrap();
    tx.open_table(META).unwrap().insert("chrysalis-ledger", format.as_bytes()).unwrap();
    tx.commit().unwrap();
}

#[test]
fn refuses_one_schema_later() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    mark(&path, &format!("{{\"schema\":{},\"side\":\"payee\",\"more\":1}}", SCHEMA_VERSION + 1));
    assert_eq!(refused(&path), LedgerError::Newer { got: SCHEMA_VERSION + 1 });
}

#[test]
fn refuses_a_schema_before_the_oldest() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    mark(&path, &format!("{{\"schema\":{},\"side\":\"payee\"}}", OLDEST_SCHEMA - 1));
    assert_eq!(refused(&path), LedgerError::Older { got: OLDEST_SCHEMA - 1 });
}

fn schema(path: &Path, side: Side) -> u32 {
    let mode = match side {
        Side::Payer => redb::ConcurrencyMode::SingleWriter,
        Side::Payee => redb::ConcurrencyMode::MultiWriter,
    };
    let database = redb::Builder::new().set_concurrency_mode(mode).open_read_only(path).unwrap();
    let tx = database.begin_read().unwrap();
    let meta = tx.open_table(META).unwrap();
    let format = meta.get("chrysalis-ledger").unwrap().unwrap();
    let format: serde_json::Value = serde_json::from_slice(format.value()).unwrap();
    format["schema"].as_u64().unwrap().try_into().unwrap()
}

/// An older build may be running: it records what is earned until there is something that it cannot read, and
/// says then that it is too old.
#[test]
fn a_ledger_stays_of_the_oldest_schema_until_something_is_recorded_that_needs_the_newest() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    let before = LedgerView::open(&path, Side::Payee).unwrap().channels().unwrap();
    assert_eq!(schema(&path, Side::Payee), OLDEST_SCHEMA);
    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    assert_eq!(ledger.view().channels().unwrap(), before);
    let id = channel();
    let paid = Entry::Paid { channel: id, cum_paid: 10, fee: 1, transaction: Digest([3; 32]) };
    for entry in
        [Entry::Claim(&claim(30, 1)), paid, Entry::Closing { channel: id, refund_from: NOW }]
    {
        assert!(matches!(ledger.record(&entry, NOW), Ok(Recorded::New { .. })));
        assert_eq!(schema(&path, Side::Payee), OLDEST_SCHEMA, "{entry:?}");
    }
    let same = Entry::NotPaid { channel: id, cum_paid: 10 };
    assert_eq!(ledger.record(&same, NOW), Ok(Recorded::Known));
    assert_eq!(schema(&path, Side::Payee), OLDEST_SCHEMA);
    ledger.record(&Entry::NotPaid { channel: id, cum_paid: 9 }, NOW).unwrap();
    assert_eq!(schema(&path, Side::Payee), SCHEMA_VERSION);
}

#[test]
fn what_a_payer_remembers_of_a_request_and_a_proof_need_the_newest_schema() {
    let (request, id) = (RequestId([1; 16]), channel());
    let claim = claim(30, 1);
    let begun = Entry::Begun { channel: id, request, worst: 30 };
    let proof = Entry::Overcharge { claim: &claim, accounted: 20, asked: crate::ASKED };
    for entry in [begun, proof] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("l");
        {
            let ledger = Ledger::open(&path, Side::Payer).unwrap();
            crate::open_channel(&ledger);
            ledger.record(&Entry::Cap(&crate::cap(100)), NOW).unwrap();
            ledger
                .record(
                    &Entry::Request { channel: id, request: RequestId([2; 16]), amount: 1 },
                    NOW,
                )
                .unwrap();
        }
        assert_eq!(schema(&path, Side::Payer), OLDEST_SCHEMA);
        Ledger::open(&path, Side::Payer).unwrap().record(&entry, NOW).unwrap();
        assert_eq!(schema(&path, Side::Payer), SCHEMA_VERSION, "{entry:?}");
    }
}

#[test]
fn refuses_the_ledger_of_the_other_side() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    drop(Ledger::open(&path, Side::Payer).unwrap());
    let (expected, got) = (Side::Payee, Side::Payer);
    assert_eq!(refused(&path), LedgerError::OtherSide { expected, got });
}

#[test]
fn refuses_a_second_payer_on_one_budget() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    let first = Ledger::open(&path, Side::Payer).unwrap();
    let second = Ledger::open(&path, Side::Payer).map(|_| ());
    assert_eq!(second, Err(LedgerError::InUse { path: path.clone() }));
    drop(first);
    assert!(Ledger::open(&path, Side::Payer).is_ok());
}

#[test]
fn two_processes_of_a_payee_write_one_after_the_other() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    let (host, watcher) =
        (Ledger::open(&path, Side::Payee).unwrap(), Ledger::open(&path, Side::Payee).unwrap());
    for (turn, n) in (100..120).enumerate() {
        let writer = if turn % 2 == 0 { &host } else { &watcher };
        let new = writer.record(&Entry::Claim(&claim(n, 1)), NOW).unwrap();
        assert!(matches!(new, Recorded::New { .. }));
    }
    for view in [host.view(), watcher.view()] {
        assert_eq!(view.channel(channel()).unwrap().unwrap().earned, 119);
    }
}

/// Any byte of the file, one at a time: the ledger says what it said before, or is refused by type.
#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    let good = fs::read(&path).unwrap();
    let expected = LedgerView::open(&path, Side::Payee).unwrap().channels().unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut refusals = 0;
    for at in used.iter().step_by(used.len() / CHANGES + 1) {
        let mut bad = good.clone();
        bad[*at] ^= 0x41;
        fs::write(&path, &bad).unwrap();
        match Ledger::open(&path, Side::Payee).and_then(|l| l.view().channels()) {
            Ok(channels) => assert_eq!(channels, expected, "byte {at}"),
            Err(error) => {
                let code = error.code();
                let typed = ["E-LEDGER-DAMAGED", "E-LEDGER-FOREIGN", "E-LEDGER-OPEN"];
                assert!(typed.contains(&code), "byte {at}: {error}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > CHANGES / 10, "only {refusals} changes were noticed");
}

#[test]
fn a_ledger_that_is_cut_short_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    let good = fs::read(&path).unwrap();
    for keep in [1, 100, 4096, good.len() / 2] {
        fs::write(&path, &good[..keep]).unwrap();
        let error = Ledger::open(&path, Side::Payee).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "E-LEDGER-DAMAGED", "{keep} bytes: {error}");
    }
}

#[test]
fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let path = ledger(&dir);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Changed bytes of one run.
const CHANGES: usize = 150;
