// # One thread
//
// What a thread knows: its place in the grid, its position in the arrays, its share of the work.
// What it computes is in the chapters on attention, rows and sweeps.
#pragma once

#include <atomic>
#include <cmath>
#include <thread>

#include "products.h"

// ## The barrier
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

// ## The worker
//
// A group owns the rows of the batch from `row0` to `row1`, and its members share the work on them.
template <typename Real>
struct Worker {
  const Arguments<Real> &a;
  Barrier &barrier;
  const Int row0, row1, member, members, thread;
  const Int wide = a.activation == SWIGLU ? 2 * a.F : a.F, HK = a.H * a.K, reach = a.W + MARGIN;
  // A head in whole vectors.
  const Int K = (a.K + Vector<Real>::width - 1) / Vector<Real>::width * Vector<Real>::width;
  // The step t; its row r on the tape; and the window that it reads, n slots from `start` on,
  // `padded` to whole vectors.
  Int t = 0, r = 0, start = 0, n = 0, padded = 0;

  void at(Int step) {
    t = step;
    r = t % a.rows;
    start = a.windows[2 * t];
    n = a.S + t - start;
    padded = (n + Vector<Real>::width - 1) / Vector<Real>::width * Vector<Real>::width;
  }

  // ## Places
  //
  // Row b of a tensor of the tape, `(L, T, B, width)`, at this layer and step; and of the adjoint,
  // which begins with step `first`.
  Real *at(Real *base, Int l, Int width, Int b = 0) const {
    return base + ((l * a.rows + r) * a.B + b) * width;
  }
  Real *adjoint(Real *base, Int l, Int width, Int b = 0) const {
    return base + ((l * a.longest + t - a.first) * a.B + b) * width;
  }
  // Keys or values of one head and row: `(K, slots)` or `(slots, K)`; and the window of this step
  // in the first of the two.
  Real *cache(Real *base, Int l, Int h, Int b) const {
    return base + (((l % a.P) * a.H + h) * a.B + b) * a.K * a.slots;
  }
  Real *window(Real *base, Int l, Int h, Int b) const { return cache(base, l, h, b) + start; }
  // Calls `f(c, number)` for columns c of `(P, 2, H, K)`, `number` being the one that belongs there
  // in the caches of keys and values at this step. Keys are `(K, slots)`; so are values, or they
  // are `rows`, `(slots, K)`.
  template <typename Each>
  void memory(Real *k, Real *v, bool rows, Int b, Int c, Int end, Each f) const {
    while (c < end) {
      const Int h = c / a.K, stop = std::min(end, (h + 1) * a.K), value = h / a.H % 2;
      const Int across = rows && value ? 1 : a.slots, down = rows && value ? a.K : 1;
      Real *base = cache(value ? v : k, h / a.H / 2, h % a.H, b) + (start + n) * down;
      for (; c < stop; ++c) f(c, base[(c - h * a.K) * across]);
    }
  }
  // Attention weights of one head and row, `(n,)`; the gradients of its scores; and which attention
  // weights survive dropout.
  Real *weights(Int l, Int h, Int b) const {
    return a.attn + ((l * a.H + h) * a.attn_slots + a.windows[2 * r + 1]) * a.B + b * n;
  }
  Real *gradients(Int l, Int h, Int b) const {
    return adjoint(a.ds, l * a.H + h, a.W, b) + a.W - n;
  }
  const uint8_t *kept(Int l, Int h, Int b) const {
    if (!a.mask_attn) return nullptr;
    return a.mask_attn + ((((t * a.L + l) * a.B + b) * a.H + h) + 1) * a.mask_slots - n;
  }
  const uint8_t *kept_units(Int l, Int b) const {
    return a.mask_ff ? a.mask_ff + ((t * a.L + l) * a.B + b) * a.F : nullptr;
  }
  Real rescale() const { return Real(1 / (1 - a.dropout)); }

  // ## Scratch
  //
  // `y (B, D)`: the input of the second norm, or $\delta y$ where nothing is read; `z (B, D)`: a
  // gradient before $\mathrm{LN}'$; `h (B, F)`; `o (L, B, HK)`: $\delta o$ of all layers; and each
  // thread's own windows.
  static Int own_size(const Arguments<Real> &a) {
    return std::max({a.W, a.K, 2 * a.L}) + Vector<Real>::width;
  }
  static Int scratch_size(const Arguments<Real> &a) {
    return a.B * (2 * a.D + a.F + a.L * a.H * a.K) + a.threads * (2 * a.L + 1) * own_size(a);
  }
  Real *scratch_y() const { return a.scratch; }
  Real *scratch_z() const { return a.scratch + a.B * a.D; }
  Real *scratch_h() const { return a.scratch + a.B * 2 * a.D; }
  Real *scratch_o(Int l) const { return a.scratch + a.B * (2 * a.D + a.F + l * HK); }
  // One of this thread's own windows, `(padded,)`: whole vectors, so that the sums of attention
  // have no remainder.
  // What comes after the first n slots is zero or never used.
  Real *own(Int i) const {
    return scratch_o(a.L) + (thread * (2 * a.L + 1) + i) * own_size(a);
  }
  static void add(Real *sum, const Real *term, Int count) {
#pragma omp simd
    for (Int i = 0; i < count; ++i) sum[i] += term[i];
  }

  // ## Shares
  //
  // Calls `f(i)` for this member's share of `count` items, then waits for the other members.
  template <typename Each>
  void share(Int count, Each f) {
    const Int from = count * member / members, to = count * (member + 1) / members;
    for (Int i = from; i < to; ++i) f(i);
    barrier.wait();
  }
  // Calls `f(b)` for rows, and `f(h, b)` for heads of rows.
  template <typename Each>
  void rows(Each f) {
    share(row1 - row0, [&](Int i) { f(row0 + i); });
  }
  template <typename Each>
  void heads(Each f) {
    share((row1 - row0) * a.H, [&](Int i) { f(i / (row1 - row0), row0 + i % (row1 - row0)); });
  }
  // `x`, `(B, depth)`, times a packed matrix, `(depth, columns)`; `f(b, c, width, sums)` gets
  // `width` sums of row b from column c on.
  template <typename Each>
  void product(const Real *x, Int depth, const Real *matrix, Int columns, Each f) {
    share(panels<Real>(columns), [&](Int i) {
      const Int c = i * PANEL<Real>, width = std::min<Int>(PANEL<Real>, columns - c);
      rows_times_panel(Matrix<Real>{x + row0 * depth, depth, 1}, row1 - row0, depth,
                       matrix + c * depth,
                       [&](Int b, Real *sums) { f(row0 + b, c, width, sums); });
    });
  }
  // The same as `(B, columns)`, with `out[at] = f(sum, at, c)` in column c.
  template <typename Each>
  void linear(Real *out, const Real *x, Int depth, const Real *matrix, Int columns, Each f) {
    product(x, depth, matrix, columns, [&](Int b, Int c, Int width, const Real *sums) {
      const Int at = b * columns + c;
#pragma omp simd
      for (Int i = 0; i < width; ++i) out[at + i] = f(sums[i], at + i, c + i);
    });
  }
  void linear(Real *out, const Real *x, Int depth, const Real *matrix, Int columns) {
    linear(out, x, depth, matrix, columns, [](Real sum, Int, Int) { return sum; });
  }

  // ## What it computes
  //
  // Rows:
  Real normalise(const Real *x, Real *hat) const;
  template <typename Each>
  void normalise_backward(const Real *g, const Real *hat, Real rstd, Each f) const;
  void activate(Int l, Int b);
  void activate_backward(Int l, Int b, Int c, Int width, Real *dh);
  void remember(Int b);
  // Attention:
  void copy(const Real *from, Real *to, const uint8_t *kept) const;
  void attend(Int l, Int h, Int b);
  void attend_backward(Int l, Int h, Int b);
  void accumulate(Int p, Int h, Int b);
  // Sweeps:
  void forward();
  void forward_layer(Int l);
  void backward();
  void backward_memory();
  void backward_layer(Int l);
};
