//! INSECURE-SIM: the worker on a simulated platform, signed by a root whose key is public: a trust
//! domain, or with `sgx` as the first argument an SGX enclave as under Gramine.
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

use chrysalis_tee_sim::{SimEnclave, SimPlatform, collateral, enclave_collateral, sim_root_der};
use chrysalis_wire::UnixMillis;
use chrysalis_wire::guest::SIM_REGISTER_PATH;
use chrysalis_worker::{MeasuredBy, PlatformChoice, WorkerError, start};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "sim") {
        return write_for_verifiers(&args.split_off(1));
    }
    let enclave = args.first().is_some_and(|first| first == "sgx");
    if enclave {
        args.remove(0);
    }
    start(args, Arc::new(now), |args| {
        let executable = fs::read("/proc/self/exe")
            .map_err(|e| WorkerError::Unreadable { what: "own executable", kind: e.kind() })?;
        if enclave {
            let platform = Arc::new(SimEnclave::new(&executable));
            return Ok(PlatformChoice { platform, sim_root: Some(sim_root_der()) });
        }
        let mut platform = SimPlatform::new(&executable);
        if args.measured_by == MeasuredBy::Init {
            platform = platform.with_runtime_register(left_by_init()?);
        }
        Ok(PlatformChoice { platform: Arc::new(platform), sim_root: Some(sim_root_der()) })
    })
}

/// The simulated RTMR3 as PID 1 left it in its read-only file.
fn left_by_init() -> Result<[u8; 48], WorkerError> {
    let unreadable = |kind| WorkerError::Unreadable { what: "simulated register", kind };
    let bytes = fs::read(SIM_REGISTER_PATH).map_err(|e| unreadable(e.kind()))?;
    bytes.try_into().map_err(|_| unreadable(std::io::ErrorKind::InvalidData))
}

/// `sim root|collateral|sgx-collateral --out FILE`: what a verifier of simulated evidence
/// needs, as files, so that no verifier has to link this crate.
fn write_for_verifiers(args: &[OsString]) -> ExitCode {
    let [what, flag, path] = args else { return usage() };
    if flag != "--out" {
        return usage();
    }
    let text = match what.to_str() {
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
        "usage: chrysalis-worker-sim sim root|collateral|sgx-collateral --out FILE"
    ));
    ExitCode::from(64)
}

fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
