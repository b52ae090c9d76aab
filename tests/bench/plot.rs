//! The ratios of a run as a picture: one bar each, on a logarithmic scale, from 1x to the median, with
//! a line from the least to the most of its rounds. SVG 1.1, no script, no font of our own.

use std::fmt::Write as _;

use crate::report::{Comparison, Spread};

/// One picture of all ratios; those that are better than 1 point to the right.
pub(crate) fn svg(comparisons: &[Comparison], about: &str) -> String {
    let bars: Vec<_> = comparisons.iter().flat_map(Comparison::bars).collect();
    let furthest = bars.iter().flat_map(|bar| [bar.gain.min, bar.gain.max]);
    let reach = furthest.map(|ratio| ratio.log2().abs()).fold(1.0, f64::max).ceil();
    let height = TOP + ROW * bars.len() as f64 + MARGIN;
    let x = |ratio: f64| LABELS + HALF + ratio.log2() / reach * HALF;
    let width = LABELS + 2.0 * HALF + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"18\">{}</text>\n",
        escaped(about)
    );
    let step = if reach > 5.0 { 2 } else { 1 };
    for power in (-(reach as i32)..=reach as i32).step_by(step) {
        let (at, ratio) = (x(f64::from(power).exp2()), f64::from(power).exp2());
        let colour = if power == 0 { "black" } else { "#ddd" };
        line(
            &mut out,
            &format!(
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{ratio}x</text>",
                height - MARGIN,
                TOP - 4.0
            ),
        );
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let Spread { min, median, max } = bar.gain;
        let (from, to) = (x(1.0).min(x(median)), x(1.0).max(x(median)));
        let colour = if median >= 1.0 { "#2a7f5f" } else { "#b5533c" };
        line(
            &mut out,
            &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"black\"/>",
                LABELS - 6.0,
                y + ROW * 0.7,
                escaped(&bar.title),
                y + ROW * 0.2,
                to - from,
                ROW * 0.6,
                x(min),
                x(max),
                y + ROW * 0.5,
                y + ROW * 0.5,
            ),
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A ratio to draw.
pub(crate) struct Bar {
    pub(crate) title: String,
    /// How many times better the first is: of times, the ratio turned over.
    pub(crate) gain: Spread,
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Lengths in user units.
const MARGIN: f64 = 12.0;
const TOP: f64 = 44.0;
const ROW: f64 = 18.0;
const LABELS: f64 = 640.0;
const HALF: f64 = 230.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Better;

    fn picture(better: Better) -> String {
        let mut comparison = Comparison::new("a < b", "u", better, ["a", "b"]).ratio(0, 1);
        comparison.round(&[2.0, 1.0]);
        svg(&[comparison], "here & now")
    }

    /// The bar between 1x and 2x, and the one between 1/2x and 1x, on a scale that ends there.
    fn bar(from: f64) -> String {
        format!("<rect x=\"{from:.1}\" y=\"47.6\" width=\"{HALF:.1}\"")
    }

    #[test]
    fn a_higher_rate_goes_to_the_right_and_a_longer_time_to_the_left() {
        assert!(picture(Better::More).contains(&bar(LABELS + HALF)));
        assert!(picture(Better::Less).contains(&bar(LABELS)));
    }

    #[test]
    fn text_is_escaped() {
        let picture = picture(Better::More);
        assert!(picture.contains(">a &lt; b: a : b<"), "{picture}");
        assert!(picture.contains(">here &amp; now<"), "{picture}");
    }
}
