// The arithmetic of the Feedback Transformer in plain JavaScript: what feedback/reference.py computes, term for term
// and with the same names, for one sequence and one step at a time. S slots, D the width, H heads of width K, F inner
// units, V tokens. A matrix is a Float32Array, row after row.

// $y = W x + b$; W is (out, in), and the width of x a multiple of four.
const linear = (W, x, b) => {
  const n = x.length, y = new Float32Array(W.length / n);
  for (let i = 0, at = 0; i < y.length; i++) {
    // Four sums that do not wait for each other.
    let s0 = b ? b[i] : 0, s1 = 0, s2 = 0, s3 = 0;
    for (let j = 0; j < n; j += 4, at += 4) {
      s0 += W[at] * x[j];
      s1 += W[at + 1] * x[j + 1];
      s2 += W[at + 2] * x[j + 2];
      s3 += W[at + 3] * x[j + 3];
    }
    y[i] = s0 + s1 + s2 + s3;
  }
  return y;
};

// $y_i = x_i + z_i$
const add = (x, z) => x.map((value, i) => value + z[i]);

// $(x - \mathrm{mean}) / \sqrt{\mathrm{var} + \epsilon} \cdot \gamma + \beta$
const layerNorm = (x, { weight, bias }) => {
  let mean = 0, variance = 0;
  for (const value of x) mean += value / x.length;
  for (const value of x) variance += (value - mean) ** 2 / x.length;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  return x.map((value, i) => (value - mean) * scale * weight[i] + bias[i]);
};

// $e^{x_i} / \sum_j e^{x_j}$, relative to the largest. A weight of -Infinity leaves its entry out.
const softmax = (x) => {
  const largest = Math.max(...x), e = Float32Array.from(x, (value) => Math.exp(value - largest));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((value) => value / sum);
};

const argmax = (x) => x.indexOf(Math.max(...x));

// The numbers of a model are stored as float16: a sign, five bits of exponent, ten of fraction.
// All 65,536 of them, so that each is worked out once.
const float16 = () => Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
  return bits >> 15 ? -size : size;
});

// All tensors by their names, nested at the dots: `layers[0].attn.query.weight`.
const unpack = ({ shapes, float16: base64 }) => {
  const bytes = atob(base64), value = float16(), nested = {};
  let at = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const path = name.split("."), tensor = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < tensor.length; i++, at += 2) {
      tensor[i] = value[bytes.charCodeAt(at) | (bytes.charCodeAt(at + 1) << 8)];
    }
    path.slice(0, -1).reduce((parent, key) => (parent[key] ??= {}), nested)[path.at(-1)] = tensor;
  }
  return nested;
};

class FeedbackModel {
  constructor(data) {
    const { n_layers, n_heads, d_model, mem_len } = data.config;
    Object.assign(this, unpack(data), { L: n_layers, H: n_heads, D: d_model, K: d_model / n_heads, mem_len });
    this.characters = [...(data.characters ?? "")];
  }

  // The numbers of the characters of a text; throws for characters that the model has never seen.
  encode(text) {
    const unknown = new Set([...text].filter((c) => !this.characters.includes(c)));
    if (unknown.size) throw new RangeError(`the model does not know ${[...unknown].join(" ")}`);
    return [...text].map((c) => this.characters.indexOf(c));
  }

  // The state of a sequence: keys and values of the memory, oldest first. At first there is none.
  start() { return { k: [], v: [] }; }

  // $k = W_k\, \mathrm{LN}(m), \; v = W_v\, \mathrm{LN}(m)$: one pair for all layers.
  project(m) {
    const { kv, norm_memory } = this.transformer, normed = layerNorm(m, norm_memory);
    return [linear(kv.key.weight, normed), linear(kv.value.weight, normed)];
  }

  // $\mathrm{score}_j = (q^\top k_j + u^\top k_j + q^\top p_{t-j} + s_{t-j}) / \sqrt K$ of one head.
  scores(attn, q, k, h) {
    const { H, K, mem_len } = this, S = k.length, u = attn.query_bias, scores = new Float32Array(S);
    for (let j = 0; j < S; j++) {
      // Tables are oldest first, like the memory: their last S rows line up with S slots.
      const row = mem_len - S + j, p = row * H * K, k_j = k[j];
      let content = 0, distance = attn.pos_bias[row * H + h];
      for (let i = h * K; i < (h + 1) * K; i++) {
        content += (q[i] + u[i]) * k_j[i];
        distance += q[i] * attn.pos_key[p + i];
      }
      scores[j] = (content + distance) / Math.sqrt(K);
    }
    return scores;
  }

  // $W_o \sum_j a_j v_j + b_o$, and the weights $a$ of each head.
  attend(attn, z, k, v) {
    const { H, K, D } = this, q = linear(attn.query.weight, z), heads = new Float32Array(D), weights = [];
    for (let h = 0; h < H; h++) {
      const a = softmax(this.scores(attn, q, k, h));
      for (let j = 0; j < k.length; j++) {
        for (let i = h * K; i < (h + 1) * K; i++) heads[i] += a[j] * v[j][i];
      }
      weights.push(a);
    }
    return [linear(attn.output.weight, heads, attn.output.bias), weights];
  }

  // $y = x + \mathrm{Attn}(\mathrm{LN}(x);\, k, v), \; x' = y + \mathrm{FF}(\mathrm{LN}(y))$
  layer({ norm_attn, attn, norm_ff, ff }, x, k, v) {
    let weights = [];
    // With no slot to read there is nothing to attend to: the sublayer is skipped.
    if (k.length) {
      const [read, a] = this.attend(attn, layerNorm(x, norm_attn), k, v);
      x = add(x, read);
      weights = a;
    }
    const inner = linear(ff.up.weight, layerNorm(x, norm_ff), ff.up.bias).map((value) => Math.max(0, value));
    return [add(x, linear(ff.down.weight, inner, ff.down.bias)), weights];
  }

  // One step of time. Reads a token, adds its memory vector to `memory`, and returns the logits of the next token and
  // `attn`, for each layer and head the weights of the slots. `weight` are the L+1 numbers of the mix before their
  // softmax, and `slots` is how many memory vectors a step may read: those that were learned, unless others are given.
  step(memory, token, weight = this.transformer.mix.weight, slots = this.mem_len) {
    const { D, transformer } = this, S = Math.min(memory.k.length, slots);
    const k = memory.k.slice(memory.k.length - S), v = memory.v.slice(memory.v.length - S);
    let x = this.embedding.weight.slice(token * D, (token + 1) * D), weights;
    const states = [x], attn = [];
    for (let l = 0; l < this.L; l++) {
      // $x_t^l$
      [x, weights] = this.layer(transformer.layers[l], x, k, v);
      states.push(x);
      attn.push(weights);
    }
    // $m_t = \sum_l \alpha_l\, x_t^l, \; \alpha = \mathrm{softmax}(w)$
    const alpha = softmax(weight), m = new Float32Array(D);
    states.forEach((state, l) => { for (let i = 0; i < D; i++) m[i] += alpha[l] * state[i]; });
    const [k_t, v_t] = this.project(m);
    memory.k.push(k_t);
    memory.v.push(v_t);
    if (memory.k.length > this.mem_len) { memory.k.shift(); memory.v.shift(); }
    return { logits: linear(this.head.weight, layerNorm(x, transformer.norm), this.head.bias), attn };
  }
}

// A number from 0 to 1 that depends on a seed and a step alone (the mixing of murmur3), so that with another memory
// the same numbers are drawn, and whatever changes in a text is the memory's doing.
const uniform = (seed, t) => {
  let x = Math.imul(seed, 0x9e3779b1) ^ Math.imul(t + 1, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
};

// $p \propto e^{\mathrm{logit} / \mathrm{temperature}}$; at temperature 0 the model's own, and the largest is taken.
const probabilities = (logits, temperature) => softmax(logits.map((value) => value / (temperature || 1)));

// The first token at which the sum of the probabilities exceeds a uniform number.
const choose = (logits, temperature, u) => {
  if (temperature === 0) return argmax(logits);
  const p = probabilities(logits, temperature);
  let sum = 0;
  const chosen = p.findIndex((value) => (sum += value) > u);
  return chosen < 0 ? argmax(logits) : chosen;
};

// The numbers of a model are a script beside the page, so they come from a disk too. They are fetched once, on demand.
const loading_ = {};
const loadModel = (name) => (loading_[name] ??= new Promise((done, failed) => {
  const script = make("script", { src: `${top_}assets/${name}.js` });
  script.addEventListener("load", () => done(new FeedbackModel(MODELS[name])));
  script.addEventListener("error", () => {
    delete loading_[name];
    failed(new Error(say("{file} could not be loaded", { file: `assets/${name}.js` })));
  });
  document.head.append(script);
}));
