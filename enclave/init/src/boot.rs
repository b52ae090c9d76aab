//! The boot, in the order the argument needs: nothing of the host is read before the kernel is
//! closed, nothing is measured after a secret could exist, nothing runs unmeasured.

use std::net::SocketAddrV4;
use std::path::Path;

use chrysalis_wire::{ConsoleEvent, ImageConfig, ImagePlatform, InitStep};

use crate::console::Console;
use crate::error::InitError;
use crate::kernel::{Ended, Kernel};
use crate::sandbox::Launch;
use crate::{disks, handover, image, measure, modules, mounts, network, root, sysctls};

/// What PID 1 works on.
pub struct System<'a> {
    /// Where its files are; `/` in a VM.
    pub root: &'a Path,
    /// The kernel.
    pub kernel: &'a dyn Kernel,
    /// The console.
    pub console: &'a Console,
}

/// Boots, runs the worker to its end and turns the machine off.
///
/// # Errors
/// Whatever ended the boot or the worker. The machine is off by then, unless even that failed.
pub fn run(system: &System<'_>) -> Result<(), InitError> {
    let result = boot(system).and_then(|launch| supervise(system, &launch));
    let code = result.as_ref().err().map(|error| error.code().to_owned());
    system.console.event(&ConsoleEvent::PowerOff { code });
    // If the kernel cannot, PID 1 ends, and that ends the kernel.
    drop(system.kernel.power_off());
    result
}

/// Everything up to a machine that is ready for its worker.
///
/// # Errors
/// The first refusal; its code was written to the console.
pub fn boot(system: &System<'_>) -> Result<Launch, InitError> {
    let System { root, kernel, console } = *system;
    console.step(InitStep::Mounts, || {
        mounts::mount_all(root, kernel)?;
        Ok(((), mounts::MOUNTS.len()))
    })?;
    let config = console.step(InitStep::Image, || Ok((image::read_config(root)?, 0)))?;
    announce(console, &config);
    console.step(InitStep::CommandLine, || {
        let line = image::read_command_line(root, config.debug)?;
        Ok(((), line.words().len()))
    })?;
    console
        .step(InitStep::Modules, || Ok(((), modules::load_all(root, kernel, &config.modules)?)))?;
    console.step(InitStep::Sysctls, || Ok(((), sysctls::apply_all(root, &config.sysctls)?)))?;
    console.step(InitStep::Network, || Ok(((), network::bring_up(kernel, &config.network)?)))?;
    let disks = console.step(InitStep::Disks, || {
        let disks = disks::find_and_read(root, kernel, config.root.is_some())?;
        let count = if disks.root.is_some() { 3 } else { 2 };
        Ok((disks, count))
    })?;
    match (&config.root, &disks.root) {
        (Some(section), Some(disk)) => {
            console.step(InitStep::Root, || Ok(((), root::mount(root, kernel, disk, section)?)))?
        }
        _ => console.skipped(InitStep::Root),
    }
    let rtmr3 = console.step(InitStep::Measure, || {
        handover::make_directory(root)?;
        let register = measure::open(root, config.platform)?;
        let measured = measure::measure(register.as_ref(), disks.config.manifest())?;
        handover::hand_over(root, kernel, config.platform, &disks)?;
        mounts::seal_all(root, kernel)?;
        check_sealed(system, config.platform)?;
        Ok(measured)
    })?;
    console.event(&ConsoleEvent::Measured { rtmr3 });
    let listen = SocketAddrV4::new(config.network.address, config.listen_port);
    let (debug, root) = (config.debug, config.root.is_some());
    let peer_pins = disks.config.peer_pins().is_some();
    Ok(Launch { platform: config.platform, listen, debug, root, peer_pins })
}

fn announce(console: &Console, config: &ImageConfig) {
    let insecure_sim = config.platform == ImagePlatform::InsecureSim;
    console.event(&ConsoleEvent::Image { debug: config.debug, insecure_sim });
}

/// Even root must not be able to open the register for writing any more.
fn check_sealed(system: &System<'_>, platform: ImagePlatform) -> Result<(), InitError> {
    let register = measure::register_path(system.root, platform);
    match system.kernel.open_for_writing(&register) {
        Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        _ => Err(InitError::SandboxOpen("the runtime register is not sealed")),
    }
}

/// Starts the worker and waits for its end.
fn supervise(system: &System<'_>, launch: &Launch) -> Result<(), InitError> {
    let System { kernel, console, .. } = *system;
    let start = |e: std::io::Error| InitError::Start(e.kind());
    let pid = console.step(InitStep::Worker, || Ok((kernel.spawn(launch).map_err(start)?, 0)))?;
    let ended = kernel.wait_for(pid).map_err(start)?;
    let (exit, signal) = match ended {
        Ended::Exit(code) => (Some(code), None),
        Ended::Signal(signal) => (None, Some(signal)),
    };
    console.event(&ConsoleEvent::WorkerEnded { exit, signal });
    match ended {
        Ended::Exit(0) => Ok(()),
        // Not restarted: its keys are gone, and only a machine that restarts has a register of
        // zeros again.
        Ended::Exit(code) => Err(InitError::WorkerExit(code)),
        Ended::Signal(signal) => Err(InitError::WorkerSignal(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Screen};

    fn run_on(fake: &Fake) -> (Result<(), InitError>, Screen) {
        let screen = Screen::default();
        let console = Console::new(Box::new(screen.clone()));
        let result = run(&System { root: fake.root(), kernel: fake, console: &console });
        (result, screen)
    }

    /// Whatever was refused: nothing was started, and the machine is off.
    fn refused(fake: &Fake) -> InitError {
        let (result, screen) = run_on(fake);
        let error = result.unwrap_err();
        assert!(!fake.log().iter().any(|l| l.starts_with("spawn")), "the worker was started");
        assert_eq!(fake.log().last().unwrap(), "power off");
        let last = format!("{{\"event\":\"power-off\",\"code\":\"{}\"}}", error.code());
        assert_eq!(screen.lines().last().unwrap(), &last);
        error
    }

    #[test]
    fn boots_in_the_documented_order_and_ends_with_the_worker() {
        let fake = Fake::new();
        let (result, screen) = run_on(&fake);
        assert_eq!(result, Ok(()));
        assert_eq!(
            fake.log(),
            [
                "mount proc",
                "mount sysfs",
                "mount devtmpfs",
                "mount tmpfs",
                "module code",
                "route 16 of 1",
                "route 20 of 2",
                "route 16 of 2",
                "give dev/vdb 1000 440",
                "seal sys",
                "seal run",
                "seal ",
                "spawn second-stage insecure-sim 10.0.2.15:8443",
                "power off",
            ]
        );
        let all = InitStep::ALL.iter().filter(|step| **step != InitStep::Root);
        let steps: Vec<_> = all.map(|s| s.name()).collect();
        let skipped = r#"{"event":"init","step":"root","state":"skipped","total":0}"#;
        assert!(screen.lines().iter().any(|l| l == skipped));
        let done: Vec<_> = screen
            .lines()
            .iter()
            .filter(|l| l.contains("\"done\""))
            .map(|l| l.split('"').nth(7).unwrap().to_owned())
            .collect();
        assert_eq!(done, steps);
        assert_eq!(screen.lines().last().unwrap(), "{\"event\":\"power-off\"}");
    }

    #[test]
    fn an_image_with_a_root_mounts_it_before_the_register_and_tells_the_second_stage() {
        let fake = Fake::with_root();
        let (result, screen) = run_on(&fake);
        assert_eq!(result, Ok(()));
        let log = fake.log();
        let at =
            |line: &str| log.iter().position(|l| l == line).unwrap_or_else(|| panic!("{log:?}"));
        assert!(at("module code") < at("mount ramfs"));
        assert!(at("mount erofs chrysalis/root/copy") < at("give dev/vdb 1000 440"));
        at("spawn second-stage insecure-sim 10.0.2.15:8443 root");
        let done = r#"{"event":"init","step":"root","state":"done","total":1}"#;
        assert!(screen.lines().iter().any(|l| l == done), "{}", screen.text());
    }

    #[test]
    fn refuses_a_root_that_is_not_the_measured_one_before_the_register_is_touched() {
        type Spoil = fn(&Fake);
        let spoilt: [(&str, Spoil); 4] = [
            ("E-INIT-ROOT-HASH", |fake| fake.write_bytes("dev/vdc", &[0x5b; 4096])),
            ("E-INIT-ROOT-SIZE", |fake| fake.write_bytes("dev/vdc", &[0x5a; 4095])),
            ("E-INIT-ROOT-SIZE", |fake| fake.write_bytes("dev/vdc", &[0x5a; 8192])),
            ("E-INIT-DISK-MISSING", |fake| {
                std::fs::remove_dir_all(fake.root().join("sys/block/vdc")).unwrap();
            }),
        ];
        for (code, spoil) in spoilt {
            let fake = Fake::with_root();
            spoil(&fake);
            assert_eq!(refused(&fake).code(), code);
            assert!(!fake.root().join("run/chrysalis").exists());
            assert!(!fake.log().iter().any(|l| l.starts_with("mount erofs")));
        }
    }

    #[test]
    fn refuses_a_root_disk_at_an_image_without_a_root() {
        let fake = Fake::with_root();
        let plain = Fake::new();
        fake.write("chrysalis/image.toml", &plain.read("chrysalis/image.toml"));
        assert_eq!(refused(&fake).code(), "E-INIT-DISK-UNKNOWN");
    }

    #[test]
    fn announces_a_debug_image_and_a_simulated_one() {
        let fake = Fake::new();
        let config = fake.read("chrysalis/image.toml").replace("debug = false", "debug = true");
        fake.write("chrysalis/image.toml", &config);
        let (_, screen) = run_on(&fake);
        let line = r#"{"event":"image","debug":true,"insecure_sim":true}"#;
        assert!(screen.lines().iter().any(|l| l == line));
    }

    #[test]
    fn refuses_a_word_on_the_command_line_before_any_module_is_loaded() {
        let fake = Fake::new();
        fake.write("proc/cmdline", "console=ttyS0 nokaslr\n");
        assert_eq!(refused(&fake).code(), "E-CMDLINE-WORD");
        assert!(!fake.log().iter().any(|l| l.starts_with("module")));
    }

    #[test]
    fn refuses_a_changed_module() {
        let fake = Fake::new();
        fake.write("lib/modules/a.ko", "other code");
        assert_eq!(refused(&fake).code(), "E-INIT-MODULE-HASH");
    }

    #[test]
    fn refuses_a_malformed_configuration_disk_before_the_register_is_touched() {
        let fake = Fake::new();
        fake.write_bytes("dev/vda", &[0xff; 1024]);
        assert_eq!(refused(&fake).code(), "E-CONFIG-MAGIC");
        assert!(!fake.root().join("run/chrysalis").exists());
    }

    #[test]
    fn refuses_a_machine_without_a_model_disk() {
        let fake = Fake::new();
        std::fs::remove_dir_all(fake.root().join("sys/block/vdb")).unwrap();
        assert_eq!(refused(&fake).code(), "E-INIT-DISK-MISSING");
    }

    #[test]
    fn refuses_a_tdx_image_outside_tdx() {
        let fake = Fake::new();
        let config = fake.read("chrysalis/image.toml").replace("insecure-sim", "tdx");
        fake.write("chrysalis/image.toml", &config);
        assert_eq!(refused(&fake).code(), "E-TEE-IO");
    }

    #[test]
    fn refuses_to_start_a_worker_while_the_register_is_open() {
        let fake = Fake::new().never_sealing();
        assert_eq!(refused(&fake).code(), "E-INIT-SANDBOX-OPEN");
    }

    #[test]
    fn refuses_a_network_that_does_not_come_up() {
        let fake = Fake::new().refusing("route 16 of 2");
        assert_eq!(refused(&fake).code(), "E-INIT-NETWORK");
    }

    #[test]
    fn powers_off_when_the_worker_refuses_or_dies() {
        let ends = [
            (Ended::Exit(10), "E-INIT-WORKER-EXIT", "\"exit\":10"),
            (Ended::Signal(31), "E-INIT-WORKER-SIGNAL", "\"signal\":31"),
        ];
        for (ended, code, shown) in ends {
            let fake = Fake::new().ending(ended);
            let (result, screen) = run_on(&fake);
            assert_eq!(result.unwrap_err().code(), code);
            assert_eq!(fake.log().last().unwrap(), "power off");
            assert!(screen.text().contains(shown));
            let spawned = fake.log().iter().filter(|l| l.starts_with("spawn")).count();
            assert_eq!(spawned, 1, "a worker that ended was started again");
        }
    }

    #[test]
    fn powers_off_when_the_worker_cannot_be_started() {
        let fake = Fake::new().refusing("spawn second-stage insecure-sim 10.0.2.15:8443");
        let (result, _) = run_on(&fake);
        assert_eq!(result.unwrap_err().code(), "E-INIT-START");
        assert_eq!(fake.log().last().unwrap(), "power off");
    }
}
