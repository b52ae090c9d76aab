//! The options with which a client pays, and the payer they make. The key file and the budget are the
//! user's; whom to pay is the attested manifest's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chrysalis_client::{AttestedWorker, Budget, ClientError, Clock, Payer};
use chrysalis_ledger::{Ledger, Side};
use chrysalis_receipt::{
    ChannelTerms, DEFAULT_CLOSE_DELAY, PayerKey, PayerPublicKey, TermsParts, channel_salt,
};
use chrysalis_ton::Gram;
use chrysalis_wire::{Digest, NetworkId};
use clap::Args;
use zeroize::Zeroizing;

use crate::commands::chain::gram;
use crate::commands::manifest::account;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// How requests are paid for.
#[derive(Debug, Args)]
pub(crate) struct Pay {
    /// Pay for requests with this key, a file of 64 hexadecimal digits; made if it is not there.
    #[arg(long, value_name = "FILE", requires_all = ["payer_account", "pay_limit"])]
    payer_key: Option<PathBuf>,
    /// Account that opened the channel and gets back what is left, `0:` and 64 hexadecimal digits.
    #[arg(long, value_name = "ACCOUNT", value_parser = account, requires = "payer_key")]
    payer_account: Option<Digest>,
    /// Most that the channel may ever be charged, in nanogram. Nothing above it is signed.
    #[arg(long, value_name = "NANO", requires = "payer_key")]
    pay_limit: Option<u128>,
    /// How much more than is owed each signature allows, in nanogram.
    #[arg(long, value_name = "NANO", default_value_t = 100_000_000)]
    pay_step: u128,
    /// Tells channels of the same key, accounts and worker apart: a closed one never opens again. The
    /// worker's own number is in its manifest.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    channel_salt: u32,
    /// The channel's delay between a request to close and the refund, seconds, as it was deployed with.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_CLOSE_DELAY)]
    channel_close_delay: u32,
    /// The channel's smallest settlement, GRAM, as it was deployed with.
    #[arg(long, value_name = "GRAM", value_parser = gram, default_value = "0.05")]
    channel_min_settle: Gram,
}

impl Pay {
    /// Makes `worker` be paid for every request, if it asks for it and these options say how. Returns
    /// who pays.
    pub(crate) async fn attach(
        &self,
        worker: &AttestedWorker,
        state: &Path,
        context: &Context,
    ) -> Result<Option<Payer>, Failure> {
        let Some(path) = &self.payer_key else { return Ok(None) };
        let evidence = worker.evidence().await;
        let verified = &evidence.verified;
        let Some(payment) = verified.manifest().payment else {
            context.report.note("the worker asks for no payment; nothing will be signed");
            return Ok(None);
        };
        let (payer, limit) = (self.payer_account, self.pay_limit);
        // Required together by the options' own rules.
        let (Some(payer), Some(limit)) = (payer, limit) else { return Ok(None) };
        if !path.exists() {
            // A mistyped name makes one as well, and that is a payer nobody has funded.
            let path = path.display();
            context.report.note(&format!("{path} is not there: a new payer key is made in it"));
        }
        let key = key(path)?;
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&key.public())?,
            payer,
            payee: payment.payee,
            close_delay: self.channel_close_delay,
            min_settle: self.channel_min_settle.nano,
            salt: channel_salt(payment.worker, self.channel_salt),
        })?;
        let network: NetworkId = verified.keyset().network;
        let ledger = Ledger::open(&state.join(LEDGER_FILE), Side::Payer)
            .map_err(|error| Failure::from(ClientError::from(error)))?;
        let budget = Budget { limit, step: self.pay_step };
        let read = context.clock;
        let payer = Payer::open(key, terms, network, budget, ledger, Clock::new(read))?;
        let report = context.report;
        payer.tell(move |why| report.note(&format!("waiting: {why}")));
        worker.pay_with(payer.clone()).await?;
        Ok(Some(payer))
    }
}

/// Says once that the budget is nearly used up.
pub(crate) fn warn_when_near(payer: &Payer, context: &Context, warned: &AtomicBool) {
    let standing = payer.standing();
    if standing.near && !warned.swap(true, Ordering::Relaxed) {
        context.report.note(&format!(
            "up to {} of the {} nanogram of the budget may be owed; raise --pay-limit in time",
            standing.may_owe, standing.limit
        ));
    }
}

/// The key in a file, which is made if it is not there.
pub(crate) fn key(path: &Path) -> Result<PayerKey, Failure> {
    Ok(PayerKey::from_seed(&made_seed(path)?))
}

/// The seed in a file, which is made if it is not there.
pub(crate) fn made_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    if !path.exists() {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice())
            .map_err(|e| Failure::new(Class::Internal, "E-RANDOMNESS", e.to_string()))?;
        let line = Zeroizing::new(format!("{}\n", Zeroizing::new(hex::encode(*seed)).as_str()));
        files::write_secret(path, line.as_bytes())?;
    }
    seed(path)
}

/// The seed in a file.
pub(crate) fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let text = files::read_secret(path, KEY_FILE_BYTES)?;
    let mut seed = Zeroizing::new([0u8; 32]);
    let digits = text.expose().trim_ascii();
    hex::decode_to_slice(digits, seed.as_mut_slice()).map_err(|_| {
        let message = format!("{}: a key is 64 hexadecimal digits", path.display());
        Failure::new(Class::Malformed, "E-PAYER-KEY", message)
    })?;
    Ok(seed)
}

/// Name of a payer's ledger in the state directory.
const LEDGER_FILE: &str = "payments.redb";
/// A key, a line feed, and room for blanks around them.
const KEY_FILE_BYTES: usize = 80;
