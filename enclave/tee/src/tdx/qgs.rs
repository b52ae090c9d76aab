//! Intel's quote generation service (QGS) over vsock. The service runs on the host: every byte of
//! its answer is hostile, every length is bounded before memory is set aside for it.
//!
//! Message format: `qgs_msg_lib.h` of Intel's DCAP, framed by a big-endian `u32` length:
//!
//! ```text
//! header    major u16 = 1 | minor u16 | type u32 | size u32 | error u32         little-endian
//! request   header | report_size u32 | id_list_size u32 = 0 | TDREPORT          type 0
//! response  header | selected_id_size u32 | quote_size u32 | id | quote         type 1
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrysalis_wire::limits::MAX_QUOTE_BYTES;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::error::TeeError;
use crate::kernel::{TD_REPORT_BYTES, VsockAddr};

/// A connection to a quote service.
pub trait QgsStream: Read + Write {}

impl<T: Read + Write> QgsStream for T {}

/// Connects to the quote service on the host.
pub trait QgsConnector: Send + Sync {
    /// A new connection; the protocol is one request and one answer.
    ///
    /// # Errors
    /// When nobody listens or the operating system has no vsock.
    fn connect(&self) -> io::Result<Box<dyn QgsStream>>;

    /// The address for error messages, `vsock:CID:PORT`.
    fn address(&self) -> String;
}

/// The quote service behind the guest's vsock device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VsockQgs {
    /// Context id of the host side.
    pub cid: u32,
    /// Port of the service.
    pub port: u32,
    /// Longest wait for one read or write.
    pub timeout: Duration,
}

impl Default for VsockQgs {
    fn default() -> Self {
        Self { cid: VSOCK_HOST_CID, port: VSOCK_QGS_PORT, timeout: VSOCK_TIMEOUT }
    }
}

impl QgsConnector for VsockQgs {
    fn connect(&self) -> io::Result<Box<dyn QgsStream>> {
        let socket =
            socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(self.timeout))?;
        set_socket_timeout(&socket, Timeout::Send, Some(self.timeout))?;
        // The kernel's own limit for connecting is two seconds (VSOCK_DEFAULT_CONNECT_TIMEOUT).
        connect(&socket, &VsockAddr { cid: self.cid, port: self.port })?;
        // `File` only because it reads and writes any descriptor.
        Ok(Box::new(std::fs::File::from(socket)))
    }

    fn address(&self) -> String {
        format!("vsock:{}:{}", self.cid, self.port)
    }
}

/// Sends `report` to the service and returns the quote in its answer, unchecked.
pub(super) fn request_quote(
    connector: &dyn QgsConnector,
    report: &[u8; TD_REPORT_BYTES],
) -> Result<Vec<u8>, TeeError> {
    let failed = |what| {
        move |e: io::Error| TeeError::Io {
            what,
            path: PathBuf::from(connector.address()),
            kind: e.kind(),
            next_step: "Start the quote generation service on the host with a vsock port",
        }
    };
    let mut stream = connector.connect().map_err(failed("connect to the quote service"))?;
    stream.write_all(&request(report)).map_err(failed("send the quote request"))?;
    stream.flush().map_err(failed("send the quote request"))?;

    let mut answer = Answer {
        stream: stream.as_mut(),
        reads_left: MAX_QGS_READS,
        failed: &failed("read the quote"),
    };
    let mut length = [0; 4];
    answer.fill("frame length", &mut length)?;
    let length = bounded("frame", u32::from_be_bytes(length), MAX_RESPONSE_BYTES)?;
    let mut message = vec![0; length];
    answer.fill("message", &mut message)?;
    parse_response(&message)
}

fn request(report: &[u8; TD_REPORT_BYTES]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAMED_REQUEST_BYTES);
    bytes.extend_from_slice(&REQUEST_BYTES.to_be_bytes());
    bytes.extend_from_slice(&MAJOR_VERSION.to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes());
    for field in [TYPE_GET_QUOTE_REQUEST, REQUEST_BYTES, 0, REPORT_BYTES, 0] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(report);
    bytes
}

fn parse_response(message: &[u8]) -> Result<Vec<u8>, TeeError> {
    // The minor version is free: Intel counts a minor change as compatible.
    let major = u16::from_le_bytes(field(message, 0)?);
    if major != MAJOR_VERSION {
        return Err(TeeError::QgsVersion { got: major });
    }
    let kind = u32::from_le_bytes(field(message, 4)?);
    if kind != TYPE_GET_QUOTE_RESPONSE {
        return Err(TeeError::QgsType { got: kind });
    }
    let size = u32::from_le_bytes(field(message, 8)?) as usize;
    if size != message.len() {
        return Err(TeeError::QgsInconsistent {
            what: "message size",
            expected: message.len(),
            got: size,
        });
    }
    let error = u32::from_le_bytes(field(message, 12)?);
    if error != 0 {
        return Err(TeeError::QgsRefused { got: error });
    }
    let id = u32::from_le_bytes(field(message, 16)?);
    let id = bounded("selected id", id, MAX_SELECTED_ID_BYTES)?;
    let quote_len = u32::from_le_bytes(field(message, 20)?);
    let quote_len = bounded("quote", quote_len, MAX_QUOTE_BYTES)?;
    let body = message.get(RESPONSE_HEADER_BYTES..).unwrap_or_default();
    let quote = body.get(id..).unwrap_or_default();
    if quote.len() != quote_len || body.len() < id {
        return Err(TeeError::QgsInconsistent {
            what: "quote size",
            expected: quote.len(),
            got: quote_len,
        });
    }
    Ok(quote.to_vec())
}

fn bounded(what: &'static str, got: u32, limit: usize) -> Result<usize, TeeError> {
    let got = usize::try_from(got).unwrap_or(usize::MAX);
    if got > limit { Err(TeeError::QgsTooLarge { what, limit, got }) } else { Ok(got) }
}

fn field<const N: usize>(message: &[u8], offset: usize) -> Result<[u8; N], TeeError> {
    message.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(
        TeeError::QgsTruncated {
            what: "response header",
            expected: RESPONSE_HEADER_BYTES,
            got: message.len(),
        },
    )
}

/// Reads the answer in a bounded number of reads: each read has a timeout, so their number bounds
/// how long a host that drips single bytes can hold this thread.
struct Answer<'a> {
    stream: &'a mut dyn QgsStream,
    reads_left: u32,
    failed: &'a dyn Fn(io::Error) -> TeeError,
}

impl Answer<'_> {
    fn fill(&mut self, what: &'static str, buffer: &mut [u8]) -> Result<(), TeeError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            self.reads_left = self
                .reads_left
                .checked_sub(1)
                .ok_or(TeeError::QgsTooSlow { limit: MAX_QGS_READS })?;
            match self.stream.read(rest) {
                Ok(0) => {
                    let expected = buffer.len();
                    return Err(TeeError::QgsTruncated { what, expected, got: done });
                }
                Ok(n) => done = done.saturating_add(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err((self.failed)(e)),
            }
        }
        Ok(())
    }
}

/// The well-known context id of the host (`VMADDR_CID_HOST`).
pub const VSOCK_HOST_CID: u32 = 2;
/// The port Intel's QGS and QEMU agree on.
pub const VSOCK_QGS_PORT: u32 = 4050;
/// Most reads one answer may take; a real one takes two to ten.
pub const MAX_QGS_READS: u32 = 64;
/// Largest id the service may name as its choice: a UUID. We offer none, so it is usually empty.
pub const MAX_SELECTED_ID_BYTES: usize = 16;
/// A quote takes milliseconds; this is a dead host, not a slow one.
const VSOCK_TIMEOUT: Duration = Duration::from_secs(2);

const MAJOR_VERSION: u16 = 1;
const TYPE_GET_QUOTE_REQUEST: u32 = 0;
const TYPE_GET_QUOTE_RESPONSE: u32 = 1;
const REPORT_BYTES: u32 = TD_REPORT_BYTES as u32;
const REQUEST_BYTES: u32 = 24 + REPORT_BYTES;
const FRAMED_REQUEST_BYTES: usize = 4 + REQUEST_BYTES as usize;
const RESPONSE_HEADER_BYTES: usize = 24;
const MAX_RESPONSE_BYTES: usize = RESPONSE_HEADER_BYTES + MAX_SELECTED_ID_BYTES + MAX_QUOTE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeQgs, qgs_response, td_quote};

    const REPORT: [u8; TD_REPORT_BYTES] = [0x5A; TD_REPORT_BYTES];

    fn ask(qgs: &FakeQgs) -> Result<Vec<u8>, TeeError> {
        request_quote(qgs, &REPORT)
    }

    /// An answer whose message was changed before framing.
    fn tampered(change: impl FnOnce(&mut Vec<u8>)) -> FakeQgs {
        let mut message = qgs_response(&[], &td_quote(&[1; 64]));
        change(&mut message);
        FakeQgs::saying_message(message)
    }

    fn put_u32(message: &mut [u8], offset: usize, value: u32) {
        message[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    #[test]
    fn sends_the_request_intel_defines() {
        let qgs = FakeQgs::honest();
        ask(&qgs).unwrap();
        let sent = qgs.last_request();
        assert_eq!(sent.len(), 4 + 1048);
        assert_eq!(sent[..4], 1048u32.to_be_bytes());
        assert_eq!(sent[4..8], [1, 0, 0, 0]);
        assert_eq!(sent[8..12], [0; 4]);
        assert_eq!(sent[12..16], 1048u32.to_le_bytes());
        assert_eq!(sent[20..24], 1024u32.to_le_bytes());
        assert_eq!(sent[28..], REPORT);
    }

    #[test]
    fn accepts_a_selected_id_and_a_newer_minor_version() {
        let quote = td_quote(&[1; 64]);
        let mut message = qgs_response(&[7; MAX_SELECTED_ID_BYTES], &quote);
        message[2] = 1;
        assert_eq!(ask(&FakeQgs::saying_message(message)), Ok(quote));
    }

    #[test]
    fn accepts_an_answer_in_pieces() {
        let quote = td_quote(&[1; 64]);
        let framed = FakeQgs::frame(&qgs_response(&[], &quote));
        assert_eq!(ask(&FakeQgs::saying_pieces(&framed, framed.len() / 20)), Ok(quote));
    }

    #[test]
    fn refuses_an_answer_dripped_in_too_many_pieces() {
        let framed = FakeQgs::frame(&qgs_response(&[], &td_quote(&[1; 64])));
        assert_eq!(
            ask(&FakeQgs::saying_pieces(&framed, 1)),
            Err(TeeError::QgsTooSlow { limit: MAX_QGS_READS })
        );
    }

    #[test]
    fn refuses_a_frame_one_byte_over_the_limit_before_reading_it() {
        let length = u32::try_from(MAX_RESPONSE_BYTES).unwrap() + 1;
        assert_eq!(
            ask(&FakeQgs::saying(length.to_be_bytes().to_vec())),
            Err(TeeError::QgsTooLarge {
                what: "frame",
                limit: MAX_RESPONSE_BYTES,
                got: MAX_RESPONSE_BYTES + 1
            })
        );
    }

    #[test]
    fn refuses_a_quote_one_byte_over_the_limit() {
        let message = qgs_response(&[], &vec![0; MAX_QUOTE_BYTES + 1]);
        assert_eq!(
            ask(&FakeQgs::saying_message(message)),
            Err(TeeError::QgsTooLarge {
                what: "quote",
                limit: MAX_QUOTE_BYTES,
                got: MAX_QUOTE_BYTES + 1
            })
        );
    }

    #[test]
    fn refuses_a_selected_id_one_byte_over_the_limit() {
        let message = qgs_response(&[0; MAX_SELECTED_ID_BYTES + 1], &td_quote(&[1; 64]));
        assert!(matches!(
            ask(&FakeQgs::saying_message(message)),
            Err(TeeError::QgsTooLarge { what: "selected id", .. })
        ));
    }

    #[test]
    fn refuses_the_error_code_of_a_service_that_cannot_quote() {
        let mut message = qgs_response(&[], &[]);
        put_u32(&mut message, 12, 0x0001_2001);
        assert_eq!(
            ask(&FakeQgs::saying_message(message)),
            Err(TeeError::QgsRefused { got: 0x0001_2001 })
        );
    }

    #[test]
    fn refuses_another_major_version() {
        assert_eq!(ask(&tampered(|m| m[0] = 2)), Err(TeeError::QgsVersion { got: 2 }));
    }

    #[test]
    fn refuses_a_message_that_is_not_a_quote_response() {
        assert_eq!(ask(&tampered(|m| m[4] = 3)), Err(TeeError::QgsType { got: 3 }));
    }

    #[test]
    fn refuses_a_message_size_that_differs_from_the_frame() {
        let got = ask(&tampered(|m| {
            let size = u32::try_from(m.len()).unwrap();
            put_u32(m, 8, size - 1);
        }));
        assert!(matches!(got, Err(TeeError::QgsInconsistent { what: "message size", .. })));
    }

    #[test]
    fn refuses_a_quote_size_that_differs_from_what_is_there() {
        for change in [-1i64, 1] {
            let got = ask(&tampered(|m| {
                let size = u32::from_le_bytes(m[20..24].try_into().unwrap());
                put_u32(m, 20, u32::try_from(i64::from(size) + change).unwrap());
            }));
            assert!(matches!(got, Err(TeeError::QgsInconsistent { what: "quote size", .. })));
        }
    }

    #[test]
    fn refuses_an_id_longer_than_the_message() {
        let mut message = qgs_response(&[], &[]);
        put_u32(&mut message, 16, 8);
        assert!(matches!(
            ask(&FakeQgs::saying_message(message)),
            Err(TeeError::QgsInconsistent { what: "quote size", .. })
        ));
    }

    #[test]
    fn refuses_an_answer_cut_at_any_byte() {
        let framed = FakeQgs::frame(&qgs_response(&[], &td_quote(&[1; 64])));
        for len in [0, 3, 4, 5, 27, framed.len() - 1] {
            assert!(
                matches!(
                    ask(&FakeQgs::saying(framed[..len].to_vec())),
                    Err(TeeError::QgsTruncated { .. })
                ),
                "accepted {len} bytes"
            );
        }
    }

    #[test]
    fn refuses_a_message_shorter_than_its_header() {
        assert!(matches!(
            ask(&FakeQgs::saying_message(vec![1, 0, 0, 0])),
            Err(TeeError::QgsTruncated { what: "response header", .. })
        ));
    }

    #[test]
    fn reports_a_host_without_a_quote_service() {
        // No service anywhere listens on this port; without vsock support the socket fails.
        let nobody = VsockQgs { port: u32::MAX - 1, ..VsockQgs::default() };
        assert!(matches!(
            request_quote(&nobody, &REPORT),
            Err(TeeError::Io { what: "connect to the quote service", .. })
        ));
    }
}
