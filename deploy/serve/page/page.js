"use strict";

const MOST_ROWS = 5; // classes that are listed of an answer
const MOST_SHARES = 12; // classes that are listed of a mask
const AT_ONCE = 4; // photos that are asked about at the same time

const zone = document.getElementById("photos");
const input = document.getElementById("files");
const status = document.getElementById("status");
const answers = document.getElementById("answers");
const waiting = [];
let asking = 0;
let answered = 0;
let failed = 0;
let largest = Infinity; // bytes

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)}%`;
}

function showVersion(version) {
  document.getElementById("version").textContent = version;
}

function showStatus() {
  const left = waiting.length + asking;
  const parts = [`${answered} answered`];
  if (failed) parts.push(`${failed} failed`);
  if (left) parts.push(`${left} to go`);
  status.textContent = parts.join(", ");
}

function picture(file) {
  const image = new Image();
  image.alt = "";
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => image.remove(); // browsers do not show every format that the model reads
  image.src = URL.createObjectURL(file);
  return image;
}

function layMask(item, answer) {
  const stack = element("span", "", "stack");
  const photo = item.querySelector("img");
  if (photo) stack.append(photo);
  const mask = new Image();
  mask.alt = "mask of the photo";
  mask.src = answer.mask;
  stack.append(mask);
  item.prepend(stack);
}

function fillShares(text, name, answer) {
  text.append(element("h2", name), element("p", `answered by version ${answer.version}`, "soft"));
  const table = element("table");
  const largest = Object.entries(answer.shares).filter((share) => share[1] > 0).sort((a, b) => b[1] - a[1]);
  for (const [label, share] of largest.slice(0, MOST_SHARES)) {
    const row = table.insertRow();
    const head = element("th");
    head.scope = "row";
    const colour = answer.colours[label];
    const swatch = element("span", "", "swatch");
    if (colour) swatch.style.backgroundColor = colour;
    head.append(swatch, label);
    row.append(head, element("td", percent(share), "number"));
    const bar = element("progress");
    bar.value = share;
    bar.setAttribute("aria-hidden", "true"); // the number says the same
    row.insertCell().append(bar);
  }
  text.append(table);
  const hidden = largest.length - MOST_SHARES;
  if (hidden > 0) text.append(element("p", `and ${hidden} with fewer pixels`, "soft"));
}

function fill(item, name, answer) {
  const text = element("div");
  if (answer.error) {
    item.classList.add("failed");
    text.append(element("h2", name), element("p", answer.error));
  } else if (answer.shares) {
    layMask(item, answer);
    fillShares(text, name, answer);
  } else {
    const unsure = answer.abstains ? ", but the model abstains: it is not sure enough" : "";
    text.append(element("h2", `${answer.label} ${percent(answer.probability)}${unsure}`, unsure && "unsure"));
    text.append(element("p", `${name}, answered by version ${answer.version}`, "soft"));
    const table = element("table");
    const likeliest = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
    for (const [label, probability] of likeliest.slice(0, MOST_ROWS)) {
      const row = table.insertRow();
      const head = element("th", label);
      head.scope = "row";
      const bar = element("progress");
      bar.value = probability;
      bar.setAttribute("aria-hidden", "true"); // the number says the same
      row.append(head);
      const number = element("td", percent(probability), "number");
      row.append(number);
      row.insertCell().append(bar);
    }
    text.append(table);
    const hidden = likeliest.length - MOST_ROWS;
    if (hidden > 0) text.append(element("p", `and ${hidden} less likely`, "soft"));
  }
  item.append(text);
}

async function ask(file) {
  if (file.size > largest) {
    return { error: `The file has ${(file.size / 1e6).toFixed(1)} MB; at most ${largest / 1e6} MB are read.` };
  }
  for (let tries = 0; ; tries += 1) {
    try {
      const response = await fetch("answer", { method: "POST", body: file });
      if (response.status === 503 && tries < 20) { // the queue is full
        await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response.headers.get("Retry-After") || 1)));
        continue;
      }
      return await response.json();
    } catch {
      return { error: "The server did not answer, or the file cannot be read." };
    }
  }
}

async function work() {
  while (waiting.length) {
    const { file, item } = waiting.shift();
    asking += 1;
    const answer = await ask(file);
    asking -= 1;
    if (answer.error) failed += 1;
    else answered += 1;
    if (answer.version) showVersion(answer.version);
    fill(item, file.name || "pasted photo", answer);
    showStatus();
  }
}

function add(files) {
  for (const file of files) {
    const item = element("li");
    item.append(picture(file));
    answers.prepend(item);
    waiting.push({ file, item });
  }
  for (let workers = asking; workers < Math.min(AT_ONCE, asking + waiting.length); workers += 1) work();
  if (files.length) showStatus();
}

input.addEventListener("change", () => {
  add([...input.files]);
  input.value = ""; // the same file may be chosen again
});
document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  add([...event.dataTransfer.files]);
});

fetch("model").then((response) => response.json()).then((model) => {
  document.title = model.name;
  document.getElementById("name").textContent = model.name;
  showVersion(model.version);
  largest = model.largest_photo_bytes;
  if (model.keeps_unsure_photos) {
    document.getElementById("keeps").textContent = "and it keeps some of them to learn from, such as those it is not sure of";
  }
}).catch(() => {
  status.textContent = "The server does not answer.";
});
