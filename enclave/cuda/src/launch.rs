//! Launches: each kernel with what it takes, by names. All of it is checked before anything is queued:
//! parts are long enough for what the kernel touches, and are of this device. Indices inside tables (token
//! ids, pages, rows) are not seen here: whoever makes a table has checked them.

mod attention;
mod experts;
mod product;
mod rows;

pub use attention::{
    Angles, Attend, Heads, Join, Layer, MAX_HEAD_DIM, PAGE_TOKENS, Pages, RANGE_TOKENS, Wipe,
};
pub use experts::{MAX_EXPERTS, Mix, Route};
pub use product::{Embed, Product, Select};
pub use rows::{Choose, Gate, NO_TOKEN, Norm};

use crate::arguments::Pointer;
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::Kernel;
use crate::kind::Kind;
use crate::memory::Part;

/// Rows of `f32`: each starts `stride` values after the one before.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Where the first one starts.
    pub part: Part<'a>,
    /// Values from the start of a row to the next.
    pub stride: usize,
}

impl Rows<'_> {
    /// The same rows from a column on.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if there is none.
    pub fn from_column(self, column: usize) -> Result<Self, CudaError> {
        let at = column.saturating_mul(4);
        let part = self.part.part(at, self.part.len().saturating_sub(at))?;
        Ok(Self { part, ..self })
    }
}

/// A matrix of weights in tiles of sixteen rows, or several with the same columns one after the other.
#[derive(Clone, Copy)]
pub struct Tiles<'a> {
    /// The tiles.
    pub part: Part<'a>,
    /// How they store values.
    pub kind: Kind,
    /// Rows; the last tile may have more.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Tiles<'_> {
    fn bytes(&self) -> Option<usize> {
        self.kind.tile_bytes(self.columns)?.checked_mul(self.rows.div_ceil(16))
    }
}

/// Numbers (`u32`) of a step.
#[derive(Clone, Copy)]
pub struct Table<'a>(pub Part<'a>);

/// What is common to the checks of a launch.
#[derive(Clone, Copy)]
struct Launch<'d> {
    device: &'d Device,
    kernel: Kernel,
}

impl Launch<'_> {
    const fn refused(&self) -> CudaError {
        CudaError::Shape { what: self.kernel.name() }
    }

    fn some<T>(&self, value: Option<T>) -> Result<T, CudaError> {
        value.ok_or_else(|| self.refused())
    }

    fn number(&self, value: usize) -> Result<u32, CudaError> {
        u32::try_from(value).map_err(|_| self.refused())
    }

    /// The start of a part that has as many bytes as all of `of` multiplied.
    fn part(&self, part: Part<'_>, of: &[usize]) -> Result<Pointer, CudaError> {
        let fits = size(of).is_some_and(|bytes| bytes <= part.len());
        if fits && part.device().is(self.device) { Ok(part.address()) } else { Err(self.refused()) }
    }

    /// The start of a table of so many numbers.
    fn table(&self, table: Table<'_>, count: usize) -> Result<Pointer, CudaError> {
        self.part(table.0, &[count, 4])
    }

    /// The start of so many rows of so many columns, and their stride.
    fn rows(
        &self,
        rows: Rows<'_>,
        count: usize,
        width: usize,
    ) -> Result<(Pointer, u32), CudaError> {
        let before = size(&[count.saturating_sub(1), rows.stride]);
        let values = self.some(before.and_then(|before| before.checked_add(width)))?;
        if width > rows.stride {
            return Err(self.refused());
        }
        Ok((self.part(rows.part, &[values, 4])?, self.number(rows.stride)?))
    }

    // JUSTIFICATION: what a kernel does with the addresses in its argument is out of the compiler's sight, so
    // there is no safe call of one.
    #[allow(unsafe_code)]
    fn go<T: Copy>(&self, grid: [usize; 3], argument: &T) -> Result<(), CudaError> {
        let mut sizes = [0; 3];
        for ((to, from), most) in sizes.iter_mut().zip(grid).zip(MOST_BLOCKS) {
            *to = self
                .number(from)
                .ok()
                .filter(|n| *n > 0 && *n <= most)
                .ok_or_else(|| self.refused())?;
        }
        let inner = &self.device.0;
        inner.enter()?;
        let function = inner.function(self.kernel)?;
        // SAFETY: the argument is the kernel's, whose size was compared; its pointers were checked to
        // have behind them what the kernel touches, and their owners wait for the queue before they
        // give memory back.
        unsafe { inner.driver.launch(function, sizes, THREADS, argument, inner.stream) }
    }
}

impl Device {
    const fn launch(&self, kernel: Kernel) -> Launch<'_> {
        Launch { device: self, kernel }
    }
}

/// All of them multiplied.
fn size(of: &[usize]) -> Option<usize> {
    of.iter().try_fold(1usize, |all, n| all.checked_mul(*n))
}

/// Threads of a block, of every kernel.
const THREADS: u32 = 256;
/// Most blocks in each direction of a grid.
const MOST_BLOCKS: [u32; 3] = [i32::MAX.cast_unsigned(), 65_535, 65_535];
