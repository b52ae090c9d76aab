//! The network: one static address on one interface, and the loopback. No route, no DHCP, no name
//! service: the worker opens no connection, and nothing here parses a packet.
//!
//! Requests follow rtnetlink (`<linux/rtnetlink.h>`): a 16-byte `nlmsghdr`, a fixed body and
//! attributes aligned to 4 bytes, all in the byte order of the machine.

use std::net::Ipv4Addr;

use chrysalis_wire::image::NetworkSection;

use crate::error::InitError;
use crate::kernel::Kernel;
use crate::limits::{DEVICE_ATTEMPTS, DEVICE_PAUSE};

/// Brings up the loopback and the configured interface; returns how many interfaces.
///
/// # Errors
/// [`InitError::NoInterface`] if it does not appear in time, [`InitError::Network`] if the kernel
/// refuses a request.
pub fn bring_up(kernel: &dyn Kernel, network: &NetworkSection) -> Result<usize, InitError> {
    let lo = find(kernel, "lo", 1)?;
    request(kernel, "bring up the loopback", &link_up(lo))?;
    let index = find(kernel, &network.interface, DEVICE_ATTEMPTS)?;
    let address = add_address(index, network.address, network.prefix);
    request(kernel, "add the address", &address)?;
    request(kernel, "bring up the interface", &link_up(index))?;
    Ok(2)
}

fn find(kernel: &dyn Kernel, name: &str, attempts: u32) -> Result<u32, InitError> {
    for attempt in 0..attempts {
        if attempt > 0 {
            kernel.pause(DEVICE_PAUSE);
        }
        if let Ok(index) = kernel.interface(name) {
            return Ok(index);
        }
    }
    Err(InitError::NoInterface)
}

fn request(kernel: &dyn Kernel, step: &'static str, message: &[u8]) -> Result<(), InitError> {
    let reply = kernel
        .route_request(message)
        .map_err(|e| InitError::Network { step, errno: e.raw_os_error().unwrap_or_default() })?;
    match acknowledged(&reply) {
        Some(0) => Ok(()),
        Some(errno) => Err(InitError::Network { step, errno }),
        None => Err(InitError::Network { step, errno: 0 }),
    }
}

/// The error number in an `NLMSG_ERROR` reply, 0 for an acknowledgement.
fn acknowledged(reply: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(reply.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then(|| errno.saturating_neg())
}

/// `RTM_NEWLINK` that sets `IFF_UP` and nothing else.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(16);
    // struct ifinfomsg: family, padding, type, index, flags, change mask.
    body.extend_from_slice(&[0, 0, 0, 0]);
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &body)
}

/// `RTM_NEWADDR` of an IPv4 address that is not there yet.
fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = Vec::with_capacity(24);
    // struct ifaddrmsg: family, prefix length, flags, scope (0 is universe), index.
    body.extend_from_slice(&[AF_INET, prefix, 0, 0]);
    body.extend_from_slice(&index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend_from_slice(&ATTRIBUTE_BYTES.to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(&address.octets());
    }
    message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = body.len().saturating_add(HEADER_BYTES);
    let mut out = Vec::with_capacity(len);
    // Never truncated: the two bodies there are have 16 and 24 bytes.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port: one request a socket, so both stay 0.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(body);
    out
}

/// Largest reply read: an acknowledgement is 36 bytes, an error adds the request.
pub const MAX_NETLINK_REPLY_BYTES: usize = 512;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_BYTES: u16 = 8;
const AF_INET: u8 = 2;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn network() -> NetworkSection {
        NetworkSection {
            interface: "eth0".into(),
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
        }
    }

    #[test]
    fn sets_the_address_before_the_interface_is_up() {
        let fake = Fake::new();
        assert_eq!(bring_up(&fake, &network()), Ok(2));
        assert_eq!(fake.log(), ["route 16 of 1", "route 20 of 2", "route 16 of 2"]);
    }

    #[test]
    fn spells_an_address_as_rtnetlink_does() {
        let bytes = add_address(2, Ipv4Addr::new(10, 0, 2, 15), 24);
        let expected = [
            40, 0, 0, 0, 20, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            2, 24, 0, 0, 2, 0, 0, 0, // ifaddrmsg
            8, 0, 2, 0, 10, 0, 2, 15, // IFA_LOCAL
            8, 0, 1, 0, 10, 0, 2, 15, // IFA_ADDRESS
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn refuses_an_interface_that_never_appears() {
        let fake = Fake::new();
        let mut missing = network();
        missing.interface = "eth9".into();
        assert_eq!(bring_up(&fake, &missing), Err(InitError::NoInterface));
    }

    #[test]
    fn refuses_when_the_kernel_refuses_the_address() {
        let fake = Fake::new().refusing("route 20 of 2");
        assert_eq!(
            bring_up(&fake, &network()),
            Err(InitError::Network { step: "add the address", errno: 17 })
        );
    }

    #[test]
    fn takes_nothing_but_an_acknowledgement_for_one() {
        assert_eq!(acknowledged(&[]), None);
        assert_eq!(acknowledged(&[0; 19]), None);
        let mut reply = [0u8; 20];
        assert_eq!(acknowledged(&reply), None, "NLMSG_NOOP is no acknowledgement");
        reply[4] = 2;
        assert_eq!(acknowledged(&reply), Some(0));
        reply[16..20].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(acknowledged(&reply), Some(1));
    }
}
