//! The release worker: TDX or Gramine, Intel's root, no simulator linked.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chrysalis_nvml::Nvml;
use chrysalis_wire::UnixMillis;
use chrysalis_worker::{PlatformChoice, start};

fn main() -> ExitCode {
    let clock = Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    });
    start(std::env::args_os().skip(1), clock, |_| {
        let platform = chrysalis_tee::detect(std::path::Path::new("/"))?;
        let devices = Arc::new(Nvml::of_system());
        Ok(PlatformChoice { platform: Arc::from(platform), devices, sim_roots: None })
    })
}
