#include "checked.h"

#include <cstring>

#include "pool.h"

namespace moontide {
namespace {

bool inside(const int32_t* ids, int64_t count, int64_t end) {
    for (int64_t i = 0; i < count; ++i)
        if (ids[i] < 0 || ids[i] >= end) return false;
    return true;
}

}  // namespace

int64_t checked_draws(const Table& table, DrawRow* rows, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const DrawRow& row = rows[i];
        if (row.count < 1 || row.token >= row.count) return OUT_OF_RANGE;
        if (!inside(row.seen, row.seen_count, row.count) || !inside(row.counted, row.counted_count, row.count) ||
            !inside(row.biased, row.biased_count, row.count) || !inside(row.forbidden, row.forbidden_count, row.count))
            return OUT_OF_RANGE;
    }
    table.draws(rows, count);
    return 0;
}

// Assignments sorted by expert, so that each touched expert's weights are read once.
int64_t checked_experts(const Table& table, const Experts& job) {
    const int64_t count = job.rows * job.slots, experts = job.down.count;
    int64_t* first = static_cast<int64_t*>(room(ORDER, (experts + 2 + count) * 8)) + 1;  // first[-1] is spare
    int64_t* order = first + experts + 1;
    memset(first - 1, 0, (experts + 2) * 8);
    for (int64_t i = 0; i < count; ++i) {
        if (job.chosen[i] < 0 || job.chosen[i] >= experts) return OUT_OF_RANGE;
        ++first[job.chosen[i] + 1];
    }
    for (int64_t e = 0; e < experts; ++e) first[e + 1] += first[e];
    for (int64_t i = 0; i < count; ++i) order[first[job.chosen[i]]++] = i;
    for (int64_t e = experts; e > 0; --e) first[e] = first[e - 1];
    first[0] = 0;
    table.experts(job, order, first);
    return 0;
}

int64_t checked_attention(const Table& table, const Attention& job, int64_t table_rows) {
    for (int64_t t = 0; t < job.rows; ++t) {
        if (job.sequences[t] < 0 || job.sequences[t] >= table_rows) return OUT_OF_RANGE;
        if (job.positions[t] < 0 || job.positions[t] / job.page >= job.table_row) return OUT_OF_RANGE;
        for (int64_t i = 0; i <= job.positions[t] / job.page; ++i) {
            const int32_t held = job.tables[job.sequences[t] * job.table_row + i];
            if (held < 0 || held >= job.pages) return OUT_OF_RANGE;
        }
    }
    table.attention(job);
    return 0;
}

}  // namespace moontide
