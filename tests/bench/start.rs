//! Start to ready: `chrysalis up` until it says so, against loading the same bundle into an engine
//! in this process. The difference is processes, keys, evidence and self-appraisal.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrysalis_tests::{World, bin, chrysalis, up_args};
use chrysalis_vault::Bundle;
use tempfile::TempDir;

use crate::load;
use crate::report::{Better, Comparison};
use crate::request::millis;

/// Both, in turn.
pub(crate) fn measure(rounds: usize, world: &World) -> Result<Comparison> {
    crate::progress("start to ready");
    let candidates = ["chrysalis up, to ready", "bundle and engine, in process"];
    let mut out = Comparison::new("Start to ready, not sealed", "ms", Better::Less, candidates)
        .ratio(0, 1)
        .added(0, 1)
        .note("INSECURE-SIM platform: a quote of real hardware takes longer");
    for round in 0..=rounds {
        let figures = [up(world)?, in_process(world)?].map(millis);
        if round > 0 {
            out.round(&figures);
        }
    }
    Ok(out)
}

fn up(world: &World) -> Result<Duration> {
    let state = TempDir::new()?;
    let (manifest, bundle) = (world.path("worker.toml"), world.path("model.chrysalis"));
    let mut command = Command::new(bin("chrysalis"));
    command.args(up_args(world, &manifest, &bundle, state.path()));
    let started = Instant::now();
    let ran = command.stdin(Stdio::null()).output()?;
    let time = started.elapsed();
    chrysalis(["down".as_ref(), "--state".as_ref(), state.path().as_os_str()]);
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "the worker did not become ready: {said}");
    Ok(time)
}

fn in_process(world: &World) -> Result<Duration> {
    let started = Instant::now();
    let bundle = Bundle::open(File::open(world.path("model.chrysalis"))?)?;
    let root = bundle.root();
    let engine = load::into_engine(bundle, &root, None, None)?;
    let time = started.elapsed();
    drop(engine);
    Ok(time)
}
