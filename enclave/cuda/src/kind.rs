//! The formats of weights, and how large a tile of each is. The bytes are those of the engine's tiles
//! (`kernels/format.rs` there), which says what each of them means.

/// How the values of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // names of the file format
pub enum Kind {
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
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::F16,
        Self::Bf16,
        Self::F32,
    ];

    /// As kernels name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    /// Columns of a group, and its bytes in a tile of sixteen rows.
    const fn group(self) -> (usize, usize) {
        // Scales of sixteen rows, then codes: 64 bytes for each bit of them in a block of 32 columns.
        match self {
            Self::Q4_0 => (32, 16 * 2 + 64 * 4),
            Self::Q4_1 => (32, 16 * 4 + 64 * 4),
            Self::Q5_0 => (32, 16 * 2 + 64 * 5),
            Self::Q5_1 => (32, 16 * 4 + 64 * 5),
            Self::Q8_0 => (32, 16 * 2 + 64 * 8),
            Self::Q4K => (256, 16 * 20 + 8 * 64 * 4),
            Self::Q5K => (256, 16 * 20 + 8 * 64 * 5),
            Self::Q6K => (256, 16 * 18 + 8 * 64 * 6),
            Self::F16 | Self::Bf16 => (1, 16 * 2),
            Self::F32 => (1, 16 * 4),
        }
    }

    /// Bytes of a tile: sixteen rows of so many columns. `None` if they are no whole number of groups, or
    /// none.
    #[must_use]
    pub const fn tile_bytes(self, columns: usize) -> Option<usize> {
        let (width, bytes) = self.group();
        match (columns.checked_rem(width), columns.checked_div(width)) {
            (Some(0), Some(groups)) if groups > 0 => groups.checked_mul(bytes),
            _ => None,
        }
    }
}
