//! Text that does not print, clone or serialise, and is wiped when dropped.

use core::fmt;

use chrysalis_wire::SecretBytes;
use zeroize::Zeroizing;

macro_rules! secret_text {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes ownership of `text`.
            #[must_use]
            pub fn new(text: String) -> Self {
                Self(Zeroizing::new(text))
            }

            /// The text, for as long as the borrow lasts.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }

            /// Length in bytes.
            #[must_use]
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether there is no text.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Hands the buffer on as bytes, without a copy; it is still wiped when dropped.
            #[must_use]
            pub fn into_secret(mut self) -> SecretBytes {
                SecretBytes::new(core::mem::take(&mut *self.0).into_bytes())
            }
        }

        impl From<Zeroizing<String>> for $name {
            fn from(text: Zeroizing<String>) -> Self {
                Self(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "<redacted {} bytes>", self.0.len())
            }
        }
    };
}

impl From<Prompt> for Completion {
    fn from(text: Prompt) -> Self {
        Self(text.0)
    }
}

secret_text!(
    /// Text from the requester: a message, a prompt, a stop string.
    Prompt
);
secret_text!(
    /// Text from the model.
    Completion
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_only_the_length() {
        assert_eq!(format!("{:?}", Prompt::new("canary".into())), "<redacted 6 bytes>");
        assert_eq!(format!("{:?}", Completion::new("canary".into())), "<redacted 6 bytes>");
    }

    #[test]
    fn hands_its_bytes_on() {
        assert_eq!(Prompt::new("text".into()).into_secret().expose(), b"text");
    }
}
