//! A QEMU that is stopped and does what its test socket says: port and memory accesses as a guest
//! would make them. What it answers is bounded in size and time; it is a program of this host.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::Qemu;
use crate::error::LoaderError;

/// A stopped QEMU and its test socket.
pub(super) struct Qtest {
    child: Child,
    socket: BufReader<UnixStream>,
}

impl Qtest {
    /// Starts `qemu`, whose `arguments` make file descriptor 0 its test socket.
    pub(super) fn start(qemu: &Qemu, arguments: &[String]) -> Result<Self, LoaderError> {
        let failed = |e: std::io::Error| refuse("start", e.to_string());
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_read_timeout(Some(ANSWER_TIME)).map_err(failed)?;
        ours.set_write_timeout(Some(ANSWER_TIME)).map_err(failed)?;
        let child = qemu
            .command(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, socket: BufReader::new(ours) })
    }

    /// Sends one command and returns what follows `OK`.
    fn command(&mut self, command: &str) -> Result<String, LoaderError> {
        let step = command.split(' ').next().unwrap_or_default().to_owned();
        let line = format!("{command}\n");
        if let Err(e) = self.socket.get_mut().write_all(line.as_bytes()) {
            return Err(self.last_words(&step, &e.to_string()));
        }
        // Interrupts may be announced before the answer.
        for _ in 0..MAX_INTERRUPT_LINES {
            let mut line = Vec::new();
            let read = (&mut self.socket).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let text = match read {
                Ok(0) => return Err(self.last_words(&step, "it closed the socket")),
                Ok(_) => String::from_utf8_lossy(&line).trim_end().to_owned(),
                Err(e) => return Err(self.last_words(&step, &e.to_string())),
            };
            match text.strip_prefix("OK") {
                Some(rest) => return Ok(rest.trim().to_owned()),
                None if text.starts_with("IRQ ") => {}
                None => return Err(refuse(&step, text.chars().take(200).collect())),
            }
        }
        Err(refuse(&step, "only interrupts were answered".to_owned()))
    }

    /// Writes a port.
    pub(super) fn outl(&mut self, port: u16, value: u32) -> Result<(), LoaderError> {
        self.command(&format!("outl {port:#x} {value:#x}")).map(drop)
    }

    /// Reads a port.
    pub(super) fn inl(&mut self, port: u16) -> Result<u32, LoaderError> {
        let answer = self.command(&format!("inl {port:#x}"))?;
        answer
            .strip_prefix("0x")
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| refuse("inl", format!("{answer:?} is not a number")))
    }

    /// Writes guest memory.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), LoaderError> {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        self.command(&format!("write {address:#x} {:#x} 0x{hex}", bytes.len())).map(drop)
    }

    /// Reads guest memory.
    pub(super) fn read(&mut self, address: u64, len: usize) -> Result<Vec<u8>, LoaderError> {
        let answer = self.command(&format!("read {address:#x} {len:#x}"))?;
        answer
            .strip_prefix("0x")
            .and_then(unhex)
            .filter(|bytes| bytes.len() == len)
            .ok_or_else(|| refuse("read", format!("the answer is not {len} bytes")))
    }

    /// What QEMU said before it ended, if it did.
    fn last_words(&mut self, step: &str, reason: &str) -> LoaderError {
        let mut said = Vec::new();
        if let (Ok(Some(_)), Some(errors)) = (self.ended(), self.child.stderr.take()) {
            let _ = errors.take(MAX_ERROR_BYTES).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        let reason = if said.is_empty() { reason.to_owned() } else { format!("{reason}: {said}") };
        refuse(step, reason)
    }

    fn ended(&mut self) -> std::io::Result<Option<std::process::ExitStatus>> {
        super::qemu::within(&mut self.child, Duration::from_millis(500));
        self.child.try_wait()
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn refuse(step: &str, reason: String) -> LoaderError {
    LoaderError::Capture { step: step.to_owned(), reason }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let text = std::str::from_utf8(pair).ok().filter(|t| t.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
}

/// Longest wait for one answer. Each is a few instructions of QEMU, after a start of under 1 s.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Longest answer line, in bytes: 128 KiB of memory in hexadecimal, and some.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Most interrupt lines before an answer.
const MAX_INTERRUPT_LINES: usize = 64;

const MAX_ERROR_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::qemu::tests::{fake, pretend};

    /// Talks to a script whose standard input is the test socket.
    fn ask(script: &str) -> Result<u32, LoaderError> {
        let dir = tempfile::tempdir().unwrap();
        let qemu = pretend(&fake(dir.path(), script), "11.1.3");
        Qtest::start(&qemu, &[]).and_then(|mut q| q.inl(0xcf8))
    }

    fn reason(script: &str) -> String {
        match ask(script) {
            Err(LoaderError::Capture { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_answers_past_interrupts() {
        assert_eq!(ask("read x; echo IRQ raise 1 >&0; echo OK 0x0000002a >&0; read x"), Ok(42));
    }

    #[test]
    fn refuses_answers_that_are_none() {
        assert!(reason("read x; echo FAIL no such thing >&0; read x").contains("no such thing"));
        assert!(reason("read x; echo OK 0xzz >&0; read x").contains("not a number"));
        assert!(reason("read x; while :; do echo IRQ raise 1; done >&0").contains("interrupts"));
    }

    #[test]
    fn a_qemu_that_ends_is_quoted() {
        assert!(reason("echo 'bad machine' >&2; exit 1").contains("bad machine"));
    }
}
