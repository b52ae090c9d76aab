//! Vouches for deposits: when a supervised worker wants to serve a channel, looks at it on the chain and
//! signs what is there. The key is the owner's and moves no coin; servers of the chain are strangers, so
//! the least of what they say counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrysalis_chain::Toncenter;
use chrysalis_client::{ClientError, hand_in_note};
use chrysalis_loader::{FundingWanted, StateDir};
use chrysalis_receipt::{FundingKey, MeterPublicKey, SignedNote};
use chrysalis_ton::{ChannelConfig, Gram};
use chrysalis_watch::{Deposit, deposit, note};
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::{Digest, NetworkId, UnixMillis, UnixTime, WorkerManifest};
use clap::Args;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::commands::chain::{Chain, absolute};
use crate::commands::handover::Watching;
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
    /// Ask this server too, without a key. The least that any of them shows counts.
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
        let mut servers = vec![self.chain.open()?];
        for url in &self.also {
            servers.push(self.chain.another(url)?);
        }
        Ok(servers)
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
    /// When to look at it the next time; `None` until somebody asks again.
    due: Option<Instant>,
    /// Time of the last note, which the next one has to be after.
    seen_at: UnixTime,
}

/// Answers what the worker asks, until it is dropped.
pub(crate) fn vouch(
    voucher: Voucher,
    asked: mpsc::Receiver<FundingWanted>,
    state: StateDir,
) -> Watching {
    Watching::of(tokio::spawn(voucher.run(asked, state)))
}

impl Voucher {
    async fn run(self, mut asked: mpsc::Receiver<FundingWanted>, state: StateDir) {
        let mut channels: Vec<Vouched> = Vec::new();
        loop {
            let due = channels.iter().filter_map(|channel| channel.due).min();
            tokio::select! {
                wanted = asked.recv() => match wanted {
                    Some(wanted) => ask(&mut channels, wanted, Instant::now()),
                    None => return,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            let now = Instant::now();
            channels.retain(|channel| now.duration_since(channel.asked) < KEPT);
            for channel in &mut channels {
                if channel.due.is_some_and(|due| due <= now) {
                    channel.looked = Some(now);
                    channel.due = self.look(channel, &state).await.map(|wait| now + wait);
                }
            }
        }
    }

    /// Looks at one channel and hands in what is there. Returns when to look again.
    async fn look(&self, channel: &mut Vouched, state: &StateDir) -> Option<Duration> {
        let config = ChannelConfig::from_terms(&channel.wanted.terms);
        let (covers, note) = match self.sign(channel, &config).await {
            Ok(signed) => signed,
            Err(failure) => {
                self.report.note(&format!("a deposit was not looked at: {failure}"));
                return Some(AGAIN);
            }
        };
        let Ok(Some(address)) = state.read_run().map(|run| run.and_then(|run| run.worker_address))
        else {
            return Some(AGAIN);
        };
        match hand_in_note(&address, &note).await {
            // One that covers nothing is looked at when its payer asks again, and not before: anybody
            // can make up channels.
            Ok(()) if covers == 0 => None,
            Ok(()) => Some(LOOK_INTERVAL),
            // Of an earlier life of the worker; whoever wants it served asks again.
            Err(ClientError::PaymentRequired { .. } | ClientError::WorkerRefused { .. }) => None,
            Err(_) => Some(AGAIN),
        }
    }

    async fn sign(
        &self,
        channel: &mut Vouched,
        config: &ChannelConfig,
    ) -> Result<(u128, SignedNote), String> {
        let meter =
            MeterPublicKey::parse(&channel.wanted.meter_key.0).map_err(|e| e.to_string())?;
        let account = config.id(self.network).map_err(|e| e.to_string())?.account;
        let seen = deposit(&self.servers, account).await.map_err(|e| e.to_string())?;
        let Deposit { covers, unanswered } = seen;
        for error in unanswered {
            self.report.note(&format!("a server of the chain was left out: {error}"));
        }
        // Two looks in one second, or a clock that was set back.
        let now = (self.clock)().seconds().max(UnixTime(channel.seen_at.0.saturating_add(1)));
        channel.seen_at = now;
        let note = note(config, self.network, meter, covers, now).map_err(|e| e.to_string())?;
        let signed = self.key.sign(note).map_err(|e| e.to_string())?;
        self.report.note(&format!("channel 0:{account} is seen to cover {}", Gram::of(covers)));
        Ok((covers, signed))
    }
}

/// Notes that a channel is wanted: it is looked at now, or [`AGAIN`] after the last time.
fn ask(channels: &mut Vec<Vouched>, wanted: FundingWanted, now: Instant) {
    if let Some(known) = channels.iter_mut().find(|channel| channel.wanted == wanted) {
        known.asked = now;
        let soonest = known.looked.map_or(now, |looked| now.max(looked + AGAIN));
        known.due = Some(known.due.map_or(soonest, |due| due.min(soonest)));
        return;
    }
    if channels.len() >= MAX_VOUCHED {
        // Whoever still wants it asks again.
        let oldest = channels.iter().enumerate().min_by_key(|(_, channel)| channel.asked);
        if let Some(place) = oldest.map(|(place, _)| place) {
            channels.swap_remove(place);
        }
    }
    channels.push(Vouched {
        wanted,
        asked: now,
        looked: None,
        due: Some(now),
        seen_at: UnixTime(0),
    });
}

/// Shortest time between two looks at one channel.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a channel that is in use is looked at: so long a close request can go unseen here.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a channel is looked at after the worker asked for it; then its note ends, and it asks again.
const KEPT: Duration = Duration::from_secs(1_800);
/// Most channels that are looked at.
const MAX_VOUCHED: usize = 256;
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

    #[test]
    fn one_channel_more_than_the_most_takes_the_place_of_the_one_asked_for_longest_ago() {
        let (mut channels, now) = (vec![], Instant::now());
        for salt in 0..=MAX_VOUCHED as u64 {
            ask(&mut channels, wanted(salt), now + Duration::from_secs(salt));
        }
        assert_eq!(channels.len(), MAX_VOUCHED);
        assert!(!channels.iter().any(|channel| channel.wanted == wanted(0)));
        assert!(channels.iter().any(|channel| channel.wanted == wanted(MAX_VOUCHED as u64)));
    }
}
