//! `schemas/openapi.json`: the HTTP API as an OpenAPI 3.1 document, made from the registry's HTTP functions and from
//! what `handler::api` says that they want and answer, with the types that it reads and writes.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::{
    functions::{FUNCTIONS, Function, Trigger},
    handler::api::{self, Answer, Body, Operation, Parameter, Place},
};

use super::{Artifact, samples::new_order, schemas};

/// The parameter in the path that links are made for.
const ORDER_ID: &str = "orderId";

/// The HTTP functions of the registry that `handler::api` does not describe.
pub(super) fn undescribed() -> impl Iterator<Item = &'static str> {
    http_functions()
        .filter(|(function, ..)| api::operation(function).is_none())
        .map(|(function, ..)| function.name)
}

pub(super) fn artifact() -> Artifact {
    let mut types = Types {
        requests: schemas::for_requests(),
        answers: schemas::for_answers(),
    };
    let mut paths = Map::new();
    for (function, method, route) in http_functions() {
        let Some(operation) = api::operation(function) else {
            continue;
        };
        let path = paths.entry(format!("/api/{route}"));
        if let Some(methods) = path.or_insert_with(|| json!({})).as_object_mut() {
            methods.insert(method.to_ascii_lowercase(), types.operation(operation));
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Orderflow",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Place, look up, list and cancel orders. Every refusal is a problem document (RFC 9457). \
                Unknown fields are ignored.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") }
        },
        "servers": [
            { "url": "http://127.0.0.1:7071", "description": "`orderflow dev` or `func start`; neither asks for a key." },
            {
                "url": "https://{app}.azurewebsites.net",
                "description": "A function app in Azure.",
                "variables": { "app": { "default": "APP", "description": "The function app's name." } }
            }
        ],
        // Functions have the authLevel `function`, which the tools for one machine do not enforce.
        "security": [{ "functionKey": [] }, { "functionKeyInQuery": [] }, {}],
        "paths": paths,
        "components": { "schemas": types.collected(), "securitySchemes": {
            "functionKey": {
                "type": "apiKey", "in": "header", "name": "x-functions-key",
                "description": "A function's key or the app's; in Azure only."
            },
            "functionKeyInQuery": { "type": "apiKey", "in": "query", "name": "code", "description": "The same in the query." }
        } }
    });
    Artifact::json("schemas/openapi.json", &document)
}

/// Every HTTP function, with its method and its route.
fn http_functions() -> impl Iterator<Item = (&'static Function, &'static str, &'static str)> {
    FUNCTIONS
        .iter()
        .filter_map(|function| match function.trigger {
            Trigger::Http { method, route } => Some((function, method, route)),
            Trigger::EventGrid { .. } | Trigger::Timer { .. } => None,
        })
}

/// Collects the types that the operations read and write.
struct Types {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Types {
    fn operation(&mut self, operation: &Operation) -> Value {
        let mut parameters: Vec<_> = operation
            .parameters
            .iter()
            .map(|parameter| self.parameter(parameter))
            .collect();
        parameters.extend(self.query(operation));
        let mut answers: Map<_, _> = operation
            .answers
            .iter()
            .map(|answer| (answer.status.as_str().to_owned(), self.answer(answer)))
            .collect();
        let unauthorized =
            json!({ "description": "In Azure: the function's key is missing or wrong." });
        answers.insert("401".to_owned(), unauthorized);
        answers.sort_keys();
        let mut described = json!({
            "operationId": operation.function,
            "summary": operation.summary,
            "description": operation.description,
            "parameters": parameters,
        });
        if let Some(fields) = described.as_object_mut() {
            if let Some(body) = operation.body {
                let schema = body(&mut self.requests);
                let content = json!({ "schema": schema, "example": new_order() });
                fields.insert(
                    "requestBody".to_owned(),
                    json!({ "required": true, "content": { "application/json": content } }),
                );
            }
            fields.insert("responses".to_owned(), Value::Object(answers));
        }
        described
    }

    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let (place, required) = match parameter.place {
            Place::Path => ("path", true),
            Place::Header => ("header", false),
        };
        json!({
            "name": parameter.name,
            "in": place,
            "required": required,
            "description": parameter.description,
            "schema": (parameter.schema)(&mut self.requests)
        })
    }

    /// A parameter for each field of the query's type.
    fn query(&mut self, operation: &Operation) -> Vec<Value> {
        let Some(query) = operation.query else {
            return Vec::new();
        };
        // Its fields are spelled out here, so nothing is to refer to the type itself.
        let reference = query(&mut self.requests);
        let name = reference
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| reference.rsplit('/').next())
            .unwrap_or_default();
        let query = self.requests.definitions_mut().shift_remove(name);
        let fields = query
            .as_ref()
            .and_then(|query| query.get("properties"))
            .and_then(Value::as_object);
        let parameter = |(name, schema): (&String, &Value)| {
            let mut schema = schema.clone();
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.shift_remove("description"));
            json!({
                "name": name,
                "in": "query",
                "required": false,
                "description": description,
                "schema": schema
            })
        };
        fields.into_iter().flatten().map(parameter).collect()
    }

    fn answer(&mut self, answer: &Answer) -> Value {
        let (media_type, schema) = match answer.body {
            Body::Json(schema) => ("application/json", schema(&mut self.answers)),
            Body::Problem => (
                "application/problem+json",
                (api::PROBLEM)(&mut self.answers),
            ),
        };
        let headers: Map<_, _> = answer
            .headers
            .iter()
            .map(|(name, description)| {
                let header = json!({ "description": description, "schema": { "type": "string" } });
                ((*name).to_owned(), header)
            })
            .collect();
        let links: Map<_, _> = answer
            .leads_to
            .iter()
            .map(|function| {
                let parameters = json!({ ORDER_ID: format!("$response.body#/{ORDER_ID}") });
                let link = json!({ "operationId": function, "parameters": parameters });
                ((*function).to_owned(), link)
            })
            .collect();
        let mut described = Map::new();
        described.insert("description".to_owned(), json!(answer.description));
        if !headers.is_empty() {
            described.insert("headers".to_owned(), Value::Object(headers));
        }
        let content = json!({ media_type: { "schema": schema } });
        described.insert("content".to_owned(), content);
        if !links.is_empty() {
            described.insert("links".to_owned(), Value::Object(links));
        }
        Value::Object(described)
    }

    /// All types by name. Those that requests and answers share look alike.
    fn collected(&mut self) -> Map<String, Value> {
        let mut types = self.answers.take_definitions(true);
        types.extend(self.requests.take_definitions(true));
        types.sort_keys();
        types
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_and_answers_have_in_common_is_the_same() {
        let mut types = Types {
            requests: schemas::for_requests(),
            answers: schemas::for_answers(),
        };
        for operation in api::OPERATIONS {
            types.operation(operation);
        }
        let requests = types.requests.take_definitions(true);
        let answers = types.answers.take_definitions(true);
        let mut common = 0;
        for (name, schema) in &requests {
            if let Some(answered) = answers.get(name) {
                assert_eq!(answered, schema, "{name}");
                common += 1;
            }
        }
        assert!(common > 5, "{common}");
    }
}
