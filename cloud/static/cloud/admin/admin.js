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

document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
  keepFresh();
});
