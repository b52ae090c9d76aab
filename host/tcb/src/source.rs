//! Counts Rust source by its tokens, so that a comment, a string or a test is not taken for code:
//! lines that hold code, each `unsafe` by what it marks, and the places that listen.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use serde::Serialize;

use crate::error::TcbError;

/// What was counted in some source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// Files read.
    pub files: usize,
    /// Lines with code on them.
    pub lines: usize,
    /// Uses of `unsafe`.
    #[serde(rename = "unsafe")]
    pub unsafes: UnsafeCount,
    /// Calls that bind a socket.
    pub listens: Vec<Listen>,
    /// Files that could not be read as Rust, such as templates.
    pub unread: usize,
    /// Lines of C, C++ and assembly beside it.
    pub foreign_lines: usize,
}

/// Uses of `unsafe`, by what they mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnsafeCount {
    /// `unsafe { … }`.
    pub blocks: usize,
    /// `unsafe fn`, `unsafe extern`.
    pub functions: usize,
    /// `unsafe impl`, `unsafe trait`.
    pub impls: usize,
    /// `#[unsafe(…)]` and whatever else.
    pub others: usize,
}

/// A call that binds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// The file, from the root of its crate.
    pub file: PathBuf,
    /// Its line.
    pub line: usize,
}

impl UnsafeCount {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.blocks
            .saturating_add(self.functions)
            .saturating_add(self.impls)
            .saturating_add(self.others)
    }
}

impl SourceCount {
    /// Counts a crate of ours, without its tests and what helps others with theirs. Every file must be Rust.
    ///
    /// # Errors
    /// [`TcbError::Read`] and [`TcbError::Source`].
    pub fn own(dir: &Path) -> Result<Self, TcbError> {
        let mut count = Self::default();
        for file in files(dir)? {
            let inside = file.strip_prefix(dir).unwrap_or(&file);
            let helps = |part: &OsStr| HELPS_TESTS.iter().any(|name| part == *name);
            if !inside.iter().any(helps) {
                count.rust(dir, &file, true)?;
            }
        }
        Ok(count)
    }

    /// Counts a dependency, as far as its files are Rust; C and assembly by lines.
    ///
    /// # Errors
    /// [`TcbError::Read`].
    pub fn dependency(dir: &Path) -> Result<Self, TcbError> {
        let mut count = Self::default();
        for file in files(dir)? {
            count.rust(dir, &file, false)?;
        }
        Ok(count)
    }

    fn rust(&mut self, dir: &Path, file: &Path, strict: bool) -> Result<(), TcbError> {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !strict && FOREIGN.contains(&extension) {
            let bytes = std::fs::read(file).map_err(|e| TcbError::read(file, &e))?;
            let lines = bytes.split(|byte| *byte == b'\n').count();
            self.foreign_lines = self.foreign_lines.saturating_add(lines);
        }
        if extension != "rs" {
            return Ok(());
        }
        let bytes = std::fs::read(file).map_err(|e| TcbError::read(file, &e))?;
        let counted = core::str::from_utf8(&bytes)
            .map_err(|e| e.to_string())
            .and_then(|text| count_rust(text, file.strip_prefix(dir).unwrap_or(file)));
        match counted {
            Ok(one) => self.add(one),
            Err(reason) if strict => {
                return Err(TcbError::Source { path: file.to_owned(), reason });
            }
            Err(_) => self.unread = self.unread.saturating_add(1),
        }
        Ok(())
    }

    /// Adds another count to this one.
    pub(crate) fn add(&mut self, other: Self) {
        let add = |to: &mut usize, more: usize| *to = to.saturating_add(more);
        add(&mut self.files, other.files);
        add(&mut self.lines, other.lines);
        add(&mut self.unread, other.unread);
        add(&mut self.foreign_lines, other.foreign_lines);
        add(&mut self.unsafes.blocks, other.unsafes.blocks);
        add(&mut self.unsafes.functions, other.unsafes.functions);
        add(&mut self.unsafes.impls, other.unsafes.impls);
        add(&mut self.unsafes.others, other.unsafes.others);
        self.listens.extend(other.listens);
    }
}

/// Counts one file; items for tests alone are left out. The error says why it is not Rust.
pub fn count_rust(text: &str, file: &Path) -> Result<SourceCount, String> {
    let tokens = TokenStream::from_str(text).map_err(|e| e.to_string());
    let counted = tokens.map(|tokens| {
        let mut walk = Walk { file, lines: BTreeSet::new(), count: SourceCount::default() };
        walk.stream(tokens);
        walk.count.files = 1;
        walk.count.lines = walk.lines.len();
        walk.count
    });
    // Line numbers are remembered for every text a thread has seen, until told otherwise.
    proc_macro2::extra::invalidate_current_thread_spans();
    counted
}

struct Walk<'a> {
    file: &'a Path,
    lines: BTreeSet<usize>,
    count: SourceCount,
}

impl Walk<'_> {
    fn stream(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut rest = tokens.as_slice();
        let mut before: Option<&TokenTree> = None;
        while let Some((token, after)) = rest.split_first() {
            if let Some((attribute, behind)) = attribute(rest) {
                // A doc comment is an attribute to the lexer, and prose to us.
                if is_doc(attribute) {
                    rest = behind;
                    continue;
                }
                if is_test(attribute) {
                    rest = behind_item(behind);
                    continue;
                }
            }
            self.token(token, before, after.first());
            before = Some(token);
            rest = after;
        }
    }

    fn token(&mut self, token: &TokenTree, before: Option<&TokenTree>, after: Option<&TokenTree>) {
        match token {
            TokenTree::Group(group) => {
                self.lines.insert(group.span_open().start().line);
                self.lines.insert(group.span_close().end().line);
                self.stream(group.stream());
            }
            TokenTree::Ident(name) => {
                self.lines.insert(name.span().start().line);
                if name == "unsafe" {
                    self.unsafes(after);
                }
                let called = matches!(before, Some(TokenTree::Punct(p)) if matches!(p.as_char(), ':' | '.'))
                    && matches!(after, Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis);
                if called && name == "bind" {
                    let line = name.span().start().line;
                    self.count.listens.push(Listen { file: self.file.to_owned(), line });
                }
            }
            other => {
                let span = other.span();
                self.lines.extend(span.start().line..=span.end().line);
            }
        }
    }

    fn unsafes(&mut self, after: Option<&TokenTree>) {
        let unsafes = &mut self.count.unsafes;
        let kind = match after {
            Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Brace => &mut unsafes.blocks,
            Some(TokenTree::Ident(word)) if word == "fn" || word == "extern" => {
                &mut unsafes.functions
            }
            Some(TokenTree::Ident(word)) if word == "impl" || word == "trait" => &mut unsafes.impls,
            _ => &mut unsafes.others,
        };
        *kind = kind.saturating_add(1);
    }
}

/// The bracket of an attribute that stands here, and what follows it.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, &[TokenTree])> {
    let punct =
        |token: &TokenTree, c: char| matches!(token, TokenTree::Punct(p) if p.as_char() == c);
    let (first, mut rest) = tokens.split_first()?;
    if !punct(first, '#') {
        return None;
    }
    if let Some((_, after)) = rest.split_first().filter(|(second, _)| punct(second, '!')) {
        rest = after;
    }
    match rest.split_first()? {
        (TokenTree::Group(group), after) if group.delimiter() == Delimiter::Bracket => {
            Some((group, after))
        }
        _ => None,
    }
}

fn is_doc(attribute: &Group) -> bool {
    matches!(attribute.stream().into_iter().next(), Some(TokenTree::Ident(word)) if word == "doc")
}

/// `cfg(test)`, or `cfg(all(test, …))`, or what the feature `testing` of our crates compiles too.
fn is_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)"
        || text == "cfg(any(test,feature=\"testing\"))"
        || text.starts_with("cfg(all(test,")
}

/// What follows an item: its first block or semicolon ends it.
fn behind_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let end = tokens.iter().position(ends).map_or(tokens.len(), |at| at.saturating_add(1));
    tokens.get(end..).unwrap_or_default()
}

/// Files of a crate, in order, without tests, benchmarks and examples.
fn files(dir: &Path) -> Result<Vec<PathBuf>, TcbError> {
    let mut out = Vec::new();
    let mut queue = vec![dir.to_path_buf()];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| TcbError::read(&dir, &e))? {
            let path = entry.map_err(|e| TcbError::read(&dir, &e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if NOT_CODE.contains(&name) || name.ends_with(TESTS) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                queue.push(path);
            } else {
                out.push(path);
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Modules that our crates compile under their feature `testing` alone, which no program has: `tests/layering`
/// asks.
const HELPS_TESTS: &[&str] = &["testing", "testing.rs"];
const NOT_CODE: &[&str] = &["tests", "tests.rs", "benches", "examples", "target", ".git"];
/// How files end that hold the tests of the one beside them.
const TESTS: &str = "_tests.rs";
const FOREIGN: &[&str] = &["c", "cc", "cpp", "h", "hpp", "S", "s", "asm"];

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> SourceCount {
        count_rust(text, Path::new("a.rs")).unwrap()
    }

    #[test]
    fn comments_blank_lines_and_documentation_are_not_code() {
        let text = "//! Says.\n\n/// More.\n/// And more.\nfn a() {\n    // why\n    b();\n}\n/* long\n */\n";
        assert_eq!(count(text).lines, 3);
        assert_eq!(count("let a = \"one\ntwo\nthree\";").lines, 3);
        assert_eq!(count("").lines, 0);
    }

    #[test]
    fn every_unsafe_is_counted_by_what_it_marks() {
        let text = "unsafe fn a() { unsafe { b() } }\nunsafe impl S for T {}\nunsafe trait U {}\n\
                    unsafe extern \"C\" { fn c(); }\n#[unsafe(no_mangle)]\nfn d() { if x { unsafe { y } } }";
        let unsafes = count(text).unsafes;
        let expected = UnsafeCount { blocks: 2, functions: 2, impls: 2, others: 1 };
        assert_eq!((unsafes, unsafes.total()), (expected, 7));
    }

    #[test]
    fn the_word_unsafe_in_text_is_not_unsafe() {
        let text = "// unsafe {}\n/// unsafe {}\nfn a() { b(\"unsafe {}\", r#\"unsafe {\"#, 'u', is_unsafe, r#unsafe) }\n#![forbid(unsafe_code)]";
        // A raw identifier is no keyword, and nobody would call anything that.
        assert_eq!(count(text).unsafes.blocks, 0);
        assert_eq!(count(text).unsafes.functions, 0);
    }

    #[test]
    fn tests_are_left_out_and_what_follows_them_is_not() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { unsafe {} }\n}\n\
                    #[cfg(test)]\n#[path = \"x\"]\nmod more;\n#[cfg(all(test, unix))]\nfn e() { unsafe {} }\nfn c() { unsafe {} }";
        let counted = count(text);
        assert_eq!((counted.lines, counted.unsafes.blocks), (2, 1));
        // So is what other crates' tests are helped with, and nothing else that a feature switches on.
        let text = "#[cfg(any(test, feature = \"testing\"))]\npub mod testing;\n#[cfg(feature = \"cuda\")]\n\
                    fn a() {}\n#[cfg(any(test, feature = \"cuda\"))]\nfn b() {}";
        assert_eq!(count(text).lines, 4);
        // Code for everything but tests is code.
        assert_eq!(count("#[cfg(not(test))]\nfn a() { unsafe {} }").unsafes.blocks, 1);
    }

    #[test]
    fn places_that_listen_are_found_with_their_line() {
        let text = "fn a() {\n    let l = TcpListener::bind(address).await;\n    socket.bind(a);\n    let bind = 3;\n    rebind(x);\n}";
        let lines: Vec<_> = count(text).listens.into_iter().map(|l| l.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn refuses_own_source_that_is_not_rust_and_counts_foreign_one() {
        let dir = tempfile::tempdir().unwrap();
        let src = dir.path().join("src");
        std::fs::create_dir_all(src.join("tests")).unwrap();
        std::fs::write(src.join("a.rs"), "fn a() { unsafe {} }\n").unwrap();
        std::fs::write(src.join("tests/b.rs"), "not } rust").unwrap();
        std::fs::write(src.join("a_tests.rs"), "not } rust").unwrap();
        std::fs::create_dir_all(src.join("a/testing")).unwrap();
        std::fs::write(src.join("a/testing/c.rs"), "fn a() {}\n").unwrap();
        std::fs::write(src.join("a/testing.rs"), "mod c;\n").unwrap();
        std::fs::write(dir.path().join("x.c"), "int a;\nint b;\n").unwrap();
        let own = SourceCount::own(dir.path()).unwrap();
        assert_eq!((own.files, own.lines, own.unsafes.total()), (1, 1, 1));
        std::fs::write(src.join("c.rs"), "not } rust").unwrap();
        assert_eq!(SourceCount::own(dir.path()).unwrap_err().code(), "E-TCB-SOURCE");
        let dependency = SourceCount::dependency(dir.path()).unwrap();
        assert_eq!((dependency.files, dependency.unread, dependency.foreign_lines), (3, 1, 3));
    }
}
