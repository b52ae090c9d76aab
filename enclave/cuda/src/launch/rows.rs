//! What is done row by row: norms, gates, and the choice of a token.

use super::{Rows, THREADS, Table};
use crate::arguments as a;
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::Kernel;
use crate::memory::Part;

/// An RMS norm.
pub struct Norm<'a> {
    /// What is normalised.
    pub from: Rows<'a>,
    /// Which rows of it; all in order if there is none.
    pub rows: Option<Table<'a>>,
    /// One for each column.
    pub weight: Part<'a>,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Rows, and columns.
    pub count: usize,
    /// Columns.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Whether the result is added.
    pub add: bool,
}

/// `to = activation(gate) * up`.
pub struct Gate<'a> {
    /// The gate in the first columns.
    pub from: Rows<'a>,
    /// The column where the other factor starts.
    pub up_at: usize,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Rows.
    pub count: usize,
    /// Columns.
    pub width: usize,
    /// GELU in its `tanh` form; otherwise SiLU.
    pub gelu: bool,
}

/// The token with the largest logit of each row.
pub struct Choose<'a> {
    /// The logits.
    pub logits: Rows<'a>,
    /// Where the tokens go; [`NO_TOKEN`] if a logit is NaN or the largest is infinite.
    pub to: Table<'a>,
    /// Rows.
    pub count: usize,
    /// Tokens there are.
    pub known: usize,
}

impl Device {
    /// Queues a norm.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn norm(&self, of: &Norm<'_>) -> Result<(), CudaError> {
        let Norm { from, rows, weight, to, count, width, epsilon, add } = *of;
        let l = self.launch(Kernel::Norm);
        // Of picked rows only their table is known here.
        let (from, from_stride) = l.rows(from, if rows.is_some() { 1 } else { count }, width)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        l.go(
            [count, 1, 1],
            &a::Norm {
                from,
                weight: l.part(weight, &[width, 4])?,
                to,
                rows: rows.map_or(Ok(0), |rows| l.table(rows, count))?,
                width: l.number(width)?,
                from_stride,
                to_stride,
                add: add.into(),
                epsilon,
            },
        )
    }

    /// Queues a gate.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn gate(&self, of: &Gate<'_>) -> Result<(), CudaError> {
        let Gate { from, up_at, to, count, width, gelu } = *of;
        let l = self.launch(Kernel::Gate);
        let both = l.some(up_at.checked_add(width))?;
        let (from, from_stride) = l.rows(from, count, both)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        let (up_at, width_) = (l.number(up_at)?, l.number(width)?);
        let args =
            a::Gate { from, to, up_at, width: width_, from_stride, to_stride, gelu: gelu.into() };
        l.go([width.div_ceil(THREADS as usize), count, 1], &args)
    }

    /// Queues the choice of tokens.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn choose(&self, of: &Choose<'_>) -> Result<(), CudaError> {
        let Choose { logits, to, count, known } = *of;
        let l = self.launch(Kernel::Choose);
        let (logits, stride) = l.rows(logits, count, known)?;
        let to = l.table(to, count)?;
        l.go([count, 1, 1], &a::Choose { logits, to, stride, known: l.number(known)? })
    }
}

/// What a row without a token has for one.
pub const NO_TOKEN: u32 = u32::MAX;
