// The table of subclasses as edited: each can be renamed, marked, split, shown; several become one.
const table = document.getElementById("groups"), merge = document.getElementById("merge"), checked = new Set();
const asEdited = {title: "as edited", names: [...kindCalled("discovered subclass").names], ids: null};  // at first in the colours of those

function seat(names) {  // each known name keeps its place, and so its colour; a new one takes the first that is free
  const places = asEdited.names.map(name => names.includes(name) ? name : null);
  for (const name of names.filter(each => !places.includes(each))) {
    const free = places.indexOf(null);
    places[free < 0 ? places.length : free] = name;
  }
  asEdited.names = places;
}

function groupIds() {  // of each image on the map
  const place = new Map(asEdited.names.map((name, k) => [name, k]));
  const ids = base.leaf.map(leaf => place.get(edited.state.names[leaf]) ?? -1);
  for (const [i, name] of edited.state.moved) ids[i] = place.get(name);
  return ids;
}
function row(group) {
  const {name} = group, key = control => ({"data-key": `${control} ${name}`});
  const box = element("input", {type: "checkbox", "aria-label": `Choose ${name}, to merge`, ...key("choose")});
  box.checked = checked.has(name);
  box.onchange = () => { if (box.checked) checked.add(name); else checked.delete(name); showMerge(); };
  const field = element("input", {"aria-label": `Name of ${name}`, value: name, maxlength: LONGEST_NAME, autocomplete: "off", spellcheck: "false", ...key("name")});
  field.onkeydown = event => {
    if (event.key === "Enter") rename(name, field);
    if (event.key === "Escape") field.value = name;
  };
  field.onchange = () => rename(name, field);
  const marks = element("select", {"aria-label": `Mark of ${name}`, ...key("mark"), children: ["", ...MARKS].map(each => element("option", {value: each, text: each || "no mark"}))});
  marks.value = group.mark;
  marks.onchange = () => { if (edit({do: "mark", name, mark: marks.value})) say(`Done: ${inWords(edited.done.at(-1))}.`); };
  const button = (text, onclick) => element("button", {type: "button", text, onclick, "aria-label": `${text} ${name}`, ...key(text)});
  return element("tr", {children: [
    element("td", {children: [box]}),
    element("th", {scope: "row", children: [field]}),
    element("td", {class: "size", text: number(group.size)}),
    element("td", {children: [marks]}),
    element("td", {class: "acts", children: [button("Split", () => split(name)), " ", button("Show", () => tell("only", group))]}),
  ]});
}
function rename(from, field) {
  const to = field.value.trim();
  if (to === from) { field.value = from; return; }
  const merged = homeOf(base, edited.state, to) >= 0;
  follow(from, to);
  if (edit({do: "name", from, to})) say(merged ? `Done: “${from}” and “${to}” are one.` : `Done: ${inWords(edited.done.at(-1))}.`);
  else { follow(to, from); field.value = from; }
}
function split(name) {
  const halves = halvesOf(base, edited.state, name);
  if (edit({do: "split", name, into: halves?.names || []})) say(`Done: ${inWords(edited.done.at(-1))}.`);
}
merge.onclick = () => {
  const names = groupsOf(base, edited.state).map(group => group.name).filter(name => checked.has(name));
  if (names.length < 2) { say("Choose two or more subclasses by the boxes before their names."); return; }
  if (!edit({do: "merge", names, to: unionOf(base, edited.state, names)})) return;
  checked.clear();
  showMerge();
  say(`Done: ${inWords(edited.done.at(-1))}.`);
};
function showMerge() { merge.textContent = checked.size > 1 ? `Merge the ${checked.size} chosen` : "Merge the chosen"; }

let wanted = null;  // the control that has the focus after a name has changed
function follow(from, to) {
  const key = document.activeElement?.dataset?.key;
  wanted = key?.endsWith(` ${from}`) ? `${key.slice(0, -from.length)}${to}` : null;
}
function drawGroups() {
  const focused = wanted ?? (table.contains(document.activeElement) ? document.activeElement.dataset.key : null), groups = groupsOf(base, edited.state);
  wanted = null;
  for (const name of checked) if (!groups.some(group => group.name === name)) checked.delete(name);
  table.querySelectorAll("tbody").forEach(body => body.remove());
  base.superclasses.forEach((superclass, number) => {
    const mine = groups.filter(group => group.superclass === number);
    if (!mine.length) return;
    const head = element("tr", {children: [element("th", {colspan: 5, scope: "rowgroup", class: "of", text: superclass})]});
    table.append(element("tbody", {children: [head, ...mine.map(row)]}));
  });
  showMerge();
  if (focused) [...table.querySelectorAll("[data-key]")].find(each => each.dataset.key === focused)?.focus();
  seat(groups.map(group => group.name));
  if (edited.done.length || data.kinds.some(kind => kind.title === asEdited.title)) {
    tell("colouring", {...asEdited, ids: groupIds()}, !data.kinds.some(kind => kind.title === asEdited.title));
  }
}
function drawBook() {  // what is done and kept
  const n = edited.done.length, save = document.getElementById("save");
  document.getElementById("book").textContent = n ? `${plural(n, "edit", "edits")}, ${isUnsaved() ? `${isKept ? "kept in this browser; " : ""}not yet saved as a file` : "saved"}` : isUnsaved() ? "all undone since they were saved" : "nothing edited";
  save.classList.toggle("wanted", isUnsaved());
  document.getElementById("undo").setAttribute("aria-disabled", String(!n));
  document.getElementById("redo").setAttribute("aria-disabled", String(!edited.undone.length));
}
on("state", drawGroups);
on("state", drawBook);
document.getElementById("undo").onclick = undo;
document.getElementById("redo").onclick = redo;
document.getElementById("save").onclick = save;
addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase(), typing = event.target.matches?.("input:not([type=checkbox]):not([type=range]), textarea");
  const act = key === "s" ? save : typing ? null : key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : null;
  if (!act) return;
  event.preventDefault();
  act();
});
