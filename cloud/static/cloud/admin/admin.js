// Keeps what is marked data-live fresh, and copies. Every page is complete without it.
"use strict";

async function refresh() {
  const answer = await fetch(location.href, { headers: { "X-Requested-With": "refresh" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (fresh.querySelector("#login-form")) return location.reload();
  const choosing = document.querySelector(".action-select:checked");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (now && !now.isEqualNode(old)) old.replaceWith(document.importNode(now, true));
    else if (!now && !choosing) return location.reload(); // its row is gone
  }
}

function keepFresh() {
  const seconds = Number(document.querySelector("[data-reload]")?.dataset.reload);
  if (!seconds) return;
  setTimeout(async () => {
    const reading = String(getSelection()) !== "";
    if (!document.hidden && !reading) await refresh().catch(() => {}); // away: try again later
    keepFresh();
  }, seconds * 1000);
}

// Rows of firewall rules: added, also from presets, and dropped.
function editRules(rules) {
  const blank = rules.querySelector("template");
  const ready = (row) => {
    const [protocol, port] = ["protocol", "port"].map((name) => row.querySelector(`[name$="-${name}"]`));
    const drop = row.querySelector(".c-rule-drop");
    const fit = () => { port.readOnly = !["tcp", "udp"].includes(protocol.value); if (port.readOnly) port.value = ""; };
    protocol.addEventListener("change", fit);
    fit();
    drop.hidden = false;
    drop.addEventListener("click", () => row.remove());
  };
  const untouched = (row) => [...row.querySelectorAll("input, textarea")].every((field) => !field.value);
  rules.querySelectorAll(".c-rule:not(.c-rule-head)").forEach(ready);
  const buttons = rules.querySelector("[data-rule-buttons]");
  buttons.hidden = false;
  buttons.addEventListener("click", ({ target }) => {
    const values = target.closest("[data-rule]")?.dataset.rule;
    if (!values) return;
    const row = blank.content.firstElementChild.cloneNode(true);
    for (const [name, value] of Object.entries(JSON.parse(values))) row.querySelector(`[name$="-${name}"]`).value = value;
    const last = blank.previousElementSibling;
    if (!last.matches(".c-rule-head") && untouched(last)) last.remove();
    blank.before(row);
    ready(row);
    row.querySelector("input").focus();
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-rules]").forEach(editRules);
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
  keepFresh();
});
