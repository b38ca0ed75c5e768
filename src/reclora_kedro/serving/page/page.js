"use strict";
// Tabs, the token of each request, and the text that finds items.
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
