//! Products and rows of embeddings, of every format: tiles are written value by value as the engine's
//! `format.rs` describes them, beside their exact values.

use super::*;
use crate::kernel::tokens_at_once;
use crate::{Embed, Kind, Product, Select, Tiles};

/// A random matrix: its tiles, and its values.
struct Exact {
    tiles: Vec<u8>,
    values: Vec<f64>,
}

fn matrix(kind: Kind, rows: usize, columns: usize, random: &mut Random) -> Exact {
    let tile = kind.tile_bytes(columns).unwrap();
    let mut tiles = vec![0; tile * rows.div_ceil(16)];
    let mut values = Vec::new();
    for row in 0..rows {
        let tile = &mut tiles[row / 16 * tile..][..tile];
        values.extend(fill_row(kind, tile, row % 16, columns, random));
    }
    Exact { tiles, values }
}

fn fill_row(
    kind: Kind,
    tile: &mut [u8],
    row: usize,
    columns: usize,
    random: &mut Random,
) -> Vec<f64> {
    let put_half = |tile: &mut [u8], at: usize, random: &mut Random| {
        let (value, bits) = half(random);
        tile[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        value
    };
    match kind {
        Kind::F32 | Kind::F16 | Kind::Bf16 => {
            let mut value = |column: usize| {
                // Of seven bits: every format holds it.
                let value = f64::from(random.next() % 128) / 32.0 - 2.0;
                let at = 16 * column + row;
                match kind {
                    Kind::F32 => tile[4 * at..][..4].copy_from_slice(&(value as f32).to_le_bytes()),
                    Kind::F16 => {
                        tile[2 * at..][..2].copy_from_slice(&half_bits(value).to_le_bytes())
                    }
                    _ => {
                        let bits = ((value as f32).to_bits() >> 16) as u16;
                        tile[2 * at..][..2].copy_from_slice(&bits.to_le_bytes());
                    }
                }
                value
            };
            (0..columns).map(&mut value).collect()
        }
        Kind::Q4K | Kind::Q5K | Kind::Q6K => {
            let width = if kind == Kind::Q4K { 4 } else { 5 + usize::from(kind == Kind::Q6K) };
            let header = if kind == Kind::Q6K { 288 } else { 320 };
            let group = header + 8 * 64 * width;
            let mut out = Vec::new();
            for group in tile.chunks_exact_mut(group) {
                let d = put_half(group, 2 * row, random);
                if kind == Kind::Q6K {
                    for block in 0..8 {
                        for part in 0..2 {
                            let scale = random.next() as i8;
                            group[32 + 32 * block + 16 * part + row] = scale as u8;
                            for i in 16 * part..16 * part + 16 {
                                let code = put_code(group, header, width, block, row, i, random);
                                out.push(d * f64::from(scale) * (f64::from(code) - 32.0));
                            }
                        }
                    }
                    continue;
                }
                let least = put_half(group, 32 + 2 * row, random);
                for block in 0..8 {
                    let (scale, min) = (random.next() as u8 & 63, random.next() as u8 & 63);
                    group[64 + 16 * block + row] = scale;
                    group[192 + 16 * block + row] = min;
                    for i in 0..32 {
                        let code = put_code(group, header, width, block, row, i, random);
                        out.push(d * f64::from(scale) * f64::from(code) - least * f64::from(min));
                    }
                }
            }
            out
        }
        _ => {
            let (width, mins) = match kind {
                Kind::Q4_0 => (4, false),
                Kind::Q4_1 => (4, true),
                Kind::Q5_0 => (5, false),
                Kind::Q5_1 => (5, true),
                _ => (8, false),
            };
            let header = if mins { 64 } else { 32 };
            let mut out = Vec::new();
            for group in tile.chunks_exact_mut(header + 64 * width) {
                let d = put_half(group, 2 * row, random);
                let least = if mins { put_half(group, 32 + 2 * row, random) } else { 0.0 };
                for i in 0..32 {
                    let code = put_code(group, header, width, 0, row, i, random);
                    let code = match (width, mins) {
                        (8, _) => f64::from(code as i8),
                        (_, true) => f64::from(code),
                        _ => f64::from(code) - f64::from(1 << (width - 1)),
                    };
                    out.push(d * code + least);
                }
            }
            out
        }
    }
}

/// Writes a random code of column `i` of a block.
fn put_code(
    group: &mut [u8],
    header: usize,
    width: usize,
    block: usize,
    row: usize,
    i: usize,
    random: &mut Random,
) -> u8 {
    let code = (random.next() % (1 << width)) as u8;
    let area = &mut group[header + 64 * width * block..];
    let (g, byte) = (i / 4, 4 * row + i % 4);
    if width == 8 {
        area[64 * g + byte] = code;
        return code;
    }
    area[64 * (g % 4) + byte] |= (code & 15) << (g / 4 * 4);
    match width {
        5 => area[256 + byte] |= (code >> 4) << g,
        6 => area[256 + 64 * (g / 4) + byte] |= (code >> 4) << (2 * (g % 4)),
        _ => {}
    }
    code
}

/// Rows of activations, padded with zeros to a multiple of 32.
fn padded(x: &[f32], columns: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for row in x.chunks(columns) {
        out.extend_from_slice(row);
        out.resize(out.len().next_multiple_of(32), 0.0);
    }
    out
}

const fn widths(kind: Kind) -> [usize; 2] {
    match kind {
        Kind::Q4K | Kind::Q5K | Kind::Q6K => [256, 1024],
        Kind::F16 | Kind::Bf16 | Kind::F32 => [50, 608],
        _ => [32, 608],
    }
}

#[test]
fn products_of_every_format_are_exact_sums_in_any_company() {
    let Some(mut desk) = Desk::new() else { return };
    let mut random = Random(1);
    for kind in Kind::ALL {
        for (rows_, columns) in
            [(150, widths(kind)[0]), (16, widths(kind)[1]), (1, widths(kind)[0])]
        {
            let exact = matrix(kind, rows_, columns, &mut random);
            let tiles = desk.bytes(&exact.tiles);
            let (most, stride) = (67, columns.next_multiple_of(32));
            let x = random.units(most * columns);
            let on_device = desk.floats(&padded(&x, columns));
            let weights = Tiles { part: tiles.all(), kind, rows: rows_, columns };
            let mut alone = Vec::new();
            // Every kernel there is, and the one that is chosen.
            let kernels = tokens_at_once(kind).iter().map(|n| Some(*n)).chain([None]);
            for (count, kernel) in
                [1, 3, most].into_iter().flat_map(|n| kernels.clone().map(move |k| (n, k)))
            {
                let y = desk.room(count * (rows_ + 5));
                let product = Product {
                    weights,
                    x: rows(on_device.all(), stride),
                    y: rows(y.all(), rows_ + 5),
                    count,
                    add: false,
                    select: None,
                };
                match kernel {
                    Some(tokens) => desk.device.product_by(&product, tokens).unwrap(),
                    None => desk.device.product(&product).unwrap(),
                }
                let got = desk.read(&y);
                if alone.is_empty() {
                    alone.clone_from(&got);
                }
                assert_eq!(
                    got[..rows_],
                    alone[..rows_],
                    "{kind:?} {kernel:?}: company changes a bit"
                );
                for token in 0..count {
                    for row in 0..rows_ {
                        let weights = &exact.values[row * columns..][..columns];
                        let x = &x[token * columns..][..columns];
                        let terms = weights.iter().zip(x).map(|(w, x)| w * f64::from(*x));
                        let size: f64 = terms.clone().map(f64::abs).sum();
                        let got = got[token * (rows_ + 5) + row];
                        assert!(near(got, terms.sum(), size), "{kind:?} {token} {row}: {got}");
                    }
                    // Behind the last row of weights nothing was written.
                    assert!(got[token * (rows_ + 5) + rows_..][..5].iter().all(|y| *y == 0.0));
                }
                if count == 3 && kernel.is_none() {
                    desk.device.product(&Product { add: true, ..product }).unwrap();
                    let twice = desk.read(&y);
                    assert!(got.iter().zip(&twice).all(|(once, twice)| once + once == *twice));
                }
            }
        }
    }
}

#[test]
fn rows_of_an_embedding_are_its_values_scaled() {
    let Some(mut desk) = Desk::new() else { return };
    let mut random = Random(2);
    for kind in Kind::ALL {
        let columns = widths(kind)[0];
        let exact = matrix(kind, 21, columns, &mut random);
        let tiles = desk.bytes(&exact.tiles);
        let weights = Tiles { part: tiles.all(), kind, rows: 21, columns };
        let (ids, to) = (desk.numbers(&[20, 0, 15, 16]), desk.room(4 * columns));
        let to_rows = rows(to.all(), columns);
        let embed = Embed { weights, ids: table(&ids), to: to_rows, count: 4, scale: 0.5 };
        desk.device.embed(&embed).unwrap();
        for (got, id) in desk.read(&to).chunks(columns).zip([20, 0, 15, 16]) {
            for (got, exact) in got.iter().zip(&exact.values[id * columns..]) {
                assert!(near(*got, exact / 2.0, exact.abs()), "{kind:?} {id}: {got} {exact}");
            }
        }
    }
}

#[test]
fn each_row_meets_the_expert_that_was_chosen_for_it() {
    let Some(mut desk) = Desk::new() else { return };
    let mut random = Random(3);
    let (rows_, columns, used) = (24, 64, 2);
    let experts: Vec<Exact> =
        (0..3).map(|_| matrix(Kind::Q8_0, rows_, columns, &mut random)).collect();
    let tiles: Vec<u8> = experts.iter().flat_map(|e| e.tiles.clone()).collect();
    let tiles = desk.bytes(&tiles);
    let x = random.units(2 * columns);
    let (on_device, y) = (desk.floats(&x), desk.room(4 * rows_));
    let chosen = [0, 2, 1, 2];
    let numbers = desk.numbers(&chosen);
    let stride = experts[0].tiles.len();
    let select = Select { numbers: table(&numbers), matrices: 3, stride, fan: used };
    let product = Product {
        weights: Tiles { part: tiles.all(), kind: Kind::Q8_0, rows: rows_, columns },
        x: rows(on_device.all(), columns),
        y: rows(y.all(), rows_),
        count: 4,
        add: false,
        select: Some(select),
    };
    desk.device.product(&product).unwrap();
    for (item, got) in desk.read(&y).chunks(rows_).enumerate() {
        let values = &experts[chosen[item] as usize].values;
        for (row, got) in got.iter().enumerate() {
            let x = &x[item / used * columns..][..columns];
            let terms = values[row * columns..].iter().zip(x).map(|(w, x)| w * f64::from(*x));
            let size: f64 = terms.clone().map(f64::abs).sum();
            assert!(near(*got, terms.sum(), size), "{item} {row}");
        }
    }
    // A stack that is one matrix shorter than the experts there are.
    let select = Select { numbers: table(&numbers), matrices: 4, stride, fan: used };
    let refused = desk.device.product(&Product { select: Some(select), ..product });
    assert_eq!(refused, Err(crate::CudaError::Shape { what: "product" }));
}
