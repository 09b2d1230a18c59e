// Event Grid's clock: what it shows, and turning it.

import { ask, atMostEvery, byId, setText, span, tell } from "./dom.js";

export class Clock {
  #clock = null;
  #since = 0;
  #later;

  constructor() {
    this.#later = atMostEvery(500, () => this.load());
    for (const button of byId("clock-steps").children) {
      button.addEventListener("click", () => this.#turn(button.dataset));
    }
    setInterval(() => this.#show(), 250);
  }

  report() {
    this.#later();
  }

  async load() {
    this.#take(await ask("/clock"));
  }

  async #turn({ seconds }) {
    const step = seconds ? { seconds: Number(seconds) } : { to: "next" };
    try {
      const clock = await ask("/clock/step", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(step) });
      this.#take(clock);
      tell(clock.stepped ? `The clock is turned by ${span(clock.stepped * 1000)}.` : "Nothing waits for the clock.");
    } catch (problem) {
      tell(`The clock is not turned: ${problem.message}`);
    }
  }

  #take(clock) {
    this.#clock = clock;
    this.#since = performance.now();
    this.#show();
  }

  #show() {
    if (!this.#clock) return;
    const { speed, turned, next, awaitingHandshake = {} } = this.#clock;
    const runs = speed === 0 ? "It stands still" : speed === 1 ? "It runs as the real one" : `It runs ${speed} times as fast as the real one`;
    const wait = next ? next.in * 1000 - (performance.now() - this.#since) * speed : null;
    let due = "No delivery waits for it.";
    if (wait !== null) due = wait > 0 ? `The next delivery is due in ${span(wait)}.` : "The next delivery is due now.";
    const refusals = Object.entries(awaitingHandshake).map(([name, count]) => ` ${name} has not agreed to be delivered to (handshake): ${count} wait.`);
    setText(byId("clock-shown"), `${runs}${turned ? `, and was turned by ${span(turned * 1000)}` : ""}. ${due}${refusals.join("")}`);
    if (wait !== null && wait <= 0 && !document.hidden) this.#later();
  }
}
