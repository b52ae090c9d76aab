//! INSECURE-SIM: the worker on a simulated platform, signed by a root whose key is public: a trust
//! domain, or with `sgx` as the first argument an SGX enclave as under Gramine. `--gpus N` puts FAKE
//! GPUs into it.
//!
//! The code that runs is `chrysalis-worker`, unchanged; only the platform and the root differ.
//! Whoever accepts this worker's evidence has been told so by name: in the pins file, on the
//! command line and in every verdict and receipt.

use std::ffi::OsString;
use std::fs;
use std::io::{Write, stderr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chrysalis_tee_sim::device::{self, DeviceKind, SimDevices};
use chrysalis_tee_sim::{SimEnclave, SimPlatform, collateral, enclave_collateral, sim_root_der};
use chrysalis_wire::UnixMillis;
use chrysalis_wire::guest::SIM_REGISTER_PATH;
use chrysalis_worker::{MeasuredBy, PlatformChoice, SimRoots, WorkerError, start};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "sim") {
        return write_for_verifiers(&args.split_off(1));
    }
    let enclave = args.first().is_some_and(|first| first == "sgx");
    if enclave {
        args.remove(0);
    }
    let gpus = match gpus(&mut args) {
        Ok(gpus) => Arc::new(SimDevices::new(DeviceKind::Gh100, gpus, 0)),
        Err(code) => return code,
    };
    let sim_roots =
        Some(SimRoots { platform: sim_root_der(), devices: device::sim_device_root_der() });
    start(args, Arc::new(now), |args| {
        let executable = fs::read("/proc/self/exe")
            .map_err(|e| WorkerError::Unreadable { what: "own executable", kind: e.kind() })?;
        if enclave {
            let platform = Arc::new(SimEnclave::new(&executable));
            return Ok(PlatformChoice { platform, devices: gpus, sim_roots });
        }
        let mut platform = SimPlatform::new(&executable);
        if args.measured_by == MeasuredBy::Init {
            platform = platform.with_runtime_register(left_by_init()?);
        }
        Ok(PlatformChoice { platform: Arc::new(platform), devices: gpus, sim_roots })
    })
}

/// `--gpus N` before the worker's own arguments: so many FAKE GPUs are in this machine.
fn gpus(args: &mut Vec<OsString>) -> Result<u8, ExitCode> {
    if args.first().is_none_or(|first| first != "--gpus") {
        return Ok(0);
    }
    let number = args.get(1).and_then(|text| text.to_str()?.parse().ok()).ok_or_else(usage)?;
    args.drain(..2);
    Ok(number)
}

/// The simulated RTMR3 as PID 1 left it in its read-only file.
fn left_by_init() -> Result<[u8; 48], WorkerError> {
    let unreadable = |kind| WorkerError::Unreadable { what: "simulated register", kind };
    let bytes = fs::read(SIM_REGISTER_PATH).map_err(|e| unreadable(e.kind()))?;
    bytes.try_into().map_err(|_| unreadable(std::io::ErrorKind::InvalidData))
}

/// `sim root|collateral|sgx-collateral --out FILE`, and `sim device-pins --gpus N --out FILE` for the
/// `[device]` section of pins: what a verifier of simulated evidence needs, as files, so that no
/// verifier has to link this crate.
fn write_for_verifiers(args: &[OsString]) -> ExitCode {
    let (what, gpus, path) = match args {
        [what, out, path] if out == "--out" => (what, None, path),
        [what, flag, gpus, out, path] if flag == "--gpus" && out == "--out" => {
            (what, gpus.to_str().and_then(|gpus| gpus.parse().ok()), path)
        }
        _ => return usage(),
    };
    let text = match what.to_str() {
        Some("device-pins") => match gpus {
            Some(gpus) => device::device_pins(DeviceKind::Gh100, gpus, 0),
            None => return usage(),
        },
        _ if gpus.is_some() => return usage(),
        Some("root") => format!("{}\n", hex::encode(sim_root_der())),
        Some("collateral") => collateral(now().seconds()),
        Some("sgx-collateral") => enclave_collateral(now().seconds()),
        _ => return usage(),
    };
    match fs::write(path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(stderr(), "error: cannot write {}: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    drop(writeln!(
        stderr(),
        "usage: chrysalis-worker-sim [sgx] [--gpus N] WORKER-ARGUMENTS, or sim \
         root|collateral|sgx-collateral --out FILE, or sim device-pins --gpus N --out FILE"
    ));
    ExitCode::from(64)
}

fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
