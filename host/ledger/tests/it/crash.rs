//! Processes that are killed while they record. What a killed process had acknowledged is in the
//! ledger, nothing is in it twice, and its sums are those of its events.
//!
//! A kill takes the process and leaves the kernel: this shows that no entry is acknowledged before its
//! commit and that an interrupted commit leaves the file whole. That a commit outlives a loss of power
//! is what `Durability::Immediate` asks of the disk, and is not shown here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chrysalis_ledger::{Channel, Entry, EventKind, Ledger, Recorded, Side};
use chrysalis_wire::RequestId;
use tempfile::TempDir;

use crate::{NOW, cap, channel, claim, open_channel};

#[test]
fn a_killed_payer_loses_no_acknowledged_entry_and_counts_none_twice() {
    kill_often(Side::Payer);
}

#[test]
fn a_killed_payee_loses_no_acknowledged_entry_and_counts_none_twice() {
    kill_often(Side::Payee);
}

fn kill_often(side: Side) {
    let kills = std::env::var(KILLS).map_or(DEFAULT_KILLS, |text| text.parse().unwrap());
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ side as u64);
    let mut acknowledged = 0;
    let mut interrupted = 0;
    for _ in 0..kills {
        // Some before the file is open, most after a few entries, all at no particular moment.
        let entries = random.below(12);
        let pause = Duration::from_micros(random.below(4_000));
        let last = run_and_kill(&path, side, entries, pause);
        acknowledged = acknowledged.max(last);
        if path.exists() {
            let recorded = check(&path, side, acknowledged);
            interrupted += u64::from(recorded > acknowledged);
        }
    }
    println!("{kills} kills, {acknowledged} acknowledged, {interrupted} between commit and word");
    assert!(acknowledged > kills / 2, "the children were killed before they did anything");
}

/// Starts a child and kills it after it acknowledged `entries` and `pause` more went by. Returns the
/// last number it acknowledged.
fn run_and_kill(path: &Path, side: Side, entries: u64, pause: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .env(CHILD_SIDE, side.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut last = 0;
    let mut read = |last: &mut u64| {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        // A line the kill cut short acknowledges nothing.
        if let Some((_, number)) = line.split_once(ACK)
            && let Some(number) = number.strip_suffix('\n')
        {
            *last = number.parse().unwrap();
        }
        true
    };
    let until = entries;
    let mut seen = 0;
    while seen < until {
        let before = last;
        assert!(read(&mut last), "the child ended by itself");
        seen += u64::from(last != before);
    }
    std::thread::sleep(pause);
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), None, "the child ended by itself");
    // What it said before it died still counts.
    while read(&mut last) {}
    last
}

/// Opens the ledger as whoever comes back after the crash, and compares it with what was
/// acknowledged. Returns the number of the last entry in it.
fn check(path: &Path, side: Side, acknowledged: u64) -> u64 {
    let ledger = Ledger::open(path, side).unwrap();
    let view = ledger.view();
    let events = view.events(0, usize::MAX).unwrap();
    for (event, seq) in events.iter().zip(1..) {
        assert_eq!(event.seq, seq, "a gap");
    }
    let Some(c) = view.channel(channel()).unwrap() else {
        assert_eq!(acknowledged, 0);
        return 0;
    };
    let recorded = number(&c, side);
    assert!(recorded >= acknowledged, "{acknowledged} was acknowledged, {recorded} is there");
    assert!(recorded <= acknowledged + 1, "{recorded} is there, {acknowledged} was acknowledged");
    let (mut requests, mut receipted, mut earned) = (0, 0, 0);
    for event in &events {
        match &event.kind {
            EventKind::Request { amount, .. } => {
                requests += 1;
                receipted += amount.0;
            }
            EventKind::Earned { amount, .. } => earned += amount.0,
            _ => {}
        }
    }
    assert_eq!((receipted, earned), (c.receipted, c.earned), "sums are those of the events");
    if side == Side::Payer {
        assert_eq!(c.requests, requests);
        assert_eq!(c.receipted, u128::from(recorded) * AMOUNT, "each request counts once");
        assert!(c.covered >= u128::from(acknowledged) * AMOUNT);
    } else {
        assert_eq!(c.earned, u128::from(recorded) * AMOUNT);
        assert_eq!(c.claim.unwrap().cum_amount(), c.earned);
    }
    recorded
}

/// Entries are numbered from 1; the ledger says which was the last.
fn number(c: &Channel, side: Side) -> u64 {
    match side {
        Side::Payer => c.requests,
        Side::Payee => u64::try_from(c.earned / AMOUNT).unwrap(),
    }
}

/// What is killed: records one entry after the other, for ever, and says so after each.
#[test]
#[ignore = "the process that the tests of this file start and kill"]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let side =
        if std::env::var(CHILD_SIDE).unwrap() == "payer" { Side::Payer } else { Side::Payee };
    let ledger = Ledger::open(Path::new(&path), side).unwrap();
    open_channel(&ledger);
    let last = ledger.view().channel(channel()).unwrap().map_or(0, |c| number(&c, side));
    let mut out = std::io::stdout();
    // The last entry first: the process before may have died before it could say so.
    for n in last.max(1).. {
        match side {
            Side::Payer => pay(&ledger, n),
            Side::Payee => earn(&ledger, n),
        }
        writeln!(out, "\n{ACK}{n}").unwrap();
        out.flush().unwrap();
    }
}

fn pay(ledger: &Ledger, n: u64) {
    ledger.record(&Entry::Cap(&cap(u128::from(n) * AMOUNT)), NOW).unwrap();
    let mut request = RequestId([0; 16]);
    request.0[8..].copy_from_slice(&n.to_be_bytes());
    let entry = Entry::Request { channel: channel(), request, amount: AMOUNT };
    ledger.record(&entry, NOW).unwrap();
    assert_eq!(ledger.record(&entry, NOW), Ok(Recorded::Known));
    if n.is_multiple_of(4) {
        ledger.record(&Entry::Claim(&claim(u128::from(n) * AMOUNT, n)), NOW).unwrap();
    }
}

fn earn(ledger: &Ledger, n: u64) {
    ledger.record(&Entry::Claim(&claim(u128::from(n) * AMOUNT, n)), NOW).unwrap();
}

/// SplitMix64: the moments differ from kill to kill and are the same from run to run, as far as a
/// scheduler allows.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// How many kills; more than the default in `scripts/exhaustive`.
const KILLS: &str = "CHRYSALIS_LEDGER_KILLS";
const DEFAULT_KILLS: u64 = 20;
const CHILD: &str = "CHRYSALIS_LEDGER_CHILD";
const CHILD_SIDE: &str = "CHRYSALIS_LEDGER_CHILD_SIDE";
const ACK: &str = "recorded ";
const AMOUNT: u128 = 10;
