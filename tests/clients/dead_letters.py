"""Dead letters of `orderflow grid` in a container of Azurite, read with Azure's SDK for Python.
Usage: dead_letters.py ORDERFLOW AZURITE FOLDER"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from azure.storage.blob import BlobServiceClient

ORDERFLOW, AZURITE, FOLDER = sys.argv[1:]
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
TERMINAL = f"{FOLDER}/terminal.log"


class Webhook(BaseHTTPRequestHandler):
    """Consents to the handshake, and answers deliveries with `status`."""

    protocol_version = "HTTP/1.1"
    status = 400
    taken = []

    def do_OPTIONS(self):
        self.answer(200, {"WebHook-Allowed-Origin": "*"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.status == 200:
            self.taken.append(body)
        self.answer(self.status, {})

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def passed(what):
    print(f"ok: Azurite: {what}", flush=True)


def until(what, condition):
    deadline = time.monotonic() + 60
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)
    return result


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def azurite():
    process = subprocess.Popen(
        ["node", AZURITE, "--blobHost", "127.0.0.1", "--blobPort", str(STORAGE), "--location", f"{FOLDER}/azurite",
         "--silent", "--skipApiVersionCheck", "--disableTelemetry"],
        stdout=subprocess.DEVNULL, start_new_session=True,
    )
    until("Azurite listens", lambda: listens(STORAGE))
    return process


def end(process, port):
    """Ends the process and its children: `node` may be a wrapper."""
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=30)
    until("nobody listens", lambda: not listens(port))


def ask(path, body=None, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{GRID}{path}", body and body.encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


def publish(event_id):
    event = {"specversion": "1.0", "id": event_id, "source": "/tests", "type": "T", "data": {"größe": 1.50}}
    body = json.dumps(event, ensure_ascii=False)
    ask("/api/events", body, **{"aeg-sas-key": "local-development", "Content-Type": "application/cloudevents+json"})
    return body


def state(event_id):
    events = ask("/events")["events"]
    return next(one["deliveries"][0]["state"] for one in events if one["event"]["id"] == event_id)


def says(words):
    """How often the terminal says so."""
    with open(TERMINAL) as file:
        return file.read().count(words)


STORAGE, GRID = free_port(), free_port()
hook = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
with open(f"{FOLDER}/hook.json", "w") as file:
    json.dump({"hook": {
        "destination": {"endpointType": "WebHook", "properties": {"endpointUrl": f"http://127.0.0.1:{hook.server_port}/"}},
        "deadLetterDestination": {"endpointType": "StorageBlob", "properties": {"resourceId": "r", "blobContainerName": "c"}},
    }}, file)
account = f"http://127.0.0.1:{STORAGE}/devstoreaccount1"
container = BlobServiceClient(account, {"account_name": "devstoreaccount1", "account_key": KEY}).get_container_client("letters")
storage = azurite()
with open(TERMINAL, "w") as terminal:
    grid = subprocess.Popen(
        [ORDERFLOW, "grid", "--grid-port", str(GRID), "--data", f"{FOLDER}/data", "--subscriptions", f"{FOLDER}/hook.json",
         "--dead-letters", f"{account}/letters", "--dead-letter-hold", "0"],
        stdout=terminal, stderr=terminal, start_new_session=True,
    )
try:
    until("the grid listens", lambda: listens(GRID))
    until("the missing container is told of", lambda: says(f"dead letters cannot be kept in {account}/letters: there is no container letters"))
    publish("no-container")
    until("the event is dropped", lambda: state("no-container") == "dropped")
    assert says("is dropped after 1 attempt (") and says("since its dead letter cannot be kept: there is no container letters")
    passed("without the container an event is dropped, loudly")

    container.create_container()
    first = publish("first")
    until("the event is a dead letter", lambda: state("first") == "deadLettered")
    [blob] = container.list_blobs()
    assert re.fullmatch(r"HOOK/20\d\d/[1-9]\d?/[1-9]\d?/(0|[1-9]\d?)/[0-9a-f-]{36}\.json", blob.name), blob.name
    assert blob.content_settings.content_type == "application/json" and blob.blob_type == "BlockBlob", blob
    [letter] = json.loads(container.download_blob(blob.name).readall())
    assert {name: letter[name] for name in json.loads(first)} == json.loads(first), letter
    assert letter["deadletterreason"] == "UndeliverableDueToHttpBadRequest" and letter["deliveryattempts"] == 1, letter
    assert letter["lastdeliveryoutcome"] == "BadRequest" and letter["publishtime"] and letter["lastdeliveryattempttime"], letter
    passed("a dead letter is a block blob where Event Grid puts it, with its event and the reason")
    assert ask("/deadletters") == {"deadLetters": [{"path": blob.name, "events": [letter]}]}
    passed("it is listed")

    end(storage, STORAGE)
    publish("second")
    until("the outage is told of", lambda: says("the blob storage is not reached"))
    assert state("second") == "pending"
    try:
        raise AssertionError(ask("/deadletters"))
    except urllib.error.HTTPError as error:
        assert error.code == 500 and "is not reached" in error.read().decode()
    storage = azurite()
    until("the event is a dead letter", lambda: state("second") == "deadLettered")
    until("the end of both outages is told of", lambda: says(f"dead letters are kept in {account}/letters again") == 2)
    listed = ask("/deadletters")["deadLetters"]
    assert [one["events"][0]["id"] for one in listed] == ["second", "first"], listed
    passed("a letter waits for a storage that was stopped, and is listed before the older one")

    Webhook.status = 200
    replayed = ask("/deadletters/replay", json.dumps({"path": blob.name}))
    assert replayed == {"replayedTo": "hook"}, replayed
    until("the replayed event is delivered", lambda: Webhook.taken == [first])
    [left] = container.list_blobs()
    assert left.name == listed[0]["path"] != blob.name, left.name
    for path in (blob.name, "../letters/x.json", "HOOK/2026/1/1/1/none.json"):
        try:
            raise AssertionError(ask("/deadletters/replay", json.dumps({"path": path})))
        except urllib.error.HTTPError as error:
            assert error.code == 404, (path, error.code)
    passed("a replayed letter is delivered byte for byte, and its blob is gone")
except BaseException:
    with open(TERMINAL) as file:
        print(file.read(), file=sys.stderr)
    raise
finally:
    end(grid, GRID)
    end(storage, STORAGE)
