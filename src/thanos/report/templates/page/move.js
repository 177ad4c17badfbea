// Move images to a subclass of their superclass, or to a new one.
function moveForm(holder, imagesOf, after) {
  const to = element("select", {"aria-label": "Move to"}), name = element("input", {"aria-label": "Or to a new subclass called", placeholder: "or a new name", maxlength: LONGEST_NAME, autocomplete: "off"});
  const of = element("select", {"aria-label": "Of these superclasses, move those of"}), ofLabel = element("label", {text: "Only those of ", hidden: true, children: [of]});
  const go = element("button", {type: "submit", text: "Move"});
  const form = element("form", {class: "move", children: [ofLabel, element("label", {text: "Move to ", children: [to]}), name, go]});
  const homes = () => {
    const size = new Map();
    for (const i of imagesOf()) size.set(base.home[base.leaf[i]], (size.get(base.home[base.leaf[i]]) || 0) + 1);
    return size;
  };
  const moving = () => [...imagesOf()].filter(i => String(base.home[base.leaf[i]]) === of.value).sort((a, b) => a - b);
  function fill() {
    const size = homes(), before = of.value;
    of.replaceChildren(...[...size].sort((a, b) => b[1] - a[1]).map(([home, n]) => new Option(`${base.superclasses[home]} (${number(n)})`, home)));
    if (size.has(Number(before)) && before !== "") of.value = before;
    ofLabel.hidden = size.size < 2;
    fillNames();
  }
  function fillNames() {
    const before = to.value, groups = groupsOf(base, edited.state).filter(group => String(group.superclass) === of.value);
    to.replaceChildren(new Option("a subclass…", ""), ...groups.map(group => new Option(group.name, `=${group.name}`)));
    to.value = before;
    if (to.selectedIndex < 0) to.value = "";
    go.textContent = moving().length > 1 ? `Move ${number(moving().length)} images` : "Move";
  }
  of.onchange = fillNames;
  to.onkeydown = event => {  // a list would open, whose choice is made already
    if (event.key !== "Enter" || !to.value) return;
    event.preventDefault();
    form.requestSubmit();
  };
  form.onsubmit = event => {
    event.preventDefault();
    const images = moving(), target = name.value.trim() || to.value.slice(1);
    const others = [...homes()].filter(([home]) => String(home) !== of.value).map(([home, n]) => `${number(n)} of “${base.superclasses[home]}”`);
    if (images.length && !target) { say("Not done: choose a subclass to move to, or type a new name."); return; }
    if (!edit({do: "move", images, to: target})) return;
    say(`Done: ${inWords(edited.done.at(-1))}${others.length ? `; ${others.join(" and ")} not moved: images stay in their superclass` : ""}.`);
    name.value = "";
    after(images);
  };
  holder.append(form);
  return {fill, to, focus: () => (ofLabel.hidden ? to : of).focus()};
}
const moveChosen = moveForm(document.getElementById("move"), () => chosen, images => choose(images, false));
on("selection", moveChosen.fill);
on("state", moveChosen.fill);
