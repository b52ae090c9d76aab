//! The desk where a model key is handed in. Whoever reaches the worker can seal a grant to its
//! attested key, so a grant proves nothing about its sender: the key in it is compared with the
//! bundle before the boot goes on, and a wrong one is refused and forgotten.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_vault::{Bundle, ModelKey};
use chrysalis_wire::SecretBytes;
use tokio::sync::oneshot;

use crate::http::Refused;

/// Takes one model key, while the boot waits for one.
pub struct GrantDesk<R = File>(Mutex<Option<Waiting<R>>>);

/// A bundle with the key that opens it.
pub type Granted<R = File> = (Bundle<R>, ModelKey);

struct Waiting<R> {
    bundle: Bundle<R>,
    granted: oneshot::Sender<Granted<R>>,
}

impl<R> Default for GrantDesk<R> {
    /// A closed desk.
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<R: Read + Seek> GrantDesk<R> {
    /// Opens the desk for `bundle`; the result resolves with the key once one fits.
    pub fn open(&self, bundle: Bundle<R>) -> oneshot::Receiver<Granted<R>> {
        let (granted, receiver) = oneshot::channel();
        *self.waiting() = Some(Waiting { bundle, granted });
        receiver
    }

    /// Takes the key that `grant` opens to, and closes the desk. `grant` is not called while the
    /// desk is closed.
    ///
    /// # Errors
    /// [`Refused::NoGrantExpected`] if the desk is closed, what `grant` refuses, and
    /// [`Refused::Key`] for a key the bundle was not sealed with. The desk stays open.
    pub fn accept(
        &self,
        grant: impl FnOnce() -> Result<SecretBytes, Refused>,
    ) -> Result<(), Refused> {
        let mut desk = self.waiting();
        let waiting = desk.as_ref().ok_or(Refused::NoGrantExpected)?;
        let key = grant()?;
        let key = ModelKey::from_bytes(key.expose())
            .and_then(|key| waiting.bundle.accepts(Some(&key)).map(|()| key))
            .map_err(|e| Refused::Key { code: e.code(), message: e.to_string() })?;
        let Waiting { bundle, granted } = desk.take().ok_or(Refused::NoGrantExpected)?;
        // The boot may have been told to stop in between.
        granted.send((bundle, key)).map_err(|_| Refused::NoGrantExpected)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting<R>>> {
        // The option is replaced in one step; a panic elsewhere cannot leave half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use chrysalis_vault::{AssetSource, PackFile, PackInput, pack_sealed};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sealed() -> Bundle<Cursor<Vec<u8>>> {
        let input = PackInput {
            name: "m".into(),
            architecture: "llama".into(),
            quantisation: None,
            tokenizer: AssetSource::None,
            chat_template: AssetSource::None,
            licence: None,
            files: vec![PackFile::new("m.gguf", Cursor::new(vec![1; 5000]))],
        };
        let key = ModelKey::from_bytes(&KEY).unwrap();
        let mut out = Vec::new();
        pack_sealed(input, &mut out, &key, [9; 32], &|_, _| ()).unwrap();
        Bundle::open(Cursor::new(out)).unwrap()
    }

    fn secret(key: &[u8]) -> SecretBytes {
        SecretBytes::new(key.to_vec())
    }

    fn code(refused: &Result<(), Refused>) -> Option<&'static str> {
        match refused {
            Err(Refused::Key { code, .. }) => Some(code),
            _ => None,
        }
    }

    #[test]
    fn a_wrong_key_is_refused_and_the_right_one_still_accepted() {
        let (desk, bundle) = (GrantDesk::default(), sealed());
        let root = bundle.root();
        let mut granted = desk.open(bundle);
        for (key, expected) in
            [(&[8u8; 32][..], "E-KEY-WRONG"), (&[0; 32], "E-NOT-RANDOM"), (b"x", "E-KEY-MALFORMED")]
        {
            let refused = desk.accept(|| Ok(secret(key)));
            assert_eq!(code(&refused), Some(expected), "{refused:?}");
            assert!(granted.try_recv().is_err(), "nothing reaches the boot");
        }
        assert_eq!(desk.accept(|| Err(Refused::Broken)), Err(Refused::Broken));
        assert_eq!(desk.accept(|| Ok(secret(&KEY))), Ok(()));
        let (bundle, key) = granted.try_recv().unwrap();
        assert!(bundle.load(&root, Some(&key), &|_, _| ()).is_ok());
    }

    #[test]
    fn a_closed_desk_opens_no_grant() {
        let (desk, bundle) = (GrantDesk::default(), sealed());
        // Another refusal than the expected one, if it were called.
        let never = || Err(Refused::Broken);
        assert_eq!(desk.accept(never), Err(Refused::NoGrantExpected));
        let _granted = desk.open(bundle);
        assert_eq!(desk.accept(|| Ok(secret(&KEY))), Ok(()));
        assert_eq!(desk.accept(never), Err(Refused::NoGrantExpected), "one key per boot");
    }

    #[test]
    fn a_grant_to_a_boot_that_stopped_is_not_accepted() {
        let (desk, bundle) = (GrantDesk::default(), sealed());
        drop(desk.open(bundle));
        assert_eq!(desk.accept(|| Ok(secret(&KEY))), Err(Refused::NoGrantExpected));
    }
}
