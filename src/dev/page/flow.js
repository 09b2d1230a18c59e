// The graph: the topics, who takes their events (functions, unless told otherwise), and what moves between them.

import { byId, make, setText, shortName, span } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const TRAVEL = 450; // milliseconds that a dot is under way
const DOTS = 90; // at most so many at once
const GAP = 35; // milliseconds between two dots on one edge
const LATENCIES = 101; // the median is of so many

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** How many per second in the last five whole seconds or so. */
class Rate {
  #seconds = new Map();

  add() {
    const second = Math.floor(performance.now() / 1000);
    this.#seconds.set(second, (this.#seconds.get(second) ?? 0) + 1);
  }

  get() {
    const now = Math.floor(performance.now() / 1000);
    let sum = 0;
    for (const [second, count] of this.#seconds) {
      if (second < now - 5) this.#seconds.delete(second);
      else if (second < now) sum += count;
    }
    return sum / 5;
  }
}

const shownRate = (rate) => (rate > 0 && rate < 10 ? rate.toFixed(1) : String(Math.round(rate)));

const median = (numbers) => [...numbers].sort((one, other) => one - other)[numbers.length >> 1];

export class Flow {
  #functions = new Map();
  #publishers = new Map();
  #topics = new Map();
  #rate = new Rate();
  #total = 0;
  #dots = [];
  #moving = false;

  constructor(setup) {
    const names = new Set(setup.subscriptions.map((one) => one.name));
    for (const sample of setup.samples.events) {
      const service = JSON.parse(sample.json).source?.split("/").pop();
      if (names.has(service)) this.#publishers.set(sample.type, service);
    }
    const several = setup.topics.length > 1;
    for (const { name, topic, eventTypes } of setup.subscriptions) {
      const types = eventTypes ? eventTypes.map(shortName).join(", ") : "every event";
      this.#add(name, several ? `takes ${types} from ${topic}` : `takes ${types}`);
    }
    if (several) this.#addTopics(setup.topics);
    new ResizeObserver(() => this.#drawEdges()).observe(byId("graph"));
    setInterval(() => this.#showNumbers(), 500);
  }

  #add(name, takes) {
    const measure = (label) => {
      const value = make("output", { textContent: "–" });
      return [make("p", { className: "measure" }, value, make("span", { textContent: label })), value];
    };
    const [rateBox, rate] = measure("events/s");
    const [timeBox, time] = measure("median time");
    const [retryBox, retries] = measure("retries");
    const [letterBox, letters] = measure("dead letters");
    const node = make("li", { className: "node" },
      make("h3", { textContent: name }), rateBox, timeBox, retryBox, letterBox,
      make("p", { className: "takes", textContent: takes }));
    byId("functions").append(node);
    const edge = () => byId("edges").appendChild(document.createElementNS(SVG, "path"));
    this.#functions.set(name, {
      node, rateBox, timeBox, retryBox, letterBox, rate, time, retries, letters,
      there: edge(), back: edge(), lastDot: { there: 0, back: 0 },
      taken: new Rate(), latencies: [], retried: 0, waiting: new Set(), letterCount: 0,
    });
  }

  #addTopics(topics) {
    setText(byId("topic-title"), "Topics");
    for (const { name, addresses } of topics) {
      const seen = make("output", { textContent: 0 });
      byId("topics").append(make("li", { title: addresses.join(" ") }, make("strong", { textContent: name }), " ", seen, " seen"));
      this.#topics.set(name, { seen, count: 0 });
    }
    byId("topics").hidden = false;
  }

  /** What is known of dead letters: how many there are for each function, by its name in capitals. */
  setLetters(counts) {
    for (const [name, one] of this.#functions) one.letterCount = counts.get(name.toUpperCase()) ?? 0;
    this.#showNumbers();
  }

  /** Deliveries that wait for another attempt, as [function, event number]. */
  setWaiting(pairs) {
    for (const one of this.#functions.values()) one.waiting.clear();
    for (const [name, number] of pairs) this.#functions.get(name)?.waiting.add(number);
  }

  report(report) {
    const one = this.#functions.get(report.function);
    switch (report.what) {
      case "accepted":
        this.#rate.add();
        this.#total += 1;
        if (this.#topics.has(report.topic)) this.#topics.get(report.topic).count += 1;
        this.#dot(this.#publishers.get(report.type), "back");
        for (const name of report.functions) this.#dot(name, "there");
        this.#light(byId("topic"));
        break;
      case "taken":
        if (!one) break;
        one.taken.add();
        one.latencies.push(report.milliseconds);
        if (one.latencies.length > LATENCIES) one.latencies.shift();
        one.waiting.delete(report.number);
        this.#light(one.node);
        break;
      case "failed":
        if (!one) break;
        one.retried += 1;
        one.waiting.add(report.number);
        break;
      case "deadLettered":
        one?.waiting.delete(report.number);
        break;
    }
  }

  #showNumbers() {
    setText(byId("topic-rate"), shownRate(this.#rate.get()));
    setText(byId("topic-total"), this.#total);
    for (const { seen, count } of this.#topics.values()) setText(seen, count);
    for (const one of this.#functions.values()) {
      setText(one.rate, shownRate(one.taken.get()));
      setText(one.time, one.latencies.length ? span(median(one.latencies)) : "–");
      setText(one.retries, one.retried);
      setText(one.letters, one.letterCount);
      one.retryBox.classList.toggle("some-wait", one.waiting.size > 0);
      one.letterBox.classList.toggle("some-bad", one.letterCount > 0);
      one.node.classList.toggle("retrying", one.waiting.size > 0);
      one.node.classList.toggle("failed", one.letterCount > 0);
    }
  }

  #light(node) {
    if (node.classList.contains("lit")) return;
    node.classList.add("lit");
    setTimeout(() => node.classList.remove("lit"), 120);
  }

  #drawEdges() {
    const graph = byId("graph").getBoundingClientRect();
    const topic = byId("topic").getBoundingClientRect();
    const from = { x: topic.right - graph.left, y: topic.top + topic.height / 2 - graph.top };
    for (const { node, there, back } of this.#functions.values()) {
      const box = node.getBoundingClientRect();
      const to = { x: box.left - graph.left, y: box.top + box.height / 2 - graph.top };
      const middle = (from.x + to.x) / 2;
      const curve = (shift) =>
        `M${from.x} ${from.y + shift}C${middle} ${from.y + shift} ${middle} ${to.y + shift} ${to.x} ${to.y + shift}`;
      there.setAttribute("d", curve(-4));
      back.setAttribute("d", curve(4));
    }
  }

  #dot(name, direction) {
    const one = this.#functions.get(name);
    const now = performance.now();
    if (!one || still.matches || document.hidden || this.#dots.length >= DOTS) return;
    if (now - one.lastDot[direction] < GAP) return;
    one.lastDot[direction] = now;
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("r", "4");
    circle.setAttribute("class", direction);
    byId("edges").append(circle);
    this.#dots.push({ circle, path: one[direction], since: now, backwards: direction === "back" });
    if (!this.#moving) {
      this.#moving = true;
      requestAnimationFrame((time) => this.#move(time));
    }
  }

  #move(now) {
    this.#dots = this.#dots.filter(({ circle, path, since, backwards }) => {
      const part = Math.max(0, now - since) / TRAVEL;
      if (part >= 1) {
        circle.remove();
        return false;
      }
      const at = path.getPointAtLength(path.getTotalLength() * (backwards ? 1 - part : part));
      circle.setAttribute("cx", at.x);
      circle.setAttribute("cy", at.y);
      return true;
    });
    this.#moving = this.#dots.length > 0;
    if (this.#moving) requestAnimationFrame((time) => this.#move(time));
  }
}
