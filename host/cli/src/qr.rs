//! QR codes for a terminal, for links that a phone's wallet opens.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// A picture of two modules to a character; `None` for what no QR code holds.
pub(crate) fn of(text: &str) -> Option<String> {
    // A screen is clean: the least redundancy keeps the picture small.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Dark terminals are the usual ones, and readers want dark on light.
    let colours = (Dense1x2::Light, Dense1x2::Dark);
    Some(code.render::<Dense1x2>().dark_color(colours.0).light_color(colours.1).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_a_square_and_one_that_is_too_long_nothing() {
        let picture =
            of("ton://transfer/EQDa6BWLZLlyItpqoXMgZv5jJrsoUbv73Vbt3cnLRM3oDCha?amount=1");
        let picture = picture.unwrap_or_default();
        let lines: Vec<&str> = picture.lines().collect();
        let width = lines.first().map_or(0, |line| line.chars().count());
        assert!(width > 30 && lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        // 2953 bytes are the most that a QR code of this redundancy holds.
        assert!(of(&"x".repeat(2_953)).is_some());
        assert!(of(&"x".repeat(2_954)).is_none());
    }
}
