//! Work on a stream of chunks in bounded memory: while the cores work on one bank of chunks, the
//! calling thread reads the next. Used where no buffer holds the whole content: verify and pack.

use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::header::TAG_BYTES;
use crate::layout::Layout;
use crate::limits::CHUNK_BYTES;

/// One chunk in flight. The bytes may be plaintext of a sealed model, so they are wiped.
pub(crate) struct Slot {
    buffer: Zeroizing<Vec<u8>>,
    len: usize,
    /// Which chunk.
    pub(crate) index: u64,
    /// Its tag, when sealed.
    pub(crate) tag: [u8; TAG_BYTES],
}

impl Slot {
    /// Room for a chunk.
    pub(crate) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; CHUNK_BYTES]), len: 0, index: 0, tag: [0; TAG_BYTES] }
    }

    /// Makes it the place of chunk `index`, of `len` bytes.
    pub(crate) const fn begin(&mut self, index: u64, len: usize) {
        (self.index, self.len) = (index, len);
    }

    /// The chunk's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// The chunk's bytes, mutable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }
}

/// Runs every chunk through `read` (in order, on this thread), `work` (in parallel) and `take`
/// (in order, on this thread). Stops at the first refusal in that order. At most
/// 2 × [`BANK_CHUNKS`] chunks are in memory.
pub(crate) fn run<T: Send>(
    layout: &Layout,
    mut read: impl FnMut(&mut Slot) -> Result<(), VaultError>,
    work: impl Fn(&mut Slot) -> T + Sync,
    mut take: impl FnMut(&Slot, T) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    let mut banks = Banks::new(BANK_CHUNKS);
    loop {
        let results = banks.turn(layout, &mut read, &work)?;
        if results.is_empty() {
            return Ok(());
        }
        for (slot, result) in banks.slots().iter().zip(results) {
            take(slot, result)?;
        }
    }
}

/// Two banks of chunks: the one that was worked on, and the one that was read meanwhile.
struct Banks {
    front: Bank,
    back: Bank,
    /// Most chunks in each.
    size: usize,
    /// The next chunk to read.
    next: u64,
    /// Why reading ended early. The chunks before it are still worked on.
    refused: Option<VaultError>,
}

impl Banks {
    /// Two banks of at most `size` chunks, before the first one.
    fn new(size: usize) -> Self {
        let (front, back) = (Bank::default(), Bank::default());
        Self { front, back, size, next: 0, refused: None }
    }

    /// Works on the chunks that the last call read ahead while it reads the next ones. The results,
    /// in the order of [`Banks::slots`]; none after the last chunk.
    ///
    /// # Errors
    /// The refusal of `read`, once every chunk before it was worked on.
    fn turn<T: Send>(
        &mut self,
        layout: &Layout,
        mut read: impl FnMut(&mut Slot) -> Result<(), VaultError>,
        work: impl Fn(&mut Slot) -> T + Sync,
    ) -> Result<Vec<T>, VaultError> {
        core::mem::swap(&mut self.front, &mut self.back);
        if self.front.used == 0 {
            // Nothing was read ahead: this is the start, or the end.
            self.fill(layout, &mut read);
            core::mem::swap(&mut self.front, &mut self.back);
        }
        self.back.used = 0;
        if self.front.used == 0 {
            return self.refused.take().map_or_else(|| Ok(Vec::new()), Err);
        }
        let mut front = core::mem::take(&mut self.front);
        let mut results: Vec<Option<T>> = front.slots().iter().map(|_| None).collect();
        rayon::in_place_scope(|tasks| {
            for (slot, result) in front.slots_mut().iter_mut().zip(&mut results) {
                let work = &work;
                tasks.spawn(move |_| *result = Some(work(slot)));
            }
            self.fill(layout, &mut read);
        });
        self.front = front;
        // Every task ran: the scope waits for them.
        Ok(results.into_iter().flatten().collect())
    }

    /// The chunks that were worked on by the last [`Banks::turn`], in order.
    fn slots(&self) -> &[Slot] {
        self.front.slots()
    }

    /// Reads the next chunks into the back bank, unless reading was refused.
    fn fill(
        &mut self,
        layout: &Layout,
        read: &mut impl FnMut(&mut Slot) -> Result<(), VaultError>,
    ) {
        let bank = &mut self.back;
        bank.used = 0;
        while self.refused.is_none() && bank.used < self.size && self.next < layout.count() {
            if bank.slots.len() == bank.used {
                bank.slots.push(Slot::new());
            }
            let Some(slot) = bank.slots.get_mut(bank.used) else { break };
            slot.begin(self.next, layout.chunk_len(self.next));
            match read(slot) {
                Ok(()) => {
                    bank.used = bank.used.saturating_add(1);
                    self.next = self.next.saturating_add(1);
                }
                Err(refusal) => self.refused = Some(refusal),
            }
        }
    }
}

#[derive(Default)]
struct Bank {
    slots: Vec<Slot>,
    used: usize,
}

impl Bank {
    fn slots(&self) -> &[Slot] {
        self.slots.get(..self.used).unwrap_or_default()
    }

    fn slots_mut(&mut self) -> &mut [Slot] {
        self.slots.get_mut(..self.used).unwrap_or_default()
    }
}

/// Chunks per bank: 16 MiB, enough to keep 16 cores busy.
pub(crate) const BANK_CHUNKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FileEntry;

    fn layout(chunks: u64) -> Layout {
        let size = chunks * CHUNK_BYTES as u64;
        Layout::new(&[FileEntry { path: "f".to_owned(), size }]).unwrap()
    }

    fn refusal() -> VaultError {
        VaultError::KeyWrong
    }

    #[test]
    fn takes_every_chunk_in_order_over_several_banks() {
        let chunks = 2 * BANK_CHUNKS as u64 + 1;
        let mut seen = Vec::new();
        run(
            &layout(chunks),
            |slot| {
                slot.tag[0] = u8::try_from(slot.index).unwrap();
                Ok(())
            },
            |slot| slot.tag[0],
            |slot, tag| {
                seen.push((slot.index, tag));
                Ok(())
            },
        )
        .unwrap();
        let expected: Vec<_> = (0..chunks).map(|i| (i, u8::try_from(i).unwrap())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn chunks_before_a_refused_read_are_still_taken() {
        for refused_at in [0, 1, BANK_CHUNKS as u64, BANK_CHUNKS as u64 + 1] {
            let mut taken = 0;
            let result = run(
                &layout(3 * BANK_CHUNKS as u64),
                |slot| if slot.index == refused_at { Err(refusal()) } else { Ok(()) },
                |_| (),
                |_, ()| {
                    taken += 1;
                    Ok(())
                },
            );
            assert_eq!((result, taken), (Err(refusal()), refused_at));
        }
    }

    #[test]
    fn a_refused_take_stops_everything() {
        let mut taken = 0;
        let result = run(
            &layout(3 * BANK_CHUNKS as u64),
            |_| Ok(()),
            |_| (),
            |slot, ()| {
                taken += 1;
                if slot.index == 2 { Err(refusal()) } else { Ok(()) }
            },
        );
        assert_eq!((result, taken), (Err(refusal()), 3));
    }
}
