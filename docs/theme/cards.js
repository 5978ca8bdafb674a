// Five cards: the second model, with one layer and one memory slot, multiplies shuffles in the page. The group is that
// of feedback/experiments/groups.py: a permutation says for each place where the card that lies there goes.

// All orders of five things, in the order of a dictionary; the even ones are the 60 elements, numbered as the model
// numbers them.
const orders = (rest) => !rest.length ? [[]]
  : rest.flatMap((x) => orders(rest.filter((y) => y !== x)).map((others) => [x, ...others]));
const even = (p) => p.flatMap((x, i) => p.slice(i + 1).filter((y) => y < x)).length % 2 === 0;
const ELEMENTS = orders([0, 1, 2, 3, 4]).filter(even);
// Does `first`, then `second`.
const compose = (second, first) => first.map((i) => second[i]);

// A shuffle: a line for each card, from where it is to where it goes.
const drawing = (p) => {
  const at = (i) => 6 + 8 * i, NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg"), path = document.createElementNS(NS, "path");
  svg.setAttribute("viewBox", "0 0 44 34");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", p.map((to, i) => `M${at(i)} 4L${at(to)} 30`).join(""));
  svg.append(path);
  return svg;
};
const letters_ = (y) => [0, 1, 2, 3, 4].map((place) => "ABCDE"[y.indexOf(place)]).join(" ");

// Five cards in a row, each of which moves to its place.
const row = (title) => {
  const cards = [..."ABCDE"].map((letter) => make("span", { class: "card" }, letter));
  const table = make("div", { class: "table", role: "img" }, ...cards), says = make("output", {});
  const show = (y, words) => {
    cards.forEach((card, i) => card.style.setProperty("--place", y[i]));
    table.setAttribute("aria-label", say("{title}: {order}", { title, order: letters_(y) }));
    says.textContent = words;
  };
  return { element: make("div", {}, make("p", { class: "head" }, title), table, says), show };
};

const buildCards = (model) => {
  const said = row(say("In the memory: what the model says")), truth = row(say("On the table: how they lie"));
  const marks = make("div", { class: "marks", role: "img" }), says = make("p", { role: "status", class: "says" });
  let memory, y, right, count;
  const begin = () => {
    [memory, y, right, count] = [model.start(), ELEMENTS[0], 0, 0];
    marks.replaceChildren();
    marks.setAttribute("aria-label", say("No shuffle yet"));
    [said, truth].forEach((r) => r.show(y, ""));
    says.textContent = say("Press a shuffle. The model hears which, and nothing else.");
  };
  // One step: the true product, and what the model makes of its memory and the new element.
  const press = (token) => {
    y = compose(ELEMENTS[token], y);
    const p = softmax(model.step(memory, token).logits), answer = argmax(p);
    const correct = String(ELEMENTS[answer]) === String(y);
    right += correct;
    count += 1;
    marks.append(make("i", correct ? {} : { class: "wrong" }));
    return () => {
      truth.show(y, "");
      said.show(ELEMENTS[answer], say("{percent} sure", { percent: percent(p[answer]) }));
      const values = { right, n: count, order: letters_(ELEMENTS[answer]) };
      marks.setAttribute("aria-label", say("{right} of {n} answers were right", values));
      says.textContent = count > 1
        ? correct ? say("After {n} shuffles the model says {order}: right. {right} of {n} answers were right.", values)
          : say("After {n} shuffles the model says {order}: wrong. {right} of {n} answers were right.", values)
        : correct ? say("After 1 shuffle the model says {order}: right. 1 of 1 answers were right.", values)
          : say("After 1 shuffle the model says {order}: wrong. 0 of 1 answers were right.", values);
    };
  };
  const random = () => Math.floor(uniform(1, count) * ELEMENTS.length);
  const many = (n) => {
    const button = make("button", { type: "button" }, say("{n} random", { n }));
    button.addEventListener("click", () => Array.from({ length: n }, () => press(random())).at(-1)());
    return button;
  };
  const buttons = ELEMENTS.map((p, token) => {
    const label = say("Shuffle A B C D E to {order}", { order: letters_(p) });
    const button = make("button", { type: "button", class: "shuffle", "aria-label": label }, drawing(p));
    button.addEventListener("click", () => press(token)());
    return button;
  });
  const again = make("button", { type: "button" }, say("Reset"));
  again.addEventListener("click", begin);
  // A few of each kind, the identity not among them.
  const shown = [3, 9, 13, 16, 22, 27, 31, 38, 44, 53, 57, 59].map((i) => buttons[i]);
  const element = make("div", {},
    make("div", { class: "shuffles", role: "group", "aria-label": say("Shuffles") }, ...shown),
    make("div", { class: "buttons" }, many(1), many(20), many(500), again),
    make("details", {}, make("summary", {}, say("The other 48 shuffles")),
      make("div", { class: "shuffles" }, ...buttons.filter((b) => !shown.includes(b)))),
    make("div", { class: "tables" }, truth.element, said.element), marks, says);
  return { element, begin: () => { begin(); shown[0].focus(); } };
};

document.querySelectorAll("svg[data-figure=cards]").forEach((svg) =>
  offer(svg, "a5", say("Shuffle here (0.6 MB)"), buildCards));
