// One image closely: what is known of it, its nearest neighbours, and where it should be.
const light = document.getElementById("light"), large = document.getElementById("large"), known = document.getElementById("known"), near = document.getElementById("near");
const placeOfName = new Map(data.names.map((name, i) => [name, i]));
const looking = {i: -1, rows: [], opener: null};

function neighboursOf(i) {  // by the vectors where they are known, else on the map
  const {each, stride, rows} = base.nearest;
  if (i % stride === 0) {
    const at = i / stride * each;
    return {how: "Nearest in the embedding", images: [...rows.subarray(at, at + each)].filter(other => other !== i).slice(0, each - 1)};
  }
  const far = other => (data.x[other] - data.x[i]) ** 2 + (data.y[other] - data.y[i]) ** 2, images = [];
  for (let other = 0; other < count; other++) {
    if (other === i || (images.length === each - 1 && far(other) >= far(images.at(-1)))) continue;
    images.push(other);
    images.sort((a, b) => far(a) - far(b));
    images.length = Math.min(images.length, each - 1);
  }
  return {how: "Nearest on the map", images};
}
const original = document.getElementById("original");
function showOriginal(i) {  // the file itself in the thumbnail's place, where it still lies where it was
  original.hidden = true;
  if (data.files === null) return;
  original.onload = () => {
    if (looking.i !== i) return;
    original.hidden = false;
    large.hidden = true;
  };
  original.alt = `The image ${data.names[i]}`;
  original.src = data.files + data.names[i].split("/").map(encodeURIComponent).join("/");
}
function look(i) {
  if (i !== looking.i) document.getElementById("spoken-here").textContent = "";
  looking.i = i;
  document.getElementById("path").textContent = data.names[i];
  large.hidden = !isPictured(i);
  showOriginal(i);
  paintThumbnail(large, i);
  large.setAttribute("aria-label", `The image ${data.names[i]}`);
  const place = looking.rows.indexOf(i), {how, images} = neighboursOf(i);
  const lines = [["now in", nameOf(base, edited.state, i)], ["confidence", (data.confidence[i] / 255).toFixed(2)], ...data.kinds.filter(kind => kind.title !== asEdited.title && !kind.title.startsWith("coarser")).map(kind => [kind.title === "discovered subclass" ? "when the page was made" : kind.title, kind.ids[i] < 0 ? "unknown" : kind.names[kind.ids[i]]])];
  known.replaceChildren(...lines.flatMap(([title, text]) => [element("dt", {text: title}), element("dd", {text})]));
  document.getElementById("how").textContent = how;
  near.replaceChildren(...images.map(other => {
    const shown = isPictured(other) ? [thumbnail(other, 64)] : [element("span", {text: data.names[other].split("/").at(-1)})];
    const button = element("button", {type: "button", "aria-label": `${data.names[other]}, in ${nameOf(base, edited.state, other)}`, title: data.names[other], children: shown});
    button.onclick = () => { look(other); light.focus(); };
    return element("li", {children: [button, element("span", {class: "soft", "aria-hidden": "true", text: nameOf(base, edited.state, other)})]});
  }));
  document.getElementById("nth").textContent = place < 0 || looking.rows.length < 2 ? "" : `${number(place + 1)} of ${number(looking.rows.length)}`;
  document.getElementById("pick").textContent = chosen.has(i) ? "Unselect" : "Select";
  moveOne.fill();
}
function walkTo(by) {
  const place = looking.rows.indexOf(looking.i), next = looking.rows[place + by];
  if (place >= 0 && next !== undefined) look(next);
}
on("look", (i, rows) => {
  if (!light.open) looking.opener = document.activeElement;
  looking.rows = rows;
  if (!light.open) light.showModal();
  look(i);
});
document.querySelectorAll(".row").forEach(row => {  // pictures of a subclass's section
  const pictures = [...row.querySelectorAll("img")], images = pictures.map(each => placeOfName.get(each.title));
  pictures.forEach((each, k) => {
    if (images[k] === undefined) return;  // it is not on the map
    each.style.cursor = "pointer";
    each.onclick = () => tell("look", images[k], images.filter(i => i !== undefined));
  });
});
light.addEventListener("keydown", event => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey) return;
  const act = {ArrowLeft: () => walkTo(-1), ArrowRight: () => walkTo(1), " ": event.target.matches("button") ? null : pick, m: () => moveOne.to.focus()}[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
light.addEventListener("click", event => { if (event.target === light) light.close(); });  // beside the picture
light.addEventListener("close", () => looking.opener?.focus());
function pick() { tell("toggle", looking.i); look(looking.i); }
document.getElementById("pick").onclick = pick;
document.getElementById("before").onclick = () => walkTo(-1);
document.getElementById("after").onclick = () => walkTo(1);
document.getElementById("close").onclick = () => light.close();
const moveOne = moveForm(document.getElementById("move-one"), () => looking.i < 0 ? [] : [looking.i], () => {});
on("state", () => { if (light.open) look(looking.i); });
