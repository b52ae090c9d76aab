//! Where Gramine 1.9 puts what into an enclave, and so what MRENCLAVE is. The addresses, their
//! order and the initial contents follow the signer and loader of Gramine v1.9; four layouts that
//! its own signer computed are reproduced in the tests.
//!
//! Everything is placed downwards from the end of the address range in one order, which is the
//! order of measurement too: manifest, state save areas, thread control structures, thread data,
//! stacks, signal stacks, loader; and, without EDMM, the heap in what is left.

use chrysalis_wire::Digest;

use super::elf::PalImage;
use super::error::{EnclaveError, SgxError};
use super::records::{MAX_ENCLAVE_BYTES, PAGE_BYTES, Page, PageKind, Permissions, Records};

/// Most threads of an enclave.
pub const MAX_THREADS: u64 = 1024;

/// Most heap, in bytes, that is added page by page at start; a larger one takes minutes to start
/// and belongs to EDMM.
pub const MAX_HEAP_AT_START: u64 = 64 << 30;

/// The three values of a manifest that decide the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveShape {
    /// `sgx.enclave_size` in bytes.
    size: u64,
    /// `sgx.max_threads`.
    threads: u64,
    /// `sgx.edmm_enable`.
    edmm: bool,
}

impl EnclaveShape {
    /// A shape an SGX CPU can hold.
    ///
    /// # Errors
    /// [`EnclaveError::Size`] and [`EnclaveError::Threads`].
    pub fn new(size: u64, threads: u64, edmm: bool) -> Result<Self, EnclaveError> {
        if !size.is_power_of_two() || size > MAX_ENCLAVE_BYTES {
            return Err(EnclaveError::Size { size });
        }
        if threads == 0 || threads > MAX_THREADS {
            return Err(EnclaveError::Threads { threads, limit: MAX_THREADS });
        }
        Ok(Self { size, threads, edmm })
    }

    /// Bytes of address range.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Threads the enclave can have at a time.
    #[must_use]
    pub const fn threads(&self) -> u64 {
        self.threads
    }

    /// Whether heap pages are added while the enclave runs.
    #[must_use]
    pub const fn edmm(&self) -> bool {
        self.edmm
    }
}

/// A named range of the enclave, for whoever wants to see the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// What it is for.
    pub name: &'static str,
    /// Offset of its first byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Whether its contents are in MRENCLAVE; its presence always is.
    pub measured: bool,
}

/// An enclave laid out and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredEnclave {
    /// MRENCLAVE.
    pub mrenclave: Digest,
    /// Its areas in the order of measurement, from the end of the enclave downwards.
    pub areas: Vec<Area>,
}

impl MeasuredEnclave {
    /// Measures an enclave of `shape` with the exact bytes of its final manifest and its loader.
    ///
    /// # Errors
    /// [`EnclaveError::Full`] where something does not fit and [`EnclaveError::Heap`] for a heap
    /// over the limit.
    pub fn gramine_v1_9(
        shape: &EnclaveShape,
        manifest: &[u8],
        pal: &PalImage<'_>,
    ) -> Result<Self, SgxError> {
        let layout = Layout::place(shape, manifest, pal)?;
        let mut records = Records::create(shape.size, SSA_FRAME_PAGES)?;
        let rw = PageKind::Regular(Permissions::RW);
        for (page, at) in layout.manifest.pages().enumerate() {
            let skip = page.saturating_mul(PAGE_BYTES as usize);
            let content = padded(manifest.get(skip..).unwrap_or_default());
            records.add_measured(at, PageKind::Regular(Permissions::R), &content)?;
        }
        for at in layout.ssa.pages() {
            records.add_measured(at, rw, &ZERO)?;
        }
        for (thread, at) in layout.tcs.pages().enumerate() {
            records.add_measured(at, PageKind::Tcs, &layout.tcs_page(thread as u64, pal))?;
        }
        for (thread, at) in layout.tls.pages().enumerate() {
            let content = layout.tls_page(thread as u64, shape, manifest);
            records.add_measured(at, rw, &content)?;
        }
        for at in layout.stacks.iter().chain(&layout.signal_stacks).flat_map(Area::pages) {
            records.add_measured(at, rw, &ZERO)?;
        }
        for segment in pal.segments() {
            let kind = PageKind::Regular(segment.permissions);
            for page in (segment.first_page..segment.end_page).step_by(PAGE_BYTES as usize) {
                let at = layout.pal.start.saturating_add(page);
                records.add_measured(at, kind, &segment.page(page))?;
            }
        }
        for at in layout.heap.iter().flat_map(Area::pages) {
            records.add(at, PageKind::Regular(Permissions::RWX))?;
        }
        Ok(Self { mrenclave: records.finish(), areas: layout.areas() })
    }
}

/// Where everything is. All offsets are below the enclave's size, at most 2^40, so sums of an
/// offset and a distance inside its area cannot wrap.
#[derive(Debug)]
struct Layout {
    manifest: Area,
    ssa: Area,
    tcs: Area,
    tls: Area,
    stacks: Vec<Area>,
    signal_stacks: Vec<Area>,
    pal: Area,
    heap: Option<Area>,
}

impl Layout {
    fn place(
        shape: &EnclaveShape,
        manifest: &[u8],
        pal: &PalImage<'_>,
    ) -> Result<Self, EnclaveError> {
        let mut top = shape.size;
        let mut take = |name: &'static str, bytes: u64| {
            let full = EnclaveError::Full { area: name, size: shape.size };
            let size = bytes.checked_next_multiple_of(PAGE_BYTES).ok_or_else(|| full.clone())?;
            let start = top.checked_sub(size).filter(|at| *at >= HEAP_MIN).ok_or(full)?;
            top = start;
            Ok(Area { name, start, size, measured: true })
        };
        let threads = shape.threads;
        let each = |bytes: u64| threads.saturating_mul(bytes);
        // In memory the manifest ends in a NUL.
        let manifest = take("manifest", (manifest.len() as u64).saturating_add(1))?;
        let ssa = take("ssa", each(SSA_BYTES))?;
        let tcs = take("tcs", each(PAGE_BYTES))?;
        let tls = take("tls", each(PAGE_BYTES))?;
        let stacks = (0..threads).map(|_| take("stack", STACK_BYTES)).collect::<Result<_, _>>()?;
        let signal_stacks = (0..threads)
            .map(|_| take("signal stack", SIGNAL_STACK_BYTES))
            .collect::<Result<_, _>>()?;
        let pal = take("loader", pal.span())?;
        let bytes = pal.start.saturating_sub(HEAP_MIN);
        let heap = Area { name: "heap", start: HEAP_MIN, size: bytes, measured: false };
        let heap = Some(heap).filter(|_| !shape.edmm && bytes > 0);
        if heap.is_some() && bytes > MAX_HEAP_AT_START {
            return Err(EnclaveError::Heap { bytes, limit: MAX_HEAP_AT_START });
        }
        Ok(Self { manifest, ssa, tcs, tls, stacks, signal_stacks, pal, heap })
    }

    fn areas(&self) -> Vec<Area> {
        let mut areas = vec![self.manifest, self.ssa, self.tcs, self.tls];
        areas.extend(&self.stacks);
        areas.extend(&self.signal_stacks);
        areas.push(self.pal);
        areas.extend(self.heap);
        areas
    }

    /// State save area of a thread.
    const fn ssa_of(&self, thread: u64) -> u64 {
        self.ssa.start.saturating_add(thread.saturating_mul(SSA_BYTES))
    }

    /// SDM 3D, "Thread Control Structure": where the thread enters, and with which stack of save
    /// areas and which GS.
    fn tcs_page(&self, thread: u64, pal: &PalImage<'_>) -> Page {
        let mut page = ZERO;
        put(&mut page, TCS_OSSA, self.ssa_of(thread).to_le_bytes());
        put(&mut page, TCS_NSSA, SSA_FRAMES.to_le_bytes());
        put(&mut page, TCS_OENTRY, self.pal.start.saturating_add(pal.entry()).to_le_bytes());
        put(&mut page, TCS_OGSBASE, nth_page(&self.tls, thread).to_le_bytes());
        put(&mut page, TCS_FSLIMIT, SEGMENT_LIMIT.to_le_bytes());
        put(&mut page, TCS_GSLIMIT, SEGMENT_LIMIT.to_le_bytes());
        page
    }

    /// What Gramine's loader finds at GS.
    fn tls_page(&self, thread: u64, shape: &EnclaveShape, manifest: &[u8]) -> Page {
        let of = |areas: &[Area]| {
            let index = usize::try_from(thread).unwrap_or(usize::MAX);
            areas.get(index).map_or((0, 0), |area| (area.start, area.end()))
        };
        let (_, stack_top) = of(&self.stacks);
        let (signal_low, signal_high) = of(&self.signal_stacks);
        let ssa = self.ssa_of(thread);
        let gpr = ssa.saturating_add(SSA_FRAME_BYTES).saturating_sub(GPR_BYTES);
        let mut page = ZERO;
        for (at, value) in [
            (TLS_SELF, nth_page(&self.tls, thread)),
            (TLS_CANARY, STACK_CANARY),
            (TLS_ENCLAVE_SIZE, shape.size),
            (TLS_TCS, nth_page(&self.tcs, thread)),
            (TLS_STACK, stack_top),
            (TLS_SIGNAL_LOW, signal_low),
            (TLS_SIGNAL_HIGH, signal_high),
            (TLS_SSA, ssa),
            (TLS_GPR, gpr),
            (TLS_MANIFEST_SIZE, (manifest.len() as u64).saturating_add(1)),
            (TLS_HEAP_MIN, HEAP_MIN),
            (TLS_HEAP_MAX, self.pal.start),
        ] {
            put(&mut page, at, value.to_le_bytes());
        }
        page
    }
}

impl Area {
    const fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        (self.start..self.end()).step_by(PAGE_BYTES as usize)
    }
}

const fn nth_page(area: &Area, index: u64) -> u64 {
    area.start.saturating_add(index.saturating_mul(PAGE_BYTES))
}

/// The first page of `bytes`, filled up with zeros.
fn padded(bytes: &[u8]) -> Page {
    let mut page = ZERO;
    for (to, from) in page.iter_mut().zip(bytes) {
        *to = *from;
    }
    page
}

/// Writes a field. The offsets are the constants below, all inside a page.
fn put<const N: usize>(page: &mut Page, at: usize, value: [u8; N]) {
    if let Some(field) = page.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value;
    }
}

const ZERO: Page = [0; PAGE_BYTES as usize];

/// Lowest address Gramine uses.
const HEAP_MIN: u64 = 0x1_0000;
const SSA_FRAME_BYTES: u64 = 0x4000;
const SSA_FRAME_PAGES: u32 = 4;
const SSA_FRAMES: u32 = 2;
const SSA_BYTES: u64 = SSA_FRAME_BYTES * SSA_FRAMES as u64;
const STACK_BYTES: u64 = 0x4_0000;
const SIGNAL_STACK_BYTES: u64 = 0x1_0000;
/// GPRSGX, the end of a state save area frame.
const GPR_BYTES: u64 = 0xb8;
/// Replaced by a random one before any code with stack protection runs.
const STACK_CANARY: u64 = 0x0000_badb_adba_dbad;
const SEGMENT_LIMIT: u32 = 0xfff;

const TCS_OSSA: usize = 0x10;
const TCS_NSSA: usize = 0x1c;
const TCS_OENTRY: usize = 0x20;
const TCS_OGSBASE: usize = 0x38;
const TCS_FSLIMIT: usize = 0x40;
const TCS_GSLIMIT: usize = 0x44;

const TLS_SELF: usize = 0;
const TLS_CANARY: usize = 8;
const TLS_ENCLAVE_SIZE: usize = 0x110;
const TLS_TCS: usize = 0x118;
const TLS_STACK: usize = 0x120;
const TLS_SIGNAL_LOW: usize = 0x130;
const TLS_SIGNAL_HIGH: usize = 0x138;
const TLS_SSA: usize = 0x148;
const TLS_GPR: usize = 0x150;
const TLS_MANIFEST_SIZE: usize = 0x1a0;
const TLS_HEAP_MIN: usize = 0x1a8;
const TLS_HEAP_MAX: usize = 0x1b0;
