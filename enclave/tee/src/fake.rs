//! Stand-ins for the kernel, the host's quote service and Gramine, for tests only. Each keeps its
//! files in a temporary directory and does on a write what the real interface does.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha384};

use crate::error::TeeError;
use crate::files::{Files, HostFiles};
use crate::tdx::{QgsConnector, QgsStream, ReportDevice, TD_REPORT_BYTES, TdxPaths};

/// First byte of RTMR0 in a [`FakeKernel`]; RTMR1 is one more, and so on.
pub(crate) const RTMR_SEED: u8 = 0xB0;

/// `SHA-384(register || digest)`.
pub(crate) fn extended(register: &[u8; 48], digest: &[u8]) -> [u8; 48] {
    Sha384::new().chain_update(register).chain_update(digest).finalize().into()
}

/// A version 4 TDX quote that is empty but for its header and report data.
pub(crate) fn td_quote(report_data: &[u8]) -> Vec<u8> {
    let mut quote = vec![0; 48 + 584 + 4];
    quote[0] = 4;
    quote[2] = 2;
    quote[4] = 0x81;
    quote[568..568 + report_data.len()].copy_from_slice(report_data);
    quote
}

/// A version 3 SGX quote that is empty but for its header and report data.
pub(crate) fn sgx_quote(report_data: &[u8]) -> Vec<u8> {
    let mut quote = vec![0; 48 + 384 + 4];
    quote[0] = 3;
    quote[2] = 2;
    quote[368..368 + report_data.len()].copy_from_slice(report_data);
    quote
}

/// A TDX guest kernel: configfs-tsm and the sysfs measurement registers.
#[derive(Clone)]
pub(crate) struct FakeKernel {
    root: Arc<tempfile::TempDir>,
    state: Arc<Mutex<KernelState>>,
}

#[derive(Default)]
struct KernelState {
    provider: String,
    generation: Option<String>,
    answer: Option<Vec<u8>>,
    busy: u32,
    moves: u32,
    lose_writes: bool,
    entries_made: u32,
}

impl FakeKernel {
    pub(crate) fn new() -> Self {
        let kernel = Self {
            root: Arc::new(tempfile::tempdir().unwrap()),
            state: Arc::new(Mutex::new(KernelState {
                provider: "tdx_guest".into(),
                ..KernelState::default()
            })),
        };
        fs::create_dir_all(kernel.tsm_report()).unwrap();
        fs::create_dir_all(kernel.measurements()).unwrap();
        fs::write(kernel.measurements().join("mrtd:sha384"), [0xD0; 48]).unwrap();
        for i in 0..4u8 {
            let name = format!("rtmr{i}:sha384");
            fs::write(kernel.measurements().join(name), [RTMR_SEED + i; 48]).unwrap();
        }
        kernel
    }

    fn with(self, change: impl FnOnce(&mut KernelState)) -> Self {
        change(&mut self.state.lock().unwrap());
        self
    }

    pub(crate) fn with_provider(self, provider: &str) -> Self {
        self.with(|s| s.provider = provider.into())
    }

    pub(crate) fn with_generation(self, text: &str) -> Self {
        self.with(|s| s.generation = Some(text.into()))
    }

    /// Answers every quote request with `quote`.
    pub(crate) fn answering(self, quote: Vec<u8>) -> Self {
        self.with(|s| s.answer = Some(quote))
    }

    /// Is busy for the next `times` reads of `outblob`.
    pub(crate) fn busy(self, times: u32) -> Self {
        self.with(|s| s.busy = times)
    }

    /// Lets another process write to our entry the next `times` times we do.
    pub(crate) fn moving_generation(self, times: u32) -> Self {
        self.with(|s| s.moves = times)
    }

    /// Accepts writes and forgets them.
    pub(crate) fn losing_writes(self) -> Self {
        self.with(|s| s.lose_writes = true)
    }

    pub(crate) fn entries_made(&self) -> u32 {
        self.state.lock().unwrap().entries_made
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn tsm_report(&self) -> PathBuf {
        TdxPaths::under(self.root()).tsm_report
    }

    pub(crate) fn measurements(&self) -> PathBuf {
        TdxPaths::under(self.root()).measurements
    }
}

impl Files for FakeKernel {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock().unwrap();
        if path.ends_with("outblob") && state.busy > 0 {
            state.busy -= 1;
            return Err(ErrorKind::ResourceBusy.into());
        }
        HostFiles.read(path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        // A missing attribute fails as it does in the kernel.
        let old = HostFiles.read(path, 4096)?;
        if state.lose_writes {
            return Ok(());
        }
        if path.ends_with("inblob") {
            let generation = path.with_file_name("generation");
            let mut count: u64 = fs::read_to_string(&generation)?.trim().parse().unwrap_or(0);
            count += 1;
            if state.moves > 0 {
                state.moves -= 1;
                count += 1;
            }
            fs::write(generation, format!("{count}\n"))?;
            let quote = state.answer.clone().unwrap_or_else(|| td_quote(bytes));
            return fs::write(path.with_file_name("outblob"), quote);
        }
        let register: [u8; 48] = old.try_into().map_err(|_| ErrorKind::InvalidInput)?;
        fs::write(path, extended(&register, bytes))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        HostFiles.create_dir(path)?;
        state.entries_made += 1;
        fs::write(path.join("provider"), format!("{}\n", state.provider))?;
        let generation = state.generation.clone().unwrap_or_else(|| "0\n".into());
        fs::write(path.join("generation"), generation)?;
        fs::write(path.join("inblob"), [])?;
        fs::write(path.join("outblob"), [])
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        // Removing a configfs item removes its attributes with it.
        fs::remove_dir_all(path)
    }
}

/// A device whose TDREPORT holds only the report data, where the real one has it.
pub(crate) struct FakeDevice;

const TD_REPORT_DATA_OFFSET: usize = 128;

impl ReportDevice for FakeDevice {
    fn td_report(&self, report_data: &[u8; 64]) -> Result<Box<[u8; TD_REPORT_BYTES]>, TeeError> {
        let mut report = Box::new([0; TD_REPORT_BYTES]);
        report[TD_REPORT_DATA_OFFSET..TD_REPORT_DATA_OFFSET + 64].copy_from_slice(report_data);
        Ok(report)
    }
}

/// The unframed response message of a quote service.
pub(crate) fn qgs_response(id: &[u8], quote: &[u8]) -> Vec<u8> {
    let size = 24 + id.len() + quote.len();
    let mut message = vec![1, 0, 0, 0];
    for field in [1, size, 0, id.len(), quote.len()] {
        message.extend_from_slice(&u32::try_from(field).unwrap().to_le_bytes());
    }
    message.extend_from_slice(id);
    message.extend_from_slice(quote);
    message
}

/// A quote service at the other end of a Unix socket pair, or of a canned stream.
pub(crate) struct FakeQgs {
    behaviour: Behaviour,
    last_request: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone)]
enum Behaviour {
    Absent,
    Honest,
    Quote(Vec<u8>),
    Raw(Vec<u8>),
    Pieces(Vec<u8>, usize),
}

impl Behaviour {
    /// The framed answer to `request`.
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        match self {
            Self::Absent => Vec::new(),
            Self::Honest => {
                let at = 28 + TD_REPORT_DATA_OFFSET;
                FakeQgs::frame(&qgs_response(&[], &td_quote(&request[at..at + 64])))
            }
            Self::Quote(quote) => FakeQgs::frame(&qgs_response(&[], quote)),
            Self::Raw(bytes) | Self::Pieces(bytes, _) => bytes.clone(),
        }
    }
}

impl FakeQgs {
    fn does(behaviour: Behaviour) -> Self {
        Self { behaviour, last_request: Arc::default() }
    }

    pub(crate) fn absent() -> Self {
        Self::does(Behaviour::Absent)
    }

    /// Quotes the report data of the TDREPORT it is sent.
    pub(crate) fn honest() -> Self {
        Self::does(Behaviour::Honest)
    }

    /// Sends `quote` whatever it is asked.
    pub(crate) fn answering(quote: Vec<u8>) -> Self {
        Self::does(Behaviour::Quote(quote))
    }

    /// Sends `bytes`, unframed, and closes.
    pub(crate) fn saying(bytes: Vec<u8>) -> Self {
        Self::does(Behaviour::Raw(bytes))
    }

    /// Frames `message`, sends it and closes.
    pub(crate) fn saying_message(message: Vec<u8>) -> Self {
        Self::saying(Self::frame(&message))
    }

    /// Hands out `framed` in pieces of `piece` bytes.
    pub(crate) fn saying_pieces(framed: &[u8], piece: usize) -> Self {
        Self::does(Behaviour::Pieces(framed.to_vec(), piece))
    }

    pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
        let mut framed = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        framed
    }

    pub(crate) fn last_request(&self) -> Vec<u8> {
        self.last_request.lock().unwrap().clone()
    }
}

impl QgsConnector for FakeQgs {
    fn connect(&self) -> io::Result<Box<dyn QgsStream>> {
        match &self.behaviour {
            Behaviour::Absent => return Err(ErrorKind::ConnectionRefused.into()),
            Behaviour::Pieces(bytes, piece) => {
                let pieces = bytes.chunks(*piece).map(<[u8]>::to_vec).collect();
                return Ok(Box::new(Pieces(pieces)));
            }
            _ => {}
        }
        let behaviour = self.behaviour.clone();
        let (ours, mut theirs) = UnixStream::pair()?;
        let last_request = Arc::clone(&self.last_request);
        std::thread::spawn(move || {
            let mut request = vec![0; 4 + 1048];
            theirs.read_exact(&mut request).unwrap();
            last_request.lock().unwrap().clone_from(&request);
            // A client that refuses early closes first; that is its right.
            drop(theirs.write_all(&behaviour.answer(&request)));
        });
        Ok(Box::new(ours))
    }

    fn address(&self) -> String {
        "vsock:2:4050".into()
    }
}

/// A stream that hands out prepared pieces, one per read.
struct Pieces(VecDeque<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.0.pop_front() else { return Ok(0) };
        let n = piece.len().min(buffer.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        if n < piece.len() {
            self.0.push_front(piece.split_off(n));
        }
        Ok(n)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gramine's `/dev/attestation`.
#[derive(Clone)]
pub(crate) struct FakeGramine {
    root: Arc<tempfile::TempDir>,
    answer: Option<Vec<u8>>,
}

impl FakeGramine {
    pub(crate) fn new() -> Self {
        let gramine = Self { root: Arc::new(tempfile::tempdir().unwrap()), answer: None };
        let mut report = vec![0; 432];
        report[64..96].fill(0xE1);
        report[128..160].fill(0xE2);
        report[256..260].copy_from_slice(&[0x02, 0x01, 0x04, 0x03]);
        fs::create_dir(gramine.dir().join("keys")).unwrap();
        for (name, bytes) in [
            ("keys/_sgx_mrenclave", vec![0xE3; 16]),
            ("my_target_info", vec![0x77; 512]),
            ("target_info", Vec::new()),
            ("user_report_data", Vec::new()),
            ("report", report),
            ("quote", Vec::new()),
        ] {
            fs::write(gramine.dir().join(name), bytes).unwrap();
        }
        gramine
    }

    /// Answers every quote request with `quote`.
    pub(crate) fn answering(mut self, quote: Vec<u8>) -> Self {
        self.answer = Some(quote);
        self
    }

    pub(crate) fn with_report(self, report: Vec<u8>) -> Self {
        fs::write(self.dir().join("report"), report).unwrap();
        self
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().to_owned()
    }
}

impl Files for FakeGramine {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        if path.ends_with("report") {
            // A report for another target would carry a MAC we could not use.
            let wanted = HostFiles.read(&self.dir().join("my_target_info"), 1024)?;
            if HostFiles.read(&self.dir().join("target_info"), 1024)? != wanted {
                return Err(ErrorKind::PermissionDenied.into());
            }
        }
        if path.ends_with("quote") && path.exists() {
            let data = HostFiles.read(&self.dir().join("user_report_data"), 64)?;
            return Ok(self.answer.clone().unwrap_or_else(|| sgx_quote(&data)));
        }
        HostFiles.read(path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        HostFiles.write(path, bytes)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        HostFiles.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        HostFiles.remove_dir(path)
    }
}
