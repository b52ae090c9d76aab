//! Weights in tiles.

use candle_core::quantized::GgmlDType;

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

/// A matrix of weights, `rows` results of `columns` inputs, in tiles of sixteen rows. The last tile is
/// padded with rows of zeros.
pub(crate) struct Matrix {
    kind: Kind,
    rows: usize,
    tile_bytes: usize,
    tiles: Aligned,
}

impl Matrix {
    /// Repacks a tensor of the file. `None` if `native` has not the size its shape needs, or its
    /// columns are no whole number of groups.
    pub(crate) fn pack(
        pool: &Pool,
        kind: Kind,
        rows: usize,
        columns: usize,
        native: &[u8],
    ) -> Option<Self> {
        let (mut group_columns, mut native_group, mut bytes) = (1, 0, 0);
        if let Some(element) = kind.dense_bytes() {
            (native_group, bytes) = (element, 16 * element);
        }
        with_format!(kind, T => {
            (group_columns, native_group, bytes) = (32 * T::BLOCKS, T::NATIVE, T::BYTES);
        });
        let groups = columns.checked_div(group_columns)?;
        let native_row = groups.checked_mul(native_group).filter(|b| *b > 0)?;
        if groups.checked_mul(group_columns) != Some(columns)
            || native_row.checked_mul(rows) != Some(native.len())
        {
            return None;
        }
        let tile_bytes = groups.checked_mul(bytes)?;
        let mut tiles = Aligned::zeros(tile_bytes.checked_mul(rows.div_ceil(16))?);
        pool.chunks(tiles.bytes_mut(), tile_bytes, |first, tiles| {
            for (i, tile) in tiles.chunks_exact_mut(tile_bytes).enumerate() {
                let from = &native[16 * native_row * (first + i)..];
                for (row, native) in from.chunks_exact(native_row).take(16).enumerate() {
                    pack_row(kind, native, tile, row);
                }
            }
        });
        Some(Self { kind, rows, tile_bytes, tiles })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn is_quantised(&self) -> bool {
        self.kind.dense_bytes().is_none()
    }

    /// Number of tiles.
    pub(crate) const fn tiles(&self) -> usize {
        self.rows.div_ceil(16)
    }

    pub(crate) const fn tile_bytes(&self) -> usize {
        self.tile_bytes
    }

    /// The bytes of `count` tiles from the `first`.
    pub(crate) fn tile_range(&self, first: usize, count: usize) -> &[u8] {
        &self.tiles.bytes()[first * self.tile_bytes..][..count * self.tile_bytes]
    }

    /// The values of one row: `out` has the matrix' columns.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let tile = self.tile_range(row / 16, 1);
        let row = row % 16;
        with_format!(self.kind, T => {
            for (group, out) in tile.chunks_exact(T::BYTES).zip(out.chunks_exact_mut(32 * T::BLOCKS)) {
                format::unpack::<T>(group, row, out);
            }
        });
        for (column, out) in out.iter_mut().enumerate() {
            match self.kind {
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
    if let Some(element) = kind.dense_bytes() {
        let columns = tile.chunks_exact_mut(16 * element);
        for (native, column) in native.chunks_exact(element).zip(columns) {
            column[row * element..][..element].copy_from_slice(native);
        }
    }
    with_format!(kind, T => {
        for (native, group) in native.chunks_exact(T::NATIVE).zip(tile.chunks_exact_mut(T::BYTES)) {
            format::pack::<T>(native, group, row);
        }
    });
}

/// Bytes that start on a cache line.
struct Aligned {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn zeros(len: usize) -> Self {
        let buffer = vec![0; len + LINE];
        // `align_offset` may give up, which costs speed only.
        let start = buffer.as_ptr().align_offset(LINE).min(LINE);
        Self { buffer, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..][..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..][..self.len]
    }
}

const LINE: usize = 64;
