// The images, as far as the filters leave them: a list to walk through and to select from.
const gallery = document.getElementById("gallery"), where = document.getElementById("where"), filters = document.getElementById("filters");
const chosen = new Set(), EACH = 48;
const view = {rows: new Int32Array(0), page: 0, at: 0, from: 0};
const field = name => filters.elements[name];
const errs = kindCalled("plain classifier");
if (!errs) field("error").closest("label").remove();

function fillFilters() {  // what can be chosen, as edited
  const keep = field("subclass").value;
  field("subclass").replaceChildren(new Option("any", ""), ...groupsOf(base, edited.state).map(({name}) => new Option(name, `=${name}`)));
  field("subclass").value = keep;
  if (field("subclass").selectedIndex < 0) field("subclass").value = "";
}
function filter() {
  const superclass = field("superclass").value, subclass = field("subclass").value, error = errs ? field("error").value : "";
  const most = field("confidence").value === "" ? 255 : 255 * Number(field("confidence").value), text = field("path").value.trim().toLowerCase();
  const fits = i => (superclass === "" || base.home[base.leaf[i]] === Number(superclass))
    && (subclass === "" || `=${nameOf(base, edited.state, i)}` === subclass)
    && (error === "" || errs.ids[i] === Number(error))
    && (field("picked").value === "" || chosen.has(i))
    && data.confidence[i] <= most
    && (text === "" || data.names[i].toLowerCase().includes(text));
  map.shown = Uint8Array.from({length: count}, (_, i) => fits(i) ? 1 : 0);
  view.rows = Int32Array.from(map.shown.keys()).filter(i => map.shown[i]);
  if (field("order").value === "confidence") view.rows.sort((a, b) => data.confidence[a] - data.confidence[b] || a - b);
  Object.assign(view, {page: 0, at: 0, from: 0});
  redraw();
  drawGallery();
  sayShown();
}
function sayShown() {  // how many are selected, and how many the filters leave: beside the images, and at the map
  const n = chosen.size, away = [...chosen].filter(i => !map.shown[i]).length, some = view.rows.length < count;
  const aside = away ? `, ${away === n ? "" : `${number(away)} of them `}not shown here` : "";
  document.getElementById("chosen").textContent = n ? `${plural(n, "image", "images")} selected${aside}` : "no image selected";
  document.getElementById("picked").textContent = n ? document.getElementById("chosen").textContent : "";
  document.getElementById("to-move").hidden = !n;
  document.getElementById("part").textContent = some ? `${number(view.rows.length)} of ${number(count)} shown` : "";
  document.getElementById("show-all").hidden = !some;
}

const pages = () => Math.max(1, Math.ceil(view.rows.length / EACH));
const onPage = () => view.rows.subarray(view.page * EACH, (view.page + 1) * EACH);
function drawGallery() {
  const rows = onPage();
  gallery.replaceChildren(...[...rows].map((i, k) => {
    const tile = element("div", {role: "option", id: `tile${k}`, title: data.names[i]});
    if (isPictured(i)) tile.append(thumbnail(i, 64));
    else tile.append(element("span", {text: data.names[i].split("/").at(-1), "aria-hidden": "true"}));
    return tile;
  }));
  const first = view.page * EACH + 1, n = view.rows.length;
  where.textContent = n ? `${number(first)} to ${number(first + rows.length - 1)} of ${number(n)}${n < count ? ` (of all ${number(count)} images)` : ""}` : "No image fits the filters.";
  gallery.setAttribute("aria-label", `Images, ${where.textContent}`);
  for (const [id, off] of [["earlier-page", view.page === 0], ["later-page", view.page >= pages() - 1]]) document.getElementById(id).setAttribute("aria-disabled", String(off));
  markTiles();
}
function markTiles() {
  onPage().forEach((i, k) => {
    const tile = gallery.children[k];
    tile.setAttribute("aria-selected", String(chosen.has(i)));
    tile.setAttribute("aria-label", `${data.names[i]}, ${nameOf(base, edited.state, i)}${errs && errs.ids[i] === 1 ? ", a plain classifier errs" : ""}`);
    tile.classList.toggle("at", view.page * EACH + k === view.at);
  });
  if (view.rows.length) gallery.setAttribute("aria-activedescendant", `tile${view.at % EACH}`);
  else gallery.removeAttribute("aria-activedescendant");
}
function go(place) {  // to an image of the list, counted through all pages
  view.at = Math.max(0, Math.min(view.rows.length - 1, place));
  const page = Math.floor(view.at / EACH);
  if (page !== view.page) { view.page = page; drawGallery(); } else markTiles();
  gallery.children[view.at % EACH]?.scrollIntoView({block: "nearest"});
}
function turn(by) {
  if (view.page + by < 0 || view.page + by >= pages()) return;
  go((view.page + by) * EACH);
  view.from = view.at;
}

function choose(images, on = true) {
  for (const i of images) if (on) chosen.add(i); else chosen.delete(i);
  tell("selection");
}
function chooseTo(place) {  // from the one that was chosen last
  choose(view.rows.subarray(Math.min(view.from, place), Math.max(view.from, place) + 1));
  go(place);
}
function toggle(place) {
  view.from = place;
  go(place);
  choose([view.rows[place]], !chosen.has(view.rows[place]));
}
const inRow = () => Math.max(1, getComputedStyle(gallery).gridTemplateColumns.split(" ").length);
gallery.addEventListener("keydown", event => {
  const far = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -inRow(), ArrowDown: inRow(), PageUp: -EACH, PageDown: EACH, Home: -Infinity, End: Infinity}[event.key];
  const command = event.ctrlKey || event.metaKey;
  if (far !== undefined && !command) {
    const place = Math.max(0, Math.min(view.rows.length - 1, view.at + far));
    if (event.shiftKey) chooseTo(place); else { go(place); view.from = view.at; }
  } else if (event.key === " ") toggle(view.at);
  else if (event.key === "Enter" && view.rows.length) tell("look", view.rows[view.at], view.rows);
  else if (event.key.toLowerCase() === "a" && command) choose(view.rows);
  else if (event.key === "Escape") clearChosen();
  else if (event.key.toLowerCase() === "m" && !command) moveChosen.focus();
  else return;
  event.preventDefault();
});
const placeOf = event => {
  const tile = event.target.closest("[role=option]");
  return tile ? view.page * EACH + [...gallery.children].indexOf(tile) : -1;
};
gallery.addEventListener("click", event => {
  const place = placeOf(event);
  if (place < 0) return;
  if (event.shiftKey) chooseTo(place); else toggle(place);
});
gallery.addEventListener("dblclick", event => { if (placeOf(event) >= 0) tell("look", view.rows[placeOf(event)], view.rows); });
function clearChosen() { chosen.clear(); tell("selection"); }
document.getElementById("all").onclick = () => choose(view.rows);
document.getElementById("none").onclick = clearChosen;
document.getElementById("closer").onclick = () => {  // at those that are selected, if some are
  const rows = chosen.size ? [...chosen].sort((a, b) => a - b) : view.rows;
  if (rows.length) tell("look", rows.includes(view.rows[view.at]) ? view.rows[view.at] : rows[0], rows);
};
document.getElementById("earlier-page").onclick = () => turn(-1);
document.getElementById("later-page").onclick = () => turn(1);
document.getElementById("to-move").onclick = () => {  // with what is to be moved before one's eyes
  filters.reset();
  field("picked").value = "1";
  filter();
  moveChosen.focus();
};
document.getElementById("show-all").onclick = () => { filters.reset(); say(""); canvas.focus({preventScroll: true}); };
filters.querySelector("[type=reset]").addEventListener("click", () => say(""));
filters.addEventListener("input", filter);
filters.addEventListener("submit", event => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(filter));

on("selection", () => {
  map.ringed = chosen;
  redraw();
  if (!chosen.size && field("picked").value) { field("picked").value = ""; filter(); }
  if (!chosen.size) said.textContent = "";
  markTiles();
  sayShown();
});
on("toggle", i => { choose([i], !chosen.has(i)); say(`${data.names[i]}: ${chosen.has(i) ? "selected" : "not selected"}; ${number(chosen.size)} selected.`); });
on("only", group => {
  const order = field("order").value;
  filters.reset();
  field("order").value = order;
  fillFilters();
  field("subclass").value = `=${group.name}`;
  filter();
  gallery.focus();
  document.getElementById("images-head").scrollIntoView({block: "start"});
  say(`${plural(view.rows.length, "image", "images")} of “${group.name}”.`);
});
on("state", () => {
  fillFilters();
  if (field("subclass").value !== "") { const {at} = view; filter(); go(at); } else markTiles();
});
