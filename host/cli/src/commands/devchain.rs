//! `chrysalis devchain`: a chain of one process for trying things out. It is no consensus network and
//! says so wherever it can; whoever reaches its port makes coins and time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrysalis_devchain::{ChainError, Exposure, NOTICE, Node, bind, serve};
use chrysalis_ton::{Address, Gram};
use chrysalis_wire::{Digest, NetworkId};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::listen;
use crate::commands::chain::{Chain, account, gram};
use crate::commands::dev_wallet;
use crate::commands::manifest::Network;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::signals::Signals;

/// `devchain`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Devchain {
    #[command(subcommand)]
    command: Option<DevchainCommand>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Args)]
struct Run {
    /// Address of the API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18081", value_parser = listen)]
    listen: SocketAddr,
    /// Allow an address that others can reach. Whoever reaches it rules the chain.
    #[arg(long)]
    allow_remote: bool,
    /// Network whose rules contracts see: `sim`, `testnet`, `mainnet`, or a TON global id.
    #[arg(long, default_value = "sim")]
    network: Network,
    /// Directory the chain is kept in; without it, it is forgotten at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DevchainCommand {
    /// Give new coins to an account.
    Faucet {
        /// Address.
        #[arg(value_parser = account)]
        address: Digest,
        /// GRAM.
        #[arg(value_parser = gram)]
        amount: Gram,
        #[command(flatten)]
        chain: Chain,
    },
    /// Let time pass at once, for delays that would take days.
    Advance {
        /// Seconds.
        seconds: u32,
        #[command(flatten)]
        chain: Chain,
    },
    /// Make a wallet for the dev chain: a key in a file, and its address. Never use it elsewhere.
    Wallet {
        /// The key, a new file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Network of the dev chain.
        #[arg(long, default_value = "sim")]
        network: Network,
    },
}

pub(crate) fn run(arguments: &Devchain, context: &Context) -> Result<ExitCode, Failure> {
    match &arguments.command {
        None => start(&arguments.run, context),
        Some(DevchainCommand::Faucet { address, amount, chain }) => {
            faucet(*address, *amount, chain, context)
        }
        Some(DevchainCommand::Advance { seconds, chain }) => advance(*seconds, chain, context),
        Some(DevchainCommand::Wallet { out, network }) => dev_wallet::make(out, network.0, context),
    }
}

fn start(arguments: &Run, context: &Context) -> Result<ExitCode, Failure> {
    let exposure = if arguments.allow_remote { Exposure::Network } else { Exposure::LoopbackOnly };
    let clock = context.clock;
    let seconds = move || u32::try_from(clock().seconds().0).unwrap_or(u32::MAX);
    let network = arguments.network.0;
    let node = Arc::new(Node::open(network, seconds, arguments.state.as_deref())?);
    context.block_on(async {
        let listener = bind(arguments.listen, exposure).await?;
        let listen = listener
            .local_addr()
            .map_err(|e| Failure::new(Class::Internal, "E-RUNTIME", e.to_string()))?;
        let head = node.head();
        let serving = Serving {
            notice: NOTICE,
            base_url: format!("http://{listen}/api/v2"),
            network: network.0,
            block: head.seqno,
            now: head.now,
            state: arguments.state.as_ref().map(|dir| dir.display().to_string()),
        };
        context.report.result("chrysalis/devchain/v1", &serving, |out| {
            out.warning(&format!("DEV CHAIN  {NOTICE}"))?;
            out.field("base_url", &serving.base_url)?;
            out.field("network", network)?;
            out.field("block", serving.block)?;
            out.field("state", serving.state.as_deref().unwrap_or("in memory"))
        })?;
        let mut signals = Signals::catch()?;
        serve(node, listener, signals.next()).await;
        Ok(ExitCode::SUCCESS)
    })
}

#[derive(Serialize)]
struct Serving {
    notice: &'static str,
    base_url: String,
    network: i32,
    block: u32,
    now: u32,
    state: Option<String>,
}

fn faucet(to: Digest, amount: Gram, chain: &Chain, context: &Context) -> Result<ExitCode, Failure> {
    let chain = chain.open()?;
    let ask = json!({ "address": format!("0:{to}"), "amount": amount.nano.to_string() });
    context.block_on(async { Ok(chain.post("/faucet", &ask.to_string()).await?) })?;
    let given = Given { account: to, nano: amount.nano.to_string() };
    context.report.result("chrysalis/devchain-faucet/v1", &given, |out| {
        let shown = Address::contract(to, NetworkId::INSECURE_SIM);
        out.line(format_args!("{amount} without value to {shown}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Given {
    account: Digest,
    nano: String,
}

fn advance(seconds: u32, chain: &Chain, context: &Context) -> Result<ExitCode, Failure> {
    let chain = chain.open()?;
    let ask = json!({ "seconds": seconds }).to_string();
    let head = context.block_on(async { Ok(chain.post("/advance", &ask).await?) })?;
    let head: Head = serde_json::from_value(head).map_err(|error| {
        Failure::new(Class::Malformed, "E-CHAIN-ANSWER", format!("not a block: {error}"))
            .next("ask a server that is `chrysalis devchain`")
    })?;
    context.report.result("chrysalis/devchain-advance/v1", &head, |out| {
        out.field("now", head.now)?;
        out.field("block", head.seqno)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The newest block, as the server has it.
#[derive(Deserialize, Serialize)]
struct Head {
    seqno: u32,
    now: u32,
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        let (class, next) = match &error {
            ChainError::NotLoopback(_) => {
                (Class::Refused, "listen on 127.0.0.1, or allow it with --allow-remote")
            }
            ChainError::Snapshot { .. } => (Class::Malformed, "move the state directory away"),
            ChainError::InUse => (Class::Refused, "stop the other one, or give another --state"),
            ChainError::Listen { .. } => (Class::Internal, "choose another address with --listen"),
            ChainError::Store { .. } => (Class::Internal, "check the directory and the disk"),
            _ => (Class::Internal, "report this as a defect"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}
