// The map: all images in the plane, coloured by one of several kinds of label; pans, zooms, and goes from image to image.
const COLOURS = ["#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#777777"];
const BRIGHT = ["#8f86e8", "#88ccee", "#44c2b0", "#4fbf6b", "#bcbc4a", "#ddcc77", "#e58a97", "#d1659c", "#d284cc", "#aaaaaa"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const canvas = document.getElementById("map"), pen = canvas.getContext("2d");
const tip = document.getElementById("tip"), facts = document.getElementById("facts"), picture = document.getElementById("picture");
const select = document.getElementById("kind"), legend = document.getElementById("legend"), said = document.getElementById("said");
const map = {kind: data.kinds[1], hidden: new Set(), zoom: 1, left: 0, top: 0, chosen: -1, shown: new Uint8Array(count).fill(1), ringed: new Set(), over: null};
if (!data.sprite) picture.remove();
data.kinds.forEach((each, i) => select.add(new Option(each.title, i, i === 1, i === 1)));

const colourOf = id => id < 0 ? "#999999" : (dark.matches ? BRIGHT : COLOURS)[id % 10];
function shapes() {  // by id: of the superclass, where three shapes and ten colours so tell all apart; else another after ten colours
  const home = data.kinds[0].ids, of = [], looks = new Set();
  let plain = data.kinds[0].names.length <= 3;
  for (let i = 0; i < count && plain; i++) {
    const id = map.kind.ids[i];
    if (id >= 0) plain = (of[id] ??= home[i]) === home[i];
  }
  of.forEach((shape, id) => looks.add(10 * shape + id % 10));
  plain &&= looks.size === Object.keys(of).length;
  return id => id < 0 ? 0 : plain ? of[id] ?? 0 : Math.floor(id / 10) % 3;
}
const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
const width = () => canvas.clientWidth, height = () => canvas.clientHeight;
const range = places => places.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, -Infinity]);
const across = range(data.x), down = range(data.y);
canvas.style.aspectRatio = (across[1] - across[0] || 1) / (down[1] - down[0] || 1);
const scale = () => map.zoom * 0.94 * Math.min(width() / (across[1] - across[0] || 1), height() / (down[1] - down[0] || 1));
const radius = () => Math.max(1.5, Math.min(5, 90 / Math.sqrt(count))) * Math.sqrt(Math.min(map.zoom, 4));
const isDrawn = i => map.shown[i] && !map.hidden.has(map.kind.ids[i]);
function at(i) {
  const size = scale();
  return [(data.x[i] - map.left) * size + width() * 0.5, (data.y[i] - map.top) * size + height() * 0.5];
}

let due = false;
function redraw() {  // once a frame, however often it is asked for
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}
function draw() {
  const ratio = window.devicePixelRatio || 1, wide = Math.round(width() * ratio), high = Math.round(height() * ratio);
  if (!wide || !high) return;
  if (canvas.width !== wide || canvas.height !== high || !map.image) {
    Object.assign(canvas, {width: wide, height: high});
    map.image = new ImageData(wide, high);
  }
  const paper = getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number), ids = map.kind.ids;
  const colours = Array.from({length: map.kind.names.length + 1}, (_, k) => rgb(colourOf(k - 1)));
  const off = Uint8Array.from(colours, (_, k) => map.hidden.has(k - 1) ? 1 : 0);
  const size = scale() * ratio, x0 = wide / 2 - map.left * size, y0 = high / 2 - map.top * size;
  const place = (i, to) => { to[0] = data.x[i] * size + x0; to[1] = data.y[i] * size + y0; };
  rasterise(map.image, paper, radius() * ratio, colours, k => map.shapeOf(k - 1), count, place, i => map.shown[i] && !off[ids[i] + 1] ? ids[i] + 1 : -1);
  pen.putImageData(map.image, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.strokeStyle = dark.matches ? "#fff" : "#000";
  pen.lineWidth = 1;
  for (const i of map.ringed) if (isDrawn(i)) ring(i, radius() + 1.5);
  pen.lineWidth = 2;
  if (map.chosen >= 0) ring(map.chosen, radius() + 4);
  map.over?.(pen);
}
function ring(i, size) {
  const [x, y] = at(i);
  pen.beginPath();
  pen.arc(x, y, size, 0, 7);
  pen.stroke();
}

function legendPoint(id) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg"), form = ["circle", "rect", "polygon"][map.shapeOf(id)];
  const point = document.createElementNS("http://www.w3.org/2000/svg", form), place = {circle: {r: 5}, rect: {x: -5, y: -5, width: 10, height: 10}, polygon: {points: "0,-6 5,5 -5,5"}}[form];
  for (const [name, value] of Object.entries(place)) point.setAttribute(name, value);
  point.setAttribute("fill", colourOf(id));
  drawing.setAttribute("viewBox", "-6 -6 12 12");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(point);
  return drawing;
}
function drawLegend() {
  const size = new Map();
  map.shapeOf = shapes();  // what is shown has changed
  for (const id of map.kind.ids) size.set(id, (size.get(id) || 0) + 1);
  legend.replaceChildren(...[...size.keys()].sort((a, b) => a - b).map(id => {
    const text = ` ${id < 0 ? "unknown" : map.kind.names[id]} (${number(size.get(id))})`;
    const button = element("button", {type: "button", "aria-pressed": String(!map.hidden.has(id)), children: [legendPoint(id), text]});
    button.onclick = () => {
      if (!map.hidden.delete(id)) map.hidden.add(id);
      button.setAttribute("aria-pressed", String(!map.hidden.has(id)));
      redraw();
    };
    return element("li", {children: [button]});
  }));
}

const labelsOf = i => data.kinds.map(each => `${each.title}: ${each.ids[i] < 0 ? "unknown" : each.names[each.ids[i]]}`);
function show(i, speak) {
  map.chosen = i;
  redraw();
  tip.hidden = i < 0;
  if (i < 0) return;
  const lines = [data.names[i], ...labelsOf(i)], [x, y] = at(i);
  facts.replaceChildren(...lines.map(text => element("div", {text})));
  picture.hidden = !isPictured(i);
  if (isPictured(i)) paintThumbnail(picture, i);
  tip.style.left = `${Math.max(0, Math.min(x + 14, width() - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(0, Math.min(y + 14, height() - tip.offsetHeight - 4))}px`;
  if (speak) said.textContent = lines.join(" · ");
}
function nearest(x, y, allowed, reach) {
  const size = scale(), px = (x - width() * 0.5) / size + map.left, py = (y - height() * 0.5) / size + map.top;
  let best = -1, far = (reach / size) ** 2;
  for (let i = 0; i < count; i++) {
    const d = (data.x[i] - px) ** 2 + (data.y[i] - py) ** 2;
    if (d < far && isDrawn(i) && allowed(i)) { far = d; best = i; }
  }
  return best;
}
function whole() { Object.assign(map, {zoom: 1, left: (across[0] + across[1]) / 2, top: (down[0] + down[1]) / 2}); }
function zoomAt(x, y, factor) {
  const before = scale();
  map.zoom = Math.max(1, Math.min(40, map.zoom * factor));
  map.left += (x - width() / 2) * (1 / before - 1 / scale());
  map.top += (y - height() / 2) * (1 / before - 1 / scale());
  redraw();
}

// Pointer and keys. While a lasso is drawn (lasso.js) they are its own.
const modes = {lasso: null};
let drag = null;
const pointed = event => nearest(event.offsetX, event.offsetY, () => true, 24);
canvas.addEventListener("pointermove", event => {
  if (modes.lasso?.move(event)) return;
  if (!drag) { show(pointed(event), false); return; }
  map.left -= (event.offsetX - drag.x) / scale();
  map.top -= (event.offsetY - drag.y) / scale();
  drag = {x: event.offsetX, y: event.offsetY, far: drag.far + Math.abs(event.movementX) + Math.abs(event.movementY)};
  redraw();
});
canvas.addEventListener("pointerdown", event => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  if (!modes.lasso?.down(event)) drag = {x: event.offsetX, y: event.offsetY, far: 0};
});
canvas.addEventListener("pointerup", event => {
  if (modes.lasso?.up(event)) return;
  const clicked = drag && drag.far < 4, i = pointed(event);
  drag = null;
  show(i, false);
  if (clicked && i >= 0) tell("look", i, [i]);
});
canvas.addEventListener("lostpointercapture", () => { drag = null; });
canvas.addEventListener("pointerleave", event => { if (!drag && event.pointerType !== "touch") show(-1, false); });
canvas.addEventListener("wheel", event => { event.preventDefault(); zoomAt(event.offsetX, event.offsetY, event.deltaY < 0 ? 1.25 : 0.8); }, {passive: false});
const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
canvas.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (modes.lasso?.key(event)) { event.preventDefault(); return; }
  const done = {
    "+": () => zoomAt(width() / 2, height() / 2, 1.25),
    "-": () => zoomAt(width() / 2, height() / 2, 0.8),
    Escape: () => show(-1, false),
    Enter: () => { if (map.chosen >= 0) tell("look", map.chosen, [map.chosen]); },
    " ": () => { if (map.chosen >= 0) tell("toggle", map.chosen); },
  }[event.key];
  if (WAYS[event.key]) step(WAYS[event.key]);
  else if (done) done();
  else return;
  event.preventDefault();
});
function step([dx, dy]) {
  if (map.chosen < 0) { show(nearest(width() / 2, height() / 2, () => true, 1e9), true); return; }
  const x = data.x[map.chosen], y = data.y[map.chosen], [left, top] = at(map.chosen);
  const ahead = i => {
    const along = (data.x[i] - x) * dx + (data.y[i] - y) * dy;
    return along > 0 && along >= Math.abs((data.x[i] - x) * dy + (data.y[i] - y) * dx);
  };
  const next = nearest(left, top, ahead, 1e9);
  if (next >= 0) show(next, true);
}

document.getElementById("home").onclick = () => { whole(); redraw(); };
select.onchange = () => { Object.assign(map, {kind: data.kinds[select.value], hidden: new Set()}); drawLegend(); redraw(); };
dark.addEventListener("change", () => { drawLegend(); redraw(); });
on("colouring", (kind, now) => {  // a further way to colour: cuts, edits
  let place = data.kinds.findIndex(each => each.title === kind.title);
  if (place < 0) { place = data.kinds.push(kind) - 1; select.add(new Option(kind.title, place)); }
  const taken = now || map.kind === data.kinds[place];
  data.kinds[place] = kind;
  if (!taken) return;
  select.value = place;
  Object.assign(map, {kind, hidden: new Set()});
  drawLegend();
  redraw();
});
new ResizeObserver(redraw).observe(canvas);
whole();
drawLegend();
draw();
performance.mark("map drawn");
