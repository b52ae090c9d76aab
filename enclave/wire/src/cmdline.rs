//! The kernel command line of a VM image, as a closed set of words.
//!
//! RTMR2 measures the command line, but only a verifier sees that; the kernel would obey any word
//! (`rdinit=`, `nokaslr`, `module_blacklist=`) and hand unknown ones to PID 1. So PID 1 reads it
//! back and powers off at the first word it does not know, and the image writer writes from the
//! same set.

use thiserror::Error;

/// A command line whose every word is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    words: Vec<&'static str>,
}

/// Why a command line was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommandLineError {
    /// Longer than [`MAX_COMMAND_LINE_BYTES`].
    #[error("command line is {got} bytes; the limit is {MAX_COMMAND_LINE_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not words of printable ASCII with one space between them.
    #[error("command line is not words of printable ASCII with one space between them")]
    Spelling,
    /// A word that is not in the set; a debug word in an image that is not a debug image.
    #[error("command line word {index} is not one this image knows")]
    Unknown {
        /// Position of the word.
        index: usize,
    },
    /// A word twice, or two words for the same thing.
    #[error("command line word {index} repeats an earlier one")]
    Repeated {
        /// Position of the second one.
        index: usize,
    },
    /// The word that names the console is missing.
    #[error("command line lacks {CONSOLE_WORD}")]
    NoConsole,
}

impl CommandLineError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-CMDLINE-SIZE",
            Self::Spelling => "E-CMDLINE-SPELLING",
            Self::Unknown { .. } => "E-CMDLINE-WORD",
            Self::Repeated { .. } => "E-CMDLINE-REPEATED",
            Self::NoConsole => "E-CMDLINE-CONSOLE",
        }
    }
}

impl CommandLine {
    /// Reads a command line without its final newline. `debug` admits [`DEBUG_WORDS`].
    ///
    /// # Errors
    /// [`CommandLineError`] for the first word that is not in the set.
    pub fn parse(bytes: &[u8], debug: bool) -> Result<Self, CommandLineError> {
        if bytes.len() > MAX_COMMAND_LINE_BYTES {
            return Err(CommandLineError::TooLarge { got: bytes.len() });
        }
        let printable = bytes.iter().all(|b| (0x20..0x7f).contains(b));
        let text = core::str::from_utf8(bytes)
            .ok()
            .filter(|_| printable)
            .ok_or(CommandLineError::Spelling)?;
        let mut words: Vec<&'static str> = Vec::new();
        for (index, word) in text.split(' ').enumerate() {
            if word.is_empty() {
                return Err(CommandLineError::Spelling);
            }
            let debug_words = if debug { DEBUG_WORDS } else { &[] };
            let known = WORDS
                .iter()
                .chain(debug_words)
                .find(|known| **known == word)
                .ok_or(CommandLineError::Unknown { index })?;
            if words.iter().any(|earlier| key(earlier) == key(known)) {
                return Err(CommandLineError::Repeated { index });
            }
            words.push(known);
        }
        if !words.contains(&CONSOLE_WORD) {
            return Err(CommandLineError::NoConsole);
        }
        Ok(Self { words })
    }

    /// The words in order.
    #[must_use]
    pub fn words(&self) -> &[&'static str] {
        &self.words
    }
}

/// What a word sets: `loglevel=0` and `loglevel=7` are two words for one thing.
fn key(word: &str) -> &str {
    word.split_once('=').map_or(word, |(key, _)| key)
}

/// The console the loader reads; every command line names it.
pub const CONSOLE_WORD: &str = "console=ttyS0";

/// Every word an image may use. Each one only takes something away, except the console and the
/// word the firmware adds.
pub const WORDS: &[&str] = &[
    CONSOLE_WORD,
    // Added by the firmware (edk2) before or after our words when an initrd is given.
    "initrd=initrd",
    // The console belongs to PID 1 and the worker.
    "quiet",
    "loglevel=0",
    // A dead kernel ends the VM instead of hanging it; so does one that only stumbled.
    "panic=-1",
    "oops=panic",
    // Nobody changes the running kernel, not even root.
    "lockdown=confidentiality",
    "module.sig_enforce=1",
    // Freed memory keeps no prompt.
    "init_on_alloc=1",
    "init_on_free=1",
    "vsyscall=none",
    // The host does not seed the generator.
    "random.trust_bootloader=off",
];

/// Words that a debug image may use as well.
pub const DEBUG_WORDS: &[&str] = &["loglevel=7", "ignore_loglevel"];

/// Longest command line, in bytes.
pub const MAX_COMMAND_LINE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CommandLine, CommandLineError> {
        CommandLine::parse(text.as_bytes(), false)
    }

    #[test]
    fn accepts_every_known_word_once() {
        let line = WORDS.join(" ");
        assert!(line.len() <= MAX_COMMAND_LINE_BYTES);
        assert_eq!(parse(&line).unwrap().words(), WORDS);
    }

    #[test]
    fn accepts_the_words_of_the_firmware_on_either_side() {
        assert!(parse("initrd=initrd console=ttyS0 quiet").is_ok());
        assert!(parse("console=ttyS0 quiet initrd=initrd").is_ok());
    }

    #[test]
    fn refuses_words_the_kernel_or_pid_1_would_obey() {
        for bad in [
            "rdinit=/bin/sh",
            "init=/x",
            "debug",
            "single",
            "nokaslr",
            "console=ttyS1",
            "panic=0",
            "module_blacklist=tdx_guest",
            "initrd=other",
            "ignore_loglevel",
            "loglevel=7",
            "--",
            "QUIET",
            "quiet=1",
            "earlyprintk=ttyS0",
            "systemd.unit=rescue",
            "lockdown=integrity",
        ] {
            let refused = parse(&format!("console=ttyS0 {bad}"));
            assert_eq!(refused, Err(CommandLineError::Unknown { index: 1 }), "{bad}");
        }
    }

    #[test]
    fn admits_debug_words_only_in_a_debug_image() {
        for word in DEBUG_WORDS {
            let line = format!("console=ttyS0 {word}");
            assert!(CommandLine::parse(line.as_bytes(), true).is_ok());
            assert!(CommandLine::parse(line.as_bytes(), false).is_err());
        }
    }

    #[test]
    fn refuses_a_word_twice_and_two_words_for_one_thing() {
        assert_eq!(
            parse("console=ttyS0 quiet quiet"),
            Err(CommandLineError::Repeated { index: 2 })
        );
        assert_eq!(
            CommandLine::parse(b"console=ttyS0 loglevel=0 loglevel=7", true),
            Err(CommandLineError::Repeated { index: 2 })
        );
    }

    #[test]
    fn refuses_spellings_that_are_not_words_and_single_spaces() {
        for bad in [
            "",
            " ",
            "console=ttyS0 ",
            " console=ttyS0",
            "console=ttyS0  quiet",
            "a\tb",
            "é",
            "a\n",
        ] {
            assert_eq!(parse(bad), Err(CommandLineError::Spelling), "{bad:?}");
        }
        assert_eq!(CommandLine::parse(&[0xff], false), Err(CommandLineError::Spelling));
    }

    #[test]
    fn refuses_a_line_without_a_console() {
        assert_eq!(parse("quiet"), Err(CommandLineError::NoConsole));
    }

    #[test]
    fn refuses_a_line_one_byte_past_the_limit() {
        let line = vec![b'x'; MAX_COMMAND_LINE_BYTES];
        assert_eq!(CommandLine::parse(&line, false), Err(CommandLineError::Unknown { index: 0 }));
        let line = vec![b'x'; MAX_COMMAND_LINE_BYTES + 1];
        assert!(matches!(
            CommandLine::parse(&line, false),
            Err(CommandLineError::TooLarge { got: 513 })
        ));
    }
}
