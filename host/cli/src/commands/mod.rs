//! One file a noun. A command reads its arguments, calls a library and reports; it decides
//! nothing about trust itself.

pub(crate) mod appraise;
pub(crate) mod ask;
pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod collateral;
pub(crate) mod dev_wallet;
pub(crate) mod devchain;
pub(crate) mod earnings;
pub(crate) mod embed;
pub(crate) mod funding;
mod gramine;
pub(crate) mod handover;
pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod measure;
pub(crate) mod measure_diff;
pub(crate) mod measure_image;
pub(crate) mod measure_input;
pub(crate) mod model;
mod model_folder;
pub(crate) mod pay;
pub(crate) mod pins;
pub(crate) mod policy;
pub(crate) mod receipt;
pub(crate) mod release;
pub(crate) mod release_image;
pub(crate) mod reload;
pub(crate) mod serve;
pub(crate) mod settle;
pub(crate) mod sgx;
pub(crate) mod shape;
pub(crate) mod shell;
pub(crate) mod stopped;
pub(crate) mod supervise;
pub(crate) mod tcb;
pub(crate) mod vectors;
pub(crate) mod vm;
pub(crate) mod watch;
pub(crate) mod worker;

use std::process::ExitCode;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Failure;

/// Runs one command.
pub(crate) fn run(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Model(command) => model::run(command, context),
        Command::Manifest(command) => manifest::run(&command, context),
        Command::Image(command) => image::run(&command, context),
        Command::Measure(command) => measure::run(&command, context),
        Command::Policy(command) => policy::run(&command, context),
        Command::Shape(command) => shape::run(&command, context),
        Command::Sgx(command) => sgx::run(&command, context),
        Command::Tcb(arguments) => tcb::run(&arguments, context).map(|()| ExitCode::SUCCESS),
        Command::Vectors(command) => vectors::run(&command, context),
        Command::Up(arguments) => worker::up(arguments, context),
        Command::Down(arguments) => worker::down(&arguments, context),
        Command::Status(arguments) => worker::status(&arguments, context),
        Command::Logs(arguments) => worker::logs(&arguments, context),
        Command::Appraise(arguments) => appraise::run(&arguments, context),
        Command::Ask(arguments) => ask::run(&arguments, context),
        Command::Embed(arguments) => embed::run(&arguments, context),
        Command::Serve(arguments) => serve::run(&arguments, context),
        Command::Release(command) => release::run(&command, context),
        Command::Receipt(command) => receipt::run(&command, context),
        Command::Channel(command) => channel::run(&command, context),
        Command::Watch(arguments) => watch::run(&arguments, context),
        Command::Earnings(arguments) => earnings::run(&arguments, context),
        Command::Devchain(arguments) => devchain::run(&arguments, context),
        Command::Completions(arguments) => shell::completions(&arguments, context),
        Command::Man(arguments) => shell::man(&arguments, context),
        Command::Supervise(funding) => supervise::run(&funding, context),
    }
}
