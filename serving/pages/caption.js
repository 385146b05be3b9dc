"use strict";
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WORD_MS = 40;
const MOST_MARKS = 24;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let request = null;
let field = "image"; // of the file that was sent last
let shown = 0; // a later picture ends the words of an earlier one

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function value(id) {
  const field = at(id);
  return field ? field.value.trim() : "";
}

// Browsers name few containers by themselves, and none a file without an extension: the service looks at its first bytes.
function isClip(file) {
  return file.type.startsWith("video/") || /\.(mkv|flv|avi|ts|m4v)$/i.test(file.name);
}

// The same request for a terminal and a program.
function spell(name, field) {
  const url = `${location.origin}/v1/captions`;
  const file = (name || "picture.jpg").replace(/[^\p{L}\p{M}\p{N}._ -]/gu, "_"); // curl takes `,` and `;` for its own
  const more = [["prompt", value("prompt")], ["max_tokens", value("tokens")]].filter(([, text]) => text);
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  at("curl").textContent = ["curl", ...(at("key") ? [`-H "Authorization: Bearer $RECAP_KEY"`] : []),
    `-F ${quoted(`${field}=@${file}`)}`, ...more.map(([key, text]) => `--form-string ${quoted(`${key}=${text}`)}`), url].join(" \\\n  ");
  const settings = [`files={"${field}": file}`, ...(more.length ? [`data=${JSON.stringify(Object.fromEntries(more))}`] : []),
    ...(at("key") ? [`headers={"Authorization": f"Bearer {os.environ['RECAP_KEY']}"}`] : []), "timeout=60"];
  at("python").textContent = [...(at("key") ? ["import os", ""] : []), "import requests", "",
    `with open(${JSON.stringify(file)}, "rb") as file:`, `    answer = requests.post(`, `        "${url}",`,
    ...settings.map((each) => `        ${each},`), "    )", `print(answer.json()["caption"])`].join("\n");
}

function preview(file) {
  const [shows, other] = isClip(file) ? [at("clip"), at("picture")] : [at("picture"), at("clip")];
  for (const each of [shows, other]) {
    if (each.src) URL.revokeObjectURL(each.src);
    each.onerror = null;
    each.removeAttribute("src");
    each.hidden = true;
  }
  shows.src = URL.createObjectURL(file);
  if (shows === at("picture")) shows.alt = "The picture that you chose; what it shows is said beside it";
  shows.onerror = () => {
    shows.hidden = true;
    at("invitation").textContent = "This browser cannot show that file";
    at("drop").hidden = false;
  };
  shows.hidden = false;
  at("drop").hidden = true;
  at("overlay").replaceChildren();
  at("overlay").setAttribute("hidden", "");
  at("name").textContent = file.name || (isClip(file) ? "a pasted clip" : "a pasted picture");
}

async function caption(file) {
  if (request) request.abort();
  const mine = request = new AbortController();
  const turn = ++shown;
  preview(file);
  field = isClip(file) ? "video" : "image";
  spell(file.name, field);
  at("empty").hidden = at("result").hidden = true;
  at("waiting").hidden = false;
  at("said").textContent = `Captioning the ${field === "video" ? "clip" : "picture"}.`;
  const began = performance.now();
  const clock = setInterval(() => { at("elapsed").textContent = `Captioning… ${((performance.now() - began) / 1000).toFixed(1)} s`; }, 100);
  try {
    const body = new FormData();
    body.append(field, file, field);
    for (const [key, text] of [["prompt", value("prompt")], ["max_tokens", value("tokens")]]) if (text) body.append(key, text);
    const headers = value("key") ? { Authorization: `Bearer ${value("key")}` } : {};
    const response = await fetch("/v1/captions", { method: "POST", body, headers, signal: mine.signal });
    const answer = await response.json();
    if (turn === shown) await (response.ok ? tell(answer, turn, performance.now() - began) : refuse(answer));
  } catch (error) {
    if (turn !== shown) return;
    if (error.name === "AbortError") { reset("Cancelled. The engine was told to stop."); return; }
    refuse({ reason: "no answer", title: "The service does not answer; it may have been stopped" });
  } finally {
    clearInterval(clock);
    if (turn === shown) rest();
  }
}

// Who waits at the Cancel button is taken to the answer when it goes, and not to the top of the page.
function rest() {
  if (at("waiting").contains(document.activeElement)) at("heading").focus();
  at("waiting").hidden = true;
}

function reset(words) {
  at("empty").textContent = at("said").textContent = words;
  at("empty").hidden = false;
  at("result").hidden = true;
}

function badge(outcome, words, reason) {
  at("badge").className = `badge ${outcome}`;
  at("badge").replaceChildren(element("span", { class: "swatch" }), words, ...(reason ? [element("code", {}, reason)] : []));
}

function because(outcome, ...lines) {
  at("why").className = `why ${outcome}`;
  at("why").replaceChildren(...lines.filter(Boolean).map((line) => element("p", {}, line)));
  at("why").hidden = false;
}

function refuse(problem) {
  badge("failed", "Refused", problem.reason);
  at("caption").hidden = at("times").hidden = true;
  because("failed", `${problem.title}.`, problem.detail ? `${problem.detail[0].toUpperCase()}${problem.detail.slice(1)}.` : "",
    problem.width ? `It has ${problem.width} × ${problem.height} px.` : "");
  at("experts").hidden = at("drawing").hidden = true;
  at("raw").textContent = JSON.stringify(problem, null, 2);
  rest();
  at("result").hidden = false;
  at("said").textContent = `Refused: ${problem.title}.`;
}

async function tell(answer, turn, milliseconds) {
  if (answer.accepted) badge("captioned", "Kept: a batch run would keep this caption");
  else badge("rejected", "Dropped: a batch run would not keep this caption", answer.reason);
  at("why").hidden = true;
  at("caption").hidden = at("times").hidden = false;
  at("caption").className = answer.accepted ? "caption" : "caption dropped";
  facts(answer);
  const times = answer.timings;
  const told = [["In the engine", `${times.engine_seconds.toFixed(2)} s`], ["Waited", `${times.waited_seconds.toFixed(2)} s`],
    ["Round trip", `${(milliseconds / 1000).toFixed(2)} s`], [answer.frame_times ? "Clip" : "Picture", `${answer.width} × ${answer.height} px`],
    ...(answer.frame_times ? [["Lasts", `${answer.duration.toFixed(1)} s`], ["Frames", String(new Set(answer.frame_times).size)]] : []),
    ["Words", String(answer.caption.split(/\s+/).filter(Boolean).length)], ["Asked", answer.cached ? "no, kept answer" : `${answer.attempts}×`]];
  at("times").replaceChildren(...told.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
  at("raw").textContent = JSON.stringify(answer, null, 2);
  rest();
  at("result").hidden = false;
  // A screen reader hears the caption once and whole; the eye gets it word by word.
  at("said").textContent = `${answer.accepted ? "Kept" : `Dropped, ${answer.reason}`}. ${answer.caption}`;
  await write(answer.caption, turn);
}

async function write(text, turn) {
  const words = text.split(/(?<=\s)/);
  at("caption").replaceChildren();
  if (calm.matches) { at("caption").textContent = text; return; }
  for (const word of words) {
    if (turn !== shown) return;
    at("caption").append(element("span", { class: "word" }, word));
    await new Promise((done) => setTimeout(done, WORD_MS));
  }
}

// What the experts saw of a picture; of a clip what they saw in any frame, each thing once, and when it was surest.
function seenIn(answer) {
  const seen = answer.facts || {};
  if (!seen.frames) return { ...seen, objects: seen.objects || seen.boxes?.map(([name, box]) => ({ name, box, score: 1 })) };
  const surest = (kind, name) => {
    const found = new Map();
    for (const frame of seen.frames) for (const each of frame[kind] || []) {
      if (each.score > (found.get(each[name])?.score ?? 0)) found.set(each[name], { ...each, second: frame.second });
    }
    return [...found.values()];
  };
  return { tags: surest("tags", "name"), objects: surest("objects", "name"), text: surest("text", "text") };
}

function facts(answer) {
  const seen = seenIn(answer);
  const percent = (each) => `${Math.round(each.score * 100)}%${each.second === undefined ? "" : ` at ${each.second.toFixed(1)} s`}`;
  const things = (seen.objects || []).map((each) => ({ ...each, kind: "object" }));
  const lines = (seen.text || []).map((each) => ({ ...each, name: `“${each.text}”`, kind: "text" }));
  const marks = [...things, ...lines].slice(0, MOST_MARKS);
  at("tags").replaceChildren(...(seen.tags || []).map((tag) => element("li", {}, `${tag.name} ${percent(tag)}`)));
  at("marks").replaceChildren(...marks.map((mark, number) =>
    element("li", {}, element("b", {}, String(number + 1)), ` ${mark.name} ${percent(mark)}`)));
  at("experts").hidden = !(marks.length || (seen.tags || []).length);
  const drawn = answer.frame_times ? [] : marks; // a clip moves on under its boxes
  at("drawing").hidden = !drawn.length;
  draw(drawn, answer.width, answer.height);
}

function draw(marks, width, height) {
  const scale = Math.min(640 / width, 480 / height);
  const [across, down] = [width * scale, height * scale];
  const overlay = at("overlay");
  overlay.setAttribute("viewBox", `0 0 ${across} ${down}`);
  overlay.replaceChildren(...marks.map((mark, number) => one(mark, number, across, down)));
  overlay.toggleAttribute("hidden", !marks.length); // it would lie over a clip's controls
}

function one(mark, number, across, down) {
  const shape = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
    return made;
  };
  const [left, top, right, bottom] = mark.box.map((edge, side) => edge * (side % 2 ? down : across));
  const group = shape("g", { class: mark.kind });
  const box = { x: left, y: top, width: right - left, height: bottom - top, rx: 2 };
  const words = `${number + 1} ${mark.name.length > 24 ? `${mark.name.slice(0, 23)}…` : mark.name}`;
  const wide = Math.min(across, 11 + [...words].reduce((sum, letter) => sum + (/[A-Z]/.test(letter) ? 8.4 : 6.6), 0));
  const [x, y] = [Math.max(0, Math.min(left, across - wide)), top >= 17 ? top - 17 : Math.min(top, down - 17)];
  const label = shape("text", { x: x + 6, y: y + 12.5 });
  label.textContent = words;
  group.append(shape("rect", { class: "casing", ...box }), shape("rect", { class: "edge", ...box }),
    shape("rect", { class: "plate", x, y, width: wide, height: 17, rx: 2 }), shape("rect", { class: "spine", x, y, width: 3, height: 17 }), label);
  return group;
}

at("file").addEventListener("change", (event) => { if (event.target.files[0]) caption(event.target.files[0]); event.target.value = ""; });
at("cancel").addEventListener("click", () => { if (request) request.abort(); });
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => /^(image|video)\//.test(each.type));
  if (file) caption(file);
});
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); at("frame").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => at("frame").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) caption(event.dataTransfer.files[0]);
});
for (const id of ["prompt", "tokens", "key"]) at(id)?.addEventListener("input", () => spell(at("name").textContent, field));
document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch { // by plain http from elsewhere there is no clipboard, and who may use it may be asked first
    getSelection().selectAllChildren(at(button.dataset.copy));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}));
spell("", field);
