// Indices that could leave the memory of a tensor are looked at before an instruction set is called.
#pragma once
#include "jobs.h"

namespace moontide {

constexpr int64_t OUT_OF_RANGE = -1, OUT_OF_MEMORY = -2;

// 0, or a negative number that names what was wrong.
int64_t checked_experts(const Table& table, const Experts& job);
int64_t checked_draws(const Table& table, DrawRow* rows, int64_t count);
int64_t checked_attention(const Table& table, const Attention& job, int64_t table_rows);

}  // namespace moontide
