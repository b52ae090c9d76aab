//! `GET /v1/models` and `GET /v1/models/{id}`. Nothing here is secret.

use chrysalis_wire::UnixTime;
use chrysalis_wire::manifest::ModelTask;
use serde::Serialize;

use crate::encode;

/// One model as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Name in the API.
    pub id: String,
    /// When the server began to serve it.
    pub created: UnixTime,
    /// Who serves it.
    pub owned_by: String,
    /// What it does.
    pub task: ModelTask,
}

/// The endpoints that a model is served at.
#[must_use]
pub const fn served_at(task: ModelTask) -> &'static [&'static str] {
    match task {
        ModelTask::Text => &["/v1/chat/completions", "/v1/completions", "/v1/responses"],
        ModelTask::Embedding => &["/v1/embeddings"],
    }
}

impl ModelCard {
    /// The body of `GET /v1/models/{id}`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        encode::json(&CardJson::from(self))
    }
}

/// The body of `GET /v1/models`.
#[must_use]
pub fn models_json(models: &[ModelCard]) -> Vec<u8> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<CardJson<'a>>,
    }
    encode::json(&List { object: "list", data: models.iter().map(CardJson::from).collect() })
}

#[derive(Serialize)]
struct CardJson<'a> {
    id: &'a str,
    object: &'static str,
    created: UnixTime,
    owned_by: &'a str,
    /// Not OpenAI's: its clients leave it alone.
    endpoints: &'static [&'static str],
}

impl<'a> From<&'a ModelCard> for CardJson<'a> {
    fn from(card: &'a ModelCard) -> Self {
        Self {
            id: &card.id,
            object: "model",
            created: card.created,
            owned_by: &card.owned_by,
            endpoints: served_at(card.task),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_models_in_the_shape_the_sdks_read() {
        let card = ModelCard {
            id: "m".into(),
            created: UnixTime(5),
            owned_by: "chrysalis".into(),
            task: ModelTask::Embedding,
        };
        let one = r#"{"id":"m","object":"model","created":5,"owned_by":"chrysalis","endpoints":["/v1/embeddings"]}"#;
        assert_eq!(card.to_json(), one.as_bytes());
        let list = format!(r#"{{"object":"list","data":[{one}]}}"#);
        assert_eq!(models_json(&[card]), list.as_bytes());
    }
}
