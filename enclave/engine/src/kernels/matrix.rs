//! Weights in tiles, in memory that is locked where the system allows and wiped when they are dropped.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use chrysalis_vault::LockedBytes;

use super::format::{self, Flat, Format, Six, Super, part};
use super::half;
use super::pool::Pool;

/// How the values of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // names of the file format
pub(crate) enum Kind {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    F16,
    Bf16,
    F32,
}

impl Kind {
    /// The kind that stores `dtype` as it is; `None` if there is no kernel for it.
    pub(crate) const fn of(dtype: GgmlDType) -> Option<Self> {
        Some(match dtype {
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::F32 => Self::F32,
            _ => return None,
        })
    }

    /// Bytes of one element, if it is not quantised.
    const fn dense_bytes(self) -> Option<usize> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            _ => None,
        }
    }
}

/// Calls `$then` with `$T` as the format of a quantised kind; does nothing for the others.
macro_rules! with_format {
    ($kind:expr, $T:ident => $then:expr) => {
        match $kind {
            Kind::Q4_0 => {
                type $T = Flat<4, false>;
                $then
            }
            Kind::Q4_1 => {
                type $T = Flat<4, true>;
                $then
            }
            Kind::Q5_0 => {
                type $T = Flat<5, false>;
                $then
            }
            Kind::Q5_1 => {
                type $T = Flat<5, true>;
                $then
            }
            Kind::Q8_0 => {
                type $T = Flat<8, false>;
                $then
            }
            Kind::Q4K => {
                type $T = Super<4>;
                $then
            }
            Kind::Q5K => {
                type $T = Super<5>;
                $then
            }
            Kind::Q6K => {
                type $T = Six;
                $then
            }
            Kind::F16 | Kind::Bf16 | Kind::F32 => {}
        }
    };
}
pub(crate) use with_format;

/// How a tensor of `rows` and `columns` lies in the file and in tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    kind: Kind,
    rows: usize,
    /// Bytes of a row in the file.
    native_row: usize,
    tile_bytes: usize,
    /// Bytes of all tiles.
    tiled: usize,
}

impl Layout {
    /// `None` if the columns are no whole number of groups, there are none, or the size overflows.
    pub(crate) fn new(kind: Kind, rows: usize, columns: usize) -> Option<Self> {
        let (mut group_columns, mut native_group, mut bytes) = (1, 0, 0);
        if let Some(element) = kind.dense_bytes() {
            (native_group, bytes) = (element, 16 * element);
        }
        with_format!(kind, T => {
            (group_columns, native_group, bytes) = (32 * T::BLOCKS, T::NATIVE, T::BYTES);
        });
        let groups = columns.checked_div(group_columns)?;
        let native_row = groups.checked_mul(native_group).filter(|b| *b > 0)?;
        if groups.checked_mul(group_columns) != Some(columns) {
            return None;
        }
        native_row.checked_mul(rows)?;
        let tile_bytes = groups.checked_mul(bytes)?;
        let tiled = tile_bytes.checked_mul(rows.div_ceil(16))?;
        Some(Self { kind, rows, native_row, tile_bytes, tiled })
    }

    /// Bytes of the tensor in the file.
    pub(crate) const fn native(self) -> usize {
        self.native_row * self.rows
    }

    /// Bytes of sixteen rows in the file, what becomes a tile.
    pub(crate) const fn panel(self) -> usize {
        16 * self.native_row
    }

    /// Bytes of a tile.
    pub(crate) const fn tile(self) -> usize {
        self.tile_bytes
    }

    /// Bytes of all tiles, the last one padded.
    pub(crate) const fn tiled(self) -> usize {
        self.tiled
    }

    /// Repacks rows of the file into `tiles`, sixteen a tile; the rows of the last one may be fewer.
    /// Its other rows keep what they hold.
    pub(crate) fn pack(self, pool: &Pool, native: &[u8], tiles: &mut [u8]) {
        let Self { kind, native_row, tile_bytes, .. } = self;
        pool.chunks(tiles, tile_bytes, |first, tiles| {
            let panels = native.chunks(self.panel()).skip(first);
            for (tile, panel) in tiles.chunks_exact_mut(tile_bytes).zip(panels) {
                for (row, native) in panel.chunks_exact(native_row).enumerate() {
                    pack_row(kind, native, tile, row);
                }
            }
        });
    }
}

/// A matrix of weights, `rows` results of `columns` inputs, in tiles of sixteen rows. The last tile is
/// padded with rows of zeros. A clone shares the memory.
#[derive(Clone)]
pub(crate) struct Matrix {
    layout: Layout,
    /// Where its tiles start, at a multiple of [`LINE`], so that they start on a cache line.
    start: usize,
    memory: Arc<LockedBytes>,
}

impl Matrix {
    /// The matrix whose tiles are in `memory` from `start` on; `None` if they do not end inside it.
    pub(crate) fn new(layout: Layout, memory: &Arc<LockedBytes>, start: usize) -> Option<Self> {
        let end = start.checked_add(layout.tiled)?;
        let inside = end <= memory.as_slice().len();
        inside.then(|| Self { layout, start, memory: Arc::clone(memory) })
    }

    /// Repacks a tensor of the file into memory of its own. `None` if `native` has not the size its
    /// shape needs, or its columns are no whole number of groups.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn pack(
        pool: &Pool,
        kind: Kind,
        rows: usize,
        columns: usize,
        native: &[u8],
    ) -> Option<Self> {
        let layout = Layout::new(kind, rows, columns)?;
        if layout.native() != native.len() {
            return None;
        }
        let mut memory = LockedBytes::zeroed(layout.tiled).ok()?;
        layout.pack(pool, native, memory.as_mut_slice());
        Self::new(layout, &Arc::new(memory), 0)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.layout.kind
    }

    pub(crate) const fn is_quantised(&self) -> bool {
        self.kind().dense_bytes().is_none()
    }

    /// Number of tiles.
    pub(crate) const fn tiles(&self) -> usize {
        self.layout.rows.div_ceil(16)
    }

    pub(crate) const fn tile_bytes(&self) -> usize {
        self.layout.tile_bytes
    }

    /// The bytes of `count` tiles from the `first`.
    pub(crate) fn tile_range(&self, first: usize, count: usize) -> &[u8] {
        let tile = self.layout.tile_bytes;
        let all = &self.memory.as_slice()[self.start..][..self.layout.tiled];
        &all[first * tile..][..count * tile]
    }

    /// The values of one row: `out` has the matrix' columns.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let tile = self.tile_range(row / 16, 1);
        let row = row % 16;
        with_format!(self.kind(), T => {
            for (group, out) in tile.chunks_exact(T::BYTES).zip(out.chunks_exact_mut(32 * T::BLOCKS)) {
                format::unpack::<T>(group, row, out);
            }
        });
        for (column, out) in out.iter_mut().enumerate() {
            match self.kind() {
                Kind::F32 => *out = f32::from_le_bytes(*part(tile, 4 * (16 * column + row))),
                Kind::F16 => {
                    let bits = u16::from_le_bytes(*part(tile, 2 * (16 * column + row)));
                    *out = half::to_f32(bits);
                }
                Kind::Bf16 => {
                    let bits = u16::from_le_bytes(*part(tile, 2 * (16 * column + row)));
                    *out = f32::from_bits(u32::from(bits) << 16);
                }
                _ => return,
            }
        }
    }
}

fn pack_row(kind: Kind, native: &[u8], tile: &mut [u8], row: usize) {
    match kind {
        Kind::F16 | Kind::Bf16 => pack_dense::<2>(native, tile, row),
        Kind::F32 => pack_dense::<4>(native, tile, row),
        _ => {}
    }
    with_format!(kind, T => {
        for (native, group) in native.chunks_exact(T::NATIVE).zip(tile.chunks_exact_mut(T::BYTES)) {
            format::pack::<T>(native, group, row);
        }
    });
}

/// Elements of `N` bytes: those of a column of the sixteen rows lie side by side.
fn pack_dense<const N: usize>(native: &[u8], tile: &mut [u8], row: usize) {
    let elements = native.as_chunks::<N>().0;
    let columns = tile.as_chunks_mut::<N>().0.chunks_exact_mut(16);
    for (element, column) in elements.iter().zip(columns) {
        column[row] = *element;
    }
}

/// Tiles start at a multiple of this: a cache line.
pub(crate) const LINE: usize = 64;
