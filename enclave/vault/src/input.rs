//! What goes into a bundle: files and the facts of their manifest. The packer trusts its inputs'
//! content, but not that they stay the same between two readings.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::bundle::read_full;
use crate::error::VaultError;
use crate::gguf::GgufFacts;
use crate::layout::Layout;
use crate::manifest::{AssetSource, FileEntry, Manifest};

/// A readable, seekable input.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// One file to pack.
pub struct PackFile<'a> {
    path: String,
    reader: Box<dyn ReadSeek + 'a>,
}

impl<'a> PackFile<'a> {
    /// A file named `path` in the bundle. It is read from its start to its end, twice.
    pub fn new(path: impl Into<String>, reader: impl ReadSeek + 'a) -> Self {
        Self { path: path.into(), reader: Box::new(reader) }
    }

    /// Opens a file on disk to be packed as `path`.
    ///
    /// # Errors
    /// [`VaultError::Io`] if it cannot be opened.
    pub fn open(path: impl Into<String>, source: &Path) -> Result<Self, VaultError> {
        let file = File::open(source).map_err(VaultError::io("open an input file"))?;
        Ok(Self::new(path, file))
    }
}

/// A bundle to be: its manifest and its files.
pub struct PackInput<'a> {
    /// Name of the model.
    pub name: String,
    /// Architecture, as the engine names it.
    pub architecture: String,
    /// Quantisation of the weights.
    pub quantisation: Option<String>,
    /// Where the tokenizer comes from.
    pub tokenizer: AssetSource,
    /// Where the chat template comes from.
    pub chat_template: AssetSource,
    /// Licence of the weights.
    pub licence: Option<String>,
    /// The files, in any order.
    pub files: Vec<PackFile<'a>>,
}

impl<'a> PackInput<'a> {
    /// A bundle of one GGUF file, its manifest filled from the file's metadata. A model without a
    /// name of its own gets `fallback_name`.
    ///
    /// # Errors
    /// [`VaultError::Gguf`] if the file is not a GGUF file this build reads, [`VaultError::Io`].
    pub fn from_gguf(
        path: impl Into<String>,
        fallback_name: &str,
        mut reader: impl ReadSeek + 'a,
    ) -> Result<Self, VaultError> {
        reader.rewind().map_err(VaultError::io("rewind an input file"))?;
        let facts = GgufFacts::read(&mut reader)?;
        let from_gguf = |present| if present { AssetSource::Gguf } else { AssetSource::None };
        Ok(Self {
            quantisation: facts.quantisation(),
            tokenizer: from_gguf(facts.tokenizer_model.is_some()),
            chat_template: from_gguf(facts.has_chat_template),
            name: facts.name.unwrap_or_else(|| fallback_name.to_owned()),
            architecture: facts.architecture,
            licence: facts.licence,
            files: vec![PackFile::new(path, reader)],
        })
    }

    /// Measures the files and checks the manifest.
    pub(crate) fn prepare(self) -> Result<(Manifest, Content<'a>), VaultError> {
        let mut files = self.files;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut entries = Vec::with_capacity(files.len());
        for file in &mut files {
            let size = file.reader.seek(SeekFrom::End(0));
            let size = size.map_err(VaultError::io("measure an input file"))?;
            entries.push(FileEntry { path: file.path.clone(), size });
        }
        let manifest = Manifest {
            name: self.name,
            architecture: self.architecture,
            quantisation: self.quantisation,
            tokenizer: self.tokenizer,
            chat_template: self.chat_template,
            licence: self.licence,
            files: entries,
        }
        .checked()?;
        let layout = Layout::new(&manifest.files)?;
        Ok((manifest, Content { files, layout, at: 0 }))
    }
}

/// The content as one stream: the files, in order, with zeros between them (FORMAT §4).
pub(crate) struct Content<'a> {
    files: Vec<PackFile<'a>>,
    layout: Layout,
    at: u64,
}

impl Content<'_> {
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Back to the first byte.
    pub(crate) fn rewind(&mut self) -> Result<(), VaultError> {
        self.at = 0;
        for file in &mut self.files {
            file.reader.rewind().map_err(VaultError::io("rewind an input file"))?;
        }
        Ok(())
    }

    /// Reads the next `out.len()` bytes of the content.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<(), VaultError> {
        // Zeros first: what no file covers is padding.
        out.fill(0);
        let start = self.at;
        let end = start.saturating_add(out.len() as u64);
        for (file, span) in self.files.iter_mut().zip(self.layout.spans()) {
            let from = span.range.start.max(start);
            let to = span.range.end.min(end);
            if from >= to {
                continue;
            }
            let part = usize::try_from(from.saturating_sub(start))
                .ok()
                .zip(usize::try_from(to.saturating_sub(start)).ok())
                .and_then(|(a, b)| out.get_mut(a..b))
                .unwrap_or_default();
            if read_full(&mut file.reader, part, "read an input file")? < part.len() {
                return Err(VaultError::InputChanged { path: file.path.clone() });
            }
        }
        self.at = end;
        Ok(())
    }

    /// After the last byte: refuses a file that has grown since it was measured.
    pub(crate) fn finish(&mut self) -> Result<(), VaultError> {
        for file in &mut self.files {
            if read_full(&mut file.reader, &mut [0], "read an input file")? != 0 {
                return Err(VaultError::InputChanged { path: file.path.clone() });
            }
        }
        Ok(())
    }
}
