//! The second stage: a process that gives up everything a worker does not need, proves that it is
//! gone, and becomes the worker.
//!
//! PID 1 starts its own executable again instead of running code between `fork` and `exec`: what
//! follows is then ordinary, single-threaded, safe code, and PID 1 itself needs no `unsafe`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrysalis_tee::TdxPaths;
use chrysalis_wire::ImagePlatform;
use chrysalis_wire::guest::{
    COLLATERAL_PATH, HANDOVER_DIR, MANIFEST_PATH, MODEL_PATH, PEER_PINS_PATH, ROOT_DIR, WORKER_ID,
    WORKER_PATH,
};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, PathBeneath,
    PathFd, PathFdError, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::error::InitError;
use crate::measure::register_path;
use crate::seccomp;

/// What PID 1 tells the second stage. Everything in it comes from `image.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The platform of the image.
    pub platform: ImagePlatform,
    /// Where the worker listens.
    pub listen: SocketAddrV4,
    /// Whether this is a debug image: the worker's standard error is then the console.
    pub debug: bool,
    /// Whether the image has a root, mounted by now.
    pub root: bool,
    /// Whether pins of clients were handed over.
    pub peer_pins: bool,
}

impl Launch {
    /// The arguments of the second stage, without the program name.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args =
            vec![SECOND_STAGE.to_owned(), self.platform.to_string(), self.listen.to_string()];
        args.extend(self.root.then(|| WITH_ROOT.to_owned()));
        args.extend(self.peer_pins.then(|| WITH_PEER_PINS.to_owned()));
        args
    }

    /// Reads [`Self::to_args`] back; `debug` is PID 1's business alone.
    ///
    /// # Errors
    /// [`InitError::Usage`] for anything else.
    pub fn parse(args: &[OsString]) -> Result<Self, InitError> {
        let text: Vec<&str> = args.iter().filter_map(|a| a.to_str()).collect();
        let [SECOND_STAGE, platform, listen, with @ ..] = text.as_slice() else {
            return Err(InitError::Usage);
        };
        let (root, peer_pins) = match with {
            [] => (false, false),
            [WITH_ROOT] => (true, false),
            [WITH_PEER_PINS] => (false, true),
            [WITH_ROOT, WITH_PEER_PINS] => (true, true),
            _ => return Err(InitError::Usage),
        };
        let platform = [ImagePlatform::Tdx, ImagePlatform::InsecureSim]
            .into_iter()
            .find(|known| known.to_string() == *platform)
            .ok_or(InitError::Usage)?;
        let listen = listen.parse().map_err(|_| InitError::Usage)?;
        Ok(Self { platform, listen, debug: false, root, peer_pins })
    }
}

/// Everything the worker will be able to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The only program it can execute: itself.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Files and directories it may read.
    pub readable: Vec<PathBuf>,
    /// Directories below which it may read and execute.
    pub trees: Vec<PathBuf>,
    /// Devices it may read, write and control.
    pub devices: Vec<PathBuf>,
    /// The way into the runtime register, which must be closed.
    pub register: PathBuf,
    /// The only TCP port it may bind.
    pub port: u16,
    /// Whether it may lock all the memory it uses: weights and keys are never swapped.
    pub locks_memory: bool,
    /// Whether it may connect to the quote service on the host.
    pub quotes_over_vsock: bool,
}

impl Plan {
    /// The plan of a worker started as `launch` says.
    #[must_use]
    pub fn of(launch: &Launch) -> Self {
        let root = Path::new("/");
        let mut readable: Vec<PathBuf> = [HANDOVER_DIR, MODEL_PATH, MEMINFO]
            .into_iter()
            .chain(RANDOM)
            .map(PathBuf::from)
            .collect();
        let mut devices = Vec::new();
        if launch.platform == ImagePlatform::Tdx {
            let paths = TdxPaths::under(root);
            readable.push(paths.measurements);
            devices.push(paths.device);
        }
        let listen = launch.listen.to_string();
        let args = [
            "--measured-by",
            "init",
            "--manifest",
            MANIFEST_PATH,
            "--bundle",
            MODEL_PATH,
            "--collateral",
            COLLATERAL_PATH,
            "--listen",
            &listen,
        ];
        let pins = launch.peer_pins.then_some(["--peer-pins", PEER_PINS_PATH]);
        let args = args.into_iter().chain(pins.into_iter().flatten());
        Self {
            program: WORKER_PATH.into(),
            args: args.map(OsString::from).collect(),
            readable,
            trees: launch.root.then(|| ROOT_DIR.into()).into_iter().collect(),
            devices,
            register: register_path(root, launch.platform),
            port: launch.listen.port(),
            locks_memory: true,
            quotes_over_vsock: launch.platform == ImagePlatform::Tdx,
        }
    }
}

/// Gives everything up and becomes the worker. Returns only if something was refused.
#[must_use]
pub fn enter(plan: &Plan) -> InitError {
    let entered = give_up_limits(plan.locks_memory)
        .and_then(|()| give_up_privileges())
        .and_then(|()| give_up_files(plan))
        .and_then(|()| check_closed(&plan.register))
        .and_then(|()| give_up_calls(plan.quotes_over_vsock));
    if let Err(error) = entered {
        return error;
    }
    let error = Command::new(&plan.program).args(&plan.args).env_clear().exec();
    InitError::Start(error.kind())
}

fn give_up_limits(locks_memory: bool) -> Result<(), InitError> {
    let memory = locks_memory.then_some((Resource::Memlock, None));
    for (resource, limit) in LIMITS.into_iter().chain(memory) {
        setrlimit(resource, Rlimit { current: limit, maximum: limit })
            .map_err(|_| InitError::Sandbox("set a resource limit"))?;
    }
    rustix::process::setsid().map_err(|_| InitError::Sandbox("start a session"))?;
    Ok(())
}

/// No capability in any set, none to be gained, and another user.
fn give_up_privileges() -> Result<(), InitError> {
    let refused = |what| move |_| InitError::Sandbox(what);
    for capability in bounding_set() {
        rustix::thread::remove_capability_from_bounding_set(capability)
            .map_err(refused("drop a capability from the bounding set"))?;
    }
    rustix::thread::set_capabilities_secure_bits(SECURE_BITS)
        .map_err(refused("lock the secure bits"))?;
    let (user, group) = (Uid::from_raw(WORKER_ID), Gid::from_raw(WORKER_ID));
    rustix::thread::set_thread_groups(&[]).map_err(refused("drop the groups"))?;
    rustix::thread::set_thread_res_gid(group, group, group).map_err(refused("set the group"))?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(refused("set the user"))?;
    rustix::thread::set_capabilities(None, NONE).map_err(refused("drop the capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(refused("set no_new_privs"))?;

    if rustix::thread::capabilities(None) != Ok(NONE) || !bounding_set().is_empty() {
        return Err(InitError::SandboxOpen("a capability is left"));
    }
    if rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
        return Err(InitError::SandboxOpen("the user can be set back"));
    }
    Ok(())
}

fn bounding_set() -> Vec<CapabilitySet> {
    (0..u64::BITS)
        .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
        .filter(|one| rustix::thread::capability_is_in_bounding_set(*one) == Ok(true))
        .collect()
}

/// Landlock: the paths of `plan` and nothing else, one port to bind, none to connect to.
fn give_up_files(plan: &Plan) -> Result<(), InitError> {
    let executable = AccessFs::ReadFile | AccessFs::Execute;
    let programs = std::iter::once(&plan.program).chain(&plan.trees);
    let programs = programs.map(|path| (path, executable));
    let readable = plan.readable.iter().map(|path| (path, AccessFs::ReadFile.into()));
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let devices = plan.devices.iter().map(|path| (path, device));
    let paths = programs
        .chain(readable)
        .chain(devices)
        .map(|(path, access)| Ok(PathBeneath::new(PathFd::new(path)?, access)))
        .collect::<Result<Vec<_>, PathFdError>>()
        .map_err(|_| InitError::Sandbox("find what the worker may reach"))?;
    let rules = || -> Result<_, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rule(NetPort::new(plan.port, AccessNet::BindTcp))?;
        for path in paths {
            ruleset = ruleset.add_rule(path)?;
        }
        ruleset.restrict_self()
    };
    let status = rules().map_err(|_| InitError::Sandbox("enforce landlock"))?;
    if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
        return Err(InitError::SandboxOpen("landlock is not enforced in full"));
    }
    Ok(())
}

/// Tries to open the register for writing, as the worker could. Being unable to find out is not
/// enough: it must be there and refused.
fn check_closed(register: &Path) -> Result<(), InitError> {
    match OpenOptions::new().write(true).open(register).map_err(|e| e.kind()) {
        Err(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Ok(()),
        Err(_) => Err(InitError::SandboxOpen("the runtime register is not where it should be")),
        Ok(_) => Err(InitError::SandboxOpen("the runtime register can be written to")),
    }
}

fn give_up_calls(quotes_over_vsock: bool) -> Result<(), InitError> {
    for filter in seccomp::filters(quotes_over_vsock)? {
        seccompiler::apply_filter(&filter)
            .map_err(|_| InitError::Sandbox("install the system call list"))?;
    }
    Ok(())
}

/// By what it says the engine bounds the memory that it takes.
const MEMINFO: &str = "/proc/meminfo";

/// A static program cannot look up whether its C library has `getrandom` and reads these instead.
const RANDOM: [&str; 2] = ["/dev/random", "/dev/urandom"];

/// Last argument of the second stage of an image with a root.
const WITH_ROOT: &str = "root";
const WITH_PEER_PINS: &str = "peer-pins";

/// First argument of the second stage.
pub const SECOND_STAGE: &str = "second-stage";

/// Linux 6.12: file, device, TCP and scope rules. Later additions are not needed by a process that
/// cannot make the calls they are about.
const LANDLOCK: ABI = ABI::V6;

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// User 0 means nothing any more, and nobody can say otherwise.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Limits of the worker, soft and hard alike.
const LIMITS: [(Resource, Option<u64>); 4] = [
    (Resource::Core, Some(0)),
    // No regular file can be written; the console is not one.
    (Resource::Fsize, Some(0)),
    // 256 connections and the worker's own.
    (Resource::Nofile, Some(1024)),
    // Threads; no process can be made.
    (Resource::Nproc, Some(1024)),
];

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCH: Launch = Launch {
        platform: ImagePlatform::InsecureSim,
        listen: SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 2, 15), 8443),
        debug: false,
        root: false,
        peer_pins: false,
    };

    fn parse(args: &[&str]) -> Result<Launch, InitError> {
        Launch::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_second_stage_reads_what_pid_1_wrote() {
        for platform in [ImagePlatform::Tdx, ImagePlatform::InsecureSim] {
            for (root, peer_pins) in [(false, false), (true, false), (false, true), (true, true)] {
                let launch = Launch { platform, root, peer_pins, ..LAUNCH };
                let args = launch.to_args();
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                assert_eq!(parse(&args), Ok(launch));
            }
        }
    }

    #[test]
    fn refuses_arguments_pid_1_does_not_give() {
        for bad in [
            &[][..],
            &["second-stage"],
            &["second-stage", "sev", "10.0.2.15:8443"],
            &["second-stage", "tdx", "10.0.2.15"],
            &["second-stage", "tdx", "[::1]:8443"],
            &["second-stage", "tdx", "10.0.2.15:8443", "debug"],
            &["second-stage", "tdx", "10.0.2.15:8443", "root", "root"],
            &["second-stage", "tdx", "10.0.2.15:8443", "peer-pins", "root"],
            &["third-stage", "tdx", "10.0.2.15:8443"],
        ] {
            assert_eq!(parse(bad), Err(InitError::Usage), "{bad:?}");
        }
    }

    #[test]
    fn a_worker_without_tdx_gets_no_device_and_no_way_out() {
        let plan = Plan::of(&LAUNCH);
        assert!(plan.devices.is_empty());
        assert!(!plan.quotes_over_vsock);
        assert_eq!(plan.register, Path::new("/run/chrysalis/rtmr3"));
    }

    #[test]
    fn a_worker_reads_and_executes_below_the_root_only_where_there_is_one() {
        assert!(Plan::of(&LAUNCH).trees.is_empty());
        assert_eq!(Plan::of(&Launch { root: true, ..LAUNCH }).trees, [Path::new(ROOT_DIR)]);
    }

    #[test]
    fn a_tdx_worker_reads_its_registers_and_writes_only_its_device() {
        let plan = Plan::of(&Launch { platform: ImagePlatform::Tdx, ..LAUNCH });
        assert_eq!(plan.devices, [Path::new("/dev/tdx_guest")]);
        assert!(plan.register.ends_with("measurements/rtmr3:sha384"));
        assert!(plan.readable.iter().any(|path| plan.register.starts_with(path)));
    }

    #[test]
    fn arguments_of_the_worker_are_fixed_but_for_the_measured_address() {
        let plan = Plan::of(&LAUNCH);
        assert_eq!(plan.args[..2], ["--measured-by", "init"]);
        assert_eq!(plan.args.last().unwrap(), "10.0.2.15:8443");
        assert_eq!(plan.args.len(), 10);
        let plan = Plan::of(&Launch { peer_pins: true, ..LAUNCH });
        assert_eq!(plan.args[10..], ["--peer-pins", "/run/chrysalis/peer-pins.toml"]);
    }

    #[test]
    fn refuses_a_register_that_can_be_written_or_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let register = dir.path().join("rtmr3");
        assert!(matches!(check_closed(&register), Err(InitError::SandboxOpen(_))));
        std::fs::write(&register, [0; 48]).unwrap();
        assert!(matches!(check_closed(&register), Err(InitError::SandboxOpen(_))));
        // A directory cannot be opened for writing, and is no register either.
        assert!(matches!(check_closed(dir.path()), Err(InitError::SandboxOpen(_))));
    }
}
