//! Idempotency keys ("Idempotent requests").

use std::collections::HashMap;

use super::{Answer, Parameters, Request, error};

/// What is known under idempotency keys.
#[derive(Default)]
pub(super) struct Keys(HashMap<String, Entry>);

struct Entry {
    /// The object's id is as much a part of the request as its parameters are.
    operation: (String, Option<String>),
    parameters: Parameters,
    /// `None` while the first request is being executed.
    answer: Option<Answer>,
}

impl Keys {
    /// Claims a key: nothing is known under it, or an answer is, or it cannot be used.
    pub(super) fn begin(&mut self, request: &Request) -> Result<Option<Answer>, Answer> {
        let Some(key) = key(request) else {
            return Ok(None);
        };
        let operation = (request.operation.clone(), request.id.clone());
        let Some(entry) = self.0.get(key) else {
            let entry = Entry {
                operation,
                parameters: request.parameters.clone(),
                answer: None,
            };
            self.0.insert(key.to_owned(), entry);
            return Ok(None);
        };
        if (&entry.operation, &entry.parameters) != (&operation, &request.parameters) {
            let message = "Keys for idempotent requests can only be used with the same parameters they were first used with.";
            return Err(error(400, "idempotency_error", None, None, message));
        }
        let message = "There is currently another in-progress request using this Idempotent Key.";
        let (kind, code) = ("idempotency_error", Some("idempotency_key_in_use"));
        match &entry.answer {
            Some(answer) => Ok(Some(answer.clone())),
            None => Err(error(409, kind, code, None, message)),
        }
    }

    /// Stores what a request was answered, unless its key has been forgotten meanwhile.
    pub(super) fn store(&mut self, request: &Request, answer: &Answer) {
        if let Some(entry) = key(request).and_then(|key| self.0.get_mut(key)) {
            entry.answer = Some(answer.clone());
        }
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

fn key(request: &Request) -> Option<&str> {
    let post = request.operation.starts_with("POST");
    request.key.as_deref().filter(|_| post)
}
