//! Weights on the device: the same tiles, matrices that meet the same activations one behind the other.

use chrysalis_cuda::{CudaError, Device, Kind, Memory, Part, Pinned, Product, Rows, Select, Tiles};

use crate::error::ModelError;
use crate::kernels::{Kind as Stored, Matrix};

/// Matrices of equal columns whose results stand side by side, each from a multiple of sixteen on; or a
/// stack of such for each expert.
pub(super) struct Fused {
    pieces: Vec<Piece>,
    columns: usize,
    /// Matrices of a stack.
    count: usize,
}

/// Those of them that are stored in the same way: one launch.
struct Piece {
    memory: Memory,
    kind: Kind,
    rows: usize,
    /// The column of the results where its own start.
    at: usize,
    /// Bytes from one of a stack to the next.
    stride: usize,
}

/// Copies to the device.
pub(super) struct Uploader<'a> {
    pub(super) device: &'a Device,
    pub(super) staging: Pinned,
}

impl Uploader<'_> {
    /// Some bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<Memory, ModelError> {
        let memory = self.device.alloc(bytes.len())?;
        memory.fill(0, bytes, &mut self.staging)?;
        Ok(memory)
    }

    /// Some numbers.
    pub(super) fn floats<'f>(
        &mut self,
        of: impl IntoIterator<Item = &'f f32>,
    ) -> Result<Memory, ModelError> {
        let bytes: Vec<u8> = of.into_iter().flat_map(|x| x.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    /// Matrices and their numbers of rows.
    pub(super) fn fused(
        &mut self,
        matrices: &[(&Matrix, usize)],
        columns: usize,
    ) -> Result<Fused, ModelError> {
        self.stack(&[matrices.to_vec()], columns)
    }

    /// The same for each of several, which have the same shapes and kinds.
    pub(super) fn stack(
        &mut self,
        all: &[Vec<(&Matrix, usize)>],
        columns: usize,
    ) -> Result<Fused, ModelError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let first = all.first().map(Vec::as_slice).unwrap_or_default();
        let (mut column, mut place) = (0usize, 0usize);
        while let Some((matrix, _)) = first.get(place) {
            let same = |(other, _): &&(&Matrix, usize)| other.kind() == matrix.kind();
            let run = first.iter().skip(place).take_while(same).count();
            let range = place..place.saturating_add(run);
            pieces.push(self.piece(all, range, columns, column)?);
            let rows = first.iter().skip(place).take(run).map(|(_, rows)| padded(*rows));
            column = rows.fold(column, usize::saturating_add);
            place = place.saturating_add(run);
        }
        Ok(Fused { pieces, columns, count: all.len() })
    }

    /// The matrices of a `range` of each of `all`, which are of one kind.
    fn piece(
        &mut self,
        all: &[Vec<(&Matrix, usize)>],
        range: core::ops::Range<usize>,
        columns: usize,
        at: usize,
    ) -> Result<Piece, ModelError> {
        let strange = |what: &str| ModelError::Weights { detail: format!("for a GPU: {what}") };
        let mut stride = None;
        let (mut kind, mut rows) = (None, 0usize);
        let mut memory: Option<Memory> = None;
        for (number, one) in all.iter().enumerate() {
            let one = one.get(range.clone()).unwrap_or_default();
            let bytes =
                |(matrix, _): &(&Matrix, usize)| matrix.tile_bytes().saturating_mul(matrix.tiles());
            let size = one.iter().map(bytes).fold(0, usize::saturating_add);
            // Of the last matrix only the rows that there are.
            rows = one.iter().fold(0, |rows: usize, (_, own)| padded(rows).saturating_add(*own));
            if *stride.get_or_insert(size) != size {
                return Err(strange("experts of different sizes"));
            }
            let memory = match &memory {
                Some(memory) => memory,
                None => memory.insert(self.device.alloc(size.saturating_mul(all.len()))?),
            };
            let mut to = size.saturating_mul(number);
            for (matrix, own) in one {
                let own_kind = kind_of(matrix.kind());
                // What this crate packs and the kernels read is the same, or it is not used.
                let agreed = own_kind.tile_bytes(columns) == Some(matrix.tile_bytes())
                    && own.div_ceil(16) == matrix.tiles()
                    && *kind.get_or_insert(own_kind) == own_kind;
                if !agreed {
                    return Err(strange("tiles of another size"));
                }
                let tiles = matrix.tile_range(0, matrix.tiles());
                memory.fill(to, tiles, &mut self.staging)?;
                to = to.saturating_add(tiles.len());
            }
        }
        let (Some(memory), Some(kind), Some(stride)) = (memory, kind, stride) else {
            return Err(strange("no matrix"));
        };
        Ok(Piece { memory, kind, rows, at, stride })
    }
}

impl Fused {
    /// Queues the products with `count` rows of `x`.
    pub(super) fn multiply(
        &self,
        device: &Device,
        x: Rows<'_>,
        y: Rows<'_>,
        count: usize,
        add: bool,
    ) -> Result<(), CudaError> {
        self.run(device, x, y, count, add, |_| None)
    }

    /// Queues the products of `count` rows of results with the matrices that `numbers` say, `fan`
    /// neighbours with the same row of `x`.
    pub(super) fn multiply_chosen(
        &self,
        device: &Device,
        x: Rows<'_>,
        y: Rows<'_>,
        count: usize,
        (numbers, fan): (Part<'_>, usize),
    ) -> Result<(), CudaError> {
        let numbers = chrysalis_cuda::Table(numbers);
        self.run(device, x, y, count, false, |piece| {
            Some(Select { numbers, matrices: self.count, stride: piece.stride, fan })
        })
    }

    fn run<'a>(
        &'a self,
        device: &Device,
        x: Rows<'a>,
        y: Rows<'a>,
        count: usize,
        add: bool,
        select: impl Fn(&Piece) -> Option<Select<'a>>,
    ) -> Result<(), CudaError> {
        for piece in &self.pieces {
            let y = y.from_column(piece.at)?;
            let weights = Tiles { columns: self.columns, ..piece.tiles() };
            device.product(&Product { weights, x, y, count, add, select: select(piece) })?;
        }
        Ok(())
    }

    /// The tiles of one matrix.
    pub(super) fn only(&self) -> Option<Tiles<'_>> {
        let tiles = self.pieces.first()?.tiles();
        Some(Tiles { columns: self.columns, ..tiles })
    }
}

impl Piece {
    const fn tiles(&self) -> Tiles<'_> {
        Tiles { part: self.memory.all(), kind: self.kind, rows: self.rows, columns: 0 }
    }
}

/// Where the next matrix starts.
pub(super) const fn padded(rows: usize) -> usize {
    rows.next_multiple_of(16)
}

const fn kind_of(stored: Stored) -> Kind {
    match stored {
        Stored::Q4_0 => Kind::Q4_0,
        Stored::Q4_1 => Kind::Q4_1,
        Stored::Q5_0 => Kind::Q5_0,
        Stored::Q5_1 => Kind::Q5_1,
        Stored::Q8_0 => Kind::Q8_0,
        Stored::Q4K => Kind::Q4K,
        Stored::Q5K => Kind::Q5K,
        Stored::Q6K => Kind::Q6K,
        Stored::F16 => Kind::F16,
        Stored::Bf16 => Kind::Bf16,
        Stored::F32 => Kind::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Layout;

    /// Its kernels read the processor's tiles: both sides say how large those are.
    #[test]
    fn tiles_of_every_format_have_the_size_that_the_kernels_take_them_for() {
        let all = [
            Stored::Q4_0,
            Stored::Q4_1,
            Stored::Q5_0,
            Stored::Q5_1,
            Stored::Q8_0,
            Stored::Q4K,
            Stored::Q5K,
            Stored::Q6K,
            Stored::F16,
            Stored::Bf16,
            Stored::F32,
        ];
        assert_eq!(all.map(kind_of), Kind::ALL);
        for (ours, theirs) in all.into_iter().zip(Kind::ALL) {
            for columns in [1, 31, 32, 64, 255, 256, 288, 512, 576, 4096] {
                let tile = Layout::new(ours, 16, columns).map(Layout::tile);
                assert_eq!(tile, theirs.tile_bytes(columns), "{} {columns}", theirs.name());
            }
        }
    }
}
