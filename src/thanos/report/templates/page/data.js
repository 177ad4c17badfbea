// The page's data: numbers are packed as base64, names are plain; thumbnails lie side by side in one picture or several.
const read = id => JSON.parse(document.getElementById(id).textContent);
function unpack(text, kind) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  return new kind(bytes.buffer);
}
const data = read("points"), base = read("edits"), count = data.names.length;
data.x = unpack(data.x, Uint16Array);
data.y = unpack(data.y, Uint16Array);
data.confidence = unpack(data.confidence, Uint8Array);
for (const kind of data.kinds) kind.ids = unpack(kind.ids, Int32Array);
base.leaf = unpack(base.leaf, Int32Array);
base.content = unpack(base.content, Uint8Array);
base.nearest.rows = unpack(base.nearest.rows, Int32Array);
base.superclasses = data.kinds[0].names;

const kindCalled = title => data.kinds.find(kind => kind.title === title);
const number = value => value.toLocaleString("en");
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

// What one part of the page tells the others: "state" (edits), "selection", "colouring", "look" (at an image), "toggle" and "only" (of what a colouring names).
const listeners = {};
const on = (event, hear) => (listeners[event] ||= []).push(hear);
const tell = (event, ...what) => (listeners[event] || []).forEach(hear => hear(...what));

function element(tag, {text, children = [], ...attributes} = {}) {  // names of users' files only ever become text
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

const sheets = [];
const isPictured = i => data.sprite !== null && i % data.sprite.stride === 0;
function whenLoaded(place, paint) {  // pictures beside the page are loaded when one of their thumbnails is wanted
  if (!sheets[place]) {
    sheets[place] = new Image();
    sheets[place].src = data.sprite.sheets[place];
  }
  const sheet = sheets[place];
  if (sheet.complete && sheet.naturalWidth) paint(sheet);
  else sheet.addEventListener("load", () => paint(sheet), {once: true});
}
function paintThumbnail(canvas, i) {  // onto all of a canvas; nothing where the image has none
  const pen = canvas.getContext("2d"), {each, columns, side, edge, stride} = data.sprite || {}, cell = side + 2 * edge;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  canvas.dataset.shows = i;
  if (!isPictured(i)) return;
  const k = i / stride % each;
  whenLoaded(Math.floor(i / stride / each), sheet => {
    if (canvas.dataset.shows !== String(i)) return;  // it shows another image by now
    pen.imageSmoothingEnabled = side >= 32 && canvas.width > side;
    pen.drawImage(sheet, k % columns * cell + edge, Math.floor(k / columns) * cell + edge, side, side, 0, 0, canvas.width, canvas.height);
  });
}
function thumbnail(i, size) {
  const canvas = element("canvas", {width: size, height: size, "aria-hidden": "true"});
  paintThumbnail(canvas, i);
  return canvas;
}
