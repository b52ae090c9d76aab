//! Samples, ratios between them, and how both are printed. Pure functions of what was measured.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::plot::Bar;

/// Candidates that were measured in turn, one figure each per round.
pub(crate) struct Comparison {
    title: String,
    unit: &'static str,
    better: Better,
    note: String,
    series: Vec<Series>,
    relations: Vec<(Relation, usize, usize)>,
}

/// Which figure is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// Rates.
    More,
    /// Times.
    Less,
}

/// How two candidates relate in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// The first divided by the second.
    Ratio,
    /// The first less the second.
    Added,
}

/// One candidate.
struct Series {
    name: String,
    samples: Vec<f64>,
}

/// Least, middle and most of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Comparison {
    /// A comparison without figures yet.
    pub(crate) fn new<S: Into<String>>(
        title: impl Into<String>,
        unit: &'static str,
        better: Better,
        candidates: impl IntoIterator<Item = S>,
    ) -> Self {
        let series = candidates
            .into_iter()
            .map(|n| Series { name: n.into(), samples: Vec::new() })
            .collect();
        let (title, note) = (title.into(), String::new());
        Self { title, unit, better, note, series, relations: Vec::new() }
    }

    /// Prints `first : second`, round by round.
    pub(crate) fn ratio(mut self, first: usize, second: usize) -> Self {
        self.relations.push((Relation::Ratio, first, second));
        self
    }

    /// Prints what `first` takes more than `second`, round by round.
    pub(crate) fn added(mut self, first: usize, second: usize) -> Self {
        self.relations.push((Relation::Added, first, second));
        self
    }

    /// Says what exactly was measured.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Takes the figures of one round, in the order of the candidates.
    pub(crate) fn round(&mut self, figures: &[f64]) {
        debug_assert_eq!(figures.len(), self.series.len());
        for (series, figure) in self.series.iter_mut().zip(figures) {
            series.samples.push(*figure);
        }
    }

    /// Every ratio as a bar of how much better the first is.
    pub(crate) fn bars(&self) -> impl Iterator<Item = Bar> {
        self.related().filter(|(relation, ..)| *relation == Relation::Ratio).map(
            |(_, name, spread)| {
                let gain = match self.better {
                    Better::More => spread,
                    Better::Less => Spread {
                        min: spread.max.recip(),
                        median: spread.median.recip(),
                        max: spread.min.recip(),
                    },
                };
                Bar { title: format!("{}: {name}", self.title), gain }
            },
        )
    }

    fn best(&self, spread: Spread) -> f64 {
        match self.better {
            Better::More => spread.max,
            Better::Less => spread.min,
        }
    }

    /// Every relation with its name and its spread over the rounds.
    fn related(&self) -> impl Iterator<Item = (Relation, String, Spread)> {
        self.relations.iter().filter_map(|(relation, first, second)| {
            let (a, b) = (self.series.get(*first)?, self.series.get(*second)?);
            let pairs = a.samples.iter().zip(&b.samples);
            let name = match relation {
                Relation::Ratio => format!("{} : {}", a.name, b.name),
                Relation::Added => format!("{} - {}", a.name, b.name),
            };
            let spread = Spread::of(pairs.map(|(a, b)| match relation {
                Relation::Ratio => a / b,
                Relation::Added => a - b,
            }))?;
            Some((*relation, name, spread))
        })
    }
}

impl Spread {
    /// `None` of nothing.
    fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { min, median: f64::midpoint(lower, upper), max })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        if !self.note.is_empty() {
            writeln!(f, "  ({})", self.note)?;
        }
        let related: Vec<_> = self.related().collect();
        let names =
            related.iter().map(|(_, name, _)| name).chain(self.series.iter().map(|s| &s.name));
        let width = names.map(|name| name.len() + 2).max().unwrap_or(0);
        for (relation, name, spread) in related {
            let (sign, unit) = match relation {
                Relation::Ratio => ("", "x"),
                Relation::Added => ("+", self.unit),
            };
            let [median, min, max] = [spread.median, spread.min, spread.max].map(figure);
            writeln!(f, "  {name:<width$} {sign:>1}{median:>7} {unit:<9} ({min} to {max})")?;
        }
        for series in &self.series {
            let Some(spread) = Spread::of(series.samples.iter().copied()) else { continue };
            let (median, best) = (figure(spread.median), figure(self.best(spread)));
            let name = format!("  {}", series.name);
            let (unit, rounds) = (self.unit, series.samples.len());
            writeln!(f, "  {name:<width$} {median:>8} {unit:<9} (best of {rounds}: {best})")?;
        }
        Ok(())
    }
}

impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let candidates: Vec<_> = self
            .series
            .iter()
            .map(|series| {
                let spread = Spread::of(series.samples.iter().copied());
                serde_json::json!({
                    "name": series.name,
                    "median": spread.map(|s| s.median),
                    "best": spread.map(|s| self.best(s)),
                    "samples": series.samples,
                })
            })
            .collect();
        let of = |wanted| -> Vec<_> {
            self.related()
                .filter(|(relation, ..)| *relation == wanted)
                .map(|(_, name, spread)| serde_json::json!({ "name": name, "per_round": spread }))
                .collect()
        };
        let mut out = serializer.serialize_struct("Comparison", 7)?;
        out.serialize_field("title", &self.title)?;
        out.serialize_field("note", &self.note)?;
        out.serialize_field("unit", self.unit)?;
        out.serialize_field("more_is_better", &(self.better == Better::More))?;
        out.serialize_field("ratios", &of(Relation::Ratio))?;
        out.serialize_field("added", &of(Relation::Added))?;
        out.serialize_field("candidates", &candidates)?;
        out.end()
    }
}

/// Three figures that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_sample_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread, Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut comparison = Comparison::new("t", "GB/s", Better::More, ["a", "b"]).ratio(0, 1);
        // The machine is half as fast in the second round; the ratio does not change.
        comparison.round(&[2.0, 4.0]);
        comparison.round(&[1.0, 2.0]);
        let related: Vec<_> = comparison.related().collect();
        let same = Spread { min: 0.5, median: 0.5, max: 0.5 };
        assert_eq!(related, [(Relation::Ratio, "a : b".to_owned(), same)]);
    }

    #[test]
    fn the_best_rate_is_the_highest_and_the_best_time_the_shortest() {
        let spread = Spread { min: 1.0, median: 2.0, max: 3.0 };
        let best = |better| Comparison::new("t", "u", better, ["a"]).best(spread);
        assert!((best(Better::More) - 3.0).abs() < f64::EPSILON);
        assert!((best(Better::Less) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn figures_have_three_digits_that_matter() {
        let shown = [1234.5, 99.96, 9.999, 1.234, 0.01234].map(figure);
        assert_eq!(shown, ["1234", "100", "10.0", "1.23", "0.012"]);
    }
}
