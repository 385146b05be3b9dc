"use strict";
const at = (id) => document.getElementById(id);
const LOOK_MS = 2000;
const OUTCOMES = ["captioned", "filtered", "unreadable", "rejected", "failed"];
const cards = new Map(); // id → its article: what is there is not drawn anew
let paused = false;
let outcome = "";

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const count = (number) => number.toLocaleString("en");
const headers = () => (at("key")?.value.trim() ? { Authorization: `Bearer ${at("key").value.trim()}` } : {});

async function look() {
  try {
    const response = await fetch("/v1/run", { headers: headers() });
    const seen = await response.json();
    if (!response.ok) throw new Error(seen.title);
    if (!paused) show(seen);
  } catch (error) {
    at("lead").textContent = `${error.message}.`;
  }
  setTimeout(look, LOOK_MS);
}

function show(seen) {
  at("title").textContent = `${count(seen.counts.captioned)} of ${count(seen.read)} samples captioned`;
  at("lead").textContent = `${seen.source} by ${seen.engine} (${seen.model}), run ${seen.run_id.slice(0, 12)}. ` +
    (seen.complete ? "Every shard of the plan is done." : `${count(seen.committed)} of ${count(seen.shards)} shards are done, ${count(seen.open)} are open.`) +
    (seen.missed ? ` Its folder cannot be read now: this is how it stood at ${new Date(seen.time * 1000).toLocaleTimeString("en-GB")}.` : "");
  equation(seen);
  const told = [["Samples a second", seen.rate.toFixed(1)], ["Shards done", `${count(seen.committed)} of ${count(seen.shards)}`],
    ["Kept of those captioned", share(seen.counts.captioned, seen.counts.captioned + seen.counts.rejected)]];
  at("numbers").replaceChildren(...told.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
  const replicas = seen.engines?.replicas || [];
  at("engines-section").hidden = !replicas.length;
  at("replicas").replaceChildren(...replicas.map((each) => element("tr", {}, element("th", { scope: "row" }, element("code", {}, each.name)),
    ...[each.state, each.outstanding, each.window, count(each.answers), count(each.tokens_out)].map((text) => element("td", {}, String(text))))));
  at("reasons-section").hidden = !seen.reasons.length;
  at("why").replaceChildren(...seen.reasons.map((each) => element("tr", {}, element("th", { scope: "row" }, element("code", {}, each.reason)),
    element("td", { class: `kind ${each.outcome}` }, element("span", { class: "swatch" }), each.outcome),
    element("td", { class: "number" }, count(each.count)), element("td", {}, each.meaning))));
  for (const card of [...seen.cards].reverse()) if (!cards.has(card.id)) { cards.set(card.id, drawn(card)); at("cards").prepend(cards.get(card.id)); }
  const kept = new Set(seen.cards.map((card) => card.id));
  for (const [id, article] of cards) if (!kept.has(id)) { article.remove(); cards.delete(id); }
  choose();
}

const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "none yet");

function equation(seen) {
  const term = (sign, number, name, swatch) => element("li", {}, sign ? element("span", { class: "sign" }, sign) : null,
    element("span", {}, element("strong", {}, count(number)), element("span", { class: "name" }, swatch ? element("span", { class: `swatch ${name}` }) : null, name)));
  at("equation").replaceChildren(term("", seen.read, "read", false), ...OUTCOMES.map((name, place) => term(place ? "+" : "=", seen.counts[name], name, true)));
  let x = 0;
  at("whole").replaceChildren(...OUTCOMES.filter((name) => seen.counts[name]).map((name) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const width = (100 * seen.counts[name]) / seen.read;
    for (const [key, value] of Object.entries({ class: name, fill: "currentColor", x, width, height: 1 })) part.setAttribute(key, value);
    x += width;
    return part;
  }));
}

function drawn(card) {
  const frame = element("div", { class: "frame" });
  if (card.picture) {
    const what = card.second === null ? `Picture ${card.key}` : `Clip ${card.key} at ${card.second.toFixed(1)} s`;
    const picture = element("img", { alt: `${what}${card.caption ? ", described by its caption below" : ""}`, class: "plain" });
    frame.append(picture);
    picture.onload = () => URL.revokeObjectURL(picture.src); // a run may be looked at for days
    fetch(`/v1/run/pictures/${card.id}`, { headers: headers() }).then((response) => response.blob()).then((blob) => { picture.src = URL.createObjectURL(blob); });
  } else frame.append(element("div", { class: "nothing" }, element("p", {}, `No picture to show: ${card.missing}`)));
  const words = element("div", { class: "words" }, element("div", { class: "head" },
    element("p", { class: `badge ${card.outcome}` }, element("span", { class: "swatch" }), card.outcome[0].toUpperCase() + card.outcome.slice(1), card.reason ? element("code", {}, card.reason) : null),
    element("h3", {}, card.key)));
  if (card.meaning) words.append(element("div", { class: `why ${card.outcome}` }, element("p", {}, `${card.meaning[0].toUpperCase()}${card.meaning.slice(1)}.`), element("p", {}, `What to do: ${card.remedy}.`)));
  const said = element("dl", { class: "said" }, element("dt", {}, "Before"), element("dd", { class: "old", dir: "auto" }, card.before || "No alt text"));
  if (card.caption) said.append(element("dt", {}, card.outcome === "captioned" ? "Now" : "Dropped caption"), element("dd", { class: "new", dir: "auto" }, card.caption));
  words.append(said);
  return element("article", { class: "card", "data-outcome": card.outcome, "aria-label": `${card.outcome}: ${card.key}` }, frame, words);
}

function choose() {
  let shown = 0;
  for (const article of cards.values()) { article.hidden = Boolean(outcome) && article.dataset.outcome !== outcome; shown += !article.hidden; }
  const text = `${shown} of ${cards.size} shown`;
  if (at("found").textContent !== text) at("found").textContent = text;
}

document.querySelectorAll("button[data-show]").forEach((button, _, all) => button.addEventListener("click", () => {
  outcome = button.dataset.show;
  all.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
  choose();
}));
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
});
look();
