// # The sweeps in C++
//
// The two sweeps of `feedback.fast.forward` and `feedback.fast.backward` as one loop in C++.
//
// Why: a layer step is some twenty-five small operations forward, and thirty backward. In PyTorch
// each one costs several microseconds of dispatch, a new output, and weights that the matrix
// library packs anew at every call. Here nothing is dispatched or allocated, and the weights are
// packed once for each sweep. The mathematics, the names and the buffers are those of the sweeps
// in PyTorch.
//
// Threads form a grid: a group owns some rows of the batch from beginning to end and never
// waits for another group; the members of a group share the columns of each product and meet at
// a barrier after it. Many groups are best if the weights are small enough for each group to read all
// of them at every step, and a single group if they are not.

#include <memory>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#ifdef __clang__
#error "PyTorch's threads are those of GCC's OpenMP, and Clang's would spin beside them"
#endif
#endif

// From the struct that Python fills to the sweeps, one chapter each:
#include "cpp/arguments.h"
#include "cpp/products.h"
#include "cpp/worker.h"
#include "cpp/rows.h"
#include "cpp/attention.h"
#include "cpp/sweeps.h"

// ## One sweep, by all threads of the grid
template <typename Real>
void run(const Arguments<Real> &a, void (Worker<Real>::*sweep)()) {
  const Int groups = a.groups, members = a.threads / groups;
  std::vector<std::unique_ptr<Barrier>> barriers;
  for (Int g = 0; g < groups; ++g) barriers.push_back(std::make_unique<Barrier>(members));
  const auto work = [&](Int i) {
    const Int g = i / members;
    Worker<Real> worker{a, *barriers[g], a.B * g / groups, a.B * (g + 1) / groups, i % members,
                        members, i};
    (worker.*sweep)();
  };
  const int count = static_cast<int>(groups * members);
  bool done = false;
#ifdef _OPENMP
  // On PyTorch's own threads, which would otherwise spin for a while beside ours, waiting for work.
#pragma omp parallel num_threads(count) reduction(|| : done)
  if (omp_get_num_threads() == count) {
    work(omp_get_thread_num());
    done = true;
  }
#endif
  if (done) return;
  std::vector<std::thread> threads;
  for (int i = 1; i < count; ++i) threads.emplace_back(work, i);
  work(0);
  for (auto &thread : threads) thread.join();
}

// ## What Python calls
//
// For both types of numbers: the width of a panel, packing, the product of a weight gradient, the
// size of the scratch, the sweeps.
#define EXPORT(Real)                                                                       \
  int panel_##Real() { return PANEL<Real>; }                                               \
  void pack_##Real(const Real *from, Int down, Int across, Int depth, Int columns, Real *to) { \
    pack(Matrix<Real>{from, down, across}, depth, columns, to);                            \
  }                                                                                        \
  void add_product_##Real(const Real *g, const Real *x, Int depth, Int rows, Int columns,  \
                          Real *room, Real *sum) {                                         \
    add_product(g, x, depth, rows, columns, room, sum);                                    \
  }                                                                                        \
  Int scratch_##Real(const Arguments<Real> *a) { return Worker<Real>::scratch_size(*a); }  \
  void forward_##Real(const Arguments<Real> *a) { run(*a, &Worker<Real>::forward); }       \
  void backward_##Real(const Arguments<Real> *a) { run(*a, &Worker<Real>::backward); }

extern "C" {
EXPORT(float)
EXPORT(double)
const char *arguments_fields() { return FIELD_NAMES; }
int faster_products() { return FASTER_PRODUCTS; }
Int arguments_size() { return sizeof(Arguments<float>); }
}
