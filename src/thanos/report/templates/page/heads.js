// Beside the pictures of each subclass as discovered: a field for its name, and what it is called as edited.
document.querySelectorAll("[data-subclass]").forEach(line => {
  const found = line.dataset.subclass, field = element("input", {"aria-label": `Rename ${found}`, maxlength: LONGEST_NAME, autocomplete: "off", spellcheck: "false"});
  const label = element("label", {children: ["name ", field]}), now = element("span"), answer = element("span");
  const called = () => [...new Set(base.name.flatMap((name, leaf) => name === found ? [edited.state.names[leaf]] : []))];
  const renamed = () => {
    const [from] = called();
    if (field.value.trim() === from) { field.value = from; return; }
    rename(from, field);
    answer.textContent = document.getElementById("spoken").textContent;  // which is read out
  };
  field.onchange = renamed;
  field.onkeydown = event => {
    if (event.key === "Enter") renamed();
    if (event.key === "Escape") [field.value] = called();
  };
  line.append(label, " ", now, " ", answer);
  on("state", () => {
    const names = called(), marked = names.map(name => edited.state.marks.has(name) ? `${name} (${edited.state.marks.get(name)})` : name).join(", ");
    label.hidden = names.length !== 1;  // several are renamed in the table
    field.value = names[0] ?? "";
    now.textContent = edited.done.length && marked !== found ? `as edited: ${marked}` : "";
    answer.textContent = "";
  });
});
