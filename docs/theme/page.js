// What a page can do beyond being read. Everything here is made by this script, so without it
// nothing is missing that could be pressed.
const make = (tag, attributes, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const top_ = document.body.dataset.top;
const translated = JSON.parse(document.body.dataset.say ?? "{}");
// In the language of the page; {name} stands for a value.
const say = (text, values = {}) => (translated[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const tools = document.getElementById("tools");

// Light or dark: what the system says, until somebody presses the button.
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const theme = make("button", { type: "button" });
const label = () => (theme.textContent = dark() ? say("Light") : say("Dark"));
theme.addEventListener("click", () => {
  const next = dark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.theme = next; } catch {}
  label();
});
label();

// Search: the index is fetched when somebody begins to type, as a script, so from a disk too.
const input = make("input", { type: "search", placeholder: say("Search"), "aria-label": say("Search the site"), size: 12 });
const found = make("ul", { class: "found", hidden: "", "aria-label": say("Found") });
const lang = document.body.dataset.lang;
let loading;
const load = () => (loading ??= Promise.all(["search", ...(lang ? [`search-${lang}`] : [])].map((name) => new Promise((done) => {
  const script = make("script", { src: `${top_}assets/${name}.js` });
  script.addEventListener("load", done);
  document.head.append(script);
}))));
// What is found: the pages in this language, and those that are only in English.
const everything = () => {
  if (!lang) return INDEX;
  const paths = new Set(TRANSLATED.map(([path]) => path));
  return [...TRANSLATED, ...INDEX.filter(([path]) => !paths.has(`${lang}/${path}`))];
};
// Letters of full width are typed as they come; a joiner between letters says only how they are drawn.
const plain = (text) => text.normalize("NFKC").toLowerCase().replaceAll("\u200d", "");
// What people look for, and what it is called here.
const SYNONYMS = {
  "bptt": "sweep back", "backpropagation through time": "sweep back", "vanishing gradient": "gradients through time",
  "exploding gradient": "gradients through time", "kv cache": "cache", "state tracking": "word problem", "rnn": "recurrent",
  "recurrent neural network": "recurrent", "curriculum": "short to long", "curriculum learning": "short to long",
  "sampling": "temperature", "beam": "temperature", "relative position": "distance", "positional encoding": "distance",
  "jit": "compiled", "cuda": "gpu", "benchmark": "measured", "perplexity": "nats", "bpc": "bits per character",
  "checkpointing": "checkpoint", "resume": "checkpoint", "tokeniser": "tokenizer", "dyck": "brackets",
};
// Some words of a text, around the one that was looked for.
const part = (text, word) => {
  const at = Math.max(0, text.toLowerCase().indexOf(word) - 40);
  // At a blank, where a language has them.
  const after = (from) => { const blank = text.indexOf(" ", from); return blank < 0 || blank > from + 20 ? from : blank; };
  const begin = at && after(at), end = after(begin + 110);
  return (begin ? "… " : "") + text.slice(begin, end).trim() + (end < text.length ? " …" : "");
};
const search = async () => {
  const words = plain(input.value).split(/\s+/).filter(Boolean);
  if (!words.length) return (found.hidden = true);
  await load();
  const typed = words.join(" "), other = SYNONYMS[typed];
  const all = (text, ...ways) => ways.some((way) => way.every((w) => text.includes(w)));
  const score = ([, , page, title, text]) => all(plain(`${page} ${title} ${text}`), words, ...(other ? [[other]] : []))
    ? 1 + words.filter((w) => plain(title).includes(w)).length + 9 * (plain(title) === typed) : 0;
  // At most three of a page, so that one page does not hide the others.
  const of = {};
  const best = everything().map((e) => [score(e), e]).filter(([s]) => s).sort((a, b) => b[0] - a[0])
    .filter(([, [path]]) => (of[path] = (of[path] ?? 0) + 1) <= 3).slice(0, 12);
  found.replaceChildren(...best.map(([, [path, anchor, page, title, text]]) => make("li", {},
    make("a", { href: top_ + path + (anchor && anchor !== "text" ? `#${anchor}` : ""), ...(lang && !path.startsWith(`${lang}/`) ? { lang: "en", hreflang: "en" } : {}) },
      `${page}${title !== page ? " · " + title : ""}`, make("small", {}, part(text, text.toLowerCase().includes(words[0]) ? words[0] : other ?? words[0]))))));
  if (!best.length) found.replaceChildren(make("li", {}, say("Nothing found")));
  found.hidden = false;
};
input.addEventListener("input", search);
tools.append(input, theme);
tools.closest("nav").append(found);

// From the search to what was found, and back, by the arrow keys; Enter goes to the first.
tools.closest("nav").addEventListener("keydown", async (event) => {
  const links = () => [...found.querySelectorAll("a")], at = links().indexOf(document.activeElement);
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  // Whoever writes by an input method ends a word with Enter.
  if (event.isComposing) return;
  if (event.key === "Enter" && event.target === input) {
    await search();
    links()[0]?.click();
  } else if (by && !found.hidden && (at >= 0 || event.target === input)) {
    event.preventDefault();
    (links()[at + by] ?? input).focus();
  }
});

// The contents: beside the text where there is room for them, else a menu that can be closed.
const menu = document.querySelector(".menu");
const room = matchMedia(document.body.matches(".page, .run") ? "(min-width: 80rem)" : "(min-width: 94rem)");
const arrange = () => {
  menu.open = room.matches;
  const list = menu.querySelector("ol"), here = list.querySelector("[aria-current]");
  if (room.matches && here) list.scrollTop = here.offsetTop - list.clientHeight / 2;
};
room.addEventListener("change", arrange);
arrange();

const close = () => { found.hidden = true; menu.open &&= room.matches; };
addEventListener("click", (event) => event.target.closest(".found, .tools, .menu") || close());
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing) { event.preventDefault(); input.focus(); }
  if (event.key !== "Escape") return;
  // Whoever was in what disappears goes back to where it was opened.
  if (found.contains(document.activeElement)) input.focus();
  if (!room.matches && menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  close();
  unlight();
});

// All places of a name on the page: by a click on one of them, or by its name in the search.
const NAMES = ".code .n, .code .nf, .code .nc, .code .fm, .code a:not([data-n])";
const places = new Map();
document.querySelectorAll(NAMES).forEach((e) => places.set(e.textContent, [...(places.get(e.textContent) ?? []), e]));
const unlight = () => document.querySelectorAll(".lit").forEach((e) => e.classList.remove("lit"));
const light = (name) => {
  unlight();
  for (const place of places.get(name) ?? []) {
    place.classList.add("lit");
    // Where it is folded away, the words that unfold it light up.
    place.closest("details:not([open])")?.querySelector("summary").classList.add("lit");
  }
};
input.addEventListener("input", () => light(input.value.trim()));
document.querySelectorAll(".code").forEach((code) => code.addEventListener("click", (event) => {
  const name = event.target.closest(".n, .nf, .nc, .fm");
  if (!name) return;
  name.classList.contains("lit") ? unlight() : light(name.textContent);
}));

// A click on the number of a line copies its address, and offers the same line in the repository.
document.querySelectorAll(".code").forEach((code) => code.addEventListener("click", async (event) => {
  const number = event.target.closest("a[data-n]");
  if (!number || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  document.querySelectorAll(".line").forEach((e) => e.remove());
  const line = number.parentNode, there = `#${line.id}`;
  location.hash === there || history.pushState(null, "", there);
  document.querySelectorAll(".l.here").forEach((e) => e.classList.remove("here"));
  line.classList.add("here");
  const says = make("span", { role: "status" }, "");
  line.append(make("span", { class: "line", "data-nosnippet": "" }, says, " ",
    make("a", { href: number.href, "aria-label": say("{line} in the repository", { line: number.getAttribute("aria-label") }) }, say("Repository"))));
  try { await navigator.clipboard.writeText(location.href); says.textContent = say("Copied"); } catch {}
}));

// Whoever goes by the keyboard may pass a block of code with many links.
document.querySelectorAll(".side > .code").forEach((code) => {
  if (code.querySelectorAll("a:not([data-n])").length < 8) return;
  const next = code.closest(".row").nextElementSibling?.querySelector(".here") ?? document.querySelector("footer a");
  const skip = make("a", { class: "skip", href: next.getAttribute("href") }, say("Skip the code"));
  skip.addEventListener("click", (event) => { event.preventDefault(); next.focus(); });
  code.before(skip);
});

// Folded code is unfolded for whoever follows a link to one of its lines, and for paper.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1))), fold = target?.closest("details.folded:not([open])");
  if (fold) { fold.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", unfold);
unfold();
let printed = [];
addEventListener("beforeprint", () => {
  printed = [...document.querySelectorAll("details.folded:not([open])")];
  printed.forEach((fold) => (fold.open = true));
});
addEventListener("afterprint", () => printed.forEach((fold) => (fold.open = false)));

// Copy the code of a section, without its line numbers.
document.querySelectorAll("pre").forEach((pre) => {
  const copy = make("button", { type: "button", class: "copy" }, say("Copy"));
  copy.addEventListener("click", async () => {
    const text = [...pre.querySelectorAll("code")].map((c) => c.textContent).join("");
    await navigator.clipboard.writeText(text);
    copy.textContent = say("Copied");
    setTimeout(() => (copy.textContent = say("Copy")), 1500);
  });
  pre.style.position = "relative";
  pre.append(copy);
});

// A picture, large.
document.querySelectorAll("img.zoom").forEach((image) => {
  const button = make("button", { type: "button", class: "zoom", "aria-label": say("Show the picture large") });
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const dialog = make("dialog", { "aria-label": image.alt },
      make("button", { type: "button" }, say("Close")), image.cloneNode());
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
});

// The recurrence, step by step: parts of the drawing appear in the order in which they are computed.
document.querySelectorAll("svg[data-figure=steps]").forEach((svg) => {
  const parts = [...svg.querySelectorAll("[data-at]")];
  const last = Math.max(...parts.map((part) => +part.dataset.at));
  const slider = make("input", { type: "range", min: 1, max: last, value: 1, "aria-label": say("How far the recurrence has come") });
  const says = make("output", {}), button = make("button", { type: "button" });
  let clock = 0, touched = false;
  const show = () => {
    parts.forEach((part) => (part.style.opacity = +part.dataset.at <= slider.value ? 1 : part.tagName === "path" ? 0 : 0.3));
    says.textContent = svg.dataset.says.split("|")[slider.value - 1];
  };
  const stop = () => { clearInterval(clock); clock = 0; button.textContent = say("Play"); };
  const play = () => {
    if (+slider.value === last) slider.value = 1;
    clock = setInterval(() => { slider.value = +slider.value + 1; show(); if (+slider.value === last) stop(); }, 1500);
    button.textContent = say("Stop");
    show();
  };
  button.addEventListener("click", () => { touched = true; clock ? stop() : play(); });
  slider.addEventListener("input", () => { touched = true; stop(); show(); });
  svg.parentNode.after(make("p", { class: "control" }, button, " ", slider, " ", says));
  stop();
  show();
  // It plays when it comes into view, unless movement is not wanted or somebody was quicker.
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) slider.value = last, show();
  else new IntersectionObserver((seen, observer) => seen.some((s) => s.isIntersecting) && (observer.disconnect(), touched || play()), { threshold: 0.6 }).observe(svg);
});

// The memory without one of the layers: which bar is missing, and what that costs.
document.querySelectorAll("svg[data-figure=mix]").forEach((svg) => {
  const bars = [...svg.querySelectorAll(".bar")];
  const slider = make("input", { type: "range", min: 0, max: bars.length, value: 0, "aria-label": say("The layer that is left out") });
  const says = make("output", {});
  const show = () => {
    bars.forEach((bar, l) => (bar.style.opacity = l + 1 === +slider.value ? 0.2 : 1));
    says.textContent = svg.dataset.says.split("|")[slider.value];
  };
  slider.addEventListener("input", show);
  bars.forEach((bar, l) => bar.addEventListener("click", () => { slider.value = +slider.value === l + 1 ? 0 : l + 1; show(); }));
  svg.parentNode.after(make("p", { class: "control" }, slider, " ", says));
  show();
});

// Attention of a chosen character.
document.querySelectorAll("svg[data-figure=attention]").forEach((svg) => {
  const weights = JSON.parse(svg.dataset.weights);
  const cells = [...svg.querySelectorAll(".cell")], characters = [...svg.querySelectorAll(".character")];
  let chosen = +svg.dataset.chosen;
  const slider = make("input", { type: "range", min: 1, max: characters.length - 1, value: chosen, "aria-label": say("The character that attends") });
  const says = make("output", {});
  const show = () => {
    chosen = +slider.value;
    cells.forEach((cell) => {
      const weight = weights[cell.dataset.l][chosen][cell.dataset.t] ?? 0;
      cell.setAttribute("fill-opacity", Math.sqrt(weight / 100).toFixed(2));
    });
    characters.forEach((c, t) => c.setAttribute("font-weight", t === chosen ? "bold" : "normal"));
    const most = weights.map((layer) => layer[chosen].indexOf(Math.max(...layer[chosen])));
    // Where the drawing is wider than the screen, the chosen character comes into view.
    const frame = svg.parentNode, scale = svg.clientWidth / svg.viewBox.baseVal.width;
    frame.scrollLeft = characters[chosen].getBBox().x * scale - frame.clientWidth / 2;
    says.textContent = say("{character} looks most at {others}",
      { character: characters[chosen].textContent, others: most.map((t, l) => `${l + 1}: ${characters[t].textContent}`).join(", ") });
  };
  slider.addEventListener("input", show);
  characters.forEach((c, t) => t && c.addEventListener("click", () => { slider.value = t; show(); }));
  svg.parentNode.after(make("p", { class: "control" }, slider, " ", says));
  show();
});
