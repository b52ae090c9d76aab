//! What lies between products, and the ends of a step.

use super::*;
use crate::{Choose, Gate, Mix, NO_TOKEN, Norm, Pages, Route, Wipe};

#[test]
fn a_norm_divides_by_the_root_of_the_mean_square() {
    let Some(mut desk) = Desk::new() else { return };
    let mut random = Random(4);
    for width in [1, 48, 300, 1030] {
        let (x, weight) = (random.units(3 * width), random.units(width));
        let before = random.units(2 * width);
        let (from, w) = (desk.floats(&x), desk.floats(&weight));
        let picked = desk.numbers(&[2, 0]);
        let to = desk.floats(&before);
        let norm = Norm {
            from: rows(from.all(), width),
            rows: Some(table(&picked)),
            weight: w.all(),
            to: rows(to.all(), width),
            count: 2,
            width,
            epsilon: 1e-5,
            add: true,
        };
        desk.device.norm(&norm).unwrap();
        let got = desk.read(&to);
        for (place, row) in [2, 0].into_iter().enumerate() {
            let x: Vec<f64> = x[row * width..][..width].iter().copied().map(f64::from).collect();
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            for i in 0..width {
                let exact = x[i] / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                let exact = exact + f64::from(before[place * width + i]);
                assert!(near(got[place * width + i], exact, 4.0), "{width} {row} {i}");
            }
        }
    }
}

#[test]
fn gates_are_silu_or_gelu_times_the_other_half() {
    let Some(mut desk) = Desk::new() else { return };
    let mut random = Random(5);
    let (width, up_at, stride) = (270, 272, 560);
    let x: Vec<f32> = random.units(2 * stride).iter().map(|x| 6.0 * x).collect();
    let (from, to) = (desk.floats(&x), desk.room(2 * width));
    for gelu in [false, true] {
        let (from, to_rows) = (rows(from.all(), stride), rows(to.all(), width));
        let gate = Gate { from, up_at, to: to_rows, count: 2, width, gelu };
        desk.device.gate(&gate).unwrap();
        for (row, got) in desk.read(&to).chunks(width).enumerate() {
            for (i, got) in got.iter().enumerate() {
                let gate = f64::from(x[row * stride + i]);
                let up = f64::from(x[row * stride + up_at + i]);
                let root = (2.0 / core::f64::consts::PI).sqrt();
                let exact = if gelu {
                    gate / 2.0 * (1.0 + (root * (gate + 0.044715 * gate.powi(3))).tanh())
                } else {
                    gate / (1.0 + (-gate).exp())
                };
                assert!(near(*got, exact * up, 40.0), "{gelu} {row} {i}: {got} {exact}");
            }
        }
    }
}

#[test]
fn the_token_chosen_is_the_first_of_the_largest_and_none_if_a_logit_is_no_number() {
    let Some(mut desk) = Desk::new() else { return };
    let known = 700;
    let with = |changes: &[(usize, f32)]| {
        let mut row: Vec<f32> = (0..1000).map(|i| (i % 7) as f32 - 9.0).collect();
        // Behind the tokens is padding, whatever it holds.
        row[known..].fill(f32::NAN);
        changes.iter().for_each(|(at, value)| row[*at] = *value);
        row
    };
    let cases = [
        (with(&[(0, 1.0)]), 0),
        (with(&[(699, 1.0)]), 699),
        (with(&[(640, 1.0), (31, 1.0), (300, 1.0)]), 31),
        (with(&[(5, -0.0), (6, 0.0)]), 6),
        (with(&[(9, f32::NEG_INFINITY), (10, 2.0)]), 10),
        (with(&[(10, f32::INFINITY)]), NO_TOKEN),
        (with(&[(10, f32::NAN)]), NO_TOKEN),
        (vec![f32::NEG_INFINITY; 1000], NO_TOKEN),
    ];
    let all: Vec<f32> = cases.iter().flat_map(|(row, _)| row.clone()).collect();
    let (logits, to) = (desk.floats(&all), desk.room(cases.len()));
    let logits = rows(logits.all(), 1000);
    let choose = Choose { logits, to: table(&to), count: cases.len(), known };
    desk.device.choose(&choose).unwrap();
    assert_eq!(desk.read_numbers(&to), cases.map(|(_, token)| token));
}

#[test]
fn a_token_takes_the_experts_with_the_largest_logits_in_shares_of_one() {
    let Some(mut desk) = Desk::new() else { return };
    let (all, used) = (5, 3);
    let nan = f32::NAN;
    let x = [[0.0, 2.0, 1.0, 2.0, -1.0], [1.0; 5], [0.0, nan, 1.0, 0.5, 0.25]].concat();
    let logits = desk.floats(&x);
    let (experts, shares) = (desk.room(9), desk.room(9));
    let route = Route {
        logits: rows(logits.all(), all),
        experts: table(&experts),
        shares: shares.all(),
        count: 3,
        all,
        used,
    };
    desk.device.route(&route).unwrap();
    assert_eq!(desk.read_numbers(&experts), [1, 2, 3, 0, 1, 2, 1, 2, 3]);
    let got = desk.read(&shares);
    let total = 2.0 + (-1.0f64).exp();
    for (got, exact) in got.iter().zip([1.0, (-1.0f64).exp(), 1.0]) {
        assert!(near(*got, exact / total, 1.0), "{got} {exact}");
    }
    assert!(got[3..6].iter().all(|share| near(*share, 1.0 / 3.0, 1.0)));
    assert!(got[6..].iter().all(|share| share.is_nan()), "numbers that are none stay none");

    let width = 260;
    let from = Random(6).units(3 * used * width);
    let (on_device, to) = (desk.floats(&from), desk.room(3 * width));
    let mix = Mix {
        from: rows(on_device.all(), width),
        shares: shares.all(),
        to: rows(to.all(), width),
        count: 3,
        used,
        width,
        add: true,
    };
    desk.device.mix(&mix).unwrap();
    let mixed = desk.read(&to);
    for (i, mixed) in mixed.iter().enumerate().take(2 * width) {
        let (row, column) = (i / width, i % width);
        let item =
            |n: usize| f64::from(got[row * used + n] * from[(row * used + n) * width + column]);
        assert!(near(*mixed, item(0) + item(1) + item(2), 1.0), "{row} {column}");
    }
}

#[test]
fn a_page_that_was_wiped_holds_nothing_and_its_neighbours_everything() {
    let Some(mut desk) = Desk::new() else { return };
    let pages = |part| Pages { part, layers: 2, kv_heads: 3, dim: 6 };
    let memory = desk.device.alloc(1).unwrap();
    let page = pages(memory.all()).page().unwrap();
    assert_eq!(page, 2 * 2 * 3 * 32 * 6);
    let full = desk.bytes(&vec![7; 4 * 2 * page]);
    let list = desk.numbers(&[3, 1]);
    let wipe = Wipe { pages: pages(full.all()), list: table(&list), count: 2 };
    desk.device.wipe(&wipe).unwrap();
    let got: Vec<bool> =
        desk.read_numbers(&full).chunks(page / 2).map(|p| p.iter().all(|x| *x == 0)).collect();
    assert_eq!(got, [false, true, false, true]);
}
