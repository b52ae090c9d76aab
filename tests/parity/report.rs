//! The report: one row for each comparison, printed as a table and written as JSON and Markdown.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::distance::Distance;

/// What is compared, with what, and how far they are from each other.
pub(crate) struct Row {
    /// Of the design of parity: the tests are listed at the head of `main.rs`.
    pub(crate) test: &'static str,
    pub(crate) model: String,
    pub(crate) weights: String,
    pub(crate) oracle: &'static str,
    pub(crate) positions: usize,
    pub(crate) distance: Distance,
    /// Perplexity by the exact logits is one; of real text only.
    pub(crate) perplexity_ratio: Option<f64>,
}

/// Prints `rows` and writes them to `target/parity/NAME.json` and `.md`.
pub(crate) fn publish(name: &str, rows: &[Row]) {
    let mut table = String::from(
        "| test | model | weights | against | positions | largest logit difference | mean KL | largest KL \
         | same first token | largest turned margin | perplexity ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Row { test, model, weights, oracle, positions, distance, perplexity_ratio } = row;
        let perplexity = perplexity_ratio.map_or_else(String::new, |ratio| format!("{ratio:.4}"));
        let Distance { largest, mean_kl, max_kl, same_first, largest_turned_margin } = distance;
        writeln!(
            table,
            "| {test} | {model} | {weights} | {oracle} | {positions} | {largest:.2e} | {mean_kl:.2e} | \
             {max_kl:.2e} | {same_first:.3} | {largest_turned_margin:.3} | {perplexity} |"
        )
        .unwrap();
    }
    println!("{table}");
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "test": row.test,
                "model": row.model,
                "weights": row.weights,
                "against": row.oracle,
                "positions": row.positions,
                "largest_logit_difference": row.distance.largest,
                "mean_kl": row.distance.mean_kl,
                "largest_kl": row.distance.max_kl,
                "same_first_token": row.distance.same_first,
                "largest_turned_margin": row.distance.largest_turned_margin,
                "perplexity_ratio": row.perplexity_ratio,
            })
        })
        .collect();
    // The temporary directory of tests is below the target directory, wherever that is.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../parity");
    std::fs::create_dir_all(&dir).unwrap();
    let json = serde_json::to_string_pretty(&rows).unwrap();
    std::fs::write(dir.join(format!("{name}.json")), json).unwrap();
    std::fs::write(dir.join(format!("{name}.md")), table).unwrap();
}
