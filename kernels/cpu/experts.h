// Experts: gate, up and down of each that a row has chosen, its weights read once.

// Assignments of one expert lie together in `order`, those of expert e from first[e] on.
template <class X> struct ExpertProducts {
    const Experts& job;
    const int64_t *order, *first;

    const X** gather(int64_t expert, int64_t& count) const {
        count = first[expert + 1] - first[expert];
        return static_cast<const X**>(room(POINTERS, count * sizeof(X*)));
    }

    void gate_up(int64_t expert, int64_t block) const {
        int64_t count;
        const X** rows = gather(expert, count);
        const int64_t from = first[expert], wide = job.down.columns;
        for (int64_t i = 0; i < count; ++i) rows[i] = static_cast<const X*>(job.x) + order[from + i] / job.slots * job.x_row;
        const BlockProduct<X> product{job.gate_up.block(expert, block), job.gate_up.scale(expert, block),
                                      job.gate_up.columns, rows, count};
        product.run(job.gate_up.format, [&](int64_t row, int panel, const F (&sum)[Isa::WIDE]) {
            for (int p = 0; p < Isa::WIDE; p += 2) {
                const F value = Isa::mul(Isa::mul(sum[p], sigmoid(sum[p])), sum[p + 1]);
                X* to = static_cast<X*>(job.inner) + (from + row) * wide + block * BLOCK / 2 + (panel + p) / 2 * LANES;
                keep(to, value);
            }
        });
    }

    // What lies between the two products is rounded to the dtype of x.
    void keep(X* to, F value) const {
        if constexpr (sizeof(X) == 2) {
            Isa::narrow(to, value);
        } else if (job.x_bf16) {
            bf16 narrow[LANES];
            Isa::narrow(narrow, value);
            Isa::store(to, Isa::widen(narrow));
        } else {
            Isa::store(to, value);
        }
    }

    void down(int64_t expert, int64_t block) const {
        int64_t count;
        const X** rows = gather(expert, count);
        const int64_t from = first[expert];
        for (int64_t i = 0; i < count; ++i) rows[i] = static_cast<const X*>(job.inner) + (from + i) * job.down.columns;
        const BlockProduct<X> product{job.down.block(expert, block), job.down.scale(expert, block), job.down.columns,
                                      rows, count};
        product.run(job.down.format, [&](int64_t row, int panel, const F (&sum)[Isa::WIDE]) {
            const int64_t base = order[from + row] * job.outputs;
            for (int p = 0; p < Isa::WIDE; ++p) {
                const int64_t column = block * BLOCK + (panel + p) * LANES;
                if (column < job.outputs)
                    put(at(job.out, job.x_bf16, base + column), job.x_bf16, sum[p], job.outputs - column);
            }
        });
    }

    template <class Body> void each(const Matrices& weight, const int64_t* touched, int64_t count, Body body) const {
        const int64_t step = std::min(run_of(weight, count * weight.blocks, threads()), weight.blocks);
        const int64_t runs = (weight.blocks + step - 1) / step;
        for_each_item(count * runs, [&](int64_t item) {
            const int64_t first = item % runs * step, end = first + step < weight.blocks ? first + step : weight.blocks;
            for (int64_t block = first; block < end; ++block) body(touched[item / runs], block);
        });
    }

    void run(const int64_t* touched, int64_t count) const {
        each(job.gate_up, touched, count, [&](int64_t expert, int64_t block) { gate_up(expert, block); });
        each(job.down, touched, count, [&](int64_t expert, int64_t block) { down(expert, block); });
    }
};

void run_experts(const Experts& job, const int64_t* order, const int64_t* first) {
    int64_t* touched = static_cast<int64_t*>(room(TOUCHED, job.down.count * 8));
    int64_t count = 0;
    for (int64_t expert = 0; expert < job.down.count; ++expert)
        if (first[expert] < first[expert + 1]) touched[count++] = expert;
#ifdef MOONTIDE_DOT
    if (pairs_of(job.gate_up, job.x_bf16)) return ExpertProducts<bf16>{job, order, first}.run(touched, count);
#endif
    Experts wide = job;
    if (job.x_bf16) {
        wide.x = widen_rows(job.x, job.rows, job.x_row, 1, 0, job.gate_up.columns);
        wide.x_row = job.gate_up.columns;
    }
    ExpertProducts<float>{wide, order, first}.run(touched, count);
}
