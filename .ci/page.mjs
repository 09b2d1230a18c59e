// Drives the live page of `orderflow dev` and `orderflow grid` in headless Chromium. Arguments: the binary, and the entry
// of playwright-core. The browser's path comes in the variable `chromium`.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [binary, playwright] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(resolve(playwright));
const PATIENCE = 20_000;

let passed = 0;
function ok(what) {
  passed += 1;
  console.log(`ok: ${what}`);
}

async function until(what, condition) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

const running = [];
function start(...args) {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
  const started = { child, output: "" };
  child.stdout.on("data", (data) => (started.output += data));
  running.push(child);
  return started;
}

/** A host that agrees to everything and answers deliveries as told. */
async function host() {
  const taken = [];
  const answers = [];
  const server = createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      if (request.method === "OPTIONS") {
        response.writeHead(200, { "WebHook-Allowed-Origin": "*" }).end();
      } else if (request.headers["aeg-event-type"] === "SubscriptionValidation") {
        const [{ data }] = JSON.parse(Buffer.concat(parts).toString());
        response.writeHead(200).end(JSON.stringify({ validationResponse: data.validationCode }));
      } else if (request.url.startsWith("/runtime/webhooks/eventgrid")) {
        const status = answers.shift() ?? 202;
        taken.push({ url: request.url, body: Buffer.concat(parts).toString(), count: request.headers["aeg-delivery-count"], status });
        response.writeHead(status).end();
      } else {
        response.writeHead(200, { "content-type": "application/json" }).end('{"orders":[],"next":null}');
      }
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { address: `http://127.0.0.1:${server.address().port}`, taken, answers, server };
}

const data = mkdtempSync(join(tmpdir(), "orderflow-page-"));
/** Starts the browser, which now and then crashes before it shows anything: that says nothing about the page. */
async function launch(tries = 3) {
  try {
    return await chromium.launch({ executablePath: process.env.chromium, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
  } catch (problem) {
    if (tries === 1) throw problem;
    console.log(`the browser does not start and is tried again: ${problem.message.split("\n")[0]}`);
    return launch(tries - 1);
  }
}

const browser = await launch();
const complaints = [];

async function open(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "no-preference", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => complaints.push(String(error.stack)));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${address}/`)) complaints.push(`asks elsewhere: ${request.url()}`);
  });
  await page.goto(address);
  await page.locator('#connection[data-state="live"]').waitFor();
  return page;
}

const shoot = (page, name, fullPage = true) => page.screenshot({ path: `target/page/${name}.png`, fullPage });

try {
  const folder = join(data, "dev");
  start("dev", "--host-port", "0", "--grid-port", "0", "--quiet", "--data", folder);
  const endpoints = join(folder, "endpoints.json");
  await until("dev listens", () => existsSync(endpoints) && readFileSync(endpoints, "utf8").length > 0);
  const address = JSON.parse(readFileSync(endpoints, "utf8")).grid;

  const page = await open(address, { colorScheme: "light" });
  const paint = await until("the first paint", () =>
    page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime));
  ok(`the page is there: first contentful paint after ${Math.round(paint)} ms`);
  await shoot(page, "empty");

  await page.getByRole("button", { name: "Place an order" }).click();
  await page.locator("#order-list .badge", { hasText: "completed" }).waitFor();
  await page.locator("#order .badge", { hasText: "completed" }).waitFor();
  const timeline = page.locator("#order .timeline");
  await timeline.getByText("OrderCompleted").waitFor();
  assert.match(await timeline.innerText(), /PaymentSuccessful[\s\S]*ch_[\s\S]*attempt 1: 202 Delivered in/);
  ok("an order placed by its button is shown as completed, with its charge and every attempt");
  await page.locator("#event-list .badge", { hasText: "2 of 2 taken" }).first().waitFor();
  await shoot(page, "completed");

  await timeline.getByRole("button", { name: "OrderPlaced" }).click();
  const inspector = page.locator("#inspector");
  await inspector.waitFor();
  assert.equal(JSON.parse(await page.locator("#inspector-json").innerText()).type, "Sales.OrderPlaced");
  const curl = await page.locator("#inspector-curl").textContent();
  const answer = execFileSync("bash", ["-c", curl.replace("curl -i", "curl -s -o /dev/null -w '%{http_code}'")]).toString();
  assert.equal(answer, "200");
  await shoot(page, "inspector", false);
  await page.keyboard.press("Escape");
  await inspector.waitFor({ state: "hidden" });
  ok("the inspector shows the event, and its curl command works");

  await page.getByRole("button", { name: "Fire an event" }).click();
  await page.getByLabel("Type").selectOption("Sales.OrderPlaced");
  await shoot(page, "fire", false);
  await page.getByRole("button", { name: "Fire it" }).click();
  await page.locator("#message", { hasText: "OrderPlaced is accepted" }).waitFor();
  await until("the fired order completes", async () =>
    (await page.locator("#order-list .badge", { hasText: "completed" }).count()) === 2);
  ok("an event fired by hand becomes a completed order");

  await page.getByRole("button", { name: "Change it first" }).click();
  const order = JSON.parse(await page.locator("#sender-json").inputValue());
  await page.locator("#sender-json").fill(JSON.stringify({ ...order, lines: [] }));
  await page.getByRole("button", { name: "Place it" }).click();
  await page.locator("#sender-problem", { hasText: "lines" }).waitFor();
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("422")));
  await page.locator("#sender-json").fill(JSON.stringify({ ...order, paymentMethod: "tok_chargeDeclined" }));
  await page.getByRole("button", { name: "Place it" }).click();
  await page.locator("#order-list .badge", { hasText: "cancelled" }).waitFor();
  ok("an order that is refused says why, a declined one is shown as cancelled");

  await page.evaluate(() => document.activeElement.blur());
  const reached = new Set();
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => {
      const active = document.activeElement;
      return active.id || active.closest("[id]")?.id;
    }));
  }
  for (const id of ["place", "place-other", "fire", "order-list", "order", "event-list"]) {
    assert.ok(reached.has(id), `${id} is reached by Tab, not only ${[...reached]}`);
  }
  await page.locator("#order-list button").first().focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#order-list button").nth(1).getAttribute("aria-expanded"), "true");
  await page.locator("#order .timeline").waitFor();
  ok("everything is reached and opened by keyboard");

  const phone = await open(address, { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true });
  await phone.getByRole("button", { name: "Place an order" }).tap();
  await phone.locator("#order .badge", { hasText: "completed" }).waitFor();
  const width = await phone.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `the page is ${width} pixels wide on a phone of 360`);
  await shoot(phone, "phone-dark");
  await phone.context().close();
  await page.emulateMedia({ colorScheme: "dark" });
  await shoot(page, "dark");
  await page.context().close();
  ok("it fits a phone of 360 pixels");

  const endpoint = await host();
  const grid = start("grid", "--grid-port", "0", "--deliver-to", endpoint.address, "--data", join(data, "grid"));
  const alone = await until("grid listens", () => /Live page +(http\S+)/.exec(grid.output)?.[1]);
  const second = await open(alone, { colorScheme: "light" });
  endpoint.answers.push(400);
  await second.getByRole("button", { name: "Fire an event" }).click();
  await second.getByLabel("Type").selectOption("Sales.BillingRejected");
  await second.getByRole("button", { name: "Fire it" }).click();
  const letter = second.locator("#letter-list > li");
  await letter.locator("p", { hasText: "UndeliverableDueToHttpBadRequest" }).waitFor();
  await second.locator("#event-list .badge", { hasText: "dead letter" }).waitFor();
  await shoot(second, "dead-letter");
  await letter.getByRole("button", { name: "Replay" }).click();
  await second.locator("#no-letters").waitFor();
  await second.locator("#event-list .badge", { hasText: "1 of 1 taken" }).waitFor();
  assert.equal(endpoint.taken.length, 2);
  const [refused, replayed] = endpoint.taken;
  assert.deepEqual({ ...replayed, status: 400 }, refused);
  assert.equal(replayed.count, "1");
  ok("a dead letter is replayed to its function by its button");

  endpoint.answers.push(503);
  await second.getByRole("button", { name: "Fire an event" }).click();
  await second.getByLabel("Type").selectOption("Sales.BillingRejected");
  await second.getByRole("button", { name: "Fire it" }).click();
  await second.locator("#functions > li", { hasText: "orders" }).locator(".measure", { hasText: "retries" })
    .locator("output", { hasText: "1" }).waitFor();
  await second.locator("#event-list .badge", { hasText: "1 of 1 taken" }).nth(1).waitFor();
  await second.locator("#event-list button").first().click();
  await second.locator("#inspector").waitFor();
  const told = await second.locator("#inspector-deliveries").innerText();
  assert.match(told, /orders delivered: attempt 1: 503 Busy in .* · waited .* · attempt 2: 202 Delivered in /);
  await second.keyboard.press("Escape");
  // Out of the list of events, which would stand still.
  await second.mouse.move(0, 0);
  await second.evaluate(() => document.activeElement.blur());
  ok("a retry is counted, and told with its wait");

  await fetch(`${alone}/clock`, { method: "PUT", body: '{"speed":0}' });
  const third = await open(alone, { colorScheme: "light" });
  const shown = third.locator("#clock-shown");
  await shown.filter({ hasText: "It stands still. No delivery waits for it." }).waitFor();
  const tried = endpoint.taken.length;
  endpoint.answers.push(503, 503);
  await third.getByRole("button", { name: "Fire an event" }).click();
  await third.getByLabel("Type").selectOption("Sales.BillingRejected");
  await third.getByRole("button", { name: "Fire it" }).click();
  await shown.filter({ hasText: /The next delivery is due in 3\d\.\d s\./ }).waitFor();
  await third.evaluate(() => document.activeElement.blur());
  const byKeyboard = async (name) => {
    const button = third.getByRole("button", { name });
    for (let step = 0; step < 60 && !(await button.evaluate((one) => one === document.activeElement)); step += 1) {
      await third.keyboard.press("Tab");
    }
    assert.ok(await button.evaluate((one) => one === document.activeElement), `${name} is reached by Tab`);
    await third.keyboard.press("Enter");
  };
  await byKeyboard("+1 h");
  await third.locator("#message", { hasText: "The clock is turned by 1.0 h." }).waitFor();
  await until("the second attempt", () => endpoint.taken.length === tried + 2);
  await shown.filter({ hasText: "It stands still, and was turned by 1.0 h. The next delivery is due in 3" }).waitFor();
  await shoot(third, "clock");
  const narrow = await open(alone, { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true });
  assert.ok((await narrow.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  await shoot(narrow, "clock-phone-dark");
  await narrow.getByRole("button", { name: "To the next attempt" }).tap();
  await until("the third attempt", () => endpoint.taken.length === tried + 3);
  await narrow.locator("#clock-shown", { hasText: "No delivery waits for it." }).waitFor();
  await narrow.getByRole("button", { name: "To the next attempt" }).tap();
  await narrow.locator("#message", { hasText: "Nothing waits for the clock." }).waitFor();
  await narrow.context().close();
  await fetch(`${alone}/clock`, { method: "PUT", body: '{"speed":60}' });
  await third.reload();
  await shown.filter({ hasText: "It runs 60 times as fast as the real one, and was turned by" }).waitFor();
  await third.context().close();
  ok("the clock is turned, by keyboard and on a phone, and attempts are made");

  const before = endpoint.taken.length;
  await second.getByRole("button", { name: "Inject faults" }).click();
  await second.getByLabel("Fault", { exact: true }).selectOption("503");
  await second.getByLabel("Into deliveries to").selectOption("orders");
  await second.getByLabel("How many, in percent").fill("100");
  await second.getByRole("button", { name: "Inject it" }).click();
  await second.locator("#fault-list li").waitFor();
  await shoot(second, "faults");
  await second.keyboard.press("Escape");
  await second.locator("#injected", { hasText: "fail with 503, without delivering: 100 % of the deliveries to orders" }).waitFor();
  await second.getByRole("button", { name: "Fire an event" }).click();
  await second.getByLabel("Type").selectOption("Sales.BillingRejected");
  await second.getByRole("button", { name: "Fire it" }).click();
  const failing = ({ state, attempts }) => state === "pending" && attempts.length > 0;
  await until("the delivery fails", async () => {
    const { events } = await (await fetch(`${alone}/events`)).json();
    return events.some(({ deliveries }) => deliveries.some(failing));
  });
  assert.equal(endpoint.taken.length, before);
  await second.getByRole("button", { name: "Inject faults" }).click();
  await second.getByRole("button", { name: "Remove" }).click();
  await second.locator("#no-faults").waitFor();
  await second.keyboard.press("Escape");
  await until("it is delivered", () => endpoint.taken.length === before + 1);
  assert.equal(await second.locator("#injected").isVisible(), false);
  ok("a fault is injected and taken back");

  await second.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const frame = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  // Four events were fired, and one replayed.
  const seen = async () => Number(await second.locator("#topic-total").innerText());
  await until("the numbers are shown", async () => (await seen()) === 5);
  const event = (number) => ({ specversion: "1.0", id: `load-${number}`, source: "/sales/billing", type: "Sales.BillingRejected", subject: "orders/load" });
  const SECONDS = 5;
  for (let burst = 0; burst < SECONDS * 10; burst += 1) {
    const body = JSON.stringify(Array.from({ length: 50 }, (_, index) => event(burst * 50 + index)));
    const sent = fetch(`${alone}/api/events`, {
      method: "POST", body, headers: { "content-type": "application/cloudevents-batch+json", "aeg-sas-key": "local-development" },
    });
    await Promise.all([sent, new Promise((done) => setTimeout(done, 100))]);
  }
  await until("every event is counted", async () => (await seen()) === 5 + SECONDS * 500);
  const frames = await second.evaluate(() => window.frames_);
  await shoot(second, "busy");
  const slow = frames.filter((milliseconds) => milliseconds > 50).length;
  const worst = Math.max(...frames);
  ok(`${SECONDS * 500} events at 500 a second are all counted: ${frames.length} frames, ${slow} of them over 50 ms, the longest ${Math.round(worst)} ms`);

  await second.context().close();
  endpoint.server.close();

  const alike = await host();
  const to = (name) => ({ endpointType: "AzureFunction", properties: { resourceId: `/functions/${name}` } });
  const letters = { endpointType: "StorageBlob", properties: { resourceId: "r", blobContainerName: "c" } };
  const file = join(data, "topics.json");
  writeFileSync(file, JSON.stringify({ topics: {
    stock: { inputSchema: "EventGridSchema", port: 0, subscriptions: { inventory: { destination: to("inventory"), deadLetterDestination: letters } } },
    default: { subscriptions: { orders: { destination: to("orders") } } },
  } }));
  const several = start("grid", "--grid-port", "0", "--deliver-to", alike.address, "--data", join(data, "topics"), "--subscriptions", file,
    "--dead-letter-hold", "0");
  const withTopics = await until("the grid with topics listens", () => /Live page +(http\S+)/.exec(several.output)?.[1]);
  const fourth = await open(withTopics, { colorScheme: "light" });
  const topics = fourth.locator("#topics > li");
  assert.deepEqual(await topics.allInnerTexts(), ["default 0 seen", "stock 0 seen"]);
  assert.equal(await fourth.locator("#functions .takes").nth(1).innerText(), "takes every event from stock");
  alike.answers.push(400);
  const counted = { id: "s-1", subject: "stock/1", eventType: "Stock.Counted", eventTime: "2026-11-24T10:00:00Z", dataVersion: "1", data: { it: "isn't" } };
  const published = await fetch(`${withTopics}/stock/api/events`, {
    method: "POST", body: JSON.stringify([counted]), headers: { "content-type": "application/json", "aeg-sas-key": "local-development" },
  });
  assert.equal(published.status, 200);
  await topics.filter({ hasText: "stock 1 seen" }).waitFor();
  const stockLetter = fourth.locator("#letter-list > li");
  await stockLetter.locator("p", { hasText: "UndeliverableDueToHttpBadRequest after 1 attempt, last BadRequest at" }).waitFor();
  assert.match(await stockLetter.locator("strong").innerText(), /^Stock.Counted for inventory$/);
  await stockLetter.getByRole("button", { name: "Replay" }).click();
  await fourth.locator("#no-letters").waitFor();
  await fourth.locator("#event-list .badge", { hasText: "1 of 1 taken" }).waitFor();
  await fourth.locator("#event-list button", { hasText: "Stock.Counted" }).first().click();
  await fourth.locator("#inspector").waitFor();
  assert.match(await fourth.locator("#inspector-about").innerText(), /by the topic stock/);
  const again = (await fourth.locator("#inspector-curl").textContent()).replace("curl -i", "curl -s -o /dev/null -w '%{http_code}'");
  assert.equal(execFileSync("bash", ["-c", again]).toString(), "200");
  await topics.filter({ hasText: "stock 3 seen" }).waitFor();
  await fourth.keyboard.press("Escape");
  await shoot(fourth, "topics");
  await fourth.context().close();
  ok("several topics are shown, and events of the Event Grid schema are inspected, replayed and published again");
  alike.server.close();
  assert.deepEqual(complaints, []);
  ok("no console errors, nothing asked of elsewhere");
  writeFileSync("target/page.count", `${passed}\n`);
} finally {
  await browser.close();
  for (const child of running) child.kill("SIGINT");
  await Promise.all(running.map((child) => child.exitCode ?? new Promise((ended) => child.on("exit", ended))));
  rmSync(data, { recursive: true, force: true });
}
process.exit(0);
