//! Weights on their way from the file into the memory they are computed from. The file is read once,
//! from front to back, and never as a whole: sixteen rows of a matrix become a tile as soon as they are
//! there. One block of memory, locked and wiped by the vault, holds all tiles.
//!
//! The bytes are verified by whoever gives them; shapes and places are those of a header that was
//! checked. Which tensors a model needs is not known here.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, ggml_file};
use chrysalis_vault::LockedBytes;
use zeroize::Zeroizing;

use crate::error::ModelError;
use crate::kernels::{Kind, LINE, Layout, Matrix, Pool};

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) dtype: GgmlDType,
    /// Sizes, the slowest first.
    pub(crate) dims: Vec<usize>,
    /// Its first byte in the file, and how many there are.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// The size of a head, if its rows are in halves: first those of the first dimension of each pair
    /// that turns together, then those of the second. In memory pairs lie together.
    pub(crate) turned: Option<usize>,
}

/// The tensors of a model: those of one dimension as numbers, the others in tiles.
#[derive(Default)]
pub(crate) struct Weights {
    vectors: HashMap<String, Vec<f32>>,
    /// The matrices of a tensor: one, or with three dimensions as many as the slowest says.
    stacks: HashMap<String, Vec<(Layout, Matrix)>>,
}

impl Weights {
    /// Reads `tensors` from `source`, which stands at the byte `at` of the file.
    ///
    /// # Errors
    /// Tensors that overlap each other or what was read before, one of more than three dimensions, a
    /// file that ends early or cannot be read, [`ModelError::OutOfMemory`].
    pub(crate) fn read(
        source: &mut impl BufRead,
        at: u64,
        mut tensors: Vec<Stored>,
        pool: &Pool,
    ) -> Result<Self, ModelError> {
        tensors.sort_by_key(|tensor| tensor.at);
        let mut length = 0;
        let plans = tensors
            .into_iter()
            .map(|stored| Plan::new(stored, &mut length))
            .collect::<Result<Vec<_>, _>>()?;
        let no_memory = |_| ModelError::OutOfMemory { bytes: length as u64 };
        let mut memory = LockedBytes::zeroed(length).map_err(no_memory)?;
        let mut source = Source { source, at, carry: Zeroizing::default() };
        let mut vectors = HashMap::new();
        let mut rest = memory.as_mut_slice();
        for Plan { stored, stack, .. } in &plans {
            source.skip_to(stored)?;
            match stack {
                None => drop(vectors.insert(stored.name.clone(), source.vector(stored)?)),
                Some(Stack { count, layout }) => {
                    for _ in 0..*count {
                        let (tiles, behind) =
                            rest.split_at_mut_checked(room(*layout)).ok_or_else(|| size(stored))?;
                        source.matrix(stored, *layout, tiles, pool)?;
                        rest = behind;
                    }
                }
            }
        }
        let memory = Arc::new(memory);
        let mut stacks = HashMap::new();
        for Plan { stored, stack, start } in plans {
            let Some(Stack { count, layout }) = stack else { continue };
            let matrix = |index: usize| {
                let start = index.checked_mul(room(layout))?.checked_add(start)?;
                Some((layout, Matrix::new(layout, &memory, start)?))
            };
            let matrices: Option<Vec<_>> = (0..count).map(matrix).collect();
            let matrices = matrices.ok_or_else(|| size(&stored))?;
            stacks.insert(stored.name, matrices);
        }
        Ok(Self { vectors, stacks })
    }

    /// A matrix.
    ///
    /// # Errors
    /// As [`Weights::matrices`].
    pub(crate) fn matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, ModelError> {
        let one = self.matrices(name, 1, rows, columns)?.into_iter().next();
        one.ok_or_else(|| missing(name))
    }

    /// The matrices of equal shape that one tensor holds one after the other.
    ///
    /// # Errors
    /// [`ModelError::TensorMissing`], [`ModelError::Weights`] if they have another shape or number.
    pub(crate) fn matrices(
        &self,
        name: &str,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<Matrix>, ModelError> {
        let stack = self.stacks.get(name).ok_or_else(|| missing(name))?;
        let fits = |(layout, matrix): &(Layout, Matrix)| {
            Layout::new(matrix.kind(), rows, columns) == Some(*layout)
        };
        if stack.len() != count || !stack.iter().all(fits) {
            return Err(ModelError::Weights { detail: format!("{name} has another size") });
        }
        Ok(stack.iter().map(|(_, matrix)| matrix.clone()).collect())
    }

    /// Adds those of another file of the model, which have other names.
    pub(crate) fn extend(&mut self, more: Self) {
        self.vectors.extend(more.vectors);
        self.stacks.extend(more.stacks);
    }

    /// Makes one tensor of several: their matrices, one after the other.
    pub(crate) fn stack(&mut self, name: &str, parts: &[String]) {
        let all = parts.iter().filter_map(|part| self.stacks.remove(part)).flatten().collect();
        self.stacks.insert(name.to_owned(), all);
    }

    /// Adds a tensor of one dimension that no file has.
    pub(crate) fn put_vector(&mut self, name: &str, values: Vec<f32>) {
        self.vectors.insert(name.to_owned(), values);
    }

    /// Adds one to the numbers of a tensor of one dimension, if there is one.
    pub(crate) fn add_one(&mut self, name: &str) {
        let values = self.vectors.get_mut(name).into_iter().flatten();
        values.for_each(|value| *value += 1.0);
    }

    /// The numbers of a tensor of one dimension.
    ///
    /// # Errors
    /// [`ModelError::TensorMissing`].
    pub(crate) fn vector(&self, name: &str) -> Result<&[f32], ModelError> {
        self.vectors.get(name).map(Vec::as_slice).ok_or_else(|| missing(name))
    }
}

/// What becomes of a tensor.
struct Plan {
    stored: Stored,
    /// `None` for one dimension.
    stack: Option<Stack>,
    /// Where its tiles start in memory.
    start: usize,
}

struct Stack {
    count: usize,
    layout: Layout,
}

impl Plan {
    /// Puts a tensor behind the `length` bytes of those before.
    fn new(stored: Stored, length: &mut usize) -> Result<Self, ModelError> {
        let start = *length;
        let (count, rows, columns) = match *stored.dims.as_slice() {
            [_] => return Ok(Self { stored, stack: None, start }),
            [rows, columns] => (1, rows, columns),
            [count, rows, columns] => (count, rows, columns),
            _ => {
                let feature = format!("tensor {} of {} dimensions", stored.name, stored.dims.len());
                return Err(ModelError::UnsupportedFeature { feature });
            }
        };
        // Formats without a kernel are rare. They are exact, and as large as `f32` is.
        let kind = Kind::of(stored.dtype).unwrap_or(Kind::F32);
        let layout = Layout::new(kind, rows, columns).ok_or_else(|| size(&stored))?;
        let end = room(layout).checked_mul(count).and_then(|bytes| start.checked_add(bytes));
        *length = end.ok_or_else(|| size(&stored))?;
        Ok(Self { stored, stack: Some(Stack { count, layout }), start })
    }
}

/// Bytes of the tiles of a matrix, up to where the next one may start.
fn room(layout: Layout) -> usize {
    layout.tiled().checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

/// The file, at one place of it.
struct Source<'a, S> {
    source: &'a mut S,
    at: u64,
    /// Rows that do not lie in one piece. They are weights: wiped.
    carry: Zeroizing<Vec<u8>>,
}

impl<S: BufRead> Source<'_, S> {
    /// Goes on to the first byte of a tensor.
    fn skip_to(&mut self, stored: &Stored) -> Result<(), ModelError> {
        let mut left = stored.at.checked_sub(self.at).ok_or_else(|| {
            let detail = "it overlaps what lies before it".to_owned();
            ModelError::Malformed { what: stored.name.clone(), detail }
        })?;
        while left > 0 {
            let there = self.peek(stored, left)?.len();
            let part = u64::try_from(there).unwrap_or(left).min(left);
            self.consume(there.min(usize::try_from(part).unwrap_or(there)));
            left = left.saturating_sub(part);
        }
        Ok(())
    }

    /// What can be looked at without a copy: at least one of the `needed` bytes.
    fn peek(&mut self, stored: &Stored, needed: u64) -> Result<&[u8], ModelError> {
        loop {
            match self.source.fill_buf() {
                Ok([]) => {
                    let (what, at) = (stored.name.clone(), self.at);
                    return Err(ModelError::Truncated { what, at, needed });
                }
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ModelError::Read { kind: e.kind() }),
            }
        }
        // Nothing was consumed since: it is there already.
        self.source.fill_buf().map_err(|e| ModelError::Read { kind: e.kind() })
    }

    fn consume(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.at = self.at.saturating_add(bytes as u64);
    }

    /// Copies the next `len` bytes to `carry`.
    fn gather(&mut self, stored: &Stored, len: usize) -> Result<(), ModelError> {
        let mut carry = core::mem::take(&mut self.carry);
        carry.clear();
        reserve(&mut carry, len);
        while carry.len() < len {
            let left = len.saturating_sub(carry.len());
            let there = self.peek(stored, left as u64)?;
            let part = there.get(..left).unwrap_or(there);
            carry.extend_from_slice(part);
            let read = part.len();
            self.consume(read);
        }
        self.carry = carry;
        Ok(())
    }

    fn vector(&mut self, stored: &Stored) -> Result<Vec<f32>, ModelError> {
        let len = usize::try_from(stored.bytes).map_err(|_| size(stored))?;
        self.gather(stored, len)?;
        values(stored.dtype, &self.carry, &stored.dims)
    }

    /// Reads one matrix into its tiles.
    fn matrix(
        &mut self,
        stored: &Stored,
        layout: Layout,
        tiles: &mut [u8],
        pool: &Pool,
    ) -> Result<(), ModelError> {
        if Kind::of(stored.dtype).is_none() {
            return self.widened(stored, layout, tiles, pool);
        }
        if let Some(head) = stored.turned {
            return self.turned(stored, layout, tiles, pool, head);
        }
        let (mut left, panel) = (layout.native(), layout.panel());
        let mut rest = tiles;
        while left > 0 {
            let there = self.peek(stored, left as u64)?;
            // Whole tiles, or all that is left.
            let whole = there.len().checked_next_multiple_of(panel).unwrap_or(0);
            let whole = if whole == there.len() { whole } else { whole.saturating_sub(panel) };
            let take = if there.len() >= left { left } else { whole };
            let native = there.get(..take).filter(|native| !native.is_empty());
            let read = if let Some(native) = native {
                rest = put(layout, pool, native, rest).ok_or_else(|| size(stored))?;
                self.consume(take);
                take
            } else {
                // A tile whose rows end in the next part of the file.
                let len = panel.min(left);
                self.gather(stored, len)?;
                rest = put(layout, pool, &self.carry, rest).ok_or_else(|| size(stored))?;
                len
            };
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    /// As [`Source::matrix`], for rows in halves of heads of `head` rows.
    fn turned(
        &mut self,
        stored: &Stored,
        layout: Layout,
        tiles: &mut [u8],
        pool: &Pool,
        head: usize,
    ) -> Result<(), ModelError> {
        let row = layout.panel().checked_div(16).unwrap_or(0);
        // Heads whose rows are whole tiles, or all of them.
        let whole = head.checked_rem(16) == Some(0);
        let part = if whole { head.saturating_mul(row) } else { layout.native() };
        let count = layout.native().checked_div(part).unwrap_or(0);
        if part.checked_mul(count) != Some(layout.native()) {
            return Err(size(stored));
        }
        let mut rest = tiles;
        let mut together = Zeroizing::new(Vec::with_capacity(part));
        for _ in 0..count {
            self.gather(stored, part)?;
            together.clear();
            for head in self.carry.chunks(head.saturating_mul(row).max(1)) {
                let (first, second) =
                    head.split_at_checked(head.len().div_ceil(2)).ok_or_else(|| size(stored))?;
                for (a, b) in first.chunks_exact(row).zip(second.chunks_exact(row)) {
                    together.extend_from_slice(a);
                    together.extend_from_slice(b);
                }
            }
            rest = put(layout, pool, &together, rest).ok_or_else(|| size(stored))?;
        }
        Ok(())
    }

    /// As [`Source::matrix`], for a format that is stored as `f32`.
    fn widened(
        &mut self,
        stored: &Stored,
        layout: Layout,
        tiles: &mut [u8],
        pool: &Pool,
    ) -> Result<(), ModelError> {
        let columns = stored.dims.last().copied().unwrap_or(0);
        let blocks = columns.checked_div(stored.dtype.block_size()).unwrap_or(0);
        let row = blocks.checked_mul(stored.dtype.type_size()).ok_or_else(|| size(stored))?;
        let wide_row = columns.checked_mul(4).ok_or_else(|| size(stored))?;
        let mut rows = layout.native().checked_div(wide_row).unwrap_or(0);
        let mut rest = tiles;
        while rows > 0 {
            let now = rows.min(16);
            self.gather(stored, now.saturating_mul(row))?;
            let wide = values(stored.dtype, &self.carry, &[now, columns])?;
            let wide: Zeroizing<Vec<u8>> =
                Zeroizing::new(wide.iter().flat_map(|value| value.to_le_bytes()).collect());
            rest = put(layout, pool, &wide, rest).ok_or_else(|| size(stored))?;
            rows = rows.saturating_sub(now);
        }
        Ok(())
    }
}

/// Packs rows into the first of `tiles`; the others.
fn put<'t>(
    layout: Layout,
    pool: &Pool,
    native: &[u8],
    tiles: &'t mut [u8],
) -> Option<&'t mut [u8]> {
    let count =
        native.len().checked_next_multiple_of(layout.panel())?.checked_div(layout.panel())?;
    let (now, rest) = tiles.split_at_mut_checked(count.checked_mul(layout.tile())?)?;
    layout.pack(pool, native, now);
    Some(rest)
}

/// The numbers of a tensor, as Candle reads formats of blocks.
fn values(dtype: GgmlDType, bytes: &[u8], dims: &[usize]) -> Result<Vec<f32>, ModelError> {
    if dtype == GgmlDType::F32 {
        return Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
    }
    let read = || {
        let tensor = ggml_file::qtensor_from_ggml(dtype, bytes, dims.to_vec(), &Device::Cpu)?;
        tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()
    };
    read().map_err(|e| ModelError::Weights { detail: e.to_string() })
}

/// Makes room without leaving a copy behind: what a vector grows out of is not wiped.
fn reserve(carry: &mut Zeroizing<Vec<u8>>, len: usize) {
    if carry.capacity() < len {
        *carry = Zeroizing::new(Vec::with_capacity(len));
    }
}

fn missing(name: &str) -> ModelError {
    ModelError::TensorMissing { name: name.to_owned() }
}

fn size(stored: &Stored) -> ModelError {
    ModelError::Malformed {
        what: stored.name.clone(),
        detail: format!("impossible shape {:?}", stored.dims),
    }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
