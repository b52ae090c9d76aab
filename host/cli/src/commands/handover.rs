//! Gives each life of a supervised worker what its owner's ledger says is owed, before anybody else
//! reaches it: otherwise it would begin to count at zero. Claims prove themselves; a worker that is not
//! paid has no place for them.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrysalis_client::{ClientError, HandedIn, hand_in_claims, is_no_room};
use chrysalis_ledger::{Channel, Ledger, LedgerError, Phase, Side};
use chrysalis_loader::StateDir;
use chrysalis_receipt::Claim;
use tokio::task::JoinHandle;

use crate::report::Report;

/// What is done with each life of the worker in `state`. What does not go as it should is told to
/// `report`, which is the loader's log.
pub(crate) fn each_life(
    state: StateDir,
    report: Report,
) -> impl Fn(SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync {
    let later = Arc::new(Mutex::default());
    move |address| {
        let (state, later) = (state.clone(), Arc::clone(&later));
        // What was left of the life before is left no longer.
        put(&later, None);
        Box::pin(async move {
            let claims = read(&state, report).await;
            let to = move |part| async move { hand_in_claims(&address.to_string(), part).await };
            let left = hand_over(claims, &to, report).await;
            if !left.is_empty() {
                // Its owner's payers wait for the worker meanwhile, and most of these for none.
                let rest = async move { hand_over_rest(left, &to, NO_ROOM_INTERVAL, report).await };
                put(&later, Some(Rest(tokio::spawn(rest))));
            }
        })
    }
}

/// Claims that a worker has no room for yet. Nobody hands them in once this is dropped.
struct Rest(JoinHandle<()>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn put(later: &Mutex<Option<Rest>>, rest: Option<Rest>) {
    *later.lock().unwrap_or_else(PoisonError::into_inner) = rest;
}

async fn read(state: &StateDir, report: Report) -> Vec<Claim> {
    loop {
        match claims(state, &report) {
            Ok(claims) => return claims,
            // Tried again: a worker told nothing begins at zero.
            Err(error) => report.note(&format!("{}: {error}; trying again", error.code())),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Hands in `claims` in order, a part at a time, until the worker has all of them or no room for a whole
/// part. Those that it has no room for are told, and returned.
async fn hand_over<F: Future<Output = HandedIn>>(
    claims: Vec<Claim>,
    to: &impl Fn(Vec<Claim>) -> F,
    report: Report,
) -> Vec<Claim> {
    let (mut coming, mut no_room) = (claims, Vec::new());
    while !coming.is_empty() {
        let rest = coming.split_off(PART.min(coming.len()));
        let part = coming.len();
        match hand_in(coming, to, report).await {
            Part::Done => coming = rest,
            Part::NotPaid => return Vec::new(),
            Part::NoRoom(left, error) => {
                let full = left.len() == part;
                no_room.extend(left);
                if !full {
                    coming = rest;
                    continue;
                }
                no_room.extend(rest);
                report.note(&format!(
                    "{} claims are left out for now, those of which least is owed: {}: {error}",
                    no_room.len(),
                    error.code()
                ));
                return no_room;
            }
            Part::Again(left) => {
                coming = left;
                coming.extend(rest);
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }
    no_room
}

/// Hands in what the worker had no room for: there is some for a claim as soon as its channel is served, or
/// another one is.
async fn hand_over_rest<F: Future<Output = HandedIn>>(
    mut left: Vec<Claim>,
    to: &impl Fn(Vec<Claim>) -> F,
    pause: Duration,
    report: Report,
) {
    while !left.is_empty() {
        tokio::time::sleep(pause).await;
        // The next part each time: one that is always full would keep the others out.
        let later = left.split_off(PART.min(left.len()));
        let again = match hand_in(left, to, report).await {
            Part::Done => Vec::new(),
            Part::NotPaid => return,
            Part::NoRoom(again, _) | Part::Again(again) => again,
        };
        left = later;
        left.extend(again);
    }
    report.note("the worker has every claim now");
}

/// What came of one part.
enum Part {
    Done,
    /// The worker takes no claims, and will not in this life.
    NotPaid,
    NoRoom(Vec<Claim>, ClientError),
    /// It did not answer, or was busy.
    Again(Vec<Claim>),
}

async fn hand_in<F: Future<Output = HandedIn>>(
    part: Vec<Claim>,
    to: &impl Fn(Vec<Claim>) -> F,
    report: Report,
) -> Part {
    let HandedIn { refused, left } = to(part).await;
    for (channel, error) in refused {
        let code = error.code();
        report.note(&format!("the worker does not go on from {channel}: {code}: {error}"));
    }
    match left {
        None => Part::Done,
        // Without a `[payment]` there is no such route.
        Some((_, ClientError::WorkerRefused { status: 404, .. })) => Part::NotPaid,
        Some((left, error)) if is_no_room(&error) => Part::NoRoom(left, error),
        Some((left, _)) => Part::Again(left),
    }
}

/// What is owed by every channel of the ledger; nothing while there is none. Of one whose record cannot be
/// read the last claim that was kept beside it: it proves itself.
///
/// All of them, settled or not: the contract pays the difference to what it paid before, so a worker
/// that begins below that works for nothing. A worker has room for a number of them only. First come
/// those that a chain has paid, which cost somebody something, of these and of the others the ones of which
/// most is not settled, then those that were used last; and last the closed.
fn claims(state: &StateDir, report: &Report) -> Result<Vec<Claim>, LedgerError> {
    let path = state.earnings();
    if !path.exists() {
        return Ok(Vec::new());
    }
    // For writing, because that repairs what a killed supervisor left.
    let view = Ledger::open(&path, Side::Payee)?.view();
    let (mut damaged, mut channels) = (Vec::new(), Vec::new());
    for channel in view.each_channel()? {
        match channel {
            Ok(channel) => channels.push(channel),
            Err(error) => {
                let claim = match &error {
                    LedgerError::DamagedChannel { channel, .. } => view.latest_claim(*channel),
                    _ => Ok(None),
                };
                let claim = claim.ok().flatten();
                let what =
                    if claim.is_some() { "goes on from its last claim" } else { "is left out" };
                report.note(&format!("a channel {what}: {}: {error}", error.code()));
                damaged.extend(claim);
            }
        }
    }
    channels.sort_by_key(order);
    // What the damaged ones settled nobody knows; no payer damages a record to be the first here.
    Ok(damaged.into_iter().chain(channels.into_iter().filter_map(|c| c.claim)).collect())
}

fn order(channel: &Channel) -> impl Ord + use<> {
    let (never_paid, unsettled) = (channel.settled == 0, Reverse(channel.unsettled()));
    (channel.phase == Phase::Closed, never_paid, unsettled, Reverse(channel.last))
}

/// Claims that are handed in at once. A worker with no room for any of so many has none for the next.
const PART: usize = 128;
/// Between two parts, where the worker has no room.
const NO_ROOM_INTERVAL: Duration = Duration::from_secs(10);
/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrysalis_ledger::Entry;
    use chrysalis_receipt::{
        ChannelTerms, MAX_CLAIMED, MeterBook, MeterKey, MeterPublicKey, MeterState, Payee,
        PayerKey, PayerPublicKey, ReceiptError, Settlement, TermsParts,
    };
    use chrysalis_wire::{Digest, NetworkId, UnixTime};
    use zeroize::Zeroizing;

    use super::*;

    fn claim(salt: u64) -> Claim {
        owing(salt, 9)
    }

    fn meter() -> MeterKey {
        MeterKey::from_seed(&Zeroizing::new([0x11; 32]))
    }

    fn owing(salt: u64, cum_amount: u128) -> Claim {
        let payer = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&payer.public()).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: 86_400,
            min_settle: 50_000_000,
            salt,
        })
        .unwrap();
        let channel = terms.id(NetworkId::TESTNET).unwrap();
        let meter = meter();
        let named = MeterPublicKey::parse(&meter.public()).unwrap();
        let cap = payer.sign(channel, named, cum_amount).unwrap();
        let none = Digest([0; 32]);
        let issued_at = UnixTime(1_795_000_000);
        let state = MeterState {
            blind: [0; 16],
            count: 1,
            cum_units: 1,
            issued_at,
            prev: none,
            log_root: none,
        };
        let settlement = Settlement { channel, cum_amount, state };
        Claim::new(terms, cap, meter.sign_settlement(settlement).unwrap()).unwrap()
    }

    #[test]
    fn settled_channels_come_first_then_larger_sums_then_later_ones_and_closed_ones_last() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let ledger = Ledger::open(&state.earnings(), Side::Payee).unwrap();
        for (salt, cum) in [(1, 9), (2, 9), (3, 9), (4, 9), (5, 10)] {
            ledger.record(&Entry::Claim(&owing(salt, cum)), UnixTime(100 + salt)).unwrap();
        }
        let channel = |salt| claim(salt).channel();
        ledger.record(&Entry::Closed { channel: channel(1) }, UnixTime(200)).unwrap();
        let paid =
            Entry::Paid { channel: channel(3), cum_paid: 9, fee: 0, transaction: Digest([1; 32]) };
        ledger.record(&paid, UnixTime(200)).unwrap();
        drop(ledger);
        let report = Report::new(crate::report::Format::Text);
        let order = || -> Vec<u64> {
            claims(&state, &report).unwrap().iter().map(|claim| claim.terms().salt()).collect()
        };
        assert_eq!(order(), [3, 5, 4, 2, 1]);
        // The record of one is damaged: it goes on from the claim that is kept beside it.
        {
            let id = channel(4);
            let mode = redb::ConcurrencyMode::MultiWriter;
            let database =
                redb::Builder::new().set_concurrency_mode(mode).create(state.earnings()).unwrap();
            let tx = database.begin_write().unwrap();
            let key = [&id.network.0.to_be_bytes()[..], &id.account.0].concat();
            let channels = redb::TableDefinition::<&[u8], &[u8]>::new("channels");
            tx.open_table(channels).unwrap().insert(key.as_slice(), b"{}".as_slice()).unwrap();
            tx.commit().unwrap();
        }
        assert_eq!(order(), [4, 3, 5, 2, 1]);
    }

    /// What a worker says that has no room for `left`.
    fn answered(left: Vec<Claim>) -> HandedIn {
        let full = ClientError::WorkerRefused {
            status: 507,
            code: ReceiptError::ClaimsFull.code().to_owned(),
            message: "as many as it takes".to_owned(),
            next_step: String::new(),
            retry_after: None,
        };
        HandedIn { refused: vec![], left: (!left.is_empty()).then_some((left, full)) }
    }

    /// The book of a worker in its second life.
    fn book() -> MeterBook {
        let key = MeterKey::from_seed(&Zeroizing::new([0x12; 32]));
        let meter_key = MeterPublicKey::parse(&key.public()).unwrap();
        let (network, account) = (NetworkId::TESTNET, Digest([7; 32]));
        MeterBook::new(Payee { network, account, worker: 0, meter_key })
    }

    /// More channels than a worker has room for: it knows the largest sums, and is not kept from its payers.
    #[tokio::test]
    async fn of_five_thousand_channels_the_largest_sums_are_handed_in_and_the_others_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let report = Report::new(crate::report::Format::Text);
        let all: Vec<_> = (1..=5_000).map(|n| owing(n, n.into())).collect();
        {
            let ledger = Ledger::open(&state.earnings(), Side::Payee).unwrap();
            let entries: Vec<_> = all.iter().map(Entry::Claim).collect();
            ledger.record_all(&entries, UnixTime(100)).unwrap();
        }
        let claims = claims(&state, &report).unwrap();
        assert!(claims.iter().map(Claim::cum_amount).eq((1..=5_000).rev()), "the largest first");
        let (book, tried) = (Mutex::new(book()), Mutex::new(0));
        let to = async |part: Vec<Claim>| {
            *tried.lock().unwrap() += part.len();
            let mut book = book.lock().unwrap();
            let mut resume = |claim: &Claim| book.resume(&claim.clone().verify().unwrap());
            answered(part.into_iter().filter(|claim| resume(claim).is_err()).collect())
        };
        let left = hand_over(claims, &to, report).await;
        let room = MAX_CLAIMED as u128;
        assert!(
            left.iter().map(Claim::cum_amount).eq((1..=5_000 - room).rev()),
            "no room for these"
        );
        assert_eq!(*tried.lock().unwrap(), MAX_CLAIMED + PART, "and no more were tried");
        let book = book.lock().unwrap();
        for claim in &all {
            let owed = claim.cum_amount();
            let known = if owed > 5_000 - room { owed } else { 0 };
            assert_eq!(book.standing(&claim.channel().account).0, known);
        }
    }

    #[tokio::test]
    async fn claims_without_room_are_tried_a_part_at_a_time_and_handed_in_as_there_is_some() {
        let left: Vec<_> = (0..300).map(claim).collect();
        let (tried, known) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let to = async |mut part: Vec<Claim>| {
            let mut tried = tried.lock().unwrap();
            tried.push(part.len());
            let room = match tried.len() {
                ..=3 => 0,
                4 => 10,
                _ => PART,
            };
            let left = part.split_off(part.len().min(room));
            known.lock().unwrap().extend(part.iter().map(|claim| claim.terms().salt()));
            answered(left)
        };
        let report = Report::new(crate::report::Format::Text);
        hand_over_rest(left, &to, Duration::ZERO, report).await;
        assert_eq!(*tried.lock().unwrap(), [PART, PART, PART, PART, PART, PART, 34]);
        let mut known = known.lock().unwrap().clone();
        known.sort_unstable();
        assert!(known.into_iter().eq(0..300), "each once");
    }
}
