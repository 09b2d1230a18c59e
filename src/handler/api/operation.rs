//! What an HTTP function says of itself: what it wants and what it answers. The OpenAPI document is made from it.

use axum::{http::StatusCode, routing::MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{functions::Function, handler::App};

/// An HTTP function: what serves it, and what it wants and answers.
pub struct Operation {
    /// The function's name in the registry.
    pub function: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What else to know about it.
    pub description: &'static str,
    /// What it reads in the path and the headers.
    pub parameters: &'static [Parameter],
    /// What it reads in the query: an object with a field for each parameter.
    pub query: Option<SchemaOf>,
    /// The JSON body that it reads.
    pub body: Option<SchemaOf>,
    /// What it answers.
    pub answers: &'static [Answer],
    /// The route that does it.
    pub(super) serve: fn(&'static Function) -> MethodRouter<App>,
}

/// Makes a type's schema, or a reference to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`.
pub(super) const fn of<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// A value in the path or a header.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it means.
    pub description: &'static str,
    /// What it must be.
    pub schema: SchemaOf,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, where it must be.
    Path,
    /// In a header, which may be missing.
    Header,
}

/// One answer that there may be.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When it is given.
    pub description: &'static str,
    /// Its body.
    pub body: Body,
    /// Its headers, with what they tell.
    pub headers: &'static [(&'static str, &'static str)],
    /// The functions that take the `orderId` of its body.
    pub leads_to: &'static [&'static str],
}

/// The body of an answer.
#[derive(Clone, Copy)]
pub enum Body {
    /// `application/json`.
    Json(SchemaOf),
    /// `application/problem+json`.
    Problem,
}
