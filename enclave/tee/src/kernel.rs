//! The two kernel interfaces that Rust's safe libraries do not cover: the TDREPORT ioctl and the
//! vsock address. The only `unsafe` of the crate; the kernel is trusted, the host is not involved.
//!
//! JUSTIFICATION: rustix has no safe wrapper for a driver-private ioctl (it cannot know what the
//! driver writes) and no `sockaddr_vm`. The alternatives, `vsock` with `nix`, would add two
//! crates to the trusted list for the same two calls.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::ioctl::{self, Opcode, Updater, opcode};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

/// Bytes of a TDREPORT (Intel TDX module ABI, TDREPORT_STRUCT).
pub const TD_REPORT_BYTES: usize = 1024;

/// `struct tdx_report_req` of `<linux/tdx-guest.h>`.
#[repr(C)]
struct TdxReportRequest {
    report_data: [u8; 64],
    td_report: [u8; TD_REPORT_BYTES],
}

/// `TDX_CMD_GET_REPORT0`, `_IOWR('T', 1, struct tdx_report_req)`.
const TDX_CMD_GET_REPORT0: Opcode = opcode::read_write::<TdxReportRequest>(b'T', 1);
const _: () = assert!(TDX_CMD_GET_REPORT0 == 0xC440_5401, "not the kernel's ioctl number");

/// Asks the TDX driver behind `device` for a TDREPORT over `report_data`.
pub(crate) fn td_report(
    device: BorrowedFd<'_>,
    report_data: &[u8; 64],
) -> rustix::io::Result<Box<[u8; TD_REPORT_BYTES]>> {
    let mut request =
        TdxReportRequest { report_data: *report_data, td_report: [0; TD_REPORT_BYTES] };
    // SAFETY: the opcode encodes direction and size of `TdxReportRequest`, which is `repr(C)`
    // with the layout of the kernel's struct and only byte arrays, so every bit pattern the
    // driver writes is valid. `request` lives across the call and is borrowed exclusively.
    unsafe {
        ioctl::ioctl(device, Updater::<'_, TDX_CMD_GET_REPORT0, _>::new(&mut request))?;
    }
    Ok(Box::new(request.td_report))
}

/// `struct sockaddr_vm` of `<linux/vm_sockets.h>`: 16 bytes, no padding.
#[repr(C)]
struct SockaddrVm {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

/// A vsock address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VsockAddr {
    pub(crate) cid: u32,
    pub(crate) port: u32,
}

// SAFETY: `f` gets a pointer to an initialised `sockaddr_vm` that lives until `f` returns,
// together with its exact size.
unsafe impl SocketAddrArg for VsockAddr {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = SockaddrVm {
            family: rustix::net::AddressFamily::VSOCK.as_raw(),
            reserved: 0,
            port: self.port,
            cid: self.cid,
            flags: 0,
            zero: [0; 3],
        };
        f((&raw const address).cast(), SOCKADDR_VM_BYTES)
    }
}

const SOCKADDR_VM_BYTES: SocketAddrLen = 16;
const _: () = assert!(size_of::<SockaddrVm>() == SOCKADDR_VM_BYTES as usize, "sockaddr_vm size");

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn lays_out_the_vsock_address_as_the_kernel_reads_it() {
        let address = VsockAddr { cid: 2, port: 4050 };
        // SAFETY: the closure reads exactly the bytes it is told it may read.
        let bytes = unsafe {
            address.with_sockaddr(|pointer, len| {
                std::slice::from_raw_parts(pointer.cast::<u8>(), len as usize).to_vec()
            })
        };
        let mut expected = [0; 16];
        expected[..2].copy_from_slice(&40u16.to_ne_bytes());
        expected[4..8].copy_from_slice(&4050u32.to_ne_bytes());
        expected[8..12].copy_from_slice(&2u32.to_ne_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn refuses_a_device_that_is_not_the_tdx_driver() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(
            td_report(file.as_fd(), &[0; 64]).unwrap_err(),
            rustix::io::Errno::NOTTY,
            "a regular file answered a TDX ioctl"
        );
    }
}
