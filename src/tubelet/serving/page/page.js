// The page: a clip or the camera in; bars, a timeline and pictures of where the model looked out.

import { ask, keep, listen } from "./asking.js";

const FRAMES_A_SECOND = 8;
const SHORT_SIDE = 256;
const KINDS = 5;

const $ = id => document.getElementById(id);
const percent = share => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const seconds = time => `${time.toFixed(1)} s`;
const chosen = () => encodeURIComponent($("model").value);

let file = null;
let asked = new AbortController();
let camera = null;

function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function fail(error) {
  if (error.name === "AbortError") return;
  if (error.code === "unauthorized") {
    $("gate").hidden = false;
    $("token").focus();
  }
  $("alert").textContent = error.message;
}

async function begin() {
  try {
    const { models, upload_mb } = await ask("/models");
    $("limit").textContent = `${upload_mb} MB`;
    $("model").replaceChildren(...models.map(model => new Option(model.name, model.name)));
    $("choice").hidden = models.length < 2;
    $("gate").hidden = true;
    $("alert").textContent = "";
  } catch (error) {
    fail(error);
  }
}

// What is said ------------------------------------------------------------------------------------------------------

function summarize(answer) {
  if (answer.task === "multilabel") return answer.labels.join(", ") || "None of the classes";
  return answer.is_unknown ? `${answer.label}?` : answer.label;
}

function doubt(answer) {
  const said = [];
  if (answer.is_unknown) said.push("This is unlike the clips that the model knows: perhaps it is none of its classes.");
  const set = answer.label_set;
  if (set && set.length > 1) {
    const shown = set.length > 6 ? `any of ${set.length} classes` : set.join(", ");
    said.push(`With 90\u00a0% certainty it is one of these: ${shown}.`);
  }
  return said.join(" ");
}

function showBars(answer) {
  const text = summarize(answer);
  if ($("said").textContent !== text) $("said").textContent = text; // a screen reader says it again only where it is new
  $("doubt").textContent = doubt(answer);
  const rows = answer.top.map(({ label, score }) => {
    const row = make("li");
    const track = make("span", "", "track");
    const bar = make("span");
    bar.style.width = `${100 * score}%`;
    track.append(bar);
    row.append(make("span", label), make("span", percent(score), "share"), track);
    return row;
  });
  $("bars").replaceChildren(...rows);
  $("answer").hidden = false;
}

function showTimeline(parts) {
  $("times").hidden = !parts || parts.length < 2;
  if ($("times").hidden) return;
  const counts = new Map();
  for (const part of parts) counts.set(part.label, (counts.get(part.label) ?? 0) + 1);
  const labels = [...counts.keys()].sort((one, other) => counts.get(other) - counts.get(one));
  const kind = label => Math.min(labels.indexOf(label), KINDS);
  // Numbers say what colors say, for those who cannot tell these apart.
  const mark = label => (kind(label) < KINDS ? String(kind(label) + 1) : "…");
  const rows = parts.map(part => {
    const row = make("li");
    const button = make("button");
    const level = make("span", "", `level k${kind(part.label)}`);
    level.style.height = `${100 * part.score}%`;
    const sign = make("span", "", "mark");
    sign.append(make("b", mark(part.label)));
    const text = `${seconds(part.start_s)} to ${seconds(part.end_s)}: ${part.label}, ${percent(part.score)}`;
    button.type = "button";
    button.title = text;
    button.setAttribute("aria-label", text);
    button.append(level, sign);
    button.addEventListener("click", () => { $("clip").currentTime = part.start_s; });
    row.append(button);
    return row;
  });
  $("timeline").replaceChildren(...rows);
  const named = labels.slice(0, KINDS).map(label => make("li", `${mark(label)} ${label}`));
  if (labels.length > KINDS) named.push(make("li", "… others"));
  $("legend").replaceChildren(...named);
}

function clear() {
  asked.abort();
  asked = new AbortController();
  $("alert").textContent = "";
  $("answer").hidden = true;
  $("said").textContent = "";
  for (const id of ["times", "looks"]) $(id).hidden = true;
  for (const id of ["frames", "bars"]) $(id).replaceChildren();
  for (const id of ["peak", "pace", "doubt"]) $(id).textContent = "";
  $("explain").disabled = false;
}

// A clip ------------------------------------------------------------------------------------------------------------

function send(path) {
  return ask(path, { method: "POST", body: file, signal: asked.signal });
}

async function take(given) {
  stopCamera();
  clear();
  file = given;
  const isPicture = file.type === "image/gif";
  for (const [id, used] of [["moving", isPicture], ["clip", !isPicture]]) {
    if ($(id).src) URL.revokeObjectURL($(id).src);
    $(id).hidden = !used;
    if (used) $(id).src = URL.createObjectURL(file);
    else $(id).removeAttribute("src");
  }
  $("answer").hidden = false;
  $("said").textContent = "Looking …";
  await classify();
}

async function classify() {
  try {
    const answer = await send(`/predict?timeline=true&model=${chosen()}`);
    showBars(answer);
    $("pace").textContent = `${seconds(answer.duration_s)} of video`;
    showTimeline(answer.timeline);
    $("looks").hidden = false;
    $("answer-title").focus({ preventScroll: true });
  } catch (error) {
    if (error.name !== "AbortError") $("answer").hidden = true;
    fail(error);
  }
}

async function explain() {
  $("explain").disabled = true;
  $("peak").textContent = "Looking …";
  try {
    const told = await send(`/explain?model=${chosen()}`);
    const best = told.curve.indexOf(Math.max(...told.curve));
    const found = told.curve.some(share => share > 0);
    $("peak").textContent = found
      ? `For “${told.label}”, what counted most was around ${seconds(told.times_s[best])}. Bright spots counted, gray ones did not (${told.method.replaceAll("_", " ")}).`
      : `Nothing in the clip speaks for “${told.label}”.`;
    $("frames").replaceChildren(...told.frames.map(frame => {
      const figure = make("figure");
      const picture = make("img");
      picture.src = frame.image;
      picture.alt = `Frame at ${seconds(frame.time_s)}, bright where the model looked`;
      figure.append(picture, make("figcaption", seconds(frame.time_s)));
      return figure;
    }));
  } catch (error) {
    $("peak").textContent = "";
    $("explain").disabled = false;
    fail(error);
  }
}

// The camera --------------------------------------------------------------------------------------------------------

async function startCamera() {
  clear();
  file = null;
  try {
    if (!navigator.mediaDevices) throw new Error("Browsers give cameras to localhost and https pages only.");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    $("moving").hidden = true;
    $("clip").removeAttribute("src");
    $("clip").srcObject = stream;
    $("clip").controls = false;
    $("clip").hidden = false;
    await $("clip").play();
    const socket = listen(`/stream?model=${chosen()}`);
    camera = { stream, socket, timer: setInterval(sendFrame, 1000 / FRAMES_A_SECOND) };
    socket.addEventListener("message", message => { hear(JSON.parse(message.data)); });
    socket.addEventListener("close", event => {
      if (camera?.socket !== socket) return;
      stopCamera();
      fail(new Error(event.code === 1013 ? "The server has no place for another camera." : "The live stream ended."));
    });
    $("camera").textContent = "Stop the camera";
    $("camera").setAttribute("aria-pressed", "true");
    $("answer").hidden = false;
    $("said").textContent = "Looking …";
  } catch (error) {
    stopCamera();
    fail(error.name === "NotAllowedError" ? new Error("The browser was not allowed to use the camera.") : error);
  }
}

function stopCamera() {
  const own = camera;
  camera = null;
  clearInterval(own?.timer);
  own?.socket.close();
  $("clip").srcObject?.getTracks().forEach(track => track.stop());
  if ($("clip").srcObject) $("clip").hidden = true;
  $("clip").srcObject = null;
  $("clip").controls = true;
  $("camera").textContent = "Use the camera";
  $("camera").setAttribute("aria-pressed", "false");
}

const canvas = document.createElement("canvas");

function sendFrame() {
  const video = $("clip");
  const socket = camera?.socket;
  if (!video.videoWidth || socket?.readyState !== WebSocket.OPEN || socket.bufferedAmount > SHORT_SIDE * 1024) return;
  const scale = Math.min(SHORT_SIDE / Math.min(video.videoWidth, video.videoHeight), 1);
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(blob => { if (blob && socket.readyState === WebSocket.OPEN) socket.send(blob); }, "image/jpeg", 0.85);
}

function hear(said) {
  if (!camera) return;
  if (said.top) showBars(said);
  const waits = said.missing ? `${said.missing} more pictures until the first answer. ` : "";
  $("pace").textContent = said.dropped ? `${waits}${said.dropped} pictures came too fast and were left out.` : waits;
}

// What people do ----------------------------------------------------------------------------------------------------

$("gate").addEventListener("submit", event => {
  event.preventDefault();
  keep($("token").value);
  begin();
});
$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]); });
$("camera").addEventListener("click", () => { camera ? (stopCamera(), clear()) : startCamera(); });
$("explain").addEventListener("click", explain);
$("model").addEventListener("change", () => { if (file) { clear(); classify(); } else if (camera) { stopCamera(); startCamera(); } });
addEventListener("dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
begin();
