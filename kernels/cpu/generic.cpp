#include "common.h"
#define MOONTIDE_TABLE generic_table
namespace moontide {
namespace {
#include "lanes_generic.h"
#include "operations.h"
}  // namespace
}  // namespace moontide
#include "table.h"
