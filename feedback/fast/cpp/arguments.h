// # The arguments
//
// Everything that a sweep needs, in one struct, which Python fills. Its fields are listed once,
// below: the struct is made from this list, and so is the text from which `feedback.fast.compiled`
// makes the same struct in Python.
#pragma once

#include <cstdint>

#if !defined(MARGIN) || !defined(EPSILON) || !defined(RELU) || !defined(GELU) || !defined(SWIGLU)
#error "compiled by feedback.fast.compiled, which gives the constants that Python has too"
#endif

typedef int64_t Int;

// The sizes of the call, and what kind of call it is. `first` and `steps` say which part of it to
// compute now, by `threads` threads in `groups` groups.
#define SIZES(INTEGER, REAL)                                                              \
  INTEGER(T) INTEGER(B) INTEGER(D) INTEGER(H) INTEGER(K) INTEGER(L) INTEGER(F) INTEGER(P) \
  INTEGER(S) INTEGER(W) INTEGER(slots) INTEGER(activation) INTEGER(norm_memory)           \
  INTEGER(relu_only) INTEGER(recording) INTEGER(lean) INTEGER(mask_slots)                 \
  INTEGER(threads) INTEGER(groups) INTEGER(first) INTEGER(steps) REAL(dropout)

// The weights, with the matrices packed; the tape; what is recomputed; the adjoint, and gradients
// of keys and values.
#define TENSORS(NUMBERS)                                                                   \
  NUMBERS(wq) NUMBERS(wo) NUMBERS(w1) NUMBERS(w2) NUMBERS(gain_attn) NUMBERS(offset_attn)  \
  NUMBERS(gain_ff) NUMBERS(offset_ff) NUMBERS(alpha) NUMBERS(u) NUMBERS(p) NUMBERS(s)      \
  NUMBERS(bo) NUMBERS(b1) NUMBERS(b2) NUMBERS(wkv) NUMBERS(bkv)                            \
  NUMBERS(x) NUMBERS(m) NUMBERS(attn) NUMBERS(o) NUMBERS(y) NUMBERS(pre) NUMBERS(k)        \
  NUMBERS(v)                                                                               \
  NUMBERS(x_mean) NUMBERS(x_rstd) NUMBERS(y_mean) NUMBERS(y_rstd) NUMBERS(q)               \
  NUMBERS(m_mean) NUMBERS(m_rstd)                                                          \
  NUMBERS(dx0) NUMBERS(dx) NUMBERS(dpre) NUMBERS(dy) NUMBERS(ds) NUMBERS(dq) NUMBERS(dm)   \
  NUMBERS(dkv) NUMBERS(dk) NUMBERS(dv)

// Gradients of the small weights, one part per thread; inputs and outputs; scratch; dropout masks.
#define SUMS(NUMBERS, BYTES)                                                               \
  NUMBERS(d_gain_attn) NUMBERS(d_offset_attn) NUMBERS(d_gain_ff) NUMBERS(d_offset_ff)      \
  NUMBERS(d_alpha) NUMBERS(d_u) NUMBERS(d_s) NUMBERS(d_bo) NUMBERS(d_b1) NUMBERS(d_b2)     \
  NUMBERS(d_bkv)                                                                           \
  NUMBERS(in) NUMBERS(dout) NUMBERS(dm_out) NUMBERS(out) NUMBERS(scratch)                  \
  BYTES(mask_attn) BYTES(mask_ff)

#define FIELDS(INTEGER, REAL, NUMBERS, BYTES) \
  SIZES(INTEGER, REAL) TENSORS(NUMBERS) SUMS(NUMBERS, BYTES)

#define AN_INTEGER(name) Int name;
#define A_REAL(name) double name;
#define SOME_NUMBERS(name) Real *name;
#define SOME_BYTES(name) const uint8_t *name;

template <typename Real>
struct Arguments {
  FIELDS(AN_INTEGER, A_REAL, SOME_NUMBERS, SOME_BYTES)
};

#define SAID(kind, name) kind ":" #name " "
#define SAY_INTEGER(name) SAID("integer", name)
#define SAY_REAL(name) SAID("real", name)
#define SAY_NUMBERS(name) SAID("numbers", name)
#define SAY_BYTES(name) SAID("bytes", name)

constexpr const char *FIELD_NAMES = FIELDS(SAY_INTEGER, SAY_REAL, SAY_NUMBERS, SAY_BYTES);
