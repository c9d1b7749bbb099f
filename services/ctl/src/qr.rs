//! QR codes on a terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::types::QrError;
use qrcode::{EcLevel, QrCode};
use std::fmt::Write as _;

/// Black on white out of the 256 colours, which no theme changes: cameras do not read a code that is light on dark.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const PLAIN: &str = "\x1b[0m";

/// A code in half blocks, its quiet zone around it. On a terminal in colours of its own, `NO_COLOR` or not: they are
/// no decoration. Elsewhere without, for a terminal with a dark background.
///
/// # Errors
/// The text is too long.
pub fn drawn(text: &[u8], on_terminal: bool) -> Result<String, QrError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
    let mut render = code.render::<Dense1x2>();
    if !on_terminal {
        // What is dark in the code is the terminal's background.
        return Ok(render.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
    }
    let mut lines = String::new();
    for line in render.dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build().lines() {
        let _ = writeln!(lines, "{BLACK_ON_WHITE}{line}{PLAIN}");
    }
    lines.truncate(lines.trim_end_matches('\n').len());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels of a module: fewer than a camera sees.
    const SCALE: usize = 4;
    /// What a terminal shows around the code.
    const MARGIN: usize = 6;

    /// What a terminal shows: for every half line and column, how light it is.
    fn shown(text: &str, background: u8, foreground: u8) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let (mut back, mut fore) = (background, foreground);
            let (mut top, mut bottom) = (Vec::new(), Vec::new());
            let mut rest = line;
            while let Some(c) = rest.chars().next() {
                if let Some(after) = rest.strip_prefix(BLACK_ON_WHITE) {
                    (back, fore, rest) = (255, 0, after);
                    continue;
                }
                if let Some(after) = rest.strip_prefix(PLAIN) {
                    (back, fore, rest) = (background, foreground, after);
                    continue;
                }
                let (above, below) = match c {
                    ' ' => (back, back),
                    '\u{2580}' => (fore, back),
                    '\u{2584}' => (back, fore),
                    '\u{2588}' => (fore, fore),
                    other => panic!("{other:?}"),
                };
                top.push(above);
                bottom.push(below);
                rest = &rest[c.len_utf8()..];
            }
            rows.extend([top, bottom]);
        }
        rows
    }

    /// What somebody else's reader sees there.
    fn read(text: &str, background: u8, foreground: u8) -> Option<String> {
        let rows = shown(text, background, foreground);
        let width = rows.iter().map(Vec::len).max().unwrap() + 2 * MARGIN;
        let height = rows.len() + 2 * MARGIN;
        let pixel = |x: usize, y: usize| {
            let at = |row: Option<&Vec<u8>>, x: usize| row.and_then(|row| row.get(x)).copied();
            let inside = (y / SCALE).checked_sub(MARGIN).zip((x / SCALE).checked_sub(MARGIN));
            inside.and_then(|(y, x)| at(rows.get(y), x)).unwrap_or(background)
        };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, pixel);
        image.detect_grids().first().and_then(|grid| grid.decode().ok()).map(|(_, text)| text)
    }

    #[test]
    fn a_reader_sees_the_checkpoint_on_every_terminal() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../verifier/spec/vectors/audit");
        let checkpoint = std::fs::read_to_string(format!("{vectors}/chain/checkpoint")).unwrap();
        let (own, plain) = (drawn(checkpoint.as_bytes(), true).unwrap(), drawn(checkpoint.as_bytes(), false).unwrap());
        let (dark, light) = ((0, 255), (255, 0));
        for (background, foreground) in [dark, light, (40, 200), (230, 60), (0, 0), (255, 255)] {
            assert_eq!(read(&own, background, foreground).as_deref(), Some(&*checkpoint), "{background} {foreground}");
        }
        assert_eq!(read(&plain, dark.0, dark.1).as_deref(), Some(&*checkpoint));
        // Negative control: without colours of its own it is inside out on a light terminal.
        assert_eq!(read(&plain, light.0, light.1), None);
        // A cosigned one fits, and a line of a terminal is enough for it.
        let cosigned = std::fs::read_to_string(format!("{vectors}/witness/cosigned")).unwrap();
        let own = drawn(cosigned.as_bytes(), true).unwrap();
        assert_eq!(read(&own, 255, 0).as_deref(), Some(&*cosigned));
        assert!(shown(&own, 0, 0)[0].len() <= 100, "{}", shown(&own, 0, 0)[0].len());
        assert!(drawn(&[b'x'; 4000], true).is_err());
    }
}
