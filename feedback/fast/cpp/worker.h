// # One thread
//
// What a thread knows: its place in the grid, its position in the arrays, its share of the work.
// What it computes is in the chapters on attention, rows and sweeps.
#pragma once

#include <atomic>
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
// A group owns the rows of the batch from `row0` to `row1`, and shares them among its members.
template <typename Real>
struct Worker {
  const Arguments<Real> &a;
  Barrier &barrier;
  const Int row0, row1, member, members, thread;
  const Int wide = a.activation == SWIGLU ? 2 * a.F : a.F, HK = a.H * a.K;
  bool backwards = false;
  // The step t; its row r on the tape; the window that it reads, n slots from start to end,
  // `padded` to whole vectors; and how many slots the steps on the tape `before` it read in total.
  Int t = 0, r = 0, start = 0, end = 0, n = 0, padded = 0, before = 0;

  void at(Int step) {
    t = step;
    r = a.recording ? t : 0;
    start = std::max<Int>(0, a.S + t - a.W);
    end = a.S + t;
    n = end - start;
    padded = (n + Vector<Real>::width - 1) / Vector<Real>::width * Vector<Real>::width;
    before = a.recording ? read_before(t) : 0;
  }
  // Windows grow from S to W, and then they slide.
  Int read_before(Int step) const {
    const Int growing = std::min(step, a.W - a.S);
    return growing * a.S + growing * (growing - 1) / 2 + (step - growing) * a.W;
  }

  // ## Places
  //
  // Row b of `(L, T, B, width)`, at this layer and step.
  Real *at(Real *base, Int l, Int width, Int b = 0) const {
    return base + ((l * (a.recording ? a.T : 1) + r) * a.B + b) * width;
  }
  // The same for a stretch, `(L, steps, B, width)`, which begins with step `first`.
  Real *stretch(Real *base, Int l, Int width, Int b = 0) const {
    return base + ((l * a.steps + t - a.first) * a.B + b) * width;
  }
  // The inner units of this layer and step. They are on the tape; if the tape is lean, their buffer
  // holds one step in the forward sweep and one stretch in the backward sweep.
  Real *inner(Int l, Int b = 0) const {
    if (!a.lean) return at(a.pre, l, wide, b);
    return backwards ? stretch(a.pre, l, wide, b) : a.pre + (l * a.B + b) * wide;
  }
  // Keys or values of one head and row, `(K, slots)`; those that a step reads begin at `start`.
  Real *cache(Real *base, Int l, Int h, Int b) const {
    return base + (((l % a.P) * a.H + h) * a.B + b) * a.K * a.slots;
  }
  // The place of column c of `(P, 2, H, K)` in the caches of keys and values, at this step.
  Real *memory(Real *k, Real *v, Int c, Int b) const {
    const Int i = c % a.K, h = c / a.K % a.H, value = c / HK % 2, p = c / (2 * HK);
    return cache(value ? v : k, p, h, b) + i * a.slots + end;
  }
  // Attention weights of one head and row, `(n,)`; the gradients of its scores, aligned right; and
  // which attention weights survive dropout.
  Real *weights(Int l, Int h, Int b) const {
    const Int all = a.recording ? read_before(a.T) : a.W;
    return a.attn + ((l * a.H + h) * all + before) * a.B + b * n;
  }
  Real *gradients(Int l, Int h, Int b) const {
    return a.ds + (((l * a.H + h) * a.steps + t - a.first) * a.B + b) * a.W + a.W - n;
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
  // `y (B, D)`, `z (B, D)`, `h (B, F)`, `o (L, B, HK)`, and each thread's own windows.
  static Int own_size(const Arguments<Real> &a) {
    return std::max({a.W, a.K, a.D}) + Vector<Real>::width;
  }
  static Int scratch_size(const Arguments<Real> &a) {
    return a.B * (2 * a.D + a.F + a.L * a.H * a.K) + a.threads * 2 * a.L * own_size(a);
  }
  Real *scratch_y() const { return a.scratch; }
  Real *scratch_z() const { return a.scratch + a.B * a.D; }
  Real *scratch_h() const { return a.scratch + a.B * 2 * a.D; }
  Real *scratch_o(Int l) const { return a.scratch + a.B * (2 * a.D + a.F + l * HK); }
  // One of this thread's own windows, `(padded,)`: whole vectors, so that no loop has a remainder.
  // What comes after the first n slots is zero or never used.
  Real *own(Int i) const {
    return a.scratch + a.B * (2 * a.D + a.F + a.L * HK) + (thread * 2 * a.L + i) * own_size(a);
  }
  // This thread's own part of a gradient of `width` numbers per layer.
  Real *mine(Real *base, Int l, Int width, Int layers) const {
    return base + (thread * layers + l) * width;
  }
  Real *mine(Real *base, Int l, Int width) const { return mine(base, l, width, a.L); }
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
    share((columns + PANEL<Real> - 1) / PANEL<Real>, [&](Int i) {
      const Int c = i * PANEL<Real>, width = std::min<Int>(PANEL<Real>, columns - c);
      rows_times_panel(x, row0, row1, depth, matrix + i * depth * PANEL<Real>,
                       [&](Int b, const Real *sums) { f(b, c, width, sums); });
    });
  }
  // The same, with the sums stored at `target`, `(B, columns)`.
  void product_into(Real *target, const Real *x, Int depth, const Real *matrix, Int columns) {
    product(x, depth, matrix, columns, [&](Int b, Int c, Int width, const Real *sums) {
      std::copy_n(sums, width, target + b * columns + c);
    });
  }

  // ## What it computes
  //
  // Rows:
  void normalise(const Real *x, const Real *gain, const Real *offset, Real *z) const;
  template <typename Each>
  void normalise_backward(const Real *dz, const Real *gain, const Real *x, Real mean, Real rstd,
                          Real *d_gain, Real *d_offset, Each f) const;
  void activate(Int l, Int b);
  void activate_backward(Int l, Int b, const Real *dh);
  void remember(Int b);
  void mix(Int l, Int b, const Real *dm) const;
  // Attention:
  void copy(const Real *from, Real *to, const uint8_t *kept) const;
  void attend(Int l, Int h, Int b);
  void attend_backward(Int l, Int h, Int b);
  void accumulate(Int p, Int h, Int b);
  void forget(Int l, Int b);
  // Sweeps:
  void forward();
  void forward_attention(Int l);
  void forward_feed_forward(Int l);
  void backward();
  void backward_memory();
  void backward_feed_forward(Int l);
  void backward_attention(Int l);
};
