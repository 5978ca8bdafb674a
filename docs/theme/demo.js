// The trained model, running in the page: it writes, and its memory can be taken apart. What is computed is in
// model.js. What the model reads and writes is English on every page; all else is in the language of the page.
//
// The text is a function of the settings alone: prompt, temperature, seed, the weights of the mix, the open slots. So
// when one of them is moved, the text is written again, with the same random numbers, to the length it had.

// Until the model is asked for, a recorded run stands here; `build` makes what replaces it.
const offer = (svg, name, words, build) => {
  const button = make("button", { type: "button", class: "big" }, words);
  const says = make("p", { role: "status", class: "says" });
  const figure = svg.closest("figure");
  const stage = make("div", { class: "demo", lang: document.documentElement.lang }, button, says);
  const open = async () => {
    says.textContent = say("Loading …");
    button.disabled = true;
    try {
      const built = build(await loadModel(name));
      figure.remove();
      stage.replaceChildren(built.element);
      built.begin();
    } catch (error) {
      says.textContent = say("It does not run: {error}.", { error: error.message });
      button.disabled = false;
    }
  };
  button.addEventListener("click", open);
  figure.before(stage);
};

const frame = () => new Promise(requestAnimationFrame);
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const visible = (c) => ({ "\n": "↵", " ": say("space") })[c] ?? c;
const percent = (p) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;
const field = (words, ...controls) => make("label", {}, make("span", {}, words), ...controls);
const range = (label, min, max, step, value) =>
  make("input", { type: "range", min, max, step, value, "aria-label": label });

const PROMPT = "ROMEO:\n";
// From the validation text, which the model has not been trained on.
const UNSEEN = `Full fathom five thy father lies;
Of his bones are coral made;
Those are pearls that were his eyes:
Nothing of him that doth fade
But doth suffer a sea-change
Into something rich and strange.
`;

// What can be moved. `weight` are the numbers of the mix before their softmax.
const asLearned = (model) => ({ weight: [...model.transformer.mix.weight], slots: model.mem_len });
const same = (a, b) => String([a.slots, ...a.weight]) === String([b.slots, ...b.weight]);

// Nats a character, and those of each: $-\ln p(x_{t+1} \mid x_1 \dots x_t)$.
const measure = async (model, tokens, { weight, slots }, wanted) => {
  const memory = model.start(), losses = [];
  for (let t = 0, since = performance.now(); t + 1 < tokens.length; t++) {
    const p = softmax(model.step(memory, tokens[t], weight, slots).logits);
    losses.push(-Math.log(p[tokens[t + 1]]));
    if (performance.now() - since > 12) {
      await frame();
      if (!wanted()) return null;
      since = performance.now();
    }
  }
  return losses;
};
const average = (losses) => losses.reduce((a, b) => a + b, 0) / losses.length;

// The memory and its readers: a row for each layer, from the top as in a stack, and below them the slots.
const stack = (model, mix, changed) => {
  const L = model.L, inputs = [], shares = [], kept = [], cells = [], before = [...mix.weight];
  // Memories to begin with; the others are found by hand.
  const all = [...mix.weight.keys()], without = (...layers) => (w, l) => layers.includes(l) ? -Infinity : w;
  const presets = [[say("As learned"), without(), model.mem_len],
    [say("Without layers 1 and 2"), without(1, 2), model.mem_len], [say("Two slots"), without(), 2],
    [say("Only the characters themselves"), without(...all.slice(1)), model.mem_len]];
  const buttons = presets.map(([name, change, slots]) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      Object.assign(mix, { weight: asLearned(model).weight.map(change), slots });
      changed();
    });
    return button;
  });
  const element = make("div", { class: "stack" },
    make("div", { class: "buttons", role: "group", "aria-label": say("Memories to try") },
      make("b", {}, say("Memory")), ...buttons),
    make("p", { class: "head", id: "goes-in" }, say("How much of it goes into memory")),
    make("p", { class: "head" }, say("Which of the slots below it reads, a line for each head")));
  for (let l = L; l >= 0; l--) {
    const [name, weight, goes] = l
      ? [say("Layer {n}", { n: l }), say("Weight of layer {n} in memory", { n: l }), say("Layer {n} goes into memory", { n: l })]
      : [say("Embedding"), say("Weight of embedding in memory"), say("Embedding goes into memory")];
    inputs[l] = range(weight, -6, 6, 0.1, 0);
    kept[l] = make("input", { type: "checkbox", "aria-label": goes });
    shares[l] = make("output", {});
    inputs[l].addEventListener("input", () => { mix.weight[l] = +inputs[l].value; changed(); });
    kept[l].addEventListener("change", () => {
      mix.weight[l] = kept[l].checked ? before[l] : -Infinity;
      changed();
    });
    const grid = make("div", l ? { class: "cells", role: "img" } : { class: "cells none" });
    if (l) cells[l - 1] = Array.from({ length: model.H }, () => Array.from({ length: model.mem_len }, () => {
      const cell = make("i", {});
      grid.append(cell);
      return cell;
    }));
    else grid.append(say("the character itself; it reads nothing"));
    element.append(make("div", { class: "control" }, make("label", {}, kept[l], name), inputs[l], shares[l]), grid);
  }
  const open = range(say("Open memory slots"), 0, model.mem_len, 1, mix.slots), count = make("output", {});
  const slots = Array.from({ length: model.mem_len }, () => make("span", {}));
  open.addEventListener("input", () => { mix.slots = +open.value; changed(); });
  element.append(make("div", { class: "control memory" }, make("span", {}, say("Slots")), open, count),
    make("div", { class: "slots", "aria-hidden": "true" }, ...slots),
    make("p", { class: "hint" }, say(
      "A slot is one vector: all that the model made of one character, mixed with the weights on this page. The newest comes last.")));

  // The controls say what the mix is.
  const showMix = () => {
    const alpha = softmax(mix.weight), last = mix.weight.filter((w) => w > -Infinity).length === 1;
    inputs.forEach((input, l) => {
      const present = mix.weight[l] > -Infinity;
      if (present) input.value = before[l] = mix.weight[l];
      input.disabled = !present;
      kept[l].checked = present;
      kept[l].disabled = present && last;
      input.setAttribute("aria-valuetext", percent(alpha[l]));
      shares[l].textContent = present ? percent(alpha[l]) : say("left out");
      shares[l].style.setProperty("--share", alpha[l]);
    });
    open.value = mix.slots;
    count.textContent = mix.slots === 1 ? say("1 slot") : say("{n} slots", { n: mix.slots });
    slots.forEach((slot, j) => slot.classList.toggle("closed", j >= mix.slots));
    buttons.forEach((button, i) => button.setAttribute("aria-pressed",
      same(mix, { weight: asLearned(model).weight.map(presets[i][1]), slots: presets[i][2] })));
  };
  // The memory when `text[t]` is read: the slots that hold earlier characters, and who looks at which of them.
  const showStep = (text, t, attn) => {
    const S = Math.min(t, mix.slots), held = [...text].slice(t - S, t);
    slots.forEach((slot, j) => {
      slot.textContent = j < S ? ({ "\n": "↵", " ": "·" }[held[j]] ?? held[j]) : "";
      slot.classList.toggle("full", j < S);
    });
    cells.forEach((heads, l) => {
      heads.forEach((row, h) => row.forEach((cell, j) =>
        (cell.style.opacity = j < S ? Math.sqrt(attn[l][h][j]).toFixed(2) : 0)));
      const mean = held.map((_, j) => heads.reduce((sum, _, h) => sum + attn[l][h][j] / model.H, 0));
      const most = argmax(mean);
      heads[0][0].parentNode.setAttribute("aria-label", S
        ? say("Layer {n} looks most at {character}, {back} back, with {percent}",
          { n: l + 1, character: visible(held[most]), back: S - most, percent: percent(mean[most]) })
        : say("Layer {n} has nothing to look at", { n: l + 1 }));
    });
  };
  return { element, showMix, showStep };
};

// The likeliest next characters, as bars.
const guesses = (model) => {
  const rows = Array.from({ length: 8 }, () =>
    ({ name: make("b", {}), bar: make("span", { class: "bar" }), value: make("span", {}) }));
  const show = (p, chosen) => {
    const order = Array.from(p.keys()).sort((a, b) => p[b] - p[a]);
    rows.forEach(({ name, bar, value }, i) => {
      name.textContent = visible(model.characters[order[i]]);
      bar.style.setProperty("--share", p[order[i]]);
      value.textContent = percent(p[order[i]]);
      name.parentNode.classList.toggle("chosen", order[i] === chosen);
    });
  };
  const list = make("ol", { class: "guesses" }, ...rows.map((row) => make("li", {}, row.name, row.bar, row.value)));
  return { element: make("div", {}, make("p", { class: "head" }, say("What may come next")), list), show };
};

// A text that is read rather than written: its loss with this memory, with the learned one, and with none.
const reader = (model, mix) => {
  const input = make("textarea", { rows: 7, spellcheck: "false", lang: "en" });
  const shown = make("p", { class: "read", lang: "en" });
  input.value = UNSEEN;
  const bars = [say("this memory"), say("the learned one"), say("no memory")].map((name) =>
    ({ name, bar: make("span", { class: "bar" }), value: make("output", {}) }));
  const says = make("p", { role: "status", class: "says" }), known = {};
  let version = 0;
  const update = async (wanted = () => true) => {
    const mine = ++version, still = () => mine === version && wanted();
    const text = [...input.value].filter((c) => model.characters.includes(c));
    if (text.length < 2) return (says.textContent = say("Write at least two characters that the model knows."));
    const tokens = model.encode(text.join("")), learned = asLearned(model);
    if (known.text !== text.join("")) Object.assign(known, { text: text.join(""), values: [] });
    const losses = await measure(model, tokens, mix, still);
    if (!losses) return;
    for (const [i, other] of [[1, learned], [2, { ...learned, slots: 0 }]]) {
      const found = known.values[i] ?? (await measure(model, tokens, other, still));
      if (!found) return;
      known.values[i] = found;
    }
    const values = [losses, known.values[1], known.values[2]].map(average), most = Math.max(...values);
    bars.forEach(({ bar, value }, i) => {
      bar.style.setProperty("--share", values[i] / most);
      value.textContent = values[i].toFixed(2);
    });
    shown.replaceChildren(...text.map((c, t) => {
      const letter = make("span", {}, c);
      // Five nats and more have the full colour.
      if (t) letter.style.setProperty("--share", Math.min(1, losses[t - 1] / 5));
      return letter;
    }));
    const more = values[0] - values[1];
    const numbers = { nats: values[0].toFixed(2), difference: Math.abs(more).toFixed(2) };
    says.textContent = same(mix, learned) ? say("It reads this text with {nats} nats a character.", numbers)
      : numbers.difference === "0.00" ? say("With this memory {nats} nats a character, as with the learned one.", numbers)
      : more < 0 ? say("With this memory {nats} nats a character, {difference} less than with the learned one.", numbers)
      : say("With this memory {nats} nats a character, {difference} more than with the learned one.", numbers);
  };
  input.addEventListener("input", () => update());
  const element = make("div", { class: "reader" },
    make("p", { class: "head" }, say("How well does it read with this memory?")),
    field(say("A text it has never seen; change it as you like"), input),
    make("div", {},
      make("p", { class: "hint" }, say("The stronger the colour, the more the character surprises it")), shown),
    make("ul", { class: "losses", "aria-label": say("Loss in nats a character; less is better") },
      ...bars.map(({ name, bar, value }) => make("li", {}, make("span", {}, name), bar, value))), says);
  return { element, update };
};

const buildDemo = (model, mix) => {
  const prompt = make("textarea", { rows: 2, spellcheck: "false", lang: "en" });
  prompt.value = PROMPT;
  const temperature = make("input", { type: "number", min: 0, max: 3, step: 0.1, value: 0.7 });
  const seed = make("input", { type: "number", min: 0, max: 999999, step: 1, value: 5 });
  const paces = [[say("slowly"), 4], [say("to read along"), 30], [say("at once"), Infinity]];
  const pace = make("select", {}, ...paces.map(([name, value]) => make("option", { value }, name)));
  pace.value = calm() ? Infinity : 30;
  const write = make("button", { type: "button", class: "big" }), reset = make("button", { type: "button" }, say("Reset"));
  const sheet = make("div", { lang: "en" });
  const text = make("div", { class: "text", tabindex: 0, role: "region", "aria-label": say("The text") }, sheet);
  const at = range(say("Look back at a character"), 0, 0, 1, 0), where = make("output", {});
  // What was written is announced when the writing stops, not character by character.
  const spoken = make("p", { role: "status", class: "unseen", lang: "en" }), hint = make("p", { class: "hint", role: "status" });
  // `steps` are the characters read and written so far, with the logits and the attention of each; `letters` show them.
  let version = 0, goal = 0, writing = false, memory = model.start(), steps = [];
  let letters = [], stale = false, announced = 0, learned = {};

  const next = guesses(model);
  const layers = stack(model, mix, () => settled());
  const reading = reader(model, mix);
  const written = () => steps.map((step) => model.characters[step.token]).join("");
  const degrees = () => Math.max(0, +temperature.value);
  const settings = () => [prompt.value, temperature.value, seed.value].join();

  const show = (chosen = steps.length - 1) => {
    const t = Math.min(chosen, steps.length - 1);
    if (stale) {
      sheet.replaceChildren();
      [letters, stale] = [[], false];
    }
    for (let i = letters.length; i < steps.length; i++) {
      letters.push(make("span", { class: i < given() ? "given" : "" }, model.characters[steps[i].token]));
      sheet.append(letters[i]);
    }
    sheet.querySelector(".now")?.classList.remove("now");
    letters[t].classList.add("now");
    at.max = steps.length - 1;
    at.value = t;
    where.textContent = say("at {character}, character {n} of {all}",
      { character: visible(model.characters[steps[t].token]), n: t + 1, all: steps.length });
    layers.showStep(written(), t, steps[t].attn);
    next.show(probabilities(steps[t].logits, degrees()), steps[t + 1]?.token);
    if (t === steps.length - 1) text.scrollTop = text.scrollHeight;
  };
  // Where the text leaves the one that the learned memory writes with the same settings.
  const compare = () => {
    const now = written();
    if (same(mix, asLearned(model))) learned = { settings: settings(), text: now };
    const other = learned.settings === settings() ? learned.text : now;
    let first = 0;
    while (first < Math.min(now.length, other.length) && now[first] === other[first]) first++;
    const parted = first < Math.min(now.length, other.length);
    letters.forEach((letter, i) => letter.classList.toggle("other", parted && i >= first));
    const changed = !same(mix, asLearned(model)) && learned.settings === settings();
    hint.textContent = parted ? say("In colour: from here on the learned memory writes something else.")
      : changed ? say("Not a character differs from what the learned memory writes.")
      : known(prompt.value) === prompt.value ? ""
      : say("Characters of the prompt that the model does not know are left out.");
  };
  const known = (text) => [...text].filter((c) => model.characters.includes(c)).join("");
  const tokens = () => model.encode(known(prompt.value) || "\n");
  const given = () => tokens().length;

  // Writes from the beginning, or goes on, until `goal` characters follow the prompt. With a pace, every character
  // is shown when it is due; without one, the text is shown when it is whole.
  const run = async (again, speed) => {
    const mine = ++version, prompted = tokens();
    if (again) {
      [memory, steps] = [model.start(), []];
      [stale, announced] = [true, prompted.length];
    }
    const first = steps.length, begun = performance.now();
    let since = begun;
    writing = true;
    label();
    while (steps.length < prompted.length + goal) {
      if (performance.now() - since > 12 || steps.length - first > ((performance.now() - begun) / 1000) * speed) {
        if (speed < Infinity && steps.length) show();
        await frame();
        if (mine !== version) return;
        since = performance.now();
        continue;
      }
      const t = steps.length, token = prompted[t]
        ?? choose(steps[t - 1].logits, degrees(), uniform(+seed.value, t - prompted.length));
      steps.push({ token, ...model.step(memory, token, mix.weight, mix.slots) });
    }
    stop();
    reading.update();
  };
  const stop = () => {
    version++;
    writing = false;
    label();
    show();
    compare();
    spoken.textContent = written().slice(announced);
    announced = steps.length;
  };
  const label = () => (write.textContent = writing ? say("Stop") : goal ? say("Go on") : say("Write"));
  const settled = () => {
    layers.showMix();
    if (goal) run(true, Infinity);
    else reading.update();
  };

  write.addEventListener("click", () => {
    if (writing && steps.length) {
      goal = Math.max(1, steps.length - given());
      return stop();
    }
    goal += 300;
    run(!steps.length, +pace.value);
  });
  pace.addEventListener("input", () => writing && run(false, +pace.value));
  for (const control of [prompt, temperature, seed]) control.addEventListener("input", settled);
  at.addEventListener("input", () => show(+at.value));
  text.addEventListener("click", (event) => letters.includes(event.target) && show(letters.indexOf(event.target)));

  const element = make("div", {},
    make("div", { class: "settings" }, field(say("Prompt"), prompt), field(say("Temperature"), temperature),
      field(say("Seed"), seed), field(say("Pace"), pace), make("div", { class: "buttons" }, write, reset)),
    make("div", { class: "writing" },
      make("div", {}, make("p", { class: "head" }, say("It writes")), text, hint), next.element),
    make("p", { class: "control back" }, field(say("Look back"), at), where),
    layers.element, reading.element, spoken);
  layers.showMix();
  label();
  const begin = () => { write.focus(); write.click(); };
  const end = () => { version++; reading.update(() => false); };
  return { element, reset, settled, begin, end };
};

document.querySelectorAll("svg[data-figure=demo]").forEach((svg) => {
  let mix, demo;
  // Everything as it was in the beginning.
  const build = (model) => {
    mix ??= asLearned(model);
    demo = buildDemo(model, mix);
    demo.reset.addEventListener("click", () => {
      const old = demo;
      old.end();
      Object.assign(mix, asLearned(model));
      old.element.replaceWith(build(model).element);
      demo.begin();
    });
    return demo;
  };
  offer(svg, "tiny_shakespeare", say("Run the model here (2 MB)"), build);

  // For tests and for the curious: the same model, with the mix and the slots that the page shows.
  const ready = async () => {
    const model = await loadModel("tiny_shakespeare");
    mix ??= asLearned(model);
    return model;
  };
  const read = (model, memory, tokens) =>
    tokens.reduce((_, token) => model.step(memory, token, mix.weight, mix.slots), null);
  window.feedbackDemo = {
    // The logits of the character after `text`.
    async logits(text) {
      const model = await ready();
      return read(model, model.start(), model.encode(text)).logits;
    },
    // The `n` likeliest characters after `text`, one after the other.
    async write(text, n) {
      const model = await ready(), memory = model.start();
      let { logits } = read(model, memory, model.encode(text)), out = "";
      for (let i = 0; i < n; i++) {
        const token = argmax(logits);
        out += model.characters[token];
        logits = model.step(memory, token, mix.weight, mix.slots).logits;
      }
      return out;
    },
    // Sets the weights of the mix before their softmax, and how many slots are open; without them, those learned.
    async mix(weight, slots) {
      const model = await ready(), learned = asLearned(model);
      Object.assign(mix, { weight: weight ? [...weight] : learned.weight, slots: slots ?? learned.slots });
      demo?.settled();
    },
  };
});
