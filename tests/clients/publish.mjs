// Publishes to the local Event Grid with Azure's SDK for JavaScript, and reads back with it what the functions got.
// Usage: publish.mjs GRID RECORDER GRID_WITH_TOPICS CERTIFICATE PRIVATE_KEY

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { createServer } from "node:tls";
import { AzureKeyCredential, AzureSASCredential, EventGridDeserializer, EventGridPublisherClient, generateSharedAccessSignature } from "@azure/eventgrid";
import { ManagedIdentityCredential } from "@azure/identity";

const [grid, recorder, gridWithTopics, certificate, privateKey] = process.argv.slice(2);
const topic = `${grid}/api/events`;
const key = "bG9jYWwtZGV2ZWxvcG1lbnQ=";
const [placed, reserved] = ["Sales.OrderPlaced", "Sales.StockReserved"];
const subscriptions = JSON.parse(readFileSync("infra/subscriptions.json"));

const read = async (url) => (await fetch(url)).json();
const passed = (what) => console.log(`ok: JavaScript: ${what}`);

/** What every function got, once nothing is on its way. */
async function deliveries(of = grid) {
  const deadline = Date.now() + 60_000;
  while ((await read(`${of}/idle`)).pending > 0) {
    assert.ok(Date.now() < deadline, "the deliveries do not end");
    await pause(50);
  }
  return read(`${recorder}/deliveries`);
}

/** Checks that each event came once to each function that takes its type, with everything it had, and as the schema wants it. */
async function delivered(events) {
  const all = await deliveries();
  for (const event of events) {
    const mine = all.filter((one) => JSON.parse(one.body).id === event.id);
    const takers = Object.keys(subscriptions).filter((name) => subscriptions[name].includedEventTypes.includes(event.type));
    assert.deepEqual(mine.map((one) => one.function).sort(), takers.sort(), event.id);
    assert.ok(takers.length > 0, event.type);
    for (const one of mine) {
      const [seen] = await new EventGridDeserializer().deserializeCloudEvents(one.body);
      for (const name of Object.keys(event)) assert.deepEqual(seen[name], event[name], `${name} of ${one.body}`);
      assert.deepEqual(Object.keys(seen.extensionAttributes ?? {}), Object.keys(event.extensionAttributes ?? {}));
      assert.deepEqual(one.violations, []);
      assert.equal(one.headers["content-type"], "application/cloudevents+json; charset=utf-8");
      assert.equal(one.headers["aeg-event-type"], "Notification");
    }
  }
}

/** Checks that the SDK throws its own error, which has read the answer, and that nothing is delivered. */
async function refused(client, events, status, code) {
  const before = (await deliveries()).length;
  await assert.rejects(client.send(events), { name: "RestError", statusCode: status, code });
  assert.equal((await deliveries()).length, before);
}

const event = (id, more = {}) => ({
  id: `javascript-${id}`,
  source: "/javascript/tests",
  type: placed,
  time: new Date("2026-11-24T10:00:00.123Z"),
  ...more,
});
const client = (credential, endpoint = topic) =>
  new EventGridPublisherClient(endpoint, "CloudEvent", credential, { allowInsecureConnection: true });
const sas = async (endpoint, hours) =>
  new AzureSASCredential(await generateSharedAccessSignature(endpoint, new AzureKeyCredential(key), new Date(Date.now() + hours * 3_600_000)));

const byKey = client(new AzureKeyCredential(key));
const one = event("one", {
  subject: "orders/größe 1",
  datacontenttype: "application/json",
  dataschema: "https://example.com/order.json",
  data: { größe: [1, 2.5, null, true, { a: '€ " \\ \u2028 🌎' }] },
  extensionAttributes: {
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    correlationid: "größe/1",
    sequence: 7,
    test: true,
  },
});
await byKey.send([one]);
await delivered([one]);
passed("an event with every attribute and extensions, by access key");

// This SDK refuses data that is neither an object nor bytes.
const batch = [
  event("object", { data: { hello: "🌎" } }),
  event("binary", { type: reserved, datacontenttype: "application/octet-stream", data: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)) }),
  event("list", { type: reserved, data: { list: [1, "two", null] } }),
  event("nothing"),
];
await byKey.send(batch);
await delivered(batch);
passed("a batch with JSON, bytes and nothing");

const large = Array.from({ length: 5 }, (_, number) => event(`large-${number}`, { data: { x: "x".repeat(200_000) } }));
await byKey.send(large);
await delivered(large);
passed("a megabyte in one request");

const bySas = event("sas", { data: { by: "SAS" } });
await client(await sas(topic, 1)).send([bySas]);
await delivered([bySas]);
passed("by a SAS token that the SDK makes");

// The SDK sends bearer tokens over TLS only and has no switch for it, so the grid gets a front that ends TLS.
const front = createServer({ cert: readFileSync(certificate), key: readFileSync(privateKey) }, (secure) => {
  const plain = connect(new URL(grid).port, "127.0.0.1");
  secure.pipe(plain).pipe(secure);
  for (const socket of [secure, plain]) socket.on("error", () => [secure, plain].forEach((end) => end.destroy()));
});
await new Promise((listening) => front.listen(0, "127.0.0.1", listening));
const secureTopic = `https://127.0.0.1:${front.address().port}/api/events`;

// Where the SDK looks for it in Azure too.
process.env.IDENTITY_ENDPOINT = `${grid}/msi/token`;
process.env.IDENTITY_HEADER = "local-development";
const identity = new ManagedIdentityCredential();
const byToken = [event("token-1", { data: { by: "token" } }), event("token-2", { type: reserved })];
await client(identity, secureTopic).send(byToken);
await delivered(byToken);
passed("by a bearer token of a managed identity");

const unwanted = [event("unwanted")];
await refused(client(new AzureKeyCredential("d3Jvbmc=")), unwanted, 401, "Unauthorized");
passed("a wrong access key throws RestError 401");
await refused(client(await sas(topic, -1)), unwanted, 401, "Unauthorized");
passed("an expired SAS token throws RestError 401");
await refused(client(await sas("http://127.0.0.1:1/api/events", 1)), unwanted, 401, "Unauthorized");
passed("a SAS token for another topic throws RestError 401");
const foreign = { getToken: () => identity.getToken("https://vault.azure.net/.default") };
await refused(client(foreign, secureTopic), unwanted, 401, "Unauthorized");
passed("a token for another audience throws RestError 401");

const many = (count, data) => Array.from({ length: count }, (_, number) => event(`x-${number}`, { data }));
await refused(byKey, many(5, { x: "x".repeat(220_000) }), 413, "RequestEntityTooLarge");
passed("more than a megabyte throws RestError 413");
await refused(byKey, many(5_001), 413, "RequestEntityTooLarge");
passed("more than 5000 events throw RestError 413");
await refused(byKey, [event("x-good"), event("x-bad", { subject: "a\x07b" })], 400, "BadRequest");
passed("one bad event refuses the batch with RestError 400");

// Several topics, one of them in the Event Grid schema and at a port of its own.
const { topics } = await read(gridWithTopics);
const addressesOf = (name) => topics.find((one) => one.name === name).addresses;
const [byPort, byPath] = addressesOf("stock");
const publisher = (endpoint, schema, credential = new AzureKeyCredential(key)) =>
  new EventGridPublisherClient(endpoint, schema, credential, { allowInsecureConnection: true });
const bodiesOf = async (subscription) =>
  (await deliveries(gridWithTopics)).filter((one) => one.headers["aeg-subscription-name"] === subscription).map((one) => one.body);
const counted = (id) => ({
  id: `javascript-${id}`,
  eventType: "Stock.Counted",
  subject: "stock/größe 1",
  dataVersion: "2.0",
  data: { größe: [1, 2.5, null, "€ 🌎"] },
  eventTime: new Date("2026-11-24T10:00:00.123Z"),
});
for (const [id, endpoint, credential] of [
  ["by-path", byPath, new AzureKeyCredential(key)],
  ["by-port", byPort, await sas(byPort, 1)],
]) {
  const published = counted(id);
  await publisher(endpoint, "EventGrid", credential).send([published]);
  const [body] = (await bodiesOf("STOCK-AS-IT-IS")).filter((text) => JSON.parse(text)[0].id === published.id);
  const [seen] = await new EventGridDeserializer().deserializeEventGridEvents(JSON.parse(body));
  for (const name of Object.keys(published)) assert.deepEqual(seen[name], published[name], `${name} of ${body}`);
  const [converted] = (await bodiesOf("STOCK-IN-CLOUD-EVENTS")).filter((text) => JSON.parse(text).id === published.id);
  const [cloudEvent] = await new EventGridDeserializer().deserializeCloudEvents(converted);
  const { source, type, subject, time, data } = cloudEvent;
  assert.deepEqual({ source, type, subject, time, data }, {
    source: JSON.parse(body)[0].topic, type: "Stock.Counted", subject: published.subject, time: published.eventTime, data: published.data,
  });
}
passed("EventGridEvents to a topic by its path and at its own port, in both schemas");
const parcel = event("parcel", { type: "Parcels.Sent" });
await publisher(addressesOf("parcels")[0], "CloudEvent").send([parcel]);
assert.equal((await bodiesOf("ALL-PARCELS")).filter((text) => JSON.parse(text).id === parcel.id).length, 1);
passed("a CloudEvent to another topic by its path");
await refused(publisher(byPath, "EventGrid", new AzureKeyCredential("d3Jvbmc=")), [counted("x")], 401, "Unauthorized");
await refused(publisher(byPath, "CloudEvent"), unwanted, 400, "BadRequest");
await refused(publisher(`${gridWithTopics}/none/api/events`, "EventGrid"), [counted("x")], 404, "NotFound");
passed("a wrong key, the wrong schema and an unknown topic throw RestErrors 401, 400 and 404");

front.close();
// The SDK keeps its connections open.
process.exit();
