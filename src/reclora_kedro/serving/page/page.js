"use strict";
// Tabs, the token of each request, the text that finds items, and problems in words.
const tabs = document.querySelectorAll("[data-tab]");
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    for (const other of tabs) {
      document.getElementById(other.dataset.tab).hidden = other !== tab;
      if (other === tab) other.setAttribute("aria-current", "true");
      else other.removeAttribute("aria-current");
    }
  });
}
document.body.addEventListener("htmx:configRequest", (event) => {
  const { headers, parameters, elt, path } = event.detail;
  const token = document.getElementById("token").value;
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (path === "/page/items") parameters.q = elt.value;
});
document.body.addEventListener("htmx:sendError", () => {
  document.getElementById("told").textContent = "The service does not answer. It may be restarting: try again in a moment.";
});
document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { detail } = event;
  if ((detail.xhr.getResponseHeader("content-type") || "").startsWith("application/problem+json")) {
    const note = document.createElement("p");
    note.className = "note";
    note.setAttribute("role", "alert");
    note.textContent = JSON.parse(detail.serverResponse).detail;
    detail.serverResponse = note.outerHTML;
  }
});
