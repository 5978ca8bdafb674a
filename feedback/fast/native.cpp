// # The sweeps in C++
//
// The two sweeps of `feedback.forward` and `feedback.backward` as one loop in C++.
//
// Why: a layer step is some twenty small operations forward, and thirty-five back. In PyTorch each
// one costs several microseconds of dispatch, a fresh output, and weights that the matrix library
// packs anew at every call. Here nothing is dispatched or allocated, and the weights come packed once per training
// step. The mathematics, the names and the buffers are those of `sweep_forward` and
// `sweep_backward` there. The gradients of all small weights are added up on the way, by each thread
// for itself.
//
// Threads stand in a grid: a group owns some rows of the batch from beginning to end and never
// waits for another group; the members of a group share the columns of each product and meet at
// a barrier after it. Many groups are best while the weights fit into the cache of one core, one
// group where they do not.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

typedef int64_t Int;

// ## Sizes and arrays
//
// Numbers behind the end of a row of slots or positions, as in `feedback.tape`: a vector may read
// past it.
constexpr Int MARGIN = 16;

enum Activation { RELU, GELU, SWIGLU };

// The layout is that of `Arguments` in `feedback.native`.
template <typename T>
struct Arguments {
  Int T_, B, D, H, K, L, F, P, S, W, slots, activation, norm_memory, relu_only, recording, lean, keep_slots;
  Int threads, groups, first, steps;
  double dropout;
  // Weights: packed matrices, and the rest as they are.
  const T *wq, *wo, *w1, *w2, *gain_attn, *offset_attn, *gain_ff, *offset_ff, *alpha, *u, *p, *s,
      *bo, *b1, *b2, *wkv, *bkv;
  // Tape
  T *x, *m, *attn, *o, *y, *pre, *k, *v;
  // Recomputed, as is pre where the tape is lean
  const T *x_mean, *x_rstd, *y_mean, *y_rstd, *q, *m_mean, *m_rstd;
  // Adjoint
  T *dx0, *dx, *dpre, *dy, *ds, *dq, *dm, *dkv, *dk, *dv;
  // Gradients of the small weights, for each thread
  T *d_gain_attn, *d_offset_attn, *d_gain_ff, *d_offset_ff, *d_alpha, *d_u, *d_s, *d_bo, *d_b1, *d_b2,
      *d_bkv;
  // Inputs and outputs
  const T *in, *dout, *dm_out;
  T *out;
  const uint8_t *keep_attn, *keep_ff;
  T *scratch;
};

template <typename T>
struct Vector {
  static constexpr int width = BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
};

// ## Products, in tiles
//
// Columns of a packed panel: two vectors.
template <typename T>
constexpr int PANEL = 2 * Vector<T>::width;

class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}
  void wait() {
    if (members_ == 1) return;
    const int phase = phase_.load(std::memory_order_relaxed);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
      waiting_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
      if (spins > 4000) std::this_thread::yield();
  }

 private:
  const int members_;
  std::atomic<int> waiting_{0}, phase_{0};
};

// R rows of `x`, `(R, depth)`, times one panel, `(depth, PANEL)`: the sums stay in registers.
// Meanwhile a part of the next panel, from `ahead` on, is called from memory, `step` numbers for
// each row.
template <typename T, int R>
__attribute__((noinline)) void tile(const T *x, Int depth, const T *panel, const T *ahead, Int step,
                                    T *sums) {
  typedef typename Vector<T>::type V;
  constexpr int width = Vector<T>::width;
  V sum[R][2] = {};
  for (Int i = 0; i < depth; ++i) {
    const V left = *(const V *)(panel + i * 2 * width);
    const V right = *(const V *)(panel + i * 2 * width + width);
    __builtin_prefetch(ahead + i * step, 0, 2);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const T a = x[r * depth + i];
      sum[r][0] += a * left;
      sum[r][1] += a * right;
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    *(V *)(sums + r * 2 * width) = sum[r][0];
    *(V *)(sums + r * 2 * width + width) = sum[r][1];
  }
}

// ## Exponentials
//
// $e^x$ for $x \le 0$. In float $x = n \ln 2 + r$ with $|r| \le \ln(2) / 2$, so $e^x = 2^n e^r$, with
// the Taylor series of $e^r$ up to $r^7$. It has no branch and no call, so a loop over it is a loop
// over vectors.
inline float exponential(float x) {
  x = std::max(x, -87.0f);
  // Added to this, a number loses its fraction, and is to be read off the last bits.
  const float shift = 12582912.0f, shifted = x * 1.44269504f + shift, n = shifted - shift;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float series = 1.0f / 5040;
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    series = series * r + c;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}
inline double exponential(double x) { return std::exp(x); }

// ## Attention over slots
//
// N vectors of slots: `out_j = sum_i a_i k_ij (+ b_i p_ij)`, where the slots of a row lie side by
// side.
template <typename T, int N>
inline void score(Int K, const T *a, const T *k, Int slots, const T *b, const T *p, Int W, T *out) {
  typedef typename Vector<T>::type V;
  constexpr int width = Vector<T>::width;
  V first[N] = {}, second[N] = {};
  for (Int i = 0; i < K; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      first[j] += a[i] * *(const V *)(k + i * slots + j * width);
      if (p) second[j] += b[i] * *(const V *)(p + i * W + j * width);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) *(V *)(out + j * width) = first[j] + second[j];
}

// All n slots of a window, n a multiple of the vector width.
template <typename T>
void scores(Int n, Int K, const T *a, const T *k, Int slots, const T *b, const T *p, Int W, T *out) {
  constexpr int width = Vector<T>::width;
  Int j = 0;
  for (; j + 4 * width <= n; j += 4 * width)
    score<T, 4>(K, a, k + j, slots, b, p ? p + j : p, W, out + j);
  for (; j < n; j += width) score<T, 1>(K, a, k + j, slots, b, p ? p + j : p, W, out + j);
}

// R numbers: `out_i = sum_j a_j (v_ij + p_ij)`, over n slots, n a multiple of the vector width.
template <typename T, int R>
inline void read(Int n, const T *a, const T *v, Int slots, const T *p, Int W, T *out) {
  typedef typename Vector<T>::type V;
  constexpr int width = Vector<T>::width;
  V sum[R] = {};
  for (Int j = 0; j < n; j += width) {
    const V weight = *(const V *)(a + j);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      V value = *(const V *)(v + i * slots + j);
      if (p) value += *(const V *)(p + i * W + j);
      sum[i] += weight * value;
    }
  }
  for (int i = 0; i < R; ++i) {
    T total = 0;
    for (int lane = 0; lane < width; ++lane) total += sum[i][lane];
    out[i] = total;
  }
}

// All K numbers of a head.
template <typename T>
void reads(Int n, Int K, const T *a, const T *v, Int slots, const T *p, Int W, T *out) {
  Int i = 0;
  for (; i + 8 <= K; i += 8)
    read<T, 8>(n, a, v + i * slots, slots, p ? p + i * W : p, W, out + i);
  for (; i < K; ++i) read<T, 1>(n, a, v + i * slots, slots, p ? p + i * W : p, W, out + i);
}

// ## One thread
//
// What a thread knows of its place in the grid, and where in the arrays it stands.
template <typename T>
struct Worker {
  const Arguments<T> &a;
  Barrier &barrier;
  const Int row0, row1;           // rows of this group
  const Int member, members;      // place in the group
  const Int thread;               // place among all
  const Int wide, HK, slots;      // width of `pre`, H * K, slots that there is room for
  Int t = 0, r = 0, start = 0, end = 0, n = 0;  // step, its row on the tape, its window
  Int padded = 0;                 // n, rounded up to whole vectors
  bool backwards = false;         // which sweep this is
  Int before = 0;                 // slots read by the steps on the tape before this one

  Worker(const Arguments<T> &a, Barrier &barrier, Int row0, Int row1, Int member, Int members,
         Int thread)
      : a(a), barrier(barrier), row0(row0), row1(row1), member(member), members(members),
        thread(thread),
        wide(a.activation == SWIGLU ? 2 * a.F : a.F), HK(a.H * a.K), slots(a.slots) {}

  void at(Int step) {
    t = step;
    r = a.recording ? t : 0;
    start = std::max<Int>(0, a.S + t - a.W);
    end = a.S + t;
    n = end - start;
    padded = (n + Vector<T>::width - 1) / Vector<T>::width * Vector<T>::width;
    before = a.recording ? read_before(t) : 0;
  }
  // Windows grow from S to W, and then they slide.
  Int read_before(Int step) const {
    const Int growing = std::min(step, a.W - a.S);
    return growing * a.S + growing * (growing - 1) / 2 + (step - growing) * a.W;
  }
  Int time() const { return a.recording ? a.T_ : 1; }
  // Row b of `(L, T, B, width)`, at this layer and step.
  T *at(T *base, Int l, Int width, Int b = 0) const {
    return base + ((l * time() + r) * a.B + b) * width;
  }
  // The inner units of this layer and step: on the tape, or, where it is lean, those of one step in
  // the forward sweep and of a stretch in the backward sweep.
  T *inner(Int l, Int b = 0) const {
    if (!a.lean) return at(a.pre, l, wide, b);
    const Int step = backwards ? t - a.first : 0, steps = backwards ? a.steps : 1;
    return a.pre + ((l * steps + step) * a.B + b) * wide;
  }
  // The share of this member in `count` equal things.
  void share(Int count, Int &from, Int &to) const {
    from = count * member / members;
    to = count * (member + 1) / members;
  }

  // The same of a stretch, `(L, steps, B, width)`, which begins with step `first`.
  template <typename Number>
  Number *stretch(Number *base, Int l, Int width, Int b = 0) const {
    return base + ((l * a.steps + t - a.first) * a.B + b) * width;
  }

  // For each row of this member: `f(b)`.
  template <typename Each>
  void rows(Each f) {
    Int from, to;
    share(row1 - row0, from, to);
    for (Int b = row0 + from; b < row0 + to; ++b) f(b);
    barrier.wait();
  }

  // For each head and row of this member: `f(h, b)`.
  template <typename Each>
  void heads(Each f) {
    Int from, to;
    share((row1 - row0) * a.H, from, to);
    for (Int i = from; i < to; ++i) f(i / (row1 - row0), row0 + i % (row1 - row0));
    barrier.wait();
  }

  // `x`, `(B, depth)`, times a packed matrix, `(depth, columns)`; `f(b, c, width, sums)` takes
  // `width` sums of row b from column c on.
  template <typename Each>
  void product(const T *x, Int depth, const T *packed, Int columns, Each f) {
    Int from, to;
    share((columns + PANEL<T> - 1) / PANEL<T>, from, to);
    for (Int i = from; i < to; ++i) {
      const T *panel = packed + i * depth * PANEL<T>;
      const Int c = i * PANEL<T>, width = std::min<Int>(PANEL<T>, columns - c);
      alignas(64) T sums[6 * PANEL<T>];
      const Int tiles = (row1 - row0 + 5) / 6, step = PANEL<T> / tiles;
      const T *ahead = panel + depth * PANEL<T>;
      for (Int b = row0; b < row1; ahead += depth * step) {
        // Six rows fill the registers; the last two tiles share evenly what is left.
        const Int left = row1 - b, count = left > 6 && left < 12 ? (left + 1) / 2 : left;
        const Int size = std::min<Int>(count, 6);
        const T *rows = x + b * depth;
        switch (size) {
          case 1: tile<T, 1>(rows, depth, panel, ahead, step, sums); break;
          case 2: tile<T, 2>(rows, depth, panel, ahead, step, sums); break;
          case 3: tile<T, 3>(rows, depth, panel, ahead, step, sums); break;
          case 4: tile<T, 4>(rows, depth, panel, ahead, step, sums); break;
          case 5: tile<T, 5>(rows, depth, panel, ahead, step, sums); break;
          default: tile<T, 6>(rows, depth, panel, ahead, step, sums);
        }
        for (Int i = 0; i < size; ++i) f(b + i, c, width, sums + i * PANEL<T>);
        b += size;
      }
    }
    barrier.wait();
  }
  // Elements of a packed `(depth, columns)` matrix.
  static Int packed(Int depth, Int columns) {
    return (columns + PANEL<T> - 1) / PANEL<T> * PANEL<T> * depth;
  }

  // `z = gain (x - mean) / sigma + offset`; without a gain, 1 and 0.
  void normalise(const T *x, const T *gain, const T *offset, T *z) const {
    T mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
    for (Int d = 0; d < a.D; ++d) mean += x[d];
    mean /= a.D;
#pragma omp simd reduction(+ : square)
    for (Int d = 0; d < a.D; ++d) square += (x[d] - mean) * (x[d] - mean);
    const T scale = 1 / std::sqrt(square / a.D + T(1e-5));
    if (gain)
#pragma omp simd
      for (Int d = 0; d < a.D; ++d) z[d] = (x[d] - mean) * scale * gain[d] + offset[d];
    else
#pragma omp simd
      for (Int d = 0; d < a.D; ++d) z[d] = (x[d] - mean) * scale;
  }

  // This thread's own part of a gradient of `width` numbers a layer.
  T *mine(T *base, Int l, Int width, Int layers) const {
    return base + (thread * layers + l) * width;
  }
  T *mine(T *base, Int l, Int width) const { return mine(base, l, width, a.L); }
  static void add(T *sum, const T *term, Int count) {
#pragma omp simd
    for (Int i = 0; i < count; ++i) sum[i] += term[i];
  }

  // `f(d, value)` with `value = (g - mean(g) - x_hat mean(g x_hat)) / sigma`, where `g = gain dz`.
  // Adds `dz x_hat` and `dz` to the gradients of gain and offset, if there is a gain.
  template <typename Each>
  void normalise_backward(const T *dz, const T *gain, const T *x, T mean, T rstd, T *d_gain,
                          T *d_offset, Each f) const {
    T *g = own(0), *hat = own(1), mean_g = 0, dot = 0;
#pragma omp simd
    for (Int d = 0; d < a.D; ++d) hat[d] = (x[d] - mean) * rstd;
    if (gain)
#pragma omp simd
      for (Int d = 0; d < a.D; ++d) {
        g[d] = gain[d] * dz[d];
        d_gain[d] += dz[d] * hat[d];
        d_offset[d] += dz[d];
      }
    else
      std::copy_n(dz, a.D, g);
#pragma omp simd reduction(+ : mean_g, dot)
    for (Int d = 0; d < a.D; ++d) mean_g += g[d], dot += g[d] * hat[d];
    mean_g /= a.D, dot /= a.D;
#pragma omp simd
    for (Int d = 0; d < a.D; ++d) f(d, (g[d] - mean_g - hat[d] * dot) * rstd);
  }

  // Keys or values of one head and row: `(K, S + T)`; those a step reads begin at `start`.
  T *cache(T *base, Int l, Int h, Int b) const {
    return base + (((l % a.P) * a.H + h) * a.B + b) * a.K * slots;
  }
  Int reach() const { return a.W + MARGIN; }
  const T *positions(Int l, Int h) const { return a.p + (l * a.H + h) * a.K * reach() + a.W - n; }
  // Attention weights of one head and row: `(n,)`.
  T *weights(Int l, Int h, Int b) const {
    const Int all = a.recording ? read_before(a.T_) : a.W;
    return a.attn + ((l * a.H + h) * all + before) * a.B + b * n;
  }
  // Gradients of scores of one head and row: `(n,)`, aligned right.
  T *gradients(Int l, Int h, Int b) const {
    return a.ds + (((l * a.H + h) * a.steps + t - a.first) * a.B + b) * a.W + a.W - n;
  }
  const uint8_t *kept(Int l, Int h, Int b) const {
    return a.keep_attn + ((((t * a.L + l) * a.B + b) * a.H + h) + 1) * a.keep_slots - n;
  }
  T rescale() const { return T(1 / (1 - a.dropout)); }

  // One of this thread's own windows, `(padded,)`: whole vectors, so that no loop has a remainder.
  // What lies behind slot n is zero or never used.
  T *own(Int i) const {
    return a.scratch + a.B * (2 * a.D + a.F + a.L * HK) + (thread * 2 * a.L + i) * own_size(a);
  }
  void copy(const T *from, T *to, const uint8_t *keep) const {
    std::copy_n(from, n, to);
    std::fill(to + n, to + padded, T(0));
    if (keep)
      for (Int j = 0; j < n; ++j) to[j] *= keep[j] * rescale();
  }

  // One head of one row, over its window.
  void attend(Int l, Int h, Int b) {
    const T *q = scratch_o(0) + b * HK + h * a.K, *u = a.u + l * HK + h * a.K;
    const T *s = a.s + (l * a.H + h) * a.W + a.W - n;
    T *attn = weights(l, h, b), *window = own(0), *both = own(1);
    // `(q + u) k + q p + s`
    for (Int i = 0; i < a.K; ++i) both[i] = q[i] + u[i];
    scores(padded, a.K, both, cache(a.k, l, h, b) + start, slots, q, positions(l, h), reach(),
           window);
    T high = window[0] + s[0], sum = 0;
#pragma omp simd reduction(max : high)
    for (Int j = 0; j < n; ++j) high = std::max(high, window[j] += s[j]);
#pragma omp simd reduction(+ : sum)
    for (Int j = 0; j < n; ++j) sum += window[j] = exponential(window[j] - high);
    const T scale = 1 / sum;
    for (Int j = 0; j < n; ++j) attn[j] = window[j] * scale;
    // `o = sum a v`
    copy(attn, window, a.keep_attn ? kept(l, h, b) : nullptr);
    reads<T>(padded, a.K, window, cache(a.v, l, h, b) + start, slots, nullptr, 0,
             at(a.o, l, HK, b) + h * a.K);
  }

  static T normal_cdf(T x) { return T(0.5) * std::erfc(-x * T(M_SQRT1_2)); }

  // The inner units of one row.
  void activate(Int l, Int b) {
    const T *pre = inner(l, b);
    T *h = scratch_h() + b * a.F;
    const uint8_t *keep = a.keep_ff ? a.keep_ff + ((t * a.L + l) * a.B + b) * a.F : nullptr;
    for (Int i = 0; i < a.F; ++i) {
      const T z = pre[i];
      T value = std::max<T>(z, 0);
      if (a.activation == GELU) value = z * normal_cdf(z);
      if (a.activation == SWIGLU) value = z / (1 + std::exp(-z)) * pre[a.F + i];
      h[i] = keep ? value * (keep[i] * rescale()) : value;
    }
  }

  void activate_backward(Int l, Int b, const T *dh) {
    const T *pre = inner(l, b);
    T *dpre = stretch(a.dpre, l, wide, b);
    const uint8_t *keep = a.keep_ff ? a.keep_ff + ((t * a.L + l) * a.B + b) * a.F : nullptr;
    for (Int i = 0; i < a.F; ++i) {
      const T z = pre[i], g = keep ? dh[i] * (keep[i] * rescale()) : dh[i];
      if (a.activation == RELU) dpre[i] = z > 0 ? g : 0;
      if (a.activation == GELU) {
        const T density = std::exp(-z * z / 2) * T(M_2_SQRTPI * M_SQRT1_2 / 2);
        dpre[i] = g * (normal_cdf(z) + z * density);
      }
      if (a.activation == SWIGLU) {
        const T sigmoid = 1 / (1 + std::exp(-z));
        dpre[i] = g * pre[a.F + i] * sigmoid * (1 + z * (1 - sigmoid));
        dpre[a.F + i] = g * z * sigmoid;
      }
    }
    add(mine(a.d_b1, l, wide), dpre, wide);
  }

  // Scratch: `y (B, D)`, `dz (B, D)`, `dh (B, F)`, `do (L, B, HK)`, and each thread's own windows.
  static Int scratch_size(const Arguments<T> &a) {
    return a.B * (2 * a.D + a.F + a.L * a.H * a.K) + a.threads * 2 * a.L * own_size(a);
  }
  static Int own_size(const Arguments<T> &a) {
    return std::max({a.W, a.K, a.D}) + Vector<T>::width;
  }
  T *scratch_y() const { return a.scratch; }
  T *scratch_z() const { return a.scratch + a.B * a.D; }
  T *scratch_h() const { return a.scratch + a.B * 2 * a.D; }
  T *scratch_o(Int l) const { return a.scratch + a.B * (2 * a.D + a.F + l * HK); }

  // ## The forward sweep
  void forward() {
    const Int D = a.D, F = a.F;
    T *z = scratch_z(), *q = scratch_o(0);
    for (Int step = a.first; step < a.first + a.steps; ++step) {
      at(step);
      rows([&](Int b) { std::copy_n(a.in + ((t - a.first) * a.B + b) * D, D, at(a.x, 0, D, b)); });
      for (Int l = 0; l < a.L; ++l) {
        const T *x = at(a.x, l, D);
        T *y = at(a.y, l, D);
        if (n > 0) {
          rows([&](Int b) {
            normalise(x + b * D, a.gain_attn + l * D, a.offset_attn + l * D, z + b * D);
          });
          // `q = W_q z`
          product(z, D, a.wq + l * packed(D, HK), HK,
                  [&](Int b, Int c, Int width, const T *sums) {
                    std::copy_n(sums, width, q + b * HK + c);
                  });
          heads([&](Int h, Int b) { attend(l, h, b); });
          // `y = x + W_o o + b_o`
          product(at(a.o, l, HK), HK, a.wo + l * packed(HK, D), D,
                  [&](Int b, Int c, Int width, const T *sums) {
                    for (Int i = c; i < c + width; ++i)
                      y[b * D + i] = x[b * D + i] + sums[i - c] + a.bo[l * D + i];
                  });
        } else {
          rows([&](Int b) { std::copy_n(x + b * D, D, y + b * D); });
        }
        rows([&](Int b) {
          normalise(y + b * D, a.gain_ff + l * D, a.offset_ff + l * D, z + b * D);
        });
        // `pre = W_1 z + b_1`
        product(z, D, a.w1 + l * packed(D, wide), wide,
                [&](Int b, Int c, Int width, const T *sums) {
                  T *pre = inner(l, b) + c;
                  const T *bias = a.b1 + l * wide + c;
                  for (Int i = 0; i < width; ++i) {
                    const T value = sums[i] + bias[i];
                    pre[i] = a.relu_only ? std::max<T>(value, 0) : value;
                  }
                });
        if (!a.relu_only) rows([&](Int b) { activate(l, b); });
        // `x = y + W_2 h + b_2`
        product(a.relu_only ? inner(l) : scratch_h(), F, a.w2 + l * packed(F, D), D,
                [&](Int b, Int c, Int width, const T *sums) {
                  T *above = at(a.x, l + 1, D, b);
                  for (Int i = c; i < c + width; ++i)
                    above[i] = y[b * D + i] + sums[i - c] + a.b2[l * D + i];
                });
      }
      rows([&](Int b) { remember(b); });
      // `k, v = W_kv m`
      product(a.norm_memory ? z : a.m + t * a.B * D, D, a.wkv, a.P * 2 * HK,
              [&](Int b, Int c, Int width, const T *sums) {
                for (Int i = 0; i < width; ++i)
                  *memory(a.k, a.v, c + i, b) = sums[i] + a.bkv[c + i];
              });
    }
  }

  // Where column c of `(P, 2, H, K)` lives in the caches of keys and values, at this step.
  T *memory(T *k, T *v, Int c, Int b) const {
    const Int i = c % a.K, h = c / a.K % a.H, value = c / HK % 2, p = c / (2 * HK);
    return cache(value ? v : k, p, h, b) + i * slots + end;
  }

  // `m = sum_l alpha_l x^l`
  void remember(Int b) {
    T *m = a.m + (t * a.B + b) * a.D;
    std::fill_n(m, a.D, T(0));
    for (Int l = 0; l <= a.L; ++l) {
      const T *x = at(a.x, l, a.D, b), alpha = a.alpha[l];
      for (Int d = 0; d < a.D; ++d) m[d] += alpha * x[d];
    }
    std::copy_n(at(a.x, a.L, a.D, b), a.D, a.out + ((t - a.first) * a.B + b) * a.D);
    if (a.norm_memory) normalise(m, nullptr, nullptr, scratch_z() + b * a.D);
  }

  // ## The backward sweep
  //
  // One head of one row.
  void attend_backward(Int l, Int h, Int b) {
    const T *attn = weights(l, h, b), *g_o = scratch_o(l) + b * HK + h * a.K;
    T *ds = gradients(l, h, b), *window = own(0);
    std::fill(ds - (a.W - n), ds, T(0));
    // `da = do v`
    scores<T>(padded, a.K, g_o, cache(a.v, l, h, b) + start, slots, nullptr, nullptr, 0, window);
    if (a.keep_attn) {
      const uint8_t *keep = kept(l, h, b);
      for (Int j = 0; j < n; ++j) window[j] *= keep[j] * rescale();
    }
    // `ds = a (da - sum a da)`
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (Int j = 0; j < n; ++j) dot += attn[j] * window[j];
    for (Int j = 0; j < n; ++j) ds[j] = attn[j] * (window[j] - dot);
    // `dq = sum ds (k + p)`
    copy(ds, window, nullptr);
    T *dq = stretch(a.dq, l, HK, b) + h * a.K;
    reads(padded, a.K, window, cache(a.k, l, h, b) + start, slots, positions(l, h), reach(), dq);
    add(mine(a.d_u, l, HK) + h * a.K, dq, a.K);
    add(mine(a.d_s, l, a.H * a.W) + (h + 1) * a.W - n, ds, n);
  }

  // The gradients of a step that attended to nothing.
  void forget(Int l, Int b) {
    std::fill_n(stretch(a.dy, l, a.D, b), a.D, T(0));
    std::fill_n(stretch(a.dq, l, HK, b), HK, T(0));
    for (Int h = 0; h < a.H; ++h) std::fill_n(gradients(l, h, b) - a.W, a.W, T(0));
  }

  // Adds what this step has asked of each slot of its window, in the layers that read
  // projection p. Behind the window lie slots that are done with, so whole vectors do no harm.
  void accumulate(Int p, Int h, Int b) {
    typedef typename Vector<T>::type V;
    const Int readers = a.L / a.P;
    for (Int i = 0; i < readers; ++i) {
      copy(gradients(p + i, h, b), own(2 * i), nullptr);
      copy(weights(p + i, h, b), own(2 * i + 1),
           a.keep_attn ? kept(p + i, h, b) : nullptr);
    }
    T *dk = cache(a.dk, p, h, b) + start, *dv = cache(a.dv, p, h, b) + start;
    const Int each = own(1) - own(0);
    for (Int i = 0; i < a.K; ++i, dk += slots, dv += slots) {
      const Int c = h * a.K + i;
      for (Int l = 0; l < readers; ++l) {
        const V query = stretch(a.q, p + l, HK, b)[c] + a.u[(p + l) * HK + c] + V{};
        const V answer = scratch_o(p + l)[b * HK + c] + V{};
        const T *ds = own(2 * l), *attn = ds + each;
        for (Int j = 0; j < padded; j += Vector<T>::width) {
          *(V *)(dk + j) += query * *(const V *)(ds + j);
          *(V *)(dv + j) += answer * *(const V *)(attn + j);
        }
      }
    }
  }

  // Adds `dm x^l` to the gradient of `alpha_l`.
  void mix(Int l, Int b, const T *dm) const {
    const T *x = at(a.x, l, a.D, b);
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (Int d = 0; d < a.D; ++d) dot += dm[d] * x[d];
    *mine(a.d_alpha, l, 1, a.L + 1) += dot;
  }

  // All steps of a stretch, the last one first.
  void backward() {
    backwards = true;
    const Int D = a.D, F = a.F, KV = a.P * 2 * HK;
    T *dy = scratch_y(), *dz = scratch_z(), *dh = scratch_h();
    const auto into = [&](T *target, Int stride) {
      return [=](Int b, Int c, Int width, const T *sums) {
        std::copy_n(sums, width, target + b * stride + c);
      };
    };
    for (Int step = a.first + a.steps - 1; step >= a.first; --step) {
      at(step);
      T *dkv = stretch(a.dkv, 0, KV), *dm = stretch(a.dm, 0, D);
      rows([&](Int b) {
        for (Int c = 0; c < KV; ++c) dkv[b * KV + c] = *memory(a.dk, a.dv, c, b);
        add(mine(a.d_bkv, 0, KV, 1), dkv + b * KV, KV);
      });
      // `dm = W_k^T dk + W_v^T dv`
      product(dkv, KV, a.wkv, D, into(dz, D));
      rows([&](Int b) {
        T *g = dz + b * D, *m = dm + b * D, *top = stretch(a.dx, a.L - 1, D, b);
        const T *given = a.dm_out ? a.dm_out + (t * a.B + b) * D : nullptr, *out = a.dout + (t * a.B + b) * D;
        if (a.norm_memory)
          normalise_backward(g, nullptr, a.m + (t * a.B + b) * D, *stretch(a.m_mean, 0, 1, b),
                             *stretch(a.m_rstd, 0, 1, b), nullptr, nullptr,
                             [&](Int d, T value) { m[d] = value; });
        else
          std::copy_n(g, D, m);
        if (given) add(m, given, D);
        for (Int d = 0; d < D; ++d) top[d] = out[d] + a.alpha[a.L] * m[d];
        mix(a.L, b, m);
      });
      for (Int l = a.L - 1; l >= 0; --l) {
        const T *dx = stretch(a.dx, l, D);
        // `dh = W_2^T dx`, and `dpre = phi'(pre) dh`
        product(dx, D, a.w2 + l * packed(D, F), F, [&](Int b, Int c, Int width, const T *sums) {
          if (!a.relu_only) {
            std::copy_n(sums, width, dh + b * F + c);
            return;
          }
          const T *pre = inner(l, b) + c;
          T *dpre = stretch(a.dpre, l, F, b) + c;
          for (Int i = 0; i < width; ++i) dpre[i] = pre[i] > 0 ? sums[i] : 0;
          add(mine(a.d_b1, l, F) + c, dpre, width);
        });
        if (!a.relu_only) rows([&](Int b) { activate_backward(l, b, dh + b * F); });
        // `dy = dx + LN'(W_1^T dpre)`
        product(stretch(a.dpre, l, wide), wide, a.w1 + l * packed(wide, D), D, into(dz, D));
        T *kept_dy = n > 0 ? stretch(a.dy, l, D) : dy;
        // Nothing was attended to, and the weights of attention get nothing.
        if (n == 0) rows([&](Int b) { forget(l, b); });
        rows([&](Int b) {
          const T *x = dx + b * D;
          T *y = kept_dy + b * D;
          normalise_backward(dz + b * D, a.gain_ff + l * D, at(a.y, l, D, b),
                             *stretch(a.y_mean, l, 1, b), *stretch(a.y_rstd, l, 1, b),
                             mine(a.d_gain_ff, l, D), mine(a.d_offset_ff, l, D),
                             [&](Int d, T value) { y[d] = x[d] + value; });
          add(mine(a.d_b2, l, D), x, D);
          if (n > 0) add(mine(a.d_bo, l, D), y, D);
        });
        T *below = l > 0 ? stretch(a.dx, l - 1, D) : stretch(a.dx0, 0, D);
        const T alpha = a.alpha[l];
        if (n > 0) {
          // `do = W_o^T dy`
          product(kept_dy, D, a.wo + l * packed(D, HK), HK, into(scratch_o(l), HK));
          heads([&](Int h, Int b) { attend_backward(l, h, b); });
          // `dx = dy + LN'(W_q^T dq) + alpha dm`
          product(stretch(a.dq, l, HK), HK, a.wq + l * packed(HK, D), D, into(dz, D));
        }
        rows([&](Int b) {
          const T *y = kept_dy + b * D, *m = dm + b * D;
          T *x = below + b * D;
          for (Int d = 0; d < D; ++d) x[d] = y[d] + alpha * m[d];
          mix(l, b, m);
          if (n > 0)
            normalise_backward(dz + b * D, a.gain_attn + l * D, at(a.x, l, D, b),
                               *stretch(a.x_mean, l, 1, b), *stretch(a.x_rstd, l, 1, b),
                               mine(a.d_gain_attn, l, D), mine(a.d_offset_attn, l, D),
                               [&](Int d, T value) { x[d] += value; });
        });
      }
      if (n > 0)
        heads([&](Int h, Int b) {
          for (Int p = 0; p < a.P; ++p) accumulate(p, h, b);
        });
    }
  }
};

// ## Packing
//
// A matrix `(rows, columns)`, or its transpose, as panels of columns one after the other: in the
// order in which `tile` reads them. The last panel is filled up with zeros.
template <typename T>
void pack(const T *from, Int rows, Int columns, Int transpose, T *to) {
  const Int depth = transpose ? columns : rows, width = transpose ? rows : columns;
  const Int down = transpose ? 1 : columns, across = transpose ? columns : 1;
  const Int panels = (width + PANEL<T> - 1) / PANEL<T>;
#pragma omp parallel for
  for (Int i = 0; i < panels; ++i) {
    const Int valid = std::min<Int>(PANEL<T>, width - i * PANEL<T>);
    const T *source = from + i * PANEL<T> * across;
    T *panel = to + i * depth * PANEL<T>;
    for (Int d = 0; d < depth; ++d, panel += PANEL<T>, source += down) {
      for (Int j = 0; j < valid; ++j) panel[j] = source[j * across];
      for (Int j = valid; j < PANEL<T>; ++j) panel[j] = 0;
    }
  }
}

// ## What Python calls
//
// One sweep, by all threads of the grid.
template <typename T>
void run(const Arguments<T> &a, void (Worker<T>::*sweep)()) {
  const Int groups = a.groups, members = a.threads / groups;
  std::vector<Barrier *> barriers;
  for (Int g = 0; g < groups; ++g) barriers.push_back(new Barrier(members));
  const auto work = [&](Int i) {
    const Int g = i / members;
    Worker<T> worker(a, *barriers[g], a.B * g / groups, a.B * (g + 1) / groups, i % members,
                     members, i);
    (worker.*sweep)();
  };
  const int count = static_cast<int>(groups * members);
  bool done = false;
#ifdef _OPENMP
  // PyTorch's own threads, which otherwise spin for a while beside ours, waiting for work.
#pragma omp parallel num_threads(count) reduction(|| : done)
  if (omp_get_num_threads() == count) {
    work(omp_get_thread_num());
    done = true;
  }
#endif
  if (!done) {
    std::vector<std::thread> threads;
    for (int i = 1; i < count; ++i) threads.emplace_back(work, i);
    work(0);
    for (auto &thread : threads) thread.join();
  }
  for (Barrier *barrier : barriers) delete barrier;
}

extern "C" {
int panel_float() { return PANEL<float>; }
int panel_double() { return PANEL<double>; }
void pack_float(const float *from, Int rows, Int columns, Int transpose, float *to) {
  pack(from, rows, columns, transpose, to);
}
void pack_double(const double *from, Int rows, Int columns, Int transpose, double *to) {
  pack(from, rows, columns, transpose, to);
}
int64_t scratch_float(const Arguments<float> *a) { return Worker<float>::scratch_size(*a); }
int64_t scratch_double(const Arguments<double> *a) { return Worker<double>::scratch_size(*a); }
void forward_float(const Arguments<float> *a) { run(*a, &Worker<float>::forward); }
void forward_double(const Arguments<double> *a) { run(*a, &Worker<double>::forward); }
void backward_float(const Arguments<float> *a) { run(*a, &Worker<float>::backward); }
void backward_double(const Arguments<double> *a) { run(*a, &Worker<double>::backward); }
}
