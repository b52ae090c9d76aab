//! The image's own configuration and the command line it was booted with. The first is measured
//! with the initrd; the second is the host's choice, and only a known spelling passes.

use std::path::Path;

use chrysalis_wire::cmdline::MAX_COMMAND_LINE_BYTES;
use chrysalis_wire::guest::IMAGE_CONFIG_PATH;
use chrysalis_wire::image::MAX_IMAGE_CONFIG_BYTES;
use chrysalis_wire::{CommandLine, CommandLineError, ImageConfig};

use crate::error::InitError;
use crate::{below, files};

/// Reads `/chrysalis/image.toml`.
///
/// # Errors
/// [`InitError::Unreadable`] and [`InitError::Image`].
pub fn read_config(root: &Path) -> Result<ImageConfig, InitError> {
    let bytes = files::read(&below(root, IMAGE_CONFIG_PATH), MAX_IMAGE_CONFIG_BYTES)
        .map_err(|e| InitError::Unreadable { what: "image configuration", kind: e.kind() })?;
    Ok(ImageConfig::parse(&bytes)?)
}

/// Reads back the command line the kernel was booted with.
///
/// # Errors
/// [`InitError::CommandLine`] for the first word this image does not know.
pub fn read_command_line(root: &Path, debug: bool) -> Result<CommandLine, InitError> {
    // One more for the newline the kernel adds, which is no part of the command line.
    let limit = MAX_COMMAND_LINE_BYTES.saturating_add(1);
    let bytes = files::read(&root.join("proc/cmdline"), limit).map_err(|e| match e.kind() {
        std::io::ErrorKind::FileTooLarge => {
            InitError::CommandLine(CommandLineError::TooLarge { got: limit })
        }
        kind => InitError::Unreadable { what: "kernel command line", kind },
    })?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Ok(CommandLine::parse(line, debug)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn command_line(text: &str, debug: bool) -> Result<CommandLine, InitError> {
        let fake = Fake::new();
        fake.write("proc/cmdline", text);
        read_command_line(fake.root(), debug)
    }

    #[test]
    fn reads_the_line_without_the_newline_of_the_kernel() {
        let line = command_line("console=ttyS0 quiet\n", false).unwrap();
        assert_eq!(line.words(), ["console=ttyS0", "quiet"]);
    }

    #[test]
    fn refuses_a_word_the_image_does_not_know() {
        assert_eq!(
            command_line("console=ttyS0 rdinit=/bin/sh\n", false),
            Err(InitError::CommandLine(CommandLineError::Unknown { index: 1 }))
        );
    }

    #[test]
    fn refuses_a_second_line_and_a_line_too_long() {
        let refused = command_line("console=ttyS0\nquiet\n", false);
        assert_eq!(refused, Err(InitError::CommandLine(CommandLineError::Spelling)));
        let refused = command_line(&"x".repeat(MAX_COMMAND_LINE_BYTES + 2), false);
        assert!(matches!(refused, Err(InitError::CommandLine(CommandLineError::TooLarge { .. }))));
    }

    #[test]
    fn refuses_a_debug_word_unless_the_image_is_a_debug_image() {
        assert!(command_line("console=ttyS0 loglevel=7\n", true).is_ok());
        assert!(command_line("console=ttyS0 loglevel=7\n", false).is_err());
    }

    #[test]
    fn refuses_an_image_without_configuration() {
        let fake = Fake::new();
        std::fs::remove_file(fake.root().join("chrysalis/image.toml")).unwrap();
        assert!(matches!(read_config(fake.root()), Err(InitError::Unreadable { .. })));
    }

    #[test]
    fn refuses_a_configuration_with_an_unknown_field() {
        let fake = Fake::new();
        fake.write("chrysalis/image.toml", "version = 1\nshell = \"/bin/sh\"\n");
        assert!(matches!(read_config(fake.root()), Err(InitError::Image(_))));
    }
}
