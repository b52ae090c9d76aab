//! A grammar over bytes: expressions, and the small program they become. Expressions are made from what a
//! request says, so their size is bounded here, and what can never be completed is left out: wherever
//! the program is, an end can be reached.

use crate::constrain::ConstraintError;

/// What text may look like.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// Nothing, which is there.
    Empty,
    /// What cannot be.
    Never,
    /// One byte of a range.
    Byte(u8, u8),
    /// These bytes.
    Text(Vec<u8>),
    /// One after the other.
    Seq(Vec<Self>),
    /// One of them.
    Any(Vec<Self>),
    /// At least so often, and at most.
    Repeat(Box<Self>, u32, Option<u32>),
    /// Another rule, by its index.
    Rule(usize),
}

impl Expr {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(crate) fn optional(self) -> Self {
        Self::Repeat(Box::new(self), 0, Some(1))
    }

    /// How many rules deep it must at least go to end; `None` if it cannot.
    fn height(&self, rules: &[Option<usize>]) -> Option<usize> {
        match self {
            Self::Empty | Self::Byte(..) | Self::Text(_) | Self::Repeat(_, 0, _) => Some(0),
            Self::Never => None,
            Self::Seq(parts) => {
                parts.iter().try_fold(0, |most, part| Some(part.height(rules)?.max(most)))
            }
            Self::Any(parts) => parts.iter().filter_map(|part| part.height(rules)).min(),
            Self::Repeat(part, ..) => part.height(rules),
            Self::Rule(rule) => rules.get(*rule)?.map(|height| height.saturating_add(1)),
        }
    }
}

/// One step of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Takes a byte from the first to the second and goes on with the next step.
    Byte(u8, u8),
    /// Goes on with the next step, and with this one.
    Split(u32),
    /// Goes on with this step.
    Jump(u32),
    /// Goes on with a rule, then with the next step.
    Call(u32),
    /// Ends a rule.
    Return,
}

/// A rule of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Its first step.
    pub(crate) start: u32,
    /// How many rules deep it must at least go.
    pub(crate) height: usize,
}

/// A grammar that can be run. It begins with rule 0.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) rules: Vec<Rule>,
}

impl Program {
    /// The program of `rules`.
    ///
    /// # Errors
    /// [`ConstraintError::Unmeetable`] if no text is an instance of the first rule,
    /// [`ConstraintError::TooLarge`] over [`MAX_OPS`].
    pub(crate) fn new(rules: &[Expr]) -> Result<Self, ConstraintError> {
        let heights = heights(rules);
        if heights.first().copied().flatten().is_none_or(|height| height >= MAX_DEPTH) {
            return Err(ConstraintError::Unmeetable);
        }
        let mut program = Self { ops: Vec::new(), rules: Vec::with_capacity(rules.len()) };
        for (rule, height) in rules.iter().zip(&heights) {
            let (start, height) = (program.here()?, height.unwrap_or(MAX_DEPTH));
            program.rules.push(Rule { start, height });
            program.emit(rule, &heights)?;
            program.push(Op::Return)?;
        }
        Ok(program)
    }

    fn here(&self) -> Result<u32, ConstraintError> {
        u32::try_from(self.ops.len()).map_err(|_| ConstraintError::TooLarge)
    }

    fn push(&mut self, op: Op) -> Result<usize, ConstraintError> {
        if self.ops.len() >= MAX_OPS {
            return Err(ConstraintError::TooLarge);
        }
        self.ops.push(op);
        Ok(self.ops.len().saturating_sub(1))
    }

    /// Points the jump or split at `at` to the end.
    fn land(&mut self, at: usize) -> Result<(), ConstraintError> {
        let here = self.here()?;
        match self.ops.get_mut(at) {
            Some(Op::Split(target) | Op::Jump(target)) => *target = here,
            _ => return Err(ConstraintError::TooLarge),
        }
        Ok(())
    }

    fn emit(&mut self, expr: &Expr, heights: &[Option<usize>]) -> Result<(), ConstraintError> {
        let possible = |expr: &Expr| expr.height(heights).is_some();
        match expr {
            Expr::Empty => {}
            // No byte is at least 1 and at most 0.
            Expr::Never => drop(self.push(Op::Byte(1, 0))?),
            Expr::Byte(low, high) => drop(self.push(Op::Byte(*low, *high))?),
            Expr::Text(text) => {
                for byte in text {
                    self.push(Op::Byte(*byte, *byte))?;
                }
            }
            Expr::Seq(parts) => parts.iter().try_for_each(|part| self.emit(part, heights))?,
            Expr::Any(parts) => {
                let parts: Vec<&Expr> = parts.iter().filter(|part| possible(part)).collect();
                let Some((last, others)) = parts.split_last() else {
                    return self.emit(&Expr::Never, heights);
                };
                let mut ends = Vec::with_capacity(others.len());
                for part in others {
                    let split = self.push(Op::Split(0))?;
                    self.emit(part, heights)?;
                    ends.push(self.push(Op::Jump(0))?);
                    self.land(split)?;
                }
                self.emit(last, heights)?;
                ends.into_iter().try_for_each(|end| self.land(end))?;
            }
            Expr::Repeat(part, min, max) => {
                for _ in 0..*min {
                    let before = self.ops.len();
                    self.emit(part, heights)?;
                    if self.ops.len() == before {
                        // Nothing, however often.
                        break;
                    }
                }
                if !possible(part) {
                    return Ok(());
                }
                match max {
                    None => {
                        let start = self.here()?;
                        let split = self.push(Op::Split(0))?;
                        self.emit(part, heights)?;
                        self.push(Op::Jump(start))?;
                        self.land(split)?;
                    }
                    Some(max) => {
                        let mut splits = Vec::new();
                        for _ in *min..*max {
                            splits.push(self.push(Op::Split(0))?);
                            self.emit(part, heights)?;
                        }
                        splits.into_iter().try_for_each(|split| self.land(split))?;
                    }
                }
            }
            Expr::Rule(rule) => {
                let rule = u32::try_from(*rule).map_err(|_| ConstraintError::TooLarge)?;
                self.push(Op::Call(rule))?;
            }
        }
        Ok(())
    }
}

/// How deep each rule must at least go. A round settles the rules of one height more.
fn heights(rules: &[Expr]) -> Vec<Option<usize>> {
    let mut heights = vec![None; rules.len()];
    for _ in 0..MAX_DEPTH {
        let next: Vec<_> = rules.iter().map(|rule| rule.height(&heights)).collect();
        if next == heights {
            break;
        }
        heights = next;
    }
    heights
}

/// Most steps of a program.
pub(crate) const MAX_OPS: usize = 1 << 16;
/// Deepest nesting of rules, and with it of values.
pub(crate) const MAX_DEPTH: usize = 64;
