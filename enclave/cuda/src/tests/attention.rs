//! Rotation, storing and attention against exact arithmetic: several sequences in one step, pages in no
//! order, windows, ranges, heads of odd sizes.

use super::*;
use crate::{Angles, Attend, Heads, Join, Layer, PAGE_TOKENS, Pages, RANGE_TOKENS};

/// What is computed, in one shape.
struct Case {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    window: Option<usize>,
    neighbours: bool,
    norms: bool,
    /// For each sequence the tokens that are there, and those of the step.
    sequences: &'static [(usize, usize)],
}

const LAYERS: usize = 2;
const LAYER: usize = 1;

fn check(case: &Case) {
    let Some(mut desk) = Desk::new() else { return };
    let Case { heads, kv_heads, dim, window, neighbours, norms, sequences } = *case;
    let mut random = Random(heads as u64 * 31 + dim as u64);
    let (queries, kv) = (heads * dim, kv_heads * dim);
    let pad = |n: usize| n.next_multiple_of(16);
    let (key_at, value_at) = (pad(queries), pad(queries) + pad(kv));
    let stride = value_at + pad(kv);
    let turns: Vec<f64> = (0..2 * (dim / 2)).map(|i| 0.7f64.powi(i as i32)).collect();
    let weights: [Vec<f32>; 2] = [random.units(dim), random.units(dim)];
    let longest = sequences.iter().map(|(before, new)| before + new).max().unwrap();

    // Pages lie backwards, with one that is nobody's between them.
    let (mut table_, mut starts, mut next) = (Vec::new(), Vec::new(), 0);
    for (before, new) in sequences {
        starts.push(table_.len() as u32);
        table_.extend((0..(before + new).div_ceil(PAGE_TOKENS)).map(|_| {
            next += 2;
            next
        }));
    }
    let count_of_pages = next as usize + 1;
    table_.iter_mut().for_each(|page| *page = count_of_pages as u32 - *page);
    let shape = |part| Pages { part, layers: LAYERS, kv_heads, dim };
    let one = desk.device.alloc(1).unwrap();
    let memory = desk.bytes(&vec![0xff; count_of_pages * 2 * shape(one.all()).page().unwrap()]);
    let turns_there = {
        let bytes: Vec<u8> = turns.iter().flat_map(|t| t.to_le_bytes()).collect();
        desk.bytes(&bytes)
    };
    let norms_there = weights.each_ref().map(|weight| desk.floats(weight));

    // Everything before is stored in steps of its own, then the step that is looked at.
    let inputs: Vec<Vec<f32>> =
        sequences.iter().map(|(before, new)| random.units((before + new) * stride)).collect();
    let mut mixed = Vec::new();
    for last in [false, true] {
        let (mut qkv, mut positions, mut tables, mut slots) = (vec![], vec![], vec![], vec![]);
        for (sequence, (before, new)) in sequences.iter().enumerate() {
            let range = if last { *before..before + new } else { 0..*before };
            for position in range {
                qkv.extend_from_slice(&inputs[sequence][position * stride..][..stride]);
                positions.push(position as u32);
                tables.push(starts[sequence]);
                let page = table_[starts[sequence] as usize + position / PAGE_TOKENS];
                slots.push(page * PAGE_TOKENS as u32 + (position % PAGE_TOKENS) as u32);
            }
        }
        let count = positions.len();
        if count == 0 {
            continue;
        }
        let qkv = desk.floats(&qkv);
        let [positions, tables, slots, all] =
            [&positions, &tables, &slots, &table_].map(|numbers| desk.numbers(numbers));
        let angles = desk.room(2 * count * dim);
        let of_angles = Angles {
            turns: turns_there.all(),
            ways: 2,
            pairs: dim / 2,
            positions: table(&positions),
            to: angles.all(),
            count,
        };
        desk.device.angles(&of_angles).unwrap();
        let way = count * dim / 2 * 8;
        let q = desk.room(count * queries);
        let layer = Layer { number: LAYER, heads, window };
        let of_heads = Heads {
            qkv: rows(qkv.all(), stride),
            starts: [key_at, value_at],
            angles: angles.part(way, way).unwrap(),
            norms: norms.then(|| [norms_there[0].all(), norms_there[1].all()]),
            queries: q.all(),
            pages: shape(memory.all()),
            slots: table(&slots),
            layer,
            count,
            neighbours,
            epsilon: 1e-5,
            scale: 0.25,
        };
        desk.device.heads(&of_heads).unwrap();
        let ranges = longest.div_ceil(RANGE_TOKENS);
        let numbers = desk.room(2 * count * heads * ranges);
        let sums = desk.room(count * queries * ranges);
        let out = desk.room(count * pad(queries));
        let attend = Attend {
            queries: q.all(),
            pages: shape(memory.all()),
            positions: table(&positions),
            tables: table(&tables),
            table: table(&all),
            numbers: numbers.all(),
            sums: sums.all(),
            layer,
            count,
            ranges,
        };
        desk.device.attend(&attend).unwrap();
        let join = Join { from: &attend, to: rows(out.all(), pad(queries)) };
        desk.device.join(&join).unwrap();
        mixed = desk.read(&out);
    }

    // The second way to turn.
    let turn = |head: &mut [f64], position: usize| {
        for pair in 0..dim / 2 {
            let (i, j) = if neighbours { (2 * pair, 2 * pair + 1) } else { (pair, pair + dim / 2) };
            let (sin, cos) = (position as f64 * turns[dim / 2 + pair]).sin_cos();
            (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
        }
    };
    let head_of = |x: &[f32], at: usize, norm: Option<&Vec<f32>>, position: Option<usize>| {
        let mut head: Vec<f64> = x[at..at + dim].iter().copied().map(f64::from).collect();
        if let Some(weight) = norm.filter(|_| norms) {
            let mean = head.iter().map(|x| x * x).sum::<f64>() / dim as f64;
            for (x, w) in head.iter_mut().zip(weight) {
                *x *= f64::from(*w) / (mean + 1e-5).sqrt();
            }
        }
        if let Some(position) = position {
            turn(&mut head, position);
        }
        head
    };
    let mut row = 0;
    for (sequence, (before, new)) in sequences.iter().enumerate() {
        for position in *before..before + new {
            let first = window.map_or(0, |w| (position + 1).saturating_sub(w));
            let at = |token: usize| &inputs[sequence][token * stride..][..stride];
            for head in 0..heads {
                let query = head_of(at(position), head * dim, Some(&weights[0]), Some(position));
                let of = head / (heads / kv_heads) * dim;
                let score = |token: usize| {
                    let key = head_of(at(token), key_at + of, Some(&weights[1]), Some(token));
                    query.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>() * 0.25
                };
                let scores: Vec<f64> = (first..=position).map(score).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                let mut exact = vec![0.0; dim];
                for (token, score) in (first..=position).zip(&scores) {
                    let value = head_of(at(token), value_at + of, None, None);
                    for (sum, value) in exact.iter_mut().zip(value) {
                        *sum += (score - most).exp() / total * value;
                    }
                }
                let got = &mixed[row * pad(queries) + head * dim..][..dim];
                for (got, exact) in got.iter().zip(exact) {
                    // Keys and values are halves.
                    let error = (f64::from(*got) - exact).abs();
                    assert!(error < 3e-3, "{sequence} {position} {head}: {got} {exact}");
                }
            }
            row += 1;
        }
    }
}

#[test]
fn prompts_and_answers_in_one_step_see_their_own_sequence_alone() {
    check(&Case {
        heads: 6,
        kv_heads: 2,
        dim: 8,
        window: None,
        neighbours: true,
        norms: false,
        sequences: &[(0, 40), (70, 1), (31, 2)],
    });
}

#[test]
fn a_window_hides_what_lies_before_it_over_ranges_and_pages() {
    for window in [1, 20, 300] {
        check(&Case {
            heads: 2,
            kv_heads: 2,
            dim: 6,
            window: Some(window),
            neighbours: false,
            norms: true,
            sequences: &[(255, 3), (5, 1)],
        });
    }
}

#[test]
fn ranges_of_a_long_sequence_are_joined() {
    check(&Case {
        heads: 3,
        kv_heads: 1,
        dim: 130,
        window: None,
        neighbours: false,
        norms: true,
        sequences: &[(600, 1)],
    });
}

#[test]
fn more_heads_share_a_key_than_are_computed_at_a_time() {
    check(&Case {
        heads: 22,
        kv_heads: 2,
        dim: 16,
        window: None,
        neighbours: true,
        norms: false,
        sequences: &[(30, 2)],
    });
}
