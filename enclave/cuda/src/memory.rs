//! Memory of the device, and memory of the host that it copies from and to. Both hold what prompts are
//! made of: full of zeros at first, overwritten with zeros before they are given back.
//!
//! JUSTIFICATION: memory that a driver gives is an address, of which only this module knows how long it is good:
//! the calls that fill, copy and free it cannot be safe to whoever has the address alone.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::device::Device;
use crate::driver::Address;
use crate::error::CudaError;

/// A block of the device's memory.
pub struct Memory {
    device: Device,
    address: Address,
    bytes: usize,
}

/// A part of a [`Memory`]: it ends inside.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    memory: &'a Memory,
    at: usize,
    bytes: usize,
}

/// A block of the host's memory that the driver has fixed in its place. Under confidential computing
/// memory that was only registered is refused; this is allocated by the driver.
pub struct Pinned {
    device: Device,
    at: NonNull<u8>,
    bytes: usize,
    /// The number of the last copy that was queued from or to it.
    copy: u64,
}

impl Device {
    /// Memory of the device, all zeros.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`]; [`CudaError::Shape`] for none.
    pub fn alloc(&self, bytes: usize) -> Result<Memory, CudaError> {
        if bytes == 0 {
            return Err(CudaError::Shape { what: "memory of the device" });
        }
        self.0.enter()?;
        let address = self.0.driver.alloc(bytes)?;
        let memory = Memory { device: self.clone(), address, bytes };
        memory.zero()?;
        Ok(memory)
    }

    /// Memory of the host for copies, all zeros.
    ///
    /// # Errors
    /// [`CudaError::Call`]; [`CudaError::Shape`] for none.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned, CudaError> {
        if bytes == 0 {
            return Err(CudaError::Shape { what: "memory of the host" });
        }
        self.0.enter()?;
        let at = self.0.driver.alloc_host(bytes)?;
        // SAFETY: the allocation has so many bytes, and nobody else knows of it yet.
        unsafe { at.as_ptr().write_bytes(0, bytes) };
        Ok(Pinned { device: self.clone(), at, bytes, copy: 0 })
    }

    /// Queues a copy of the first `bytes` of `from` to the start of `to`. One crossing.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if either is too short, [`CudaError::Call`].
    pub fn upload(&self, from: &mut Pinned, to: Part<'_>, bytes: usize) -> Result<(), CudaError> {
        self.crosses(from, to, bytes)?;
        // SAFETY: both are long enough and of this device; `from` is read and written through
        // `Pinned` alone, which waits for the copy that is noted below.
        let queued = unsafe { self.0.driver.up(to.address(), from.at, bytes, self.0.stream) };
        self.note(from);
        queued
    }

    /// Queues a copy of the first `bytes` of `from` to the start of `to`. One crossing.
    ///
    /// # Errors
    /// As [`Device::upload`].
    pub fn download(&self, from: Part<'_>, to: &mut Pinned, bytes: usize) -> Result<(), CudaError> {
        self.crosses(to, from, bytes)?;
        // SAFETY: as of `upload`.
        let queued = unsafe { self.0.driver.down(to.at, from.address(), bytes, self.0.stream) };
        self.note(to);
        queued
    }

    /// Notes a copy that was queued, or may have been. Only now: whoever waits for the queue takes what was
    /// noted before for done.
    fn note(&self, host: &mut Pinned) {
        self.0.crossings.fetch_add(1, Ordering::Relaxed);
        host.copy = self.0.queued.fetch_add(1, Ordering::AcqRel).saturating_add(1);
    }

    /// Checks a copy.
    fn crosses(&self, host: &Pinned, part: Part<'_>, bytes: usize) -> Result<(), CudaError> {
        let fits = bytes > 0 && bytes <= host.bytes && bytes <= part.bytes;
        if !fits || !self.is(&host.device) || !self.is(&part.memory.device) {
            return Err(CudaError::Shape { what: "a copy" });
        }
        self.0.enter()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Memory {
    /// Bytes of it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Never: there is no memory of no size.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it.
    #[must_use]
    pub const fn all(&self) -> Part<'_> {
        Part { memory: self, at: 0, bytes: self.bytes }
    }

    /// `bytes` of it from `at` on.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if they do not end inside.
    pub fn part(&self, at: usize, bytes: usize) -> Result<Part<'_>, CudaError> {
        self.all().part(at, bytes)
    }

    /// Copies `data` to `at`, through `staging`, as many copies as that needs.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if it does not end inside, [`CudaError::Call`].
    pub fn fill(&self, at: usize, data: &[u8], staging: &mut Pinned) -> Result<(), CudaError> {
        let mut to = self.part(at, data.len())?;
        for piece in data.chunks(staging.bytes.max(1)) {
            let room = staging.bytes_mut()?;
            room.get_mut(..piece.len()).unwrap_or_default().copy_from_slice(piece);
            self.device.upload(staging, to, piece.len())?;
            to = to.part(piece.len(), to.bytes.saturating_sub(piece.len()))?;
        }
        Ok(())
    }

    /// Queues zeros for all of it.
    fn zero(&self) -> Result<(), CudaError> {
        let inner = &self.device.0;
        inner.enter()?;
        // SAFETY: the memory is this allocation.
        unsafe { inner.driver.zero(self.address, self.bytes, inner.stream) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A device that answers no more has nothing to say about its memory either.
        if self.zero().is_ok() && self.device.wait().is_ok() {
            self.device.0.driver.free(self.address);
        }
    }
}

impl<'a> Part<'a> {
    /// `bytes` of it from `at` on.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if they do not end inside.
    pub fn part(self, at: usize, bytes: usize) -> Result<Self, CudaError> {
        let fits = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let start = self.at.checked_add(at).filter(|_| fits);
        let at = start.ok_or(CudaError::Shape { what: "a part of memory" })?;
        Ok(Self { memory: self.memory, at, bytes })
    }

    /// Bytes of it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes == 0
    }

    pub(crate) const fn address(self) -> Address {
        // Parts end inside: the sum is an address of the allocation.
        self.memory.address.saturating_add(self.at as u64)
    }

    pub(crate) const fn device(self) -> &'a Device {
        &self.memory.device
    }
}

impl Pinned {
    /// Its bytes, once no copy is in progress.
    ///
    /// # Errors
    /// [`CudaError::Call`] if something that was queued went wrong.
    pub fn bytes(&mut self) -> Result<&[u8], CudaError> {
        self.bytes_mut().map(|bytes| &*bytes)
    }

    /// As [`Pinned::bytes`], to be written.
    ///
    /// # Errors
    /// As [`Pinned::bytes`].
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], CudaError> {
        self.settle()?;
        // SAFETY: the allocation has so many bytes. Nobody else has a pointer to it, and the device has
        // done with it: the last copy was waited for. It was written when it was made.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) })
    }

    /// Waits for its last copy.
    fn settle(&self) -> Result<(), CudaError> {
        if self.copy > self.device.0.done.load(Ordering::Acquire) {
            self.device.wait()?;
        }
        Ok(())
    }

    /// Bytes of it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Never: there is no memory of no size.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let settled = self.settle();
        // SAFETY: the allocation has so many bytes, and nobody else has a pointer to it. A device that
        // answers no more may still copy from it or to it: to whoever reads then zeros are as good as
        // anything, and of what is written nothing is read.
        unsafe { self.at.as_ptr().write_bytes(0, self.bytes) };
        std::hint::black_box(self.at);
        // While a copy may be in progress it must stay where it is.
        if settled.is_ok() && self.device.0.enter().is_ok() {
            self.device.0.driver.free_host(self.at);
        }
    }
}

// SAFETY: the memory belongs to this value alone, and the driver's calls may come from any thread.
unsafe impl Send for Pinned {}
