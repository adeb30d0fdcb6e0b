"use strict";
// Light and dark: as the system has it until the reader chooses. Folded parts open where a link leads, and on paper. What is wider than the
// page scrolls by the arrow keys, too.
{
  const button = document.getElementById("theme"), names = { "": "automatic", light: "light", dark: "dark" };
  const show = theme => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Colours: ${names[theme]}`;
  };
  let theme = document.documentElement.dataset.theme || "";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = { "": "light", light: "dark", dark: "" }[theme];
    try { localStorage.setItem("wenloom-theme", theme); } catch { /* not kept */ }
    show(theme);
  });
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let isHidden = false;
    for (let each = target; each; each = each.parentElement) {
      if (each.tagName !== "DETAILS" || each.open) continue;
      each.open = isHidden = true;
    }
    if (isHidden) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();
  const scrollers = document.querySelectorAll(".scroll"), reach = () => {
    for (const each of scrollers) {
      if (each.scrollWidth <= each.clientWidth) {
        for (const name of ["tabindex", "role", "aria-label"]) each.removeAttribute(name);
        continue;
      }
      each.tabIndex = 0;
      each.setAttribute("role", "region");
      each.setAttribute("aria-label", each.closest("section, .card, main").querySelector("h1, h2, h3")?.textContent.trim() || "Table");
    }
  };
  addEventListener("resize", reach);
  reach();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of opened) each.open = false; });
}
