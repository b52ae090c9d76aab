//! `chrysalis watch`: sees to it that a payee is paid. It has no key and asks for none; anybody may run
//! it, and it may run twice. Chain servers are strangers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chrysalis_chain::{Patience, Toncenter};
use chrysalis_client::Utc;
use chrysalis_ledger::{Ledger, LedgerError, Side};
use chrysalis_ton::{Address, Gram, Refusal};
use chrysalis_watch::{
    Decision, Outcome, Policy, Reason, Report, Round, Waiting, WatchError, Watcher,
};
use chrysalis_wire::UnixTime;
use clap::Args;
use serde::Serialize;

use crate::commands::chain::{Chain, gram};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::signals::Signals;

/// `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The ledger of what was earned: `earnings.redb` in a worker's state directory.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    #[command(flatten)]
    chain: Chain,
    /// Ask this server too, without a key. One honest server is enough to be paid; what was paid is taken
    /// down once two show it, so name two more to do without one that lies or is away.
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    #[command(flatten)]
    when: When,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
}

/// When to settle.
#[derive(Debug, Args)]
pub(crate) struct When {
    /// Settle once so much is owed, GRAM.
    #[arg(long, value_name = "GRAM", value_parser = gram, default_value = "1")]
    settle_at: Gram,
    /// Settle less after so many hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    settle_after: u64,
    /// But not while the fee is over so many parts in a thousand.
    #[arg(long, value_name = "PERMILLE", default_value_t = 10)]
    max_fee: u32,
}

impl When {
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        let seconds = self.settle_after.saturating_mul(3_600);
        let ppm = self.max_fee.saturating_mul(1_000);
        Ok(Policy::new(self.settle_at.nano, seconds, ppm)?)
    }
}

pub(crate) fn run(arguments: &Watch, context: &Context) -> Result<ExitCode, Failure> {
    let ledger = ledger(&arguments.ledger)?;
    let servers = arguments.chain.open_with(&arguments.also)?;
    let servers = servers.into_iter().map(|server| server.with_patience(PATIENCE)).collect();
    let mut watcher = Watcher::new(servers, arguments.when.policy()?);
    context.block_on(async {
        let mut signals = Signals::catch()?;
        // Channels that could not be watched in the last round. It is told again when that changes, and
        // by the exit code.
        let (mut refused, mut code) = (Vec::new(), ExitCode::SUCCESS);
        loop {
            let round = tokio::select! {
                round = look(&mut watcher, &ledger, context) => round?,
                () = signals.next() => return Ok(code),
            };
            show(&round, context.now(), arguments.once, context)?;
            if round.refused != refused {
                code = tell_each(round.refused.clone(), context);
                refused.clone_from(&round.refused);
            }
            if arguments.once {
                return Ok(code);
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(round.next_in())) => {}
                () = signals.next() => return Ok(code),
            }
        }
    })
}

/// Tells each of these, and the exit code of the first.
pub(crate) fn tell_each<E: Into<Failure>>(
    errors: impl IntoIterator<Item = E>,
    context: &Context,
) -> ExitCode {
    let mut code = None;
    for failure in errors.into_iter().map(Into::into) {
        context.report.failure(&failure);
        code = code.or_else(|| Some(failure.class.into()));
    }
    code.unwrap_or(ExitCode::SUCCESS)
}

/// Opens a ledger that is there. It is opened for writing, because that repairs what a killed worker's
/// supervisor left.
pub(crate) fn ledger(path: &Path) -> Result<Ledger, LedgerError> {
    // Opening would make one where there is none, and a mistyped name would be watched in peace.
    if !path.is_file() {
        return Err(LedgerError::Open { path: path.to_owned(), kind: ErrorKind::NotFound });
    }
    Ledger::open(path, Side::Payee)
}

/// One look at every channel.
async fn look(
    watcher: &mut Watcher<Toncenter>,
    ledger: &Ledger,
    context: &Context,
) -> Result<Round, Failure> {
    watcher.tick(ledger, context.now()).await.map_err(|error| {
        Failure::new(Class::Internal, "E-WATCH-BOOK", error.to_string())
            .next("check the ledger and the disk")
    })
}

/// Says what happened; channels at which nothing did only to whoever asked for one look.
fn show(round: &Round, now: UnixTime, everything: bool, context: &Context) -> Result<(), Failure> {
    for report in &round.reports {
        if let Some(error) = &report.not_noted {
            context.report.note(&format!("not taken down: {error}"));
        }
        let closing = report.seen.is_some_and(|seen| seen.close_at.is_some());
        let owed = report.decision != Decision::Nothing;
        let quiet = report.outcome.is_none() && report.unanswered.is_empty() && !(closing && owed);
        if quiet && !everything {
            continue;
        }
        let line = Line::of(report, now);
        if context.report.is_json() {
            context.report.json_line(&line)?;
        } else {
            context.report.text(|out| {
                let Line { time, channel, what, .. } = &line;
                out.line(format_args!("{time}  {channel}  {what}"))
            })?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Line {
    schema: &'static str,
    time: String,
    channel: String,
    owed_nano: String,
    what: String,
    shown_by: usize,
    asked: usize,
    unanswered: Vec<String>,
}

impl Line {
    fn of(report: &Report, now: UnixTime) -> Self {
        let owed = match report.decision {
            Decision::Nothing => 0,
            Decision::Wait { owed, .. } | Decision::Settle { owed, .. } => owed,
        };
        let id = report.channel;
        let unanswered: Vec<String> = report.unanswered.iter().map(ToString::to_string).collect();
        let mut what = said(report, owed);
        let (shown, asked) = report.shown_by;
        if asked > 1 && shown > 0 {
            what += &format!(" (as {shown} of {asked} servers show it)");
        }
        for error in &unanswered {
            what += &format!("; {error}");
        }
        Self {
            schema: "chrysalis/watch/v1",
            time: Utc(now).to_string(),
            channel: Address::contract(id.account, id.network).to_string(),
            owed_nano: owed.to_string(),
            what,
            shown_by: report.shown_by.0,
            asked: report.shown_by.1,
            unanswered,
        }
    }
}

fn said(report: &Report, owed: u128) -> String {
    let gram = Gram::of(owed);
    let decided = match report.decision {
        Decision::Nothing => return "nothing is owed".to_owned(),
        Decision::Wait { why, .. } => {
            let why = match why {
                Waiting::Underway => "it was sent, and is under way".to_owned(),
                Waiting::BelowMinimum { refund_from: None } => {
                    "less than the channel settles at once".to_owned()
                }
                Waiting::BelowMinimum { refund_from: Some(at) } => format!(
                    "the payer asked to close, and less is owed than is settled without a wallet: \
                     `chrysalis channel settle` brings it; refund from {}",
                    Utc(at)
                ),
                Waiting::NotCovered => "the deposit does not cover it".to_owned(),
                Waiting::FeeShare => "the fee would be too large a part of it".to_owned(),
                Waiting::UntilThreshold { at } => format!("until {} at the latest", Utc(at)),
                Waiting::NotSeen => "no server shows the channel".to_owned(),
            };
            return format!("{gram} waits: {why}");
        }
        Decision::Settle { why, .. } => match why {
            Reason::Closing { refund_from } => {
                format!("the payer asked to close, refund from {}", Utc(refund_from))
            }
            Reason::Amount => "enough is owed".to_owned(),
            Reason::Age => "it is owed for long".to_owned(),
            Reason::Insist => "whatever servers say".to_owned(),
        },
    };
    let outcome = match &report.outcome {
        Some(Outcome::Refused { refusal: Some(Refusal::AlreadyPaid) }) => {
            return format!(
                "nothing is owed: asked ({decided}), the contract says it paid everything"
            );
        }
        None | Some(Outcome::Taken) => "sent".to_owned(),
        Some(Outcome::Refused { refusal: Some(refusal) }) => format!("not accepted: {refusal}"),
        Some(Outcome::Refused { refusal: None }) => "not accepted".to_owned(),
        Some(Outcome::Undelivered { error }) => format!("not delivered: {error}"),
    };
    format!("{gram} owed, claim brought ({decided}): {outcome}")
}

/// A server that does not answer is asked again at the next look, and does not hold up the others.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
    attempts: 2,
    first_wait: Duration::from_millis(500),
    max_wait: Duration::from_secs(2),
};

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        let (class, next) = match &error {
            WatchError::Ledger(error) => return Self::from(error.clone()),
            WatchError::FeeShare { .. } | WatchError::SettleAfter { .. } => {
                (Class::Usage, "choose another value")
            }
            WatchError::Claim { .. } => (Class::Refused, "ask the worker for its latest claim"),
            _ => (Class::Internal, "install this program again"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let class = match &error {
            LedgerError::Open { .. } => Class::Usage,
            LedgerError::InUse { .. } | LedgerError::OtherSide { .. } => Class::Refused,
            LedgerError::Newer { .. } | LedgerError::Older { .. } => Class::Unsupported,
            LedgerError::Storage { .. } => Class::Internal,
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next("check the file given with --ledger")
    }
}
