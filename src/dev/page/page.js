// The live page of the local Event Grid: loads what is there and follows what happens.

import { Clock } from "./clock.js";
import { ask, byId, setText, tell } from "./dom.js";
import { Events } from "./events.js";
import { Faults } from "./faults.js";
import { Flow } from "./flow.js";
import { Letters } from "./letters.js";
import { Orders } from "./orders.js";
import { Sending } from "./sending.js";

function connection(state, text) {
  byId("connection").dataset.state = state;
  setText(byId("connection"), text);
}

const setup = await ask("/page/setup");
const flow = new Flow(setup);
const events = new Events(setup);
const orders = new Orders(events);
const letters = new Letters(flow);
const faults = new Faults(setup);
const clock = new Clock();
new Sending(setup, orders);
const parts = [flow, events, orders, letters, clock];

async function loadAll() {
  try {
    const [waiting] = await Promise.all([events.load(), orders.load(), letters.load(), faults.load(), clock.load()]);
    flow.setWaiting(waiting);
  } catch (problem) {
    tell(`The grid's state cannot be loaded: ${problem.message}`);
  }
}

const stream = new EventSource("/stream");
// The stream comes before the state: what happens in between is seen twice, and not never.
stream.addEventListener("ready", () => {
  connection("live", "live");
  loadAll();
});
stream.addEventListener("missed", (message) => {
  tell(`This page was too slow for ${message.data} reports and has loaded the state anew.`);
  loadAll();
});
stream.addEventListener("message", (message) => {
  for (const report of JSON.parse(message.data)) {
    for (const part of parts) part.report(report);
  }
});
stream.addEventListener("error", () => connection("lost", "the grid does not answer; trying again…"));
