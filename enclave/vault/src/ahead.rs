//! Chunks that are checked ahead: while the caller makes something of the chunks of one bank, the cores
//! decrypt and hash the next one, and nobody waits for somebody who waits.
//!
//! Trust: chunks come from an untrusted disk. Those that [`Ahead::ready`] gives are right; the others are
//! in nobody's reach until they were checked, and wiped when they are dropped.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::chunks::ChunkChecker;
use crate::error::{ChunkFault, VaultError};
use crate::layout::Layout;
use crate::pipeline::Slot;

/// Two banks of chunks: one that is ready, and one that is being checked.
pub(crate) struct Ahead {
    checker: Arc<ChunkChecker>,
    /// Most chunks in each.
    size: usize,
    /// The next chunk to read.
    next: u64,
    ready: Vec<Slot>,
    /// Room for other chunks.
    spare: Vec<Slot>,
    /// Chunks that are being checked.
    flying: usize,
    sender: Sender<Checked>,
    receiver: Receiver<Checked>,
    /// Why reading ended early. The chunks before it are still checked and given.
    refused: Option<VaultError>,
}

type Checked = (Slot, Result<(), ChunkFault>);

impl Ahead {
    /// Two banks of at most `size` chunks, before the first one.
    pub(crate) fn new(checker: ChunkChecker, size: usize) -> Self {
        let (sender, receiver) = channel();
        let (ready, spare, refused) = (Vec::new(), Vec::new(), None);
        let checker = Arc::new(checker);
        Self { checker, size, next: 0, ready, spare, flying: 0, sender, receiver, refused }
    }

    /// Where everything lies.
    pub(crate) fn layout(&self) -> &Layout {
        self.checker.layout()
    }

    /// Takes the next bank, which may be empty only after the last chunk, and lets the one behind it be
    /// checked. `read` is called for each chunk in order, on this thread.
    ///
    /// # Errors
    /// The first wrong chunk of the bank, in order of the content, whichever was found first; or the refusal
    /// of `read`, once every chunk before it was given.
    pub(crate) fn turn(
        &mut self,
        mut read: impl FnMut(&mut Slot) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        self.spare.append(&mut self.ready);
        if self.flying == 0 {
            // The start, or the end.
            self.launch(&mut read);
        }
        let mut checked = self.land();
        if checked.is_empty() {
            return self.refused.take().map_or(Ok(()), Err);
        }
        checked.sort_unstable_by_key(|(slot, _)| slot.index);
        for (slot, verdict) in checked {
            verdict?;
            self.ready.push(slot);
        }
        self.launch(&mut read);
        Ok(())
    }

    /// The chunks that the last [`Ahead::turn`] took, in order.
    pub(crate) fn ready(&self) -> &[Slot] {
        &self.ready
    }

    /// Reads the next chunks, unless reading was refused, and lets each be checked.
    fn launch(&mut self, read: &mut impl FnMut(&mut Slot) -> Result<(), VaultError>) {
        while self.refused.is_none() && self.flying < self.size && self.next < self.layout().count()
        {
            let mut slot = self.spare.pop().unwrap_or_else(Slot::new);
            slot.begin(self.next, self.layout().chunk_len(self.next));
            if let Err(refusal) = read(&mut slot) {
                self.refused = Some(refusal);
                return;
            }
            let (checker, sender) = (Arc::clone(&self.checker), self.sender.clone());
            rayon::spawn(move || {
                let (index, tag) = (slot.index, slot.tag);
                let verdict = checker.check(index, slot.bytes_mut(), &tag);
                // Who does not want it any more is gone; it is wiped here.
                sender.send((slot, verdict)).ok();
            });
            self.next = self.next.saturating_add(1);
            self.flying = self.flying.saturating_add(1);
        }
    }

    /// Waits for the chunks that are being checked.
    fn land(&mut self) -> Vec<Checked> {
        let mut all = Vec::with_capacity(self.flying);
        while all.len() < self.flying {
            let one = match self.receiver.try_recv() {
                Ok(one) => one,
                // A thread of the pool would wait for its own work: it does some instead.
                Err(_) if rayon::yield_now().is_some() => continue,
                Err(_) => match self.receiver.recv() {
                    Ok(one) => one,
                    // One sender is ours.
                    Err(_) => break,
                },
            };
            all.push(one);
        }
        self.flying = 0;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES;
    use crate::manifest::FileEntry;
    use crate::tree::{self, Leaves};

    /// Contents of `chunks` chunks, each full of its number.
    fn ahead(chunks: u8, size: usize) -> Ahead {
        let entry =
            FileEntry { path: "f".to_owned(), size: u64::from(chunks) * CHUNK_BYTES as u64 };
        let layout = Layout::new(&[entry]).unwrap();
        let leaves: Vec<u8> =
            (0..chunks).flat_map(|n| tree::leaf(&vec![n; CHUNK_BYTES]).0).collect();
        Ahead::new(ChunkChecker::new(Leaves::read(&leaves), None, layout), size)
    }

    fn fill(slot: &mut Slot) -> Result<(), VaultError> {
        let number = u8::try_from(slot.index).unwrap();
        slot.bytes_mut().fill(number);
        Ok(())
    }

    /// The chunks that are given until the end or a refusal.
    fn given(
        ahead: &mut Ahead,
        mut read: impl FnMut(&mut Slot) -> Result<(), VaultError>,
    ) -> (Vec<u64>, Result<(), VaultError>) {
        let mut all = Vec::new();
        loop {
            if let Err(refusal) = ahead.turn(&mut read) {
                return (all, Err(refusal));
            }
            if ahead.ready().is_empty() {
                return (all, Ok(()));
            }
            for slot in ahead.ready() {
                assert!(slot.bytes().iter().all(|byte| u64::from(*byte) == slot.index));
                all.push(slot.index);
            }
        }
    }

    #[test]
    fn gives_every_chunk_once_in_order_and_holds_two_banks() {
        for (chunks, size) in [(0, 2), (1, 2), (2, 2), (7, 2), (9, 3), (5, 16)] {
            let mut ahead = ahead(chunks, size);
            let mut slots = std::collections::HashSet::new();
            let (given, end) = given(&mut ahead, |slot| {
                slots.insert(slot.bytes().as_ptr().addr());
                fill(slot)
            });
            assert_eq!((given, end), ((0..u64::from(chunks)).collect(), Ok(())));
            assert!(slots.len() <= 2 * size, "{} chunks in memory", slots.len());
        }
    }

    #[test]
    fn gives_nothing_of_a_bank_with_a_wrong_chunk_and_says_which_was_first() {
        for wrong in 0..7 {
            let (given, end) = given(&mut ahead(7, 2), |slot| {
                fill(slot)?;
                if slot.index >= wrong {
                    slot.bytes_mut()[9] ^= 1;
                }
                Ok(())
            });
            assert_eq!(given, (0..wrong / 2 * 2).collect::<Vec<_>>());
            let Err(VaultError::ChunkHash(location)) = end else { panic!("{end:?}") };
            assert_eq!(location.index, wrong);
        }
    }

    #[test]
    fn gives_the_chunks_before_a_refused_read() {
        for refused in 0..5 {
            let read = |slot: &mut Slot| {
                if slot.index == refused { Err(VaultError::KeyWrong) } else { fill(slot) }
            };
            let (given, end) = given(&mut ahead(5, 2), read);
            assert_eq!((given, end), ((0..refused).collect(), Err(VaultError::KeyWrong)));
        }
    }

    #[test]
    fn works_on_a_thread_of_the_pool_that_checks() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (given, end) = pool.install(|| given(&mut ahead(5, 2), fill));
        assert_eq!((given, end), ((0..5).collect(), Ok(())));
    }
}
