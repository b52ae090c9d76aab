//! Activations between the kernels: a matrix in columns of sixteen.

use zeroize::Zeroizing;

/// Sixteen neighbouring values of one row.
pub(crate) type Lanes = [f32; 16];

/// Rows of `f32`, sixteen columns at a time: all rows of columns 0 to 15, then of 16 to 31. Each tile
/// of a product is one contiguous part of it. The last columns are padded with zeros. Wiped on drop.
pub(crate) struct Tiled {
    rows: usize,
    data: Zeroizing<Vec<Lanes>>,
}

impl Tiled {
    /// Zeros.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { rows, data: Zeroizing::new(vec![[0.0; 16]; rows * columns.div_ceil(16)]) }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, rounded up to a multiple of sixteen.
    pub(crate) fn columns(&self) -> usize {
        self.data.len() / self.rows.max(1) * 16
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn get(&self, row: usize, column: usize) -> f32 {
        self.data[column / 16 * self.rows + row][column % 16]
    }

    pub(crate) fn lanes(&self, row: usize, tile: usize) -> &Lanes {
        &self.data[tile * self.rows + row]
    }

    pub(crate) fn lanes_mut(&mut self, row: usize, tile: usize) -> &mut Lanes {
        &mut self.data[tile * self.rows + row]
    }

    pub(crate) fn data_mut(&mut self) -> &mut [Lanes] {
        &mut self.data
    }

    /// Copies a row from `values`, its columns.
    pub(crate) fn set_row(&mut self, row: usize, values: &[f32]) {
        for (tile, values) in values.chunks(16).enumerate() {
            self.lanes_mut(row, tile)[..values.len()].copy_from_slice(values);
        }
    }

    /// Copies columns of a row from `column` on, as many as `to` holds.
    pub(crate) fn read(&self, row: usize, mut column: usize, mut to: &mut [f32]) {
        while !to.is_empty() {
            let lanes = &self.lanes(row, column / 16)[column % 16..];
            let (now, rest) = to.split_at_mut(lanes.len().min(to.len()));
            now.copy_from_slice(&lanes[..now.len()]);
            (column, to) = (column + now.len(), rest);
        }
    }

    /// A copy of some rows, in their order.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let mut out = Self::new(rows.len(), self.columns());
        for tile in 0..self.columns() / 16 {
            for (to, from) in rows.iter().enumerate() {
                *out.lanes_mut(to, tile) = *self.lanes(*from, tile);
            }
        }
        out
    }

    /// The first `columns` of one row, in order.
    pub(crate) fn row(&self, row: usize, columns: usize) -> Zeroizing<Vec<f32>> {
        let mut out = Zeroizing::new(vec![0.0; columns.next_multiple_of(16)]);
        for (tile, to) in out.as_chunks_mut().0.iter_mut().enumerate() {
            *to = *self.lanes(row, tile);
        }
        out.truncate(columns);
        out
    }
}
