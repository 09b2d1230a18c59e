"""Validates the JSON Schemas of the events, the samples against them, the AsyncAPI document's examples against its schemas,
and the OpenAPI document against its specification.

Usage: documents.py, in the repository's root. Prints how many documents are valid; any finding ends it with 1.
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

OPENAPI, ASYNCAPI = Path("schemas/openapi.json"), Path("schemas/asyncapi.json")
findings, valid = [], 0


def judge(name, errors):
    global valid
    errors = [f"{name}: {error.json_path}: {error.message}" for error in errors]
    findings.extend(errors)
    valid += not errors


def read(path):
    return json.loads(path.read_text())


meta_schema = Draft202012Validator(Draft202012Validator.META_SCHEMA)
for path in sorted(Path("schemas").glob("**/*.json")):
    if path in (OPENAPI, ASYNCAPI):
        continue
    schema = read(path)
    judge(path, meta_schema.iter_errors(schema))
    if "released" in path.parts:
        continue
    sample = Path("samples") / path.name
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    judge(f"{sample} by {path}", validator.iter_errors(read(sample)["data"]))
# AsyncAPI's own parser judges the document, but not its examples.
components = read(ASYNCAPI)["components"]
for name, message in components["messages"].items():
    # References begin at the document's root.
    schema = {**message["payload"], "components": components}
    validator = Draft7Validator(schema, format_checker=Draft7Validator.FORMAT_CHECKER)
    for example in message["examples"]:
        judge(f"{ASYNCAPI}: {name}", validator.iter_errors(example["payload"]))
judge(OPENAPI, OpenAPIV31SpecValidator(read(OPENAPI)).iter_errors())

print("\n".join(findings) or f"{valid} documents are valid")
sys.exit(1 if findings else 0)
