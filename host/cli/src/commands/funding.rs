//! Vouches for deposits: when a supervised worker wants to serve a channel, looks at it on the chain and
//! signs what is there. The key is the owner's and moves no coin; servers of the chain are strangers, so
//! the least of what they say counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrysalis_chain::{Patience, Toncenter};
use chrysalis_client::{ClientError, hand_in_note};
use chrysalis_loader::{FundingWanted, StateDir};
use chrysalis_receipt::{FundingKey, MeterPublicKey, SignedNote};
use chrysalis_ton::{ChannelConfig, Gram};
use chrysalis_watch::{NOTE_SECONDS, deposit, note};
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::{Digest, NetworkId, UnixMillis, UnixTime, WorkerManifest};
use clap::Args;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::commands::chain::{Chain, absolute};
use crate::commands::pay::seed;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::report::Report;

/// How an owner vouches for her payers' deposits.
#[derive(Debug, Args)]
pub(crate) struct Funding {
    /// Look at the chain for payers' deposits and vouch for them with this key, the one that the manifest
    /// names (`manifest init --funding-key-file`).
    #[arg(long, value_name = "FILE")]
    funding_key_file: Option<PathBuf>,
    #[command(flatten)]
    chain: Chain,
    /// Ask this server too, without a key. The least that any of them shows counts, and nothing that less
    /// than two show.
    #[arg(long, value_name = "URL", requires = "funding_key_file")]
    also: Vec<String>,
}

impl Funding {
    /// The same options for the supervisor, which runs in another directory. Nothing if there is nothing
    /// to vouch for; a mistake is told before anything is started.
    pub(crate) fn forward(
        &self,
        manifest: &Path,
        context: &Context,
    ) -> Result<Vec<String>, Failure> {
        // A manifest that cannot be read is refused by the worker, with its own words.
        let manifest = manifest_of(manifest).ok();
        let named = manifest.and_then(|m| m.payment).and_then(|payment| payment.funding_key);
        let Some(path) = &self.funding_key_file else {
            if named.is_some() {
                context.report.note(
                    "the manifest names a funding key: without --funding-key-file nobody vouches for \
                     deposits here, and no paid request is served",
                );
            }
            return Ok(vec![]);
        };
        let own = Digest(FundingKey::from_seed(&seed(path)?).public());
        if named != Some(own) {
            let found = named.map_or_else(|| "none".to_owned(), |key| key.to_string());
            let message = "the manifest does not name this funding key";
            return Err(Failure::new(Class::Usage, "E-FUNDING-KEY", message)
                .compared(found, own)
                .next("write the manifest with `manifest init --funding-key-file` and this file")
                .in_file(path));
        }
        self.servers()?;
        let mut options = vec!["--funding-key-file".to_owned(), absolute(path)?];
        options.extend(self.chain.forward()?);
        options.extend(self.also.iter().flat_map(|url| ["--also".to_owned(), url.clone()]));
        Ok(options)
    }

    fn servers(&self) -> Result<Vec<Toncenter>, Failure> {
        let servers = self.chain.open_with(&self.also)?;
        Ok(servers.into_iter().map(|server| server.with_patience(PATIENCE)).collect())
    }

    /// Who vouches for the worker with this manifest, if anybody does.
    pub(crate) fn voucher(
        &self,
        manifest: &Path,
        context: &Context,
    ) -> Result<Option<Voucher>, Failure> {
        let Some(path) = &self.funding_key_file else { return Ok(None) };
        let key = FundingKey::from_seed(&seed(path)?);
        let (network, servers) = (manifest_of(manifest)?.network, self.servers()?);
        let (clock, report) = (context.clock, context.report);
        Ok(Some(Voucher { key, network, servers, clock, report }))
    }
}

fn manifest_of(path: &Path) -> Result<WorkerManifest, Failure> {
    Ok(WorkerManifest::parse(&files::read(path, MAX_MANIFEST_BYTES)?)?)
}

/// Vouches for the deposits of one worker's payers.
pub(crate) struct Voucher {
    key: FundingKey,
    network: NetworkId,
    servers: Vec<Toncenter>,
    clock: fn() -> UnixMillis,
    report: Report,
}

/// A channel that was asked for.
struct Vouched {
    wanted: FundingWanted,
    asked: Instant,
    looked: Option<Instant>,
    /// When to look at it the next time; `None` until somebody asks again, or while it is looked at.
    due: Option<Instant>,
    /// Time of the last note, which the next one has to be after.
    seen_at: UnixTime,
    /// What it was last seen to cover; a look that fails takes nothing back.
    covers: Option<u128>,
    /// Looks in a row at which it covered nothing, or which failed.
    empty: u32,
    /// Code of the worker's last refusal of its note, which the log has then.
    refused: Option<String>,
}

impl Vouched {
    /// These go first among those that are due, and the others in the order in which they are: of channels that
    /// are not there, which cost nothing, as many new ones can be made up as wait for one whose deposit came late.
    const fn has_coins(&self) -> bool {
        matches!(self.covers, Some(1..))
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.asked) >= KEPT
    }

    /// The time after a look before which it is not looked at again, whoever asks.
    fn pause(&self) -> Duration {
        AGAIN.saturating_mul(1 << self.empty.min(MAX_DOUBLINGS))
    }
}

/// What came of a look.
struct Looked {
    seen_at: UnixTime,
    saw: Saw,
    /// When to look again, if nobody asks.
    again: Option<Duration>,
}

/// What a look saw.
enum Saw {
    Covers(u128),
    /// Nothing: the servers did not say.
    Nothing,
    /// A note that the worker does not take: its code, and why.
    Refused(String, String),
}

/// Answers what the worker asks, until it is dropped.
pub(crate) fn vouch(
    voucher: Voucher,
    asked: mpsc::Receiver<FundingWanted>,
    state: StateDir,
) -> Watching {
    Watching(tokio::spawn(voucher.run(asked, state)))
}

/// Ends its task when dropped.
pub(crate) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Voucher {
    async fn run(self, mut asked: mpsc::Receiver<FundingWanted>, state: StateDir) {
        let voucher = Arc::new(self);
        let mut channels: Vec<Vouched> = Vec::new();
        let mut looks = JoinSet::new();
        // One copy goes with each look at a channel that had no coins yet.
        let unproven = Arc::new(());
        let mut full: Option<Instant> = None;
        loop {
            let now = Instant::now();
            channels.retain(|channel| channel.has_coins() || !channel.is_idle(now));
            let room = |looks: &JoinSet<_>| Room {
                any: looks.len() < LOOKS_AT_ONCE,
                // Less the one that stays here.
                unproven: Arc::strong_count(&unproven) <= UNPROVEN_AT_ONCE,
            };
            while let Some((wanted, seen_at, proven)) = next(&mut channels, room(&looks), now) {
                let (voucher, state) = (Arc::clone(&voucher), state.clone());
                let place = (!proven).then(|| Arc::clone(&unproven));
                looks.spawn(async move {
                    let _place = place;
                    let looked = voucher.look(&wanted, seen_at, &state).await;
                    (wanted, looked)
                });
            }
            let room = room(&looks);
            let due = channels.iter().filter(|channel| room.is_for(channel));
            let due = due.filter_map(|channel| channel.due).min();
            tokio::select! {
                wanted = asked.recv() => match wanted {
                    Some(wanted) => {
                        let now = Instant::now();
                        let mut free = ask(&mut channels, wanted, now);
                        while let Ok(wanted) = asked.try_recv() {
                            free &= ask(&mut channels, wanted, now);
                        }
                        let silent = full.is_none_or(|told| now - told >= TOLD_INTERVAL);
                        if !free && silent {
                            full = Some(now);
                            voucher.report.note(&format!(
                                "more than {MAX_VOUCHED} channels with coins are wanted: nobody vouches \
                                 for those that cover least, and their payers are not served"
                            ));
                        }
                    }
                    None => return,
                },
                Some(done) = looks.join_next() => {
                    if let Ok((wanted, looked)) = done
                        && let Some(why) = note_look(&mut channels, &wanted, &looked, Instant::now())
                    {
                        let account = wanted.terms.id(voucher.network).map(|id| id.account);
                        let account = account.map_or_else(|_| String::new(), |id| format!(" for 0:{id}"));
                        voucher.report.note(&format!("the worker takes no note{account}: {why}"));
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Looks at one channel and hands in what is there.
    async fn look(&self, wanted: &FundingWanted, seen_at: UnixTime, state: &StateDir) -> Looked {
        // Two looks in one second, or a clock that was set back.
        let now = (self.clock)().seconds().max(UnixTime(seen_at.0.saturating_add(1)));
        let looked = |saw, again| Looked { seen_at: now, saw, again };
        let (covers, note) = match self.sign(wanted, now).await {
            Ok(signed) => signed,
            Err(failure) => {
                self.report.note(&format!("a deposit was not looked at: {failure}"));
                return looked(Saw::Nothing, Some(AGAIN));
            }
        };
        let Ok(Some(address)) = state.read_run().map(|run| run.and_then(|run| run.worker_address))
        else {
            return looked(Saw::Covers(covers), Some(AGAIN));
        };
        let again = match hand_in_note(&address, &note).await {
            // One that covers nothing is looked at when its payer asks again, and not before: anybody
            // can make up channels.
            Ok(()) if covers == 0 => None,
            Ok(()) => Some(LOOK_INTERVAL),
            Err(
                ClientError::PaymentRequired { code, message, .. }
                | ClientError::WorkerRefused { code, message, .. },
            ) => {
                let again = after_refusal(covers, &code);
                return looked(Saw::Refused(code, message), again);
            }
            Err(_) => Some(AGAIN),
        };
        looked(Saw::Covers(covers), again)
    }

    async fn sign(
        &self,
        wanted: &FundingWanted,
        now: UnixTime,
    ) -> Result<(u128, SignedNote), String> {
        let config = ChannelConfig::from_terms(&wanted.terms);
        let meter = MeterPublicKey::parse(&wanted.meter_key.0).map_err(|e| e.to_string())?;
        let account = config.id(self.network).map_err(|e| e.to_string())?.account;
        let seen = deposit(&self.servers, account, config.min_settle()).await;
        let seen = seen.map_err(|e| e.to_string())?;
        let covers = seen.covers;
        for error in &seen.unanswered {
            self.report.note(&format!("a server of the chain was left out: {error}"));
        }
        let note = note(&config, self.network, meter, &seen, now).map_err(|e| e.to_string())?;
        let signed = self.key.sign(note).map_err(|e| e.to_string())?;
        self.report.note(&format!("channel 0:{account} is seen to cover {}", Gram::of(covers)));
        Ok((covers, signed))
    }
}

/// Which looks have a place now.
#[derive(Clone, Copy)]
struct Room {
    any: bool,
    /// Also one at a channel that had no coins yet.
    unproven: bool,
}

impl Room {
    fn is_for(self, channel: &Vouched) -> bool {
        self.any && (self.unproven || channel.has_coins())
    }
}

/// The channel to look at now, if one is due and has room, and whether it had coins; it is not due again
/// before that look is over.
fn next(
    channels: &mut [Vouched],
    room: Room,
    now: Instant,
) -> Option<(FundingWanted, UnixTime, bool)> {
    let due = channels.iter_mut().filter(|channel| room.is_for(channel));
    let due = due.filter(|channel| channel.due.is_some_and(|due| due <= now));
    let channel = due.min_by_key(|channel| (!channel.has_coins(), channel.due))?;
    (channel.looked, channel.due) = (Some(now), None);
    Some((channel.wanted.clone(), channel.seen_at, channel.has_coins()))
}

/// Takes down what a look saw. What the worker said against a note is returned once, to be told.
fn note_look(
    channels: &mut [Vouched],
    wanted: &FundingWanted,
    looked: &Looked,
    now: Instant,
) -> Option<String> {
    let channel = channels.iter_mut().find(|channel| channel.wanted == *wanted)?;
    channel.seen_at = looked.seen_at;
    let mut tell = None;
    let again = match &looked.saw {
        &Saw::Covers(covers) => {
            channel.covers = Some(covers);
            channel.empty = if covers == 0 { channel.empty.saturating_add(1) } else { 0 };
            looked.again
        }
        // A stranger can use up what the servers answer in a second, and would have everybody forgotten.
        Saw::Nothing => {
            channel.empty = channel.empty.saturating_add(1);
            // Whoever waits for one that nobody has seen yet asks again.
            looked.again.filter(|_| channel.has_coins()).map(|again| again.max(channel.pause()))
        }
        Saw::Refused(code, message) => {
            (channel.covers, channel.empty) = (None, 0);
            if channel.refused.as_ref() != Some(code) {
                channel.refused = Some(code.clone());
                tell = Some(format!("{code}: {message}"));
            }
            looked.again
        }
    };
    // In use or not, its note does not end; but it is not worth a look twice a minute.
    let idle = channel.is_idle(now);
    let again = again.map(|again| now + if idle { again.max(IDLE_INTERVAL) } else { again });
    // Somebody may have asked meanwhile.
    channel.due = channel.due.into_iter().chain(again).min();
    tell
}

/// When a channel is looked at again whose note the worker does not take, if nobody asks. Whoever pays from it
/// should not have to wait for that, where clocks are set right or a place is free meanwhile. A note of an
/// earlier life of the worker it never takes.
fn after_refusal(covers: u128, code: &str) -> Option<Duration> {
    (covers > 0 && PASSING.contains(&code)).then_some(REFUSED_INTERVAL)
}

/// Notes that a channel is wanted: it is looked at now, or a pause after the last time. False if one that is
/// in use had to make room for it.
fn ask(channels: &mut Vec<Vouched>, wanted: FundingWanted, now: Instant) -> bool {
    if let Some(known) = channels.iter_mut().find(|channel| channel.wanted == wanted) {
        known.asked = now;
        let soonest = known.looked.map_or(now, |looked| now.max(looked + known.pause()));
        known.due = Some(known.due.map_or(soonest, |due| due.min(soonest)));
        return true;
    }
    let mut free = true;
    if channels.len() >= MAX_VOUCHED {
        // One without coins, which anybody can make up, while enough of them have a place; or else the one that
        // covers least: who asks for many without being served pays for each place as much as others do.
        let unproven = channels.iter().filter(|channel| !channel.has_coins()).count();
        let proven = unproven < UNPROVEN_PLACES;
        let some = channels.iter().enumerate().filter(|(_, c)| c.has_coins() == proven);
        let worth = |channel: &Vouched| (channel.covers.filter(|_| proven), channel.asked);
        if let Some((place, _)) = some.min_by_key(|(_, channel)| worth(channel)) {
            let out = channels.swap_remove(place);
            free = !proven || out.is_idle(now);
        }
    }
    channels.push(Vouched {
        wanted,
        asked: now,
        looked: None,
        due: Some(now),
        seen_at: UnixTime(0),
        covers: None,
        empty: 0,
        refused: None,
    });
    free
}

/// Shortest time between two looks at one channel; it doubles while it covers nothing or looks fail, so often.
const AGAIN: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 2;
/// How often a channel that is in use is looked at: so long a close request can go unseen here.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often one whose note the worker did not take, and why it may take the next one.
const REFUSED_INTERVAL: Duration = Duration::from_secs(60);
const PASSING: [&str; 3] = ["E-FUNDING-TIME", "E-FUNDING-OLD", "E-PAYMENT-FULL"];
/// How long it is looked at as often after the worker asked for it, and one that covers nothing at all.
const KEPT: Duration = Duration::from_secs(1_800);
/// How often it is looked at from then on: half of a note's time.
const IDLE_INTERVAL: Duration = Duration::from_secs(NOTE_SECONDS / 2);
/// Channels that are looked at at once, so that a slow answer about one does not delay the others.
const LOOKS_AT_ONCE: usize = 16;
/// Of them at channels that had no coins yet: those that have wait for no stranger's.
const UNPROVEN_AT_ONCE: usize = 8;
/// How often the log says that there is no place.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);
/// A server that does not answer is asked again at the next look: payers wait seconds.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(5),
    attempts: 2,
    first_wait: Duration::from_millis(300),
    max_wait: Duration::from_secs(1),
};
/// Most channels that are looked at.
const MAX_VOUCHED: usize = 256;
/// Of these places those that channels without coins have at least: each new one begins without.
const UNPROVEN_PLACES: usize = 32;
/// Channels that may wait to be looked at.
pub(crate) const WANTED_QUEUE: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use chrysalis_receipt::{ChannelTerms, PayerKey, PayerPublicKey, TermsParts};
    use zeroize::Zeroizing;

    use super::*;

    fn wanted(salt: u64) -> FundingWanted {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&key).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: 86_400,
            min_settle: 50_000_000,
            salt,
        });
        FundingWanted { meter_key: Digest([1; 32]), terms: terms.unwrap() }
    }

    #[test]
    fn a_channel_is_looked_at_at_once_and_then_no_sooner_than_a_second_later() {
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(1), now);
        assert_eq!(channels[0].due, Some(now));
        (channels[0].looked, channels[0].due) = (Some(now), None);
        ask(&mut channels, wanted(1), now);
        assert_eq!(channels[0].due, Some(now + AGAIN));
        assert_eq!(channels.len(), 1);
    }

    fn saw(channels: &mut [Vouched], salt: u64, covers: u128, now: Instant) {
        let again = (covers > 0).then_some(LOOK_INTERVAL);
        let looked = Looked { seen_at: UnixTime(1), saw: Saw::Covers(covers), again };
        note_look(channels, &wanted(salt), &looked, now);
    }

    fn failed(channels: &mut [Vouched], salt: u64, now: Instant) {
        let looked = Looked { seen_at: UnixTime(1), saw: Saw::Nothing, again: Some(AGAIN) };
        note_look(channels, &wanted(salt), &looked, now);
    }

    /// A look with room for all.
    fn look(channels: &mut [Vouched], now: Instant) -> Option<FundingWanted> {
        next(channels, Room { any: true, unproven: true }, now).map(|(wanted, ..)| wanted)
    }

    fn has(channels: &[Vouched], salt: u64) -> bool {
        channels.iter().any(|channel| channel.wanted == wanted(salt))
    }

    #[test]
    fn a_look_that_fails_takes_no_coins_back_and_waits_longer_each_time() {
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(1), now);
        look(&mut channels, now).unwrap();
        saw(&mut channels, 1, 7, now);
        let mut at = now + LOOK_INTERVAL;
        for wait in [2, 4, 4] {
            look(&mut channels, at).unwrap();
            failed(&mut channels, 1, at);
            assert!(channels[0].has_coins());
            assert_eq!(channels[0].due, Some(at + Duration::from_secs(wait)));
            at += Duration::from_secs(wait);
        }
        // Idle as well: its note is renewed once the servers answer again.
        let idle = now + KEPT;
        look(&mut channels, idle).unwrap();
        failed(&mut channels, 1, idle);
        assert!(channels[0].has_coins());
        assert_eq!(channels[0].due, Some(idle + IDLE_INTERVAL));
    }

    #[test]
    fn channels_that_nobody_saw_make_room_and_take_some_of_the_looks_only() {
        let (mut channels, now) = (vec![], Instant::now());
        for salt in 0..256 {
            assert!(ask(&mut channels, wanted(salt), now + Duration::from_millis(salt)));
        }
        let now = now + AGAIN;
        while let Some(looked) = look(&mut channels, now) {
            failed(&mut channels, looked.terms.salt(), now);
        }
        assert!(channels.iter().all(|channel| channel.due.is_none()), "nobody asked again");
        assert!(ask(&mut channels, wanted(400), now));
        assert!(has(&channels, 400) && !has(&channels, 0), "the one asked for longest ago");
        let full = Room { any: true, unproven: false };
        assert_eq!(next(&mut channels, full, now), None, "strangers' looks are all taken");
        look(&mut channels, now).unwrap();
        saw(&mut channels, 400, 7, now);
        let later = now + LOOK_INTERVAL;
        ask(&mut channels, wanted(1), now);
        assert_eq!(next(&mut channels, full, later), Some((wanted(400), UnixTime(1), true)));
    }

    #[test]
    fn where_all_places_are_taken_by_equal_coins_the_one_that_nobody_asked_for_longest_makes_room()
    {
        let (mut channels, now) = (vec![], Instant::now());
        for salt in 0..256 {
            ask(&mut channels, wanted(salt), now);
            saw(&mut channels, salt, 7, now);
        }
        ask(&mut channels, wanted(0), now + AGAIN);
        let almost = now + KEPT - Duration::from_secs(1);
        assert!(!ask(&mut channels, wanted(400), almost), "it was in use, and that is told");
        assert!(ask(&mut channels, wanted(401), now + KEPT));
        assert!(has(&channels, 400) && has(&channels, 401) && has(&channels, 0));
        assert_eq!(channels.len(), MAX_VOUCHED);
    }

    /// They cost nothing but their deposit, which goes back: for each a request that no note covers is enough.
    #[test]
    fn small_deposits_that_are_asked_for_all_the_time_keep_no_larger_one_out() {
        let (mut channels, now) = (vec![], Instant::now());
        for salt in 0..256 {
            ask(&mut channels, wanted(salt), now);
            saw(&mut channels, salt, if salt == 0 { 7 } else { 1 }, now);
        }
        let later = now + KEPT;
        for salt in 1..256 {
            ask(&mut channels, wanted(salt), later);
        }
        assert!(!ask(&mut channels, wanted(400), later));
        assert!(has(&channels, 400) && has(&channels, 0), "in steady use nobody asks for it");
        saw(&mut channels, 400, 7, later);
        for salt in 1_000..1_300 {
            ask(&mut channels, wanted(salt), later);
        }
        let coins = channels.iter().filter(|channel| channel.has_coins()).count();
        assert_eq!(coins, MAX_VOUCHED - UNPROVEN_PLACES, "made up ones take those places, no more");
        assert!(has(&channels, 400) && has(&channels, 0));
    }

    #[test]
    fn channels_that_are_made_up_take_no_place_and_no_look_from_one_with_coins() {
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(0), now);
        assert_eq!(look(&mut channels, now), Some(wanted(0)));
        saw(&mut channels, 0, 7, now);
        let later = now + LOOK_INTERVAL;
        for salt in 1..=300 {
            ask(&mut channels, wanted(salt), now);
        }
        assert_eq!(channels.len(), MAX_VOUCHED);
        // It is looked at first, though all of them were due before it.
        assert_eq!(look(&mut channels, later), Some(wanted(0)));
        let made_up = look(&mut channels, later).unwrap();
        saw(&mut channels, made_up.terms.salt(), 0, later);
        assert!(ask(&mut channels, wanted(400), later) && has(&channels, 0));
    }

    #[test]
    fn a_refusal_of_the_worker_is_told_once_for_each_channel_and_code() {
        let (mut channels, now) = (vec![], Instant::now());
        for salt in 1..=2 {
            ask(&mut channels, wanted(salt), now);
        }
        let mut told = |salt, code: &str| {
            let saw = Saw::Refused(code.to_owned(), "by its clock".to_owned());
            let looked = Looked { seen_at: UnixTime(1), saw, again: None };
            note_look(&mut channels, &wanted(salt), &looked, now)
        };
        assert_eq!(told(1, "E-FUNDING-TIME").as_deref(), Some("E-FUNDING-TIME: by its clock"));
        assert_eq!(told(1, "E-FUNDING-TIME"), None);
        assert!(told(1, "E-FUNDING-OLD").is_some() && told(2, "E-FUNDING-TIME").is_some());
    }

    #[test]
    fn a_channel_with_coins_whose_note_was_refused_is_looked_at_again_though_nobody_asks() {
        let (note_time, other_meter) = ("E-FUNDING-TIME", "E-CAP-METER");
        assert_eq!(after_refusal(0, note_time), None, "anybody can make it up");
        assert_eq!(after_refusal(7, other_meter), None, "of an earlier life, for good");
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(1), now);
        look(&mut channels, now).unwrap();
        let saw = Saw::Refused(note_time.to_owned(), String::new());
        let looked = Looked { seen_at: UnixTime(1), saw, again: after_refusal(7, note_time) };
        note_look(&mut channels, &wanted(1), &looked, now);
        assert_eq!(look(&mut channels, now + REFUSED_INTERVAL - AGAIN), None);
        assert_eq!(look(&mut channels, now + REFUSED_INTERVAL), Some(wanted(1)));
    }

    /// It was looked at before its deposit was there; strangers ask for new ones all the time.
    #[test]
    fn a_channel_that_covered_nothing_yet_has_its_turn_among_new_ones() {
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(0), now);
        look(&mut channels, now).unwrap();
        saw(&mut channels, 0, 0, now);
        let later = now + AGAIN * 2;
        ask(&mut channels, wanted(0), later);
        for salt in 1..100 {
            ask(&mut channels, wanted(salt), later + Duration::from_millis(salt));
        }
        assert_eq!(look(&mut channels, later + AGAIN), Some(wanted(0)));
    }

    #[test]
    fn a_channel_that_covers_nothing_waits_longer_each_time_and_four_seconds_at_most() {
        let (mut channels, mut now) = (vec![], Instant::now());
        let mut waits = vec![];
        for _ in 0..4 {
            ask(&mut channels, wanted(1), now);
            let due = channels[0].due.unwrap();
            waits.push((due - now).as_secs());
            now = due;
            look(&mut channels, now).unwrap();
            assert_eq!(look(&mut channels, now), None, "it is being looked at");
            saw(&mut channels, 1, 0, now);
            assert_eq!(channels[0].due, None);
        }
        assert_eq!(waits, [0, 2, 4, 4]);
    }

    #[test]
    fn a_channel_with_coins_is_looked_at_on_before_its_note_ends_though_nobody_asks() {
        let (mut channels, now) = (vec![], Instant::now());
        ask(&mut channels, wanted(1), now);
        let idle = now + KEPT;
        for (at, wait) in [(now, LOOK_INTERVAL), (idle, IDLE_INTERVAL)] {
            channels[0].due = None;
            saw(&mut channels, 1, 7, at);
            assert_eq!(channels[0].due, Some(at + wait));
        }
    }
}
