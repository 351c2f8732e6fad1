/* onednn.cpp – see onednn.h. */
#include "onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cstdio>
#include <string>
#include <unordered_map>

using dnnl::memory;

struct onednn_product {
    dnnl::stream stream;
    dnnl::matmul matmul;
    std::unordered_map<int, memory> arguments;
};

static dnnl::engine &engine()
{
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

static memory::desc describe(const onednn_matrix &m, memory::data_type type)
{
    using tag = memory::format_tag;
    return m.transposed ? memory::desc({m.cols, m.rows}, type, tag::ba) : memory::desc({m.rows, m.cols}, type, tag::ab);
}

static dnnl::matmul::primitive_desc plan(const memory::desc &a, const memory::desc &b, const memory::desc &c)
{
#if DNNL_VERSION_MAJOR >= 3
    return {engine(), a, b, c};
#else
    return {dnnl::matmul::desc(a, b, c), engine()};
#endif
}

extern "C" onednn_product *onednn_product_new(onednn_matrix a, onednn_matrix b, float *c, int bf16, int prepacked)
try {
    const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    const auto da = describe(a, type), db = describe(b, type);
#if DNNL_VERSION_MAJOR >= 3
    const auto n = db.get_dims()[1], m = da.get_dims()[0];
#else
    const auto n = db.dims()[1], m = da.dims()[0];
#endif
    const memory::desc dc({m, n}, memory::data_type::f32, memory::format_tag::ab);
    const auto any = memory::desc({a.transposed ? a.rows : a.cols, n}, type, memory::format_tag::any);
    const auto p = plan(da, prepacked ? any : db, dc);
    dnnl::stream stream(engine());
    memory mb(db, engine(), const_cast<void *>(b.data));
    if (p.weights_desc() != db) {
        memory packed(p.weights_desc(), engine());
        dnnl::reorder(mb, packed).execute(stream, mb, packed);
        stream.wait();
        mb = packed;
    }
    return new onednn_product{stream, dnnl::matmul(p),
                              {{DNNL_ARG_SRC, memory(da, engine(), const_cast<void *>(a.data))},
                               {DNNL_ARG_WEIGHTS, mb},
                               {DNNL_ARG_DST, memory(dc, engine(), c)}}};
} catch (const dnnl::error &e) {
    static std::string said; // once for all the shapes that it does not take
    if (said != e.what()) std::fprintf(stderr, "bench-gemm: oneDNN: %s\n", e.what());
    said = e.what();
    return nullptr;
}

extern "C" void onednn_product_run(onednn_product *p)
{
    p->matmul.execute(p->stream, p->arguments);
    p->stream.wait();
}

extern "C" void onednn_product_free(onednn_product *p) { delete p; }

extern "C" const char *onednn_version_text(void)
{
    static std::string text;
    const dnnl_version_t *v = dnnl_version();
    text = std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
    return text.c_str();
}

extern "C" void onednn_threads(int n) { omp_set_num_threads(n); }
