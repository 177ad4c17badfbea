// What a person made of the discovered subclasses. A base that never changes and a list of edits: names, moves and marks follow
// from both, so that undoing is forgetting the last edit. Nothing here knows of the page.
//
// base: of each leaf of the trees its `name`, `size` and `home` (superclass); of each image its `leaf`; `trees`, `moved`, `marks`.
// state: `names` (of each leaf), `moved` (image -> name, where it is not its leaf's) and `marks` (name -> mark).
const MARKS = ["harmful", "not a group", "look again"], LONGEST_NAME = 200;

const startOf = base => ({names: base.name.slice(), moved: new Map(base.moved), marks: new Map(Object.entries(base.marks))});
const stateOf = (base, edits) => edits.reduce((state, edit) => DO[edit.do](base, state, edit), startOf(base));

const DO = {
  name(base, state, {from, to}) {  // an equal name merges
    const called = name => name === from ? to : name;
    const marks = new Map([...state.marks].filter(([name]) => name !== from));
    if (state.marks.has(from) && homeOf(base, state, to) < 0) marks.set(to, state.marks.get(from));
    return settled(base, {names: state.names.map(called), moved: new Map([...state.moved].map(([i, name]) => [i, called(name)])), marks});
  },
  merge: (base, state, {names, to}) => names.filter(from => from !== to).reduce((now, from) => DO.name(base, now, {from, to}), state),
  split(base, state, {name, into}) {  // what was moved in stays with the first part
    const {parts} = halvesOf(base, state, name), names = state.names.slice(), marks = new Map(state.marks);
    parts.forEach((leaves, half) => leaves.forEach(leaf => { names[leaf] = into[half]; }));
    marks.delete(name);
    if (state.marks.has(name)) into.forEach(each => marks.set(each, state.marks.get(name)));
    return settled(base, {names, moved: new Map([...state.moved].map(([i, at]) => [i, at === name ? into[0] : at])), marks});
  },
  cut(base, state, {superclass, count}) {  // as the trees have it; what stays whole keeps its name
    const names = state.names.slice();
    names.splice(base.trees[superclass].first, base.trees[superclass].count, ...namesAfter(base, state, superclass, count));
    return settled(base, {names, moved: state.moved, marks: state.marks});
  },
  move(base, state, {images, to}) {
    const moved = new Map(state.moved);
    images.forEach(i => moved.set(i, to));
    return settled(base, {names: state.names, moved, marks: state.marks});
  },
  mark(base, state, {name, mark}) {
    const marks = new Map(state.marks);
    if (mark) marks.set(name, mark); else marks.delete(name);
    return {names: state.names, moved: state.moved, marks};
  },
};

function settled(base, {names, moved, marks}) {  // an image at home is not moved; a name that is gone has no mark
  const away = new Map([...moved].filter(([i, name]) => names[base.leaf[i]] !== name)), known = new Set([...names, ...away.values()]);
  return {names, moved: away, marks: new Map([...marks].filter(([name]) => known.has(name)))};
}

function whyNot(base, state, edit) {  // in words; empty where an edit can be done
  const refuse = Object.hasOwn(REFUSE, edit?.do) ? REFUSE[edit.do] : () => "it is no edit";
  return refuse(base, state, edit);
}

const REFUSE = {
  name: (base, state, {from, to}) => unknown(base, state, from) || badName(to) || elsewhere(base, state, homeOf(base, state, from), to),
  merge(base, state, {names, to}) {
    if (!Array.isArray(names) || names.length < 2) return "two or more subclasses are wanted";
    const strange = names.map(name => unknown(base, state, name)).find(Boolean), homes = new Set(names.map(name => homeOf(base, state, name)));
    if (strange || homes.size > 1) return strange || "only subclasses of one superclass can be merged";
    return REFUSE.name(base, state, {from: names[0], to});
  },
  split(base, state, {name, into}) {
    if (unknown(base, state, name)) return unknown(base, state, name);
    if (!halvesOf(base, state, name)) return `“${name}” has no parts that discovery kept; draw a lasso on the map, or choose images, to take some out`;
    if (!Array.isArray(into) || into.length !== 2 || into[0] === into[1]) return "two names are wanted";
    return into.map(each => badName(each) || (each !== name && homeOf(base, state, each) >= 0 ? `“${each}” is there already` : "")).find(Boolean) || "";
  },
  cut(base, state, {superclass, count}) {
    const tree = base.trees[superclass];
    if (!tree || !Number.isInteger(count) || count < 1 || count > tree.count) return "there is no such cut";
    return namesAfter(base, state, superclass, count).map(name => elsewhere(base, state, superclass, name)).find(Boolean) || "";
  },
  move(base, state, {images, to}) {
    if (!Array.isArray(images) || !images.length) return "no image is selected";
    if (!images.every(i => Number.isInteger(i) && i >= 0 && i < base.leaf.length)) return "an image is not on this page";
    const home = base.home[base.leaf[images[0]]];
    if (images.some(i => base.home[base.leaf[i]] !== home)) return "they are of several superclasses; choose images of one";
    if (images.every(i => nameOf(base, state, i) === to)) return `${images.length === 1 ? "it is" : "they are"} in “${to}” already`;
    return badName(to) || elsewhere(base, state, home, to);
  },
  mark: (base, state, {name, mark}) => unknown(base, state, name) || (mark === "" || MARKS.includes(mark) ? "" : "there is no such mark"),
};

const unknown = (base, state, name) => homeOf(base, state, name) < 0 ? `there is no subclass “${name}”` : "";
function badName(name) {
  if (typeof name !== "string" || !name.trim()) return "a name is wanted";
  if (name !== name.trim()) return "a name has no blanks at its ends";
  if (name.length > LONGEST_NAME) return `a name has at most ${LONGEST_NAME} letters`;
  return /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(name) ? "a name is one line, without control characters" : "";
}
function elsewhere(base, state, home, name) {
  const there = homeOf(base, state, name);
  return there < 0 || there === home ? "" : `“${name}” is a subclass of ${base.superclasses[there]}; a name belongs to one superclass, so call it, for example, “${name} (${base.superclasses[home]})”`;
}

function homeOf(base, state, name) {  // the superclass that has a subclass of this name; -1: none
  const leaf = state.names.indexOf(name);
  if (leaf >= 0) return base.home[leaf];
  for (const [i, at] of state.moved) if (at === name) return base.home[base.leaf[i]];
  return -1;
}

const nameOf = (base, state, i) => state.moved.get(i) ?? state.names[base.leaf[i]];

function groupsOf(base, state) {  // in the order of superclasses and leaves; those without images are not listed
  const groups = new Map(), at = (name, superclass) => {
    if (!groups.has(name)) groups.set(name, {name, superclass, size: 0, mark: state.marks.get(name) || ""});
    return groups.get(name);
  };
  state.names.forEach((name, leaf) => { at(name, base.home[leaf]).size += base.size[leaf]; });
  for (const [i, name] of state.moved) {
    groups.get(state.names[base.leaf[i]]).size -= 1;
    at(name, base.home[base.leaf[i]]).size += 1;
  }
  return [...groups.values()].filter(group => group.size > 0).sort((a, b) => a.superclass - b.superclass);
}

function underOf(tree) {  // the leaves under each node, counted within the tree
  const under = Array.from({length: tree.count}, (_, leaf) => [leaf]);
  for (const [a, b] of tree.merges) under.push([...under[a], ...under[b]]);
  return under;
}

function cutOf(tree, count) {  // the node of each leaf where the superclass is cut in so many
  const node = Array.from({length: tree.count}, (_, leaf) => leaf);
  tree.merges.slice(0, tree.count - count).forEach((merge, i) => {
    node.forEach((each, leaf) => { if (merge.includes(each)) node[leaf] = tree.count + i; });
  });
  return node;
}

function namesAfter(base, state, superclass, count) {  // of each leaf of a superclass that is cut so
  const tree = base.trees[superclass], nodes = cutOf(tree, count), now = state.names.slice(tree.first, tree.first + tree.count);
  const isWhole = k => now.every((name, leaf) => (name === now[k]) === (nodes[leaf] === nodes[k]));
  const isTaken = k => nodes.some(node => node !== nodes[k] && tree.nodes[node] === now[k]);
  return nodes.map((node, k) => isWhole(k) && !isTaken(k) ? now[k] : tree.nodes[node]);
}

const isGiven = (base, home, name) => !base.trees[home].nodes.includes(name);  // by a person
function unionOf(base, state, names) {  // what a merged subclass is called: by a name that a person gave, else by all that it holds
  const home = homeOf(base, state, names[0]), tree = base.trees[home], given = names.find(name => isGiven(base, home, name));
  if (given !== undefined) return given;
  const leaves = [...state.names.keys()].filter(leaf => names.includes(state.names[leaf])).map(leaf => leaf - tree.first);
  const node = underOf(tree).findIndex(under => under.length === leaves.length && leaves.every(leaf => under.includes(leaf)));
  const start = `${base.superclasses[home]}/`, rest = names.slice(1).map(name => name.startsWith(start) ? name.slice(start.length) : name);
  const wanted = node >= 0 ? tree.nodes[node] : [names[0], ...rest].join("+");
  return badName(wanted) || homeOf(base, state, wanted) >= 0 ? names[0] : wanted;
}

function halvesOf(base, state, name) {  // the two parts whose merging made a subclass last, with names; null: it has none
  const leaves = [...state.names.keys()].filter(leaf => state.names[leaf] === name);
  if (leaves.length < 2) return null;
  const tree = base.trees[base.home[leaves[0]]], under = underOf(tree).map(each => each.map(leaf => leaf + tree.first));
  const both = ([a, b]) => [a, b].map(node => leaves.filter(leaf => under[node].includes(leaf)));
  const parts = tree.merges.map(both).findLast(halves => halves.every(half => half.length)) || [leaves.slice(0, 1), leaves.slice(1)];
  const taken = new Set(state.names.filter(each => each !== name).concat([...state.moved.values()]));
  const names = parts.map((part, half) => {
    const node = under.findIndex(each => each.length === part.length && part.every(leaf => each.includes(leaf)));
    const wanted = node >= 0 && !isGiven(base, base.home[leaves[0]], name) ? tree.nodes[node] : `${name} ${"ab"[half]}`;
    let free = wanted;
    for (let k = 2; taken.has(free); k++) free = `${wanted} (${k})`;
    taken.add(free);
    return free;
  });
  return {parts, names};
}
