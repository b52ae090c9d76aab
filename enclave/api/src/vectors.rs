//! Reads the vectors of a worker's answer. The worker is attested, but its bytes are still bounded and
//! checked, and a vector is as secret as its text.

use core::fmt;

use zeroize::Zeroizing;

use crate::answer::AnswerError;
use crate::json::{Object, Value};
use crate::limits::{MAX_ANSWER_BYTES, MAX_DIMENSIONS, MAX_EMBEDDING_INPUTS};
use crate::refusal::RequestError;

/// Vectors of equal length, in the order of their texts. Wiped on drop; does not print.
pub struct Vectors(Zeroizing<Vec<Vec<f32>>>);

impl Vectors {
    /// Reads an answer that was asked for as numbers, to a request of `texts` texts.
    ///
    /// # Errors
    /// [`AnswerError`] for JSON of another shape, other or fewer vectors than were asked for, or vectors
    /// of different lengths.
    pub fn parse(json: &[u8], texts: usize) -> Result<Self, AnswerError> {
        Ok(Self::read(json, texts)?)
    }

    fn read(json: &[u8], texts: usize) -> Result<Self, RequestError> {
        let data = Object::parse_lenient(json, MAX_ANSWER_BYTES)?.required("data")?;
        let items = data.elements(MAX_EMBEDDING_INPUTS)?;
        if items.len() != texts {
            let (param, expected) = (data.path(), "one vector for each text");
            return Err(RequestError::WrongType { param, expected });
        }
        let mut vectors: Zeroizing<Vec<Vec<f32>>> = Zeroizing::new(Vec::with_capacity(texts));
        for (at, item) in (0i64..).zip(&items) {
            let item = item.object_lenient()?;
            // In order: whoever reads the answer counts.
            item.required("index")?.integer(at, at)?;
            let value = item.required("embedding")?;
            let vector = numbers(&value)?;
            if vectors.first().is_some_and(|first| first.len() != vector.len()) {
                let (param, expected) = (value.path(), "a vector as long as the others");
                return Err(RequestError::WrongType { param, expected });
            }
            vectors.push(vector);
        }
        Ok(Self(vectors))
    }

    /// The vectors, for as long as the borrow lasts.
    #[must_use]
    pub fn expose(&self) -> &[Vec<f32>] {
        &self.0
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted {} vectors>", self.0.len())
    }
}

fn numbers(value: &Value<'_>) -> Result<Vec<f32>, RequestError> {
    let elements = value.elements(MAX_DIMENSIONS)?;
    let mut vector = Vec::with_capacity(elements.len());
    for element in &elements {
        #[expect(clippy::cast_possible_truncation, reason = "it was written from an f32")]
        let number = element.number()? as f32;
        vector.push(number);
    }
    Ok(vector)
}
