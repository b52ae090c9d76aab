//! What a pattern costs to translate, added up from its syntax before that is done. A class of two bytes stands
//! for hundreds of ranges, and where case does not matter, `regex-syntax` looks at every character of a
//! class: few bytes of a request could ask for a lot of either.

use regex_syntax::ast::{
    Ast, ClassSetBinaryOp, ClassSetItem, Flag, Flags, GroupKind, Visitor, visit,
};

use crate::constrain::ConstraintError;

/// What the patterns of one constraint may still cost, together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    bytes: usize,
    classes: usize,
    /// Characters whose other cases are looked for.
    folded: u64,
}

impl Default for Translation {
    fn default() -> Self {
        Self { bytes: MAX_PATTERN_BYTES, classes: MAX_CLASSES, folded: MAX_FOLDED }
    }
}

impl Translation {
    /// Counts the bytes of a pattern that is about to be parsed.
    ///
    /// # Errors
    /// [`ConstraintError::Patterns`] if they are more than [`MAX_PATTERN_BYTES`] together.
    pub(crate) fn parse(&mut self, bytes: usize) -> Result<(), ConstraintError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(ConstraintError::Patterns)?;
        Ok(())
    }

    /// Counts the classes of a pattern that is about to be translated.
    ///
    /// # Errors
    /// [`ConstraintError::TooLarge`] over [`MAX_CLASSES`] or [`MAX_FOLDED`].
    pub(crate) fn translate(&mut self, ast: &Ast) -> Result<(), ConstraintError> {
        visit(ast, Weigher { left: self, folds: false, around: 0 })
    }

    fn class(&mut self) -> Result<(), ConstraintError> {
        self.classes = self.classes.checked_sub(1).ok_or(ConstraintError::TooLarge)?;
        Ok(())
    }
}

struct Weigher<'a> {
    left: &'a mut Translation,
    /// Whether case may not matter from here on; if it was so anywhere before, it counts as so.
    folds: bool,
    /// How many brackets and operators are around: each looks at all that is in it.
    around: u64,
}

impl Weigher<'_> {
    fn flags(&mut self, flags: &Flags) {
        self.folds |= flags.flag_state(Flag::CaseInsensitive) == Some(true);
    }

    fn fold(&mut self, characters: u64, times: u64) -> Result<(), ConstraintError> {
        if self.folds {
            let all = characters.saturating_mul(times);
            let left = self.left.folded.checked_sub(all);
            self.left.folded = left.ok_or(ConstraintError::TooLarge)?;
        }
        Ok(())
    }
}

impl Visitor for Weigher<'_> {
    type Output = ();
    type Err = ConstraintError;

    fn finish(self) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ConstraintError> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind {
                    self.flags(flags);
                }
            }
            // The letters, digits and spaces of Unicode have no other cases outside of themselves.
            Ast::ClassPerl(_) => self.left.class()?,
            Ast::ClassUnicode(_) => {
                self.left.class()?;
                self.fold(EVERY_CHARACTER, 1)?;
            }
            Ast::ClassBracketed(_) => {
                self.left.class()?;
                self.around = 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), ConstraintError> {
        let characters = match item {
            ClassSetItem::Empty(_) | ClassSetItem::Union(_) => 0,
            ClassSetItem::Literal(_) => 1,
            ClassSetItem::Range(range) => {
                let (start, end) = (u64::from(range.start.c), u64::from(range.end.c));
                end.saturating_sub(start).saturating_add(1)
            }
            ClassSetItem::Ascii(class) if !class.negated => 128,
            // What is in it is counted where it stands.
            ClassSetItem::Bracketed(class) if !class.negated => 0,
            ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => EVERY_CHARACTER,
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => EVERY_CHARACTER,
        };
        self.fold(characters, self.around)?;
        match item {
            ClassSetItem::Bracketed(_) => {
                self.left.class()?;
                self.around = self.around.saturating_add(1);
            }
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => self.left.class()?,
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_post(&mut self, item: &ClassSetItem) -> Result<(), ConstraintError> {
        if matches!(item, ClassSetItem::Bracketed(_)) {
            self.around = self.around.saturating_sub(1);
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(
        &mut self,
        _: &ClassSetBinaryOp,
    ) -> Result<(), ConstraintError> {
        self.left.class()?;
        self.around = self.around.saturating_add(1);
        Ok(())
    }

    fn visit_class_set_binary_op_post(
        &mut self,
        _: &ClassSetBinaryOp,
    ) -> Result<(), ConstraintError> {
        self.around = self.around.saturating_sub(1);
        Ok(())
    }
}

/// Most bytes of all patterns of a constraint together. A pattern this long takes as many parts of
/// memory as a schema of the largest size.
pub const MAX_PATTERN_BYTES: usize = 8 * 1024;
/// Most classes of all patterns together, `\w` and `[a-z]` alike: each is up to a few thousand ranges.
pub(crate) const MAX_CLASSES: usize = 512;
/// Most characters whose other cases are looked for, over all classes: some ten milliseconds.
pub(crate) const MAX_FOLDED: u64 = 1 << 23;
/// As many as there may be in one class.
const EVERY_CHARACTER: u64 = 0x11_0000;
