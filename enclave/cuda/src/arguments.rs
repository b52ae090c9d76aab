//! What each kernel takes, as its source in `kernels/` declares it: pointers first, so that there is no
//! padding inside. The size is compared with what the kernel says when it is loaded.

/// An address in the memory of the device; 0 where the kernel takes none.
pub(crate) type Pointer = u64;

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub(crate) struct $name {
                $(pub(crate) $field: $type,)*
            }
        )*
    };
}

arguments! {
    /// `product.cu`.
    Product {
        tiles: Pointer, x: Pointer, y: Pointer, select: Pointer,
        matrix_bytes: u64,
        tile_bytes: u32, columns: u32, rows: u32, count: u32,
        x_stride: u32, y_stride: u32, fan: u32, add: u32,
    }
    /// `product.cu`.
    Embed {
        tiles: Pointer, ids: Pointer, to: Pointer,
        tile_bytes: u32, columns: u32, stride: u32, scale: f32,
    }
    /// `rows.cu`.
    Norm {
        from: Pointer, weight: Pointer, to: Pointer, rows: Pointer,
        width: u32, from_stride: u32, to_stride: u32, add: u32, epsilon: f32,
    }
    /// `rows.cu`.
    Gate {
        from: Pointer, to: Pointer,
        up_at: u32, width: u32, from_stride: u32, to_stride: u32, gelu: u32,
    }
    /// `rows.cu`.
    Choose { logits: Pointer, to: Pointer, stride: u32, known: u32 }
    /// `rows.cu`.
    Wipe { pages: Pointer, list: Pointer, page_halves: u64 }
    /// `experts.cu`.
    Route {
        logits: Pointer, experts: Pointer, shares: Pointer, stride: u32, count: u32, used: u32,
    }
    /// `experts.cu`.
    Mix {
        from: Pointer, shares: Pointer, to: Pointer,
        used: u32, width: u32, from_stride: u32, to_stride: u32, add: u32,
    }
    /// `attention.cu`.
    Angles { turns: Pointer, positions: Pointer, to: Pointer, pairs: u32, tokens: u32 }
    /// `attention.cu`.
    Heads {
        qkv: Pointer, angles: Pointer, query_norm: Pointer, key_norm: Pointer, queries: Pointer,
        pages: Pointer, slots: Pointer, page_halves: u64, layer_halves: u64,
        stride: u32, key_at: u32, value_at: u32, heads: u32, kv_heads: u32, dim: u32,
        neighbours: u32, epsilon: f32, scale: f32,
    }
    /// `attention.cu`.
    Attention {
        queries: Pointer, pages: Pointer, positions: Pointer, tables: Pointer, table: Pointer,
        numbers: Pointer, sums: Pointer, page_halves: u64, layer_halves: u64,
        heads: u32, kv_heads: u32, dim: u32, ranges: u32, window: u32,
    }
    /// `attention.cu`.
    Join {
        numbers: Pointer, sums: Pointer, positions: Pointer, to: Pointer,
        heads: u32, dim: u32, ranges: u32, window: u32, stride: u32,
    }
}
