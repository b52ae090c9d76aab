//! What an answer says about itself, so that the receipt can be held against it. Only numbers and
//! closed words are kept.

use chrysalis_api::{Answer, FinishReason};
use chrysalis_receipt::Finish;

use crate::error::ClientError;

/// What an answer said about itself so far.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Prompt and completion tokens.
    pub(crate) tokens: Option<(u32, u32)>,
    /// Why it ended.
    pub(crate) finish: Option<Finish>,
}

impl Observed {
    /// Takes note of one JSON object of the answer: a chunk of a stream or a whole body.
    ///
    /// # Errors
    /// [`ClientError::Answer`] if it does not have the API's shape.
    pub(crate) fn note(&mut self, json: &[u8]) -> Result<(), ClientError> {
        let answer = Answer::parse(json).map_err(ClientError::Answer)?;
        if let Some(usage) = answer.usage {
            self.tokens = Some((usage.prompt, usage.completion));
        }
        if let Some(finish) = answer.finish {
            // Of several choices one that was cut decides.
            self.finish = match (finish, self.finish) {
                (FinishReason::Length, _) => Some(Finish::Length),
                (FinishReason::Stop | FinishReason::ToolCalls, before) => {
                    before.or(Some(Finish::Stop))
                }
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_usage_and_finish() {
        let mut seen = Observed::default();
        seen.note(br#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#)
            .unwrap();
        assert!(seen.finish.is_none() && seen.tokens.is_none());
        seen.note(br#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}"#)
            .unwrap();
        seen.note(br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#).unwrap();
        assert_eq!((seen.tokens, seen.finish), (Some((3, 4)), Some(Finish::Length)));
    }

    #[test]
    fn of_several_choices_one_that_was_cut_decides() {
        let end = |reason: &str| {
            format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#)
        };
        for order in [["stop", "length"], ["length", "stop"]] {
            let mut seen = Observed::default();
            order.iter().for_each(|reason| seen.note(end(reason).as_bytes()).unwrap());
            assert_eq!(seen.finish, Some(Finish::Length));
        }
    }

    #[test]
    fn vectors_cost_their_texts_and_come_whole() {
        let mut seen = Observed::default();
        seen.note(br#"{"object":"list","data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}"#)
            .unwrap();
        assert_eq!((seen.tokens, seen.finish), (Some((7, 0)), Some(Finish::Stop)));
    }

    #[test]
    fn refuses_a_piece_that_is_not_an_answer_without_quoting_it() {
        let error = Observed::default().note(b"canary").unwrap_err();
        assert_eq!(error.code(), "E-ANSWER-SHAPE");
        assert!(!error.to_string().contains("canary"));
    }
}
