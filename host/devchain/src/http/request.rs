//! Reads a call out of a request: which method, with which parameters. Requests are a stranger's.

use chrysalis_ton::{MAX_BOC_BYTES, account_of};
use chrysalis_wire::Digest;
use hyper::{Method, Uri};
use serde_json::{Map, Value};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ChainError;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// HTTP status, and `code` of the answer.
    pub(super) code: u16,
    pub(super) error: String,
}

impl Fault {
    pub(super) fn new(code: u16, error: impl Into<String>) -> Self {
        Self { code, error: error.into() }
    }
}

impl From<ChainError> for Fault {
    fn from(error: ChainError) -> Self {
        match error {
            // Clients of toncenter look for these words.
            ChainError::NotAccepted { exit_code } => Self::new(
                500,
                format!(
                    "LITE_SERVER_UNKNOWN: cannot apply external message to current state : \
                     External message was not accepted; exitcode={exit_code}"
                ),
            ),
            ChainError::NoContract { .. } => Self::new(
                500,
                format!(
                    "LITE_SERVER_UNKNOWN: cannot apply external message to current state : {error}"
                ),
            ),
            ChainError::Malformed { .. } | ChainError::Faucet { .. } => {
                Self::new(422, error.to_string())
            }
            other => Self::new(500, other.to_string()),
        }
    }
}

/// A method and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) method: String,
    parameters: Map<String, Value>,
    /// The number of the call, if it came in JSON-RPC.
    pub(super) rpc_id: Option<Value>,
}

impl Call {
    pub(super) fn read(method: &Method, uri: &Uri, body: &[u8]) -> Result<Self, Fault> {
        let path = uri.path();
        let name = path.strip_prefix("/api/v2/").or_else(|| path.strip_prefix('/'));
        let name = name.unwrap_or_default().to_owned();
        if *method == Method::GET {
            if WRITES.contains(&name.as_str()) {
                return Err(Fault::new(405, format!("{name} is a POST request")));
            }
            let parameters = query(uri.query().unwrap_or_default())?;
            return Ok(Self { method: name, parameters, rpc_id: None });
        }
        if *method != Method::POST {
            return Err(Fault::new(405, "only GET and POST are answered"));
        }
        let object = |value: Value| match value {
            Value::Object(object) => Ok(object),
            _ => Err(Fault::new(422, "parameters are a JSON object")),
        };
        let parsed = if body.is_empty() { Ok(Value::Object(Map::new())) } else { json(body) };
        let mut parameters = object(parsed?)?;
        if name != "jsonRPC" {
            return Ok(Self { method: name, parameters, rpc_id: None });
        }
        let Some(Value::String(method)) = parameters.remove("method") else {
            return Err(Fault::new(422, "a JSON-RPC call has a method"));
        };
        let rpc_id = Some(parameters.remove("id").unwrap_or_default());
        let inner = parameters.remove("params").unwrap_or_else(|| Value::Object(Map::new()));
        Ok(Self { method, parameters: object(inner)?, rpc_id })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.parameters.get(name).filter(|value| !value.is_null())
    }

    /// A parameter that is text; a number is taken as its digits.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(Fault::new(422, format!("{name} is no text"))),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| Fault::new(422, format!("{name} is missing")))
    }

    /// A parameter that is a number, as one or in digits.
    pub(super) fn number<T: core::str::FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let parse = |text: String| {
            text.parse().map_err(|_| Fault::new(422, format!("{name} is no number in its range")))
        };
        self.text(name)?.filter(|text| !text.is_empty()).map(parse).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(_) => Err(Fault::new(422, format!("{name} is neither true nor false"))),
        }
    }

    pub(super) fn account(&self, name: &str) -> Result<Digest, Fault> {
        account_of(&self.required(name)?).map_err(|e| Fault::new(422, format!("{name}: {e}")))
    }

    /// A bag of cells in base64; `None` if it is not there, or empty.
    pub(super) fn boc(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self.text(name)?.filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => boc(&text).map(Some),
        }
    }

    /// A list; nothing where it is not there.
    pub(super) fn list(&self, name: &str) -> Result<&[Value], Fault> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(Fault::new(422, format!("{name} is no list"))),
        }
    }
}

/// A bag of cells in base64, of a size that TON would take.
pub(super) fn boc(text: &str) -> Result<Vec<u8>, Fault> {
    let boc = STANDARD.decode(text).map_err(|_| Fault::new(422, "a bag of cells is no base64"))?;
    if boc.len() > MAX_BOC_BYTES {
        let refused = format!("a bag of cells has {} bytes, over {MAX_BOC_BYTES}", boc.len());
        return Err(Fault::new(413, refused));
    }
    Ok(boc)
}

fn json(body: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(body).map_err(|e| Fault::new(422, format!("the body is no JSON: {e}")))
}

/// The parameters of a query. A plus sign is one, because base64 has it.
fn query(text: &str) -> Result<Map<String, Value>, Fault> {
    let mut parameters = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = (decode(name), decode(value));
        let (Some(name), Some(value)) = decoded else {
            return Err(Fault::new(422, "the query is not percent-encoded UTF-8"));
        };
        if parameters.insert(name, Value::String(value)).is_some() {
            return Err(Fault::new(422, "a parameter is given twice"));
        }
    }
    Ok(parameters)
}

/// Percent-decoding (RFC 3986).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()?.checked_mul(16)?.checked_add(digit()?)?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// What changes the chain is never done by a link.
const WRITES: [&str; 5] = ["sendBoc", "sendBocReturnHash", "faucet", "advance", "jsonRPC"];

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Result<Call, Fault> {
        Call::read(&Method::GET, &uri.parse().unwrap(), &[])
    }

    fn post(path: &str, body: &str) -> Result<Call, Fault> {
        Call::read(&Method::POST, &path.parse().unwrap(), body.as_bytes())
    }

    #[test]
    fn the_three_forms_of_a_call_are_the_same_call() {
        let query = get("/api/v2/getTransactions?address=a%2Fb%2B&limit=3").unwrap();
        let body = post("/getTransactions", r#"{"address":"a/b+","limit":3}"#).unwrap();
        let rpc = post(
            "/api/v2/jsonRPC",
            r#"{"id":7,"jsonrpc":"2.0","method":"getTransactions","params":{"address":"a/b+","limit":3}}"#,
        )
        .unwrap();
        for call in [query, body, rpc.clone()] {
            assert_eq!(call.method, "getTransactions");
            assert_eq!(call.required("address").unwrap(), "a/b+");
            assert_eq!(call.number::<usize>("limit").unwrap(), Some(3));
        }
        assert_eq!(rpc.rpc_id, Some(7.into()));
    }

    #[test]
    fn refuses_what_is_no_call() {
        for (call, code) in [
            (get("/sendBoc?boc="), 405),
            (get("/faucet?address=a&amount=1"), 405),
            (get("/x?a=%zz"), 422),
            (get("/x?a=1&a=2"), 422),
            (post("/x", "[]"), 422),
            (post("/x", "{"), 422),
            (post("/jsonRPC", r#"{"params":{}}"#), 422),
            (post("/jsonRPC", r#"{"method":"x","params":[1]}"#), 422),
            (Call::read(&Method::PUT, &"/x".parse().unwrap(), &[]), 405),
        ] {
            assert_eq!(call.unwrap_err().code, code);
        }
    }

    #[test]
    fn refuses_a_bag_of_cells_one_byte_over_the_limit() {
        let text = |len| STANDARD.encode(vec![0u8; len]);
        assert_eq!(boc(&text(MAX_BOC_BYTES)).unwrap().len(), MAX_BOC_BYTES);
        assert_eq!(boc(&text(MAX_BOC_BYTES + 1)).unwrap_err().code, 413);
    }
}
