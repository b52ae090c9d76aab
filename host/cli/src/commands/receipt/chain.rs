//! `chrysalis receipt chain`: the history of a payment channel, recomputed, and what single requests
//! of it cost.

use std::path::{Path, PathBuf};

use chrysalis_client::limits::MAX_HISTORY_BYTES;
use chrysalis_client::{ChannelHistory, Gram, HistoryReport, Place, StoredReport};
use chrysalis_evidence::Collateral;
use chrysalis_policy::Judge;
use chrysalis_receipt::{Outcome, ReceiptError};
use chrysalis_wire::RequestId;
use clap::Args;
use serde::Serialize;

use super::{read, verify};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::verifier::Policy;

/// `receipt chain`.
#[derive(Debug, Args)]
pub(crate) struct Chain {
    /// The history: caps, cumulative settlements, receipts and proofs of one channel.
    history: PathBuf,
    /// Stored receipts of requests that it counts, to say what each cost and what answered it; they
    /// are verified too, under --pins and --collateral.
    #[arg(value_name = "RECEIPT", requires = "pins")]
    receipts: Vec<PathBuf>,
    /// The history that another party of the channel wrote: no meter may have shown it another log.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Pins file: which workers are accepted.
    #[arg(long, value_name = "FILE", requires = "collateral")]
    pins: Option<PathBuf>,
    /// Collateral bundle: signed facts about the platform.
    #[arg(long, value_name = "FILE", requires = "pins")]
    collateral: Option<PathBuf>,
    /// Accept pins of the INSECURE-SIM tier, which protect nothing.
    #[arg(long)]
    insecure_sim: bool,
}

impl Chain {
    /// What single receipts are judged by. Where there are none, nothing has to be.
    fn judge(&self, context: &Context) -> Result<Option<(Judge, Collateral)>, Failure> {
        let (Some(pins), Some(collateral)) = (&self.pins, &self.collateral) else {
            return Ok(None);
        };
        let policy = Policy {
            pins: pins.clone(),
            collateral: collateral.clone(),
            insecure_sim: self.insecure_sim,
            pins_key: None,
            pins_memory: None,
            activation_delay: 0,
        };
        policy.load(context).map(Some)
    }
}

pub(super) fn run(arguments: &Chain, context: &Context) -> Result<(), Failure> {
    let history = load(&arguments.history)?;
    let mut report = history.verify();
    if let Some(path) = &arguments.with {
        let other = load(path)?;
        let theirs = other.verify();
        if theirs.failed() {
            return conclude(theirs, vec![]).map_err(|failure| failure.in_file(path));
        }
        report.checks.push(history.agrees_with(&other));
        report.holds = report.checks.iter().all(|check| check.outcome == Outcome::Pass);
    }
    let judge = arguments.judge(context)?;
    let mut requests = Vec::new();
    for path in &arguments.receipts {
        requests.push(Request::read(path, judge.as_ref(), &report)?);
    }
    show(&report, &requests, context)?;
    conclude(report, requests).map_err(|failure| failure.in_file(&arguments.history))
}

fn load(path: &Path) -> Result<ChannelHistory, Failure> {
    let bytes = files::read(path, MAX_HISTORY_BYTES)?;
    ChannelHistory::parse(&bytes).map_err(|e| Failure::from(e).in_file(path))
}

/// One request of the history, by its stored receipt.
struct Request {
    path: PathBuf,
    place: Option<Place>,
    report: StoredReport,
    words: String,
    amount: u128,
}

impl Request {
    fn read(
        path: &Path,
        judge: Option<&(Judge, Collateral)>,
        history: &HistoryReport,
    ) -> Result<Self, Failure> {
        let stored = read(path)?;
        let (signed, id) = (stored.receipt(), stored.request_id());
        let place = history.place_of(&signed.hash());
        let report = stored.verify(judge.map(|(judge, collateral)| (judge, collateral)), None);
        let receipt = signed.receipt();
        let verified = report.evidence.as_ref().and_then(|verdict| verdict.result.as_ref().ok());
        let model = verified.map_or("a model", |worker| worker.manifest().model.name.as_str());
        let counted = match place {
            None => "is not in this history".to_owned(),
            Some(Place { meter, index, settled: true }) => {
                format!("is number {index} of what meter {meter} counted and settled")
            }
            Some(Place { meter, index, .. }) => {
                format!("is number {index} of what meter {meter} counted, and not settled yet")
            }
        };
        let words = format!(
            "request {id} cost {} and {counted}; {model} (root {}) answered on image {}",
            Gram(receipt.amount),
            receipt.model.manifest_sha256,
            receipt.model.engine_image_sha256
        );
        let amount = receipt.amount;
        Ok(Self { path: path.to_owned(), place, report, words, amount })
    }

    fn holds(&self) -> bool {
        self.place.is_some() && self.report.holds
    }
}

fn show(report: &HistoryReport, requests: &[Request], context: &Context) -> Result<(), Failure> {
    let listed: Vec<_> = requests
        .iter()
        .map(|request| Listed {
            request_id: request.report.request_id,
            holds: request.holds(),
            place: request.place,
            amount: request.amount.to_string(),
            words: &request.words,
        })
        .collect();
    let shown = Shown { history: report, requests: &listed };
    context.report.result("chrysalis/receipt-chain/v1", &shown, |out| {
        out.field("channel", format_args!("0:{} on {}", report.account, report.network))?;
        out.field("payer key", report.payer_key)?;
        if !report.bound {
            out.field("", "  as the file says; compare it with the channel's")?;
        }
        for check in &report.checks {
            out.check(&check.outcome.to_string(), check.id, check.title, &check.detail)?;
        }
        for request in requests {
            out.verdict(request.holds(), &request.words)?;
        }
        out.verdict(!report.failed(), &report.conclusion())
    })
}

fn conclude(report: HistoryReport, requests: Vec<Request>) -> Result<(), Failure> {
    let failed = report.checks.iter().find(|c| c.outcome == Outcome::Fail);
    if let Some(check) = failed {
        let (id, title, detail) = (check.id, check.title, check.detail.clone());
        let failure = Failure::from(ReceiptError::Check { id, title, detail });
        return Err(failure.next("do not pay by this history; ask the payee for a right one"));
    }
    // Whoever names two files asks for their comparison: nothing compared is no answer to that.
    let skipped = report.checks.iter().find(|c| c.id == AGREE && c.outcome == Outcome::Skip);
    if let Some(check) = skipped {
        let message = format!("the two histories were not compared: {}", check.detail);
        return Err(Failure::new(Class::Refused, "E-HISTORY-NOT-COMPARED", message)
            .next("ask the other party for a history with all its receipts and settlements"));
    }
    for request in requests {
        let StoredReport { evidence, receipt, holds, .. } = request.report;
        verify::conclude(evidence, receipt, holds).map_err(|e| e.in_file(&request.path))?;
        if request.place.is_none() {
            let message = "the receipt is not in this history";
            return Err(Failure::new(Class::Refused, "E-RECEIPT-NOT-COUNTED", message)
                .next("check that both are of one channel")
                .in_file(&request.path));
        }
    }
    Ok(())
}

/// The check of two files.
const AGREE: &str = "agree";

#[derive(Serialize)]
struct Shown<'a> {
    history: &'a HistoryReport,
    requests: &'a [Listed<'a>],
}

#[derive(Serialize)]
struct Listed<'a> {
    request_id: RequestId,
    holds: bool,
    place: Option<Place>,
    amount: String,
    words: &'a str,
}
