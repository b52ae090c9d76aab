//! `chrysalis channel settle`: brings a claim through a wallet, whose owner pays the fee instead of the
//! deposit. The only way for less than the channel's smallest settlement, and that only while it closes:
//! the contract's rule, said here before a link is made that it would refuse.

use std::path::{Path, PathBuf};

use chrysalis_chain::{AccessError, ChannelView, Toncenter, channel_view};
use chrysalis_client::Utc;
use chrysalis_ledger::Channel;
use chrysalis_loader::{EARNINGS_FILE, Status, status};
use chrysalis_ton::{Gram, Outgoing, RESERVE, TonError, settle};
use chrysalis_wire::Digest;
use clap::Args;

use crate::commands::chain::account;
use crate::commands::channel::{Signing, amount, sign};
use crate::commands::receipt::history::one_of;
use crate::commands::watch::ledger;
use crate::context::Context;
use crate::exit::{Class, Failure};

/// `channel settle`.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The ledger of what was earned: `earnings.redb` in a worker's state directory.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// The channel, if the ledger has several.
    #[arg(long, value_name = "ADDRESS", value_parser = account)]
    channel: Option<Digest>,
    #[command(flatten)]
    signing: Signing,
}

pub(crate) fn run(arguments: &Settle, context: &Context) -> Result<(), Failure> {
    let view = ledger(&arguments.ledger)?.view();
    let channel = one_of(view.each_channel()?, arguments.channel)?;
    let signing = &arguments.signing;
    signing.expect(channel.id.network)?;
    let server = signing.server()?;
    let seen = context.block_on(async { Ok(channel_view(&server, channel.id.account).await?) })?;
    let due = due(&channel, seen.as_ref())?;
    let Some(claim) = &channel.claim else { return Err(nothing()) };
    let fee = Gram::of(FEE);
    let share = FEE.saturating_mul(100).checked_div(due).unwrap_or(u128::MAX);
    context.report.note(&format!(
        "{} would be paid; the wallet that sends it pays about {fee} for that ({share} % of it), and gets \
         back what is left of the {} it brings",
        amount(due, false),
        Gram::of(VALUE)
    ));
    if share >= 100 {
        context.report.note("the fee is more than what it brings");
    }
    let body = settle(claim.cap(), claim.settlement()).map_err(TonError::from)?;
    let message = Outgoing {
        to: channel.id.account,
        value: VALUE,
        bounce: true,
        init: None,
        body: Some(body),
    };
    sign(message, "bring the claim; any wallet may, and it pays the payee", signing, context)
}

/// What the contract would pay for the claim now, by what a server shows of it.
fn due(channel: &Channel, seen: Option<&ChannelView>) -> Result<u128, Failure> {
    let Some(view) = seen else {
        let message = "there is no channel on this chain at the address of the ledger's";
        return Err(Failure::new(Class::Refused, "E-CHANNEL-NONE", message)
            .next("check which network the server is of"));
    };
    let owed = channel.earned.saturating_sub(view.cum_paid);
    let due = owed.min(view.balance.saturating_sub(RESERVE));
    if owed == 0 {
        return Err(nothing());
    }
    let least = match view.close_at {
        Some(_) => 1,
        None => channel.terms.min_settle(),
    };
    if due < least {
        let (what, why) = if owed < least {
            ("owed", "less is paid only while its payer closes it: wait for more, or for that")
        } else {
            ("in it", "the payer has to top it up")
        };
        let message = format!("the channel pays {} or more at once; {why}", Gram::of(least));
        return Err(Failure::new(Class::Refused, "E-SETTLE-LITTLE", message)
            .compared(Gram::of(least), format!("{} {what}", Gram::of(due)))
            .next("`chrysalis watch` brings it without a wallet once there is enough"));
    }
    Ok(due)
}

/// Refuses to give a channel back while its payee's ledger says that it owes something, or servers do not say
/// the same of it. Without a ledger nobody here can know, and that is said.
pub(crate) fn expect_nothing_owed(
    account: Digest,
    path: Option<&Path>,
    signing: &Signing,
    servers: &[Toncenter],
    context: &Context,
) -> Result<(), Failure> {
    let Some(path) = path else {
        context.report.note(
            "what is owed and not settled goes back to the payer with the rest; --ledger looks at it first",
        );
        return Ok(());
    };
    expect_no_worker(path)?;
    let channel = one_of(ledger(path)?.view().each_channel()?, Some(account))?;
    signing.expect(channel.id.network)?;
    let said = context.block_on(async {
        let mut said = Vec::new();
        for server in servers {
            let answer = channel_view(server, account).await;
            said.push(Said { server: server.endpoint().to_string(), answer });
        }
        Ok(said)
    })?;
    if let [Said { server, .. }] = said.as_slice() {
        context
            .report
            .note(&format!("what was paid is the word of {server} alone; --also asks another"));
    }
    nothing_owed(&channel, agreed(&said)?.as_ref())
}

/// What a server says of a channel.
struct Said {
    server: String,
    answer: Result<Option<ChannelView>, AccessError>,
}

/// What all servers say of a channel, if they say the same of what was paid and of when it closes. What is left
/// in it they see at different times.
fn agreed(said: &[Said]) -> Result<Option<ChannelView>, Failure> {
    match said {
        [Said { answer: Err(error), .. }] => return Err(error.clone().into()),
        [Said { answer: Ok(first), .. }, others @ ..] => {
            let of = |view: &ChannelView| (view.cum_paid, view.close_at);
            let same = |said: &Said| match &said.answer {
                Ok(view) => view.as_ref().map(of) == first.as_ref().map(of),
                Err(_) => false,
            };
            if others.iter().all(same) {
                return Ok(*first);
            }
        }
        _ => {}
    }
    let each = said.iter().map(Said::words).collect::<Vec<_>>().join("; ");
    let message = format!("the chain servers do not agree on this channel: {each}");
    Err(Failure::new(Class::Refused, "E-CHAIN-DISAGREE", message).next(
        "try again once the one that is behind has caught up, or leave out the one that is wrong",
    ))
}

impl Said {
    fn words(&self) -> String {
        let what = match &self.answer {
            Ok(None) => "no channel".to_owned(),
            Ok(Some(ChannelView { cum_paid, close_at: None, .. })) => {
                format!("{cum_paid} nanogram paid, open")
            }
            Ok(Some(ChannelView { cum_paid, close_at: Some(at), .. })) => {
                format!("{cum_paid} nanogram paid, closes at {}", Utc(*at))
            }
            Err(error) => format!("no answer ({})", error.code()),
        };
        format!("{} says {what}", self.server)
    }
}

/// Whether all was paid, by the ledger as well as by what a server shows: she who agrees gives up the rest, and
/// one server that says that it was paid is no ground for that.
fn nothing_owed(channel: &Channel, seen: Option<&ChannelView>) -> Result<(), Failure> {
    let shown = seen.map_or(0, |seen| seen.cum_paid);
    let owed = channel.earned.saturating_sub(shown.min(channel.settled));
    if owed == 0 {
        return Ok(());
    }
    let message = format!("{} is owed on this channel and not settled", Gram::of(owed));
    let refused = Failure::new(Class::Refused, "E-CHANNEL-OWED", message);
    if shown > channel.settled {
        let (ledger, shown) = (Gram::of(channel.settled), Gram::of(shown));
        return Err(refused.compared(format!("{ledger} paid by the ledger"), format!("{shown} by the server"))
            .next("have it taken down first: `chrysalis watch --once`, with --also for a second server"));
    }
    Err(refused.next(
        "bring it with `chrysalis channel settle`; or leave --ledger out, and it is the payer's",
    ))
}

/// Refuses while a worker may be earning into the ledger: what it has counted and not told yet is in no file.
/// A ledger somewhere else than in a state directory is a copy, and no worker's.
fn expect_no_worker(path: &Path) -> Result<(), Failure> {
    let Some(state) = path.parent().filter(|_| path.ends_with(EARNINGS_FILE)) else {
        return Ok(());
    };
    match status(state)? {
        Status::Down { .. } | Status::Stale { worker_alive: false, .. } => Ok(()),
        Status::Up(_) | Status::Starting { .. } | Status::Stale { worker_alive: true, .. } => {
            let message = "the worker of this ledger is running, and may owe more than it has told";
            Err(Failure::new(Class::Refused, "E-CHANNEL-IN-USE", message)
                .next("stop it first: `chrysalis down`")
                .in_file(path))
        }
    }
}

fn nothing() -> Failure {
    Failure::new(Class::Refused, "E-SETTLE-NOTHING", "nothing is owed on this channel")
        .next("see `chrysalis earnings`")
}

/// What the message brings for its fees, nanogram; what is left of it comes back.
const VALUE: u128 = 50_000_000;
/// What it costs whoever sends it, nanogram: 0.66 million at the contract, the rest in the wallet.
const FEE: u128 = 1_200_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use chrysalis_ledger::Phase;
    use chrysalis_loader::StateDir;
    use chrysalis_receipt::{ChannelTerms, PayerKey, PayerPublicKey, TermsParts};
    use chrysalis_wire::{NetworkId, UnixTime};
    use zeroize::Zeroizing;

    use super::*;

    const MIN: u128 = 50_000_000;

    fn channel(earned: u128) -> Channel {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&key).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: 86_400,
            min_settle: MIN,
            salt: 1,
        })
        .unwrap();
        Channel {
            id: terms.id(NetworkId::TESTNET).unwrap(),
            terms,
            earned,
            covered: earned,
            meter: None,
            settled: 0,
            fees: 0,
            receipted: 0,
            requests: 0,
            phase: Phase::Open,
            claim: None,
            first: UnixTime(0),
            last: UnixTime(0),
        }
    }

    fn view(cum_paid: u128, close_at: Option<UnixTime>, balance: u128) -> ChannelView {
        ChannelView { cum_paid, close_at, balance }
    }

    #[test]
    fn gives_nothing_up_that_a_server_alone_says_was_paid() {
        let says = |settled, cum_paid| {
            let channel = Channel { settled, ..channel(5 * MIN) };
            nothing_owed(&channel, Some(&view(cum_paid, None, 0))).map_err(|failure| failure.code)
        };
        let owed = Err("E-CHANNEL-OWED".to_owned());
        assert_eq!(says(5 * MIN, 5 * MIN), Ok(()));
        assert_eq!(says(4 * MIN, 4 * MIN), owed);
        assert_eq!(says(0, 5 * MIN), owed, "its word alone");
        assert_eq!(says(5 * MIN, 4 * MIN), owed, "the ledger's may be from a liar before");
        assert!(nothing_owed(&Channel { settled: 1, ..channel(1) }, None).is_err());
        assert!(nothing_owed(&channel(0), None).is_ok(), "nothing was ever earned");
    }

    #[test]
    fn takes_the_word_of_several_servers_only_where_all_say_the_same_and_tells_each() {
        let says = |cum_paid, close_at: Option<u64>, balance| {
            Ok(Some(view(cum_paid, close_at.map(UnixTime), balance)))
        };
        let said = |server: &str, answer| Said { server: server.to_owned(), answer };
        let word = |[a, b]: [Result<_, _>; 2]| {
            agreed(&[said("a", a), said("b", b)]).map_err(|refused| {
                assert_eq!(refused.code, "E-CHAIN-DISAGREE");
                refused.message
            })
        };
        let seen = view(MIN, None, 5);
        assert_eq!(
            word([says(MIN, None, 5), says(MIN, None, 4)]),
            Ok(Some(seen)),
            "rent was taken"
        );
        assert_eq!(word([Ok(None), Ok(None)]), Ok(None));
        let silent = || Err(AccessError::RateLimited);
        for (answers, a, b) in [
            (
                [says(7, None, 5), says(0, None, 5)],
                "7 nanogram paid, open",
                "0 nanogram paid, open",
            ),
            (
                [says(0, None, 5), says(0, Some(86_400), 5)],
                "0 nanogram paid, open",
                "0 nanogram paid, closes at 1970-01-02T00:00:00Z",
            ),
            ([says(0, None, 5), Ok(None)], "0 nanogram paid, open", "no channel"),
            ([Ok(None), silent()], "no channel", "no answer (E-CHAIN-RATE-LIMIT)"),
            (
                [silent(), silent()],
                "no answer (E-CHAIN-RATE-LIMIT)",
                "no answer (E-CHAIN-RATE-LIMIT)",
            ),
        ] {
            let told =
                format!("the chain servers do not agree on this channel: a says {a}; b says {b}");
            assert_eq!(word(answers), Err(told));
        }
        let alone = agreed(&[said("a", silent())]).unwrap_err();
        assert_eq!(
            alone.code,
            AccessError::RateLimited.code(),
            "its own, of one that is asked alone"
        );
    }

    #[test]
    fn gives_nothing_up_while_the_worker_of_the_ledger_runs() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let path = state.earnings();
        assert!(expect_no_worker(&path).is_ok());
        let lock = state.lock().unwrap();
        assert_eq!(expect_no_worker(&path).unwrap_err().code, "E-CHANNEL-IN-USE");
        assert!(expect_no_worker(&dir.path().join("copy.redb")).is_ok());
        drop(lock);
        assert!(expect_no_worker(&path).is_ok());
    }

    #[test]
    fn says_before_a_link_is_made_what_the_contract_would_say() {
        let code = |earned, view: ChannelView| {
            due(&channel(earned), Some(&view)).map_err(|failure| failure.code)
        };
        let full = 10 * MIN;
        assert_eq!(code(MIN, view(0, None, full)), Ok(MIN));
        assert_eq!(code(MIN - 1, view(0, None, full)), Err("E-SETTLE-LITTLE".to_owned()));
        assert_eq!(code(MIN + 5, view(6, None, full)), Err("E-SETTLE-LITTLE".to_owned()));
        let closing = Some(UnixTime(5));
        assert_eq!(code(MIN - 1, view(0, closing, full)), Ok(MIN - 1));
        assert_eq!(code(1, view(0, closing, full)), Ok(1));
        assert_eq!(code(9, view(9, closing, full)), Err("E-SETTLE-NOTHING".to_owned()));
        assert_eq!(code(9, view(0, closing, RESERVE)), Err("E-SETTLE-LITTLE".to_owned()));
        assert_eq!(code(3 * MIN, view(0, None, RESERVE + 2 * MIN)), Ok(2 * MIN));
        assert!(due(&channel(MIN), None).is_err());
    }
}
