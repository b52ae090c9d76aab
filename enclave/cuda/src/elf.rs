//! Whether a module of machine code (cubin) is as long as it says. The driver is given its start and nothing
//! else: what its tables point to is read, so they must not point past its end.

/// Whether `file` is an ELF file of 64 bits whose tables, sections and segments lie inside.
pub(crate) fn is_whole(file: &[u8]) -> bool {
    tables(file).is_some_and(|tables| tables.iter().all(|table| table.is_inside(file)))
}

/// A table of the file: where it starts, how large an entry is, and how many there are.
struct Table {
    at: u64,
    entry: u64,
    count: u64,
    /// Where an entry says where its part of the file starts, and how long that is.
    part: [usize; 2],
    /// The type of entries that have no part, and where they say so.
    without: Option<(usize, u32)>,
}

/// Segments and sections, as the header says (`Elf64_Ehdr`).
fn tables(file: &[u8]) -> Option<[Table; 2]> {
    // `ELFCLASS64`, `ELFDATA2LSB`.
    file.get(..HEADER_BYTES)?;
    if !file.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return None;
    }
    let short = |at: usize| Some(u64::from(u16::from_le_bytes(bytes(file, at)?)));
    let long = |at: usize| Some(u64::from_le_bytes(bytes(file, at)?));
    let segments =
        Table { at: long(32)?, entry: short(54)?, count: short(56)?, part: [8, 32], without: None };
    // `SHT_NOBITS` sections have a size and no bytes.
    let sections = Table {
        at: long(40)?,
        entry: short(58)?,
        count: short(60)?,
        part: [24, 32],
        without: Some((4, 8)),
    };
    // Without a count it would be in the first section.
    let counted = |table: &Table| table.count > 0 || table.at == 0;
    (counted(&segments) && counted(&sections)).then_some([segments, sections])
}

impl Table {
    fn is_inside(&self, file: &[u8]) -> bool {
        (0..self.count).all(|number| self.entry(file, number).is_some())
    }

    /// The bytes that an entry is about; `None` if it or they do not end inside the file.
    fn entry<'f>(&self, file: &'f [u8], number: u64) -> Option<&'f [u8]> {
        let at = number.checked_mul(self.entry)?.checked_add(self.at)?;
        let entry = part(file, at, self.entry)?;
        if let Some((at, kind)) = self.without
            && u32::from_le_bytes(bytes(entry, at)?) == kind
        {
            return Some(&[]);
        }
        let [at, size] = self.part.map(|at| bytes(entry, at).map(u64::from_le_bytes));
        part(file, at?, size?)
    }
}

fn part(of: &[u8], at: u64, size: u64) -> Option<&[u8]> {
    of.get(usize::try_from(at).ok()?..)?.get(..usize::try_from(size).ok()?)
}

fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
    of.get(at..)?.first_chunk().copied()
}

/// Bytes of the header.
const HEADER_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one segment and two sections, the second of which is the last bytes.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 64 + 56 + 2 * 64 + 16];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        let mut put = |at: usize, value: u64, bytes: usize| {
            file[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        };
        for (at, value) in [(32, 64), (40, 120)] {
            put(at, value, 8);
        }
        for (at, value) in [(54, 56), (56, 1), (58, 64), (60, 2)] {
            put(at, value, 2);
        }
        put(64 + 8, 0, 8);
        put(64 + 32, 264, 8);
        put(184 + 24, 248, 8);
        put(184 + 32, 16, 8);
        file
    }

    #[test]
    fn a_file_is_whole_until_a_byte_is_cut_off() {
        let file = file();
        assert!(is_whole(&file));
        for len in 0..file.len() {
            assert!(!is_whole(&file[..len]), "cut at {len}");
        }
    }

    #[test]
    fn refuses_tables_entries_and_parts_that_end_behind_the_file() {
        let mut longer = file();
        longer[184 + 32] += 1;
        assert!(!is_whole(&longer), "a section");
        longer[184 + 4] = 8;
        assert!(is_whole(&longer), "of no bytes");
        for (at, what) in
            [(64 + 32, "a segment"), (60, "a section more"), (56 + 1, "more segments")]
        {
            let mut file = file();
            file[at] += 2;
            assert!(!is_whole(&file), "{what}");
        }
        for at in [32, 40, 64 + 8, 184 + 24, 184 + 32] {
            let mut file = file();
            file[at..at + 8].fill(0xff);
            assert!(!is_whole(&file), "{at}");
        }
        let mut uncounted = file();
        uncounted[60] = 0;
        assert!(!is_whole(&uncounted));
        for other in [&b"stand-in"[..], b".version 8.0", &[0x50, 0xed, 0x55, 0xba]] {
            assert!(!is_whole(&[other, &[0; 64]].concat()));
        }
    }
}
