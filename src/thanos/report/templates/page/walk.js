// Coarser and finer cuts of a superclass, by a slider; a cut can be looked at, and taken.
const walk = read("walk"), cuts = walk.map(tree => tree.found), leavesOf = tree => tree.nodes.length - tree.merges.length;
const nodesOf = (tree, many) => cutOf({count: leavesOf(tree), merges: tree.merges}, many);
const treeNumber = walk.map(tree => base.superclasses.indexOf(tree.name));

function colourByCuts() {
  const known = [], place = new Map(), ofLeaf = new Int32Array(base.home.length).fill(-1);
  walk.forEach((tree, t) => nodesOf(tree, cuts[t]).forEach((node, leaf) => {
    const key = `${t} ${node}`;
    if (!place.has(key)) { place.set(key, known.length); known.push(tree.nodes[node].name); }
    ofLeaf[base.trees[treeNumber[t]].first + leaf] = place.get(key);
  }));
  tell("colouring", {title: "coarser and finer, as cut below", names: known, ids: base.leaf.map(leaf => ofLeaf[leaf])}, true);
}
function part(tree, node, isNew) {
  const {name, size, members, typical} = tree.nodes[node], truly = members.map(each => `${each.name} ${(100 * each.share).toFixed(1)}%`).join(", ");
  const shown = data.sprite ? typical.map(i => {
    const canvas = thumbnail(i, 48);
    canvas.title = data.names[i];
    canvas.style.cursor = "pointer";
    canvas.onclick = () => tell("look", i, typical);
    return canvas;
  }) : typical.map(i => document.createTextNode(`${data.names[i]} `));
  return element("li", {class: isNew ? "new" : "", children: [element("div", {text: `${name} · ${number(size)}${truly ? ` · truly ${truly}` : ""}`}), ...shown]});
}
function replaced(before, home) {  // what a person gave, and a cut took away
  const {first, count: leaves} = base.trees[home], gone = [...new Set(before.names.slice(first, first + leaves))].filter(name => !edited.state.names.includes(name));
  const names = gone.filter(name => isGiven(base, home, name)), marks = gone.filter(name => before.marks.has(name));
  const lost = [names.length ? `your names ${listed(names)}` : "", marks.length ? `your marks of ${listed(marks)}` : ""].filter(Boolean);
  return lost.length ? `; it replaces ${lost.join(" and ")} (undo brings them back)` : "";
}
document.querySelectorAll(".walk").forEach(block => {
  const t = walk.findIndex(tree => tree.name === block.dataset.superclass), tree = walk[t], all = leavesOf(tree);
  const slider = block.querySelector("input"), said = block.querySelector("output"), list = block.querySelector("ul"), take = block.querySelector("button");
  const title = node => tree.nodes[node].name;
  function describe() {  // the cut; returns the nodes that it has anew
    const many = cuts[t], undone = tree.merges[all - many], done = tree.merges[all - many - 1];
    const now = groupsOf(base, edited.state).filter(group => group.superclass === treeNumber[t]).length;
    let fresh = [], what = `as discovered${now === tree.found ? "" : `; as edited ${now}`}`;
    if (many > tree.found) { fresh = undone; what = `${title(all + all - many)} becomes ${undone.map(title).join(" and ")}`; }
    if (many < tree.found) { fresh = [all + all - many - 1]; what = `${done.map(title).join(" and ")} become one`; }
    if (said.textContent !== `${many}: ${what}`) said.textContent = `${many}: ${what}`;
    slider.setAttribute("aria-valuetext", said.textContent);
    return fresh;
  }
  function show() {
    const many = cuts[t] = Number(slider.value), fresh = describe();
    list.replaceChildren(...[...new Set(nodesOf(tree, many))].map(node => part(tree, node, fresh.includes(node))));
    list.hidden = many === tree.found;
  }
  slider.oninput = () => { show(); colourByCuts(); };
  take.onclick = () => {
    const before = edited.state;
    if (edit({do: "cut", superclass: treeNumber[t], count: cuts[t]})) say(`Done: ${inWords(edited.done.at(-1))}${replaced(before, treeNumber[t])}. The names stand under “Edit the subclasses”.`);
    said.textContent = document.getElementById("spoken").textContent;
  };
  block.hidden = false;
  show();
  on("state", describe);
});
