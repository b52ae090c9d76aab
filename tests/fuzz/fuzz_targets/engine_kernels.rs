//! Kernels over shapes: products of every format, what becomes of them, and attention over pages of both
//! kinds, on every instruction set of this processor, beside exact arithmetic over the same operands.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_engine::testing::{FORMATS, Product, Sight};
use chrysalis_fuzz::random::Draws;

chrysalis_fuzz::target!(seeds, one);

/// Numbers from the front of an input; zeros behind its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    /// From one to `most`.
    fn some(&mut self, most: usize) -> usize {
        self.byte() % most + 1
    }

    /// Two bytes, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        (self.byte() * 256 + self.byte()) % bound
    }

    /// What is left, again and again.
    fn rest(&self, count: usize) -> Vec<u8> {
        let some: &[u8] = if self.0.is_empty() { &[0x5a] } else { self.0 };
        some.iter().copied().cycle().take(count).collect()
    }
}

fn one(data: &[u8]) -> String {
    let mut random = Draws::of(data);
    let mut numbers = Numbers(data);
    if numbers.byte().is_multiple_of(2) {
        multiply(&mut numbers, &mut random)
    } else {
        attend(&mut numbers, &mut random)
    }
}

fn multiply(numbers: &mut Numbers<'_>, random: &mut Draws) -> String {
    let format = numbers.byte() % FORMATS.len();
    let (_, block) = FORMATS[format];
    let (rows, outputs, threads) = (numbers.some(40), numbers.some(70), numbers.some(3));
    let columns = match block {
        1 => numbers.some(200),
        32 => 32 * numbers.some(8),
        block => block * numbers.some(3),
    };
    let (of_weights, of_x) = (numbers.byte() % 3, numbers.byte() % 4);
    let native = match of_weights {
        // What a file may hold, made of this input: scales that are no numbers, codes of every kind.
        0 => numbers.rest(Product::native_bytes(format, outputs, columns)),
        _ => Product::typical(format, outputs, columns, random.number()),
    };
    let count = rows * columns;
    let x: Vec<f32> = match of_x {
        0 => numbers.rest(4 * count).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        1 => {
            let scale = 2f32.powi(random.below(100) as i32 - 50);
            (0..count).map(|_| scale * unit(random)).collect()
        }
        // Rows of which few are not zero.
        2 => (0..count).map(|_| if random.below(16) == 0 { unit(random) } else { 0.0 }).collect(),
        _ => (0..count).map(|_| unit(random)).collect(),
    };
    Product { format, shape: [rows, outputs, columns], native: &native, x: &x, threads }.check();
    format!("product {format} {of_weights} {of_x} {}", rows.min(9))
}

/// From -1 to 1.
fn unit(random: &mut Draws) -> f32 {
    (random.number() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn attend(numbers: &mut Numbers<'_>, random: &mut Draws) -> String {
    let (group, kv_heads) = (numbers.some(9), numbers.some(3));
    let (mut dim, threads) = (2 * numbers.some(66), numbers.some(3));
    let mut spans: Vec<[usize; 2]> = Vec::new();
    for _ in 0..numbers.some(3) {
        spans.push([numbers.some(40), numbers.below(1100)]);
    }
    let heads = group * kv_heads;
    // Small enough to be computed exactly in time: narrower heads, then fewer new tokens.
    let work = |spans: &[[usize; 2]], dim: usize| -> usize {
        spans.iter().map(|[tokens, before]| tokens * heads * (tokens + before) * dim).sum()
    };
    while work(&spans, dim) > MOST_WORK && dim > 16 {
        dim = dim / 4 * 2;
    }
    while work(&spans, dim) > MOST_WORK {
        spans.iter_mut().for_each(|span| span[0] = span[0].div_ceil(2));
        spans.truncate(spans.len().div_ceil(2));
    }
    let window = (numbers.byte() % 3 == 0).then(|| numbers.below(600) + 1);
    let peak = [0.0, 1.0, 3.0, 30.0][numbers.byte() % 4];
    let strange = (numbers.byte() % 4 == 0).then(|| numbers.below(1100));
    let (shape, seed) = ([heads, kv_heads, dim], random.number());
    Sight { spans: &spans, shape, window, peak, strange, seed, threads }.check();
    let rows = (spans[0][0] * group).min(9);
    format!("attention {} {rows} {} {}", spans.len(), window.is_some(), strange.is_some())
}

fn seeds() -> Vec<Vec<u8>> {
    let products = (0..FORMATS.len() as u8).flat_map(|format| {
        [[9, 48, 2, 7, 0, 3], [1, 17, 0, 2, 1, 1], [31, 50, 1, 3, 2, 2], [4, 64, 2, 8, 1, 0]].map(
            |[rows, outputs, threads, blocks, weights, x]| {
                vec![0, format, rows, outputs, threads, blocks, weights, x, 0x3c, 0, 0x80, 0xff]
            },
        )
    });
    let sights = [
        [2, 0, 15, 1, 0, 0, 1, 44, 1, 2, 1, 0, 0, 0, 0],
        [2, 2, 31, 2, 2, 8, 0, 60, 0, 3, 232, 39, 0, 250, 0],
        [0, 1, 7, 0, 1, 1, 3, 232, 39, 1, 244, 0, 1, 0, 3],
        [5, 0, 65, 1, 0, 19, 0, 40, 2, 2, 0, 0, 5, 1, 1],
    ]
    .map(|numbers: [u8; 15]| [&[1], &numbers[..]].concat());
    products.chain(sights).collect()
}

/// Products of queries and keys times dimensions.
const MOST_WORK: usize = 1 << 20;
