// Edits are kept in this browser under the table's mark, and saved as a file that the commands take.
const KEY = `thanos edits ${base.mark}`, FILE = "subclasses-edited.yaml";
const edited = {done: [], undone: [], saved: "[]", state: startOf(base)};
const isUnsaved = () => JSON.stringify(edited.done) !== edited.saved;
const say = text => {  // where it is seen, and read out: beside the edits, or in the image that is looked at
  const inside = document.getElementById("light")?.open;
  document.getElementById("spoken").textContent = inside ? "" : text;
  if (inside) document.getElementById("spoken-here").textContent = text;
};

function edit(one) {  // returns whether it was done
  const why = whyNot(base, edited.state, one);
  if (why) { say(`Not done: ${why}.`); return false; }
  const last = edited.done.at(-1);
  if (one.do === "mark" && last?.do === "mark" && last.name === one.name) edited.done.pop();
  edited.done.push(one);
  edited.undone = [];
  changed();
  return true;
}
function undo() {
  if (!edited.done.length) { say("There is nothing to undo."); return; }
  edited.undone.push(edited.done.pop());
  changed();
  say(`Undone: ${inWords(edited.undone.at(-1))}.`);
}
function redo() {
  if (!edited.undone.length) { say("There is nothing to redo."); return; }
  edited.done.push(edited.undone.pop());
  changed();
  say(`Done again: ${inWords(edited.done.at(-1))}.`);
}
const listed = names => names.map(name => `“${name}”`).join(" and ");
function inWords(one) {
  return {
    name: () => `“${one.from}” is called “${one.to}”`,
    merge: () => `${listed(one.names)} are one, called “${one.to}”`,
    split: () => `“${one.name}” is split into “${one.into[0]}” and “${one.into[1]}”`,
    cut: () => `${base.superclasses[one.superclass]} is cut into ${one.count}`,
    move: () => `${plural(one.images.length, "image", "images")} moved to “${one.to}”`,
    mark: () => one.mark ? `“${one.name}” is marked “${one.mark}”` : `“${one.name}” bears no mark`,
  }[one.do]();
}
function changed() {
  edited.state = stateOf(base, edited.done);
  keep();
  tell("state");
}

// In the browser's storage. A page in another tab takes over what is done here, so that neither writes over the other's edits.
const START = mixed(JSON.stringify([base.name, base.moved, base.marks, count]));  // edits of another start may not fit
const written = () => JSON.stringify({format: 1, start: START, ...edited, state: undefined});
const LOST = "This browser keeps nothing for this page (a private window, or its storage is full): edits are lost when it is closed. Save them to a file.";
let isKept = true;  // whether the storage holds what is done
let waiting = null;  // edits of another page of this table, until a person says what becomes of them
function mixed(text) {  // FNV-1a
  let hash = 0x811c9dc5;
  for (let k = 0; k < text.length; k++) hash = Math.imul(hash ^ text.charCodeAt(k), 0x01000193) >>> 0;
  return hash.toString(16);
}
function keep() {
  isKept = false;
  if (waiting) return;
  try {
    localStorage.setItem(KEY, written());
    isKept = true;
    warn("");
  } catch { warn(LOST); }
}
function warn(text) {
  const line = document.getElementById("warning");
  line.textContent = text;
  line.hidden = !text;
}
function parsed(text) {
  try {
    const kept = JSON.parse(text);
    return kept?.format === 1 && Array.isArray(kept.done) && Array.isArray(kept.undone) && typeof kept.saved === "string" ? kept : null;
  } catch { return null; }
}
function adopt(kept) {  // as far as the edits fit; returns how many do not
  const fitting = [];
  let state = startOf(base);
  for (const one of kept.done) {
    if (whyNot(base, state, one)) break;  // what follows rests on it
    fitting.push(one);
    state = DO[one.do](base, state, one);
  }
  const lost = kept.done.length - fitting.length;
  Object.assign(edited, {done: fitting, undone: lost ? [] : undoable(state, kept.undone), saved: kept.saved, state});
  return lost;
}
function undoable(state, undone) {  // the last is done again first
  const fitting = [];
  for (const one of [...undone].reverse()) {
    if (whyNot(base, state, one)) break;
    fitting.unshift(one);
    state = DO[one.do](base, state, one);
  }
  return fitting;
}
function restore() {
  let text = null;
  try {
    text = localStorage.getItem(KEY);
    localStorage.setItem(KEY, text ?? written());
  } catch { warn(LOST); }
  if (text === null) return;
  const kept = parsed(text);
  if (!kept) {
    try { localStorage.setItem(`${KEY} damaged`, text); } catch { /* keep() says so */ }
    keep();
    say("Edits that this browser kept for the page cannot be read; they are set aside.");
  } else if (kept.start !== START && kept.done.length && JSON.stringify(kept.done) !== kept.saved) {
    waiting = kept;
    offer(kept);
  } else if (kept.start === START) {
    const lost = adopt(kept);
    if (kept.done.length) say(`${plural(edited.done.length, "edit", "edits")} from before${lost ? `; ${lost} did not fit and are left out` : ""}.`);
  }
}
function offer(kept) {
  const line = document.getElementById("earlier");
  const decide = take => {
    const lost = take ? adopt(kept) : 0;
    waiting = null;
    line.hidden = true;
    changed();
    say(take ? `${plural(edited.done.length, "edit", "edits")} taken over${lost ? `; ${lost} do not fit this page` : ""}.` : "The earlier edits are gone.");
  };
  line.replaceChildren(
    `This browser holds ${plural(kept.done.length, "edit", "edits")}, not saved to a file, of another page of this table. `,
    element("button", {type: "button", text: "Take them over", onclick: () => decide(true)}), " ",
    element("button", {type: "button", text: "Discard them", onclick: () => decide(false)}),
  );
  line.hidden = false;
}
addEventListener("storage", ({key, newValue}) => {
  const kept = key === KEY && newValue !== null && !waiting ? parsed(newValue) : null;
  if (!kept || newValue === written() || kept.start !== START) return;
  adopt(kept);
  tell("state");
  say("Taken over from another window of this page.");
});
addEventListener("beforeunload", event => { if (isUnsaved() && !isKept) event.preventDefault(); });

// As a file. Strings are JSON's, with what YAML does not take as it is, or nobody sees, written as an escape.
const UNSEEN = /[\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff\u{e0000}-\u{e0fff}]/gu;
const escaped = letter => {
  const code = letter.codePointAt(0).toString(16);
  return code.length > 4 ? `\\U${code.padStart(8, "0")}` : `\\u${code.padStart(4, "0")}`;
};
const quoted = text => JSON.stringify(text).replace(UNSEEN, escaped);
function namesIn(state) {  // of subclasses, or of their parts where these differ
  const lines = [], leavesOf = new Map();
  base.subclass.forEach((subclass, leaf) => leavesOf.set(subclass, [...leavesOf.get(subclass) || [], leaf]));
  const write = (part, leaves) => {
    const names = new Set(leaves.map(leaf => state.names[leaf]));
    if (names.size === 1) lines.push(`  ${quoted(part)}: ${quoted([...names][0])}`);
    else for (const half of "ab") write(part + half, leaves.filter(leaf => base.parts[leaf].startsWith(part + half)));
  };
  for (const [subclass, leaves] of leavesOf) write(subclass, leaves);
  return lines;
}
function contentOf(i) {
  return Array.from(base.content.subarray(8 * i, 8 * i + 8), byte => byte.toString(16).padStart(2, "0")).join("");
}
function asYaml(state) {
  const moved = [...state.moved].sort(([a], [b]) => a - b).map(([i, to]) => {
    const home = base.superclasses[base.home[base.leaf[i]]];
    return `  - {image: ${quoted(data.names[i])}, content: "${contentOf(i)}", superclass: ${quoted(home)}, to: ${quoted(to)}}`;
  });
  const marks = groupsOf(base, state).filter(group => group.mark).map(group => `  ${quoted(group.name)}: ${quoted(group.mark)}`);
  return [
    "# Edits of discovered subclasses, made on a page of thanos. Commands take it by --names. The same groups can be written in",
    "# several ways: as names of parts, or as moved images.",
    "edits: 1",
    `table: ${quoted(base.mark)}`,
    "names:", ...namesIn(state),
    ...(moved.length ? ["moved:", ...moved] : ["moved: []"]),
    ...(marks.length ? ["marks:", ...marks] : ["marks: {}"]),
    "",
  ].join("\n");
}
function save() {
  const link = element("a", {download: FILE, href: URL.createObjectURL(new Blob([asYaml(edited.state)], {type: "application/yaml"}))});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  edited.saved = JSON.stringify(edited.done);
  changed();
  say(`Saved as ${FILE}: your browser puts it into its downloads. Move it to where you type the command, or give its path.`);
}
