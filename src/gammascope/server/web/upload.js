"use strict";
// Sending pictures: two at a time, patient with a busy server, and never louder than it allows.

const AT_ONCE = 2;
const TRIES = 20;

const server = { key: "", bounds: null };
const line = [];
let sending = 0;

async function askForBounds() {
  try {
    const answer = await fetch("/v1/methods", { headers: authority() });
    if (answer.ok) server.bounds = (await answer.json()).serving;
    return answer.status;
  } catch {
    return 0;
  }
}

function megabytes(bytes) {
  return `${bytes < 1e7 ? Math.floor(bytes / 1e5) / 10 : Math.floor(bytes / 1e6)} MB`;
}

function authority() {
  return server.key ? { Authorization: `Bearer ${server.key}` } : {};
}

// Calls entry.tell(state, details) as it goes: "waiting", "sending", "examining", "busy", then "done" or "failed".
function enqueue(entry) {
  entry.tell("waiting");
  line.push(entry);
  sendNext();
}

async function sendNext() {
  if (sending >= AT_ONCE || !line.length) return;
  sending += 1;
  const entry = line.shift();
  try {
    await examine(entry);
  } catch (error) {
    entry.tell("failed", { detail: `The page could not use the answer (${error.message}).` });
  } finally {
    sending -= 1;
    sendNext();
  }
}

async function examine(entry) {
  const allowed = server.bounds && server.bounds.file_bytes;
  if (allowed && entry.file.size > allowed) {
    entry.tell("failed", { status: 413, detail: `More than the ${megabytes(allowed)} that this server takes.` });
    return;
  }
  for (let attempt = 1; attempt <= TRIES && !entry.dropped; attempt += 1) {
    const { status, body, wait } = await post(entry);
    if (status === 200) {
      await entry.tell("done", { report: body.results[0], version: body.version });
      return;
    }
    if (status !== 429 || attempt === TRIES) {
      entry.tell("failed", { status, detail: problemText(status, body) });
      return;
    }
    for (let left = wait; left > 0 && !entry.dropped; left -= 1) {
      entry.tell("busy", { detail: `${body && body.title ? body.title : "The server is busy"}: next try in ${left} s.` });
      await new Promise((resume) => setTimeout(resume, 1000));
    }
  }
}

function problemText(status, body) {
  if (body && body.title) return `${body.title}. ${body.detail || ""}`.trim();
  if (!status) return "The server cannot be reached. Is it still running?";
  return `The server answered with ${status}.`;
}

// XMLHttpRequest, because fetch does not tell how much was sent.
function post(entry) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("files", entry.file, entry.file.name || "pasted picture.png");
    request.open("POST", "/v1/detect?masks=true&quiet_masks=true");
    for (const [name, value] of Object.entries(authority())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) entry.tell("sending", { share: event.loaded / event.total });
    });
    request.upload.addEventListener("load", () => entry.tell("examining"));
    request.addEventListener("loadend", () => {
      const wait = Number(request.getResponseHeader("Retry-After")) || 3;
      resolve({ status: request.status, body: request.response, wait });
    });
    request.send(form);
  });
}
