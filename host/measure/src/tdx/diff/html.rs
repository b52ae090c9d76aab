//! Reports as one HTML file: no script, no external asset, every text escaped. Labels, file names
//! and event descriptions in it may be an attacker's.

use core::fmt::Write as _;

use super::explain::Explanation;
use super::{Diff, Difference};

/// A comparison as a page.
#[must_use]
pub fn html_of_diff(diff: &Diff) -> String {
    let mut page = Page::new("Measurements compared");
    page.pair("expected", &format!("{} — {}", diff.expected.label, diff.expected.kind.title()));
    page.pair("found", &format!("{} — {}", diff.found.label, diff.found.kind.title()));
    let verdict = match diff.differences.len() {
        0 => "everything that could be compared is equal".to_owned(),
        n => format!("{n} of the values that could be compared differ"),
    };
    page.verdict(diff.equal, &verdict);
    for (index, difference) in diff.differences.iter().enumerate() {
        page.difference(index, difference);
    }
    page.pair("equal", &diff.equal_registers.join(", "));
    page.pair("not compared", &diff.not_compared.join(", "));
    page.finish()
}

/// An explanation as a page.
#[must_use]
pub fn html_of_explanation(explanation: &Explanation) -> String {
    let mut page = Page::new("Measurements explained");
    page.pair("source", &format!("{} — {}", explanation.label, explanation.kind.title()));
    if explanation.unknown_events != 0 {
        let count = explanation.unknown_events;
        page.verdict(false, &format!("{count} events that no firmware of ours writes"));
    }
    for register in &explanation.registers {
        page.heading(&format!("{} — {}", register.register, register.about));
        page.code(&register.value.to_string());
        if register.events.is_empty() {
            continue;
        }
        page.raw("<table><tr><th>#</th><th>event</th><th>digest</th><th>status</th></tr>");
        for (index, event) in register.events.iter().enumerate() {
            let status = event.status.map_or_else(String::new, |s| s.to_string());
            let evidence = event.evidence.clone().unwrap_or_default();
            page.raw("<tr>");
            page.cell(&index.to_string(), "");
            page.cell(&event.component, &format!("{} {}", event.about, event.detail));
            page.cell(&event.digest.to_string(), "");
            page.cell(&status, &evidence);
            page.raw("</tr>");
        }
        page.raw("</table>");
    }
    page.finish()
}

struct Page {
    out: String,
}

impl Page {
    fn new(title: &str) -> Self {
        let mut page = Self { out: HEAD.to_owned() };
        page.element("title", title);
        page.raw(STYLE);
        page.element("h1", title);
        page
    }

    fn difference(&mut self, index: usize, difference: &Difference) {
        let first = if index == 0 { " — begin here" } else { "" };
        self.heading(&format!("{}: {}{first}", difference.register, difference.cause_title));
        if let Some(event) = &difference.event {
            self.pair("first differing event", &format!("{}, {}", event.index, event.component));
            let shown = |d: &Option<super::Sha384Digest>| {
                d.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
            };
            self.pair("event expected", &shown(&event.expected));
            self.pair("event found", &shown(&event.found));
        }
        let certain = if difference.certain { "" } else { " (the usual cause; not certain)" };
        self.pair("cause", &format!("{}{certain}", difference.cause.code()));
        if !difference.detail.is_empty() {
            self.pair("change", &difference.detail);
        }
        self.pair("why", difference.why);
        self.pair("fix", difference.fix);
        if !difference.also.is_empty() {
            let also: Vec<_> = difference.also.iter().map(|c| c.title()).collect();
            self.pair("also possible", &also.join("; "));
        }
        self.pair("expected", &difference.expected);
        self.pair("found", &difference.found);
    }

    fn verdict(&mut self, good: bool, text: &str) {
        self.raw(if good { "<p class=\"good\">" } else { "<p class=\"bad\">" });
        self.text(text);
        self.raw("</p>");
    }

    fn heading(&mut self, text: &str) {
        self.element("h2", text);
    }

    fn code(&mut self, text: &str) {
        self.element("code", text);
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.raw("<p><b>");
        self.text(name);
        self.raw("</b> <span>");
        self.text(value);
        self.raw("</span></p>");
    }

    fn cell(&mut self, text: &str, small: &str) {
        self.raw("<td>");
        self.text(text);
        self.raw("<br><small>");
        self.text(small);
        self.raw("</small></td>");
    }

    fn element(&mut self, name: &'static str, text: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.out, "<{name}>");
        self.text(text);
        let _ = write!(self.out, "</{name}>");
    }

    /// The only way a value gets into the page.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                // Control and bidirectional characters can make one text look like another.
                c if c.is_control() => self.out.push('\u{fffd}'),
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    self.out.push('\u{fffd}');
                }
                c => self.out.push(c),
            }
        }
    }

    /// Markup of ours.
    fn raw(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    fn finish(mut self) -> String {
        self.raw("</body></html>\n");
        self.out
    }
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";

const STYLE: &str = "<style>\
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
p{margin:.2rem 0}b{display:inline-block;min-width:11rem;font-weight:600}\
code,span,td{overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}\
td,th{border:1px solid #8888;padding:.3rem;text-align:left;vertical-align:top}\
.good,.bad{padding:.5rem;border-left:4px solid;font-weight:600}\
.good{border-color:#080}.bad{border-color:#b00}</style></head><body>";
