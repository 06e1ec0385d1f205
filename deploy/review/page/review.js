"use strict";

const AT_ONCE = 40; // photos that are shown before somebody asks for more
const MOST_BUTTONS = 9; // classes that have a button and a number each; more are in a list
const KINDS = {
  contradictory_label: "in several classes",
  suspected_label: "label suspected",
  suspected_mask: "mask suspected",
  mistake: "answered wrongly",
  low_confidence: "model not sure",
  near_duplicate: "near-duplicate",
  far_photo: "far from earlier photos",
};

const byId = (id) => document.getElementById(id);
let labels = [];
let items = [];
let collected = [];
let shown = AT_ONCE;

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function percent(probability) {
  return `${(100 * probability).toFixed(0)}%`;
}

async function post(address, content) {
  try {
    const response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });
    return await response.json();
  } catch {
    return { error: "The server does not answer." };
  }
}

function picture(contentHash, name) {
  const image = new Image();
  image.alt = name;
  image.loading = "lazy";
  image.onerror = () => image.replaceWith(element("span", "no picture", "none"));
  image.src = `photo/${contentHash}`;
  return image;
}

// What the buttons and keys of a photo of the run do; `decision` is that of the server.
function choicesOf(item) {
  const choices = [];
  const keeps = item.labels.length === 1 ? item.labels[0] : null;
  const change = (label) => ({ decision: "change", label });
  if (keeps !== null) choices.push({ text: `Keep ${keeps}`, key: "k", send: { decision: "keep" }, label: keeps });
  const few = labels.length <= MOST_BUTTONS;
  const others = few ? labels : [...new Set([...item.labels, item.proposal])].filter(Boolean);
  for (const label of others) {
    if (label === keeps) continue;
    const key = few ? String(labels.indexOf(label) + 1) : "";
    const words = keeps === null ? `It is ${label}` : `Change to ${label}`;
    choices.push({ text: words, key, send: change(label), label, proposed: label === item.proposal });
  }
  choices.push({ text: "Drop", key: "d", send: { decision: "drop" }, label: "" });
  return choices;
}

function choicesOfCollected() {
  const classes = labels.length <= MOST_BUTTONS ? labels : [];
  const choices = classes.map((label, i) => ({ text: label, key: String(i + 1), send: { label }, label }));
  return [...choices, { text: "Leave out", key: "d", send: { label: "" }, label: "" }];
}

function wordsOf(item) {
  if (item.decision === null) return "";
  const { new_label: label, who, when } = item.decision;
  const what = label === "" ? "dropped" : item.labels.length === 1 && item.labels[0] === label ? `kept as ${label}`
    : `changed to ${label}`;
  return `${what}${who ? ` by ${who}` : ""}${when ? `, ${when.slice(0, 10)}` : ""}`;
}

function listOfClasses(name, choose) {
  const list = element("select");
  list.setAttribute("aria-label", `Another class for ${name}`);
  list.append(new Option("Another class …", ""));
  for (const label of labels) list.append(new Option(label, label));
  list.addEventListener("change", () => { if (list.value) choose(list.value); });
  return list;
}

// A card for a photo. `act` is told what was chosen, `said` what the card says of the decision so far.
function card(photo, title, lines, choices, decided, said, act, undo) {
  const box = element("li", "", decided === null ? "item" : "item is-decided");
  box.tabIndex = 0;
  box.dataset.photo = photo.content_hash;
  const text = element("div", "", "text");
  text.append(element("h3", title), ...lines);
  const buttons = element("div", "", "choices");
  for (const choice of choices) {
    const button = element("button", choice.text);
    button.type = "button";
    const key = choice.proposed ? "c" : choice.key;
    if (key) button.append(" ", element("kbd", key.toUpperCase()));
    button.setAttribute("aria-pressed", String(decided !== null && decided === choice.label));
    button.addEventListener("click", () => act(choice.send));
    buttons.append(button);
  }
  if (labels.length > MOST_BUTTONS) buttons.append(listOfClasses(title, (chosen) => act({ decision: "change", label: chosen })));
  if (decided !== null) {
    const back = element("button", "Undo");
    back.type = "button";
    back.append(" ", element("kbd", "U"));
    back.addEventListener("click", undo);
    buttons.append(back);
  }
  const saying = element("p", said, "said");
  text.append(buttons, saying);
  box.append(picture(photo.content_hash, title), text);
  box.addEventListener("keydown", (event) => onKey(event, box, choices, act, decided === null ? null : undo));
  return box;
}

function onKey(event, box, choices, act, undo) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const key = event.key.toLowerCase();
  const choice = choices.find((one) => one.key === key) || (key === "c" && choices.find((one) => one.proposed));
  if (choice) {
    act(choice.send);
    box.nextElementSibling?.focus(); // whoever types ahead means the next photo
  } else if (key === "u" && undo) undo();
  else if (key === "o" && box.querySelector("select")) box.querySelector("select").focus();
  else if (key === "arrowdown" || key === "j") box.nextElementSibling?.focus();
  else if (key === "arrowup" || key === "i") box.previousElementSibling?.focus();
  else return;
  event.preventDefault();
}

function cardOfItem(item) {
  const place = [item.span && `span ${item.span}`, item.split, `labelled ${item.labels.join(" and ") || "nothing"}`];
  const lines = [element("p", place.filter(Boolean).join(", "), "soft")];
  for (const one of item.found) lines.push(element("p", one.detail));
  const decided = item.decision === null ? null : item.decision.new_label;
  const act = (choice) => decide(item, choice);
  return card(item, item.path, lines, choicesOf(item), decided, wordsOf(item), act,
    () => decide(item, { decision: "undo" }));
}

function cardOfCollected(photo) {
  const answer = `the model answered ${photo.label} (${percent(photo.probability)})`;
  const said = photo.new_label === null ? "" : photo.new_label || "left out";
  const act = (choice) => label(photo, choice.label); // a decision on a class, or on the empty text
  return card(photo, photo.name || `photo of ${photo.when}`, [element("p", answer, "soft")], choicesOfCollected(),
    photo.new_label, said, act, () => label(photo, null));
}

async function decide(item, choice) {
  const answer = await post("decide", { content_hash: item.content_hash, ...choice });
  if (!answer.error) Object.assign(item, answer);
  replace(byId("items"), item, cardOfItem(item), answer.error, choice.decision !== "undo");
  showStatus();
}

async function label(photo, chosen) {
  const answer = await post("label", { content_hash: photo.content_hash, label: chosen });
  if (!answer.error) Object.assign(photo, answer);
  replace(byId("collected"), photo, cardOfCollected(photo), answer.error, chosen !== null);
  showCollected();
}

// Puts the new card in the place of the old one; the focus goes on to the next photo after a decision.
function replace(list, photo, made, error, goesOn) {
  const old = [...list.children].find((one) => one.dataset.photo === photo.content_hash);
  if (!old) return;
  const focused = old.contains(document.activeElement);
  old.replaceWith(made);
  if (error) made.querySelector(".said").replaceChildren(element("span", error, "error"));
  if (focused) (goesOn && !error && made.nextElementSibling || made).focus();
}

function wanted() {
  const kind = byId("kind").value;
  return items.filter((item) => (!kind || item.found.some((one) => one.kind === kind))
    && (byId("decided").checked || item.decision === null));
}

function showItems() {
  const all = wanted();
  byId("items").replaceChildren(...all.slice(0, shown).map(cardOfItem));
  byId("more").hidden = all.length <= shown;
  showStatus();
}

function showStatus() {
  const left = items.filter((item) => item.decision === null).length;
  byId("status").textContent = items.length
    ? `${items.length - left} of ${items.length} photos decided, ${left} to go`
    : "The run found nothing to review.";
}

function showCollected() {
  const count = (test) => collected.filter(test).length;
  const labelled = count((photo) => photo.new_label);
  byId("collected-status").textContent = collected.length
    ? `${labelled} labelled, ${count((photo) => photo.new_label === "")} left out, `
      + `${count((photo) => photo.new_label === null)} to go`
    : "Nothing is collected yet.";
  byId("make").disabled = labelled === 0;
}

async function makeSpan() {
  const answer = await post("span", {});
  if (answer.error) {
    byId("collected-status").replaceChildren(element("span", answer.error, "error"));
    return;
  }
  collected = collected.filter((photo) => photo.new_label === null);
  byId("collected").replaceChildren(...collected.map(cardOfCollected));
  showCollected();
  byId("collected-status").textContent = `${answer.photos} ${answer.photos === 1 ? "photo is" : "photos are"} now the span ${answer.folder}.`;
}

function start(told) {
  labels = told.labels;
  items = told.items;
  collected = told.collected;
  document.title = `Review: ${told.name}`;
  byId("name").textContent = `Review: ${told.name}`;
  byId("run").textContent = told.run;
  byId("file").textContent = told.file;
  byId("command").textContent = told.command;
  byId("masks").hidden = !told.of_masks;
  byId("kind").append(new Option(`everything (${items.length})`, ""));
  for (const [kind, words] of Object.entries(KINDS)) {
    const count = items.filter((item) => item.found.some((one) => one.kind === kind)).length;
    if (count) byId("kind").append(new Option(`${words} (${count})`, kind));
  }
  showItems();
  byId("collection").hidden = !told.collects;
  byId("collected").replaceChildren(...collected.map(cardOfCollected));
  showCollected();
  if (told.found > items.length) byId("review-title").textContent += `: the first ${items.length} of ${told.found}`;
}

byId("kind").addEventListener("change", () => { shown = AT_ONCE; showItems(); });
byId("decided").addEventListener("change", showItems);
byId("more").addEventListener("click", () => { shown += AT_ONCE; showItems(); });
byId("make").addEventListener("click", makeSpan);
fetch("items").then((response) => response.json()).then((told) => {
  if (told.error) byId("status").textContent = told.error;
  else start(told);
}).catch(() => {
  byId("status").textContent = "The server does not answer.";
});
