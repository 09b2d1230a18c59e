// Dead letters, and replaying them.

import { ask, atMostEvery, byId, make, moveByArrows, orderOf, setText, showRows, shortName, tell, timeOfDay, typeOf } from "./dom.js";

const LISTED = 100;

export class Letters {
  #flow;
  #later;

  constructor(flow) {
    this.#flow = flow;
    this.#later = atMostEvery(300, () => this.load());
    moveByArrows(byId("letter-list"));
  }

  report(report) {
    if (report.what === "deadLettered") this.#later();
  }

  async load() {
    const { deadLetters } = await ask(`/deadletters?limit=${LISTED}`);
    const counts = new Map();
    for (const { path } of deadLetters) {
      const subscription = path.split("/")[0];
      counts.set(subscription, (counts.get(subscription) ?? 0) + 1);
    }
    this.#flow.setLetters(counts);
    const many = deadLetters.length === LISTED ? `${LISTED} or more` : deadLetters.length;
    setText(byId("letter-count"), deadLetters.length ? many : "");
    byId("no-letters").hidden = deadLetters.length > 0;
    showRows(byId("letter-list"), deadLetters, (letter) => letter.path, (letter) => this.#row(letter), () => {});
  }

  #row({ path, events: [event] }) {
    const name = `${shortName(typeOf(event))} for ${path.split("/")[0].toLowerCase()}`;
    const button = make("button", { type: "button", textContent: "Replay", "aria-label": `Replay ${name}` });
    button.addEventListener("click", () => this.#replay(path, name, button));
    // What a letter adds is in camel case in an Event Grid event, and in lower case in a CloudEvent.
    const added = (name) => event[name] ?? event[name.toLowerCase()];
    const count = added("deliveryAttempts");
    const attempts = count === 1 ? "1 attempt" : `${count} attempts`;
    const json = make("pre", { tabIndex: 0, textContent: JSON.stringify(event, null, 2) });
    return make("li", {},
      make("div", { className: "letter" },
        make("strong", { className: "grow", textContent: name }),
        make("span", { className: "id", textContent: (orderOf(event.subject) ?? event.subject ?? "").slice(-8) }),
        button,
        make("p", { className: "small", textContent:
          `${added("deadLetterReason")} after ${attempts}, last ${added("lastDeliveryOutcome")} at ${timeOfDay(added("lastDeliveryAttemptTime"))}` }),
        make("details", { className: "small" }, make("summary", { textContent: "JSON" }), json)));
  }

  async #replay(path, name, button) {
    button.disabled = true;
    try {
      await ask("/deadletters/replay", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ path }) });
      tell(`${name} is delivered again.`);
    } catch (problem) {
      tell(`${name} is not replayed: ${problem.message}`);
    }
    button.disabled = false;
    await this.load();
  }
}
