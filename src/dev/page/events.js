// The list of events, and the inspector of one.

import { ask, atMostEvery, byId, make, moveByArrows, orderOf, setText, showRows, shortName, span, tell, timeOfDay, typeOf } from "./dom.js";

const KEPT = 500;
const SHOWN = 60;

const STATE = {
  pending: { text: "under way", className: "" },
  waiting: { text: "waits to be tried again", className: "wait" },
  delivered: { text: "delivered", className: "good" },
  deadLettered: { text: "dead letter", className: "bad" },
};

/** What became of a delivery in words, as one line of text per function. */
export function deliveryLines(deliveries) {
  return deliveries.map((delivery) => {
    const steps = [];
    let before = null;
    for (const { attempt, age, status, outcome, milliseconds } of delivery.attempts) {
      if (before !== null && age > before) steps.push(`waited ${span((age - before) * 1000)} on the clock`);
      steps.push(`attempt ${attempt}: ${status ?? ""} ${outcome} in ${span(milliseconds)}`.replace(":  ", ": "));
      before = age ?? null;
    }
    if (delivery.state === "pending" && delivery.attempts.length) {
      const { nextAttemptAt, nextAttemptAge } = delivery;
      steps.push(nextAttemptAt
        ? `next attempt at ${timeOfDay(nextAttemptAt)}`
        : `next attempt when it is ${span(nextAttemptAge * 1000)} old on the clock, which stands still`);
    }
    const state = delivery.state === "pending" && delivery.attempts.length ? STATE.waiting : STATE[delivery.state];
    return make("li", {},
      make("strong", { textContent: delivery.function }), " ",
      make("span", { className: state?.className ?? "", textContent: state?.text ?? delivery.state }),
      steps.length ? `: ${steps.join(" · ")}` : "");
  });
}

export class Events {
  #setup;
  #events = new Map();
  #render;

  constructor(setup) {
    this.#setup = setup;
    const list = byId("event-list");
    this.#render = atMostEvery(250, () => this.#show());
    moveByArrows(list);
    for (const end of ["pointerleave", "focusout"]) list.addEventListener(end, () => this.#render());
    byId("copy-curl").addEventListener("click", () => this.#copy("inspector-curl", "The command is copied."));
    byId("copy-json").addEventListener("click", () => this.#copy("inspector-json", "The JSON is copied."));
  }

  /** Loads the newest events; returns the deliveries that wait for another attempt. */
  async load() {
    const { events } = await ask("/events?limit=100");
    const last = events.at(-1)?.number ?? 0;
    const newer = [...this.#events].filter(([number]) => number > last);
    this.#events.clear();
    const waiting = [];
    for (const { number, acceptedAt, event, deliveries } of events) {
      const states = new Map(deliveries.map((one) => {
        const again = one.state === "pending" && one.attempts.length > 0;
        if (again) waiting.push([one.function, number]);
        return [one.function, again ? "waiting" : one.state];
      }));
      this.#events.set(number, { number, type: typeOf(event), subject: event.subject, at: acceptedAt, states });
    }
    // What was reported while the answer was on its way.
    for (const [number, event] of newer) this.#events.set(number, event);
    this.#render();
    return waiting;
  }

  report(report) {
    const { number, type, subject } = report;
    let event = this.#events.get(number);
    if (!event) {
      if (report.what !== "accepted") return;
      event = { number, type, subject, at: Date.now(), states: new Map() };
      this.#events.set(number, event);
      if (this.#events.size > KEPT) this.#events.delete(this.#events.keys().next().value);
    }
    switch (report.what) {
      case "accepted":
        for (const name of report.functions) if (!event.states.has(name)) event.states.set(name, "pending");
        break;
      case "taken":
        event.states.set(report.function, "delivered");
        break;
      case "failed":
        event.states.set(report.function, "waiting");
        break;
      case "deadLettered":
        event.states.set(report.function, "deadLettered");
        break;
    }
    this.#render();
  }

  #show() {
    const list = byId("event-list");
    // A row that moves away from under the pointer or the keyboard cannot be opened.
    const held = list.matches(":hover") || list.contains(document.activeElement);
    const newest = [...this.#events.values()].slice(-SHOWN).reverse();
    const items = held && list.children.length
      ? [...list.children].map((row) => this.#events.get(Number(row.dataset.key))).filter(Boolean)
      : newest;
    byId("held").hidden = !(held && newest.length && items[0]?.number !== newest[0].number);
    byId("no-events").hidden = newest.length > 0;
    showRows(list, items, (event) => event.number, (event) => this.#row(event), (row, event) => this.#update(row, event));
  }

  #row(event) {
    const button = make("button", { type: "button", onclick: () => this.inspect(event.number) },
      make("time", { textContent: timeOfDay(event.at) }),
      make("span", { className: "grow", textContent: shortName(event.type) }),
      make("span", { className: "id", textContent: (orderOf(event.subject) ?? event.subject ?? "").slice(-8) }),
      make("span", { className: "badge" }));
    return make("li", {}, button);
  }

  #update(row, event) {
    const states = [...event.states.values()];
    const badge = row.querySelector(".badge");
    const count = (state) => states.filter((one) => one === state).length;
    let text = "no function takes it";
    let className = "badge";
    if (count("deadLettered")) [text, className] = ["dead letter", "badge bad"];
    else if (count("waiting")) [text, className] = ["tried again", "badge wait"];
    else if (states.length) {
      const taken = count("delivered");
      text = `${taken} of ${states.length} taken`;
      if (taken === states.length) className = "badge good";
    }
    setText(badge, text);
    if (badge.className !== className) badge.className = className;
  }

  /** Opens the inspector on the event of this number. */
  async inspect(number) {
    try {
      const { events } = await ask(`/events?after=${number - 1}&limit=1`);
      if (events[0]?.number !== number) throw new Error("the grid keeps the last 10,000 events only");
      this.#open(events[0]);
    } catch (problem) {
      tell(`Event ${number} cannot be shown: ${problem.message}`);
    }
  }

  #open({ number, acceptedAt, topic, event, deliveries }) {
    const { topics, key } = this.#setup;
    const { inputSchema, addresses } = topics.find(({ name }) => name === topic) ?? topics[0];
    const ofEventGrid = inputSchema === "EventGridSchema";
    const contentType = ofEventGrid ? "application/json" : "application/cloudevents+json";
    const json = JSON.stringify(ofEventGrid ? [event] : event);
    setText(byId("inspector-title"), shortName(typeOf(event)));
    setText(byId("inspector-about"), `event ${number}, accepted${topics.length > 1 ? ` by the topic ${topic}` : ""} at ${timeOfDay(acceptedAt)}, subject ${event.subject ?? "–"}`);
    byId("inspector-deliveries").replaceChildren(...deliveryLines(deliveries));
    setText(byId("inspector-json"), JSON.stringify(event, null, 2));
    setText(byId("inspector-curl"),
      `curl -i '${addresses[0]}?api-version=2018-01-01' -H 'aeg-sas-key: ${key}' ` +
      `-H 'content-type: ${contentType}' --data-binary '${json.replaceAll("'", "'\\''")}'`);
    byId("inspector").showModal();
  }

  async #copy(id, done) {
    try {
      await navigator.clipboard.writeText(byId(id).textContent);
      tell(done);
    } catch {
      tell("The browser does not let this page copy: select the text instead.");
    }
  }
}
