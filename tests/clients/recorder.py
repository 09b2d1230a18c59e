"""Stands in for the functions: consents to the handshake of either schema, takes every delivery, and shows all of them at GET /deliveries,
CloudEvents with what their JSON Schema says against them. Usage: recorder.py SCHEMA ADDRESS_FILE"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from jsonschema import Draft7Validator, FormatChecker

DELIVERIES = []


def violations(body):
    """What the schema says against a delivered body."""
    try:
        return [error.message for error in VALIDATOR.iter_errors(json.loads(body))]
    except ValueError as error:
        return [str(error)]


class Functions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self):
        self.answer(200, b"", {"WebHook-Allowed-Origin": self.headers["WebHook-Request-Origin"]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["aeg-event-type"] == "SubscriptionValidation":
            code = json.loads(body)[0]["data"]["validationCode"]
            return self.answer(200, json.dumps({"validationResponse": code}).encode())
        delivery = {
            "function": parse_qs(urlsplit(self.path).query)["functionName"][0],
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body,
            "violations": violations(body) if "cloudevents" in self.headers["Content-Type"] else [],
        }
        DELIVERIES.append(delivery)
        self.answer(202, b"")

    def do_GET(self):
        self.answer(200, json.dumps(DELIVERIES).encode(), {"Content-Type": "application/json"})

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


schema, address_file = sys.argv[1:]
with open(schema) as file:
    VALIDATOR = Draft7Validator(json.load(file), format_checker=FormatChecker())
# A validator that lets everything pass would prove nothing.
good = {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "time": "2026-11-24T10:00:00Z"}
assert not violations(json.dumps(good))
for name, bad in [("id", ""), ("source", "a b"), ("time", "today"), ("dataschema", "relative"), ("subject", 1)]:
    assert violations(json.dumps({**good, name: bad})), name

server = ThreadingHTTPServer(("127.0.0.1", 0), Functions)
with open(address_file + ".draft", "w") as file:
    file.write(f"http://127.0.0.1:{server.server_port}")
os.rename(address_file + ".draft", address_file)
server.serve_forever()
