//! What a step says to the device: one table of numbers, one copy.

use core::ops::Range;

use crate::cache::PageId;
use crate::decoder::Segment;
use crate::error::EngineError;
use crate::kernels::PAGE_TOKENS;

/// The parts of a table, each some numbers one behind the other.
#[derive(Default)]
pub(super) struct Plan {
    numbers: zeroize::Zeroizing<Vec<u32>>,
    /// Tokens of the step, and for each of them: id, position, where the pages of its sequence start,
    /// its slot.
    pub(super) tokens: usize,
    pub(super) ids: usize,
    pub(super) positions: usize,
    pub(super) tables: usize,
    pub(super) slots: usize,
    /// Pages of the sequences.
    pub(super) pages: usize,
    /// Rows of the tokens after which something is wanted: first those whose logits are, then those whose
    /// likeliest token is.
    pub(super) rows: usize,
    pub(super) with_logits: usize,
    pub(super) wanted: usize,
    /// Pages to wipe.
    pub(super) wipes: usize,
    pub(super) wiped: usize,
    /// Tokens of the longest sequence.
    pub(super) longest: usize,
    /// For each wanted row in the order of the batch its place among `rows`.
    pub(super) order: Vec<usize>,
}

impl Plan {
    /// The table of `batch`, whose tokens and pages were checked to be there.
    pub(super) fn of(batch: &[Segment<'_>], wipe: &[PageId]) -> Result<Self, EngineError> {
        let large = |_| EngineError::Compute { stage: "a step of this size" };
        let mut plan = Self::default();
        let count: usize = batch.iter().map(|segment| segment.tokens.len()).sum();
        let pages: usize = batch.iter().map(|segment| segment.pages.len()).sum();
        let wanted: usize = batch.iter().map(|segment| segment.wanted).sum();
        // Room for all: what a vector grows out of is not wiped.
        let size = 4usize.saturating_mul(count).saturating_add(pages).saturating_add(wanted);
        plan.numbers.reserve_exact(size.saturating_add(wipe.len()));
        let number = |n: usize| u32::try_from(n).map_err(large);
        plan.tokens = count;
        plan.ids = plan.next();
        for segment in batch {
            plan.numbers.extend_from_slice(segment.tokens);
            let after = segment.before.saturating_add(segment.tokens.len());
            plan.longest = plan.longest.max(after);
        }
        plan.positions = plan.next();
        for segment in batch {
            for position in positions(segment) {
                plan.numbers.push(number(position)?);
            }
        }
        plan.tables = plan.next();
        let mut start = 0usize;
        for segment in batch {
            let start_of = number(start)?;
            plan.numbers.extend(segment.tokens.iter().map(|_| start_of));
            start = start.saturating_add(segment.pages.len());
        }
        plan.slots = plan.next();
        for segment in batch {
            for position in positions(segment) {
                let none = EngineError::Compute { stage: "tokens without a page" };
                let (page, slot) = segment.slot(position).ok_or(none)?;
                let slot = page.0.saturating_mul(PAGE_TOKENS).saturating_add(slot);
                plan.numbers.push(number(slot)?);
            }
        }
        plan.pages = plan.next();
        for page in batch.iter().flat_map(|segment| segment.pages) {
            plan.numbers.push(number(page.0)?);
        }
        plan.rows = plan.next();
        plan.wanted = wanted;
        plan.order = vec![0; wanted];
        let mut taken = 0usize;
        for likeliest in [false, true] {
            let (mut row, mut place) = (0usize, 0usize);
            for segment in batch {
                row = row.saturating_add(segment.tokens.len());
                let rows = row.saturating_sub(segment.wanted)..row;
                for row in rows {
                    if segment.likeliest == likeliest {
                        plan.numbers.push(number(row)?);
                        if let Some(order) = plan.order.get_mut(place) {
                            *order = taken;
                        }
                        taken = taken.saturating_add(1);
                    }
                    place = place.saturating_add(1);
                }
            }
            if !likeliest {
                plan.with_logits = taken;
            }
        }
        plan.wipes = plan.next();
        plan.wiped = wipe.len();
        for page in wipe {
            plan.numbers.push(number(page.0)?);
        }
        Ok(plan)
    }

    fn next(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

/// Positions of its new tokens.
const fn positions(segment: &Segment<'_>) -> Range<usize> {
    segment.before..segment.before.saturating_add(segment.tokens.len())
}
