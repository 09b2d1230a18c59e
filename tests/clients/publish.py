"""Publishes to the local Event Grid with Azure's SDK for Python, and reads back with it what the functions got.
Usage: publish.py GRID RECORDER GRID_WITH_TOPICS"""

import json
import logging
import os
import sys
import time
import urllib.request
from datetime import datetime, timedelta, timezone

from azure.core.credentials import AzureKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient, generate_sas
from azure.identity import ManagedIdentityCredential

# The SDK warns of its own option `enforce_https`.
logging.disable(logging.WARNING)
GRID, RECORDER, TOPICS = sys.argv[1:]
TOPIC = f"{GRID}/api/events"
KEY = "bG9jYWwtZGV2ZWxvcG1lbnQ="
PLACED, RESERVED = "Sales.OrderPlaced", "Sales.StockReserved"
with open("infra/subscriptions.json") as file:
    SUBSCRIPTIONS = json.load(file)


def read(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def passed(what):
    print(f"ok: Python: {what}", flush=True)


def deliveries(grid=GRID):
    """What every function got, once nothing is on its way."""
    deadline = time.monotonic() + 60
    while read(f"{grid}/idle")["pending"]:
        assert time.monotonic() < deadline, "the deliveries do not end"
        time.sleep(0.05)
    return read(f"{RECORDER}/deliveries")


def delivered(events):
    """Checks that each event came once to each function that takes its type, with everything it had, and as the schema wants it."""
    all_deliveries = deliveries()
    for event in events:
        mine = [one for one in all_deliveries if json.loads(one["body"])["id"] == event.id]
        takers = [name for name, one in SUBSCRIPTIONS.items() if event.type in one["includedEventTypes"]]
        assert sorted(one["function"] for one in mine) == sorted(takers), (event.id, mine)
        assert takers, event.type
        for one in mine:
            seen = vars(CloudEvent.from_json(one["body"]))
            assert seen == {**vars(event), "specversion": "1.0"}, (one["body"], vars(event))
            assert one["violations"] == [], one
            assert one["headers"]["content-type"] == "application/cloudevents+json; charset=utf-8", one
            assert one["headers"]["aeg-event-type"] == "Notification", one


def refused(client, events, error_type, status, code, **options):
    """Checks that the SDK raises its own error, which has read the answer, and that nothing is delivered."""
    before = len(deliveries())
    try:
        client.send(events, **options)
    except error_type as error:
        assert (error.status_code, error.error and error.error.code) == (status, code), error
    else:
        raise AssertionError(f"accepted, though {status} was due")
    assert len(deliveries()) == before


def event(event_id, event_type=PLACED, **more):
    return CloudEvent("/python/tests", event_type, id=f"python-{event_id}", **more)


def client(credential, endpoint=TOPIC):
    return EventGridPublisherClient(endpoint, credential)


def sas(endpoint, hours):
    return AzureSasCredential(generate_sas(endpoint, KEY, datetime.now(timezone.utc) + timedelta(hours=hours)))


by_key = client(AzureKeyCredential(KEY))
one = event(
    "one",
    subject="orders/größe 1",
    time=datetime(2026, 11, 24, 10, 0, 0, 123456, timezone.utc),
    datacontenttype="application/json",
    dataschema="https://example.com/order.json",
    data={"größe": [1, 2.5, None, True, {"a": "€ \" \\ \u2028 🌎"}]},
    extensions={
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "correlationid": "größe/1",
        "sequence": 7,
        "test": True,
    },
)
by_key.send(one)
delivered([one])
passed("an event with every attribute and extensions, by access key")

batch = [
    event("text", datacontenttype="text/plain", data="Hello, 🌎!"),
    event("binary", RESERVED, datacontenttype="application/octet-stream", data=bytes(range(256))),
    event("array", RESERVED, data=[1, "two", None]),
    event("number", data=42),
    event("nothing"),
]
by_key.send(batch)
delivered(batch)
passed("a batch with text, bytes, JSON and nothing")

as_dictionary = event("dictionary", data={"a": 1}, extensions={"partitionkey": "p"})
by_key.send({
    "specversion": "1.0", "id": as_dictionary.id, "source": as_dictionary.source, "type": as_dictionary.type,
    "time": as_dictionary.time.isoformat(), "data": {"a": 1}, "partitionkey": "p",
})
delivered([as_dictionary])
passed("an event in a dictionary")

large = [event(f"large-{number}", data="x" * 200_000) for number in range(5)]
by_key.send(large)
delivered(large)
passed("a megabyte in one request")

by_sas = event("sas", data={"by": "SAS"})
client(sas(TOPIC, 1)).send(by_sas)
delivered([by_sas])
passed("by a SAS token that the SDK makes")

# Where the SDK looks for it in Azure too. Without TLS it sends a bearer token only if asked to.
os.environ["IDENTITY_ENDPOINT"] = f"{GRID}/msi/token"
os.environ["IDENTITY_HEADER"] = "local-development"
identity = ManagedIdentityCredential()
by_token = [event("token-1", data={"by": "token"}), event("token-2", RESERVED)]
client(identity).send(by_token, enforce_https=False)
delivered(by_token)
passed("by a bearer token of a managed identity")


class Foreign:
    """Shows a genuine token that was issued for something else."""

    def get_token(self, *_, **options):
        return identity.get_token("https://vault.azure.net/.default", **options)


class Forged:
    def get_token(self, *_, **options):
        token = identity.get_token("https://eventgrid.azure.net/.default", **options)
        return token._replace(token=token.token[:-8] + "AAAAAAAA")


unwanted = event("unwanted")
no_access = (ClientAuthenticationError, 401, "Unauthorized")
refused(client(AzureKeyCredential("d3Jvbmc=")), unwanted, *no_access)
passed("a wrong access key raises ClientAuthenticationError")
refused(client(sas(TOPIC, -1)), unwanted, *no_access)
passed("an expired SAS token raises ClientAuthenticationError")
refused(client(sas("http://127.0.0.1:1/api/events", 1)), unwanted, *no_access)
passed("a SAS token for another topic raises ClientAuthenticationError")
refused(client(Foreign()), unwanted, *no_access, enforce_https=False)
passed("a token for another audience raises ClientAuthenticationError")
refused(client(Forged()), unwanted, *no_access, enforce_https=False)
passed("a forged token raises ClientAuthenticationError")

too_large = (HttpResponseError, 413, "RequestEntityTooLarge")
refused(by_key, [event(f"x-{number}", data="x" * 220_000) for number in range(5)], *too_large)
passed("more than a megabyte raises HttpResponseError 413")
refused(by_key, [event(f"x-{number}") for number in range(5_001)], *too_large)
passed("more than 5000 events raise HttpResponseError 413")

bad = (HttpResponseError, 400, "BadRequest")
refused(by_key, [event("x-good"), event("x-bad", subject="a\x07b")], *bad)
passed("one bad event refuses the batch with HttpResponseError 400")
refused(by_key, EventGridEvent("s", PLACED, {}, "1.0"), *bad)
passed("an event of the Event Grid schema raises HttpResponseError 400")


# Several topics, one of them in the Event Grid schema and at a port of its own.
ADDRESSES = {topic["name"]: topic["addresses"] for topic in read(TOPICS)["topics"]}
BY_PORT, BY_PATH = ADDRESSES["stock"]
[PARCELS] = ADDRESSES["parcels"]


def of_subscription(name, event_id):
    """The bodies that this subscription got of an event, in JSON."""
    bodies = [json.loads(one["body"]) for one in deliveries(TOPICS) if one["headers"]["aeg-subscription-name"] == name]
    return [body for body in bodies if (body[0] if isinstance(body, list) else body)["id"] == event_id]


def counted(event_id):
    return EventGridEvent(
        "stock/größe 1", "Stock.Counted", {"größe": [1, 2.5, None, "€ 🌎"]}, "2.0", id=f"python-{event_id}",
        event_time=datetime(2026, 11, 24, 10, 0, 0, 123456, timezone.utc),
    )


def stock_delivered(published):
    """Checks what became of it in both schemas."""
    [[seen]] = of_subscription("STOCK-AS-IT-IS", published.id)
    expected = {"id": published.id, "subject": published.subject, "eventType": published.event_type,
                "data": published.data, "dataVersion": "2.0", "metadataVersion": "1"}
    assert expected.items() <= seen.items(), seen
    seen = EventGridEvent.from_json(json.dumps(seen))
    assert seen.event_time == published.event_time, seen
    assert seen.topic.endswith("/providers/Microsoft.EventGrid/topics/stock"), seen
    [converted] = of_subscription("STOCK-IN-CLOUD-EVENTS", published.id)
    converted = CloudEvent.from_json(json.dumps(converted))
    assert (converted.source, converted.type, converted.subject) == (seen.topic, "Stock.Counted", published.subject)
    assert (converted.time, converted.data) == (published.event_time, published.data), converted


by_path = counted("stock-by-path")
client(AzureKeyCredential(KEY), BY_PATH).send(by_path)
stock_delivered(by_path)
passed("an EventGridEvent to a topic by its path, in both schemas")
by_port = [counted("stock-by-port-1"), counted("stock-by-port-2")]
client(sas(BY_PORT, 1), BY_PORT).send(by_port)
for one in by_port:
    stock_delivered(one)
passed("EventGridEvents to a topic at its own port, by a SAS token")
os.environ["IDENTITY_ENDPOINT"] = f"{TOPICS}/msi/token"
client(ManagedIdentityCredential(), BY_PATH).send(by_token := counted("stock-by-token"), enforce_https=False)
stock_delivered(by_token)
passed("an EventGridEvent by a bearer token")
parcel = event("parcel", "Parcels.Sent")
client(AzureKeyCredential(KEY), PARCELS).send(parcel)
[seen] = of_subscription("ALL-PARCELS", parcel.id)
assert (seen["source"], seen["type"]) == (parcel.source, parcel.type), seen
passed("a CloudEvent to another topic by its path")
refused(client(AzureKeyCredential("d3Jvbmc="), BY_PATH), counted("x"), *no_access)
refused(client(sas(PARCELS, 1), BY_PATH), counted("x"), *no_access)
passed("a wrong key, or a token for another topic, raises ClientAuthenticationError")
refused(client(AzureKeyCredential(KEY), BY_PATH), event("x"), *bad)
passed("a CloudEvent to a topic of the Event Grid schema raises HttpResponseError 400")
try:
    client(AzureKeyCredential(KEY), f"{TOPICS}/none/api/events").send(counted("x"))
except ResourceNotFoundError:
    # In the SDK's own words, not in those of the answer.
    pass
else:
    raise AssertionError("accepted by a topic that there is not")
passed("a topic that there is not raises ResourceNotFoundError")
