//! Gives each life of a supervised worker what its owner's ledger says is owed, before anybody else
//! reaches it: otherwise it would begin to count at zero. Claims prove themselves; a worker that is not
//! paid has no place for them.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use chrysalis_client::{ClientError, HandedIn, hand_in_claims};
use chrysalis_ledger::{Channel, Ledger, LedgerError, Phase, Side};
use chrysalis_loader::StateDir;
use chrysalis_receipt::Claim;

use crate::report::Report;

/// What is done with each life of the worker in `state`. What does not go as it should is told to
/// `report`, which is the loader's log.
pub(crate) fn each_life(
    state: StateDir,
    report: Report,
) -> impl Fn(SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync {
    move |address| Box::pin(hand_over(state.clone(), address, report))
}

async fn hand_over(state: StateDir, address: SocketAddr, report: Report) {
    let mut claims = loop {
        match claims(&state, &report) {
            Ok(claims) => break claims,
            // Tried again: a worker told nothing begins at zero.
            Err(error) => report.note(&format!("{}: {error}; trying again", error.code())),
        }
        tokio::time::sleep(INTERVAL).await;
    };
    let mut told = None;
    while !claims.is_empty() {
        let HandedIn { refused, left } = hand_in_claims(&address.to_string(), claims).await;
        for (channel, error) in refused {
            let code = error.code();
            report.note(&format!("the worker does not go on from {channel}: {code}: {error}"));
        }
        claims = match left {
            // Without a `[payment]` there is no such route, and there will be none in this life.
            None | Some((_, ClientError::WorkerRefused { status: 404, .. })) => return,
            Some((left, ClientError::PaymentRequired { code, message, .. })) => {
                let count = left.len();
                if told.replace(count) != Some(count) {
                    report.note(&format!("{count} claims are left for later: {code}: {message}"));
                }
                // There is room for a claim as soon as its channel is served.
                tokio::time::sleep(NO_ROOM_INTERVAL).await;
                left
            }
            Some((left, _)) => left,
        };
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is owed by every channel of the ledger; nothing while there is none. Of one whose record cannot be
/// read the last claim that was kept beside it: it proves itself.
///
/// All of them, settled or not: the contract pays the difference to what it paid before, so a worker
/// that begins below that works for nothing. A worker has room for a number of them only. First come
/// those that a chain has paid and the older ones, which cost somebody something, and last the closed.
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
    (channel.phase == Phase::Closed, Reverse(channel.settled), channel.first)
}

/// Besides, where the worker has no room.
const NO_ROOM_INTERVAL: Duration = Duration::from_secs(10);
/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrysalis_ledger::Entry;
    use chrysalis_receipt::{
        ChannelTerms, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey, Settlement,
        TermsParts,
    };
    use chrysalis_wire::{Digest, NetworkId, UnixTime};
    use zeroize::Zeroizing;

    use super::*;

    fn claim(salt: u64) -> Claim {
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
        let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
        let cap = payer.sign(channel, MeterPublicKey::parse(&meter.public()).unwrap(), 9).unwrap();
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
        let settlement = Settlement { channel, cum_amount: 9, state };
        Claim::new(terms, cap, meter.sign_settlement(settlement).unwrap()).unwrap()
    }

    #[test]
    fn settled_channels_come_first_then_older_ones_and_closed_ones_last() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let ledger = Ledger::open(&state.earnings(), Side::Payee).unwrap();
        for salt in 1..=4u64 {
            ledger.record(&Entry::Claim(&claim(salt)), UnixTime(100 + salt)).unwrap();
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
        assert_eq!(order(), [3, 2, 4, 1]);
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
        assert_eq!(order(), [4, 3, 2, 1]);
    }
}
