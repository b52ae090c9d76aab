//! `chrysalis channel`: opens, fills, shows and closes payment channels. What moves coins is signed in
//! the owner's wallet: this program makes a link and its picture, and holds no key. On the dev chain it
//! signs with a key in a file, if it is told to.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_chain::{ChainAccess as _, ChannelView, Toncenter, channel_view};
use chrysalis_receipt::{Cell, PayerPublicKey, channel_salt};
use chrysalis_ton::{
    Address, CHANNEL_CODE_HASH, ChannelConfig, DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, Gram,
    Outgoing, TransferLink, coop_close, finish_close, start_close, top_up,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::commands::chain::{Chain, account, gram};
use crate::commands::dev_wallet::DevWallet;
use crate::commands::manifest::Network;
use crate::commands::pay;
use crate::commands::settle::{self, Settle};
use crate::commands::stopped::{self, Stopped};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::qr;
use crate::report::Text;

/// What to do with a channel.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Open a channel: its address, and the link that deploys it with a deposit.
    Deploy(Deploy),
    /// Add to the deposit of a channel. Anybody may.
    Topup {
        /// Address of the channel.
        #[arg(value_parser = account)]
        channel: Digest,
        /// GRAM.
        #[arg(value_parser = gram)]
        amount: Gram,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show what a chain server says about a channel. Nothing of it is proven.
    Show {
        /// Address of the channel.
        #[arg(value_parser = account)]
        channel: Digest,
        /// Network it is on.
        #[arg(long, default_value = "sim")]
        network: Network,
        /// Amounts in nanogram.
        #[arg(long)]
        nano: bool,
        #[command(flatten)]
        chain: Chain,
    },
    /// Bring a claim through a wallet: also less than the smallest settlement, while a payer closes.
    Settle(Settle),
    /// Show why nothing more is paid through a channel: a claim that its payer cannot account for. Or pay on.
    Stopped(Stopped),
    /// Close a channel, or take the next step of closing it.
    Close {
        /// Address of the channel.
        #[arg(value_parser = account)]
        channel: Digest,
        /// Which step.
        #[arg(long, value_enum, default_value = "start")]
        step: Step,
        /// The payee's ledger, `earnings.redb` in a worker's state directory: `--step agree` gives up what is
        /// owed by it and not settled, so it is looked at first.
        #[arg(long, value_name = "FILE")]
        ledger: Option<PathBuf>,
        /// Ask this server too what was paid, without a key. All have to say the same, or `--step agree` is
        /// refused.
        #[arg(long, value_name = "URL", requires = "ledger")]
        also: Vec<String>,
        #[command(flatten)]
        signing: Signing,
    },
}

/// A step of closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The payer asks; the payee has the channel's delay to settle.
    Start,
    /// The delay is over: the rest goes back to the payer. Anybody may ask for it.
    Finish,
    /// The payee agrees: the rest goes back at once, and what is not settled with it. Settle first; with
    /// --ledger this is refused while something is owed.
    Agree,
}

/// `channel deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Wallet that pays, and gets the rest back; the dev wallet without it.
    #[arg(long, value_name = "ADDRESS", value_parser = account, required_unless_present = "dev_wallet")]
    payer: Option<Digest>,
    /// Wallet that is paid.
    #[arg(long, value_name = "ADDRESS", value_parser = account)]
    payee: Digest,
    /// Public key whose caps count: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", required_unless_present = "payer_key_file")]
    payer_key: Option<Digest>,
    /// The file of that key instead, as `serve` and `ask` take it; made if it is not there.
    #[arg(long, value_name = "FILE", conflicts_with = "payer_key")]
    payer_key_file: Option<PathBuf>,
    /// GRAM to begin with.
    #[arg(long, value_name = "GRAM", value_parser = gram)]
    deposit: Gram,
    /// Which of the payee's workers it pays for: `worker` under `[payment]` of its manifest. No other one
    /// serves the channel.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    worker: u32,
    /// Tells channels of the same parties and worker apart; one that was closed never opens again.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    salt: u32,
    /// Seconds that the payee has to settle after a request to close.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_CLOSE_DELAY)]
    close_delay: u32,
    /// Smallest settlement, GRAM.
    #[arg(long, value_name = "GRAM", value_parser = gram, default_value = "0.05")]
    min_settle: Gram,
    #[command(flatten)]
    signing: Signing,
}

/// Who signs, and for which network.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Network.
    #[arg(long, default_value = "sim")]
    network: Network,
    /// Sign with this key of `chrysalis devchain wallet`, and send. Dev chain only.
    #[arg(long, value_name = "FILE")]
    dev_wallet: Option<PathBuf>,
    #[command(flatten)]
    chain: Chain,
}

pub(crate) fn run(command: &ChannelCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ChannelCommand::Deploy(arguments) => deploy(arguments, context)?,
        ChannelCommand::Topup { channel, amount, signing } => {
            let message = Outgoing {
                to: *channel,
                value: amount.nano,
                bounce: true,
                init: None,
                body: Some(top_up(0).map_err(chrysalis_ton::TonError::from)?),
            };
            sign(message, "top up the channel", signing, context)?;
        }
        ChannelCommand::Show { channel, network, nano, chain } => {
            show(*channel, network.0, *nano, chain, context)?;
        }
        ChannelCommand::Settle(arguments) => settle::run(arguments, context)?,
        ChannelCommand::Stopped(arguments) => stopped::run(arguments, context)?,
        ChannelCommand::Close { channel, step, ledger, also, signing } => {
            if *step == Step::Agree {
                let servers = signing.servers(also)?;
                settle::expect_nothing_owed(
                    *channel,
                    ledger.as_deref(),
                    signing,
                    &servers,
                    context,
                )?;
            }
            let (body, what) = step.message()?;
            let message = Outgoing {
                to: *channel,
                value: CLOSE_VALUE,
                bounce: true,
                init: None,
                body: Some(body),
            };
            sign(message, what, signing, context)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Step {
    fn message(self) -> Result<(Cell, &'static str), Failure> {
        let (body, what) = match self {
            Self::Start => {
                (start_close(0), "ask to close the channel; only the payer's wallet may")
            }
            Self::Finish => (finish_close(0), "send the rest of the channel back to its payer"),
            Self::Agree => (coop_close(0), "close the channel now; only the payee's wallet may"),
        };
        Ok((body.map_err(chrysalis_ton::TonError::from)?, what))
    }
}

fn deploy(arguments: &Deploy, context: &Context) -> Result<(), Failure> {
    let signing = &arguments.signing;
    let network = signing.network.0;
    let payer = match (&arguments.payer, signing.wallet()?) {
        (Some(payer), _) => *payer,
        (None, Some(wallet)) => wallet.account()?,
        (None, None) => {
            let message = "a channel has a payer";
            return Err(Failure::new(Class::Usage, "E-USAGE", message).next("give --payer"));
        }
    };
    let key = match (&arguments.payer_key, &arguments.payer_key_file) {
        (Some(public), _) => PayerPublicKey::parse(&public.0)?,
        (None, Some(file)) => PayerPublicKey::parse(&pay::key(file)?.public())?,
        (None, None) => {
            let message = "a channel has a key whose caps count";
            let next = "give --payer-key or --payer-key-file";
            return Err(Failure::new(Class::Usage, "E-USAGE", message).next(next));
        }
    };
    let salt = channel_salt(arguments.worker, arguments.salt);
    let config = ChannelConfig::new(key, payer, arguments.payee, salt)?
        .with_close_delay(arguments.close_delay)?
        .with_min_settle(arguments.min_settle.nano)?;
    let message = Outgoing {
        to: config.id(network)?.account,
        value: arguments.deposit.nano,
        bounce: true,
        init: Some(config.state_init()?),
        body: None,
    };
    sign(message, "open the channel", signing, context)
}

impl Signing {
    /// The chain server that is asked.
    pub(crate) fn server(&self) -> Result<Toncenter, Failure> {
        self.chain.open()
    }

    /// That one and others, each once.
    fn servers(&self, also: &[String]) -> Result<Vec<Toncenter>, Failure> {
        self.chain.open_with(also)
    }

    /// # Errors
    /// [`Failure`] if this is for another network.
    pub(crate) fn expect(&self, network: NetworkId) -> Result<(), Failure> {
        if self.network.0 == network {
            return Ok(());
        }
        let message = "the channel is of another network";
        Err(Failure::new(Class::Usage, "E-NETWORK", message)
            .compared(network, self.network.0)
            .next("say which one with --network"))
    }

    fn wallet(&self) -> Result<Option<DevWallet>, Failure> {
        self.dev_wallet.as_deref().map(|path| DevWallet::read(path, self.network.0)).transpose()
    }
}

/// Has a message signed: by the dev wallet, or by whoever opens the link.
pub(crate) fn sign(
    message: Outgoing,
    what: &'static str,
    signing: &Signing,
    context: &Context,
) -> Result<(), Failure> {
    let to = Address::contract(message.to, signing.network.0);
    let (amount, account) = (Gram::of(message.value), message.to);
    let link = TransferLink {
        to,
        amount: message.value,
        body: message.body.clone(),
        init: message.init.clone(),
    };
    let sent = match signing.wallet()? {
        None => false,
        Some(wallet) => {
            let chain = signing.chain.open()?;
            let now = context.now();
            context.block_on(async move { wallet.send(&chain, message, now).await })?;
            true
        }
    };
    let shown = Asked {
        what,
        account,
        address: to.to_string(),
        nano: amount.nano.to_string(),
        link: link.to_string(),
        sent,
    };
    context.report.result("chrysalis/channel-link/v1", &shown, |out| {
        if sent {
            out.warning("DEV CHAIN  signed with a key in a file")?;
            out.field("channel", &shown.address)?;
            return out.line(format_args!("Sent {amount} to {what}."));
        }
        out.field("channel", &shown.address)?;
        out.field("amount", amount)?;
        out.line(format_args!("Open this in your wallet to {what}:"))?;
        out.line(&shown.link)
    })?;
    if !sent {
        // A picture is for people, and apart from the result.
        match qr::of(&shown.link) {
            Some(picture) => context.report.picture(&picture),
            None => context.report.note("the link is too long for a QR code; open it as text"),
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Asked {
    what: &'static str,
    account: Digest,
    address: String,
    nano: String,
    link: String,
    sent: bool,
}

fn show(
    channel: Digest,
    network: NetworkId,
    nano: bool,
    chain: &Chain,
    context: &Context,
) -> Result<(), Failure> {
    let chain = chain.open()?;
    let (view, code) = context.block_on(async {
        let state = chain.account(channel).await?;
        let code = state.contract.map(|contract| contract.code.hash());
        if code != Some(CHANNEL_CODE_HASH) {
            return Ok((None, code));
        }
        Ok((channel_view(&chain, channel).await?, code))
    })?;
    let Some(view) = view else {
        let found = code.map_or_else(|| "nothing".to_owned(), |hash| format!("code {hash}"));
        let message = "there is no channel at this address";
        return Err(Failure::new(Class::Refused, "E-CHANNEL-NONE", message)
            .compared(format!("code {CHANNEL_CODE_HASH}"), found)
            .next("check the address, and which network the server is of"));
    };
    let shown = Shown {
        account: channel,
        address: Address::contract(channel, network).to_string(),
        server: chain.endpoint().to_string(),
        paid_nano: view.cum_paid.to_string(),
        balance_nano: view.balance.to_string(),
        close_at: view.close_at,
    };
    context.report.result("chrysalis/channel/v1", &shown, |out| shown.text(&view, nano, out))
}

#[derive(Serialize)]
struct Shown {
    account: Digest,
    address: String,
    server: String,
    paid_nano: String,
    balance_nano: String,
    close_at: Option<UnixTime>,
}

impl Shown {
    fn text(&self, view: &ChannelView, nano: bool, out: &mut Text) -> std::fmt::Result {
        out.field("channel", &self.address)?;
        out.field("as shown by", &self.server)?;
        out.field("paid so far", amount(view.cum_paid, nano))?;
        out.field("in it", amount(view.balance, nano))?;
        match view.close_at {
            None => out.field("state", "open"),
            Some(at) => {
                out.field("state", "closing: the payee settles, then the rest goes back")?;
                out.field("refund from", chrysalis_client::Utc(at))
            }
        }
    }
}

/// An amount in GRAM, or in nanogram for whoever asks for that.
pub(crate) fn amount(value: u128, nano: bool) -> String {
    if nano { format!("{value} nanogram") } else { Gram::of(value).to_string() }
}

/// What travels with a message that closes: its fees are a hundredth of this, and the rest goes back
/// with the refund. Nanogram.
const CLOSE_VALUE: u128 = 50_000_000;

const _: () = assert!(DEFAULT_MIN_SETTLE == 50_000_000, "the default of --min-settle");
