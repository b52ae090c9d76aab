//! Which experts a token takes, and what they give together.

use super::{Rows, THREADS, Table, size};
use crate::arguments as a;
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::Kernel;
use crate::memory::Part;

/// The experts each token takes.
pub struct Route<'a> {
    /// One logit for each expert.
    pub logits: Rows<'a>,
    /// For each token the numbers of those it takes, in order.
    pub experts: Table<'a>,
    /// Its shares of them (`f32`).
    pub shares: Part<'a>,
    /// Tokens.
    pub count: usize,
    /// Experts, at most [`MAX_EXPERTS`].
    pub all: usize,
    /// Those that a token takes.
    pub used: usize,
}

/// What the experts of a token give together.
pub struct Mix<'a> {
    /// A row for each token and each of its experts.
    pub from: Rows<'a>,
    /// As of [`Route`].
    pub shares: Part<'a>,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Tokens.
    pub count: usize,
    /// Experts of each.
    pub used: usize,
    /// Columns.
    pub width: usize,
    /// Whether the result is added.
    pub add: bool,
}

impl Device {
    /// Queues the choice of experts.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn route(&self, of: &Route<'_>) -> Result<(), CudaError> {
        let Route { logits, experts, shares, count, all, used } = *of;
        let l = self.launch(Kernel::Route);
        if all > MAX_EXPERTS || used == 0 || used > all {
            return Err(l.refused());
        }
        let (logits, stride) = l.rows(logits, count, all)?;
        let items = l.some(size(&[count, used]))?;
        l.go(
            [count, 1, 1],
            &a::Route {
                logits,
                experts: l.table(experts, items)?,
                shares: l.part(shares, &[items, 4])?,
                stride,
                count: l.number(all)?,
                used: l.number(used)?,
            },
        )
    }

    /// Queues the sum of what experts gave.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn mix(&self, of: &Mix<'_>) -> Result<(), CudaError> {
        let Mix { from, shares, to, count, used, width, add } = *of;
        let l = self.launch(Kernel::Mix);
        let items = l.some(size(&[count, used]))?;
        let (from, from_stride) = l.rows(from, items, width)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        l.go(
            [width.div_ceil(THREADS as usize), count, 1],
            &a::Mix {
                from,
                shares: l.part(shares, &[items, 4])?,
                to,
                used: l.number(used)?,
                width: l.number(width)?,
                from_stride,
                to_stride,
                add: add.into(),
            },
        )
    }
}

/// Most experts of a layer.
pub const MAX_EXPERTS: usize = 1024;
