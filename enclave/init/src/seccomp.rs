//! The system calls a worker may make: what an inference server without disk, children or outbound
//! connections needs. Any other one ends the worker at once.
//!
//! Recorded with `strace` over boot, attestation and streamed answers, then narrowed by argument
//! where an argument decides what a call can do.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_UNIX, AF_VSOCK, CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID,
    CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, PR_SET_DUMPABLE,
    PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PROT_EXEC, SOCK_STREAM,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::InitError;

/// The two filters, to be installed in this order: the kernel runs both, and the stricter answer
/// counts.
///
/// # Errors
/// [`InitError::Sandbox`] if they do not compile, which no input can cause.
pub fn filters(quotes_over_vsock: bool) -> Result<[BpfProgram; 2], InitError> {
    let failed = |_: seccompiler::BackendError| InitError::Sandbox("compile the system call list");
    let unavailable = SeccompFilter::new(
        UNAVAILABLE.iter().map(|call| (*call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or_default()),
        TargetArch::x86_64,
    );
    let allowed = SeccompFilter::new(
        rules(quotes_over_vsock).map_err(failed)?,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    let compile = |filter: Result<SeccompFilter, _>| filter.and_then(BpfProgram::try_from);
    Ok([compile(unavailable).map_err(failed)?, compile(allowed).map_err(failed)?])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(quotes_over_vsock: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules =
        ALWAYS.iter().chain(UNAVAILABLE).map(|call| (*call, Vec::new())).collect();
    // Memory is writable or executable, never made executable.
    let not_executable = || {
        let mask = SeccompCmpOp::MaskedEq(bits(PROT_EXEC));
        condition(2, mask, 0).and_then(|c| SeccompRule::new(vec![c]))
    };
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    // Threads of this process, no other process and no namespace.
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![equal(0, THREAD_FLAGS)?])?]);
    let names = [PR_SET_NAME, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS];
    let names = names.map(|name| equal(0, name).and_then(|c| SeccompRule::new(vec![c])));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    // A stream to a client, and on TDX one to the quote service. No datagram.
    let families = if quotes_over_vsock { &[AF_INET, AF_VSOCK][..] } else { &[AF_INET] };
    let stream = || condition(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), bits(SOCK_STREAM));
    let sockets = families
        .iter()
        .map(|family| SeccompRule::new(vec![equal(0, *family)?, stream()?]))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, sockets);
    // The signal handler of the runtime wakes itself through one.
    let pair = SeccompRule::new(vec![equal(0, AF_UNIX)?, stream()?])?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    // Only on a connected socket: with an address it would be a way to connect.
    let no_address = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![no_address])?]);
    if quotes_over_vsock {
        rules.insert(libc::SYS_connect, Vec::new());
        let report = condition(1, SeccompCmpOp::Eq, TDX_CMD_GET_REPORT0)?;
        rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![report])?]);
    }
    Ok(rules)
}

fn equal(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::Eq, bits(value))
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// The bits of a C `int` as the kernel's `u32` argument.
const fn bits(value: i32) -> u64 {
    value.cast_unsigned() as u64
}

/// Calls answered as if the kernel did not have them, because their callers then do without.
const UNAVAILABLE: &[i64] = &[
    // The C library then uses `clone`, whose flags a filter can read.
    libc::SYS_clone3,
    // The matrix library would run `lscpu` where it may not read the processor's caches, which the
    // host describes; without a pipe it takes its defaults.
    libc::SYS_pipe2,
];

/// Calls that are allowed whatever their arguments.
const ALWAYS: &[i64] = &[
    // Files: landlock says which.
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // Threads.
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Start of the program itself; landlock lets nothing but the worker be executed.
    libc::SYS_execve,
    libc::SYS_arch_prctl,
    libc::SYS_prlimit64,
    // Randomness and time, where the kernel cannot answer from user space.
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // The server.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_poll,
];

/// What the C library passes to `clone` for a thread, and nothing besides.
const THREAD_FLAGS: i32 = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID;
/// `SOCK_TYPE_MASK` of `<linux/net.h>`: the rest are flags.
const SOCKET_TYPE_MASK: u64 = 0xf;
/// `_IOWR('T', 1, struct tdx_report_req)` of `<linux/tdx-guest.h>`.
const TDX_CMD_GET_REPORT0: u64 = 0xc440_5401;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile_for_both_platforms() {
        for quotes in [false, true] {
            // The kernel takes at most 4096 instructions.
            assert!(filters(quotes).unwrap().iter().all(|p| (5..4096).contains(&p.len())));
        }
    }

    #[test]
    fn nothing_that_reaches_beyond_the_process_is_listed() {
        let rules = rules(true).unwrap();
        for call in [
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_finit_module,
            libc::SYS_reboot,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_memfd_create,
            libc::SYS_execveat,
            libc::SYS_open,
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_chmod,
            libc::SYS_keyctl,
            libc::SYS_setuid,
        ] {
            assert!(!rules.contains_key(&call), "system call {call} is listed");
        }
    }

    #[test]
    fn only_a_tdx_worker_may_connect_and_ask_for_a_report() {
        for call in [libc::SYS_connect, libc::SYS_ioctl] {
            assert!(!rules(false).unwrap().contains_key(&call));
            assert!(rules(true).unwrap().contains_key(&call));
        }
        assert_eq!(rules(false).unwrap()[&libc::SYS_socket].len(), 1);
    }
}
