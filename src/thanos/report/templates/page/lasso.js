// A lasso on the map selects the images inside: drawn by the pointer, or corner by corner with the keys.
const lasso = document.getElementById("lasso");
const rope = {corners: [], cursor: null, drawing: false};
const STEP = 0.02;  // of the map's width; with Shift five times as far

function isInside([x, y], corners) {  // by how often a ray to the right crosses the rim
  let inside = false;
  for (let k = 0, last = corners.length - 1; k < corners.length; last = k++) {
    const [ax, ay] = corners[k], [bx, by] = corners[last];
    if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
const toMap = (x, y) => [(x - width() * 0.5) / scale() + map.left, (y - height() * 0.5) / scale() + map.top];
const toCanvas = ([x, y]) => [(x - map.left) * scale() + width() * 0.5, (y - map.top) * scale() + height() * 0.5];
function drawRope(pen) {
  const corners = rope.corners.map(toCanvas);
  pen.strokeStyle = dark.matches ? "#fff" : "#000";
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  corners.forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
  if (rope.cursor && corners.length) pen.lineTo(...toCanvas(rope.cursor));
  pen.stroke();
  pen.setLineDash([]);
  for (const [x, y] of corners) pen.strokeRect(x - 2, y - 2, 4, 4);
  if (!rope.cursor) return;
  const [x, y] = toCanvas(rope.cursor);
  pen.beginPath();
  pen.moveTo(x - 9, y); pen.lineTo(x + 9, y); pen.moveTo(x, y - 9); pen.lineTo(x, y + 9);
  pen.stroke();
}
function stop() {
  modes.lasso = map.over = null;
  Object.assign(rope, {corners: [], cursor: null, drawing: false});
  lasso.setAttribute("aria-pressed", "false");
  said.textContent = "";
  redraw();
}
function closeRope() {
  const {corners} = rope, inside = [];
  for (let i = 0; i < count; i++) if (isDrawn(i) && isInside([data.x[i], data.y[i]], corners)) inside.push(i);
  stop();
  if (corners.length < 3 || !inside.length) { said.textContent = "No image lies inside the lasso."; return; }
  choose(inside);
  said.textContent = `${plural(inside.length, "image", "images")} ${inside.length === 1 ? "lies" : "lie"} inside the lasso.`;
  document.getElementById("to-move").focus();
}
const byLasso = {
  down(event) { Object.assign(rope, {corners: [toMap(event.offsetX, event.offsetY)], cursor: null, drawing: true}); redraw(); return true; },
  move(event) {
    if (rope.drawing) { rope.corners.push(toMap(event.offsetX, event.offsetY)); redraw(); }
    return true;
  },
  up() { if (rope.drawing) closeRope(); return true; },
  key(event) {
    const [x, y] = rope.cursor || toMap(width() / 2, height() / 2), way = WAYS[event.key];
    if (way) {
      const far = STEP * width() / scale() * (event.shiftKey ? 5 : 1), corner = toMap(0, 0), end = toMap(width(), height());
      rope.cursor = [Math.max(corner[0], Math.min(end[0], x + way[0] * far)), Math.max(corner[1], Math.min(end[1], y + way[1] * far))];
      const [left, top] = toCanvas(rope.cursor), beside = nearest(left, top, () => true, 24);
      said.textContent = beside < 0 ? "no image here" : `at ${data.names[beside]}, ${nameOf(base, edited.state, beside)}`;
    } else if (event.key === " ") {
      rope.cursor = [x, y];
      rope.corners.push([x, y]);
      said.textContent = `corner ${rope.corners.length}`;
    } else if (event.key === "Enter") closeRope();
    else if (event.key === "Escape") { stop(); said.textContent = "No lasso."; } else return false;
    redraw();
    return true;
  },
};
function startLasso() {
  if (modes.lasso) { stop(); return; }
  modes.lasso = byLasso;
  rope.cursor = toMap(width() / 2, height() / 2);
  map.over = drawRope;
  tip.hidden = true;
  lasso.setAttribute("aria-pressed", "true");
  canvas.focus();
  said.textContent = "Draw around images with the pointer. With keys: arrows move the cross (Shift: further), Space sets a corner, Enter closes the lasso, Escape leaves.";
  redraw();
}
lasso.onclick = startLasso;
canvas.addEventListener("keydown", event => { if (event.key === "l" && !event.ctrlKey && !event.metaKey && !modes.lasso) startLasso(); });
