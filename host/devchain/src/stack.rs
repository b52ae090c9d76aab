//! What get-methods are given and return. Arguments come from strangers, results from contracts of
//! strangers; both are bounded in depth and number.

use num_bigint::BigInt;
use tycho_types::boc::Boc;
use tycho_types::cell::CellBuilder;
use tycho_vm::{OwnedCellSlice, RcStackValue, Stack, StackValueType};

use crate::error::ChainError;

/// A value on the stack of the virtual machine. Cells are bags of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackValue {
    /// Nothing.
    Null,
    /// A number of up to 257 bits.
    Number(BigInt),
    /// A cell.
    Cell(Vec<u8>),
    /// What is left of a cell, as a cell of its own.
    Slice(Vec<u8>),
    /// A cell that was being built, as if it were done.
    Builder(Vec<u8>),
    /// Several values.
    Tuple(Vec<Self>),
}

impl StackValue {
    /// The value as the machine holds it.
    pub(crate) fn to_machine(&self) -> Result<RcStackValue, ChainError> {
        let cell =
            |boc: &Vec<u8>| Boc::decode(boc).map_err(|e| ChainError::malformed("argument", e));
        Ok(match self {
            Self::Null => Stack::make_null(),
            Self::Number(number) if number.bits() > MAX_NUMBER_BITS => {
                return Err(ChainError::malformed("argument", "a number of more than 256 bits"));
            }
            Self::Number(number) => RcStackValue::new_dyn_value(number.clone()),
            Self::Cell(boc) => RcStackValue::new_dyn_value(cell(boc)?),
            Self::Slice(boc) => {
                RcStackValue::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell(boc)?))
            }
            Self::Builder(_) | Self::Tuple(_) => {
                return Err(ChainError::malformed("argument", "a builder or tuple is not taken"));
            }
        })
    }

    /// A value that the machine left, and those in it; `left` counts how many more are read.
    pub(crate) fn of_machine(
        value: &RcStackValue,
        depth: usize,
        left: &mut usize,
    ) -> Result<Self, ChainError> {
        let refused = |what| ChainError::malformed("result of a get-method", what);
        *left = left.checked_sub(1).ok_or_else(|| refused("it has too many values"))?;
        let ty = StackValueType::from_raw(value.raw_ty());
        if ty == Some(StackValueType::Null) {
            return Ok(Self::Null);
        }
        if let Some(number) = value.as_int() {
            return Ok(Self::Number(number.clone()));
        }
        if let Some(cell) = value.as_cell() {
            return Ok(Self::Cell(Boc::encode(cell)));
        }
        if let Some(slice) = value.as_cell_slice() {
            let mut rest = CellBuilder::new();
            rest.store_slice(slice.apply()).map_err(ChainError::executor)?;
            return Ok(Self::Slice(Boc::encode(rest.build().map_err(ChainError::executor)?)));
        }
        if let Some(builder) = value.as_cell_builder() {
            let cell = builder.clone().build().map_err(ChainError::executor)?;
            return Ok(Self::Builder(Boc::encode(cell)));
        }
        let Some(values) = value.as_tuple() else {
            return Err(refused("a continuation, or no number"));
        };
        let depth = depth.checked_sub(1).ok_or_else(|| refused("it is nested too deeply"))?;
        let values = values.iter().map(|value| Self::of_machine(value, depth, left));
        Ok(Self::Tuple(values.collect::<Result<_, _>>()?))
    }
}

/// What a get-method came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// 0 and 1 are success; anything else was thrown.
    pub exit_code: i32,
    /// Gas used.
    pub gas: u64,
    /// What it left, deepest first.
    pub stack: Vec<StackValue>,
}

impl Called {
    /// Whether the method returned.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        matches!(self.exit_code, 0 | 1)
    }
}

/// Most values of a result that are read, those in tuples included.
pub const MAX_RESULT_VALUES: usize = 1 << 12;
/// Deepest tuple that is read; lists are tuples in tuples.
pub const MAX_RESULT_DEPTH: usize = 256;
/// Bits of the widest number beside its sign.
const MAX_NUMBER_BITS: u64 = 256;
