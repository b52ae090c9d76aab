//! `chrysalis earnings`: what an owner earned, is promised, was paid and what it cost, from her ledger
//! alone. What is owed there is signed; what was paid is what the watcher was told by a chain.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_client::Utc;
use chrysalis_watch::{Earnings, Facts, Upcoming, Window, facts};
use chrysalis_wire::UnixTime;
use clap::Args;
use serde::Serialize;

use crate::commands::channel::amount;
use crate::commands::watch::{When, ledger, tell_each};
use crate::context::Context;
use crate::exit::Failure;
use crate::report::Text;

/// `earnings`.
#[derive(Debug, Args)]
pub(crate) struct EarningsCommand {
    /// The ledger of what was earned: `earnings.redb` in a worker's state directory.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    #[command(flatten)]
    when: When,
    /// Amounts in nanogram.
    #[arg(long)]
    nano: bool,
}

pub(crate) fn run(arguments: &EarningsCommand, context: &Context) -> Result<ExitCode, Failure> {
    let ledger = ledger(&arguments.ledger)?.view();
    let Facts { standings, happened, left_out } = facts(&ledger)?;
    let policy = arguments.when.policy()?;
    let earnings = Earnings::of(&standings, happened, &policy, context.now());
    let shown = Shown::of(&earnings);
    context
        .report
        .result("chrysalis/earnings/v1", &shown, |out| text(&earnings, arguments.nano, out))?;
    // What is not settled of these channels is in no line above.
    Ok(tell_each(left_out, context))
}

/// Amounts are decimal strings in nanogram.
#[derive(Serialize)]
struct Shown {
    coin: &'static str,
    today: Sums,
    days_7: Sums,
    days_30: Sums,
    total: Sums,
    unsettled_nano: String,
    covered_nano: String,
    next: Option<Next>,
}

#[derive(Serialize)]
struct Sums {
    earned_nano: String,
    settled_nano: String,
    fees_nano: String,
    requests: u64,
}

#[derive(Serialize)]
struct Next {
    amount_nano: String,
    at: Option<UnixTime>,
    fee_nano: String,
    fee_ppm: String,
}

impl Shown {
    fn of(e: &Earnings) -> Self {
        let sums = |window: &Window| Sums {
            earned_nano: window.earned.to_string(),
            settled_nano: window.settled.to_string(),
            fees_nano: window.fees.to_string(),
            requests: window.requests,
        };
        let next = |next: &Upcoming| Next {
            amount_nano: next.amount.to_string(),
            at: next.at,
            fee_nano: next.fee.to_string(),
            fee_ppm: next.fee_ppm.to_string(),
        };
        Self {
            coin: "Gram (GRAM)",
            today: sums(&e.today),
            days_7: sums(&e.week),
            days_30: sums(&e.month),
            total: sums(&e.total),
            unsettled_nano: e.unsettled.to_string(),
            covered_nano: e.room.to_string(),
            next: e.next.as_ref().map(next),
        }
    }
}

fn text(e: &Earnings, nano: bool, out: &mut Text) -> std::fmt::Result {
    let windows =
        [("today", &e.today), ("7 days", &e.week), ("30 days", &e.month), ("ever", &e.total)];
    for (name, window) in windows {
        let Window { earned, settled, fees, requests } = window;
        out.field(
            name,
            format_args!(
                "earned {}, settled {}, fees {}, {requests} requests",
                amount(*earned, nano),
                amount(*settled, nano),
                amount(*fees, nano)
            ),
        )?;
    }
    out.field("not settled yet", amount(e.unsettled, nano))?;
    out.field("covered beyond that", amount(e.room, nano))?;
    match &e.next {
        None => out.field("next settlement", "nothing is owed"),
        Some(next) => {
            let when = match next.at {
                Some(at) => format!("by {}", Utc(at)),
                None => "once it is worth its fee".to_owned(),
            };
            let share = percent(next.fee_ppm);
            let (paid, fee) = (amount(next.amount, nano), amount(next.fee, nano));
            out.field("next settlement", format_args!("{paid} {when}; fee {fee} ({share})"))
        }
    }?;
    out.line("What is settled is what the chain servers of `chrysalis watch` said, and agreed on if several.")?;
    out.line("Fees are paid by the channels' deposits, not by what is earned.")
}

/// Parts in a million as a percentage with two decimals.
fn percent(ppm: u128) -> String {
    let hundredths = ppm / 100;
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
